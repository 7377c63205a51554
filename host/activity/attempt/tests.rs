use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everfold_core::command::{ActivityScheduled, CancellationType};
use everfold_core::event::ActivityTimeouts;
use everfold_core::ids::{EventId, Namespace, RunId, RunKey};
use everfold_core::retry::RetryPolicy;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::activity::NOOP;
use crate::clock::VirtualTime;
use crate::telemetry::RunNames;

const T0: Timestamp = Timestamp(1_000_000);

/// Attempts under a time that the test moves.
struct Bench {
    time: VirtualTime,
    attempts: Arc<Attempts>,
}

impl Bench {
    fn new(registry: Registry, max_concurrent: usize) -> Self {
        let time = VirtualTime::starting_at(T0);
        let settings = AttemptSettings { max_concurrent, max_result_bytes: 100 };
        let attempts = Attempts::new(registry, Clock::from_source(time.clone()), settings);
        Self { time, attempts: Arc::new(attempts) }
    }

    async fn run(&self, task: AttemptTask) -> String {
        let heartbeats = self.attempts.heartbeats(task.heartbeat_details.clone());
        describe(self.attempts.run(task, CancellationToken::new(), heartbeats).await)
    }

    fn spawn(&self, task: AttemptTask, cancellation: CancellationToken) -> JoinHandle<String> {
        let attempts = Arc::clone(&self.attempts);
        let heartbeats = attempts.heartbeats(task.heartbeat_details.clone());
        tokio::spawn(async move { describe(attempts.run(task, cancellation, heartbeats).await) })
    }
}

fn describe(outcome: AttemptOutcome) -> String {
    match outcome {
        AttemptOutcome::Completed(result) => format!("completed: {}", result.to_value()),
        AttemptOutcome::Canceled(failure) => format!("canceled: {failure}"),
        AttemptOutcome::CompletesLater { since } => format!("completes later, begun at {since}"),
        AttemptOutcome::Failed(failure) => match &failure.kind {
            FailureKind::Application(application) if application.non_retryable => {
                format!("failed for good: {failure}")
            }
            FailureKind::TimedOut(timeout) => {
                format!("{:?} {:?}: {failure}", timeout.timeout_type, timeout.last_heartbeat_details.len())
            }
            _ => format!("failed: {failure}"),
        },
    }
}

fn task(activity_type: &str, input: &Value, timeouts: ActivityTimeouts) -> AttemptTask {
    AttemptTask {
        key: RunKey { namespace: Namespace::default(), run_id: RunId([7; 16]) },
        names: RunNames::of_nobody("w", "test"),
        scheduled_event_id: EventId(2),
        scheduled: Arc::new(ActivityScheduled {
            activity_type: activity_type.to_owned(),
            input: Payload::json(input).expect("JSON"),
            task_queue: "default".to_owned(),
            timeouts,
            retry_policy: RetryPolicy::default(),
            cancellation_type: CancellationType::default(),
            headers: Vec::new(),
            idempotency_key: "key".to_owned(),
            summary: String::new(),
        }),
        scheduled_at: T0,
        attempt: 1,
        heartbeat_details: None,
        desk: Arc::default(),
    }
}

fn start_to_close(ms: u64) -> ActivityTimeouts {
    ActivityTimeouts { start_to_close_ms: Some(ms), ..ActivityTimeouts::default() }
}

#[derive(Debug, serde::Deserialize)]
struct Numbers {
    left: i64,
    right: i64,
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_fn("add", |_, numbers: Numbers| async move { Ok(numbers.left + numbers.right) });
    registry.register_fn("big", |_, size: usize| async move { Ok("x".repeat(size)) });
    registry.register_fn("panic", |_, message: String| async move {
        assert!(message.is_empty(), "{message}");
        Ok(())
    });
    registry.register_fn("panic-early", |_, (): ()| -> std::future::Ready<Result<(), Failure>> {
        panic!("before the future")
    });
    registry.register_fn("fail", |_, (): ()| async { Err::<(), _>(Failure::application("Busy", "later")) });
    registry.register_fn("hang", |_, (): ()| std::future::pending::<Result<(), Failure>>());
    registry.register_fn("stop", |context: ActivityContext, (): ()| async move {
        context.cancelled().await;
        Err::<(), _>(context.canceled_failure())
    });
    registry.register_fn("finish", |context: ActivityContext, (): ()| async move {
        context.cancelled().await;
        Ok("done all the same")
    });
    registry
}

