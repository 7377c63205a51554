//! Heartbeats: what the last one said reaches the next attempt behind a failure, a time-out, an orderly
//! stop and a crash; whoever looks sees it; and they tell an activity that it is to stop.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::time::Duration;

use everfold::activity::{ActivityContext, Registry};
use everfold::clock::{Clock, TimeSource as _, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::PendingActivityInfo;
use everfold_core::decision::PendingActivity;
use everfold_core::failure::{Failure, FailureKind, TimeoutType};
use everfold_core::ids::Timestamp;
use everfold_core::machine::RunStatus;
use serde_json::{Value, json};
use support::{SAGA_ANSWERS, TestHost, lines, run, saga_input, scheduled};
use tokio::sync::{mpsc, oneshot};

const T0: Timestamp = Timestamp(1_700_000_000_000);
/// Without a heartbeat for so long, an attempt of `arrange-shipping` is given up.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A heartbeat is written down at the soonest so long behind the one before: 80 % of that.
const PAUSE: Duration = Duration::from_secs(8);
const SECOND: Duration = Duration::from_secs(1);

/// An attempt of `arrange-shipping`, which does what the test says.
struct Attempt {
    context: ActivityContext,
    /// What the attempt before had said when this one began.
    found: Option<Value>,
    answer: oneshot::Sender<Result<Value, Failure>>,
}

impl Attempt {
    fn number(&self) -> u32 {
        self.context.info().attempt
    }

    fn heartbeat(&self, parcels: u32) {
        self.context.heartbeat(&json!({ "parcels": parcels })).unwrap();
    }

    fn fail(self) {
        self.answer.send(Err(Failure::application("Unreachable", "no answer came"))).unwrap();
    }

    fn succeed(self) {
        self.answer.send(Ok(json!({ "shipment_id": "s-1", "tracking_number": "t-1" }))).unwrap();
    }
}

/// A host whose `arrange-shipping` the test plays, on a clock that it moves.
struct Bench {
    test: TestHost,
    time: VirtualTime,
    attempts: mpsc::UnboundedReceiver<Attempt>,
}

impl Bench {
    async fn open(folder: &Path, time: &VirtualTime) -> Self {
        let mut registry = Registry::default();
        for (name, answer) in SAGA_ANSWERS {
            registry.register_fn(name, move |_: ActivityContext, _: Value| async move { Ok(answer()) });
        }
        let (begun, attempts) = mpsc::unbounded_channel();
        registry.register_fn("arrange-shipping", move |context: ActivityContext, _: Value| {
            let (answer, answered) = oneshot::channel();
            let found = context.heartbeat_details();
            let _ = begun.send(Attempt { context, found, answer });
            async move { answered.await.expect("the test answers") }
        });
        let clock = Clock::from_source(time.clone());
        let (settings, engine) = (HostSettings::default(), EngineSettings::default());
        let test = TestHost::open_at(folder, registry, &settings, engine, clock).await;
        Self { test, time: time.clone(), attempts }
    }

    async fn begin(folder: &Path) -> Self {
        let bench = Self::open(folder, &VirtualTime::starting_at(T0)).await;
        bench.test.deploy("order").await;
        bench.test.start("order-saga", "order", &saga_input()).await;
        bench
    }

    /// The next attempt; time passes until it begins.
    async fn attempt(&mut self) -> Attempt {
        loop {
            tokio::select! {
                biased;
                attempt = self.attempts.recv() => return attempt.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
            // The pause before an attempt is all that may pass: nothing else is under way.
            if self.row().await.is_some_and(|row| row.next_attempt_at > self.time.now()) {
                self.time.advance(SECOND);
            }
        }
    }

    async fn shipping(&self) -> Option<PendingActivityInfo> {
        let description = self.test.host.describe(&run("order")).await.unwrap();
        description.pending_activities.into_iter().find(|open| open.activity_type == "arrange-shipping")
    }

    async fn row(&self) -> Option<PendingActivity> {
        self.shipping().await.and_then(|open| open.attempts)
    }

    /// Waits until the row of `arrange-shipping` is as wanted.
    async fn row_where(&self, is_so: impl Fn(&PendingActivity) -> bool) -> PendingActivity {
        let found = |run: &everfold::runner::api::Description| {
            run.pending_activities.iter().find_map(|open| open.attempts.clone()).filter(|row| is_so(row))
        };
        let description = self.test.until("order", |run| found(run).is_some()).await;
        found(&description).unwrap()
    }

    /// Waits until so many parcels are written down, and the pause behind that has begun.
    async fn written(&self, parcels: u32) -> PendingActivity {
        let row = self.row_where(|row| said(row) == Some(json!({ "parcels": parcels }))).await;
        // The attempt's two time-outs, and the pause.
        self.time.until_sleeping(3).await;
        row
    }

    async fn completes(self, attempt: u32) {
        assert_eq!(self.test.end("order").await.status, RunStatus::Completed);
        let events = self.test.events("order").await;
        let closed = events.iter().rev().find_map(|event| match &event.kind {
            everfold_core::event::EventKind::Input(everfold_core::event::Input::ActivityCompleted(
                closed,
            )) => Some(closed.attempt),
            _ => None,
        });
        assert_eq!(closed, Some(attempt));
        self.test.stop().await;
    }
}

/// What the last heartbeat said.
fn said(row: &PendingActivity) -> Option<Value> {
    row.heartbeat_details.as_ref().map(everfold_core::payload::Payload::to_value)
}

fn parcels(parcels: u32) -> Option<Value> {
    Some(json!({ "parcels": parcels }))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attempt_behind_a_failure_finds_what_was_said_last() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::begin(folder.path()).await;
    let first = bench.attempt().await;
    assert_eq!((first.number(), &first.found), (1, &None));
    first.heartbeat(1);
    first.heartbeat(2);
    first.fail();
    let row = bench.row_where(|row| row.last_failure.is_some()).await;
    assert_eq!((row.attempt, said(&row)), (2, parcels(2)), "whoever looks sees it between attempts");

    let second = bench.attempt().await;
    assert_eq!((second.number(), &second.found), (2, &parcels(2)));
    // One that says nothing hands on what it found.
    second.fail();
    let third = bench.attempt().await;
    assert_eq!((third.number(), &third.found), (3, &parcels(2)));
    third.heartbeat(3);
    third.succeed();
    bench.completes(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_falls_silent_is_given_up_and_the_next_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::begin(folder.path()).await;
    let first = bench.attempt().await;
    first.heartbeat(1);
    bench.written(1).await;
    // Heartbeats in time keep it alive for longer than one alone would.
    for heartbeat in 2..=4 {
        bench.time.advance(HEARTBEAT - SECOND);
        first.heartbeat(heartbeat);
        bench.written(heartbeat).await;
    }
    assert!(!first.context.is_cancelled());
    let at = bench.time.now();
    let waiting = bench.row().await.unwrap();
    assert_eq!((waiting.attempt, waiting.last_heartbeat_at, &waiting.last_failure), (1, Some(at), &None));

    bench.time.advance(HEARTBEAT);
    tokio::time::timeout(support::PATIENCE, first.context.cancelled()).await.unwrap();
    let row = bench.row_where(|row| row.last_failure.is_some()).await;
    let failure = row.last_failure.clone().unwrap();
    let FailureKind::TimedOut(timeout) = &failure.kind else { panic!("{failure}") };
    assert_eq!(timeout.timeout_type, TimeoutType::Heartbeat);
    let details: Vec<Value> =
        timeout.last_heartbeat_details.iter().map(everfold_core::payload::Payload::to_value).collect();
    assert_eq!(details, [json!({ "parcels": 4 })]);

    let second = bench.attempt().await;
    assert_eq!((second.number(), &second.found), (2, &parcels(4)));
    second.succeed();
    bench.completes(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_written_down_at_once_and_then_now_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::begin(folder.path()).await;
    let first = bench.attempt().await;
    let shipping = bench.shipping().await.unwrap();
    assert!(shipping.attempts.is_none(), "no row before the first heartbeat: {shipping:?}");
    first.heartbeat(1);
    let row = bench.written(1).await;
    assert_eq!((row.attempt, row.last_heartbeat_at, row.last_failure), (1, Some(T0), None));

    bench.time.advance(SECOND);
    for heartbeat in 2..=500 {
        first.heartbeat(heartbeat);
    }
    assert_eq!(said(&bench.row().await.unwrap()), parcels(1), "not each one is worth a transaction");
    bench.time.advance(PAUSE - SECOND);
    let row = bench.written(500).await;
    assert_eq!(row.last_heartbeat_at, Some(T0.plus_ms(1_000)), "when it was sent, not when it was written");
    first.succeed();
    bench.completes(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attempt_behind_a_crash_finds_what_was_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::begin(folder.path()).await;
    for attempt in 1..=3 {
        let under_way = bench.attempt().await;
        assert_eq!(under_way.number(), attempt);
        assert_eq!(under_way.found, (attempt > 1).then(|| json!({ "parcels": attempt - 1 })));
        under_way.heartbeat(attempt);
        bench.written(attempt).await;
        bench.test.kill().await;
        bench = Bench::open(folder.path(), &bench.time).await;
    }
    let last = bench.attempt().await;
    assert_eq!((last.number(), &last.found), (4, &parcels(3)));
    let failure = bench.row().await.unwrap().last_failure.unwrap();
    assert!(failure.message.contains("attempt 3 was lost"), "{failure}");
    last.succeed();
    bench.completes(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_two_attempts_loses_nothing_and_counts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::begin(folder.path()).await;
    let first = bench.attempt().await;
    first.heartbeat(7);
    first.fail();
    bench.row_where(|row| row.last_failure.is_some()).await;
    bench.test.kill().await;
    let mut bench = Bench::open(folder.path(), &bench.time).await;
    // The activity until its next attempt.
    bench.time.until_sleeping(1).await;
    let second = bench.attempt().await;
    assert_eq!((second.number(), &second.found), (2, &parcels(7)), "no attempt was under way");
    second.succeed();
    bench.completes(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_keeps_also_what_was_not_written_down_yet() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::begin(folder.path()).await;
    let first = bench.attempt().await;
    first.heartbeat(1);
    bench.written(1).await;
    first.heartbeat(2);
    bench.test.stop().await;
    let mut bench = Bench::open(folder.path(), &bench.time).await;
    let second = bench.attempt().await;
    assert_eq!((second.number(), &second.found), (2, &parcels(2)));
    second.succeed();
    bench.completes(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_tells_an_activity_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::begin(folder.path()).await;
    let first = bench.attempt().await;
    first.heartbeat(1);
    bench.test.cancel("order").await.unwrap();
    tokio::time::timeout(support::PATIENCE, first.context.cancelled()).await.unwrap();
    let stop = first.context.heartbeat(&json!({ "parcels": 2 })).unwrap_err();
    assert!(matches!(stop.kind, FailureKind::Canceled(_)), "{stop}");
    let shipping = bench.shipping().await.unwrap();
    assert!(shipping.cancel_requested, "it is asked, and goes on until it says that it stopped");
    first.answer.send(Err(stop)).unwrap();

    assert_eq!(bench.test.end("order").await.status, RunStatus::Canceled);
    let events = bench.test.events("order").await;
    let history = lines(&events);
    let asked = history.iter().position(|line| line.ends_with("WorkflowCancelRequested")).unwrap();
    assert!(history[asked + 1].contains("ActivityCancelRequested"), "{history:?}");
    assert!(history[asked + 2].ends_with("ActivityCanceled"), "{history:?}");
    assert_eq!(
        scheduled(&events)[4..],
        ["cancel-shipment", "restock-inventory", "refund-payment", "release-inventory-reservation"]
    );
    bench.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_stop_survives_the_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::begin(folder.path()).await;
    let first = bench.attempt().await;
    first.heartbeat(1);
    bench.written(1).await;
    bench.test.cancel("order").await.unwrap();
    bench.test.kill().await;
    // The attempt was lost; it may have had its effect, so that it is undone, and is not made again.
    let mut bench = Bench::open(folder.path(), &bench.time).await;
    assert_eq!(bench.test.end("order").await.status, RunStatus::Canceled);
    assert!(bench.attempts.try_recv().is_err(), "no further attempt is made");
    assert_eq!(
        scheduled(&bench.test.events("order").await)[4..],
        ["cancel-shipment", "restock-inventory", "refund-payment", "release-inventory-reservation"]
    );
    bench.test.stop().await;
}
