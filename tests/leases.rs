//! Attempts that are made outside the host: task queues, leases, tokens; also behind crashes, and against every
//! time-out. Time is virtual; the real Python worker is in `workers.rs`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use everfold::activity::{ActivityContext, Registry};
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::{ActivityOperation, ActivityState, ActivityTask, ApiError, PollRequest};
use everfold::store::CommitError;
use everfold::testing::TestStore;
use everfold_core::failure::Failure;
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use futures::future::join;
use serde_json::{Value, json};
use support::outside::{ACTIVITY, Outside, T0, causes, details, poll, refusal};
use support::{PATIENCE, TestHost, lines, returned};
use tokio::sync::mpsc;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_makes_what_it_polls_for_and_its_result_is_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.nothing().await;
    host.start("run", json!({ "input": { "n": 7 }, "schedule_to_close_ms": 90_000 })).await;
    assert_eq!(host.until("run", ActivityState::WaitingForWorker).await.task_queue, "python");
    host.time.advance(SECOND * 50);
    let task = host.poll().await;
    assert_eq!((task.attempt, task.scheduled_event_id, task.scheduled_at), (1, ACTIVITY, T0));
    assert_eq!(
        (task.scheduled.activity_type.as_str(), task.scheduled.input.to_value()),
        ("work", json!({ "n": 7 }))
    );
    assert_eq!(task.deadline, Some(T0.plus_ms(90_000)), "the first time-out that passes");
    let open = host.activity("run").await;
    assert_eq!(open.state, ActivityState::Started);
    let lease = open.attempts.unwrap().lease.unwrap();
    assert_eq!((lease.worker.as_deref(), lease.since), (Some("w-1"), T0.plus_ms(50_000)));
    host.nothing().await;

    host.complete(&task.token, json!("done")).await.unwrap();
    let end = host.test.end("run").await;
    assert_eq!(returned(&end), json!("done"));
    host.complete(&task.token, json!("done")).await.unwrap();
    assert_eq!(refusal(host.complete(&task.token, json!("else")).await), "attempt over");
    assert_eq!(refusal(host.fail(&task.token, "Late").await), "attempt over");
    assert_eq!(refusal(host.heartbeat(&task.token, json!(1)).await), "attempt over");
    assert_eq!(refusal(host.cancel(&task.token).await), "attempt over");
    let expected =
        ["1 WorkflowStarted", "2 ActivityScheduled work", "3 ActivityCompleted", "4 WorkflowCompleted"];
    assert_eq!(lines(&host.test.events("run").await), expected);
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_handed_out_in_order_to_who_runs_their_type() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    for (id, activity) in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "c")] {
        host.start(id, json!({ "activity": activity })).await;
        host.until(id, ActivityState::WaitingForWorker).await;
    }
    let mut got = Vec::new();
    for types in [&["b", "nothing"][..], &["a", "c"], &[], &["c"]] {
        got.push(host.poll_for("w", types).await.workflow_id.0);
    }
    assert_eq!(got, ["2", "1", "3", "4"]);

    // Who waits longest is first, and gets only what it runs.
    let waits = |types: &'static [&'static str]| {
        let host = host.test.host.clone();
        tokio::spawn(async move { host.poll(poll("w", types), PATIENCE).await.unwrap().unwrap() })
    };
    let (only_b, any) = (waits(&["b"]), waits(&[]));
    host.start("5", json!({ "activity": "a" })).await;
    assert_eq!(any.await.unwrap().workflow_id.0, "5");
    host.start("6", json!({ "activity": "b" })).await;
    assert_eq!(only_b.await.unwrap().workflow_id.0, "6");
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_nobody_waits_for_leaves_its_attempt_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("run", json!({})).await;
    host.until("run", ActivityState::WaitingForWorker).await;
    let held = host.test.store.hold().await;
    let asked = host.test.store.asked();
    let lost = tokio::spawn({
        let host = host.test.host.clone();
        async move { host.poll(poll("gone", &[]), PATIENCE).await }
    });
    while host.test.store.asked() == asked {
        tokio::task::yield_now().await;
    }
    // Its lease is on the way to the disk.
    lost.abort();
    assert!(lost.await.unwrap_err().is_cancelled());
    drop(held);
    let task = host.poll().await;
    assert_eq!(task.attempt, 1, "nothing has begun that would count");
    assert_eq!(host.activity("run").await.attempts.unwrap().lease.unwrap().worker.as_deref(), Some("w-1"));
    host.complete(&task.token, json!(1)).await.unwrap();
    assert_eq!(host.test.end("run").await.status, RunStatus::Completed);
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_survives_a_crash_and_what_waits_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("leased", json!({ "heartbeat_ms": 10_000 })).await;
    let task = host.poll().await;
    host.heartbeat(&task.token, json!({ "at": 1 })).await.unwrap();
    host.test
        .until("leased", |run| {
            let row = run.pending_activities.first().and_then(|open| open.attempts.as_ref());
            row.is_some_and(|row| row.heartbeat_details.is_some())
        })
        .await;
    host.start("waiting", json!({})).await;
    host.until("waiting", ActivityState::WaitingForWorker).await;

    let mut host = host;
    for _ in 0..2 {
        host = host.restart(folder.path()).await;
        // Nobody could send a heartbeat meanwhile: it is awaited from now on.
        host.time.advance(SECOND * 8);
    }
    let other = host.poll().await;
    assert_eq!((other.workflow_id.0.as_str(), other.attempt), ("waiting", 1));
    assert_eq!(host.activity("leased").await.state, ActivityState::Started);
    host.heartbeat(&task.token, json!({ "at": 2 })).await.unwrap();
    host.complete(&task.token, json!("after all")).await.unwrap();
    assert_eq!(returned(&host.test.end("leased").await), json!("after all"));

    // In order, too: with what the last heartbeat said.
    host.heartbeat(&other.token, json!({ "at": 1 })).await.unwrap();
    host.heartbeat(&other.token, json!({ "at": 2 })).await.unwrap();
    let time = host.time.clone();
    host.test.stop().await;
    let host = Outside::open(folder.path(), Registry::default(), &time).await;
    let row = host.until("waiting", ActivityState::Started).await.attempts.unwrap();
    assert_eq!(row.heartbeat_details.unwrap().to_value(), json!({ "at": 2 }));
    host.fail(&other.token, "Broken").await.unwrap();
    host.time.advance(SECOND);
    let next = host.poll().await;
    assert_eq!((next.attempt, details(&next)), (2, Some(json!({ "at": 2 }))));
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_falls_silent_ends_and_its_token_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("run", json!({ "heartbeat_ms": 10_000, "initial_interval_ms": 60_000 })).await;
    let first = host.poll().await;
    host.time.advance(SECOND * 9);
    host.heartbeat(&first.token, json!({ "page": 3 })).await.unwrap();
    host.time.advance(SECOND * 9);
    assert_eq!(host.activity("run").await.state, ActivityState::Started, "it was heard 9 s ago");
    host.time.advance(SECOND);
    let open = host.until("run", ActivityState::Scheduled).await;
    let row = open.attempts.unwrap();
    assert_eq!((row.attempt, row.next_attempt_at), (2, T0.plus_ms(79_000)));
    assert!(row.last_failure.unwrap().message.contains("no heartbeat for 10000 ms"));

    // In the back-off there is no attempt: whoever made the last one is told so, and no heartbeat is awaited.
    assert_eq!(refusal(host.heartbeat(&first.token, json!({ "page": 4 })).await), "attempt over");
    host.time.advance(SECOND * 40);
    assert_eq!(refusal(host.complete(&first.token, json!(1)).await), "attempt over");
    let open = host.activity("run").await;
    assert_eq!((open.state, open.attempts.unwrap().attempt), (ActivityState::Scheduled, 2));
    host.nothing().await;
    host.time.advance(SECOND * 20);
    let second = host.poll().await;
    assert_eq!((second.attempt, details(&second)), (2, Some(json!({ "page": 3 }))));
    assert_eq!(refusal(host.fail(&first.token, "Late").await), "attempt over");
    host.complete(&second.token, json!(2)).await.unwrap();
    assert_eq!(host.test.end("run").await.status, RunStatus::Completed);
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_to_close_runs_from_the_lease_also_behind_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("run", json!({ "maximum_attempts": 2, "initial_interval_ms": 1 })).await;
    host.time.advance(SECOND * 3_600);
    let first = host.poll().await;
    host.time.advance(SECOND * 59);
    host.heartbeat(&first.token, json!(1)).await.unwrap();
    host.time.advance(SECOND);
    host.until("run", ActivityState::Scheduled).await;
    host.time.advance(Duration::from_millis(1));
    let second = host.poll().await;
    assert_eq!(second.attempt, 2);
    assert_eq!(refusal(host.complete(&first.token, json!(1)).await), "attempt over");
    let host = host.restart(folder.path()).await;
    host.time.advance(SECOND * 60);
    let end = host.test.end("run").await;
    assert_eq!(causes(&end)[1], "TimedOut: the attempt took longer than 60000 ms");
    assert_eq!(refusal(host.complete(&second.token, json!(1)).await), "attempt over");
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_nobody_serves_ends_by_schedule_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("run", json!({ "schedule_to_start_ms": 5_000 })).await;
    host.time.advance(SECOND * 4);
    assert_eq!(host.until("run", ActivityState::WaitingForWorker).await.attempts, None);
    host.time.advance(SECOND);
    let end = host.test.end("run").await;
    assert_eq!(end.status, RunStatus::Failed);
    let expected = ["ActivityFailure: activity work failed", "TimedOut: no worker was free within 5000 ms"];
    assert_eq!(causes(&end), expected, "another attempt would wait in the same queue");
    host.nothing().await;
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_native_code_serves_waits_for_a_worker() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    // A type that nobody knows, and a native one on another queue.
    host.start("unknown", json!({ "task_queue": null })).await;
    host.start("elsewhere", json!({ "activity": "noop" })).await;
    host.start("native", json!({ "activity": "noop", "task_queue": null })).await;
    assert_eq!(host.test.end("native").await.status, RunStatus::Completed);
    for id in ["unknown", "elsewhere"] {
        host.until(id, ActivityState::WaitingForWorker).await;
    }
    let default = PollRequest { task_queue: "default".to_owned(), ..poll("w-1", &[]) };
    let task = host.test.host.poll(default, PATIENCE).await.unwrap().unwrap();
    assert_eq!(task.workflow_id.0, "unknown");
    assert_eq!(host.poll().await.workflow_id.0, "elsewhere");
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_may_name_its_next_try_and_is_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("run", json!({ "initial_interval_ms": 3_600_000 })).await;
    let first = host.poll().await;
    host.fail_until(&first.token, 7_000).await.unwrap();
    let row = host.activity("run").await.attempts.unwrap();
    assert_eq!((row.attempt, row.next_attempt_at, row.lease), (2, T0.plus_ms(7_000), None));
    host.fail_until(&first.token, 7_000).await.unwrap();
    assert_eq!(refusal(host.fail_until(&first.token, 8_000).await), "attempt over");
    assert_eq!(host.activity("run").await.attempts.unwrap().attempt, 2, "it failed once");
    host.time.advance(SECOND * 7);

    let second = host.poll().await;
    let last = Failure::non_retryable("Refused", "never").caused_by(Failure::application("Deeper", "no"));
    host.test.host.fail_activity(&second.token, last.clone()).await.unwrap();
    let end = host.test.end("run").await;
    assert_eq!(causes(&end), ["ActivityFailure: activity work failed", "Refused: never", "Deeper: no"]);
    host.test.host.fail_activity(&second.token, last).await.unwrap();
    assert_eq!(refusal(host.fail(&second.token, "Refused").await), "attempt over");
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_to_close_cuts_a_retry_off_and_carries_the_last_failure() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    let limited = json!({ "schedule_to_close_ms": 10_000, "initial_interval_ms": 4_000 });
    host.start("cut", limited.clone()).await;
    let first = host.poll().await;
    host.time.advance(SECOND * 6);
    host.fail(&first.token, "Busy").await.unwrap();
    let expected = [
        "ActivityFailure: activity work failed",
        "TimedOut: the next attempt would pass the schedule-to-close time-out",
        "Busy: it went wrong",
    ];
    assert_eq!(causes(&host.test.end("cut").await), expected);
    host.fail(&first.token, "Busy").await.unwrap();

    // The same where it passes in the middle of the next attempt, or of the wait for it.
    let expected = [
        "ActivityFailure: activity work failed",
        "TimedOut: all attempts together took longer than 10000 ms",
        "Busy: it went wrong",
    ];
    for (id, is_leased) in [("leased", true), ("queued", false)] {
        host.start(id, limited.clone()).await;
        let first = host.poll().await;
        host.fail(&first.token, "Busy").await.unwrap();
        host.time.advance(SECOND * 4);
        if is_leased {
            assert_eq!(host.poll().await.attempt, 2);
        } else {
            host.until(id, ActivityState::WaitingForWorker).await;
        }
        host.time.advance(SECOND * 6);
        assert_eq!(causes(&host.test.end(id).await), expected, "{id}");
    }
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_is_heard_in_a_heartbeat_and_reported_by_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("run", json!({})).await;
    let task = host.poll().await;
    assert_eq!(refusal(host.cancel(&task.token).await), "cancel not requested");
    assert!(!host.heartbeat(&task.token, json!(1)).await.unwrap().cancel_requested);
    host.test.cancel("run").await.unwrap();
    host.test.until("run", |run| run.pending_activities.iter().any(|open| open.cancel_requested)).await;
    let host = host.restart(folder.path()).await;
    assert!(host.heartbeat(&task.token, json!(2)).await.unwrap().cancel_requested);
    host.cancel(&task.token).await.unwrap();
    assert_eq!(host.test.end("run").await.status, RunStatus::Canceled);
    host.cancel(&task.token).await.unwrap();
    let expected = [
        "1 WorkflowStarted",
        "2 ActivityScheduled work",
        "3 WorkflowCancelRequested",
        "4 ActivityCancelRequested 2",
        "5 ActivityCanceled",
        "6 WorkflowCanceled",
    ];
    assert_eq!(lines(&host.test.events("run").await), expected);

    // One that waits for a worker has nobody to ask.
    host.start("queued", json!({})).await;
    host.until("queued", ActivityState::WaitingForWorker).await;
    host.test.cancel("queued").await.unwrap();
    assert_eq!(host.test.end("queued").await.status, RunStatus::Canceled);
    host.nothing().await;
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_result_and_a_cancellation_that_race_one_counts() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    for round in 0..20 {
        let id = format!("run-{round}");
        host.start(&id, json!({})).await;
        let task = host.poll().await;
        host.request_cancel(&id, &task.token).await;
        let (completed, canceled) = match round % 2 {
            0 => join(host.complete(&task.token, json!(round)), host.cancel(&task.token)).await,
            _ => {
                let (canceled, completed) =
                    join(host.cancel(&task.token), host.complete(&task.token, json!(round))).await;
                (completed, canceled)
            }
        };
        let end = host.test.end(&id).await;
        if completed.is_ok() {
            assert_eq!(returned(&end), json!(round), "a workflow may complete all the same");
            assert_eq!(refusal(canceled), "attempt over");
        } else {
            assert_eq!(end.status, RunStatus::Canceled);
            canceled.unwrap();
            assert_eq!(refusal(completed), "attempt over");
        }
        let closed = lines(&host.test.events(&id).await)
            .iter()
            .filter(|line| line.ends_with("ActivityCompleted") || line.ends_with("ActivityCanceled"))
            .count();
        assert_eq!(closed, 1, "{id}");
    }
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_refused_where_it_names_nothing_and_too_much_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.start("run", json!({})).await;
    let task = host.poll().await;
    for token in ["", "x", "ÄÖ", &task.token[..50], &format!("{}A", &task.token[..40])] {
        assert_eq!(refusal(host.complete(token, json!(1)).await), "not found", "{token}");
    }
    // The same attempt under a lease that was never given.
    let (head, tail) = task.token.split_at(45);
    let guessed = format!("{head}{}{}", if tail.starts_with('A') { "B" } else { "A" }, &tail[1..]);
    assert_eq!(refusal(host.complete(&guessed, json!(1)).await), "attempt over");
    let large = Value::from("x".repeat(3 * 1024 * 1024));
    assert_eq!(refusal(host.complete(&task.token, large.clone()).await), "limit exceeded");
    assert_eq!(refusal(host.heartbeat(&task.token, large.clone()).await), "limit exceeded");
    let details = vec![Payload::json(&large).unwrap()];
    assert_eq!(refusal(host.test.host.cancel_activity(&task.token, details).await), "limit exceeded");
    assert_eq!(refusal(host.test.host.poll(poll("", &[]), Duration::ZERO).await), "invalid input");
    assert_eq!(refusal(host.test.host.poll(poll("w", &["a"; 101]), Duration::ZERO).await), "invalid input");
    assert_eq!(host.activity("run").await.state, ActivityState::Started, "nothing of that changed anything");

    host.test.terminate("run").await.unwrap();
    host.test.end("run").await;
    assert_eq!(refusal(host.complete(&task.token, json!(1)).await), "attempt over");
    assert_eq!(refusal(host.heartbeat(&task.token, json!(1)).await), "attempt over");
    let host = host.restart(folder.path()).await;
    assert_eq!(refusal(host.complete(&task.token, json!(1)).await), "attempt over");
    host.test.stop().await;
}

