//! The metrics: their names, what each one says, and the recorder behind `GET /metrics`.
//!
//! Labels are bounded: workflow types are those that were ever deployed, activity types those that are
//! registered (else `other`), digests are short; ids are never labels. The recorder is this host's own;
//! nothing global is touched, so that many hosts can live in one process.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::door::{Door, Measurement};
use super::handles::{Handles, Labels};

pub(super) const METADATA: Metadata<'static> = Metadata::new("everfold", Level::INFO, None);

/// Buckets of what is measured in seconds: from an activation (50 µs) to a slow activity.
const SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
    30.0, 300.0, 3_600.0,
];
/// Buckets of everything else: powers of four up to 2³⁰.
const POWERS: [f64; 16] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

/// What sort of metric a name is.
enum Sort {
    Counter,
    Gauge,
    Seconds,
    Number,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $sort:ident, $help:literal;)+) => {
        $(pub(super) const $constant: &str = $name;)+
        const ALL: &[(&str, Sort, &str)] = &[$(($name, Sort::$sort, $help)),+];
    };
}

metrics! {
    BUILD_INFO = "everfold_build_info", Gauge, "Always 1; its label says the version.";
    RUNS_STARTED = "everfold_runs_started_total", Counter, "Runs whose first activation is on disk.";
    RUNS_CLOSED = "everfold_runs_closed_total", Counter, "Runs that closed, by how.";
    RUNS_REMOVED = "everfold_runs_removed_total", Counter, "Closed runs that were removed because they were old.";
    RUNS_OPEN = "everfold_runs_open", Gauge, "Runs that are not closed.";
    RUNS_BLOCKED = "everfold_runs_blocked", Gauge, "Open runs that a fault of their code blocks.";
    RUNS_PARKED = "everfold_runs_parked", Gauge, "Open runs without an instance in memory.";
    RUN_BLOCKS = "everfold_run_blocks_total", Counter, "How often a run became blocked, by the kind of fault.";
    RUN_HEALS = "everfold_run_heals_total", Counter, "How often a blocked run went on.";
    RUN_MOVES = "everfold_run_moves_total", Counter, "Runs that moved to another version, by the version that they moved to.";
    LIMIT_WARNINGS = "everfold_run_limit_warnings_total", Counter, "How often a run came near to a limit, by which.";
    SIGNALS = "everfold_signals_received_total", Counter, "Signals in the histories of runs.";
    UPDATES = "everfold_updates_admitted_total", Counter, "Updates in the histories of runs.";
    QUERIES = "everfold_queries_total", Counter, "Questions to runs, by how they were answered.";
    ACTIVATION_WAIT = "everfold_activation_schedule_to_start_seconds", Seconds,
        "From the arrival of an input until its folding begins.";
    ACTIVATION_TIME = "everfold_activation_duration_seconds", Seconds, "Folding of one input.";
    ATTEMPT_WAIT = "everfold_activity_schedule_to_start_seconds", Seconds,
        "From an attempt's being due until it starts.";
    ATTEMPT_TIME = "everfold_activity_attempt_duration_seconds", Seconds, "From an attempt's start to its end.";
    ATTEMPTS = "everfold_activity_attempts_total", Counter, "Attempts at activities that ended, by how.";
    RETRIES = "everfold_activity_retries_total", Counter, "Attempts that failed and are followed by another.";
    ACTIVITIES_CLOSED = "everfold_activities_closed_total", Counter, "Activities that closed, by how.";
    POLLS = "everfold_task_queue_polls_total", Counter, "Polls of workers that were answered, by how.";
    LEASES = "everfold_activity_leases_total", Counter, "Attempts that workers got.";
    LEASES_RETURNED = "everfold_activity_leases_returned_total", Counter,
        "Attempts that went back to their queue because nobody waited for them any more.";
    LEASES_EXPIRED = "everfold_activity_leases_expired_total", Counter,
        "Attempts outside the host that passed a time-out.";
    TASKS_WAITING = "everfold_task_queue_tasks_waiting", Gauge, "Attempts that wait for a worker.";
    POLLS_WAITING = "everfold_task_queue_polls_waiting", Gauge, "Polls of workers that wait for an attempt.";
    COMMIT_TIME = "everfold_commit_duration_seconds", Seconds, "Transactions that commit decisions.";
    COMMIT_SIZE = "everfold_commit_decisions", Number, "Decisions in one transaction.";
    ROLLBACKS = "everfold_commit_rollbacks_total", Counter, "Transactions that did not happen.";
    LIVE_INSTANCES = "everfold_live_instances", Gauge, "Instances of guests in memory.";
    COMPONENTS_LOADED = "everfold_components_loaded", Gauge, "Components whose compiled code is in memory.";
    EVICTIONS = "everfold_instance_evictions_total", Counter, "Instances that were given up for others.";
    REPLAYS = "everfold_replays_total", Counter, "Instances that were rebuilt from a history.";
    REPLAYED_EVENTS = "everfold_replayed_events_total", Counter, "Events of the histories that were replayed.";
    REPLAY_TIME = "everfold_replay_duration_seconds", Seconds, "Rebuilding of one instance.";
    SHADOW_REPLAYS = "everfold_shadow_replays_total", Counter,
        "Runs whose history was folded into a component to try it out, by the finding.";
    SHADOW_EVENTS = "everfold_shadow_replayed_events_total", Counter, "Events of the histories in shadow replays.";
    SHADOW_TIME = "everfold_shadow_replay_duration_seconds", Seconds, "One shadow replay, reading included.";
    HTTP_REQUESTS = "everfold_http_requests_total", Counter, "Requests that were answered.";
    HTTP_TIME = "everfold_http_request_duration_seconds", Seconds, "From a request to its answer's beginning.";
    REFUSED = "everfold_refused_total", Counter, "Requests that met a full host, by the bound that they met.";
    RECORDS_DROPPED = "everfold_metric_records_dropped_total", Counter,
        "Measurements of workflows and activities that passed a bound, by which.";
    SPANS_DROPPED = "everfold_spans_dropped_total", Counter, "Spans that no collector took.";
}

