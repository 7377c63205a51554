//! Messages from run to run: delivered once, in order, also to a blocked run, also behind a kill; refused where no such
//! run is open; and not overtaken by what closes a run.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use everfold::runner::api::ApiError;
use everfold::store::CommitError;
use everfold_core::machine::RunStatus;
use futures::future::join_all;
use serde_json::{Value, json};
use support::{TestHost, lines, request, returned, signals};

/// A number for the run of a workflow id, as the messenger takes it.
fn add(to: &str, number: usize) -> Value {
    json!({ "workflow_id": to, "signal": ["add", number] })
}

fn numbers(of: std::ops::Range<usize>) -> Value {
    json!(of.collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_another_run_is_delivered_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.start("signals", "sum", &json!({ "count": 3 })).await;
    let messages = json!([add("sum", 0), add("nobody", 1), add("sum", 1), add("sum", 2)]);
    test.start("messenger", "messenger", &messages).await;
    let answers = returned(&test.end("messenger").await);
    let nobody = "workflow nobody has no open run";
    assert_eq!(answers, json!(["delivered", nobody, "delivered", "delivered"]));
    assert_eq!(returned(&test.end("sum").await), numbers(0..3));
    let expected = [
        "1 WorkflowStarted",
        "2 ExternalSignalInitiated add",
        "3 ExternalRequestCompleted",
        "4 ExternalSignalInitiated add",
        "5 ExternalRequestFailed",
        "6 ExternalSignalInitiated add",
        "7 ExternalRequestCompleted",
        "8 ExternalSignalInitiated add",
        "9 ExternalRequestCompleted",
        "10 WorkflowCompleted",
    ];
    assert_eq!(lines(&test.events("messenger").await), expected);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_mean_one_run_and_itself_and_ask_another_to_cancel() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let closed = test.start("echo", "sum", &json!(1)).await.run_id;
    test.end("sum").await;
    let open = test.start("signals", "sum", &json!({ "count": 1 })).await.run_id;
    test.start("signals", "waiting", &json!({ "count": 1 })).await;
    let to = |run_id: &dyn ToString| json!({ "workflow_id": "sum", "run_id": run_id.to_string(), "signal": ["add", 7] });
    let messages = json!([to(&closed), to(&open), { "workflow_id": "waiting" }, add("messenger", 1)]);
    test.start("messenger", "messenger", &messages).await;
    let refused = format!("run {closed} of workflow sum is not open");
    let answers = returned(&test.end("messenger").await);
    assert_eq!(answers, json!([refused, "delivered", "delivered", "delivered"]));
    assert_eq!(returned(&test.end("sum").await), json!([7]));
    assert_eq!(test.end("waiting").await.status, RunStatus::Canceled);
    assert_eq!(signals(&test.events("messenger").await).len(), 1, "it wrote to itself");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_a_blocked_run() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.deploy("hostile").await;
    // Its second signal makes it panic.
    test.start("panic-beside-step", "blocked", &json!("nothing")).await;
    for _ in 0..2 {
        test.signal("blocked", "go", &json!(null)).await.unwrap();
    }
    test.until("blocked", |run| run.blocked.is_some()).await;
    let messages = json!([add("blocked", 1), { "workflow_id": "blocked" }]);
    test.start("messenger", "messenger", &messages).await;
    assert_eq!(returned(&test.end("messenger").await), json!(["delivered", "delivered"]));
    test.terminate("blocked").await.unwrap();
    assert_eq!(test.end("blocked").await.status, RunStatus::Terminated);
    test.stop().await;
}

/// Every fifth commit is rolled back.
fn every_fifth(commit: usize) -> Option<CommitError> {
    (commit % 5 == 4).then(|| CommitError::RolledBack("the disk is full".to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_neither_lost_nor_doubled_by_rollbacks_and_kills() {
    const SENDERS: usize = 8;
    const EACH: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    let mut test = TestHost::samples(folder.path()).await;
    test.start("signals", "sum", &json!({ "count": SENDERS * EACH, "continue_every": 10 })).await;
    for sender in 0..SENDERS {
        let messages: Vec<Value> = (0..EACH).map(|number| add("sum", sender * EACH + number)).collect();
        test.start("messenger", &format!("messenger-{sender}"), &json!(messages)).await;
    }
    for _ in 0..4 {
        test.kill().await;
        test = TestHost::open_failing(folder.path(), every_fifth).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for sender in 0..SENDERS {
        let end = test.end(&format!("messenger-{sender}")).await;
        assert_eq!(returned(&end), json!(vec!["delivered"; EACH]));
    }
    let mut sum: Vec<usize> = serde_json::from_value(returned(&test.end("sum").await)).unwrap();
    for sender in 0..SENDERS {
        let of_sender: Vec<_> = sum.iter().copied().filter(|number| number / EACH == sender).collect();
        assert!(of_sender.is_sorted(), "{of_sender:?}");
    }
    sum.sort_unstable();
    assert_eq!(json!(sum), numbers(0..SENDERS * EACH));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reached_a_run_before_is_not_overtaken_by_what_closes_it() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.start("signals", "run", &json!({ "count": 1 })).await;
    let held = test.store.hold().await;
    let asked = test.store.asked();
    let start = tokio::spawn({
        let host = test.host.clone();
        async move { host.start(request("messenger", "messenger", &json!([add("run", 1)]))).await }
    });
    // The message is on its way to the disk, and the run does not know.
    while test.store.asked() == asked {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let signal = tokio::spawn({
        let host = test.host.clone();
        async move { host.signal(support::signal("run", "add", &json!(2))).await }
    });
    // The run is folded with the signal, which closes it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(held);
    start.await.unwrap().unwrap();
    let late = signal.await.unwrap();
    assert!(matches!(late, Err(ApiError::NotFound(_))), "it closed with the other one: {late:?}");
    assert_eq!(returned(&test.end("run").await), json!([1]));
    assert_eq!(returned(&test.end("messenger").await), json!(["delivered"]));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_closes_once_whoever_writes_to_it_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    for round in 0..40 {
        let (run, messenger) = (format!("run-{round}"), format!("messenger-{round}"));
        test.start("signals", &run, &json!({ "count": 1 })).await;
        let messages = json!([add(&run, 1), add(&run, 2), add(&run, 3)]);
        // The run closes with the first that comes, from here or from there.
        let start = test.host.start(request("messenger", &messenger, &messages));
        let number = json!(0);
        let (started, signal) = futures::join!(start, test.signal(&run, "add", &number));
        started.unwrap();
        assert!(matches!(signal, Ok(_) | Err(ApiError::NotFound(_))), "{signal:?}");
        let answers: Vec<String> = serde_json::from_value(returned(&test.end(&messenger).await)).unwrap();
        let delivered = answers.iter().take_while(|answer| *answer == "delivered").count();
        let refused = format!("workflow {run} has no open run");
        assert!(answers[delivered..].iter().all(|answer| *answer == refused), "{answers:?}");
        let got = returned(&test.end(&run).await);
        let history = signals(&test.events(&run).await);
        let first = &history[0].2;
        assert_eq!(got, json!([first]), "it ended with the first: {history:?}");
        assert_eq!(signal.is_ok(), history.iter().any(|(.., number)| *number == json!(0)), "{history:?}");
        let of_messenger: Vec<_> = history.iter().filter(|(.., number)| *number != json!(0)).collect();
        assert!(of_messenger.len() <= delivered, "{answers:?} {history:?}");
        assert!(of_messenger.iter().enumerate().all(|(place, (.., number))| *number == json!(place + 1)));
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_write_to_each_other_all_at_once() {
    const RUNS: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let ids: Vec<String> = (0..RUNS).map(|run| format!("run-{run}")).collect();
    for id in &ids {
        test.start("signals", id, &json!({ "count": RUNS })).await;
    }
    let messages = json!(ids.iter().map(|id| add(id, 1)).collect::<Vec<_>>());
    let send = async |messenger: usize| {
        let id = format!("messenger-{messenger}");
        test.start("messenger", &id, &messages).await;
        assert_eq!(returned(&test.end(&id).await), json!(vec!["delivered"; RUNS]));
    };
    join_all((0..RUNS).map(send)).await;
    for id in &ids {
        assert_eq!(returned(&test.end(id).await), json!(vec![1; RUNS]));
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_address_blocks_the_sender() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let bad = [
        json!({ "workflow_id": "", "signal": ["add", 1] }),
        json!({ "workflow_id": "x", "run_id": "no UUID", "signal": ["add", 1] }),
        json!({ "workflow_id": "x", "signal": ["", 1] }),
        json!({ "workflow_id": "x", "signal": ["a\u{0}b", 1] }),
    ];
    for (number, message) in bad.into_iter().enumerate() {
        let id = format!("messenger-{number}");
        test.start("messenger", &id, &json!([message])).await;
        let blocked = test.until(&id, |run| run.blocked.is_some()).await;
        assert_eq!(blocked.history_length, 0, "nothing was sent");
    }
    test.stop().await;
}
