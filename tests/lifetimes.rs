//! Time-outs of whole workflows, starts that are delayed, and workflows that are tried again; in virtual time, also behind
//! kills.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::time::Duration;

use everfold::activity::Registry;
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::{ApiError, IdConflictPolicy, RunRef, RunResult, StartRequest, Terms};
use everfold_core::decision::Outcome;
use everfold_core::event::{EventKind, Input, SignalReceived};
use everfold_core::ids::Timestamp;
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use everfold_core::retry::RetryPolicy;
use serde_json::{Value, json};
use support::{TestHost, lines, request, returned, run};

const BEGIN: Timestamp = Timestamp(1_700_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn open(folder: &Path, time: &VirtualTime) -> TestHost {
    let (settings, engine) = (HostSettings::default(), EngineSettings::default());
    let clock = Clock::from_source(time.clone());
    TestHost::open_at(folder, Registry::default(), &settings, engine, clock).await
}

async fn samples(folder: &Path) -> (TestHost, VirtualTime) {
    let time = VirtualTime::starting_at(BEGIN);
    let test = open(folder, &time).await;
    test.deploy("samples").await;
    (test, time)
}

fn within(terms: Terms, request: StartRequest) -> StartRequest {
    StartRequest { terms, ..request }
}

fn run_timeout(limit: Duration) -> Terms {
    Terms { run_timeout_ms: Some(ms(limit)), ..Terms::default() }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

fn retry(attempts: u32) -> Option<RetryPolicy> {
    Some(RetryPolicy { maximum_attempts: Some(attempts), ..RetryPolicy::default() })
}

/// A run that waits for a number.
fn waiting(id: &str) -> StartRequest {
    request("signals", id, &json!({ "count": 1 }))
}

fn failure_text(end: &RunResult) -> String {
    match &end.outcome {
        Some(Outcome::Failure(failure)) => failure.to_string(),
        other => panic!("it did not fail: {other:?}"),
    }
}

async fn status(test: &TestHost, id: &str) -> RunStatus {
    test.host.describe(&run(id)).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_is_closed_without_asking_it() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = samples(folder.path()).await;
    test.host.start(within(run_timeout(MINUTE), waiting("run"))).await.unwrap();
    test.host.start(within(run_timeout(MINUTE), waiting("quick"))).await.unwrap();
    let described = test.host.describe(&run("run")).await.unwrap();
    assert_eq!(described.deadline.map(|(at, _)| at), Some(BEGIN.plus_ms(ms(MINUTE))));
    test.signal("quick", "add", &json!(1)).await.unwrap();
    assert_eq!(returned(&test.end("quick").await), json!([1]));
    time.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(status(&test, "run").await, RunStatus::Running);
    time.advance(Duration::from_millis(1));
    let end = test.end("run").await;
    assert_eq!(end.status, RunStatus::TimedOut);
    assert!(failure_text(&end).ends_with("the workflow passed its run time-out"), "{}", failure_text(&end));
    assert_eq!(lines(&test.events("run").await), ["1 WorkflowStarted", "2 WorkflowTimedOut"]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_while_no_host_is_there_counts_and_so_does_that_of_a_blocked_run() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = samples(folder.path()).await;
    test.deploy("hostile").await;
    test.host.start(within(run_timeout(DAY), waiting("run"))).await.unwrap();
    let blocked = request("panic-beside-step", "blocked", &json!("nothing"));
    test.host.start(within(run_timeout(DAY), blocked)).await.unwrap();
    for _ in 0..2 {
        test.signal("blocked", "go", &json!(null)).await.unwrap();
    }
    test.until("blocked", |run| run.blocked.is_some()).await;
    test.kill().await;
    time.advance(DAY);
    let test = open(folder.path(), &time).await;
    for id in ["run", "blocked"] {
        assert_eq!(test.end(id).await.status, RunStatus::TimedOut, "{id}");
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_timeout_spans_runs_that_continue_as_new_and_a_run_timeout_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = samples(folder.path()).await;
    let endless = |id| request("signals", id, &json!({ "count": 100, "continue_every": 1 }));
    let execution = Terms { execution_timeout_ms: Some(ms(MINUTE)), ..Terms::default() };
    test.host.start(within(execution, endless("execution"))).await.unwrap();
    test.host.start(within(run_timeout(MINUTE), endless("run"))).await.unwrap();
    time.advance(MINUTE / 2);
    for id in ["execution", "run"] {
        let first = test.host.describe(&run(id)).await.unwrap().key;
        test.signal(id, "add", &json!(1)).await.unwrap();
        test.until(id, |run| run.key != first && run.history_length > 0).await;
    }
    time.advance(MINUTE / 2);
    let end = test.end("execution").await;
    assert_eq!(end.status, RunStatus::TimedOut);
    assert!(failure_text(&end).ends_with("the workflow passed its execution time-out"));
    assert_eq!(status(&test, "run").await, RunStatus::Running);
    time.advance(MINUTE / 2);
    assert_eq!(test.end("run").await.status, RunStatus::TimedOut);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_start_waits_and_so_does_what_is_sent_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = samples(folder.path()).await;
    let later = Terms { start_delay_ms: Some(ms(DAY)), ..run_timeout(MINUTE) };
    let begun =
        SignalReceived { name: "add".to_owned(), input: Payload::json(&json!(1)).unwrap(), headers: vec![] };
    let request = request("signals", "later", &json!({ "count": 3 }));
    let request = StartRequest {
        signal: Some(begun),
        id_conflict: IdConflictPolicy::UseExisting,
        request_id: Some("once".to_owned()),
        ..within(later.clone(), request)
    };
    let started = test.host.start(request.clone()).await.unwrap();
    test.host.start(within(later, waiting("stopped"))).await.unwrap();
    let described = test.host.describe(&run("later")).await.unwrap();
    assert_eq!(described.start_at, Some(BEGIN.plus_ms(ms(DAY))));
    assert_eq!((described.status, described.history_length), (RunStatus::Running, 0));
    test.signal("later", "add", &json!(2)).await.unwrap();
    test.kill().await;
    time.advance(DAY / 2);
    let test = open(folder.path(), &time).await;
    assert_eq!(test.host.start(request).await.unwrap().run_id, started.run_id, "it is one start");
    test.signal("later", "add", &json!(3)).await.unwrap();
    test.terminate("stopped").await.unwrap();
    assert_eq!(test.end("stopped").await.status, RunStatus::Terminated, "at once");
    assert_eq!(test.host.describe(&run("later")).await.unwrap().history_length, 0);
    time.advance(DAY / 2);
    assert_eq!(returned(&test.end("later").await), json!([1, 2, 3]));
    let first = &test.events("later").await[0];
    assert_eq!(first.time, BEGIN.plus_ms(ms(DAY)));
    test.stop().await;
}

/// The numbers of the tries of a workflow, and when each began.
async fn tries(test: &TestHost, id: &str) -> Vec<(u32, i64)> {
    let of = |events: &[everfold_core::event::Event]| match &events[0].kind {
        EventKind::Input(Input::WorkflowStarted(started)) => (started.attempt, events[0].time.0 - BEGIN.0),
        other => panic!("{other:?}"),
    };
    test.chain(id).await.iter().map(|(_, events)| of(events)).collect()
}

fn retried(succeeds_at: u32) -> Value {
    json!({ "succeeds_at": succeeds_at, "failure_type": "Flaky" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_fails_is_tried_again_behind_its_back_off() {
    let folder = tempfile::tempdir().unwrap();
    let (mut test, time) = samples(folder.path()).await;
    let terms = Terms { retry_policy: retry(4), ..Terms::default() };
    test.host.start(within(terms, request("retried", "flaky", &retried(3)))).await.unwrap();
    for (try_before, delay) in [(1, 1), (2, 2)] {
        let waits = test.until("flaky", |run| run.start_at.is_some()).await;
        assert_eq!(waits.status, RunStatus::Running, "behind try {try_before}");
        // The next try is on disk, and waits for its time whatever becomes of the host.
        test.kill().await;
        test = open(folder.path(), &time).await;
        time.advance(Duration::from_secs(delay));
        if try_before == 1 {
            let first = waits.key;
            test.until("flaky", |run| run.key != first).await;
        }
    }
    let end = test.end("flaky").await;
    assert_eq!(returned(&end), json!([3, "try 2 fails"]));
    assert_eq!(tries(&test, "flaky").await, [(1, 0), (2, 1_000), (3, 3_000)]);
    let chain = test.chain("flaky").await;
    let first = RunRef { run_id: Some(chain[0].0), ..run("flaky") };
    let first = test.host.describe(&first).await.unwrap();
    assert_eq!((first.status, first.outcome), (RunStatus::Failed, Some(Outcome::ContinuedAs(chain[1].0))));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_not_tried_again_where_its_policy_or_its_failure_forbids_it() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = samples(folder.path()).await;
    let start = async |id: &str, terms: Terms, input: Value| {
        test.host.start(within(terms, request("retried", id, &input))).await.unwrap();
    };
    let with = |policy| Terms { retry_policy: policy, ..Terms::default() };
    let final_type = RetryPolicy { non_retryable_types: vec!["Flaky".to_owned()], ..RetryPolicy::default() };
    start("no-policy", Terms::default(), retried(2)).await;
    start("once", with(retry(1)), retried(2)).await;
    start("final-type", with(Some(final_type)), retried(2)).await;
    let mut is_final = retried(2);
    is_final["is_final"] = json!(true);
    start("final", with(retry(0)), is_final).await;
    let late = Terms { execution_timeout_ms: Some(900), ..with(retry(0)) };
    start("late", late, retried(2)).await;
    for id in ["no-policy", "once", "final-type", "final", "late"] {
        let end = test.end(id).await;
        assert_eq!(end.status, RunStatus::Failed, "{id}");
        assert!(failure_text(&end).ends_with("try 1 fails"), "{id}: {}", failure_text(&end));
    }
    // Who asked a workflow to cancel does not want another try.
    test.host.start(within(with(retry(0)), waiting("canceled"))).await.unwrap();
    test.cancel("canceled").await.unwrap();
    assert_eq!(test.end("canceled").await.status, RunStatus::Canceled);
    // A failure of the last try is what the caller gets.
    start("twice", with(retry(2)), retried(9)).await;
    test.until("twice", |run| run.start_at.is_some()).await;
    time.advance(Duration::from_secs(1));
    let end = test.end("twice").await;
    assert!(failure_text(&end).ends_with("try 2 fails"), "{}", failure_text(&end));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_passes_its_timeout_is_tried_again_and_takes_what_was_unread() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = samples(folder.path()).await;
    let terms = Terms { retry_policy: retry(2), ..run_timeout(MINUTE) };
    test.host.start(within(terms, waiting("slow"))).await.unwrap();
    test.signal("slow", "other", &json!("kept")).await.unwrap();
    time.advance(MINUTE);
    let second = test.until("slow", |run| run.start_at.is_some()).await;
    test.signal("slow", "add", &json!(7)).await.unwrap();
    time.advance(Duration::from_secs(1));
    let end = test.end("slow").await;
    assert_eq!((&end.key, returned(&end)), (&second.key, json!([7])));
    let expected = [
        "1 WorkflowStarted",
        "2 SignalReceived",
        "3 SignalReceived",
        "4 SignalTaken add",
        "5 WorkflowCompleted",
    ];
    assert_eq!(lines(&test.events("slow").await), expected);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_has_its_own_terms_and_its_parent_hears_of_the_last_try() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = samples(folder.path()).await;
    let flaky =
        json!({ "workflow_type": "retried", "workflow_id": "flaky", "input": retried(2), "attempts": 3 });
    let slow = json!({ "workflow_type": "signals", "workflow_id": "slow", "input": { "count": 1 }, "run_timeout_ms": 60_000 });
    test.start("family", "parent", &json!({ "children": [flaky, slow], "then": "results" })).await;
    test.until("flaky", |run| run.start_at.is_some()).await;
    time.advance(Duration::from_secs(1));
    test.end("flaky").await;
    test.until("slow", |run| run.history_length > 0).await;
    time.advance(MINUTE);
    let told = returned(&test.end("parent").await);
    assert_eq!(told[0], r#"[2,"try 1 fails"]"#);
    assert_eq!(told[1], "child workflow `signals` timed out: the workflow passed its run time-out");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (test, _) = samples(folder.path()).await;
    let coefficient = RetryPolicy { backoff_coefficient: Some(0.5), ..RetryPolicy::default() };
    let bad = [
        Terms { run_timeout_ms: Some(0), ..Terms::default() },
        Terms { execution_timeout_ms: Some(u64::MAX), ..Terms::default() },
        Terms { start_delay_ms: Some(u64::MAX), ..Terms::default() },
        Terms { retry_policy: Some(coefficient), ..Terms::default() },
    ];
    for terms in bad {
        let refused = test.host.start(within(terms, waiting("bad"))).await;
        assert!(matches!(refused, Err(ApiError::InvalidInput(_))), "{refused:?}");
    }
    test.stop().await;
}
