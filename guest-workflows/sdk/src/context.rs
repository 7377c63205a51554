//! What a workflow holds of its run: the way to activities, timers, signals, time,
//! randomness, and to what others may see of it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::activity::{Activity, ActivityCall};
use crate::bindings::exports::everfold::workflow::workflow::WorkflowStarted;
use crate::cancellation::{Cancellation, Shield};
use crate::child::{ChildCall, ChildWorkflow, StartChild};
use crate::condition::Condition;
use crate::continue_as_new::ContinueAsNew;
use crate::details;
use crate::external::ExternalWorkflow;
use crate::failure::Failure;
use crate::log::Level;
use crate::metric::{Counter, Histogram};
use crate::payload::Payload;
use crate::query::handler;
use crate::random::Random;
use crate::run::Run;
use crate::signal::SignalReceiver;
use crate::time::Timestamp;
use crate::timer::Timer;
use crate::update::{UpdateHandler, are_finished};

pub use crate::bindings::exports::everfold::workflow::workflow::WorkflowRef;

/// A workflow's handle on its run. Copies are the same run.
#[derive(Clone)]
pub struct Context {
    run: Rc<Run>,
}

impl Context {
    pub(crate) fn new(run: Rc<Run>) -> Self {
        Self { run }
    }

    /// Calls an activity. It is asked for when the call is first polled.
    pub fn execute<I: Serialize + ?Sized, O>(&self, activity: Activity<I, O>, input: &I) -> ActivityCall<O> {
        ActivityCall::new(Rc::clone(&self.run), activity, input)
    }

    /// Waits that long. The timer starts when it is first polled.
    pub fn sleep(&self, duration: Duration) -> Timer {
        Timer::new(Rc::clone(&self.run), duration)
    }

    /// Waits until that moment; one that has passed is over at once. A run that goes on as a new one carries a moment over, and not how
    /// long to wait: then nothing that happens in between moves it.
    pub fn sleep_until(&self, moment: Timestamp) -> Timer {
        Timer::at(Rc::clone(&self.run), moment)
    }

    /// Receives the signals of that name. None is taken before a receiver is asked for it.
    #[must_use]
    pub fn signal<T: DeserializeOwned>(&self, name: &str) -> SignalReceiver<T> {
        SignalReceiver::new(Rc::clone(&self.run), name)
    }

