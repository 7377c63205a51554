//! What the host tells of itself: metrics, log lines, traces.
//!
//! The parts of the host report *facts*; here, and nowhere else, a fact becomes its log line, its metric
//! and its span. [`Telemetry`] is one cheap handle that the parts share.
//!
//! ```text
//! runner ── Facts of a decision ──▶ committed() ─┬─▶ lines    tracing, to standard error
//!    │        (after its commit)                 ├─▶ metrics  the recorder behind GET /metrics
//! activity ─ AttemptRecord, until its end is ────┤
//!    │        committed                          └─▶ spans    a bounded queue, then OTLP over HTTP
//! server ── http::observe, around each request ──────▶ all three
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `facts` | who a run is; what a decision tells |
//! | `attempts` | what an attempt measures and calls, until it is told |
//! | `lines` | the log's lines and their field names |
//! | `metrics`, `handles`, `door` | the host's metrics; the bounded door for everybody else's |
//! | `trace`, `spans`, `export` | ids; spans; the way to a collector |
//! | `http` | requests |
//!
//! Facts are told after the commit, at most once, and never from a replay: a replay makes no decision.
//! Nothing here can fail a run or hold it up: a measurement that passes a bound and a span that nobody
//! takes are dropped and counted. What a host has told is lost to its counters when it ends; spans have
//! derived ids, so that the next host goes on with the same trace.

mod attempts;
mod door;
mod export;
mod facts;
mod handles;
pub mod http;
mod lines;
mod metrics;
mod spans;
pub mod trace;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use everfold_core::decision::{Closed, Outcome, PendingActivity};
use everfold_core::event::Input;
use everfold_core::failure::Failure;
use everfold_core::ids::{EventId, RunKey, Timestamp};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use crate::activity::{AttemptOutcome, AttemptTask};
use crate::clock::Clock;
use crate::guest::Observation;
use attempts::{Attempting, Closing, Entry};
use facts::Told;
use metrics::Metrics;
use spans::{Span, Spans};
use trace::TraceId;

pub use attempts::{AttemptRecord, ClientSpan, client_span};
pub use door::Measurement;
pub use export::ExportError;
pub use facts::{Arrival, Facts, Folded, Folding, RunNames};
pub use lines::{FIELDS, WORKFLOW_TARGET};

/// How often samples are moved into buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Open runs of one type on one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRuns {
    /// The type.
    pub workflow_type: String,
    /// The component, short.
    pub digest: String,
    /// How many.
    pub open: u64,
    /// How many of them are blocked.
    pub blocked: u64,
    /// How many of them have an instance in memory.
    pub live: u64,
}

/// What the host tells of itself: cheap to clone.
#[derive(Clone)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    metrics: Metrics,
    attempting: Attempting,
    spans: Option<Spans>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("is_tracing", &self.is_tracing()).finish_non_exhaustive()
    }
}

impl Default for Telemetry {
    /// Metrics and lines, and no collector.
    fn default() -> Self {
        Self::new(Clock::system())
    }
}

impl Telemetry {
    /// Metrics and lines, and no collector.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let metrics = Metrics::new();
        Self { inner: Arc::new(Inner { clock, metrics, attempting: Attempting::default(), spans: None }) }
    }

    /// With traces to the collector at `endpoint`, its base address as in `OTEL_EXPORTER_OTLP_ENDPOINT`.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address, or what the environment says about the exporter, is bad. A collector that does
    /// not answer is none.
    pub fn tracing_to(endpoint: &str, clock: Clock) -> Result<Self, ExportError> {
        let metrics = Metrics::new();
        let spans = Some(Spans::new(export::exporter(endpoint)?, metrics.spans_dropped.clone()));
        Ok(Self { inner: Arc::new(Inner { clock, metrics, attempting: Attempting::default(), spans }) })
    }

    /// Whether spans go anywhere.
    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.inner.spans.is_some()
    }

    /// Sends the spans that wait, for a few seconds at most.
    pub async fn shut_down(&self) {
        let telemetry = self.clone();
        let sent = tokio::task::spawn_blocking(move || telemetry.inner.spans.as_ref().map(Spans::shutdown));
        if let Ok(Some(Err(error))) = sent.await {
            tracing::warn!(%error, "the last spans could not be sent to the collector");
        }
    }

    /// Keeps the metrics small for as long as the host lives, whether anybody scrapes them or not.
    pub async fn keep_up(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.inner.metrics.keep_up();
        }
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.inner.metrics.render()
    }

    fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    fn send_span(&self, trace_id: TraceId, span: Span) {
        if let Some(spans) = &self.inner.spans {
            spans.send(trace_id, span);
        }
    }
}

