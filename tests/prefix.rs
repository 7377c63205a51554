//! Every sample workflow is restarted at *every* prefix of its history: a host finds the prefix on
//! disk, as if it had been killed there, and must reach the same end without running a recorded
//! activity again.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use everfold::activity::Registry;
use everfold::store::{SqliteStore, Store, Verdict};
use everfold_core::command::Command;
use everfold_core::decision::{Decision, NewRun};
use everfold_core::event::{Event, EventKind, Input};
use everfold_core::failure::Failure;
use everfold_core::fold::{Folded, activations};
use everfold_core::ids::RunKey;
use everfold_core::machine::RunState;
use parking_lot::Mutex;
use serde_json::{Value, json};
use support::{SAGA_ANSWERS, TestHost, component, lines, saga_input};

/// How often each activity ran.
type Ran = Arc<Mutex<BTreeMap<String, usize>>>;

/// A workflow to restart: where it is, what it gets, and how its activities answer.
struct Sample {
    component: &'static str,
    workflow_type: &'static str,
    input: Value,
    answers: Vec<(&'static str, Result<Value, Failure>)>,
}

impl Sample {
    fn registry(&self, ran: &Ran) -> Registry {
        let mut registry = Registry::default();
        for (name, answer) in &self.answers {
            let (ran, name, answer) = (Arc::clone(ran), (*name).to_owned(), answer.clone());
            registry.register_fn(name.clone(), move |_context, _input: Value| {
                *ran.lock().entry(name.clone()).or_default() += 1;
                let answer = answer.clone();
                async move { answer }
            });
        }
        registry
    }

    async fn record(&self) -> (Vec<Event>, Value) {
        let folder = tempfile::tempdir().unwrap();
        let test = TestHost::open(folder.path(), self.registry(&Ran::default())).await;
        test.deploy(self.component).await;
        test.start(self.workflow_type, "sample", &self.input).await;
        let end = outcome(&test).await;
        let events = test.events("sample").await;
        test.stop().await;
        (events, end)
    }
}

/// How a run ended, in words.
async fn outcome(test: &TestHost) -> Value {
    let end = test.end("sample").await;
    json!({ "status": end.status, "outcome": format!("{:?}", end.outcome) })
}

/// Puts the first `cut` activations on disk, as a host that was killed behind them left them.
async fn leave_prefix(folder: &Path, history: &[Event], cut: usize, wasm: &str) {
    {
        let test = TestHost::open(folder, Registry::default()).await;
        test.deploy(wasm).await;
        test.stop().await;
    }
    let store = SqliteStore::open(folder).await.unwrap();
    let mut state = RunState::new();
    let mut decisions = Vec::new();
    for events in activations(history.to_vec()).take(cut) {
        events.iter().for_each(|event| state.apply(event).unwrap());
        let EventKind::Input(Input::WorkflowStarted(started)) = &history[0].kind else {
            panic!("a history begins with WorkflowStarted")
        };
        let key = RunKey { namespace: started.namespace.clone(), run_id: started.run_id };
        let (mut decision, _) =
            Decision::of(key, Folded { state: state.clone(), events, changes: Vec::new() });
        decision.new_run = decisions.is_empty().then(|| NewRun {
            workflow_id: started.workflow_id.clone(),
            workflow_type: started.workflow_type.clone(),
            digest: started.digest,
            started_at: history[0].time,
            request_id: None,
        });
        decisions.push(decision);
    }
    let verdicts = store.commit(decisions).await.unwrap();
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Committed), "{verdicts:?}");
    // Dropped without `close`: not stopped in order.
}

