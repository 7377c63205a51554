//! Children: their beginning and their end reach the parent once, also behind kills; what becomes of them when the parent
//! closes; their workflow ids; cancellation down and up.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use everfold::activity::Registry;
use everfold::clock::Clock;
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::RunResult;
use everfold::store::CommitError;
use everfold::testing::TestStore;
use everfold_core::decision::Outcome;
use everfold_core::event::{EventKind, Input};
use everfold_core::machine::RunStatus;
use serde_json::{Value, json};
use support::{TestHost, lines, returned, run, signals};

fn echo(input: impl Into<Value>) -> Value {
    json!({ "workflow_type": "echo", "input": input.into() })
}

/// A child that waits for a number.
fn waiting(id: &str) -> Value {
    json!({ "workflow_type": "signals", "workflow_id": id, "input": { "count": 1 } })
}

fn with(mut child: Value, name: &str, value: impl Into<Value>) -> Value {
    child[name] = value.into();
    child
}

fn family(children: &[Value], then: &str) -> Value {
    json!({ "children": children, "then": then })
}

fn failure_text(end: &RunResult) -> String {
    match &end.outcome {
        Some(Outcome::Failure(failure)) => failure.to_string(),
        other => panic!("it did not fail: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_tells_its_parent_of_its_beginning_and_of_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.start("family", "parent", &family(&[echo("hello"), waiting("child")], "results")).await;
    let parent = test.until("parent", |run| run.children.len() == 1 && run.children[0].1.is_started).await;
    let (event, child) = &parent.children[0];
    assert_eq!(
        (event.0, child.workflow_type.as_str(), child.workflow_id.0.as_str()),
        (3, "signals", "child")
    );
    let described = test.host.describe(&run("child")).await.unwrap();
    let of = described.parent.expect("it is a child");
    assert_eq!((of.workflow_id.0.as_str(), of.run_id), ("parent", parent.key.run_id));
    test.signal("child", "add", &json!(7)).await.unwrap();
    assert_eq!(returned(&test.end("parent").await), json!(["\"hello\"", "[7]"]));
    let events = test.events("parent").await;
    assert_eq!(
        lines(&events)[..3],
        ["1 WorkflowStarted", "2 ChildWorkflowInitiated echo", "3 ChildWorkflowInitiated signals"]
    );
    let of_type = |name: &str| events.iter().filter(|event| event.kind.type_name() == name).count();
    assert_eq!((of_type("ChildWorkflowStarted"), of_type("ChildWorkflowCompleted")), (2, 2));
    assert_eq!(lines(&events).last().unwrap(), "8 WorkflowCompleted");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_id_in_use_is_told_to_the_parent() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let open = test.start("signals", "taken", &json!({ "count": 1 })).await.run_id;
    let closed = test.start("echo", "used", &json!(1)).await.run_id;
    test.end("used").await;
    let again = with(with(echo(1), "workflow_id", "used"), "once", true);
    let children = [waiting("taken"), again, with(echo(2), "workflow_id", "used")];
    test.start("family", "parent", &family(&children, "results")).await;
    let expected = json!([
        format!("child workflow `signals` was not started: workflow taken has the open run {open}"),
        format!(
            "child workflow `echo` was not started: workflow id used was that of the closed run {closed}, \
             and the id reuse policy does not allow it again"
        ),
        "2",
    ]);
    assert_eq!(returned(&test.end("parent").await), expected);
    assert!(test.host.describe(&run("taken")).await.unwrap().parent.is_none(), "it is another's");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_childs_failure_cancellation_and_termination_reach_the_parent() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let failing = json!({ "workflow_type": "family", "input": family(&[], "fail") });
    let children = [failing, waiting("canceled"), waiting("terminated")];
    test.start("family", "parent", &family(&children, "results")).await;
    test.until("canceled", |_| true).await;
    test.cancel("canceled").await.unwrap();
    test.until("terminated", |_| true).await;
    test.terminate("terminated").await.unwrap();
    let expected = json!([
        "child workflow `family` failed: the family falls apart",
        "child workflow `signals` was canceled: the workflow was canceled",
        "child workflow `signals` was terminated: the workflow was terminated: enough",
    ]);
    assert_eq!(returned(&test.end("parent").await), expected);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_continues_as_new_tells_of_its_last_run() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let child = json!({ "workflow_type": "signals", "workflow_id": "child",
        "input": { "count": 5, "continue_every": 2 } });
    test.start("family", "parent", &family(&[child], "results")).await;
    test.until("child", |_| true).await;
    for number in 0..5 {
        test.signal("child", "add", &json!(number)).await.unwrap();
    }
    assert_eq!(returned(&test.end("parent").await), json!(["[0,1,2,3,4]"]));
    let chain = test.chain("child").await;
    assert!(chain.len() > 1, "it went on");
    for (run_id, events) in &chain {
        let EventKind::Input(Input::WorkflowStarted(started)) = &events[0].kind else { panic!("{run_id}") };
        assert_eq!(started.parent.as_ref().unwrap().workflow_id.0, "parent");
    }
    test.stop().await;
}

/// Three children, one of each parent-close policy.
fn three() -> [Value; 3] {
    [("terminate", "terminated"), ("request_cancel", "canceled"), ("abandon", "abandoned")]
        .map(|(policy, id)| with(waiting(id), "parent_close_policy", policy))
}

/// The children of [`three`] after their parent has closed; the last one outlives it.
async fn each_went_its_way(test: &TestHost, how: &str) {
    let terminated = test.end("terminated").await;
    assert_eq!(terminated.status, RunStatus::Terminated);
    assert!(failure_text(&terminated).ends_with(&format!("was terminated: its parent parent {how}")));
    let canceled = test.end("canceled").await;
    assert_eq!(canceled.status, RunStatus::Canceled);
    let abandoned = test.host.describe(&run("abandoned")).await.unwrap();
    assert_eq!((abandoned.status, abandoned.cancel_requested), (RunStatus::Running, false));
    test.signal("abandoned", "add", &json!(1)).await.unwrap();
    assert_eq!(returned(&test.end("abandoned").await), json!([1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_outlives_its_parent_as_its_policy_says() {
    for (then, how) in [("return", "completed"), ("fail", "failed"), ("continue_as_new", "continued as new")]
    {
        let folder = tempfile::tempdir().unwrap();
        let test = TestHost::samples(folder.path()).await;
        test.start("family", "parent", &family(&three(), then)).await;
        each_went_its_way(&test, how).await;
        if then == "continue_as_new" {
            // Nothing of the children of the run before reaches the one that goes on.
            test.signal("parent", "go", &json!(null)).await.unwrap();
            let end = test.end("parent").await;
            assert_eq!(returned(&end), json!([]));
            let expected =
                ["1 WorkflowStarted", "2 SignalReceived", "3 SignalTaken go", "4 WorkflowCompleted"];
            assert_eq!(lines(&test.events("parent").await), expected);
        }
        test.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_and_a_cancelled_parent_leave_their_children_to_their_policies() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.start("family", "parent", &family(&three(), "go")).await;
    test.until("parent", |run| run.children.iter().all(|(_, child)| child.is_started)).await;
    test.terminate("parent").await.unwrap();
    each_went_its_way(&test, "was terminated").await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_parent_cancels_its_children_and_waits_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let kinds = [("wait", "waited"), ("try", "tried"), ("abandon", "abandoned")]
        .map(|(kind, id)| with(with(waiting(id), "cancellation", kind), "parent_close_policy", "abandon"));
    test.start("family", "parent", &family(&kinds, "results")).await;
    test.until("parent", |run| run.children.iter().all(|(_, child)| child.is_started)).await;
    test.cancel("parent").await.unwrap();
    // It hands on what its children told, as their parents' code does here.
    let told = returned(&test.end("parent").await);
    assert_eq!(told[0], "child workflow `signals` was canceled: the workflow was canceled");
    assert_eq!(told[1], "child workflow `signals` was cancelled");
    assert_eq!(told[2], "child workflow `signals` was cancelled");
    assert_eq!(test.end("waited").await.status, RunStatus::Canceled);
    assert_eq!(test.end("tried").await.status, RunStatus::Canceled);
    let abandoned = test.host.describe(&run("abandoned")).await.unwrap();
    assert_eq!((abandoned.status, abandoned.cancel_requested), (RunStatus::Running, false));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_asked_to_cancel_in_the_step_that_begins_it_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.start("family", "parent", &family(&[waiting("child"), echo(1)], "cancel")).await;
    let told = returned(&test.end("parent").await);
    assert_eq!(told[0], "child workflow `signals` was canceled: the workflow was canceled");
    assert_eq!(test.end("child").await.status, RunStatus::Canceled);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_child_is_terminated_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.deploy("hostile").await;
    let child = json!({ "workflow_type": "panic-beside-step", "workflow_id": "child", "input": "nothing" });
    test.start("family", "parent", &family(&[child], "go")).await;
    test.until("child", |run| run.history_length > 0).await;
    for _ in 0..2 {
        test.signal("child", "go", &json!(null)).await.unwrap();
    }
    test.until("child", |run| run.blocked.is_some()).await;
    test.signal("parent", "go", &json!(null)).await.unwrap();
    assert_eq!(test.end("child").await.status, RunStatus::Terminated);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_children_are_terminated_to_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let child = json!({ "workflow_type": "family", "workflow_id": "child",
        "input": family(&[waiting("grandchild")], "go") });
    test.start("family", "parent", &family(&[child], "go")).await;
    test.until("grandchild", |_| true).await;
    test.terminate("parent").await.unwrap();
    assert_eq!(test.end("child").await.status, RunStatus::Terminated);
    let grandchild = test.end("grandchild").await;
    assert!(failure_text(&grandchild).ends_with("was terminated: its parent child was terminated"));
    test.stop().await;
}

/// Every fifth commit is rolled back.
fn every_fifth(commit: usize) -> Option<CommitError> {
    (commit % 5 == 4).then(|| CommitError::RolledBack("the disk is full".to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_child_is_lost_or_doubled_by_rollbacks_and_kills() {
    const PARENTS: usize = 6;
    const EACH: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let mut test = TestHost::samples(folder.path()).await;
    for parent in 0..PARENTS {
        let children: Vec<Value> = (0..EACH)
            .map(|child| {
                let inner = [with(echo(child), "workflow_id", format!("echo-{parent}-{child}"))];
                json!({ "workflow_type": "family", "input": family(&inner, "results") })
            })
            .collect();
        test.start("family", &format!("parent-{parent}"), &family(&children, "results")).await;
    }
    for _ in 0..5 {
        test.kill().await;
        test = TestHost::open_failing(folder.path(), every_fifth).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let expected: Vec<String> = (0..EACH).map(|child| format!("[\"{child}\"]")).collect();
    for parent in 0..PARENTS {
        let id = format!("parent-{parent}");
        assert_eq!(returned(&test.end(&id).await), json!(expected));
        let events = test.events(&id).await;
        let of_type = |name: &str| events.iter().filter(|event| event.kind.type_name() == name).count();
        assert_eq!((of_type("ChildWorkflowStarted"), of_type("ChildWorkflowCompleted")), (EACH, EACH));
        assert!(signals(&events).is_empty());
        for child in 0..EACH {
            let chain = test.chain(&format!("echo-{parent}-{child}")).await;
            assert_eq!(chain.len(), 1, "it began once");
        }
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_children_and_bad_options_block_the_parent() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(TestStore::open(folder.path()).await.unwrap());
    let mut settings = HostSettings::default();
    settings.limits.pending_children = 2;
    let engine = EngineSettings::default();
    let test = TestHost::open_on(store, Registry::default(), &settings, engine, Clock::system());
    test.deploy("samples").await;
    let bad = [
        (json!([waiting("a"), waiting("b"), waiting("c")]), "a run has at most 2 children open at once"),
        (json!([{ "workflow_type": "" }]), "a workflow type is empty"),
        (json!([{ "workflow_type": "echo", "workflow_id": "" }]), "a workflow id is empty"),
        (json!([{ "workflow_type": "nowhere" }]), "no component with workflow type nowhere is deployed"),
    ];
    for (number, (children, reason)) in bad.into_iter().enumerate() {
        let id = format!("parent-{number}");
        test.start("family", &id, &json!({ "children": children, "then": "results" })).await;
        let blocked = test.until(&id, |run| run.blocked.is_some()).await;
        assert!(blocked.blocked.as_ref().unwrap().reason.contains(reason), "{:?}", blocked.blocked);
        assert_eq!(blocked.history_length, 0, "nothing was begun");
    }
    test.stop().await;
}