    /// Answers the query `name` from now on, also when the workflow has returned. The closure must
    /// change nothing: it reads what the workflow shares with it in an `Rc<RefCell<…>>` or `Rc<Cell<…>>`.
    /// The latest closure under a name counts.
    pub fn on_query<I, O>(&self, name: impl Into<String>, answer: impl Fn(I) -> O + 'static)
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
    {
        let name = name.into();
        let handler = handler(name.clone(), answer);
        self.run.queries().borrow_mut().register(name, handler);
    }

    /// Takes updates of that name from now on, each by a handler of its own beside the workflow: it may call activities
    /// and wait, and what it returns, or fails with, is what the caller gets. Handlers and workflow share state in an
    /// `Rc<RefCell<…>>` or `Rc<Cell<…>>`. The latest handler under a name counts.
    ///
    /// Updates that came before wait if the name is announced in [`export!`](crate::export!); others are refused. When
    /// the workflow returns before a handler has, the caller gets a failure of type `AcceptedUpdateCompletedWorkflow`:
    /// [`all_handlers_finished`](Self::all_handlers_finished) waits for them.
    pub fn on_update<I, O, E, F>(&self, name: impl Into<String>, handle: impl Fn(I) -> F + 'static)
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        E: Into<Failure> + 'static,
        F: Future<Output = Result<O, E>> + 'static,
    {
        self.on_validated_update(name, |_: &I| Ok::<(), Failure>(()), handle);
    }

    /// The same with a validator, which says whether an update may be admitted. It is asked before anything is
    /// recorded, of a copy of the run: it looks, and must change nothing. What it refuses leaves no trace, and the
    /// caller gets its failure. So does one whose input does not decode.
    pub fn on_validated_update<I, O, E, V, F>(
        &self,
        name: impl Into<String>,
        validate: impl Fn(&I) -> Result<(), V> + 'static,
        handle: impl Fn(I) -> F + 'static,
    ) where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        E: Into<Failure> + 'static,
        V: Into<Failure>,
        F: Future<Output = Result<O, E>> + 'static,
    {
        let name = name.into();
        let handler = UpdateHandler::new(name.clone(), validate, handle);
        self.run.updates().borrow_mut().register(name, handler);
    }

    /// Waits until that holds: for what update handlers, or other branches of the workflow, bring about. It is looked
    /// at whenever an event has been folded.
    pub fn wait_condition(&self, holds: impl Fn() -> bool + 'static) -> Condition {
        Condition::new(Rc::clone(&self.run), holds)
    }

    /// Waits until no handler of an update is at work: before the workflow returns, or goes on as a new run.
    pub fn all_handlers_finished(&self) -> Condition {
        let run = Rc::downgrade(&self.run);
        self.wait_condition(move || run.upgrade().is_none_or(|run| are_finished(&run)))
    }

    /// Describes a new run of the same workflow type that goes on from this one under its workflow id;
    /// the workflow [stops](crate::Stop) by returning it as its error. Unread signals, and updates that were
    /// not accepted, go over.
    ///
    /// # Panics
    ///
    /// When JSON cannot hold the input: a fault of the workflow's code.
    pub fn continue_as_new<I: Serialize + ?Sized>(&self, input: &I) -> ContinueAsNew {
        ContinueAsNew::new(&self.run.info.workflow_type, input)
    }

    /// Starts a run that goes its own way, at once. If one with that workflow id is open, none is
    /// started, and nothing tells this run.
    ///
    /// # Panics
    ///
    /// When JSON cannot hold the input: a fault of the workflow's code.
    pub fn start_detached<I: Serialize + ?Sized>(&self, workflow_type: &str, workflow_id: &str, input: &I) {
        let input = Payload::of(input, "the input of a detached workflow");
        self.run.host.start_detached_workflow(workflow_type, workflow_id, &input);
    }

    /// Starts a child, and waits until it has begun. Its [result](crate::Child::result) is waited for apart.
    pub fn start_child<I: Serialize + ?Sized, O>(
        &self,
        child: ChildWorkflow<I, O>,
        input: &I,
    ) -> StartChild<O> {
        StartChild::new(Rc::clone(&self.run), child, input)
    }

    /// Starts a child, and waits for its result.
    pub fn execute_child<I: Serialize + ?Sized, O>(
        &self,
        child: ChildWorkflow<I, O>,
        input: &I,
    ) -> ChildCall<O> {
        ChildCall::new(self.start_child(child, input))
    }

    /// Another run of the namespace, to send it a signal or ask it to cancel:
    /// `ctx.external_workflow("cart-7").signal("item-added", &item).await?`.
    #[must_use]
    pub fn external_workflow(&self, workflow_id: &str) -> ExternalWorkflow {
        ExternalWorkflow::new(Rc::clone(&self.run), workflow_id)
    }

    /// Changes what the run can be found by: a value that serialises to an object, such as
    /// `&json!({"step": "paid", "total_cents": 1250})` or a struct. A text is found as a whole, one that is an RFC 3339 time
    /// as a time, a list of texts by each of them; `null` and an empty list remove an attribute. What is not named stays.
    ///
    /// Names and values that the host does not take (one of a run's own fields, too long, too many) are a fault of the
    /// workflow's code and block the run.
    ///
    /// # Panics
    ///
    /// When the value is no object: a fault of the workflow's code.
    pub fn upsert_search_attributes<T: Serialize + ?Sized>(&self, changes: &T) {
        let changes = details::changes(changes, "search attributes");
        self.run.details().upsert_search_attributes(self.run.host.as_ref(), &changes);
    }

    /// Changes what is written on the run, in the same way; any value goes, and `null` removes an entry.
    ///
    /// # Panics
    ///
    /// When the value is no object: a fault of the workflow's code.
    pub fn upsert_memo<T: Serialize + ?Sized>(&self, changes: &T) {
        let changes = details::changes(changes, "entries of a memo");
        self.run.details().upsert_memo(self.run.host.as_ref(), &changes);
    }

    /// What the run can be found by now: what it began with and what was changed since.
    #[must_use]
    pub fn search_attributes(&self) -> BTreeMap<String, Payload> {
        self.run.details().search_attributes()
    }

    /// What is written on the run now.
    #[must_use]
    pub fn memo(&self) -> BTreeMap<String, Payload> {
        self.run.details().memo()
    }

    /// Which version of a change the run follows; the code knows those of the range, and
    /// [`DEFAULT_VERSION`](crate::DEFAULT_VERSION) is the code before the change.
    /// [The module](crate::version) tells how a change is made, and how the old code goes.
    ///
    /// A run that comes here for the first time follows the last version of the range, and its history
    /// says so. A run that passed here before the change follows the default. Either way the answer
    /// stays the same for as long as the run lives, however often it is asked.
    ///
    /// A version outside the range is a fault of the workflow's code and blocks the run, as an empty
    /// range does.
    #[must_use = "the branch must follow it"]
    pub fn version(&self, change_id: &str, known: RangeInclusive<i32>) -> i32 {
        self.run.host.get_version(change_id, *known.start(), *known.end())
    }

    /// A counter, to add to: `ctx.counter("orders_total").attribute("currency", "EUR").add(1.0)`.
    pub fn counter(&self, name: &str) -> Counter {
        Counter::new(Rc::clone(&self.run), name)
    }

    /// A histogram, to record a value in: `ctx.histogram("waiting_seconds").record(0.25)`.
    pub fn histogram(&self, name: &str) -> Histogram {
        Histogram::new(Rc::clone(&self.run), name)
    }

    /// The time of the event being folded: the same until the workflow waits again.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.run.now()
    }

    /// The run's generator of random numbers.
    #[must_use]
    pub fn random(&self) -> Random {
        Random::new(Rc::clone(&self.run))
    }

    /// A fresh UUID of version 4, from the run's generator.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.random().uuid()
    }

