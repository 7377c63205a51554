//! Attempts under way: what each one measures and calls is kept here until its end is committed, then
//! told. An attempt whose end is never committed tells nothing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everfold_core::command::ActivityScheduled;
use everfold_core::failure::{Failure, FailureKind, TimeoutType};
use everfold_core::ids::{EventId, RunId, Timestamp};
use parking_lot::Mutex;

use super::door::Measurement;
use super::facts::RunNames;
use super::trace::SpanId;
use crate::activity::{AttemptOutcome, AttemptTask};
use crate::clock::Clock;
use crate::guest::MetricKind;

/// Measurements, and calls, of one attempt.
const ENTRIES: usize = 1_000;

tokio::task_local! {
    static CURRENT: AttemptRecord;
}

/// What is noted of one attempt: cheap to clone.
#[derive(Clone)]
pub struct AttemptRecord {
    inner: Arc<Inner>,
}

struct Inner {
    names: Option<AttemptNames>,
    clock: Clock,
    due_at: Timestamp,
    noted: Mutex<Noted>,
}

#[derive(Default)]
pub(super) struct Noted {
    pub(super) began: Option<(Timestamp, Instant)>,
    pub(super) ended: Option<Ended>,
    pub(super) measurements: Vec<Measurement>,
    pub(super) calls: Vec<Call>,
    pub(super) call_count: u32,
    pub(super) dropped: u64,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) took: Duration,
    pub(super) outcome: &'static str,
    pub(super) failure: Option<String>,
}

/// A call that an attempt made.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) began: Timestamp,
    pub(super) took: Duration,
    pub(super) error: Option<String>,
}

/// Which attempt it is, for everything that is said about it.
#[derive(Clone, Debug)]
pub(super) struct AttemptNames {
    pub(super) run: Arc<RunNames>,
    pub(super) scheduled: Arc<ActivityScheduled>,
    pub(super) scheduled_event_id: EventId,
    pub(super) attempt: u32,
}

impl AttemptNames {
    fn of(task: &AttemptTask, attempt: u32) -> Self {
        Self {
            run: Arc::clone(&task.names),
            scheduled: Arc::clone(&task.scheduled),
            scheduled_event_id: task.scheduled_event_id,
            attempt,
        }
    }

    /// The activity's type.
    pub(super) fn activity_type(&self) -> &str {
        &self.scheduled.activity_type
    }

    /// The attempt's span.
    pub(super) fn span(&self) -> SpanId {
        self.run.trace.attempt_span(self.scheduled_event_id, self.attempt)
    }

    /// The span of one of its calls.
    pub(super) fn call_span(&self, number: u32) -> SpanId {
        self.run.trace.call_span(self.scheduled_event_id, self.attempt, number)
    }
}

impl fmt::Debug for AttemptRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptRecord").finish_non_exhaustive()
    }
}

impl AttemptRecord {
    /// A record that nobody reads.
    #[must_use]
    pub fn unread(clock: Clock) -> Self {
        let due_at = clock.now();
        Self { inner: Arc::new(Inner { names: None, clock, due_at, noted: Mutex::default() }) }
    }

    fn new(names: AttemptNames, due_at: Timestamp, clock: Clock) -> Self {
        Self { inner: Arc::new(Inner { names: Some(names), clock, due_at, noted: Mutex::default() }) }
    }

    pub(super) fn names(&self) -> Option<&AttemptNames> {
        self.inner.names.as_ref()
    }

    pub(super) fn due_at(&self) -> Timestamp {
        self.inner.due_at
    }

    pub(super) fn take(&self) -> Noted {
        std::mem::take(&mut *self.inner.noted.lock())
    }

    /// The attempt has begun.
    pub fn begin(&self) {
        self.inner.noted.lock().began = Some((self.inner.clock.now(), Instant::now()));
    }

    /// The attempt has ended.
    pub fn end(&self, outcome: &AttemptOutcome) {
        let (outcome, failure) = match outcome {
            AttemptOutcome::Completed(_) => ("completed", None),
            AttemptOutcome::Canceled(failure) => ("canceled", Some(failure)),
            AttemptOutcome::Failed(failure) => (failed_outcome(failure), Some(failure)),
            // It is not over.
            AttemptOutcome::CompletesLater { .. } => return,
        };
        let mut noted = self.inner.noted.lock();
        let took = noted.began.map_or(Duration::ZERO, |(_, began)| began.elapsed());
        noted.ended = Some(Ended { took, outcome, failure: failure.map(ToString::to_string) });
    }

    /// Runs an attempt's future so that [`client_span`] finds its attempt.
    pub async fn scope<F: Future>(self, running: F) -> F::Output {
        CURRENT.scope(self, running).await
    }

    /// The attempt's span, to be passed on to whom it calls.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        let names = self.names()?;
        Some(names.run.trace.at(names.span()).header())
    }

    /// Begins a call; its span ends when the answer is dropped.
    pub fn client_span(&self, name: impl Into<String>) -> ClientSpan {
        let mut noted = self.inner.noted.lock();
        let number = noted.call_count;
        noted.call_count += 1;
        drop(noted);
        ClientSpan {
            record: self.clone(),
            number,
            name: name.into(),
            began: (self.inner.clock.now(), Instant::now()),
            error: None,
        }
    }

    /// Notes a measurement; it is told once the attempt's end is committed.
    pub fn measure(&self, kind: MetricKind, name: &str, value: f64, attributes: &[(&str, &str)]) {
        let attributes =
            attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut noted = self.inner.noted.lock();
        if noted.measurements.len() < ENTRIES {
            noted.measurements.push(Measurement { kind, name: name.to_owned(), value, attributes });
        } else {
            noted.dropped += 1;
        }
    }
}