/// The metrics of one host.
pub(super) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    door: Door,
    counters: Handles<Counter>,
    histograms: Handles<Histogram>,
    gauges: Handles<Gauge>,
    activity_types: OnceLock<BTreeSet<String>>,
    pub(super) activation_wait: Histogram,
    pub(super) activation_time: Histogram,
    pub(super) commit_time: Histogram,
    pub(super) commit_size: Histogram,
    pub(super) rollbacks: Counter,
    pub(super) evictions: Counter,
    pub(super) spans_dropped: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let recorder = builder().build_recorder();
        for (name, sort, help) in ALL {
            match sort {
                Sort::Counter => recorder.describe_counter((*name).into(), None, (*help).into()),
                Sort::Gauge => recorder.describe_gauge((*name).into(), None, (*help).into()),
                Sort::Seconds => {
                    recorder.describe_histogram((*name).into(), Some(Unit::Seconds), (*help).into());
                }
                Sort::Number => recorder.describe_histogram((*name).into(), None, (*help).into()),
            }
        }
        let histogram = |name| recorder.register_histogram(&Key::from_static_name(name), &METADATA);
        let counter = |name| recorder.register_counter(&Key::from_static_name(name), &METADATA);
        let metrics = Self {
            activation_wait: histogram(ACTIVATION_WAIT),
            activation_time: histogram(ACTIVATION_TIME),
            commit_time: histogram(COMMIT_TIME),
            commit_size: histogram(COMMIT_SIZE),
            rollbacks: counter(ROLLBACKS),
            evictions: counter(EVICTIONS),
            spans_dropped: counter(SPANS_DROPPED),
            handle: recorder.handle(),
            door: Door::default(),
            counters: Handles::default(),
            histograms: Handles::default(),
            gauges: Handles::default(),
            activity_types: OnceLock::new(),
            recorder,
        };
        metrics.gauge(BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        metrics
    }

    /// Names the activity types that may stand as labels. The first time counts.
    pub(super) fn know_activities<'a>(&self, types: impl Iterator<Item = &'a str>) {
        let _ = self.activity_types.set(types.map(str::to_owned).collect());
    }

    /// An activity type as a label.
    pub(super) fn activity_label<'a>(&self, activity_type: &'a str) -> &'a str {
        let is_known = self.activity_types.get().is_some_and(|known| known.contains(activity_type));
        if is_known { activity_type } else { "other" }
    }

    pub(super) fn count(&self, name: &'static str, labels: Labels<'_>, by: u64) {
        let register = |key: &Key| self.recorder.register_counter(key, &METADATA);
        self.counters.with(name, labels, register, |counter| counter.increment(by));
    }

    pub(super) fn observe(&self, name: &'static str, labels: Labels<'_>, value: f64) {
        let register = |key: &Key| self.recorder.register_histogram(key, &METADATA);
        self.histograms.with(name, labels, register, |histogram| histogram.record(value));
    }

    pub(super) fn time(&self, name: &'static str, labels: Labels<'_>, took: Duration) {
        self.observe(name, labels, took.as_secs_f64());
    }

    pub(super) fn gauge(&self, name: &'static str, labels: Labels<'_>, value: f64) {
        let register = |key: &Key| self.recorder.register_gauge(key, &METADATA);
        self.gauges.with(name, labels, register, |gauge| gauge.set(value));
    }

    /// Takes a measurement of a workflow or an activity, or counts it as dropped.
    pub(super) fn take(&self, source: (&'static str, &str), measurement: &Measurement) {
        if let Err(refused) = self.door.take(&self.recorder, source, measurement) {
            self.drop_records(refused.name(), 1);
        }
    }

    pub(super) fn drop_records(&self, reason: &str, count: u64) {
        self.count(RECORDS_DROPPED, &[("reason", reason)], count);
    }

    /// Moves samples into buckets; without it they would pile up where nobody scrapes.
    pub(super) fn keep_up(&self) {
        self.handle.run_upkeep();
    }

    /// All of it in Prometheus' text format.
    pub(super) fn render(&self) -> String {
        self.handle.render()
    }
}