/// Facts about decisions.
impl Telemetry {
    /// A decision is on disk.
    pub fn committed(&self, facts: Facts) {
        for id in &facts.activities_closed {
            self.activity_closed(&facts.key, *id);
        }
        if facts.closed.is_some() {
            self.inner.attempting.forget_run(facts.key.run_id);
        }
        let Some(names) = facts.names.clone() else {
            if let Some(closed) = &facts.closed {
                lines::closed_unnamed(facts.key.run_id, closed);
            }
            return;
        };
        let of_type = [("workflow_type", names.workflow_type.as_str()), ("digest", &names.digest)];
        let metrics = &self.inner.metrics;
        match &facts.told {
            Told::Nothing => {}
            Told::Started => {
                lines::started(&names);
                metrics.count(metrics::RUNS_STARTED, &of_type, 1);
            }
            Told::SignalReceived(signal) => {
                lines::signal_received(&names, signal);
                metrics.count(metrics::SIGNALS, &of_type[..1], 1);
            }
            Told::UpdateAdmitted(update) => {
                lines::update_admitted(&names, update);
                metrics.count(metrics::UPDATES, &of_type[..1], 1);
            }
            Told::CancelRequested(reason) => lines::cancel_requested(&names, reason),
        }
        if let Some(from) = facts.moved_from {
            lines::moved(&names, from);
            metrics.count(metrics::RUN_MOVES, &of_type, 1);
        }
        if facts.is_healed {
            lines::healed(&names);
            metrics.count(metrics::RUN_HEALS, &of_type[..1], 1);
        }
        if let Some(folded) = &facts.folded {
            self.activated(&names, &facts, folded);
        }
        if let Some(blocked) = &facts.blocked {
            lines::blocked(&names, blocked);
            if blocked.retries == 0 {
                metrics.count(metrics::RUN_BLOCKS, &[of_type[0], ("kind", blocked.kind.name())], 1);
            }
        }
        if let Some(closed) = &facts.closed {
            self.run_closed(&names, closed);
        }
    }

    fn activated(&self, names: &RunNames, facts: &Facts, folded: &Folded) {
        let metrics = &self.inner.metrics;
        metrics.activation_wait.record(folded.waited.as_secs_f64());
        metrics.activation_time.record(folded.took.as_secs_f64());
        for usage in &folded.near {
            lines::near_limit(names, usage);
            let labels = [("workflow_type", names.workflow_type.as_str()), ("limit", usage.limit.name())];
            metrics.count(metrics::LIMIT_WARNINGS, &labels, 1);
        }
        for observation in &folded.observations {
            match observation {
                Observation::Log { level, target, message, fields } => {
                    lines::said(names, *level, target, message, fields);
                }
                Observation::Metric { kind, name, value, attributes } => {
                    let (kind, name, attributes) = (*kind, name.clone(), attributes.clone());
                    let measurement = Measurement { kind, name, value: *value, attributes };
                    metrics.take(("workflow_type", &names.workflow_type), &measurement);
                }
            }
        }
        if let (true, Some((event_id, event_type))) = (self.is_tracing(), facts.input) {
            let span = Span {
                id: names.trace.activation_span(event_id),
                parent: Some(names.trace.run_span()),
                is_parent_remote: false,
                kind: SpanKind::Internal,
                name: event_type.to_owned(),
                began: folded.at,
                took: folded.took,
                attributes: vec![
                    KeyValue::new("everfold.run_id", names.run_id.to_string()),
                    KeyValue::new("everfold.event_id", signed(event_id.0)),
                    KeyValue::new("everfold.event_type", event_type),
                    KeyValue::new("everfold.commands", signed(facts.commands as u64)),
                ],
                error: None,
            };
            self.send_span(names.trace.trace_id(), span);
        }
    }

