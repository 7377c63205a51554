//! Cancelled at every event: whatever the step under way does about it, each step that may have happened is
//! undone once, latest first, and money is conserved. Time stands still unless a test moves it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use everfold::activity::{ActivityContext, Registry};
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold_core::failure::Failure;
use everfold_core::ids::Timestamp;
use everfold_core::machine::RunStatus;
use serde_json::{Value, json};
use support::{SAGA_ANSWERS, TestHost, lines, run, saga_input, scheduled};
use tokio::sync::{mpsc, oneshot};

const SAGA: [&str; 4] = ["reserve-inventory", "process-payment", "update-inventory", "arrange-shipping"];
const ORDER: [&str; 4] = ["validate-order", "process-payment", "update-inventory", "arrange-shipping"];

/// How the step under way takes the request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It goes on to its end.
    Ignores,
    /// It watches for it, and stops before it has done anything.
    Stops,
    /// It watches for it, and stops when it has done its work.
    StopsTooLate,
    /// It fails, having done its work.
    Fails,
    /// It fails for good, having done nothing.
    FailsForGood,
    /// It had failed before, having done its work, and waits to be tried again.
    Waits,
}

const MANNERS: [Manner; 6] = [
    Manner::Ignores,
    Manner::Stops,
    Manner::StopsTooLate,
    Manner::Fails,
    Manner::FailsForGood,
    Manner::Waits,
];

/// An attempt that waits for what the test has it do.
struct Call {
    name: String,
    key: String,
    input: Value,
    context: ActivityContext,
    answer: oneshot::Sender<Result<Value, Failure>>,
}

impl Call {
    fn is_step(&self) -> bool {
        self.input.get("step_key").is_none() && self.name != "cancel-order"
    }

    fn answer(self, answer: Result<Value, Failure>) {
        self.answer.send(answer).unwrap();
    }
}

/// What was done in the world: each step by its key, in order, and each undo.
#[derive(Debug, Default)]
struct World {
    done: Vec<(String, String)>,
    undone: Vec<String>,
}

impl World {
    fn make(&mut self, call: &Call) {
        if !self.done.iter().any(|(key, _)| *key == call.key) {
            self.done.push((call.key.clone(), call.name.clone()));
        }
    }

    /// Undoes what was done under the key, if anything was.
    fn undo(&mut self, call: &Call) {
        let Some(key) = call.input["step_key"].as_str() else { return };
        assert!(!self.undone.iter().any(|undone| undone == key), "{} twice", call.name);
        if let Some((_, step)) = self.done.iter().find(|(done, _)| done == key) {
            assert_eq!(undo_of(step), Some(call.name.as_str()), "it undoes that step");
            self.undone.push(key.to_owned());
        }
    }

    /// Nothing is left of the order, and what went was undone latest first.
    fn assert_undone(&self, place: &str) {
        let done = self.done.iter().filter(|(_, step)| undo_of(step).is_some());
        let keys: Vec<_> = done.rev().map(|(key, _)| key).collect();
        assert_eq!(self.undone.iter().collect::<Vec<_>>(), keys, "{place}: {self:?}");
    }
}

/// The undo of a step; checking an order leaves nothing behind.
fn undo_of(step: &str) -> Option<&'static str> {
    match step {
        "reserve-inventory" => Some("release-inventory-reservation"),
        "process-payment" => Some("refund-payment"),
        "update-inventory" => Some("restock-inventory"),
        "arrange-shipping" => Some("cancel-shipment"),
        "validate-order" => None,
        other => panic!("{other} is no step"),
    }
}

fn well(name: &str) -> Value {
    match name {
        "validate-order" => json!({ "amount_cents": 2_500 }),
        "cancel-order" => json!({ "canceled": true }),
        _ => SAGA_ANSWERS.iter().find(|(known, _)| *known == name).unwrap().1(),
    }
}

/// A host whose every attempt waits for the test.
struct Bench {
    folder: tempfile::TempDir,
    test: TestHost,
    calls: mpsc::UnboundedReceiver<Call>,
    world: World,
}

impl Bench {
    async fn open(workflow_type: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (test, calls) = Self::host(folder.path()).await;
        test.deploy("order").await;
        test.start(workflow_type, "order", &saga_input()).await;
        Self { folder, test, calls, world: World::default() }
    }

