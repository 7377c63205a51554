//! The requests that scenarios send, and how their answers are judged.

use std::sync::Arc;

use everfold::clock::Clock;
use everfold::server::wire::{SignalBody, StartBody};
use everfold_core::ids::Digest;
use http::Method;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::connection::{Call, Endpoint, Reply};
use super::fleet::{Work, kind_of};
use crate::cli::failure::Failure;

/// Where runs are.
const WORKFLOWS: &str = "/api/v1/workflows";
/// How long a request waits for the end of a run: the longest that the host allows.
const WAIT: &str = "wait=60s";
/// The workflow type of an order.
const ORDER: &str = "four-steps";
/// Steps of an order.
pub(super) const ORDER_STEPS: u64 = 4;

/// Makes requests to one host.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    endpoint: Arc<Endpoint>,
    /// The version that runs begin on, where the type's current one may be another.
    pinned: Option<Digest>,
    start: Call,
    run_to_end: Call,
}

/// Workflow ids that no other measurement has.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    prefix: String,
}

/// Requests that are made by their number; any success is right.
pub(super) struct Requests<F> {
    /// How many.
    pub(super) count: u64,
    /// Makes one.
    pub(super) make: F,
}

/// Orders of four steps, each of which must complete.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    call: Call,
    /// How many.
    pub(super) count: u64,
}

/// Requests for the ends of runs, each of which must have completed.
pub(super) struct Ends {
    /// Makes them.
    pub(super) calls: Calls,
    /// Whose runs.
    pub(super) ids: Ids,
    /// How many.
    pub(super) count: u64,
}

impl Ids {
    /// Ids that begin with this name.
    pub(super) fn new(name: &str) -> Self {
        Self { prefix: format!("bench-{name}-{}", Clock::system().new_uuid().simple()) }
    }

    /// The one of that number.
    pub(super) fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.prefix)
    }
}

impl Calls {
    /// Requests to that host.
    ///
    /// # Errors
    /// None that happens: the paths are ours.
    pub(super) fn new(endpoint: &Arc<Endpoint>, pinned: Option<Digest>) -> Result<Self, Failure> {
        Ok(Self {
            start: endpoint.call(Method::POST, WORKFLOWS, "")?,
            run_to_end: endpoint.call(Method::POST, &format!("{WORKFLOWS}?{WAIT}"), "")?,
            endpoint: Arc::clone(endpoint),
            pinned,
        })
    }

    /// Starts a run.
    ///
    /// # Errors
    /// An input that is no JSON.
    pub(super) fn start(&self, workflow_type: &str, id: String, input: Value) -> Result<Call, Failure> {
        Ok(self.start.with_body(self.start_body(workflow_type, Some(id), input)?))
    }

    /// Starts a run and waits for its end.
    ///
    /// # Errors
    /// An input that is no JSON.
    pub(super) fn run_to_end(
        &self,
        workflow_type: &str,
        id: Option<String>,
        input: Value,
    ) -> Result<Call, Failure> {
        Ok(self.run_to_end.with_body(self.start_body(workflow_type, id, input)?))
    }

    /// Starts an order and waits for its end.
    ///
    /// # Errors
    /// None that happens.
    pub(super) fn order(&self, id: Option<String>) -> Result<Call, Failure> {
        self.run_to_end(ORDER, id, json!({ "activity": "noop" }))
    }

    /// Starts an order that carries so many bytes of text beside what it says.
    ///
    /// # Errors
    /// None that happens.
    pub(super) fn large_order(&self, bytes: usize) -> Result<Call, Failure> {
        self.run_to_end(ORDER, None, json!({ "activity": "noop", "padding": "x".repeat(bytes) }))
    }

    /// Orders, all alike.
    ///
    /// # Errors
    /// None that happens.
    pub(super) fn orders(&self, count: u64) -> Result<Orders, Failure> {
        Ok(Orders { call: self.order(None)?, count })
    }

