//! Every sample workflow is restarted at *every* prefix of its history: a host finds the prefix on
//! disk, as if it had been killed there, and must reach the same end without running a recorded
//! activity again.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everfold::activity::Registry;
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::PollRequest;
use everfold::store::{SqliteStore, Store, Verdict};
use everfold_core::command::Command;
use everfold_core::decision::{Decision, IdReusePolicy, IfOpen, InboxInput, Kinship, NewRun, NextRun};
use everfold_core::event::{Event, EventKind, Input, ParentRun, WorkflowStarted};
use everfold_core::failure::Failure;
use everfold_core::fold::{Folded, activations};
use everfold_core::ids::{Namespace, RunId, RunKey, Timestamp};
use everfold_core::machine::{RunState, RunStatus};
use parking_lot::Mutex;
use serde_json::{Value, json};
use support::{PATIENCE, SAGA_ANSWERS, TestHost, component, lines, saga_input, signals, update};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How often each activity ran.
type Ran = Arc<Mutex<BTreeMap<String, usize>>>;

/// What a sample needs from outside to come to its end.
#[derive(Clone, Copy)]
enum Drive {
    /// Nothing.
    Nothing,
    /// A day passes while the first run waits; the second one is told of the delivery.
    DayThenDelivery,
    /// That it may go, when its three steps are done.
    Go,
    /// So many numbers.
    Numbers(i64),
    /// The names of these changes.
    Changes(&'static [&'static str]),
    /// A worker that polls this task queue and makes what it gets.
    Worker(&'static str),
    /// So many changes to a cart of one article, and the check-out.
    Cart(usize),
}

/// A workflow to restart: where it is, what it gets, and how its activities answer.
struct Sample {
    component: &'static str,
    workflow_type: &'static str,
    input: Value,
    answers: Vec<(&'static str, Result<Value, Failure>)>,
    drive: Drive,
}

/// The runs of a sample, each going on from the one before, with their events.
type Chain = Vec<(RunId, Vec<Event>)>;

/// A host and the clock that its test may move.
struct Bench {
    test: TestHost,
    /// The machine's own where it is absent.
    time: Option<VirtualTime>,
    ran: Ran,
}

impl Sample {
    async fn open(&self, folder: &Path, ran: &Ran) -> Bench {
        let time = match self.drive {
            Drive::DayThenDelivery => Some(VirtualTime::starting_at(Timestamp(1_700_000_000_000))),
            Drive::Nothing
            | Drive::Go
            | Drive::Numbers(_)
            | Drive::Changes(_)
            | Drive::Worker(_)
            | Drive::Cart(_) => None,
        };
        let clock = time.clone().map_or_else(Clock::system, Clock::from_source);
        let (settings, engine) = (HostSettings::default(), EngineSettings::default());
        let test = TestHost::open_at(folder, self.registry(ran), &settings, engine, clock).await;
        Bench { test, time, ran: Arc::clone(ran) }
    }

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

    async fn record(&self) -> (Chain, Value) {
        let folder = tempfile::tempdir().unwrap();
        let bench = self.open(folder.path(), &Ran::default()).await;
        bench.test.deploy(self.component).await;
        bench.test.start(self.workflow_type, "sample", &self.input).await;
        let end = bench.outcome(self.drive, &[]).await;
        let chain = bench.test.chain("sample").await;
        bench.test.stop().await;
        (chain, end)
    }
}

impl Bench {
    /// Brings the sample to its end and tells that in words; `recorded` is what has happened.
    async fn outcome(&self, drive: Drive, recorded: &[Event]) -> Value {
        let has_ended = recorded.iter().any(|event| match &event.kind {
            EventKind::Command(Command::WorkflowContinuedAsNew(_)) => false,
            EventKind::Command(command) => command.closes_run(),
            EventKind::Input(_) | EventKind::Note(_) => false,
        });
        let told = signals(recorded);
        match drive {
            Drive::Nothing => {}
            _ if has_ended => {}
            Drive::Go if told.is_empty() => {
                self.test.until("sample", |run| run.history_length == 7).await;
                self.test.signal("sample", "go", &Value::Null).await.unwrap();
            }
            Drive::Go => {}
            Drive::Numbers(count) => {
                for number in i64::try_from(told.len()).unwrap()..count {
                    self.test.signal("sample", "add", &json!(number)).await.unwrap();
                }
            }
            Drive::Changes(changes) => {
                for change_id in &changes[told.len()..] {
                    self.test.signal("sample", "change", &json!(change_id)).await.unwrap();
                }
            }
            Drive::Cart(changes) => {
                let admitted = recorded.iter().filter(|event| is_update(event)).count();
                for number in admitted..changes {
                    let one = json!({ "article": "tea", "quantity": 1 });
                    self.test.update("sample", &format!("u-{number}"), "change", &one).await.unwrap();
                }
                // The run that it goes on as has an inbox to take first.
                self.test.until("sample", |run| run.inbox_length == 0 && run.history_length > 0).await;
                if admitted <= changes {
                    let update = update("sample", "u-end", "check-out", &Value::Null);
                    self.test.host.update(update).await.unwrap();
                }
            }
            Drive::DayThenDelivery => self.day_then_delivery(recorded, told.is_empty()).await,
            Drive::Worker(task_queue) => {
                tokio::select! {
                    _ = self.test.end("sample") => {}
                    () = self.work(task_queue) => {}
                }
            }
        }
        let end = self.test.end("sample").await;
        json!({ "status": end.status, "outcome": format!("{:?}", end.outcome) })
    }

