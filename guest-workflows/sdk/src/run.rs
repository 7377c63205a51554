//! The state of one run, and the rules by which it asks its host for things.
//!
//! Owns the clock, the generator, the open operations and the run's cancellation. Futures call in
//! from above (`schedule_activity`, `poll_activity`, …), the folding of events from below
//! (`close_activity`, …). Must never poll a future: that is [`crate::instance`]'s part.

use std::cell::{Cell, RefCell};
use std::task::{Context as TaskContext, Poll, Waker};

use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::activity::{ActivityErrorKind, Request};
use crate::bindings::everfold::workflow::host::ExternalWorkflow;
use crate::bindings::everfold::workflow::types::{CancellationType, EventId};
use crate::bindings::exports::everfold::workflow::workflow::WorkflowStarted;
use crate::cancellation::Canceled;
use crate::child::Request as ChildRequest;
use crate::condition::Conditions;
use crate::context::Info;
use crate::details::Details;
use crate::failure::Failure;
use crate::host::Host;
use crate::operations::{Operations, Scope};
use crate::payload::Payload;
use crate::query::Queries;
use crate::random::generator;
use crate::signal::Waiters;
use crate::time::Timestamp;
use crate::update::Updates;

/// How an activity closed, as the run saw it.
pub(crate) enum ActivityOutcome {
    Completed {
        attempt: u32,
        result: Payload,
    },
    ClosedBadly {
        kind: ActivityErrorKind,
        attempt: u32,
        failure: Failure,
    },
    /// The run was cancelled and does not wait for it.
    Canceled,
}

/// What became of a child that was to begin.
pub(crate) enum ChildStart {
    Started {
        run_id: String,
    },
    Failed(Failure),
    /// The run was cancelled and does not wait for it.
    Canceled,
}

/// How a child closed, as the run saw it.
pub(crate) enum ChildOutcome {
    Completed(Payload),
    ClosedBadly(Failure),
    /// The run was cancelled and does not wait for it.
    Canceled,
}

/// How a timer closed.
pub(crate) enum TimerOutcome {
    Fired,
    /// The run was cancelled.
    Canceled,
}

/// Whether the workflow may still ask for things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The workflow has returned, or the instance is being dropped: what is dropped from now on
    /// asks for nothing.
    Closing,
    /// A query is being answered, or an update validated: nothing may change.
    Answering,
}

pub(crate) struct Run {
    pub(crate) info: Info,
    random: RefCell<ChaCha8Rng>,
    pub(crate) host: Box<dyn Host>,
    now: Cell<Timestamp>,
    phase: Cell<Phase>,
    shields: Cell<u32>,
    activities: RefCell<Operations<ActivityOutcome>>,
    timers: RefCell<Operations<TimerOutcome>>,
    external: RefCell<Operations<Result<(), Failure>>>,
    /// Children whose beginning is not known; each is among `children` too.
    child_starts: RefCell<Operations<ChildStart>>,
    children: RefCell<Operations<ChildOutcome>>,
    signal_waiters: RefCell<Waiters>,
    queries: RefCell<Queries>,
    updates: RefCell<Updates>,
    conditions: RefCell<Conditions>,
    cancellation: RefCell<Cancellation>,
    details: Details,
}

enum Cancellation {
    NotRequested { waiting: Vec<Waker> },
    Requested(Canceled),
}

impl Run {
    /// The run that has just started, and its input.
    pub(crate) fn start(host: Box<dyn Host>, now: Timestamp, started: WorkflowStarted) -> (Self, Payload) {
        let random = RefCell::new(generator(&started.seed));
        let (info, input) = Info::from_event(started);
        let run = Self {
            details: Details::new(&info),
            info,
            random,
            host,
            now: Cell::new(now),
            phase: Cell::new(Phase::Open),
            shields: Cell::new(0),
            activities: RefCell::new(Operations::new()),
            timers: RefCell::new(Operations::new()),
            external: RefCell::new(Operations::new()),
            child_starts: RefCell::new(Operations::new()),
            children: RefCell::new(Operations::new()),
            signal_waiters: RefCell::default(),
            queries: RefCell::default(),
            updates: RefCell::default(),
            conditions: RefCell::default(),
            cancellation: RefCell::new(Cancellation::NotRequested { waiting: Vec::new() }),
        };
        (run, input)
    }