/// The activities that a prefix has recorded as closed.
fn closed(prefix: &[Event]) -> Vec<String> {
    let name = |id| {
        prefix.iter().find(|event| event.id == id).and_then(|event| match &event.kind {
            EventKind::Command(Command::ActivityScheduled(activity)) => Some(activity.activity_type.clone()),
            _ => None,
        })
    };
    let closes = |event: &Event| match &event.kind {
        EventKind::Input(Input::ActivityCompleted(closed)) => name(closed.scheduled_event_id),
        EventKind::Input(
            Input::ActivityFailed(closed) | Input::ActivityTimedOut(closed) | Input::ActivityCanceled(closed),
        ) => name(closed.scheduled_event_id),
        _ => None,
    };
    prefix.iter().filter_map(closes).collect()
}

fn scheduled(history: &[Event]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in history {
        if let EventKind::Command(Command::ActivityScheduled(activity)) = &event.kind {
            *counts.entry(activity.activity_type.clone()).or_default() += 1;
        }
    }
    counts
}

/// Restarts a sample at every prefix of its history.
async fn restarts_at_every_prefix(sample: Sample) {
    let (history, end) = sample.record().await;
    let batches: Vec<_> = activations(history.clone()).collect();
    for cut in 1..=batches.len() {
        let folder = tempfile::tempdir().unwrap();
        leave_prefix(folder.path(), &history, cut, sample.component).await;

        let ran = Ran::default();
        let test = TestHost::open(folder.path(), sample.registry(&ran)).await;
        let end_again = outcome(&test).await;
        let again = test.events("sample").await;
        test.stop().await;

        let place = format!("{} restarted behind activation {cut}", sample.workflow_type);
        assert_eq!(end_again["status"], end["status"], "{place}");
        assert_eq!(lines(&again), lines(&history), "{place}");
        let prefix = batches[..cut].concat();
        assert_eq!(again[..prefix.len()], prefix, "{place}: what is recorded stays");
        let mut to_run = scheduled(&history);
        for name in closed(&prefix) {
            *to_run.get_mut(&name).expect("a closed activity was scheduled") -= 1;
        }
        to_run.retain(|_, count| *count > 0);
        assert_eq!(*ran.lock(), to_run, "{place}: no recorded activity runs again");
    }
}

fn noop() -> Vec<(&'static str, Result<Value, Failure>)> {
    vec![("noop", Ok(Value::Null))]
}

fn order(answers: Vec<(&'static str, Result<Value, Failure>)>) -> Sample {
    let mut all: Vec<_> = SAGA_ANSWERS.map(|(name, answer)| (name, Ok(answer()))).into();
    all.retain(|(name, _)| answers.iter().all(|(answered, _)| answered != name));
    all.extend(answers);
    Sample { component: "order", workflow_type: "order-saga", input: saga_input(), answers: all }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_saga() {
    restarts_at_every_prefix(order(Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_saga_that_is_undone() {
    let refused = Failure::non_retryable("ShipmentRefused", "the carrier does not go there");
    restarts_at_every_prefix(order(vec![("arrange-shipping", Err(refused))])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_steps() {
    let input = json!({ "activity": "noop" });
    let sample = Sample { component: "samples", workflow_type: "four-steps", input, answers: noop() };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fan_out() {
    let input = json!({ "width": 4 });
    let sample = Sample { component: "samples", workflow_type: "fan-out", input, answers: noop() };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long() {
    let input = json!({ "steps": 5 });
    let sample = Sample { component: "samples", workflow_type: "long", input, answers: noop() };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_race_whose_loser_is_a_timer() {
    let input = json!({ "timeout_ms": 3_600_000 });
    let answers = vec![("slow", Ok(Value::Null))];
    let sample = Sample { component: "samples", workflow_type: "race", input, answers };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sleeper() {
    let input = json!({ "sleep_ms": 50 });
    let sample = Sample { component: "samples", workflow_type: "sleeper", input, answers: Vec::new() };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random() {
    let sample =
        Sample { component: "samples", workflow_type: "random", input: Value::Null, answers: Vec::new() };
    restarts_at_every_prefix(sample).await;
}

#[test]
fn the_samples_are_built() {
    for name in ["order", "samples", "hostile"] {
        assert!(!component(name).is_empty());
    }
}