    /// Makes every attempt of a task queue: it returns its input.
    async fn work(&self, task_queue: &str) {
        let request = PollRequest {
            namespace: Namespace::default(),
            task_queue: task_queue.to_owned(),
            identity: "worker".to_owned(),
            activity_types: Vec::new(),
        };
        while let Some(task) = self.test.host.poll(request.clone(), PATIENCE).await.unwrap() {
            *self.ran.lock().entry(task.scheduled.activity_type.clone()).or_default() += 1;
            self.test.host.complete_activity(&task.token, task.scheduled.input.clone()).await.unwrap();
        }
    }

    async fn day_then_delivery(&self, recorded: &[Event], is_under_way: bool) {
        let fires = recorded.iter().any(|event| matches!(event.kind, EventKind::Input(Input::TimerFired(_))));
        if !fires {
            let first = self.test.until("sample", |run| run.timers.len() == 1).await.key;
            self.time.as_ref().unwrap().advance(DAY);
            self.test.until("sample", |run| run.key != first).await;
        }
        if is_under_way {
            self.test.until("sample", |run| run.timers.len() == 1).await;
            let delivered = json!({ "delivered_at_ms": 7 });
            self.test.signal("sample", "order-delivered", &delivered).await.unwrap();
        }
    }
}

fn is_update(event: &Event) -> bool {
    matches!(event.kind, EventKind::Input(Input::UpdateAdmitted(_)))
}

/// Puts the first `cut` activations of a chain on disk, as a host that was killed behind them left
/// them.
async fn leave_prefix(folder: &Path, chain: &Chain, cut: usize, wasm: &str) {
    {
        let test = TestHost::open(folder, Registry::default()).await;
        test.deploy(wasm).await;
        test.stop().await;
    }
    let store = SqliteStore::open(folder).await.unwrap();
    let mut state = RunState::new();
    for events in steps(chain).into_iter().take(cut) {
        let begins = match &events[0].kind {
            EventKind::Input(Input::WorkflowStarted(started)) => Some(started.clone()),
            EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => None,
        };
        if begins.is_some() {
            state = RunState::new();
        }
        events.iter().for_each(|event| state.apply(event).unwrap());
        let started = state.started().expect("a history begins with WorkflowStarted").clone();
        let key = RunKey { namespace: started.namespace.clone(), run_id: started.run_id };
        let time = events[0].time;
        let next_runs = events.iter().filter_map(|event| next_run(event, &started, chain)).collect();
        let (mut decision, _) =
            Decision::of(key.clone(), Folded { state: state.clone(), events, changes: Vec::new() });
        decision.next_runs = next_runs;
        if begins.is_some() && started.continued_from_run_id.is_none() {
            decision.new_run = Some(new_run(&started, time));
        }
        // What waited for the run is what it folded.
        let inbox = store.inbox(&key).await.unwrap();
        let folded = &decision.events[0].kind;
        let taken =
            inbox.inputs.iter().find(|(_, waiting)| EventKind::Input(waiting.input.clone()) == *folded);
        decision.inbox_taken = taken.map(|(seq, _)| *seq).into_iter().collect();
        let verdicts = store.commit(Arc::new(vec![decision])).await.unwrap();
        assert!(matches!(verdicts[..], [Verdict::Committed { .. }]), "{verdicts:?}");
    }
    // Dropped without `close`: not stopped in order.
}

/// The activations of all runs, one after the other.
fn steps(chain: &Chain) -> Vec<Vec<Event>> {
    chain.iter().flat_map(|(_, events)| activations(events.clone())).collect()
}

fn new_run(started: &WorkflowStarted, at: Timestamp) -> NewRun {
    NewRun {
        workflow_id: started.workflow_id.clone(),
        workflow_type: started.workflow_type.clone(),
        digest: started.digest,
        started_at: at,
        request_id: None,
        id_reuse: IdReusePolicy::default(),
        if_open: IfOpen::default(),
        parent: started.parent.clone(),
        start_at: None,
        details: started.details(),
        inherits: None,
    }
}

/// The run that an event begins, if it begins one.
fn next_run(event: &Event, from: &WorkflowStarted, chain: &Chain) -> Option<NextRun> {
    let (first, kinship) = match &event.kind {
        EventKind::Command(Command::WorkflowContinuedAsNew(next)) => {
            let (_, events) = chain.iter().find(|(run_id, _)| *run_id == next.new_run_id)?;
            let EventKind::Input(Input::WorkflowStarted(first)) = &events[0].kind else {
                panic!("a history begins with WorkflowStarted")
            };
            (first.as_ref().clone(), Kinship::Successor)
        }
        EventKind::Command(Command::DetachedWorkflowStarted(next)) => {
            let first = WorkflowStarted {
                workflow_type: next.workflow_type.clone(),
                workflow_id: next.workflow_id.clone(),
                run_id: next.run_id,
                original_run_id: next.run_id,
                input: next.input.clone(),
                headers: next.headers.clone(),
                ..from.clone()
            };
            (first, Kinship::Detached)
        }
        EventKind::Command(Command::ChildWorkflowInitiated(next)) => {
            let parent = ParentRun {
                workflow_id: from.workflow_id.clone(),
                run_id: from.run_id,
                command_event_id: event.id,
                close_policy: next.parent_close_policy,
            };
            let first = WorkflowStarted {
                workflow_type: next.workflow_type.clone(),
                workflow_id: next.workflow_id.clone(),
                run_id: next.run_id,
                original_run_id: next.run_id,
                input: next.input.clone(),
                headers: next.headers.clone(),
                parent: Some(parent),
                ..from.clone()
            };
            (first, Kinship::Child)
        }
        EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => return None,
    };
    Some(NextRun {
        run_id: first.run_id,
        new_run: new_run(&first, event.time),
        inputs: vec![InboxInput { received_at: event.time, input: Input::WorkflowStarted(Arc::new(first)) }],
        kinship,
    })
}

/// The activities that a prefix has recorded as closed; event numbers begin again with each run.
fn closed(prefix: &[Vec<Event>]) -> Vec<String> {
    let mut open = BTreeMap::new();
    let mut names = Vec::new();
    for event in prefix.iter().flatten() {
        let closes = match &event.kind {
            EventKind::Command(Command::ActivityScheduled(activity)) => {
                open.insert(event.id, activity.activity_type.clone());
                None
            }
            EventKind::Input(Input::WorkflowStarted(_)) => {
                open.clear();
                None
            }
            EventKind::Input(Input::ActivityCompleted(closed)) => Some(closed.scheduled_event_id),
            EventKind::Input(
                Input::ActivityFailed(closed)
                | Input::ActivityTimedOut(closed)
                | Input::ActivityCanceled(closed),
            ) => Some(closed.scheduled_event_id),
            _ => None,
        };
        names.extend(closes.and_then(|id| open.remove(&id)));
    }
    names
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
    let (chain, end) = sample.record().await;
    let batches = steps(&chain);
    let history: Vec<Event> = batches.concat();
    for cut in 1..=batches.len() {
        let folder = tempfile::tempdir().unwrap();
        leave_prefix(folder.path(), &chain, cut, sample.component).await;

        let ran = Ran::default();
        let bench = sample.open(folder.path(), &ran).await;
        let prefix = batches[..cut].concat();
        let end_again = bench.outcome(sample.drive, &prefix).await;
        let chain_again = bench.test.chain("sample").await;
        let place = format!("{} restarted behind activation {cut}", sample.workflow_type);
        if let Some(id) = detached(&history) {
            bench.test.until(&id, |run| run.status == RunStatus::Running && run.timers.len() == 1).await;
            assert_eq!(bench.test.chain(&id).await.len(), 1, "{place}: {id} runs");
        }
        bench.test.stop().await;

        assert_eq!(end_again["status"], end["status"], "{place}");
        let lines_of = |chain: &Chain| chain.iter().map(|(_, events)| lines(events)).collect::<Vec<_>>();
        assert_eq!(lines_of(&chain_again), lines_of(&chain), "{place}");
        let again = steps(&chain_again).concat();
        assert_eq!(again[..prefix.len()], prefix, "{place}: what is recorded stays");
        let mut to_run = scheduled(&history);
        for name in closed(&batches[..cut]) {
            *to_run.get_mut(&name).expect("a closed activity was scheduled") -= 1;
        }
        to_run.retain(|_, count| *count > 0);
        assert_eq!(*ran.lock(), to_run, "{place}: no recorded activity runs again");
    }
}

/// The workflow id of the run that a history starts beside its own.
fn detached(history: &[Event]) -> Option<String> {
    history.iter().find_map(|event| match &event.kind {
        EventKind::Command(Command::DetachedWorkflowStarted(next)) => Some(next.workflow_id.0.clone()),
        EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
    })
}

fn noop() -> Vec<(&'static str, Result<Value, Failure>)> {
    vec![("noop", Ok(Value::Null))]
}

fn order(
    workflow_type: &'static str,
    input: Value,
    answers: Vec<(&'static str, Result<Value, Failure>)>,
) -> Sample {
    let mut all: Vec<_> = SAGA_ANSWERS.map(|(name, answer)| (name, Ok(answer()))).into();
    all.push(("validate-order", Ok(json!({ "amount_cents": 2_500 }))));
    all.push(("cancel-order", Ok(json!({ "canceled": true }))));
    all.push(("record-delivery", Ok(json!({}))));
    all.retain(|(name, _)| answers.iter().all(|(answered, _)| answered != name));
    all.extend(answers);
    Sample { component: "order", workflow_type, input, answers: all, drive: Drive::Nothing }
}

fn refused() -> Vec<(&'static str, Result<Value, Failure>)> {
    let refused = Failure::non_retryable("ShipmentRefused", "the carrier does not go there");
    vec![("arrange-shipping", Err(refused))]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_saga() {
    restarts_at_every_prefix(order("order-saga", saga_input(), Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_saga_that_is_undone() {
    restarts_at_every_prefix(order("order-saga", saga_input(), refused())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order() {
    restarts_at_every_prefix(order("order", saga_input(), Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_that_is_undone() {
    restarts_at_every_prefix(order("order", saga_input(), refused())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_version_of_the_order() {
    for answers in [Vec::new(), refused()] {
        let sample = Sample { component: "order-next", ..order("order", saga_input(), answers) };
        restarts_at_every_prefix(sample).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tracking_of_an_order_that_goes_on_once() {
    let input = json!({ "order_id": "o-1", "shipment_id": "s-1", "tracking_number": "t-1", "since_ms": 0 });
    let sample = order("order-tracking", input, Vec::new());
    restarts_at_every_prefix(Sample { drive: Drive::DayThenDelivery, ..sample }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_in_one_run_and_in_several() {
    for continue_every in [Value::Null, json!(2)] {
        let input = json!({ "count": 5, "continue_every": continue_every });
        let sample = Sample {
            component: "samples",
            workflow_type: "signals",
            input,
            answers: Vec::new(),
            drive: Drive::Numbers(5),
        };
        restarts_at_every_prefix(sample).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family() {
    let children = [
        json!({ "workflow_type": "echo", "input": "hello" }),
        json!({ "workflow_type": "echo", "input": 2, "workflow_id": "named" }),
        json!({ "workflow_type": "echo", "input": 3, "workflow_id": "sample" }),
    ];
    let sample = Sample {
        component: "samples",
        workflow_type: "family",
        input: json!({ "children": children, "then": "results" }),
        answers: Vec::new(),
        drive: Drive::Nothing,
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_about_changes() {
    let changes = &["a", "b", "a", "c", "b"];
    let sample = Sample {
        component: "samples",
        workflow_type: "versioned",
        input: json!({ "count": changes.len(), "latest": 2 }),
        answers: Vec::new(),
        drive: Drive::Changes(changes),
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_steps() {
    let input = json!({ "activity": "noop" });
    let sample = Sample {
        component: "samples",
        workflow_type: "four-steps",
        input,
        answers: noop(),
        drive: Drive::Nothing,
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fan_out() {
    let input = json!({ "width": 4 });
    let sample = Sample {
        component: "samples",
        workflow_type: "fan-out",
        input,
        answers: noop(),
        drive: Drive::Nothing,
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long() {
    let input = json!({ "steps": 5 });
    let sample =
        Sample { component: "samples", workflow_type: "long", input, answers: noop(), drive: Drive::Nothing };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_race_whose_loser_is_a_timer() {
    let input = json!({ "timeout_ms": 3_600_000 });
    let answers = vec![("slow", Ok(Value::Null))];
    let sample =
        Sample { component: "samples", workflow_type: "race", input, answers, drive: Drive::Nothing };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn talkative() {
    let sample = Sample {
        component: "samples",
        workflow_type: "talkative",
        input: json!({ "steps": 3 }),
        answers: noop(),
        drive: Drive::Go,
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn canceller_and_retried() {
    let slow = || vec![("slow", Ok(json!("done")))];
    let inputs = [
        ("canceller", Value::Null),
        ("retried", json!({ "succeeds_at": 1, "failure_type": "X", "is_final": true })),
        ("retried", json!({ "succeeds_at": 9, "failure_type": "X", "is_final": true })),
    ];
    for (workflow_type, input) in inputs {
        let answers = slow();
        let sample = Sample { component: "samples", workflow_type, input, answers, drive: Drive::Nothing };
        restarts_at_every_prefix(sample).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sleeper() {
    let input = json!({ "sleep_ms": 50 });
    let sample = Sample {
        component: "samples",
        workflow_type: "sleeper",
        input,
        answers: Vec::new(),
        drive: Drive::Nothing,
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messenger() {
    let ask = json!({ "workflow_id": "nobody" });
    let sample = Sample {
        component: "samples",
        workflow_type: "messenger",
        input: json!([{ "workflow_id": "nobody", "signal": ["add", 1] }, ask, ask]),
        answers: Vec::new(),
        drive: Drive::Nothing,
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn described() {
    let change = json!({ "search_attributes": { "step": 1, "tags": ["a"] }, "memo": { "note": "n" } });
    let go_on = json!({ "search_attributes": { "step": 2 }, "memo": { "why": null }, "continues": true });
    let sample = Sample {
        component: "samples",
        workflow_type: "described",
        input: json!({ "changes": [change, go_on, { "search_attributes": { "tags": null } }] }),
        answers: noop(),
        drive: Drive::Nothing,
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn program() {
    let task = |id: u32| json!({ "id": id });
    let steps = json!([
        { "run": task(1) },
        { "together": [task(2), task(3)] },
        { "race": [task(4), 3_600_000] },
        { "version": "change" },
        { "sleep": 20 },
        { "take_within": ["a", 20] },
        { "tell": { "to": "nobody", "name": "a", "value": 1 } },
        { "shielded": task(5) },
    ]);
    let sample = Sample {
        component: "samples",
        workflow_type: "program",
        input: json!({ "steps": steps }),
        answers: vec![("task", Ok(json!("done")))],
        drive: Drive::Nothing,
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn remote() {
    let sample = Sample {
        component: "samples",
        workflow_type: "remote",
        input: json!({ "activity": "greet", "input": 7, "task_queue": "python", "start_to_close_ms": 60_000 }),
        answers: Vec::new(),
        drive: Drive::Worker("python"),
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cart_that_goes_on_as_a_new_run() {
    let sample = Sample {
        component: "samples",
        workflow_type: "cart",
        input: json!({ "continue_every": 2 }),
        answers: vec![("price", Ok(json!(5)))],
        drive: Drive::Cart(3),
    };
    restarts_at_every_prefix(sample).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random() {
    let sample = Sample {
        component: "samples",
        workflow_type: "random",
        input: Value::Null,
        answers: Vec::new(),
        drive: Drive::Nothing,
    };
    restarts_at_every_prefix(sample).await;
}

#[test]
fn the_samples_are_built() {
    for name in ["order", "order-next", "order-next-plain", "order-next-broken", "samples", "hostile"] {
        assert!(!component(name).is_empty());
    }
}
