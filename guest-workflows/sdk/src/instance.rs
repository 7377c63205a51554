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
use crate::bindings::exports::everfold::workflow::workflow::{ActivityClosedBadly, Event, EventKind};
use crate::context::Context;
use crate::continue_as_new::Stop;
use crate::failure::Failure;
use crate::host::Host;
use crate::payload::Payload;
use crate::run::{ActivityOutcome, ChildOutcome, ChildStart, Run, TimerOutcome};
use crate::time::Timestamp;
use crate::workflow::Body;

/// A run between two events.
pub(crate) struct Instance {
    run: Rc<Run>,
    /// The workflow's future; none once the run has closed.
    body: Option<Body>,
    flag: Arc<WakeFlag>,
    waker: Waker,
}

/// Whether anything in the workflow's future was woken since it was last polled.
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
        body: impl FnOnce(Context, Payload) -> Body,
    ) -> Self {
        let EventKind::WorkflowStarted(started) = first.kind else {
            panic!("the first event of a run was not `workflow-started`");
        };
        let (run, input) = Run::start(host, Timestamp::from_unix_ms(first.time), started);
        let run = Rc::new(run);
        let flag = Arc::new(WakeFlag(AtomicBool::new(true)));
        let mut instance = Self {
            body: Some(body(Context::new(Rc::clone(&run)), input)),
            run,
            waker: Waker::from(Arc::clone(&flag)),
            flag,
        };
        instance.poll_until_idle();
        instance
    }

    /// Folds one further event.
    pub(crate) fn activate(&mut self, event: Event) {
        self.run.set_now(Timestamp::from_unix_ms(event.time));
        self.deliver(event.kind);
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

    fn deliver(&self, kind: EventKind) {
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
            // A workflow written with this SDK cannot have asked for any of these.
            EventKind::UpdateAdmitted(_) | EventKind::Other(_) => {}
        }
    }

    fn close_badly(&self, kind: ActivityErrorKind, closed: ActivityClosedBadly) {
        let failure = Failure::from_links(closed.failure);
        let outcome = ActivityOutcome::ClosedBadly { kind, attempt: closed.attempt, failure };
        self.run.close_activity(closed.scheduled_event_id, outcome);
    }

    fn poll_until_idle(&mut self) {
        while self.flag.0.swap(false, Ordering::Relaxed) {
            let Some(body) = &mut self.body else { return };
            let mut task = TaskContext::from_waker(&self.waker);
            if let Poll::Ready(result) = body.as_mut().poll(&mut task) {
                self.close(result);
            }
        }
    }

    fn close(&mut self, result: Result<Payload, Stop>) {
        self.run.begin_closing();
        self.body = None;
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