    /// Logs a line; the macros [`info!`](crate::info) and its kin are the short way.
    pub fn log(&self, level: Level, target: &str, message: &str, fields: &[(String, String)]) {
        self.run.host.log(level, target, message, fields);
    }

    /// Who the run is.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.run.info
    }

    /// Waits until the run is asked to cancel.
    pub fn cancelled(&self) -> Cancellation {
        Cancellation::new(Rc::clone(&self.run))
    }

    /// Whether the run was asked to cancel.
    #[must_use]
    pub fn is_cancel_requested(&self) -> bool {
        self.run.is_cancel_requested()
    }

    /// Keeps the run's cancellation from what the future does.
    pub fn shield<'a, T>(&self, future: impl Future<Output = T> + 'a) -> Shield<'a, T> {
        Shield::new(Rc::clone(&self.run), future)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Context").field(&self.run.info.workflow_id).finish()
    }
}

/// Who a run is, as it was told when it started.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Info {
    /// The type that the component exports it under.
    pub workflow_type: String,
    /// The namespace.
    pub namespace: String,
    /// The id that people chose.
    pub workflow_id: String,
    /// The id that the run had when the workflow began. It stays when the run is reset, unlike the id by which people know
    /// the run.
    pub run_id: String,
    /// The same.
    pub original_run_id: String,
    /// Which try of the workflow's own retry policy this is, from 1.
    pub attempt: u32,
    /// What travelled beside the input.
    pub headers: Vec<(String, Payload)>,
    /// The run that started this one as its child.
    pub parent: Option<WorkflowRef>,
    /// The run that continued as this one.
    pub continued_from_run_id: Option<String>,
    /// What the run before gave, where this one is one of a series.
    pub last_completion_result: Option<Payload>,
    /// How the try before failed.
    pub last_failure: Option<Failure>,
    /// The limit on all runs of the chain together.
    pub execution_timeout: Option<Duration>,
    /// The limit on this run.
    pub run_timeout: Option<Duration>,
    /// What whoever started it wrote on it; [`Context::memo`] has what it is now.
    pub memo: Vec<(String, Payload)>,
    /// What it could be found by when it began; [`Context::search_attributes`] has what it is now.
    pub search_attributes: Vec<(String, Payload)>,
}

impl Info {
    pub(crate) fn from_event(started: WorkflowStarted) -> (Self, Payload) {
        let info = Self {
            workflow_type: started.workflow_type,
            namespace: started.namespace,
            workflow_id: started.workflow_id,
            run_id: started.run_id,
            original_run_id: started.original_run_id,
            attempt: started.attempt,
            headers: started.headers,
            parent: started.parent,
            continued_from_run_id: started.continued_from_run_id,
            last_completion_result: started.last_completion_result,
            last_failure: started.last_failure.map(Failure::from_links),
            execution_timeout: started.execution_timeout.map(Duration::from_millis),
            run_timeout: started.run_timeout.map(Duration::from_millis),
            memo: started.memo,
            search_attributes: started.search_attributes,
        };
        (info, started.input)
    }
}