/// A host whose activity `work` gives its token away.
fn token_giver(tokens: &mpsc::UnboundedSender<String>, then: Then) -> Registry {
    let mut registry = Registry::default();
    let tokens = tokens.clone();
    registry.register_fn("work", move |context: ActivityContext, _: Value| {
        let tokens = tokens.clone();
        async move {
            tokens.send(context.task_token()).unwrap();
            match then {
                Then::CompletesLater => Err::<Value, _>(context.completes_later()),
                Then::Hangs => {
                    tokio::spawn(async move {
                        context.cancelled().await;
                        let _ = tokens.send("told".to_owned());
                    });
                    pending().await
                }
            }
        }
    });
    registry
}

#[derive(Clone, Copy)]
enum Then {
    CompletesLater,
    Hangs,
}

#[tokio::test(flavor = "multi_thread")]
async fn native_code_completes_later_by_its_token_also_behind_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (send, mut tokens) = mpsc::unbounded_channel();
    let host = Outside::begin_with(folder.path(), token_giver(&send, Then::CompletesLater)).await;
    let native = json!({ "task_queue": null, "heartbeat_ms": 20_000, "initial_interval_ms": 1_000 });
    host.start("run", native).await;
    let first = tokens.recv().await.unwrap();
    host.test
        .until("run", |run| {
            run.pending_activities
                .iter()
                .any(|open| open.attempts.as_ref().is_some_and(|row| row.lease.is_some()))
        })
        .await;
    let lease = host.activity("run").await.attempts.unwrap().lease.unwrap();
    assert_eq!((lease.worker, lease.since), (None, T0));
    host.heartbeat(&first, json!({ "asked": true })).await.unwrap();
    host.test
        .until("run", |run| {
            let row = run.pending_activities.first().and_then(|open| open.attempts.as_ref());
            row.is_some_and(|row| row.heartbeat_details.is_some())
        })
        .await;
    let registry = || token_giver(&send, Then::CompletesLater);
    let host = host.restart_with(folder.path(), registry()).await;
    assert_eq!(host.until("run", ActivityState::Started).await.attempts.unwrap().attempt, 1);
    // Nobody is heard of any more: the next attempt has another token.
    host.heartbeat(&first, json!({ "asked": true })).await.unwrap();
    host.time.advance(SECOND * 20);
    host.until("run", ActivityState::Scheduled).await;
    host.time.advance(SECOND);
    let second = tokens.recv().await.unwrap();
    assert_eq!(refusal(host.complete(&first, json!("too late")).await), "attempt over");
    host.complete(&second, json!("in time")).await.unwrap();
    assert_eq!(returned(&host.test.end("run").await), json!("in time"));
    assert!(tokens.try_recv().is_err(), "it ran twice");
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_before_native_code_has_returned_and_not_behind_its_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (send, mut tokens) = mpsc::unbounded_channel();
    let host = Outside::begin_with(folder.path(), token_giver(&send, Then::Hangs)).await;
    let native = json!({ "task_queue": null });
    host.start("run", native.clone()).await;
    let token = tokens.recv().await.unwrap();
    host.heartbeat(&token, json!(1)).await.unwrap();
    host.complete(&token, json!("early")).await.unwrap();
    assert_eq!(returned(&host.test.end("run").await), json!("early"));
    // What the code handed to a task of its own hears that nobody waits for it.
    assert_eq!(tokens.recv().await.unwrap(), "told");

    host.start("lost", native).await;
    let lost = tokens.recv().await.unwrap();
    let (send, mut tokens) = mpsc::unbounded_channel();
    let host = host.restart_with(folder.path(), token_giver(&send, Then::Hangs)).await;
    let next = tokens.recv().await.unwrap();
    assert_eq!(refusal(host.complete(&lost, json!(1)).await), "attempt over");
    host.complete(&next, json!(2)).await.unwrap();
    assert_eq!(returned(&host.test.end("lost").await), json!(2));
    host.test.stop().await;
}

