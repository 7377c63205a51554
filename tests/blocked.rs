//! Guests that misbehave: each blocks its own run with the reason on show, loses nothing, and leaves
//! the others undisturbed.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::time::Duration;

use everfold::activity::Registry;
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold_core::decision::{BlockKind, Blocked};
use everfold_core::limits::Limits;
use everfold_core::machine::RunStatus;
use serde_json::{Value, json};
use support::{PATIENCE, TestHost, lines, request, run};

/// An activation may take long enough to fill its memory, also on a busy machine.
fn patient() -> EngineSettings {
    EngineSettings { activation_time: Duration::from_secs(2), ..EngineSettings::default() }
}

/// Waits until a run is blocked.
async fn blocked(test: &TestHost, id: &str) -> Blocked {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let description = test.host.describe(&run(id)).await.unwrap();
        if let Some(blocked) = description.blocked {
            assert_eq!(description.status, RunStatus::Running, "a fault of code does not fail a run");
            return blocked;
        }
        assert!(tokio::time::Instant::now() < deadline, "{id} is not blocked: {description:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_blocks_its_run_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let test =
        TestHost::open_with(folder.path(), Registry::default(), &HostSettings::default(), patient()).await;
    test.deploy("hostile").await;
    test.deploy("samples").await;
    for hostile in ["spin", "eat-memory", "panic", "deep-recursion"] {
        test.start(hostile, hostile, &Value::Null).await;
        // Another run goes through while that one is tried again and again.
        test.start("echo", &format!("beside-{hostile}"), &json!(hostile)).await;
        assert_eq!(test.end(&format!("beside-{hostile}")).await.status, RunStatus::Completed);
    }

    let spin = blocked(&test, "spin").await;
    assert_eq!((spin.kind, spin.event_id.0), (BlockKind::LimitExceeded, 1));
    assert!(spin.reason.contains("an activation may take at most"), "{}", spin.reason);

    let memory = blocked(&test, "eat-memory").await;
    assert_eq!(memory.kind, BlockKind::LimitExceeded);
    assert!(memory.reason.contains("guest memory limit of 67108864 bytes"), "{}", memory.reason);

    let panic = blocked(&test, "panic").await;
    assert_eq!(panic.kind, BlockKind::Trap);
    assert!(panic.reason.contains("panicked at") && panic.reason.contains(".rs:"), "{}", panic.reason);
    assert!(panic.backtrace.contains("hostile"), "the guest's functions are named: {}", panic.backtrace);

    assert_eq!(blocked(&test, "deep-recursion").await.kind, BlockKind::Trap);

    let waiting = test.host.describe(&run("panic")).await.unwrap();
    assert_eq!((waiting.history_length, waiting.inbox_length), (0, 1), "its start waits in the inbox");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_that_loop_wait_for_each_other_and_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let slow = EngineSettings { activation_time: Duration::from_secs(2), ..EngineSettings::default() };
    let test =
        TestHost::open_with(folder.path(), Registry::default(), &HostSettings::default(), slow.clone()).await;
    test.deploy("hostile").await;
    test.deploy("samples").await;
    // The first one makes the type suspect; forty more take longer than this test waits.
    test.start("spin", "first", &Value::Null).await;
    let looping: Vec<_> = (0..40)
        .map(|n| {
            let host = test.host.clone();
            tokio::spawn(async move { host.start(request("spin", &format!("loop-{n}"), &Value::Null)).await })
        })
        .collect();
    for n in 0..50 {
        test.start("echo", &format!("beside-{n}"), &json!(n)).await;
        assert_eq!(test.end(&format!("beside-{n}")).await.status, RunStatus::Completed);
    }
    let begun = looping.iter().filter(|start| start.is_finished()).count();
    assert!(begun < 40, "the others did not wait for the runs that loop");
    // Stopping does not wait for all of them either.
    test.stop().await;
    looping.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_panics_later_keeps_its_history_and_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::open(folder.path(), Registry::default()).await;
    test.deploy("hostile").await;
    test.start("panic-third-step", "late", &Value::Null).await;
    let fault = blocked(&test, "late").await;
    let events = test.events("late").await;
    assert_eq!(fault.event_id, events.last().unwrap().id.next());
    assert_eq!(
        lines(&events),
        ["1 WorkflowStarted", "2 ActivityScheduled noop", "3 ActivityCompleted", "4 ActivityScheduled noop"]
    );
    assert_eq!(test.host.describe(&run("late")).await.unwrap().inbox_length, 1);
    test.stop().await;

    // Also for the next process.
    let test = TestHost::open(folder.path(), Registry::default()).await;
    let again = blocked(&test, "late").await;
    assert_eq!((again.event_id, again.kind, again.since), (fault.event_id, fault.kind, fault.since));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_can_be_folded_again_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let few = HostSettings {
        limits: Limits { pending_activities: 10, ..Limits::default() },
        ..HostSettings::default()
    };
    let test = TestHost::open_with(folder.path(), Registry::default(), &few, EngineSettings::default()).await;
    test.deploy("samples").await;
    test.start("fan-out", "wide", &json!({ "width": 11 })).await;
    let fault = blocked(&test, "wide").await;
    assert_eq!(fault.kind, BlockKind::LimitExceeded);
    assert!(fault.reason.contains("at most 10 activities"), "{}", fault.reason);
    test.stop().await;

    let test = TestHost::open(folder.path(), Registry::default()).await;
    let end = test.end("wide").await;
    assert_eq!(end.status, RunStatus::Completed);
    let description = test.host.describe(&run("wide")).await.unwrap();
    assert_eq!((description.blocked, description.inbox_length), (None, 0));
    test.stop().await;
}