fn builder() -> PrometheusBuilder {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let built = PrometheusBuilder::new()
        .set_buckets(&POWERS)
        .and_then(|builder| builder.set_buckets_for_metric(seconds, &SECONDS));
    match built {
        Ok(builder) => builder,
        Err(error) => unreachable!("there are buckets: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_the_hosts_and_says_its_unit() {
        for (name, sort, help) in ALL {
            assert!(name.starts_with("everfold_") && help.ends_with('.'), "{name}");
            match sort {
                Sort::Counter => assert!(name.ends_with("_total"), "{name}"),
                Sort::Seconds => assert!(name.ends_with("_seconds"), "{name}"),
                Sort::Gauge | Sort::Number => assert!(!name.ends_with("_total"), "{name}"),
            }
        }
    }

    #[test]
    fn buckets_go_by_the_name_and_unknown_activities_share_a_label() {
        let metrics = Metrics::new();
        metrics.know_activities(["pay"].into_iter());
        assert_eq!((metrics.activity_label("pay"), metrics.activity_label("4711")), ("pay", "other"));
        metrics.time(ATTEMPT_TIME, &[("activity_type", "pay")], Duration::from_millis(2));
        metrics.commit_size.record(3.0);
        let text = metrics.render();
        let line =
            "everfold_activity_attempt_duration_seconds_bucket{activity_type=\"pay\",le=\"0.0025\"} 1\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("everfold_commit_decisions_bucket{le=\"4\"} 1\n"), "{text}");
        assert!(text.contains("# HELP everfold_commit_decisions Decisions in one transaction.\n"), "{text}");
        assert!(text.contains("everfold_build_info{version="), "{text}");
    }
}
