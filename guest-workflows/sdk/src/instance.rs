//! One run, folded event by event: the executor of the workflow's future.
//!
//! An event closes at most one operation, and the future is polled until nothing in it is awake any
//! more; then the host gets control back. Order is that of the events and of the future's own code:
//! nothing here chooses.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use crate::activity::ActivityErrorKind;
use crate::bindings::everfold::workflow::types::EventId;
use crate::bindings::exports::everfold::workflow::workflow::{
    ActivityClosedBadly, Event, EventKind, UnknownEvent,
};
use crate::context::Context;
use crate::continue_as_new::Stop;
use crate::failure::Failure;
use crate::host::Host;
use crate::payload::Payload;
use crate::random::RANDOM_RESEEDED;
use crate::run::{ActivityOutcome, ChildOutcome, ChildStart, Run, TimerOutcome};
use crate::time::Timestamp;
use crate::update::{Answering, refuse};
use crate::workflow::Body;

/// A run between two events.
pub(crate) struct Instance {
    run: Rc<Run>,
    /// The workflow's future; none once the run has closed.
    body: Option<Body>,
    task: Task,
    /// The handlers of updates that are at work, in the order of admission.
    handlers: Vec<Handler>,
    /// The updates that the component says it takes.
    announced: Vec<&'static str>,
}

/// The handler of an update at work.
struct Handler {
    admitted: EventId,
    answering: Answering,
    task: Task,
}

/// Whether a future is to be polled.
struct Task {
    flag: Arc<WakeFlag>,
    waker: Waker,
}

impl Task {
    /// One that is to be polled for the first time.
    fn new() -> Self {
        let flag = Arc::new(WakeFlag(AtomicBool::new(true)));
        Self { waker: Waker::from(Arc::clone(&flag)), flag }
    }

    /// Whether it was woken since it was last polled.
    fn take(&self) -> bool {
        self.flag.0.swap(false, Ordering::Relaxed)
    }
}