    pub(crate) const fn details(&self) -> &Details {
        &self.details
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now.get()
    }

    pub(crate) fn set_now(&self, now: Timestamp) {
        self.now.set(now);
    }

    /// From here on, what is dropped asks for nothing.
    pub(crate) fn begin_closing(&self) {
        self.phase.set(Phase::Closing);
    }

    /// Runs `f` out of reach of the run's cancellation.
    pub(crate) fn shielded<T>(&self, f: impl FnOnce() -> T) -> T {
        self.shields.set(self.shields.get() + 1);
        let value = f();
        self.shields.set(self.shields.get() - 1);
        value
    }

    fn scope(&self) -> Scope {
        if self.shields.get() > 0 { Scope::Shielded } else { Scope::Exposed }
    }

    /// Draws other random numbers from here on.
    ///
    /// # Panics
    ///
    /// When the seed cannot be read: the host broke the contract.
    pub(crate) fn reseed(&self, attributes: &Payload) {
        #[derive(Deserialize)]
        struct Reseeded {
            seed: Vec<u8>,
        }
        match attributes.decode::<Reseeded>() {
            Ok(Reseeded { seed }) => *self.random.borrow_mut() = generator(&seed),
            Err(error) => panic!("the host gave a seed that cannot be read: {error}"),
        }
    }

    /// Draws from the run's generator.
    ///
    /// # Panics
    ///
    /// In the answer to a query: what is drawn there would be missing from the run.
    pub(crate) fn draw<T>(&self, f: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        assert!(self.phase.get() != Phase::Answering, "a query's answer drew a random number");
        f(&mut self.random.borrow_mut())
    }

    // Activities.

    pub(crate) fn schedule_activity(&self, request: &Request) -> EventId {
        let id = self.host.schedule_activity(&request.name, &request.input, &request.options);
        let on_cancel = request.options.cancellation_type;
        self.activities.borrow_mut().open(id, on_cancel, self.scope());
        id
    }

    pub(crate) fn poll_activity(&self, id: EventId, task: &TaskContext<'_>) -> Poll<ActivityOutcome> {
        self.activities.borrow_mut().poll(id, self.scope(), task)
    }