/// Every fifth commit is rolled back.
fn every_fifth(commit: usize) -> Option<CommitError> {
    (commit % 5 == 4).then(|| CommitError::RolledBack("the disk is full".to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_neither_lost_nor_doubled_by_rollbacks_and_kills() {
    const RUNS: usize = 24;
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    for number in 0..RUNS {
        host.start(&format!("run-{number}"), json!({ "input": number })).await;
    }
    host.test.kill().await;
    let mut leased: Vec<ActivityTask> = Vec::new();
    let mut polled = 0;
    while polled < RUNS {
        let store = Arc::new(TestStore::open(folder.path()).await.unwrap());
        store.fail(every_fifth);
        let (settings, engine) = (HostSettings::default(), EngineSettings::default());
        let test = TestHost::open_on(store, Registry::default(), &settings, engine, Clock::system());
        let complete = async |task: &ActivityTask| loop {
            let result = task.scheduled.input.clone();
            match test.host.complete_activity(&task.token, result).await {
                Ok(()) => return,
                Err(ApiError::Busy(_)) => {}
                Err(refused) => panic!("{}: {refused}", task.workflow_id),
            }
        };
        // What the host before this one leased is completed here; twice, because nobody knows what it recorded.
        for task in leased.drain(..) {
            complete(&task).await;
            complete(&task).await;
        }
        for number in 0..8 {
            let task = test.host.poll(poll("w", &[]), PATIENCE).await.unwrap().expect("an attempt");
            assert_eq!(task.attempt, 1, "{}", task.workflow_id);
            polled += 1;
            if number % 2 == 0 {
                complete(&task).await;
            } else {
                leased.push(task);
            }
        }
        test.kill().await;
    }
    let host = Outside::open(folder.path(), Registry::default(), &VirtualTime::starting_at(T0)).await;
    for task in &leased {
        host.complete(&task.token, task.scheduled.input.to_value()).await.unwrap();
    }
    for number in 0..RUNS {
        let id = format!("run-{number}");
        assert_eq!(returned(&host.test.end(&id).await), json!(number));
        assert_eq!(host.test.events(&id).await.len(), 4, "{id}: scheduled once, closed once");
    }
    host.nothing().await;
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_run_keeps_what_is_reported_and_wanted_of_its_activity() {
    let folder = tempfile::tempdir().unwrap();
    let host = Outside::begin(folder.path()).await;
    host.test.deploy("hostile").await;
    // Its first signal begins the activity `step`, and its second one makes it panic.
    host.test.start("panic-beside-step", "blocked", &json!("step")).await;
    host.test.signal("blocked", "go", &json!(null)).await.unwrap();
    let default = PollRequest { task_queue: "default".to_owned(), ..poll("w-1", &["step"]) };
    let task = host.test.host.poll(default, PATIENCE).await.unwrap().unwrap();
    host.test.signal("blocked", "go", &json!(null)).await.unwrap();
    host.test.until("blocked", |run| run.blocked.is_some()).await;
    host.operate_on("blocked", task.scheduled_event_id, ActivityOperation::Pause).await.unwrap();
    assert!(host.heartbeat(&task.token, json!(1)).await.unwrap().paused);
    for _ in 0..2 {
        host.complete(&task.token, json!(1)).await.unwrap();
    }
    let run = host.test.until("blocked", |run| run.inbox_length > 1).await;
    assert!(run.blocked.is_some(), "it waits in the inbox");
    assert!(run.pending_activities.is_empty(), "nobody makes it any more");
    assert_eq!(refusal(host.complete(&task.token, json!(2)).await), "attempt over");
    host.test.terminate("blocked").await.unwrap();
    host.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_and_many_attempts_meet_once_each() {
    const RUNS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(Outside::begin(folder.path()).await);
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let host = Arc::clone(&host);
            tokio::spawn(async move {
                let mut made = Vec::new();
                loop {
                    let task = host.poll_for(&format!("w-{worker}"), &[]).await;
                    let input = task.scheduled.input.to_value();
                    host.complete(&task.token, input.clone()).await.unwrap();
                    if input == json!("stop") {
                        return made;
                    }
                    made.push(input.as_u64().unwrap());
                }
            })
        })
        .collect();
    for number in 0..RUNS {
        host.start(&format!("run-{number}"), json!({ "input": number })).await;
    }
    for number in 0..RUNS {
        assert_eq!(returned(&host.test.end(&format!("run-{number}")).await), json!(number));
    }
    for worker in 0..workers.len() {
        host.start(&format!("stop-{worker}"), json!({ "input": "stop" })).await;
    }
    let mut made = Vec::new();
    for worker in workers {
        made.extend(worker.await.unwrap());
    }
    made.sort_unstable();
    assert_eq!(made, (0..RUNS as u64).collect::<Vec<_>>());
    host.nothing().await;
}