    /// Waits for the end of a run.
    ///
    /// # Errors
    /// None that happens: the ids are ours.
    pub(super) fn end_of(&self, id: &str) -> Result<Call, Failure> {
        self.endpoint.call(Method::GET, &format!("{WORKFLOWS}/{id}/result?{WAIT}"), "")
    }

    /// Reads the event of that number and nothing else.
    ///
    /// # Errors
    /// None that happens: the ids are ours.
    pub(super) fn event(&self, id: &str, number: u64) -> Result<Call, Failure> {
        let path = format!("{WORKFLOWS}/{id}/history?limit=1&after={}", number.saturating_sub(1));
        self.endpoint.call(Method::GET, &path, "")
    }

    /// Sends a run the number `add`.
    ///
    /// # Errors
    /// None that happens: the ids are ours.
    pub(super) fn add(&self, id: &str, number: u64) -> Result<Call, Failure> {
        let body = SignalBody { input: number.into(), ..SignalBody::default() };
        self.endpoint.call(Method::POST, &format!("{WORKFLOWS}/{id}/signals/add"), json_bytes(&body)?)
    }

    /// Asks a run which numbers it has seen.
    ///
    /// # Errors
    /// None that happens: the ids are ours.
    pub(super) fn seen(&self, id: &str) -> Result<Call, Failure> {
        self.endpoint.call(Method::POST, &format!("{WORKFLOWS}/{id}/queries/seen"), "{}")
    }

    fn start_body(&self, workflow_type: &str, id: Option<String>, input: Value) -> Result<Vec<u8>, Failure> {
        json_bytes(&StartBody {
            workflow_type: workflow_type.to_owned(),
            workflow_id: id,
            input,
            request_id: None,
            digest: self.pinned,
            headers: Map::new(),
            id_reuse_policy: None,
            id_conflict_policy: None,
            signal: None,
            execution_timeout_ms: None,
            run_timeout_ms: None,
            start_delay_ms: None,
            retry_policy: None,
            search_attributes: Map::new(),
            memo: Map::new(),
            update: None,
        })
    }
}

impl Orders {
    /// The same order, another number of times.
    pub(super) fn times(&self, count: u64) -> Self {
        Self { call: self.call.clone(), count }
    }

    /// Orders that are all this one.
    pub(super) const fn all(call: Call, count: u64) -> Self {
        Self { call, count }
    }
}

impl Work for Orders {
    fn call(&self, number: u64) -> Option<Call> {
        (number < self.count).then(|| self.call.clone())
    }

    fn judge(&self, _: u64, reply: &Reply) -> Result<(), String> {
        completed(reply)
    }
}

impl<F: Fn(u64) -> Result<Call, Failure> + Send + Sync + 'static> Work for Requests<F> {
    fn call(&self, number: u64) -> Option<Call> {
        // Requests of ours are well made; one that were not would be missing from the count.
        (number < self.count).then(|| (self.make)(number)).and_then(Result::ok)
    }
}

impl Work for Ends {
    fn call(&self, number: u64) -> Option<Call> {
        (number < self.count).then(|| self.calls.end_of(&self.ids.id(number))).and_then(Result::ok)
    }

    fn judge(&self, _: u64, reply: &Reply) -> Result<(), String> {
        completed(reply)
    }
}

/// Whether a run that was waited for has completed.
pub(super) fn completed(reply: &Reply) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Ended<'a> {
        status: &'a str,
    }
    if !reply.status.is_success() {
        return Err(kind_of(reply));
    }
    match serde_json::from_slice(&reply.body) {
        Ok(Ended { status: "completed" }) => Ok(()),
        Ok(Ended { status }) => Err(format!("run_{status}")),
        Err(_) => Err("unreadable_answer".to_owned()),
    }
}

fn json_bytes(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    Ok(serde_json::to_vec(body).map_err(anyhow::Error::from)?)
}