#[tokio::test]
async fn input_output_failures_and_panics() {
    let bench = Bench::new(registry(), 8);
    let cases = [
        (NOOP, json!({"anything": true}), "completed: null"),
        ("add", json!({"left": 1, "right": 2}), "completed: 3"),
        (
            "add",
            json!({"left": 1}),
            "failed for good: InvalidActivityInput: the input does not decode: missing field `right` at line 1 column 10",
        ),
        ("big", json!(20), "completed: \"xxxxxxxxxxxxxxxxxxxx\""),
        (
            "big",
            json!(200),
            "failed for good: ResultTooLarge: the result has 220 bytes; at most 100 are allowed",
        ),
        ("panic", json!("no such shelf"), "failed: ActivityPanicked: no such shelf"),
        ("panic-early", json!(null), "failed: ActivityPanicked: before the future"),
        ("fail", json!(null), "failed: Busy: later"),
        (
            "ship",
            json!(null),
            "failed: ActivityNotRegistered: no activity `ship` is registered here; registered: add, big, fail, \
             finish, hang, noop, panic, panic-early, stop",
        ),
    ];
    for (activity_type, input, expected) in cases {
        assert_eq!(bench.run(task(activity_type, &input, start_to_close(1_000))).await, expected);
    }
    assert_eq!(Registry::empty().types().count(), 0, "no-op can be left out");
}

#[tokio::test]
async fn whichever_time_out_passes_first_ends_the_attempt() {
    let both =
        |start, schedule| ActivityTimeouts { schedule_to_close_ms: Some(schedule), ..start_to_close(start) };
    let cases = [
        (start_to_close(50), "StartToClose 1: TimedOut: the attempt took longer than 50 ms"),
        (both(50, 60), "StartToClose 1: TimedOut: the attempt took longer than 50 ms"),
        (both(60, 50), "ScheduleToClose 1: TimedOut: all attempts together took longer than 50 ms"),
        (both(50, 50), "ScheduleToClose 1: TimedOut: all attempts together took longer than 50 ms"),
    ];
    let bench = Bench::new(registry(), 8);
    for (timeouts, expected) in cases {
        let mut task = task("hang", &json!(null), timeouts);
        task.heartbeat_details = Some(Payload::default());
        task.scheduled_at = bench.attempts.clock.now();
        let running = bench.spawn(task, CancellationToken::new());
        bench.time.until_sleeping(1).await;
        bench.time.advance(Duration::from_millis(49));
        assert!(bench.time.next_wake().is_some(), "it is not over a millisecond early");
        bench.time.advance(Duration::from_millis(1));
        assert_eq!(running.await.expect("the attempt ends"), expected);
    }

    let late = task("add", &json!({"left": 1, "right": 2}), both(50, 60));
    assert_eq!(
        bench.run(late).await,
        "ScheduleToClose 0: TimedOut: all attempts together took longer than 60 ms",
        "nothing is begun after the deadline"
    );
}

