//! Resets: an open or closed run goes on from an earlier event as a new run, with everything that belongs to it and nothing
//! that does not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "reset/binary.rs"]
mod binary;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use everfold::activity::{ActivityContext, Registry};
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::{
    ActivityOperation, ActivityState, ApiError, OperateRequest, Repeated, ResetDone, ResetPlace, ResetPoint,
    ResetRequest, RunRef, StartRequest, Terms,
};
use everfold::store::{CommitError, Store as _};
use everfold_core::command::Command;
use everfold_core::decision::Outcome;
use everfold_core::event::{Event, EventKind, Input, Note};
use everfold_core::failure::Failure;
use everfold_core::ids::{EventId, Namespace, RunId, Timestamp};
use everfold_core::machine::RunStatus;
use everfold_core::machine::update::UpdateStage;
use everfold_core::payload::Payload;
use serde_json::{Value, json};
use support::{
    PATIENCE, SAGA_ANSWERS, TestHost, component, lines, request, returned, run, saga_input, scheduled,
    signals, update,
};

const BEGIN: Timestamp = Timestamp(1_700_000_000_000);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const START: ResetPoint = ResetPoint::Place(ResetPlace::Start);
const LAST: ResetPoint = ResetPoint::Place(ResetPlace::Last);

const fn event(id: u64) -> ResetPoint {
    ResetPoint::Event(EventId(id))
}

async fn in_time(folder: &Path) -> (TestHost, VirtualTime) {
    let time = VirtualTime::starting_at(BEGIN);
    let (settings, engine) = (HostSettings::default(), EngineSettings::default());
    let clock = Clock::from_source(time.clone());
    let test = TestHost::open_at(folder, Registry::default(), &settings, engine, clock).await;
    test.deploy("samples").await;
    (test, time)
}

fn to(run: RunRef, point: ResetPoint) -> ResetRequest {
    let reason = "a test".to_owned();
    ResetRequest { run, to: point, reason, digest: None, request_id: None, dry_run: false }
}

async fn reset(test: &TestHost, id: &str, point: ResetPoint) -> ResetDone {
    test.host.reset(to(run(id), point)).await.unwrap()
}

async fn refused(test: &TestHost, request: ResetRequest) -> String {
    match test.host.reset(request).await {
        Err(ApiError::InvalidInput(reason)) => format!("invalid: {reason}"),
        Err(ApiError::Conflict(reason)) => format!("conflict: {reason}"),
        Err(ApiError::VersionConflict(reason)) => format!("version: {reason}"),
        Err(error) => error.to_string(),
        Ok(done) => panic!("it was reset: {done:?}"),
    }
}

fn one_run(id: &str, run_id: RunId) -> RunRef {
    RunRef { run_id: Some(run_id), ..run(id) }
}

async fn events_of(test: &TestHost, id: &str, run_id: RunId) -> Vec<Event> {
    test.host.export(&one_run(id, run_id)).await.unwrap().events
}

fn keys(events: &[Event]) -> Vec<(String, String)> {
    let key = |event: &Event| match &event.kind {
        EventKind::Command(Command::ActivityScheduled(activity)) => {
            Some((activity.activity_type.clone(), activity.idempotency_key.clone()))
        }
        EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
    };
    events.iter().filter_map(key).collect()
}