    /// Kills the host; the next one goes on in the same world.
    async fn restart(self) -> Self {
        let Self { folder, test, calls: _, world } = self;
        test.kill().await;
        let (test, calls) = Self::host(folder.path()).await;
        Self { folder, test, calls, world }
    }

    async fn host(folder: &Path) -> (TestHost, mpsc::UnboundedReceiver<Call>) {
        let (sender, calls) = mpsc::unbounded_channel();
        let mut registry = Registry::default();
        for name in SAGA_ANSWERS.map(|(name, _)| name).into_iter().chain(["validate-order", "cancel-order"]) {
            let sender = sender.clone();
            registry.register_fn(name, move |context: ActivityContext, input: Value| {
                let (answer, answered) = oneshot::channel();
                let key = context.info().idempotency_key.clone();
                let _ = sender.send(Call { name: name.to_owned(), key, input, context, answer });
                async move { answered.await.expect("the test answers") }
            });
        }
        let clock = Clock::from_source(VirtualTime::starting_at(Timestamp(1_700_000_000_000)));
        let (settings, engine) = (HostSettings::default(), EngineSettings::default());
        (TestHost::open_at(folder, registry, &settings, engine, clock).await, calls)
    }

    async fn call(&mut self) -> Call {
        tokio::time::timeout(support::PATIENCE, self.calls.recv()).await.unwrap().unwrap()
    }

    fn answer_well(&mut self, call: Call) {
        if call.is_step() {
            self.world.make(&call)
        } else {
            self.world.undo(&call)
        }
        let answer = well(&call.name);
        call.answer(Ok(answer));
    }

    /// Lets the run make its first steps, and gives the attempt of the next one.
    async fn steps(&mut self, steps: usize) -> Call {
        for _ in 0..steps {
            let call = self.call().await;
            self.answer_well(call);
        }
        self.call().await
    }

    /// Asks the run to cancel, twice: the second time changes nothing.
    async fn cancel(&self) {
        assert!(!self.test.cancel("order").await.unwrap().is_duplicate);
        assert!(self.test.cancel("order").await.unwrap().is_duplicate);
        assert!(self.test.host.describe(&run("order")).await.unwrap().cancel_requested);
    }

    /// Cancels while a step is under way, which takes it in its manner.
    async fn cancel_during(&mut self, call: Call, manner: Manner) {
        if manner == Manner::Waits {
            self.world.make(&call);
            call.answer(Err(Failure::application("Unreachable", "no answer came")));
            let failed = |run: &everfold::runner::api::Description| {
                run.pending_activities.iter().any(|activity| activity.attempts.is_some())
            };
            self.test.until("order", failed).await;
            // Nothing is under way: it gives up at once.
            assert!(!self.test.cancel("order").await.unwrap().is_duplicate);
            return;
        }
        self.cancel().await;
        // It reaches the step also where that takes no notice.
        tokio::time::timeout(support::PATIENCE, call.context.cancelled()).await.unwrap();
        match manner {
            Manner::Ignores => self.answer_well(call),
            Manner::Stops | Manner::StopsTooLate => {
                if manner == Manner::StopsTooLate {
                    self.world.make(&call);
                }
                let canceled = call.context.canceled_failure();
                call.answer(Err(canceled));
            }
            Manner::Fails => {
                self.world.make(&call);
                call.answer(Err(Failure::application("Unreachable", "no answer came")));
            }
            Manner::FailsForGood => call.answer(Err(Failure::non_retryable("Refused", "never"))),
            Manner::Waits => unreachable!("it is not under way"),
        }
    }

    /// Answers all else well, to the run's end.
    async fn finish(&mut self, place: &str) -> RunStatus {
        let host = self.test.host.clone();
        let run_id = Some(host.describe(&run("order")).await.unwrap().key.run_id);
        let order = everfold::runner::api::RunRef { run_id, ..run("order") };
        let end = host.result(&order, support::PATIENCE);
        tokio::pin!(end);
        loop {
            tokio::select! {
                end = &mut end => {
                    let status = end.unwrap().status;
                    assert_ne!(status, RunStatus::Running, "{place}");
                    return status;
                }
                call = self.calls.recv() => {
                    let call = call.unwrap();
                    assert!(call.context.is_cancelled() == call.is_step(), "{place}: an undo is shielded");
                    self.answer_well(call);
                }
            }
        }
    }
}