#[tokio::test]
async fn an_attempt_out_of_time_is_told_and_dropped() {
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let told = Arc::new(Notify::new());
    let mut registry = Registry::empty();
    let tell = Arc::clone(&told);
    registry.register_fn("hang", move |context: ActivityContext, (): ()| {
        let tell = Arc::clone(&tell);
        // Work that the activity handed to a task of its own hears of the end through the context.
        tokio::spawn(async move {
            context.cancelled().await;
            tell.notify_one();
        });
        async {
            let _guard = PanicsWhenDropped;
            std::future::pending::<Result<(), Failure>>().await
        }
    });
    let bench = Bench::new(registry, 1);
    let cancellation = CancellationToken::new();
    let running = bench.spawn(task("hang", &json!(null), start_to_close(50)), cancellation.clone());
    bench.time.until_sleeping(1).await;
    bench.time.advance(Duration::from_millis(50));
    assert_eq!(
        running.await.expect("a panic while dropping goes no further"),
        "StartToClose 0: TimedOut: the attempt took longer than 50 ms"
    );
    told.notified().await;
    assert!(!cancellation.is_cancelled(), "the next attempt is not cancelled with this one");
    assert_eq!(bench.attempts.slots.available_permits(), 1);
}

#[tokio::test]
async fn cancellation_reaches_the_activity_and_only_its_own_stop_counts() {
    let bench = Bench::new(registry(), 1);
    for (activity_type, expected) in [
        ("stop", "canceled: Canceled: activity stop stopped on request"),
        ("finish", "completed: \"done all the same\""),
    ] {
        let cancellation = CancellationToken::new();
        let running =
            bench.spawn(task(activity_type, &json!(null), start_to_close(50)), cancellation.clone());
        bench.time.until_sleeping(1).await;
        cancellation.cancel();
        assert_eq!(running.await.expect("the attempt ends"), expected);
    }
    let canceled = CancellationToken::new();
    canceled.cancel();
    let heartbeats = bench.attempts.heartbeats(None);
    let outcome =
        bench.attempts.run(task(NOOP, &json!(null), start_to_close(50)), canceled, heartbeats).await;
    assert_eq!(describe(outcome), "canceled: Canceled: activity noop was canceled before it started");
}

#[tokio::test]
async fn waiting_for_a_slot_counts_to_all_time_outs_but_start_to_close() {
    let running_now = Arc::new(AtomicUsize::new(0));
    let release = Arc::new(Notify::new());
    let mut registry = registry();
    let (count, gate) = (Arc::clone(&running_now), Arc::clone(&release));
    registry.register_fn("hold", move |_, (): ()| {
        let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            gate.notified().await;
            Ok(())
        }
    });
    let bench = Bench::new(registry, 1);
    let token = CancellationToken::new;
    let holder = bench.spawn(task("hold", &json!(null), start_to_close(10_000)), token());
    bench.time.until_sleeping(1).await;

    let impatient = ActivityTimeouts { schedule_to_start_ms: Some(20), ..start_to_close(1_000) };
    let limited = ActivityTimeouts { schedule_to_close_ms: Some(40), ..start_to_close(1_000) };
    let patient = ActivityTimeouts { schedule_to_close_ms: Some(5_000), ..start_to_close(30) };
    let impatient = bench.spawn(task("hold", &json!(null), impatient), token());
    let limited = bench.spawn(task("hold", &json!(null), limited), token());
    let patient = bench.spawn(task("hold", &json!(null), patient), token());
    bench.time.until_sleeping(4).await;
    bench.time.advance(Duration::from_millis(100));
    assert_eq!(
        impatient.await.expect("it ends"),
        "ScheduleToStart 0: TimedOut: no slot was free within 20 ms"
    );
    assert_eq!(
        limited.await.expect("it ends"),
        "ScheduleToClose 0: TimedOut: all attempts together took longer than 40 ms"
    );
    assert_eq!(running_now.load(Ordering::SeqCst), 1, "the bound holds");

    release.notify_one();
    assert_eq!(holder.await.expect("it ends"), "completed: null");
    // The patient one waited 100 ms and now has 30 of its own.
    while bench.time.next_wake() != Some(T0.plus_ms(130)) {
        tokio::task::yield_now().await;
    }
    release.notify_one();
    assert_eq!(patient.await.expect("it ends"), "completed: null");
}