/// Activities that answer well, but that the payment is refused as long as `refuses` says so.
fn activities(refuses: &Arc<AtomicBool>) -> Registry {
    let mut registry = Registry::default();
    for (name, answer) in SAGA_ANSWERS {
        let refuses = Arc::clone(refuses);
        registry.register_fn(name, move |_: ActivityContext, _: Value| {
            let refuses = Arc::clone(&refuses);
            async move {
                if name == "process-payment" && refuses.load(Ordering::SeqCst) {
                    return Err(Failure::non_retryable("Refused", "no money"));
                }
                Ok(answer())
            }
        });
    }
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_failed_goes_on_from_before_its_failure() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = Arc::new(AtomicBool::new(true));
    let test = TestHost::open(folder.path(), activities(&refuses)).await;
    test.deploy("order").await;
    let failed = test.start("order-saga", "order", &saga_input()).await.run_id;
    assert_eq!(test.end("order").await.status, RunStatus::Failed);
    let before = test.events("order").await;
    assert_eq!(
        lines(&before)[..4],
        [
            "1 WorkflowStarted",
            "2 ActivityScheduled reserve-inventory",
            "3 ActivityCompleted",
            "4 ActivityScheduled process-payment"
        ]
    );
    refuses.store(false, Ordering::SeqCst);

    let asked = test.host.reset(ResetRequest { dry_run: true, ..to(run("order"), event(4)) }).await.unwrap();
    assert_eq!((asked.run_id, asked.reset_run_id), (None, failed));
    assert_eq!(test.events("order").await, before, "nothing was done");

    let done = reset(&test, "order", event(4)).await;
    assert_eq!(ResetDone { run_id: done.run_id, ..asked }, done);
    let release = before.iter().find(|event| event.id.0 > 4 && event.kind.type_name() == "ActivityScheduled");
    let repeated = |event_id: EventId, name: &str, key: Option<&str>| Repeated {
        event_id,
        event_type: "ActivityScheduled",
        name: Some(name.to_owned()),
        workflow_id: None,
        idempotency_key: key.map(str::to_owned),
    };
    let paid = keys(&before)[1].clone();
    assert_eq!(
        done.repeats,
        [
            repeated(EventId(4), "process-payment", Some(paid.1.as_str())),
            repeated(release.unwrap().id, "release-inventory-reservation", None),
        ]
    );
    let end = test.end("order").await;
    assert_eq!(end.status, RunStatus::Completed);
    assert_eq!(Some(end.key.run_id), done.run_id);
    let after = test.events("order").await;
    assert_eq!(after[1..4], before[1..4], "what is copied stays as it was");
    assert!(matches!(&after[4].kind, EventKind::Note(Note::RunReset(reset))
        if reset.from_run_id == failed && reset.to_event_id == EventId(4) && reset.reason == "a test"));
    assert_eq!(
        scheduled(&after),
        ["reserve-inventory", "process-payment", "update-inventory", "arrange-shipping"]
    );
    assert_eq!(keys(&after)[1], paid, "it goes on under its key");
    assert_eq!(events_of(&test, "order", failed).await, before, "the old run stays as it was");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_name_the_run_that_asked_first_also_in_another_host_and_behind_another_reset() {
    let folder = tempfile::tempdir().unwrap();
    let registry = || {
        let mut registry = Registry::default();
        registry.register_fn("noop", |_: ActivityContext, _: Value| async { Ok(json!(null)) });
        registry
    };
    let test = TestHost::open(folder.path(), registry()).await;
    test.deploy("samples").await;
    let first = test.start("long", "run", &json!({ "steps": 4 })).await.run_id;
    test.end("run").await;
    let second = reset(&test, "run", event(4)).await.run_id.unwrap();
    test.end("run").await;
    test.kill().await;
    let test = TestHost::open(folder.path(), registry()).await;
    // The second one has a note and another seed behind event 4.
    let third = reset(&test, "run", event(8)).await;
    assert_eq!((third.reset_run_id, third.to_event_id), (second, EventId(8)));
    let end = test.end("run").await;
    assert_eq!((end.status, Some(end.key.run_id)), (RunStatus::Completed, third.run_id));
    let keys: Vec<String> = keys(&test.events("run").await).into_iter().map(|(_, key)| key).collect();
    let third = end.key.run_id;
    assert_eq!(
        keys,
        [format!("{first}/2"), format!("{first}/4"), format!("{second}/8"), format!("{third}/12")]
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_run_makes_way_and_its_callers_wait_for_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let old = test.start("signals", "run", &json!({ "count": 3 })).await.run_id;
    test.signal("run", "add", &json!(1)).await.unwrap();
    test.signal("run", "add", &json!(2)).await.unwrap();
    let waits = {
        let (host, run) = (test.host.clone(), one_run("run", old));
        tokio::spawn(async move { host.result(&run, PATIENCE).await })
    };
    let done = reset(&test, "run", event(1)).await;
    assert_eq!((done.reset_run_id, done.to_event_id), (old, EventId(1)));
    // What came behind the boundary is delivered again, in order.
    test.until("run", |run| run.history_length == 7).await;
    assert_eq!(test.query(run("run"), "seen").await.unwrap(), json!([1, 2]));
    test.signal("run", "add", &json!(3)).await.unwrap();
    let end = waits.await.unwrap().unwrap();
    assert_eq!((returned(&end), Some(end.key.run_id)), (json!([1, 2, 3]), done.run_id));
    let events = test.events("run").await;
    assert_eq!(
        lines(&events)[..4],
        ["1 WorkflowStarted", "2 RunReset", "3 RandomReseeded", "4 SignalReceived"]
    );
    let old_run = test.host.describe(&one_run("run", old)).await.unwrap();
    assert_eq!(old_run.status, RunStatus::Terminated);
    assert_eq!(old_run.outcome, Some(Outcome::ContinuedAs(end.key.run_id)));
    let last = events_of(&test, "run", old).await.pop().unwrap();
    let EventKind::Note(Note::WorkflowTerminated(closed)) = last.kind else { panic!("{last:?}") };
    assert_eq!(closed.reason, format!("reset to event 1 as run {}: a test", end.key.run_id));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_boundary_of_a_run_that_nothing_goes_on_from_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = Arc::new(AtomicBool::new(false));
    let test = TestHost::open(folder.path(), activities(&refuses)).await;
    test.deploy("order").await;
    test.deploy("samples").await;
    test.start("order-saga", "order", &saga_input()).await;
    test.end("order").await;
    let length = test.events("order").await.len() as u64;
    for (point, reason) in [
        (1, "invalid: event 1 is within a step: a run is reset to the end of one, here 0 or 2"),
        (3, "invalid: event 3 is within a step: a run is reset to the end of one, here 2 or 4"),
        (length, "invalid: the last event that the run can be reset to is 8"),
        (1_000, "invalid: the last event that the run can be reset to is 8"),
    ] {
        assert_eq!(refused(&test, to(run("order"), event(point))).await, reason);
    }
    assert_eq!(refused(&test, to(run("nobody"), LAST)).await, "there is no workflow nobody");

    // It waits for its time: there is no event yet.
    let terms = Terms { start_delay_ms: Some(1_000_000), ..Terms::default() };
    test.host.start(StartRequest { terms, ..request("echo", "late", &json!(1)) }).await.unwrap();
    assert_eq!(
        refused(&test, to(run("late"), START)).await,
        "invalid: the run has not begun: it has no event to be reset to"
    );

    test.terminate("late").await.unwrap();
    for point in [START, LAST, event(1)] {
        assert_eq!(
            refused(&test, to(run("late"), point)).await,
            "invalid: the run closed before it began: it has no event to be reset to; start it again"
        );
    }

    // A closed run whose workflow id has an open one.
    let closed = test.start("echo", "used", &json!(1)).await.run_id;
    test.end("used").await;
    let opened = test.start("signals", "used", &json!({ "count": 1 })).await.run_id;
    assert_eq!(
        refused(&test, to(one_run("used", closed), START)).await,
        format!("workflow used is already running as {opened}")
    );

    // A run that was reset is the new one now.
    let again = reset(&test, "used", START).await.run_id.unwrap();
    assert_eq!(
        refused(&test, to(one_run("used", opened), START)).await,
        format!(
            "conflict: run {opened} was reset: it is run {again} now, and a reset does not go back past that: reset run {again}"
        )
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_past_a_continue_as_new_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let first = test.start("signals", "run", &json!({ "count": 4, "continue_every": 2 })).await.run_id;
    for number in 1..=3 {
        test.signal("run", "add", &json!(number)).await.unwrap();
    }
    let second = test.until("run", |run| run.key.run_id != first && run.history_length == 3).await.key.run_id;
    let expected = format!(
        "conflict: run {first} continued as new: it is run {second} now, and a reset does not go back past that: \
         reset run {second}"
    );
    for dry_run in [true, false] {
        let request = ResetRequest { dry_run, ..to(one_run("run", first), START) };
        assert_eq!(refused(&test, request).await, expected);
    }
    // The run that it is now can be reset, also to its start, and keeps what it was begun with.
    reset(&test, "run", START).await;
    test.signal("run", "add", &json!(4)).await.unwrap();
    assert_eq!(returned(&test.end("run").await), json!([1, 2, 3, 4]));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_fire_when_they_would_have_and_time_outs_count_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = in_time(folder.path()).await;
    let terms = Terms { run_timeout_ms: Some(86_400_000 * 10), ..Terms::default() };
    let sleeper = |id: &str, days: u64| StartRequest {
        terms: terms.clone(),
        ..request("sleeper", id, &json!({ "sleep_ms": days * 86_400_000 }))
    };
    test.host.start(sleeper("open", 3)).await.unwrap();
    test.host.start(sleeper("late", 12)).await.unwrap();
    time.advance(DAY);
    reset(&test, "open", LAST).await;
    let described = test.host.describe(&run("open")).await.unwrap();
    assert_eq!(described.timers, [(EventId(2), BEGIN.plus_ms(86_400_000 * 3))]);
    assert_eq!(described.deadline.map(|(at, _)| at), Some(BEGIN.plus_ms(86_400_000 * 11)));
    time.advance(DAY * 2);
    assert_eq!(
        returned(&test.end("open").await),
        json!({ "before": BEGIN.0, "after": BEGIN.plus_ms(86_400_000 * 3).0 })
    );
    // One that passed its time-out has all of it again, and its timer is due at once.
    time.advance(DAY * 7);
    assert_eq!(test.end("late").await.status, RunStatus::TimedOut);
    time.advance(DAY * 5);
    reset(&test, "late", LAST).await;
    let end = test.end("late").await;
    assert_eq!(end.status, RunStatus::Completed, "{end:?}");
    assert_eq!(returned(&end)["after"], json!(BEGIN.plus_ms(86_400_000 * 15).0));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_is_open_at_the_boundary_has_all_its_time_again() {
    let folder = tempfile::tempdir().unwrap();
    let (test, time) = in_time(folder.path()).await;
    // Nobody serves the queue of the activity.
    let input = json!({ "activity": "far", "task_queue": "elsewhere", "schedule_to_close_ms": 60_000 });
    test.start("remote", "run", &input).await;
    time.advance(Duration::from_secs(50));
    reset(&test, "run", event(2)).await;
    time.advance(Duration::from_secs(50));
    let described = test.until("run", |run| run.pending_activities.len() == 1).await;
    assert_eq!(described.status, RunStatus::Running);
    time.advance(Duration::from_secs(20));
    assert_eq!(test.end("run").await.status, RunStatus::Failed);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_behind_the_boundary_come_again_and_who_waits_hears_of_the_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.start("cart", "cart", &json!({})).await;
    let change = |article: &str| json!({ "article": article, "quantity": 1 });
    test.update("cart", "first", "change", &change("tea")).await.unwrap();
    // Its handler sleeps for an hour.
    let check_out = update("cart", "check-out", "check-out", &json!(3_600_000));
    let check_out = test.host.update(check_out).await.unwrap();
    let waits = {
        let (host, update) = (test.host.clone(), check_out.clone());
        tokio::spawn(async move { host.update_progress(&update, UpdateStage::Completed, PATIENCE).await })
    };
    let accepted = test.host.update_progress(&check_out, UpdateStage::Accepted, PATIENCE).await.unwrap();
    assert_eq!(accepted.stage, UpdateStage::Accepted);
    let new = reset(&test, "cart", event(1)).await.run_id.unwrap();
    test.until("cart", |run| run.pending_updates.len() == 1 && run.timers.len() == 1).await;
    assert_eq!(test.query(run("cart"), "articles").await.unwrap(), json!({ "tea": 1 }));
    let known = test.update("cart", "first", "change", &change("tea")).await.unwrap();
    assert_eq!((known.run_id, known.stage), (new, UpdateStage::Completed), "it is the same update");
    test.terminate("cart").await.unwrap();
    let end = waits.await.unwrap().unwrap();
    assert_eq!((end.run_id, end.stage), (new, UpdateStage::Completed));
    assert!(format!("{:?}", end.outcome).contains("AcceptedUpdateCompletedWorkflow"), "{:?}", end.outcome);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_cancel_is_undone_unless_nobody_has_answered_it() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.deploy("hostile").await;
    test.start("signals", "run", &json!({ "count": 1 })).await;
    test.cancel("run").await.unwrap();
    assert_eq!(test.end("run").await.status, RunStatus::Canceled);
    reset(&test, "run", event(1)).await;
    test.signal("run", "add", &json!(1)).await.unwrap();
    assert_eq!(returned(&test.end("run").await), json!([1]));

    // What waits in the inbox of a blocked run goes over, a request to cancel too.
    test.start("panic-beside-step", "blocked", &json!("nothing")).await;
    for _ in 0..2 {
        test.signal("blocked", "go", &json!(null)).await.unwrap();
    }
    test.until("blocked", |run| run.blocked.is_some()).await;
    test.cancel("blocked").await.unwrap();
    let new = reset(&test, "blocked", LAST).await.run_id.unwrap();
    let again = test.until("blocked", |run| run.blocked.is_some()).await;
    assert_eq!(again.key.run_id, new);
    let inbox = test.store.inbox(&again.key).await.unwrap();
    let waiting: Vec<_> = inbox.inputs.iter().map(|(_, waiting)| waiting.input.type_name()).collect();
    assert_eq!(waiting, ["SignalReceived", "WorkflowCancelRequested"]);
    test.stop().await;
}

fn family(children: &[Value], then: &str) -> Value {
    json!({ "children": children, "then": then })
}

fn waiting(id: &str, policy: &str) -> Value {
    json!({ "workflow_type": "signals", "workflow_id": id, "input": { "count": 1 }, "parent_close_policy": policy })
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_before_the_boundary_stay_and_later_ones_are_left_to_their_policy() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    // Two steps: the first child is begun in the first one, its grandchild's parent in its own.
    test.start("family", "parent", &family(&[waiting("child", "terminate")], "results")).await;
    let old = test.until("parent", |run| run.children.iter().any(|(_, child)| child.is_started)).await;
    let new = reset(&test, "parent", event(2)).await.run_id.unwrap();
    // The child is the new run's: it is not terminated, and tells that one of its end, also where it was reset itself.
    let child = test.until("child", |run| run.parent.as_ref().is_some_and(|of| of.run_id == new)).await;
    assert_eq!(child.status, RunStatus::Running);
    reset(&test, "child", START).await;
    test.signal("child", "add", &json!(7)).await.unwrap();
    let end = test.end("parent").await;
    assert_eq!((returned(&end), end.key.run_id), (json!(["[7]"]), new));

    assert_ne!(old.key.run_id, new);

    // Begun behind the boundary: it is terminated, and the new run begins one of its own under the same workflow id.
    let child = json!({ "child": { "id": "later", "steps": [{ "take": "b" }] } });
    test.start("program", "run", &json!({ "steps": [{ "take": "a" }, child] })).await;
    test.signal("run", "a", &json!(1)).await.unwrap();
    let first = test.until("later", |_| true).await.key.run_id;
    reset(&test, "run", event(1)).await;
    let second = test.until("later", |run| run.key.run_id != first).await;
    assert_eq!(second.status, RunStatus::Running);
    let closed = test.host.describe(&one_run("later", first)).await.unwrap();
    assert_eq!(closed.status, RunStatus::Terminated);
    test.signal("later", "b", &json!(2)).await.unwrap();
    let took = |name: &str, value: u64| json!({ "took": name, "value": value });
    assert_eq!(
        returned(&test.end("run").await),
        json!([took("a", 1), { "child": "later", "gave": [took("b", 2)] }])
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_without_a_workflow_id_is_named_by_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let child = json!({ "workflow_type": "signals", "input": { "count": 1 } });
    test.start("family", "parent", &family(&[child], "go")).await;
    let parent = test.until("parent", |run| run.children.iter().any(|(_, child)| child.is_started)).await;
    let child = &parent.children[0].1;
    assert_eq!(child.workflow_id.0, child.run_id.to_string());
    test.signal("parent", "go", &json!(null)).await.unwrap();
    assert_eq!(returned(&test.end("parent").await), json!([format!("started {}", child.run_id)]));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_parent_that_is_reset_hears_of_children_that_ended_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let children = [waiting("ended", "abandon"), waiting("open", "abandon"), waiting("killed", "terminate")];
    test.start("family", "parent", &family(&children, "results")).await;
    test.until("parent", |run| run.children.iter().all(|(_, child)| child.is_started)).await;
    test.terminate("parent").await.unwrap();
    assert_eq!(test.end("killed").await.status, RunStatus::Terminated);
    // More than a run's row keeps of an outcome, so that it stands in the history alone.
    test.signal("ended", "add", &json!(1)).await.unwrap();
    test.end("ended").await;
    let new = reset(&test, "parent", LAST).await.run_id.unwrap();
    test.until("parent", |run| run.children.len() == 1).await;
    let open = test.host.describe(&run("open")).await.unwrap();
    assert_eq!(open.parent.unwrap().run_id, new);
    test.signal("open", "add", &json!(2)).await.unwrap();
    assert_eq!(
        returned(&test.end("parent").await),
        json!([
            "[1]",
            "[2]",
            "child workflow `signals` was terminated: the workflow was terminated: its parent parent was terminated",
        ])
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_of_other_runs_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.start("signals", "other", &json!({ "count": 2 })).await;
    let messages = json!([
        { "workflow_id": "other", "signal": ["add", 1] },
        { "workflow_id": "nobody", "signal": ["add", 2] },
    ]);
    test.start("messenger", "run", &messages).await;
    let told = returned(&test.end("run").await);
    let before = test.events("run").await;
    let done = reset(&test, "run", event(2)).await;
    assert_eq!(done.repeats.len(), 1, "{:?}", done.repeats);
    assert_eq!(done.repeats[0].workflow_id.as_deref(), Some("nobody"));
    assert_eq!(returned(&test.end("run").await), told);
    assert_eq!(lines(&before)[1..3], ["2 ExternalSignalInitiated add", "3 ExternalRequestCompleted"]);
    assert_eq!(signals(&test.events("other").await).len(), 1, "it was sent once");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_goes_on_on_another_version_if_that_folds_what_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = Arc::new(AtomicBool::new(true));
    let mut registry = activities(&refuses);
    registry.register_fn("validate-order", |_: ActivityContext, _: Value| async {
        Ok(json!({ "amount_cents": 2_500 }))
    });
    registry.register_fn("cancel-order", |_: ActivityContext, _: Value| async {
        Ok(json!({ "canceled": true }))
    });
    let test = TestHost::open(folder.path(), registry).await;
    test.deploy("order").await;
    let newer = test.host.deploy(&Namespace::default(), component("order-next-plain")).await.unwrap().digest;
    test.start("order", "order", &saga_input()).await;
    let failed = test.end("order").await;
    assert_eq!(failed.status, RunStatus::Failed);
    refuses.store(false, Ordering::SeqCst);
    let on = |point| ResetRequest { digest: Some(newer), ..to(run("order"), point) };
    let reason = refused(&test, on(LAST)).await;
    assert!(
        reason.starts_with("version: the run does not replay up to event ")
            && reason.contains("at event 4 the history has"),
        "{reason}"
    );
    test.host.reset(on(event(2))).await.unwrap();
    let end = test.end("order").await;
    assert_eq!(end.status, RunStatus::Completed, "{end:?}");
    let events = test.events("order").await;
    assert_eq!(lines(&events)[2..4], ["3 RunReset", "4 VersionMoved"]);
    assert_eq!(scheduled(&events)[1], "update-inventory", "it is the new order of steps");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_start_a_run_begins_as_it_did_with_other_random_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let mut start = request("signals", "run", &json!({ "count": 2 }));
    start.details.memo.change(&vec![("note".to_owned(), Some(Payload::json(&1).unwrap()))]);
    let first = test.host.start(start).await.unwrap().run_id;
    test.signal("run", "add", &json!(1)).await.unwrap();
    let done = reset(&test, "run", START).await;
    assert_eq!((done.to_event_id, done.repeats.len()), (EventId(0), 0));
    test.signal("run", "add", &json!(2)).await.unwrap();
    assert_eq!(returned(&test.end("run").await), json!([1, 2]));
    let (before, after) = (events_of(&test, "run", first).await, test.events("run").await);
    let started = |events: &[Event]| match &events[0].kind {
        EventKind::Input(Input::WorkflowStarted(started)) => started.as_ref().clone(),
        other => panic!("{other:?}"),
    };
    let (before, after) = (started(&before), started(&after));
    assert_eq!((after.run_id, after.original_run_id), (done.run_id.unwrap(), done.run_id.unwrap()));
    assert_eq!((&after.input, &after.memo), (&before.input, &before.memo));
    let told = after.reset.expect("it says why");
    assert_eq!((told.from_run_id, told.to_event_id, told.reason.as_str()), (first, EventId(0), "a test"));
    assert_ne!(after.seed, before.seed);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_drawn_behind_the_boundary_is_drawn_anew() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = Arc::new(AtomicBool::new(true));
    let test = TestHost::open(folder.path(), activities(&refuses)).await;
    test.deploy("order").await;
    test.start("order-saga", "order", &saga_input()).await;
    test.end("order").await;
    let old = keys(&test.events("order").await);
    reset(&test, "order", event(2)).await;
    test.end("order").await;
    let new = keys(&test.events("order").await);
    // The saga draws its keys from its own generator.
    assert_eq!(old[0], new[0]);
    assert_eq!((old[1].0.as_str(), new[1].0.as_str()), ("process-payment", "process-payment"));
    assert_ne!(old[1].1, new[1].1);
    // Another host folds it the same.
    test.kill().await;
    let test = TestHost::open(folder.path(), activities(&refuses)).await;
    assert_eq!(test.query(run("order"), "status").await.unwrap()["state"], "failed");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_of_a_reset_run_is_not_taken_for_one_that_a_kill_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let called = Arc::new(AtomicU32::new(0));
    let registry = || {
        let mut registry = Registry::default();
        let called = Arc::clone(&called);
        registry.register_fn("once", move |context: ActivityContext, _: Value| {
            called.fetch_add(1, Ordering::SeqCst);
            async move { Ok(json!(context.info().attempt)) }
        });
        registry
    };
    let test = TestHost::open(folder.path(), registry()).await;
    test.deploy("samples").await;
    let input = json!({ "activity": "once", "start_to_close_ms": 10_000, "maximum_attempts": 1 });
    test.start("remote", "run", &input).await;
    assert_eq!(returned(&test.end("run").await), json!(1));
    test.kill().await;
    let test = TestHost::open(folder.path(), registry()).await;
    reset(&test, "run", event(2)).await;
    assert_eq!(returned(&test.end("run").await), json!(1), "it is the first attempt");
    assert_eq!(called.load(Ordering::SeqCst), 2);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_activity_stays_paused() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    let input = json!({ "activity": "far", "task_queue": "elsewhere", "start_to_close_ms": 60_000 });
    test.start("remote", "run", &input).await;
    test.until("run", |run| run.pending_activities.len() == 1).await;
    let operate = |operation| OperateRequest { run: run("run"), scheduled_event_id: EventId(2), operation };
    test.host.operate_activity(operate(ActivityOperation::Pause)).await.unwrap();
    let new = reset(&test, "run", event(2)).await.run_id.unwrap();
    let described = test.until("run", |run| run.pending_activities.len() == 1).await;
    assert_eq!(described.key.run_id, new);
    assert_eq!(described.pending_activities[0].state, ActivityState::Paused);
    test.host.operate_activity(operate(ActivityOperation::Resume)).await.unwrap();
    test.until("run", |run| run.pending_activities[0].state != ActivityState::Paused).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_done_once_open_or_closed() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestHost::samples(folder.path()).await;
    test.start("signals", "run", &json!({ "count": 1 })).await;
    let once = |request_id: &str| ResetRequest {
        request_id: Some(request_id.to_owned()),
        ..to(run("run"), event(1))
    };
    let open = test.host.reset(once("open")).await.unwrap();
    let again = test.host.reset(once("open")).await.unwrap();
    assert_eq!(ResetDone { is_duplicate: true, ..open.clone() }, again);
    test.signal("run", "add", &json!(1)).await.unwrap();
    test.end("run").await;
    let closed = test.host.reset(once("closed")).await.unwrap();
    assert_eq!(Some(closed.reset_run_id), open.run_id);
    let both = futures::future::join_all((0..4).map(|_| test.host.reset(once("closed")))).await;
    for again in both {
        assert_eq!(again.unwrap(), ResetDone { is_duplicate: true, ..closed.clone() });
    }
    test.stop().await;
}

/// Every third commit is rolled back.
fn every_third(commit: usize) -> Option<CommitError> {
    (commit % 3 == 2).then(|| CommitError::RolledBack("the disk is full".to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_whole_or_not_there_behind_rollbacks_and_kills() {
    const RUNS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let mut test = TestHost::samples(folder.path()).await;
    let id = |number: usize| format!("run-{number}");
    for number in 0..RUNS {
        test.start("signals", &id(number), &json!({ "count": 3 })).await;
        test.signal(&id(number), "add", &json!(1)).await.unwrap();
    }
    for round in 0..4 {
        test.kill().await;
        test = TestHost::open_failing(folder.path(), every_third).await;
        let resets = (0..RUNS).map(|number| {
            let request_id = Some(format!("round-{round}"));
            test.host.reset(ResetRequest { request_id, ..to(run(&id(number)), event(1)) })
        });
        // Some are told that it was not done; some are killed before they are told.
        let resets = futures::future::join_all(resets);
        let _ = tokio::time::timeout(Duration::from_millis(5 * round), resets).await;
    }
    test.kill().await;
    let test = TestHost::open_failing(folder.path(), |_| None).await;
    for number in 0..RUNS {
        // The last round again, by those who were told nothing.
        let request_id = Some("round-3".to_owned());
        test.host.reset(ResetRequest { request_id, ..to(run(&id(number)), event(1)) }).await.unwrap();
        test.signal(&id(number), "add", &json!(2)).await.unwrap();
        test.signal(&id(number), "add", &json!(3)).await.unwrap();
        assert_eq!(returned(&test.end(&id(number)).await), json!([1, 2, 3]));
        let events = test.events(&id(number)).await;
        let EventKind::Input(Input::WorkflowStarted(started)) = &events[0].kind else { panic!("{events:?}") };
        assert_ne!(started.run_id, started.original_run_id, "it was reset at least once");
        assert_eq!(signals(&events).len(), 3);
    }
    test.stop().await;
}