/// What is undone when the run is cancelled during that step.
fn undoings(workflow_type: &str, step: usize, manner: Manner) -> Vec<&'static str> {
    let mut undone: Vec<_> = match workflow_type {
        "order-saga" => SAGA[..=step].iter().rev().filter_map(|step| undo_of(step)).collect(),
        _ => ORDER[..=step].iter().rev().filter_map(|step| undo_of(step)).collect(),
    };
    // The customer hears of it, unless the order was found wanting before anything was done.
    if workflow_type == "order" && (step > 0 || manner == Manner::Ignores) {
        undone.push("cancel-order");
    }
    undone
}

async fn cancelled_at_every_step(workflow_type: &str, steps: [&str; 4]) {
    for step in 0..steps.len() {
        for manner in MANNERS {
            let place = format!("{workflow_type} cancelled during {}, which {manner:?}", steps[step]);
            let mut bench = Bench::open(workflow_type).await;
            let call = bench.steps(step).await;
            assert_eq!(call.name, steps[step], "{place}");
            bench.cancel_during(call, manner).await;
            let status = bench.finish(&place).await;
            let events = bench.test.events("order").await;
            let scheduled = scheduled(&events);
            assert_eq!(scheduled[..=step], steps[..=step], "{place}");
            // Also a last step that was done all the same is undone.
            assert_eq!(status, RunStatus::Canceled, "{place}: {:?}", lines(&events));
            assert_eq!(scheduled[step + 1..], undoings(workflow_type, step, manner), "{place}");
            bench.world.assert_undone(&place);
            assert_books(&bench.world, status, &place);
            bench.test.stop().await;
        }
    }
}

