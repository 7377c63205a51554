//! Starts under a workflow id that was used before: reuse of a closed run's, conflict with an open run's, and
//! starts that bring a signal. What is done is done once, also when the request comes again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use everfold::activity::Registry;
use everfold::runner::api::{ApiError, IdConflictPolicy, IdReusePolicy, RunRef, StartRequest, Started};
use everfold_core::event::SignalReceived;
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use futures::future::join_all;
use serde_json::{Value, json};
use support::server::{Server, text};
use support::{TestHost, lines, request, returned, root, run, signals};

async fn samples(folder: &std::path::Path) -> TestHost {
    let test = TestHost::open(folder, Registry::default()).await;
    test.deploy("samples").await;
    test
}

/// Collects numbers under the workflow id `sum`.
fn sum(count: usize) -> StartRequest {
    request("signals", "sum", &json!({ "count": count }))
}

/// The same, with a number.
fn sum_with(count: usize, number: i64) -> StartRequest {
    let input = Payload::json(&number).unwrap();
    let signal = Some(SignalReceived { name: "add".to_owned(), input, headers: Vec::new() });
    StartRequest { signal, id_conflict: IdConflictPolicy::UseExisting, ..sum(count) }
}

fn by(request_id: &str, request: StartRequest) -> StartRequest {
    StartRequest { request_id: Some(request_id.to_owned()), ..request }
}