    fn run_closed(&self, names: &RunNames, closed: &Closed) {
        lines::closed(names, closed);
        let labels = [
            ("workflow_type", names.workflow_type.as_str()),
            ("digest", &names.digest),
            ("outcome", closed.status.name()),
        ];
        self.inner.metrics.count(metrics::RUNS_CLOSED, &labels, 1);
        if !self.is_tracing() {
            return;
        }
        let span = Span {
            id: names.trace.run_span(),
            parent: names.trace.parent(),
            is_parent_remote: false,
            kind: SpanKind::Internal,
            name: names.workflow_type.clone(),
            began: names.started_at,
            took: Duration::from_millis(closed.at.ms_since(names.started_at)),
            attributes: vec![
                KeyValue::new("everfold.workflow_id", names.workflow_id.0.clone()),
                KeyValue::new("everfold.run_id", names.run_id.to_string()),
                KeyValue::new("everfold.workflow_type", names.workflow_type.clone()),
                KeyValue::new("everfold.digest", names.digest.clone()),
                KeyValue::new("everfold.outcome", closed.status.name()),
            ],
            error: match &closed.outcome {
                Outcome::Failure(failure) => Some(failure.to_string()),
                Outcome::Result(_) | Outcome::ContinuedAs(_) => None,
            },
        };
        self.send_span(names.trace.trace_id(), span);
    }

    /// A transaction with so many decisions is on disk.
    pub fn transaction(&self, decisions: usize, took: Duration) {
        self.inner.metrics.commit_size.record(decisions as f64);
        self.inner.metrics.commit_time.record(took.as_secs_f64());
    }

    /// A transaction did not happen.
    pub fn rolled_back(&self) {
        self.inner.metrics.rollbacks.increment(1);
    }

    /// So many closed runs were removed.
    pub fn runs_removed(&self, runs: u64) {
        self.inner.metrics.count(metrics::RUNS_REMOVED, &[], runs);
    }

    /// A request met a full host; `bound` is one of a few words.
    pub fn refused(&self, bound: &'static str) {
        self.inner.metrics.count(metrics::REFUSED, &[("reason", bound)], 1);
    }

    /// An instance was rebuilt from a history.
    pub fn replayed(&self, workflow_type: &str, events: usize, took: Duration) {
        let labels = [("workflow_type", workflow_type)];
        self.inner.metrics.count(metrics::REPLAYS, &labels, 1);
        self.inner.metrics.count(metrics::REPLAYED_EVENTS, &labels, events as u64);
        self.inner.metrics.time(metrics::REPLAY_TIME, &labels, took);
    }

    /// A history was folded into a component to try it out; `finding` is one of a few words.
    pub fn shadow_replayed(&self, workflow_type: &str, finding: &'static str, events: u64, took: Duration) {
        let labels = [("workflow_type", workflow_type), ("finding", finding)];
        let metrics = &self.inner.metrics;
        metrics.count(metrics::SHADOW_REPLAYS, &labels, 1);
        metrics.count(metrics::SHADOW_EVENTS, &labels[..1], events);
        metrics.time(metrics::SHADOW_TIME, &labels[..1], took);
    }

    /// An instance was given up for others.
    pub fn evicted(&self) {
        self.inner.metrics.evictions.increment(1);
    }

    /// A question was answered; `outcome` is one of a few words.
    pub fn queried(&self, workflow_type: &str, outcome: &'static str) {
        let labels = [("workflow_type", workflow_type), ("outcome", outcome)];
        self.inner.metrics.count(metrics::QUERIES, &labels, 1);
    }

    /// How things stand now, for the gauges. Kinds that are not named any more are at zero.
    pub fn surveyed(&self, before: &[OpenRuns], now: &[OpenRuns], live_instances: usize) {
        let metrics = &self.inner.metrics;
        let gone = before.iter().filter(|old| {
            !now.iter().any(|new| (&new.workflow_type, &new.digest) == (&old.workflow_type, &old.digest))
        });
        let zero = gone.map(|old| OpenRuns { open: 0, blocked: 0, live: 0, ..old.clone() });
        for runs in zero.collect::<Vec<_>>().iter().chain(now) {
            let labels = [("workflow_type", runs.workflow_type.as_str()), ("digest", &runs.digest)];
            metrics.gauge(metrics::RUNS_OPEN, &labels, runs.open as f64);
            metrics.gauge(metrics::RUNS_BLOCKED, &labels, runs.blocked as f64);
            metrics.gauge(metrics::RUNS_PARKED, &labels, runs.open.saturating_sub(runs.live) as f64);
        }
        metrics.gauge(metrics::LIVE_INSTANCES, &[], live_instances as f64);
    }

