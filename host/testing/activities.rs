//! The activities of a test: who answers for which, what they were called with, and what went wrong in them.
//!
//! ```text
//!  an attempt ──▶ recorded ──▶ its mock │ the native activity │ nobody: the test fails
//! ```
//!
//! It outlives a restarted host, so that calls before and after are in one list.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use everfold_core::failure::Failure;
use everfold_core::ids::{RunId, Timestamp, WorkflowId};
use everfold_core::payload::Payload;
use futures::FutureExt as _;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::mock::Mock;
use crate::activity::{ActivityContext, Registry, failure_type};
use crate::clock::Clock;

/// One attempt of an activity, as it was called. Shown as its name, its input and, from the second one on, its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The activity's type.
    pub activity_type: String,
    /// What it was given.
    pub input: Value,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The key that all attempts of the activity share.
    pub idempotency_key: String,
    /// Whose activity it is.
    pub workflow_id: WorkflowId,
    /// The run.
    pub run_id: RunId,
    /// When the attempt began.
    pub at: Timestamp,
}

impl Call {
    /// What it was given.
    ///
    /// # Panics
    /// When that is no `T`.
    #[must_use]
    pub fn input<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_value(self.input.clone()) {
            Ok(input) => input,
            Err(error) => panic!("the input of {self} is something else: {error}"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.activity_type, self.input)?;
        if self.attempt > 1 { write!(f, " (attempt {})", self.attempt) } else { Ok(()) }
    }
}

/// What went wrong in a test's activities; whoever waits for a run is told at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// Nobody answers for the activity.
    NotMocked(Call),
    /// Its mock has no answer to this call.
    NoAnswer(Call, String),
    /// Its mock or its code panicked.
    Panicked(Call, String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMocked(call) => write!(f, "activity {call} is not mocked"),
            Self::NoAnswer(call, reason) => write!(f, "activity {call} has no answer: {reason}"),
            Self::Panicked(call, message) => write!(f, "activity {call} panicked: {message}"),
        }
    }
}

/// The activities of one test.
pub(super) struct Activities {
    mocks: Mutex<BTreeMap<String, Arc<Mock>>>,
    natives: Registry,
    calls: watch::Sender<Vec<Call>>,
    /// The first problem that nobody was told of.
    problem: watch::Sender<Option<Problem>>,
    /// Attempts of native activities under way: they may wait for the world outside.
    natives_under_way: watch::Sender<usize>,
    clock: Clock,
}

impl fmt::Debug for Activities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activities").field("calls", &self.calls.borrow().len()).finish_non_exhaustive()
    }
}

impl Activities {
    pub(super) fn new(natives: Registry, clock: Clock) -> Self {
        Self {
            mocks: Mutex::default(),
            natives,
            calls: watch::Sender::default(),
            problem: watch::Sender::default(),
            natives_under_way: watch::Sender::new(0),
            clock,
        }
    }

    /// Answers for an activity from now on.
    pub(super) fn mock(&self, activity_type: &str, mock: Mock) {
        self.mocks.lock().insert(activity_type.to_owned(), Arc::new(mock));
    }

    /// All calls so far, and whoever waits for the next.
    pub(super) fn calls(&self) -> watch::Receiver<Vec<Call>> {
        self.calls.subscribe()
    }

    /// Forgets the calls so far.
    pub(super) fn forget_calls(&self) {
        self.calls.send_modify(Vec::clear);
    }

    /// Whether a native activity is under way.
    pub(super) fn is_native_under_way(&self) -> bool {
        *self.natives_under_way.borrow() > 0
    }

    /// Waits until no native activity is under way.
    pub(super) async fn until_no_native_is_under_way(&self) {
        // The sender lives as long as `self`.
        let _ = self.natives_under_way.subscribe().wait_for(|count| *count == 0).await;
    }

    /// The problem that nobody was told of yet; it is told now.
    pub(super) fn take_problem(&self) -> Option<Problem> {
        self.problem.send_replace(None)
    }

    /// Waits for a problem.
    pub(super) async fn problem(&self) -> Problem {
        let mut problem = self.problem.subscribe();
        loop {
            // The sender lives as long as `self`.
            let _ = problem.wait_for(Option::is_some).await;
            if let Some(problem) = self.take_problem() {
                return problem;
            }
        }
    }

    fn report(&self, problem: Problem) {
        self.problem.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(problem);
            }
            is_first
        });
    }

    /// What the host is given: everything is answered here.
    pub(super) fn registry(self: &Arc<Self>) -> Registry {
        let mut registry = Registry::empty();
        let activities = Arc::clone(self);
        registry.register_rest(move |context, input| {
            let activities = Arc::clone(&activities);
            async move { activities.attempt(context, input).await }
        });
        registry
    }

    async fn attempt(&self, context: ActivityContext, input: Payload) -> Result<Payload, Failure> {
        let call = self.record(&context, &input);
        match AssertUnwindSafe(self.answer(&call, context, input)).catch_unwind().await {
            Ok(answer) => answer,
            Err(panic) => {
                self.report(Problem::Panicked(call, said(panic.as_ref())));
                // The host sees what it would see of any activity.
                resume_unwind(panic)
            }
        }
    }

    fn record(&self, context: &ActivityContext, input: &Payload) -> Call {
        let info = context.info();
        let call = Call {
            activity_type: info.activity_type.clone(),
            input: input.to_value(),
            attempt: info.attempt,
            idempotency_key: info.idempotency_key.clone(),
            workflow_id: info.workflow_id.clone(),
            run_id: info.run_id,
            at: self.clock.now(),
        };
        self.calls.send_modify(|calls| calls.push(call.clone()));
        call
    }

    async fn answer(
        &self,
        call: &Call,
        context: ActivityContext,
        input: Payload,
    ) -> Result<Payload, Failure> {
        let mock = self.mocks.lock().get(&call.activity_type).cloned();
        let Some(mock) = mock else { return self.natively(call, &context, &input).await };
        if !mock.takes().is_zero() {
            let takes_ms = u64::try_from(mock.takes().as_millis()).unwrap_or(u64::MAX);
            self.clock.sleep_until(self.clock.now().plus_ms(takes_ms)).await;
        }
        match mock.respond(context, input).await {
            Ok(answer) => answer,
            Err(reason) => {
                self.report(Problem::NoAnswer(call.clone(), reason.clone()));
                Err(Failure::non_retryable("NoAnswer", reason))
            }
        }
    }

    async fn natively(
        &self,
        call: &Call,
        context: &ActivityContext,
        input: &Payload,
    ) -> Result<Payload, Failure> {
        let Some(activity) = self.natives.get(&call.activity_type) else {
            self.report(Problem::NotMocked(call.clone()));
            return Err(Failure::non_retryable(failure_type::NOT_REGISTERED, "the activity is not mocked"));
        };
        let _under_way = UnderWay::begin(&self.natives_under_way);
        activity.run(context, input).await
    }
}

/// Counts an attempt until it ends or is dropped.
struct UnderWay<'a>(&'a watch::Sender<usize>);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