/// Money and goods: a completed order has each step's once, any other has nothing.
fn assert_books(world: &World, status: RunStatus, place: &str) {
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    for (key, step) in world.done.iter().filter(|(_, step)| undo_of(step).is_some()) {
        let is_undone = world.undone.contains(key);
        *balance.entry(step).or_default() += i64::from(!is_undone);
    }
    let expected = i64::from(status == RunStatus::Completed);
    assert!(balance.values().all(|balance| *balance == expected), "{place}: {balance:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_saga_cancelled_during_each_step() {
    cancelled_at_every_step("order-saga", SAGA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_cancelled_during_each_step() {
    cancelled_at_every_step("order", ORDER).await;
}

/// A step fails for good; the run is cancelled at each event of the undoing, which goes on to its end.
async fn cancelled_while_it_undoes(workflow_type: &str, steps: [&str; 4]) {
    for failing in 1..steps.len() {
        for undo in 0.. {
            let place = format!("{workflow_type} without {}, cancelled at undo {undo}", steps[failing]);
            let mut bench = Bench::open(workflow_type).await;
            let call = bench.steps(failing).await;
            call.answer(Err(Failure::non_retryable("Refused", "never")));
            for _ in 0..undo {
                let call = bench.call().await;
                bench.answer_well(call);
            }
            let call = bench.call().await;
            assert!(!call.is_step(), "{place}");
            bench.cancel().await;
            assert!(!call.context.is_cancelled(), "{place}: it is shielded");
            bench.answer_well(call);
            assert_eq!(bench.finish(&place).await, RunStatus::Failed, "{place}: it had failed before");
            let scheduled = scheduled(&bench.test.events("order").await);
            let mut undoings: Vec<_> =
                steps[..failing].iter().rev().filter_map(|step| undo_of(step)).collect();
            undoings.extend((workflow_type == "order").then_some("cancel-order"));
            assert_eq!(scheduled[failing + 1..], undoings, "{place}");
            bench.world.assert_undone(&place);
            bench.test.stop().await;
            if undo + 1 == undoings.len() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_saga_cancelled_while_it_undoes() {
    cancelled_while_it_undoes("order-saga", SAGA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_cancelled_while_it_undoes() {
    cancelled_while_it_undoes("order", ORDER).await;
}

/// The host is killed behind the request to cancel: the attempt under way is lost, and whether it had its
/// effect nobody knows. It is not made again, and is undone with the others.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_during_each_step_and_killed() {
    for (workflow_type, steps) in [("order-saga", SAGA), ("order", ORDER)] {
        for (step, was_made) in (0..steps.len()).flat_map(|step| [(step, true), (step, false)]) {
            let place = format!("{workflow_type} killed during {}, made: {was_made}", steps[step]);
            let mut bench = Bench::open(workflow_type).await;
            let call = bench.steps(step).await;
            bench.cancel().await;
            if was_made {
                bench.world.make(&call);
            }
            let mut bench = bench.restart().await;
            assert_eq!(bench.finish(&place).await, RunStatus::Canceled, "{place}");
            let scheduled = scheduled(&bench.test.events("order").await);
            assert_eq!(scheduled[..=step], steps[..=step], "{place}");
            assert_eq!(scheduled[step + 1..], undoings(workflow_type, step, Manner::Stops), "{place}");
            bench.world.assert_undone(&place);
            bench.test.stop().await;
        }
    }
}

/// Whichever comes first, the answer or the request to cancel, the books are right.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_at_the_moment_at_which_a_step_ends() {
    for round in 0..40 {
        let step = round % 4;
        let place = format!("round {round}, during {}", SAGA[step]);
        let mut bench = Bench::open("order-saga").await;
        let call = bench.steps(step).await;
        let host = bench.test.host.clone();
        let asked = tokio::spawn(async move { host.cancel(support::stop("order")).await });
        bench.answer_well(call);
        // A step may begin before the request arrives; it goes on to its end then.
        let status = finish_racing(&mut bench, &place).await;
        match (asked.await.unwrap(), status) {
            (Ok(_), RunStatus::Canceled) => bench.world.assert_undone(&place),
            // It came while the last step was under way, or later.
            (_, RunStatus::Completed) => assert!(step >= 2, "{place}"),
            (asked, status) => panic!("{place}: {asked:?}, {status:?}"),
        }
        assert_books(&bench.world, status, &place);
        bench.test.stop().await;
    }
}

/// Answers undoings well, and each step once it is asked to stop.
async fn finish_racing(bench: &mut Bench, place: &str) -> RunStatus {
    let host = bench.test.host.clone();
    let order = run("order");
    let end = host.result(&order, support::PATIENCE);
    tokio::pin!(end);
    loop {
        let call = tokio::select! {
            end = &mut end => return end.unwrap().status,
            call = bench.calls.recv() => call.unwrap(),
        };
        if call.is_step() {
            let asked_to_stop = tokio::time::timeout(Duration::from_secs(20), call.context.cancelled()).await;
            assert!(asked_to_stop.is_ok(), "{place}: {} is not asked to stop", call.name);
        }
        bench.answer_well(call);
    }
}

/// Waits for `slow`, which watches for the request to stop or not, and cleans up behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_canceller_waits_for_its_activity_and_cleans_up() {
    for watches in [true, false] {
        let (begun, mut begins) = mpsc::unbounded_channel();
        let mut registry = Registry::default();
        registry.register_fn("slow", move |context: ActivityContext, _: Value| {
            let _ = begun.send(());
            async move {
                context.cancelled().await;
                if watches { Err(context.canceled_failure()) } else { Ok(json!("done all the same")) }
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let test = TestHost::open(folder.path(), registry).await;
        test.deploy("samples").await;
        test.start("canceller", "run", &Value::Null).await;
        begins.recv().await.unwrap();
        assert!(!test.cancel("run").await.unwrap().is_duplicate);
        let end = test.end("run").await;
        let (slow, closed, status) = if watches {
            ("5 ActivityCanceled", "8 WorkflowCanceled", RunStatus::Canceled)
        } else {
            ("5 ActivityCompleted", "8 WorkflowCompleted", RunStatus::Completed)
        };
        assert_eq!(end.status, status);
        assert_eq!(
            lines(&test.events("run").await)[2..],
            [
                "3 WorkflowCancelRequested",
                "4 ActivityCancelRequested 2",
                slow,
                "6 ActivityScheduled noop",
                "7 ActivityCompleted",
                closed,
            ]
        );
        test.stop().await;
    }
}