/// Whether anything in a future was woken since it was last polled.
struct WakeFlag(AtomicBool);

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Instance {
    /// Folds a run's first event. `body` finds the workflow and gives it its input.
    ///
    /// # Panics
    ///
    /// When the first event is not `workflow-started`: the host broke the contract.
    pub(crate) fn start(
        host: Box<dyn Host>,
        first: Event,
        announced: Vec<&'static str>,
        body: impl FnOnce(Context, Payload) -> Body,
    ) -> Self {
        let EventKind::WorkflowStarted(started) = first.kind else {
            panic!("the first event of a run was not `workflow-started`");
        };
        let (run, input) = Run::start(host, Timestamp::from_unix_ms(first.time), started);
        let run = Rc::new(run);
        let mut instance = Self {
            body: Some(body(Context::new(Rc::clone(&run)), input)),
            run,
            task: Task::new(),
            handlers: Vec::new(),
            announced,
        };
        instance.poll_until_idle();
        instance
    }

    /// Folds one further event.
    pub(crate) fn activate(&mut self, event: Event) {
        self.run.set_now(Timestamp::from_unix_ms(event.time));
        self.deliver(event.id, event.kind);
        self.poll_until_idle();
    }

    /// Answers a question about the run as it stands; also once it has closed.
    ///
    /// # Errors
    ///
    /// A final failure, when nobody answers that question or its input does not decode.
    pub(crate) fn query(&self, name: &str, input: &Payload) -> Result<Payload, Failure> {
        // The table is not held while the answer is made: that is the author's code.
        let handler = self.run.queries().borrow().find(name)?;
        self.run.answering(|| handler(input))
    }

    /// Says whether an update may be admitted to the run as it stands.
    ///
    /// # Errors
    ///
    /// A final failure, when nobody takes that update, its input does not decode, or its validator refuses it.
    pub(crate) fn validate(&self, name: &str, input: &Payload) -> Result<(), Failure> {
        // The table is not held while the validator looks: that is the author's code.
        let handler = self.run.updates().borrow().validator(name, &self.announced)?;
        let Some(handler) = handler else { return Ok(()) };
        self.run.answering(|| handler.validate(input))
    }

    fn deliver(&self, id: EventId, kind: EventKind) {
        match kind {
            EventKind::WorkflowStarted(_) => panic!("the run was started twice"),
            EventKind::WorkflowCancelRequested(request) => {
                self.run.request_cancellation(request.reason);
            }
            EventKind::ActivityCompleted(completed) => {
                let outcome =
                    ActivityOutcome::Completed { attempt: completed.attempt, result: completed.result };
                self.run.close_activity(completed.scheduled_event_id, outcome);
            }
            EventKind::ActivityFailed(closed) => {
                self.close_badly(ActivityErrorKind::Failed, closed);
            }
            EventKind::ActivityTimedOut(closed) => {
                self.close_badly(ActivityErrorKind::TimedOut, closed);
            }
            EventKind::ActivityCanceled(closed) => {
                self.close_badly(ActivityErrorKind::Canceled, closed);
            }
            EventKind::TimerFired(fired) => {
                self.run.close_timer(fired.started_event_id, TimerOutcome::Fired);
            }
            EventKind::SignalReceived(received) => self.run.announce_signal(&received.name),
            EventKind::UpdateAdmitted(update) => self.run.updates().borrow_mut().admit(id, update),
            EventKind::ExternalRequestCompleted(closed) => {
                self.run.close_external(closed.command_event_id, Ok(()));
            }
            EventKind::ExternalRequestFailed(closed) => {
                let failure = Failure::from_links(closed.failure);
                self.run.close_external(closed.command_event_id, Err(failure));
            }
            EventKind::ChildWorkflowStarted(started) => {
                let start = ChildStart::Started { run_id: started.run_id };
                self.run.close_child_start(started.command_event_id, start);
            }
            EventKind::ChildWorkflowStartFailed(failed) => {
                let start = ChildStart::Failed(Failure::from_links(failed.failure));
                self.run.close_child_start(failed.command_event_id, start);
            }
            EventKind::ChildWorkflowCompleted(closed) => {
                self.run.close_child(closed.command_event_id, ChildOutcome::Completed(closed.result));
            }
            EventKind::ChildWorkflowFailed(closed) => {
                let outcome = ChildOutcome::ClosedBadly(Failure::from_links(closed.failure));
                self.run.close_child(closed.command_event_id, outcome);
            }
            EventKind::Other(UnknownEvent { type_, attributes }) if type_ == RANDOM_RESEEDED => {
                self.run.reseed(&attributes);
            }
            // A workflow written with this SDK cannot have asked for any of these.
            EventKind::Other(_) => {}
        }
    }

    fn close_badly(&self, kind: ActivityErrorKind, closed: ActivityClosedBadly) {
        let failure = Failure::from_links(closed.failure);
        let outcome = ActivityOutcome::ClosedBadly { kind, attempt: closed.attempt, failure };
        self.run.close_activity(closed.scheduled_event_id, outcome);
    }

    /// Polls what is awake until nothing is: handlers in the order of admission, then the workflow. When all is at
    /// rest, conditions are looked at.
    fn poll_until_idle(&mut self) {
        while self.body.is_some() {
            let moved = self.begin_updates() | self.poll_handlers() | self.poll_body();
            if !moved && !self.wake_conditions() {
                return;
            }
        }
    }

    /// Takes on the updates that have a handler, each before the next one is validated.
    fn begin_updates(&mut self) -> bool {
        let mut begun = false;
        loop {
            let next = self.run.updates().borrow_mut().next();
            let Some((admitted, update, handler)) = next else { return begun };
            begun = true;
            self.run.host.accept_update(admitted);
            // One that waited for its handler is validated only now.
            let answering = match self.run.answering(|| handler.validate(&update.input)) {
                Ok(()) => handler.handle(update.input),
                Err(refused) => refuse(refused),
            };
            self.handlers.push(Handler { admitted, answering, task: Task::new() });
            self.poll_handlers();
        }
    }

    fn poll_handlers(&mut self) -> bool {
        let mut polled = false;
        let mut at = 0;
        while let Some(handler) = self.handlers.get_mut(at) {
            let mut answer = Poll::Pending;
            if handler.task.take() {
                polled = true;
                answer = handler.answering.as_mut().poll(&mut TaskContext::from_waker(&handler.task.waker));
            }
            match answer {
                Poll::Pending => at += 1,
                Poll::Ready(answer) => {
                    let done = self.handlers.remove(at);
                    let answer = answer.as_ref().map_err(Failure::links);
                    self.run.host.complete_update(done.admitted, answer);
                    self.run.updates().borrow_mut().done();
                }
            }
        }
        polled
    }

    fn poll_body(&mut self) -> bool {
        let Some(body) = &mut self.body else { return false };
        if !self.task.take() {
            return false;
        }
        if let Poll::Ready(result) = body.as_mut().poll(&mut TaskContext::from_waker(&self.task.waker)) {
            self.close(result);
        }
        true
    }

    /// Wakes those whose condition holds; says whether there are any.
    fn wake_conditions(&self) -> bool {
        let asleep = self.run.conditions().borrow().asleep();
        let mut held = false;
        // The table is not held while a predicate looks: that is the author's code.
        for (id, _) in asleep.into_iter().filter(|(_, holds)| holds()) {
            let waker = self.run.conditions().borrow_mut().take(id);
            held |= waker.is_some();
            waker.into_iter().for_each(Waker::wake);
        }
        held
    }

    fn close(&mut self, result: Result<Payload, Stop>) {
        self.run.begin_closing();
        self.body = None;
        self.handlers.clear();
        let host = &self.run.host;
        match result {
            Ok(result) => host.complete_workflow(&result),
            Err(Stop::ContinueAsNew(next)) => host.continue_as_new(&next),
            Err(Stop::Failure(failure)) => match failure.cancellation_details() {
                Some(details) if self.run.is_cancel_requested() => host.cancel_workflow(details),
                Some(_) | None => host.fail_workflow(failure.links()),
            },
        }
    }
}

/// An instance that is dropped is a cache entry that goes: the run itself goes on elsewhere.
impl Drop for Instance {
    fn drop(&mut self) {
        self.run.begin_closing();
    }
}