    /// So many components' code is in memory.
    pub fn components_loaded(&self, count: usize) {
        self.inner.metrics.gauge(metrics::COMPONENTS_LOADED, &[], count as f64);
    }

    fn request_answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let metrics = &self.inner.metrics;
        let status = status.to_string();
        let labels = [("method", method), ("route", route), ("status", &status)];
        metrics.count(metrics::HTTP_REQUESTS, &labels, 1);
        metrics.time(metrics::HTTP_TIME, &labels[..2], took);
    }
}

/// Facts about activities.
impl Telemetry {
    /// Names the activity types that may stand as labels.
    pub fn know_activities<'a>(&self, types: impl Iterator<Item = &'a str>) {
        self.inner.metrics.know_activities(types);
    }

    /// An attempt is due; the answer notes what it does.
    #[must_use]
    pub fn attempt_due(&self, task: &AttemptTask, due_at: Timestamp) -> AttemptRecord {
        self.inner.attempting.due(task, task.attempt, due_at, &self.inner.clock)
    }

    /// What is noted of the attempt under way; of one that an earlier host began, from now on.
    #[must_use]
    pub fn attempt_under_way(&self, task: &AttemptTask) -> AttemptRecord {
        self.inner.attempting.under_way(task, &self.inner.clock)
    }

    /// A worker has got an attempt.
    pub fn leased(&self, task: &AttemptTask, worker: &str) {
        lines::leased(task, worker);
        self.count_lease(metrics::LEASES, task);
    }

    /// A worker that was to get an attempt waits for it no longer; the attempt goes back to its queue.
    pub fn lease_returned(&self, task: &AttemptTask, worker: &str) {
        lines::lease_returned(task, worker);
        self.count_lease(metrics::LEASES_RETURNED, task);
    }

    /// An attempt outside passed a time-out.
    pub fn lease_expired(&self, task: &AttemptTask, failure: &Failure) {
        lines::lease_expired(task, failure);
        self.count_lease(metrics::LEASES_EXPIRED, task);
    }

    fn count_lease(&self, name: &'static str, task: &AttemptTask) {
        let metrics = &self.inner.metrics;
        let label = metrics.activity_label(&task.scheduled.activity_type);
        metrics.count(name, &[("activity_type", label)], 1);
    }

    /// A worker's poll was answered; `outcome` is one of a few words.
    pub fn polled(&self, outcome: &'static str) {
        self.inner.metrics.count(metrics::POLLS, &[("outcome", outcome)], 1);
    }

    /// So many attempts wait for workers, and so many workers for attempts.
    pub fn waiting(&self, attempts: usize, workers: usize) {
        self.inner.metrics.gauge(metrics::TASKS_WAITING, &[], attempts as f64);
        self.inner.metrics.gauge(metrics::POLLS_WAITING, &[], workers as f64);
    }

    /// An attempt was lost with an earlier host; what comes of it is not committed yet.
    pub fn attempt_lost(&self, task: &AttemptTask, attempt: u32, failure: &Failure) {
        let record = self.inner.attempting.due(task, attempt, task.scheduled_at, &self.inner.clock);
        record.end(&AttemptOutcome::Failed(failure.clone()));
    }

    /// An activity's end is sent to its run; it is not committed yet.
    pub fn activity_ends(&self, task: &AttemptTask, input: &Input) {
        let closing = match input {
            Input::ActivityCompleted(_) => Closing::Completed,
            Input::ActivityFailed(closed) => Closing::Failed(closed.failure.clone()),
            Input::ActivityTimedOut(closed) => Closing::TimedOut(closed.failure.clone()),
            Input::ActivityCanceled(_) => Closing::Canceled,
            Input::WorkflowStarted(_)
            | Input::WorkflowCancelRequested(_)
            | Input::TimerFired(_)
            | Input::SignalReceived(_)
            | Input::ExternalRequestCompleted(_)
            | Input::ExternalRequestFailed(_)
            | Input::ChildWorkflowStarted(_)
            | Input::ChildWorkflowStartFailed(_)
            | Input::ChildWorkflowCompleted(_)
            | Input::ChildWorkflowFailed(_)
            | Input::UpdateAdmitted(_)
            | Input::RandomReseeded(_) => return,
        };
        self.inner.attempting.closing(task, closing, &self.inner.clock);
    }

    /// A row of attempts is on disk: the attempt before it has failed, or has sent a heartbeat.
    pub fn attempt_recorded(&self, key: &RunKey, pending: &PendingActivity) {
        let id = pending.scheduled_event_id;
        let Some(entry) = self.inner.attempting.take_ended(key.run_id, id, pending.attempt) else { return };
        if let (Some(names), Some(failure)) = (entry.record.names(), &pending.last_failure) {
            lines::attempt_failed(names, failure, pending.next_attempt_at);
            let metrics = &self.inner.metrics;
            let label = metrics.activity_label(names.activity_type());
            metrics.count(metrics::RETRIES, &[("activity_type", label)], 1);
        }
        self.attempt_told(&entry);
    }

    /// An activity's end will not be folded: nothing is told of it.
    pub fn activity_forgotten(&self, key: &RunKey, id: EventId) {
        self.inner.attempting.take(key.run_id, id);
    }

    fn activity_closed(&self, key: &RunKey, id: EventId) {
        let Some(entry) = self.inner.attempting.take(key.run_id, id) else { return };
        let (Some(names), Some(closing)) = (entry.record.names(), &entry.closing) else { return };
        let outcome = match closing {
            Closing::Completed => {
                lines::activity_completed(names);
                "completed"
            }
            Closing::Failed(failure) => {
                lines::activity_closed_badly(names, failure);
                "failed"
            }
            Closing::TimedOut(failure) => {
                lines::activity_closed_badly(names, failure);
                "timed_out"
            }
            Closing::Canceled => {
                lines::activity_canceled(names);
                "canceled"
            }
        };
        let metrics = &self.inner.metrics;
        let label = metrics.activity_label(names.activity_type());
        metrics.count(metrics::ACTIVITIES_CLOSED, &[("activity_type", label), ("outcome", outcome)], 1);
        self.attempt_told(&entry);
    }

    /// Tells of an attempt whose end is on disk.
    fn attempt_told(&self, entry: &Entry) {
        let noted = entry.record.take();
        let (Some(names), Some(ended)) = (entry.record.names(), noted.ended) else { return };
        let metrics = &self.inner.metrics;
        let label = metrics.activity_label(names.activity_type());
        let of_type = [("activity_type", label)];
        metrics.count(metrics::ATTEMPTS, &[of_type[0], ("outcome", ended.outcome)], 1);
        if let Some((began, _)) = noted.began {
            let waited = Duration::from_millis(began.ms_since(entry.record.due_at()));
            metrics.time(metrics::ATTEMPT_WAIT, &of_type, waited);
            metrics.time(metrics::ATTEMPT_TIME, &of_type, ended.took);
        }
        for measurement in &noted.measurements {
            metrics.take(("activity_type", label), measurement);
        }
        if noted.dropped > 0 {
            metrics.drop_records("attempt", noted.dropped);
        }
        if !self.is_tracing() {
            return;
        }
        let (trace_id, attempt_span) = (names.run.trace.trace_id(), names.span());
        for call in noted.calls {
            let span = Span {
                id: names.call_span(call.number),
                parent: Some(attempt_span),
                is_parent_remote: false,
                kind: SpanKind::Client,
                name: call.name,
                began: call.began,
                took: call.took,
                attributes: Vec::new(),
                error: call.error,
            };
            self.send_span(trace_id, span);
        }
        let span = Span {
            id: attempt_span,
            parent: Some(names.run.trace.run_span()),
            is_parent_remote: false,
            kind: SpanKind::Internal,
            name: names.activity_type().to_owned(),
            began: noted.began.map_or(entry.record.due_at(), |(at, _)| at),
            took: ended.took,
            attributes: vec![
                KeyValue::new("everfold.run_id", names.run.run_id.to_string()),
                KeyValue::new("everfold.activity_type", names.activity_type().to_owned()),
                KeyValue::new("everfold.scheduled_event_id", signed(names.scheduled_event_id.0)),
                KeyValue::new("everfold.attempt", i64::from(names.attempt)),
                KeyValue::new("everfold.outcome", ended.outcome),
            ],
            error: ended.failure,
        };
        self.send_span(trace_id, span);
    }
}

/// A number as an attribute has it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