/// A call that an activity makes: a span of its own, ended by being dropped.
#[derive(Debug)]
#[must_use = "the span ends when this is dropped"]
pub struct ClientSpan {
    record: AttemptRecord,
    number: u32,
    name: String,
    began: (Timestamp, Instant),
    error: Option<String>,
}

impl ClientSpan {
    /// The `traceparent` to send with the call.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        let names = self.record.names()?;
        Some(names.run.trace.at(names.call_span(self.number)).header())
    }

    /// Notes that the call went wrong.
    pub fn failed(&mut self, reason: impl fmt::Display) {
        self.error = Some(reason.to_string());
    }
}

impl Drop for ClientSpan {
    fn drop(&mut self) {
        let mut noted = self.record.inner.noted.lock();
        if noted.calls.len() < ENTRIES {
            noted.calls.push(Call {
                number: self.number,
                name: std::mem::take(&mut self.name),
                began: self.began.0,
                took: self.began.1.elapsed(),
                error: self.error.take(),
            });
        }
    }
}

/// Begins a call of the attempt that the present task runs; for code that has no context at hand.
#[must_use]
pub fn client_span(name: &str) -> Option<ClientSpan> {
    CURRENT.try_with(|record| record.client_span(name)).ok()
}

/// What an attempt that failed is counted under.
fn failed_outcome(failure: &Failure) -> &'static str {
    match &failure.kind {
        FailureKind::TimedOut(timeout) => match timeout.timeout_type {
            TimeoutType::ScheduleToStart => "timed_out_schedule_to_start",
            TimeoutType::StartToClose => "timed_out_start_to_close",
            TimeoutType::ScheduleToClose => "timed_out_schedule_to_close",
            TimeoutType::Heartbeat => "timed_out_heartbeat",
        },
        FailureKind::Canceled(_) => "canceled",
        FailureKind::Application(_)
        | FailureKind::Terminated
        | FailureKind::Activity(_)
        | FailureKind::ChildWorkflow(_)
        | FailureKind::Other(_) => "failed",
    }
}

/// The last attempt of each open activity.
#[derive(Default)]
pub(super) struct Attempting {
    records: Mutex<HashMap<RunId, BTreeMap<EventId, Entry>>>,
}

/// An attempt, and the end of its activity if that is under way to the disk.
pub(super) struct Entry {
    pub(super) record: AttemptRecord,
    pub(super) closing: Option<Closing>,
}

/// How an activity ends.
#[derive(Clone, Debug)]
pub(super) enum Closing {
    Completed,
    Failed(Failure),
    TimedOut(Failure),
    Canceled,
}

impl Attempting {
    /// Notes an attempt that is due.
    pub(super) fn due(
        &self,
        task: &AttemptTask,
        attempt: u32,
        due_at: Timestamp,
        clock: &Clock,
    ) -> AttemptRecord {
        let record = AttemptRecord::new(AttemptNames::of(task, attempt), due_at, clock.clone());
        let entry = Entry { record: record.clone(), closing: None };
        let mut records = self.records.lock();
        records.entry(task.key.run_id).or_default().insert(task.scheduled_event_id, entry);
        record
    }

    /// The attempt of that number if it is noted, else a new note of it.
    pub(super) fn under_way(&self, task: &AttemptTask, clock: &Clock) -> AttemptRecord {
        let noted = {
            let records = self.records.lock();
            let entry = records.get(&task.key.run_id).and_then(|of| of.get(&task.scheduled_event_id));
            entry.map(|entry| entry.record.clone())
        };
        let is_it = |record: &AttemptRecord| {
            record.names().is_some_and(|names| names.attempt == task.attempt)
                && record.inner.noted.lock().ended.is_none()
        };
        noted.filter(is_it).unwrap_or_else(|| {
            let record = self.due(task, task.attempt, clock.now(), clock);
            record.begin();
            record
        })
    }

    /// Notes that an activity's end is sent to its run; an activity that has no attempt under way gets
    /// an entry too.
    pub(super) fn closing(&self, task: &AttemptTask, closing: Closing, clock: &Clock) {
        let mut records = self.records.lock();
        let activities = records.entry(task.key.run_id).or_default();
        let entry = activities.entry(task.scheduled_event_id).or_insert_with(|| Entry {
            record: AttemptRecord::new(AttemptNames::of(task, task.attempt), clock.now(), clock.clone()),
            closing: None,
        });
        entry.closing = Some(closing);
    }

    /// Takes an activity out.
    pub(super) fn take(&self, run_id: RunId, id: EventId) -> Option<Entry> {
        let mut records = self.records.lock();
        let activities = records.get_mut(&run_id)?;
        let entry = activities.remove(&id);
        if activities.is_empty() {
            records.remove(&run_id);
        }
        entry
    }

    /// Takes the attempt of an activity out if it has ended and is not attempt `next`.
    pub(super) fn take_ended(&self, run_id: RunId, id: EventId, next: u32) -> Option<Entry> {
        let is_ended = {
            let records = self.records.lock();
            let entry = records.get(&run_id)?.get(&id)?;
            // Behind a reset the next one is the first again.
            entry.record.names().is_some_and(|names| names.attempt != next)
                && entry.record.inner.noted.lock().ended.is_some()
        };
        if is_ended { self.take(run_id, id) } else { None }
    }

    /// Forgets a run that has closed.
    pub(super) fn forget_run(&self, run_id: RunId) {
        self.records.lock().remove(&run_id);
    }
}