/// The run of a refusal, which must name the workflow id.
fn taken(answer: Result<Started, ApiError>) -> Started {
    match answer {
        Err(ApiError::IdTaken { workflow_id, run_id } | ApiError::AlreadyStarted { workflow_id, run_id }) => {
            Started { workflow_id, run_id, is_duplicate: false }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_runs_id_is_used_again_as_the_policy_says() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path()).await;
    let start = async |id_reuse| test.host.start(StartRequest { id_reuse, ..sum(1) }).await;
    use IdReusePolicy::{AllowDuplicate, AllowDuplicateFailedOnly, RejectDuplicate};

    let first = start(RejectDuplicate).await.unwrap();
    assert_eq!(taken(start(AllowDuplicate).await).run_id, first.run_id, "an open run is another matter");
    test.terminate("sum").await.unwrap();
    assert_eq!(taken(start(RejectDuplicate).await).run_id, first.run_id);
    let second = start(AllowDuplicateFailedOnly).await.unwrap();
    test.signal("sum", "add", &json!(1)).await.unwrap();
    assert_eq!(test.end("sum").await.status, RunStatus::Completed);
    assert_eq!(taken(start(AllowDuplicateFailedOnly).await).run_id, second.run_id);
    assert_eq!(taken(start(RejectDuplicate).await).run_id, second.run_id);
    let third = start(AllowDuplicate).await.unwrap();
    assert_ne!(third.run_id, second.run_id);
    test.cancel("sum").await.unwrap();
    assert_eq!(test.end("sum").await.status, RunStatus::Canceled);
    assert!(!start(AllowDuplicateFailedOnly).await.unwrap().is_duplicate);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_run_is_kept_used_or_terminated_as_the_policy_says() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path()).await;
    let start = async |id_conflict| test.host.start(StartRequest { id_conflict, ..sum(1) }).await;
    use IdConflictPolicy::{Fail, TerminateExisting, UseExisting};

    let first = start(UseExisting).await.unwrap();
    assert!(!first.is_duplicate, "nothing was there");
    assert_eq!(taken(start(Fail).await).run_id, first.run_id);
    let same = start(UseExisting).await.unwrap();
    assert_eq!((same.run_id, same.is_duplicate), (first.run_id, true));
    let second = start(TerminateExisting).await.unwrap();
    assert_ne!(second.run_id, first.run_id);
    let first = RunRef { run_id: Some(first.run_id), ..run("sum") };
    assert_eq!(test.host.describe(&first).await.unwrap().status, RunStatus::Terminated);

    let both =
        StartRequest { id_reuse: IdReusePolicy::RejectDuplicate, id_conflict: TerminateExisting, ..sum(1) };
    let refused = test.host.start(both).await;
    assert!(matches!(refused, Err(ApiError::InvalidInput(_))), "{refused:?}");
    let open = run("sum");
    assert_eq!(test.host.describe(&open).await.unwrap().status, RunStatus::Running, "nothing was done");

    // Ten at once: each ends the one before it, and one is left.
    let started = join_all((0..10).map(|_| start(TerminateExisting))).await;
    let started: Vec<_> = started.into_iter().map(|started| started.unwrap().run_id).collect();
    let mut running = 0;
    for run_id in started {
        let of = RunRef { run_id: Some(run_id), ..run("sum") };
        running += usize::from(test.host.describe(&of).await.unwrap().status == RunStatus::Running);
    }
    assert_eq!(running, 1);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_signal_begins_a_run_with_it_or_signals_the_open_one() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path()).await;
    let first = test.host.start(sum_with(3, 0)).await.unwrap();
    test.signal("sum", "add", &json!(1)).await.unwrap();
    let again = test.host.start(sum_with(3, 2)).await.unwrap();
    assert_eq!((again.run_id, again.is_duplicate), (first.run_id, true));
    assert_eq!(returned(&test.end("sum").await), json!([0, 1, 2]));
    assert_eq!(
        lines(&test.events("sum").await)[..3],
        ["1 WorkflowStarted", "2 SignalReceived", "3 SignalTaken add"]
    );
    let next = test.host.start(sum_with(1, 7)).await.unwrap();
    assert_ne!(next.run_id, first.run_id);
    assert_eq!(returned(&test.end("sum").await), json!([7]));

    let refused =
        test.host.start(StartRequest { id_conflict: IdConflictPolicy::Fail, ..sum_with(1, 1) }).await;
    assert!(matches!(refused, Err(ApiError::InvalidInput(_))), "{refused:?}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_terminates_what_it_finds_begins_the_new_run() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path()).await;
    let first = test.host.start(sum_with(2, 0)).await.unwrap();
    let request = StartRequest { id_conflict: IdConflictPolicy::TerminateExisting, ..sum_with(1, 5) };
    let second = test.host.start(request).await.unwrap();
    assert_ne!(second.run_id, first.run_id);
    assert_eq!(returned(&test.end("sum").await), json!([5]));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_signal_is_done_once_also_when_its_run_has_closed_since() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path()).await;
    // It began a run.
    let began = test.host.start(by("r-1", sum_with(2, 0))).await.unwrap();
    assert_eq!(test.host.start(by("r-1", sum_with(2, 0))).await.unwrap().run_id, began.run_id);
    test.until("sum", |run| run.inbox_length == 0).await;
    assert_eq!(signals(&test.events("sum").await).len(), 1);
    // It signalled one.
    let signalled = by("r-2", sum_with(2, 1));
    assert_eq!(test.host.start(signalled.clone()).await.unwrap().run_id, began.run_id);
    assert_eq!(returned(&test.end("sum").await), json!([0, 1]));
    let again = test.host.start(signalled).await.unwrap();
    assert_eq!((again.run_id, again.is_duplicate), (began.run_id, true), "none is started for it");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_with_signals_at_once_make_one_run_that_has_them_all() {
    const STARTS: usize = 30;
    let folder = tempfile::tempdir().unwrap();
    let mut test = samples(folder.path()).await;
    let start = |number: usize| test.host.start(sum_with(STARTS + 1, number as i64));
    let started = join_all((0..STARTS).map(start)).await;
    let runs: std::collections::BTreeSet<_> =
        started.into_iter().map(|started| started.unwrap().run_id).collect();
    assert_eq!(runs.len(), 1);
    test.kill().await;
    test = TestHost::open(folder.path(), Registry::default()).await;
    test.signal("sum", "add", &json!(STARTS)).await.unwrap();
    let mut numbers: Vec<usize> = serde_json::from_value(returned(&test.end("sum").await)).unwrap();
    numbers.sort_unstable();
    assert_eq!(json!(numbers), json!((0..=STARTS).collect::<Vec<_>>()));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_blocked_from_its_start_keeps_the_signal() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path()).await;
    test.deploy("hostile").await;
    let StartRequest { signal, id_conflict, .. } = sum_with(1, 1);
    let request = StartRequest { signal, id_conflict, ..request("panic", "broken", &Value::Null) };
    let started = test.host.start(request).await.unwrap();
    test.until("broken", |run| run.blocked.is_some()).await;
    let key = everfold_core::ids::RunKey { namespace: run("broken").namespace, run_id: started.run_id };
    let waiting = everfold::store::Store::inbox(&*test.store, &key).await.unwrap();
    let types: Vec<_> = waiting.inputs.iter().map(|(_, waiting)| waiting.input.type_name()).collect();
    assert_eq!(types, ["WorkflowStarted", "SignalReceived"]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_and_http_take_the_policies() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    let samples = root().join("target/components/samples.wasm");
    assert!(server.everfold(&["deploy", samples.to_str().unwrap()]).status.success());
    let start = |more: &[&str]| {
        let fixed = ["start", "signals", "--id", "sum", "--input", r#"{"count":2}"#];
        server.everfold(&[&fixed[..], more].concat())
    };
    assert!(start(&["--signal", "add", "--signal-input", "4"]).status.success());
    let refused = start(&[]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused));
    assert!(start(&["--id-conflict-policy", "use-existing"]).status.success());
    assert!(start(&["--signal", "add", "--signal-input", "5"]).status.success());
    assert_eq!(server.get("/api/v1/workflows/sum/result?wait=30s").await["result"], json!([4, 5]));
    let refused = start(&["--id-reuse-policy", "reject-duplicate"]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused));
    assert!(text(&refused).contains("id reuse policy"), "{}", text(&refused));

    let body = json!({ "workflow_type": "signals", "workflow_id": "sum", "input": { "count": 1 },
        "id_conflict_policy": "fail", "signal": { "name": "add", "input": 1 } });
    let sent = server.http.post(server.url("/api/v1/workflows")).json(&body).send().await.unwrap();
    assert_eq!(sent.status(), 422);
    let problem: Value = sent.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("id_conflict_policy"), "{problem}");
}
