//! What the tests of the whole share: [`server`], the real binary, with a [`load`] and on a [`disk`] that fails; and here a host in this process,
//! with the real engine and the real store in a folder of its own, which can be killed.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod disk;
pub mod load;
pub mod outside;
pub mod server;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use everfold::activity::{AttemptSettings, Attempts, Registry};
use everfold::clock::Clock;
use everfold::guest::{CodeCache, Engine, EngineSettings};
use everfold::runner::api::{
    Acknowledged, ApiError, Description, IdConflictPolicy, IdReusePolicy, QueryRequest, RunRef, RunResult,
    SignalRequest, StartRequest, Started, StopRequest, Terms, UpdateProgress, UpdateRequest,
};
use everfold::runner::{Host, HostParts, HostSettings};
use everfold::store::{CommitError, Store};
use everfold::telemetry::Telemetry;
use everfold::testing::TestStore;
use everfold_core::attributes::Details;
use everfold_core::command::Command;
use everfold_core::decision::Outcome;
use everfold_core::event::{Event, EventKind, Input};
use everfold_core::ids::{Namespace, RunId, WorkflowId};
use everfold_core::machine::update::UpdateStage;
use everfold_core::payload::Payload;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Longer than anything here takes; a wait that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Which commits fail, and how: those of these numbers, from 0.
pub type Failing = fn(usize) -> Option<CommitError>;

/// A built component.
///
/// # Panics
/// When it was not built.
pub fn component(name: &str) -> Vec<u8> {
    let path = root().join("target/components").join(name).with_extension("wasm");
    match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{}: {error}; build the guests with `cargo xtask guests`", path.display()),
    }
}

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compiled code, which all tests share. Where two processes open it at once, one compiles for itself.
fn code_cache() -> Option<CodeCache> {
    static CACHE: OnceLock<Option<CodeCache>> = OnceLock::new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("code-cache");
    CACHE.get_or_init(|| CodeCache::open(&folder).ok()).clone()
}

/// A host and what it stands on. Its tasks have a runtime of their own, which ends with it.
pub struct TestHost {
    pub host: Host,
    pub store: Arc<TestStore>,
    runtime: Option<Runtime>,
}

impl Drop for TestHost {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl TestHost {
    /// Opens a host on `folder` with the given activities.
    pub async fn open(folder: &Path, registry: Registry) -> Self {
        Self::open_with(folder, registry, &HostSettings::default(), EngineSettings::default()).await
    }

    /// Opens a host without activities on a store whose commits fail as told.
    pub async fn open_failing(folder: &Path, fails: Failing) -> Self {
        let store = Arc::new(TestStore::open(folder).await.unwrap());
        store.fail(fails);
        let (settings, engine) = (HostSettings::default(), EngineSettings::default());
        Self::open_on(store, Registry::default(), &settings, engine, Clock::system())
    }

    /// Opens a host without activities that has the sample workflows.
    pub async fn samples(folder: &Path) -> Self {
        let test = Self::open_failing(folder, |_| None).await;
        test.deploy("samples").await;
        test
    }

    /// Opens a host with other settings.
    pub async fn open_with(
        folder: &Path,
        registry: Registry,
        settings: &HostSettings,
        engine: EngineSettings,
    ) -> Self {
        Self::open_at(folder, registry, settings, engine, Clock::system()).await
    }

    /// Opens a host with a clock of its own.
    pub async fn open_at(
        folder: &Path,
        registry: Registry,
        settings: &HostSettings,
        engine: EngineSettings,
        clock: Clock,
    ) -> Self {
        Self::open_on(Arc::new(TestStore::open(folder).await.unwrap()), registry, settings, engine, clock)
    }