    pub(crate) fn close_activity(&self, id: EventId, outcome: ActivityOutcome) {
        let waiting = self.activities.borrow_mut().close(id, outcome);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The call of an activity was dropped.
    pub(crate) fn drop_activity(&self, id: EventId) {
        let unasked = self.activities.borrow_mut().remove(id);
        match unasked {
            Some(CancellationType::TryCancel | CancellationType::WaitCancellationCompleted)
                if self.may_ask() =>
            {
                self.host.request_cancel_activity(id);
            }
            Some(_) | None => {}
        }
    }

    // Timers.

    pub(crate) fn start_timer(&self, duration_ms: u64, summary: &str) -> EventId {
        let id = self.host.start_timer(duration_ms, summary);
        self.timers.borrow_mut().open(id, CancellationType::TryCancel, self.scope());
        id
    }

    pub(crate) fn poll_timer(&self, id: EventId, task: &TaskContext<'_>) -> Poll<TimerOutcome> {
        self.timers.borrow_mut().poll(id, self.scope(), task)
    }

    pub(crate) fn close_timer(&self, id: EventId, outcome: TimerOutcome) {
        let waiting = self.timers.borrow_mut().close(id, outcome);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// A timer's future was dropped.
    pub(crate) fn drop_timer(&self, id: EventId) {
        let unasked = self.timers.borrow_mut().remove(id);
        if unasked.is_some() && self.may_ask() {
            self.host.cancel_timer(id);
        }
    }

    // Requests to other runs. The run's cancellation leaves them alone: what was asked is delivered, and the
    // answer is on its way.

    pub(crate) fn signal_external(&self, to: &ExternalWorkflow, name: &str, input: &Payload) -> EventId {
        self.open_external(self.host.signal_external_workflow(to, name, input))
    }

    pub(crate) fn cancel_external(&self, to: &ExternalWorkflow, reason: &str) -> EventId {
        self.open_external(self.host.request_cancel_external_workflow(to, reason))
    }

    fn open_external(&self, id: EventId) -> EventId {
        self.external.borrow_mut().open(id, CancellationType::Abandon, Scope::Shielded);
        id
    }

    pub(crate) fn poll_external(&self, id: EventId, task: &TaskContext<'_>) -> Poll<Result<(), Failure>> {
        self.external.borrow_mut().poll(id, Scope::Shielded, task)
    }

    pub(crate) fn close_external(&self, id: EventId, answer: Result<(), Failure>) {
        let waiting = self.external.borrow_mut().close(id, answer);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The future of a request was dropped.
    pub(crate) fn drop_external(&self, id: EventId) {
        self.external.borrow_mut().remove(id);
    }

    // Children.

    pub(crate) fn start_child(&self, request: &ChildRequest) -> EventId {
        let id = self.host.start_child_workflow(&request.workflow_type, &request.input, &request.options);
        let on_cancel = request.options.cancellation_type;
        self.child_starts.borrow_mut().open(id, on_cancel, self.scope());
        self.children.borrow_mut().open(id, on_cancel, self.scope());
        id
    }

    pub(crate) fn poll_child_start(&self, id: EventId, task: &TaskContext<'_>) -> Poll<ChildStart> {
        // The child as a whole is where its start is waited for.
        self.children.borrow_mut().enter(id, self.scope());
        self.child_starts.borrow_mut().poll(id, self.scope(), task)
    }

    pub(crate) fn poll_child(&self, id: EventId, task: &TaskContext<'_>) -> Poll<ChildOutcome> {
        self.children.borrow_mut().poll(id, self.scope(), task)
    }

    pub(crate) fn close_child_start(&self, id: EventId, start: ChildStart) {
        if !matches!(start, ChildStart::Started { .. }) {
            self.children.borrow_mut().remove(id);
        }
        let waiting = self.child_starts.borrow_mut().close(id, start);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn close_child(&self, id: EventId, outcome: ChildOutcome) {
        let waiting = self.children.borrow_mut().close(id, outcome);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Asks a child to cancel, unless it has closed or was asked before.
    pub(crate) fn cancel_child(&self, id: EventId, reason: &str) {
        if self.children.borrow_mut().ask_to_cancel(id) {
            self.host.request_cancel_child_workflow(id, reason);
        }
    }

    /// The call of a child was dropped.
    pub(crate) fn drop_child(&self, id: EventId) {
        self.child_starts.borrow_mut().remove(id);
        let unasked = self.children.borrow_mut().remove(id);
        match unasked {
            Some(CancellationType::TryCancel | CancellationType::WaitCancellationCompleted)
                if self.may_ask() =>
            {
                self.host.request_cancel_child_workflow(id, "the workflow does not wait for it any more");
            }
            Some(_) | None => {}
        }
    }

    /// The run is cancelled: does to each exposed child what its cancellation type says.
    fn cancel_children(&self, reason: &str) {
        let children = self.children.borrow_mut().cancel_exposed();
        for (id, on_cancel) in children {
            match on_cancel {
                CancellationType::TryCancel | CancellationType::WaitCancellationCompleted => {
                    self.host.request_cancel_child_workflow(id, reason);
                }
                CancellationType::Abandon => {}
            }
            match on_cancel {
                CancellationType::TryCancel | CancellationType::Abandon => {
                    if self.child_starts.borrow().has(id) {
                        self.close_child_start(id, ChildStart::Canceled);
                    } else {
                        self.close_child(id, ChildOutcome::Canceled);
                    }
                }
                CancellationType::WaitCancellationCompleted => {}
            }
        }
    }

    // Signals and queries.

    /// Who waits for which signal.
    pub(crate) fn signal_waiters(&self) -> &RefCell<Waiters> {
        &self.signal_waiters
    }

    /// Wakes whoever waits for signals of that name. The signal stays with the host.
    pub(crate) fn announce_signal(&self, name: &str) {
        let waiting = self.signal_waiters.borrow_mut().take(name);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn queries(&self) -> &RefCell<Queries> {
        &self.queries
    }

    pub(crate) fn updates(&self) -> &RefCell<Updates> {
        &self.updates
    }

    pub(crate) fn conditions(&self) -> &RefCell<Conditions> {
        &self.conditions
    }

    /// Runs `f` as the answer to a query: what is dropped meanwhile asks for nothing.
    pub(crate) fn answering<T>(&self, f: impl FnOnce() -> T) -> T {
        let phase = self.phase.replace(Phase::Answering);
        let answer = f();
        self.phase.set(phase);
        answer
    }

    /// A panicking workflow must not add commands on its way out: the panic is the fault to report.
    fn may_ask(&self) -> bool {
        self.phase.get() == Phase::Open && !std::thread::panicking()
    }

    // Cancellation.

    /// Whether an operation that begins here and now is refused, because the run is cancelled.
    pub(crate) fn refuses_new_operations(&self) -> bool {
        self.scope() == Scope::Exposed && self.is_cancel_requested()
    }

    pub(crate) fn is_cancel_requested(&self) -> bool {
        matches!(*self.cancellation.borrow(), Cancellation::Requested(_))
    }

    /// The cancellation that was requested.
    ///
    /// # Panics
    ///
    /// When none was: only the run's cancellation closes an operation as cancelled.
    pub(crate) fn canceled(&self) -> Canceled {
        match &*self.cancellation.borrow() {
            Cancellation::Requested(canceled) => canceled.clone(),
            Cancellation::NotRequested { .. } => panic!("the run's cancellation was not requested"),
        }
    }

    pub(crate) fn poll_cancellation(&self, task: &TaskContext<'_>) -> Poll<Canceled> {
        match &mut *self.cancellation.borrow_mut() {
            Cancellation::Requested(canceled) => Poll::Ready(canceled.clone()),
            Cancellation::NotRequested { waiting } => {
                if !waiting.iter().any(|waker| waker.will_wake(task.waker())) {
                    waiting.push(task.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Cancels what is open and not shielded, in the order of history: activities, then children, then timers.
    pub(crate) fn request_cancellation(&self, reason: String) {
        let requested = Cancellation::Requested(Canceled::new(reason.clone()));
        let waiting = match self.cancellation.replace(requested) {
            Cancellation::NotRequested { waiting } => waiting,
            first @ Cancellation::Requested(_) => {
                self.cancellation.replace(first);
                return;
            }
        };
        let activities = self.activities.borrow_mut().cancel_exposed();
        for (id, on_cancel) in activities {
            match on_cancel {
                CancellationType::TryCancel => {
                    self.host.request_cancel_activity(id);
                    self.close_activity(id, ActivityOutcome::Canceled);
                }
                CancellationType::WaitCancellationCompleted => {
                    self.host.request_cancel_activity(id);
                }
                CancellationType::Abandon => self.close_activity(id, ActivityOutcome::Canceled),
            }
        }
        self.cancel_children(&reason);
        let timers = self.timers.borrow_mut().cancel_exposed();
        for (id, _) in timers {
            self.host.cancel_timer(id);
            self.close_timer(id, TimerOutcome::Canceled);
        }
        let for_signals = self.signal_waiters.borrow_mut().take_all();
        for_signals.into_iter().for_each(Waker::wake);
        let for_conditions = self.conditions.borrow_mut().take_all();
        for_conditions.into_iter().for_each(Waker::wake);
        waiting.into_iter().for_each(Waker::wake);
    }
}