    /// Opens a host on a store.
    pub fn open_on(
        store: Arc<TestStore>,
        registry: Registry,
        settings: &HostSettings,
        engine: EngineSettings,
        clock: Clock,
    ) -> Self {
        let parts = HostParts {
            store: Arc::clone(&store) as Arc<dyn Store>,
            engine: Engine::new(engine, code_cache()).unwrap(),
            attempts: Attempts::new(registry, clock.clone(), AttemptSettings::default()),
            clock,
            telemetry: Telemetry::default(),
            on_fatal: Box::new(|reason| panic!("the host cannot go on: {reason}")),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let host = {
            let _entered = runtime.enter();
            Host::open(parts, settings)
        };
        Self { host, store, runtime: Some(runtime) }
    }

    /// Deploys a built component.
    pub async fn deploy(&self, name: &str) {
        self.host.deploy(&Namespace::default(), component(name)).await.unwrap();
    }

    /// Starts a run.
    pub async fn start(&self, workflow_type: &str, id: &str, input: &Value) -> Started {
        self.host.start(request(workflow_type, id, input)).await.unwrap()
    }

    /// Waits for a run's end.
    pub async fn end(&self, id: &str) -> RunResult {
        let result = self.host.result(&run(id), PATIENCE).await.unwrap();
        assert!(result.outcome.is_some(), "{id} has not ended: {:?}", self.host.describe(&run(id)).await);
        result
    }

    /// All events of a run.
    pub async fn events(&self, id: &str) -> Vec<Event> {
        self.host.export(&run(id)).await.unwrap().events
    }

    /// The runs of a workflow id, each going on from the one before, with their events.
    pub async fn chain(&self, id: &str) -> Vec<(RunId, Vec<Event>)> {
        let mut chain = Vec::new();
        let mut next = run(id);
        loop {
            let export = self.host.export(&next).await.unwrap();
            let before = match &export.events[0].kind {
                EventKind::Input(Input::WorkflowStarted(started)) => started.continued_from_run_id,
                EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => None,
            };
            chain.insert(0, (export.run_id, export.events));
            match before {
                Some(run_id) => next = RunRef { run_id: Some(run_id), ..run(id) },
                None => return chain,
            }
        }
    }

    /// Sends a signal.
    pub async fn signal(&self, id: &str, name: &str, input: &Value) -> Result<Acknowledged, ApiError> {
        self.host.signal(signal(id, name, input)).await
    }

    /// Sends an update under that id and waits for its answer.
    pub async fn update(
        &self,
        id: &str,
        update_id: &str,
        name: &str,
        input: &Value,
    ) -> Result<UpdateProgress, ApiError> {
        let admitted = self.host.update(update(id, update_id, name, input)).await?;
        self.host.update_progress(&admitted, UpdateStage::Completed, PATIENCE).await
    }

    /// Asks a run to cancel.
    pub async fn cancel(&self, id: &str) -> Result<Acknowledged, ApiError> {
        self.host.cancel(stop(id)).await
    }

    /// Terminates a run.
    pub async fn terminate(&self, id: &str) -> Result<Acknowledged, ApiError> {
        self.host.terminate(stop(id)).await
    }

    /// Asks a run.
    pub async fn query(&self, run: RunRef, name: &str) -> Result<Value, ApiError> {
        let request = QueryRequest { run, name: name.to_owned(), input: Payload::json(&()).unwrap() };
        self.host.query(request).await.map(|answer| answer.result.to_value())
    }

    /// Waits until a run is as wanted.
    pub async fn until(&self, id: &str, is_so: impl Fn(&Description) -> bool) -> Description {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let description = self.host.describe(&run(id)).await;
            match description {
                Ok(description) if is_so(&description) => return description,
                described => assert!(tokio::time::Instant::now() < deadline, "{id}: {described:?}"),
            }
            tokio::task::yield_now().await;
        }
    }

    /// Stops in order.
    pub async fn stop(self) {
        self.host.drain(Duration::ZERO).await;
    }

    /// Ends as a killed process does: what is not committed is lost, and nobody is told.
    pub async fn kill(mut self) {
        self.store.kill().await;
        if let Some(runtime) = self.runtime.take() {
            tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
        }
    }
}

/// A signal to send.
pub fn signal(id: &str, name: &str, input: &Value) -> SignalRequest {
    SignalRequest {
        run: run(id),
        name: name.to_owned(),
        input: Payload::json(input).unwrap(),
        headers: Vec::new(),
        request_id: None,
    }
}

/// An update to send.
pub fn update(id: &str, update_id: &str, name: &str, input: &Value) -> UpdateRequest {
    UpdateRequest {
        run: run(id),
        name: name.to_owned(),
        input: Payload::json(input).unwrap(),
        headers: Vec::new(),
        update_id: Some(update_id.to_owned()),
    }
}

/// A request to cancel or to terminate.
pub fn stop(id: &str) -> StopRequest {
    StopRequest { run: run(id), reason: "enough".to_owned(), request_id: None }
}

/// What a run returned.
///
/// # Panics
/// When it did not.
pub fn returned(end: &RunResult) -> Value {
    match &end.outcome {
        Some(Outcome::Result(result)) => result.to_value(),
        other => panic!("it returned nothing: {other:?}"),
    }
}

/// The signals of a history, in order: event, name and input.
pub fn signals(events: &[Event]) -> Vec<(u64, String, Value)> {
    let of = |event: &Event| match &event.kind {
        EventKind::Input(Input::SignalReceived(signal)) => {
            Some((event.id.0, signal.name.clone(), signal.input.to_value()))
        }
        EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => None,
    };
    events.iter().filter_map(of).collect()
}

/// The run of a workflow id.
pub fn run(id: &str) -> RunRef {
    RunRef { namespace: Namespace::default(), workflow_id: WorkflowId(id.to_owned()), run_id: None }
}

/// The request for a run.
pub fn request(workflow_type: &str, id: &str, input: &Value) -> StartRequest {
    StartRequest {
        namespace: Namespace::default(),
        workflow_type: workflow_type.to_owned(),
        workflow_id: Some(WorkflowId(id.to_owned())),
        input: Payload::json(input).unwrap(),
        headers: Vec::new(),
        request_id: None,
        digest: None,
        id_reuse: IdReusePolicy::default(),
        id_conflict: IdConflictPolicy::default(),
        signal: None,
        terms: Terms::default(),
        details: Details::new(),
        update: None,
    }
}

/// A history for people: the number, type and name of each event.
pub fn lines(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| match &event.kind {
        EventKind::Command(command) => {
            format!("{} {} {}", event.id, command.type_name(), command.name()).trim_end().to_owned()
        }
        EventKind::Input(_) | EventKind::Note(_) => format!("{} {}", event.id, event.kind.type_name()),
    };
    events.iter().map(line).collect()
}

/// The types of the activities that a history schedules, in order.
pub fn scheduled(events: &[Event]) -> Vec<String> {
    let of = |event: &Event| match &event.kind {
        EventKind::Command(Command::ActivityScheduled(activity)) => Some(activity.activity_type.clone()),
        EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
    };
    events.iter().filter_map(of).collect()
}

/// Makes an activity's result.
pub type Answer = fn() -> Value;

/// How each activity of the order saga answers when all is well: steps, then undoings.
pub const SAGA_ANSWERS: [(&str, Answer); 8] = [
    ("reserve-inventory", || json!({ "reservation_id": "r-1" })),
    ("process-payment", || json!({ "payment_id": "p-1" })),
    ("update-inventory", || json!({})),
    ("arrange-shipping", || json!({ "shipment_id": "s-1", "tracking_number": "t-1" })),
    ("release-inventory-reservation", || json!({ "released": true })),
    ("refund-payment", || json!({ "refunded_cents": 2_500 })),
    ("restock-inventory", || json!({ "restocked": true })),
    ("cancel-shipment", || json!({ "canceled": true })),
];

/// An order of two books.
pub fn saga_input() -> Value {
    let mut input = server::order("tok_ok", "10115");
    input["order_id"] = json!("o-1");
    input
}
