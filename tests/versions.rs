//! Versions side by side: runs that stay, move, are kept from moving, break and are healed. The order
//! component has three successors: `order-next` asks `get-version` before it changes the order of its
//! steps, `order-next-plain` just changes it, `order-next-broken` panics at its third step.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use everfold::activity::{ActivityContext, Registry};
use everfold::runner::api::{
    ApiError, Finding, Progress, RoutingChange, RoutingRequest, UpgradeReport, UpgradeRequest, WhoMoves,
};
use everfold_core::decision::BlockKind;
use everfold_core::event::{Event, EventKind, Note};
use everfold_core::ids::{Digest, EventId, Namespace, RunId, WorkflowId};
use everfold_core::machine::RunStatus;
use futures::future::join_all;
use serde_json::{Value, json};
use support::{SAGA_ANSWERS, TestHost, component, lines, run, saga_input, scheduled, signals};
use tokio::sync::watch;

const OLD_ORDER: [&str; 4] = ["validate-order", "process-payment", "update-inventory", "arrange-shipping"];
const NEW_ORDER: [&str; 4] = ["validate-order", "update-inventory", "process-payment", "arrange-shipping"];

/// Opens a host whose activities answer well. An order waits in the activity that its id begins with,
/// until it is let go.
async fn host(folder: &Path, let_go: &watch::Sender<bool>) -> TestHost {
    let mut registry = Registry::default();
    for name in SAGA_ANSWERS.map(|(name, _)| name).into_iter().chain(["validate-order", "cancel-order"]) {
        let let_go = let_go.subscribe();
        registry.register_fn(name, move |_: ActivityContext, input: Value| {
            let mut let_go = let_go.clone();
            async move {
                if input["order_id"].as_str().is_some_and(|id| id.starts_with(name)) {
                    let_go.wait_for(|go| *go).await.expect("the test is there");
                }
                Ok(well(name))
            }
        });
    }
    TestHost::open(folder, registry).await
}

fn well(name: &str) -> Value {
    match name {
        "validate-order" => json!({ "amount_cents": 2_500 }),
        "cancel-order" => json!({ "canceled": true }),
        _ => SAGA_ANSWERS.iter().find(|(known, _)| *known == name).unwrap().1(),
    }
}

/// Starts an order that waits in an activity, and waits until it does.
async fn order_waiting_in(test: &TestHost, activity: &str, number: usize) -> String {
    let id = format!("{activity}-{number}");
    let mut input = saga_input();
    input["order_id"] = json!(id);
    test.start("order", &id, &input).await;
    test.until(&id, |run| run.pending_activities.iter().any(|pending| pending.activity_type == activity))
        .await;
    id
}

async fn deploy(test: &TestHost, name: &str) -> Digest {
    test.host.deploy(&Namespace::default(), component(name)).await.unwrap().digest
}

async fn route(test: &TestHost, change: RoutingChange) -> Result<(), ApiError> {
    let request =
        RoutingRequest { namespace: Namespace::default(), workflow_type: "order".to_owned(), change };
    test.host.route(request).await.map(|_| ())
}

async fn upgrade(test: &TestHost, to: Digest, who_moves: WhoMoves) -> Result<UpgradeReport, ApiError> {
    let request = UpgradeRequest {
        namespace: Namespace::default(),
        workflow_type: "order".to_owned(),
        digest: to,
        workflow_ids: Vec::new(),
        who_moves,
    };
    test.host.upgrade(request, &watch::channel(Progress::default()).0).await
}

async fn digest_of(test: &TestHost, id: &str) -> Digest {
    test.host.describe(&run(id)).await.unwrap().digest
}

/// The moves in a history.
fn moves(events: &[Event]) -> Vec<(Digest, Digest)> {
    let of = |event: &Event| match &event.kind {
        EventKind::Note(Note::VersionMoved(moved)) => Some((moved.from, moved.to)),
        EventKind::Note(_) | EventKind::Input(_) | EventKind::Command(_) => None,
    };
    events.iter().filter_map(of).collect()
}

/// Two orders in each of the four steps.
async fn orders_everywhere(test: &TestHost) -> Vec<String> {
    let mut ids = Vec::new();
    for activity in OLD_ORDER {
        for number in 0..2 {
            ids.push(order_waiting_in(test, activity, number).await);
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_breaks_runs_is_refused_with_the_event_and_the_reason() {
    let (folder, let_go) = (tempfile::tempdir().unwrap(), watch::Sender::new(false));
    let test = host(folder.path(), &let_go).await;
    let old = deploy(&test, "order").await;
    let ids = orders_everywhere(&test).await;
    let plain = deploy(&test, "order-next-plain").await;

    let refused = upgrade(&test, plain, WhoMoves::AllOrNone).await;
    let Err(ApiError::Incompatible(report)) = refused else { panic!("{refused:?}") };
    assert_eq!((report.moved, report.kept), (0, 6), "all but the two that are not beyond validation");
    let [group] = report.groups.as_slice() else { panic!("{:?}", report.groups) };
    assert_eq!((group.finding, group.runs), (Finding::Diverged, 6));
    assert_eq!(
        group.reason,
        "the history has ActivityScheduled process-payment, the component makes ActivityScheduled update-inventory"
    );
    let example = &group.examples[0];
    assert_eq!((example.event_id, example.on), (Some(EventId(4)), old));
    assert!(example.backtrace.contains("order"), "the guest's functions are named: {}", example.backtrace);
    for id in &ids {
        assert_eq!(digest_of(&test, id).await, old, "{id} was not touched");
    }

    let_go.send_replace(true);
    for id in &ids {
        assert_eq!(test.end(id).await.status, RunStatus::Completed);
        let events = test.events(id).await;
        assert_eq!((scheduled(&events), moves(&events)), (OLD_ORDER.map(str::to_owned).to_vec(), vec![]));
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_mixed_population_exactly_the_compatible_ones_move() {
    let (folder, let_go) = (tempfile::tempdir().unwrap(), watch::Sender::new(false));
    let test = host(folder.path(), &let_go).await;
    let old = deploy(&test, "order").await;
    let ids = orders_everywhere(&test).await;
    let plain = deploy(&test, "order-next-plain").await;

    let report = upgrade(&test, plain, WhoMoves::Compatible).await.unwrap();
    assert_eq!((report.moved, report.kept, report.busy), (2, 6, 0));
    let again = upgrade(&test, plain, WhoMoves::Compatible).await.unwrap();
    assert_eq!((again.moved, again.already_there, again.kept), (0, 2, 6));

    // What moved stays moved behind a crash.
    test.kill().await;
    let test = host(folder.path(), &let_go).await;
    let_go.send_replace(true);
    for id in &ids {
        assert_eq!(test.end(id).await.status, RunStatus::Completed);
        let events = test.events(id).await;
        let (on, steps, moved) = if id.starts_with("validate-order") {
            (plain, NEW_ORDER, vec![(old, plain)])
        } else {
            (old, OLD_ORDER, vec![])
        };
        assert_eq!(digest_of(&test, id).await, on, "{id}");
        assert_eq!(scheduled(&events), steps, "{id}: {:?}", lines(&events));
        assert_eq!(moves(&events), moved, "{id}");
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_asks_takes_all_runs_and_old_ones_keep_the_old_branch() {
    let (folder, let_go) = (tempfile::tempdir().unwrap(), watch::Sender::new(false));
    let test = host(folder.path(), &let_go).await;
    let old = deploy(&test, "order").await;
    let ids = orders_everywhere(&test).await;
    let next = deploy(&test, "order-next").await;

    let report = upgrade(&test, next, WhoMoves::AllOrNone).await.unwrap();
    assert_eq!((report.moved, report.kept), (8, 0), "{:?}", report.groups);

    // On every replay from now on, too.
    test.kill().await;
    let test = host(folder.path(), &let_go).await;
    route(&test, RoutingChange::Promote(Some(next))).await.unwrap();
    let fresh = order_waiting_in(&test, "arrange-shipping", 9).await;
    let_go.send_replace(true);
    for id in &ids {
        assert_eq!(test.end(id).await.status, RunStatus::Completed);
        let events = test.events(id).await;
        assert_eq!(moves(&events), [(old, next)], "{id}");
        assert_eq!(digest_of(&test, id).await, next, "{id}");
        let steps = if id.starts_with("validate-order") { NEW_ORDER } else { OLD_ORDER };
        assert_eq!(scheduled(&events), steps, "{id}: {:?}", lines(&events));
    }
    assert_eq!(test.end(&fresh).await.status, RunStatus::Completed);
    let events = test.events(&fresh).await;
    assert_eq!(scheduled(&events), NEW_ORDER, "{:?}", lines(&events));
    test.stop().await;
}

/// Starts a hundred orders that a broken version blocks, and sends each a few signals meanwhile.
async fn hundred_blocked(test: &TestHost) -> BTreeMap<String, RunId> {
    let mut ids = BTreeMap::new();
    for number in 0..100 {
        let id = format!("order-{number}");
        let mut input = saga_input();
        input["order_id"] = json!(id);
        ids.insert(id.clone(), test.start("order", &id, &input).await.run_id);
    }
    for id in ids.keys() {
        let run = test.until(id, |run| run.blocked.is_some()).await;
        assert_eq!(run.blocked.unwrap().kind, BlockKind::Trap);
        assert_eq!(run.status, RunStatus::Running);
    }
    let send = |id: &String| {
        let id = id.clone();
        async move {
            for number in 0..3 {
                test.signal(&id, "note", &json!(format!("{id}/{number}"))).await.unwrap();
            }
        }
    };
    join_all(ids.keys().map(send)).await;
    ids
}

/// All of them went on from where they stood, with everything that they were sent.
async fn hundred_end_well(test: &TestHost, ids: &BTreeMap<String, RunId>, moved: (Digest, Digest)) {
    for (id, run_id) in ids {
        let end = test.end(id).await;
        assert_eq!((end.status, end.key.run_id), (RunStatus::Completed, *run_id), "{id}");
        let events = test.events(id).await;
        assert_eq!(scheduled(&events), OLD_ORDER, "{id}: {:?}", lines(&events));
        assert_eq!(moves(&events), [moved], "{id}: {:?}", lines(&events));
        let sent: Vec<Value> = (0..3).map(|number| json!(format!("{id}/{number}"))).collect();
        let received: Vec<Value> = signals(&events).into_iter().map(|(_, _, input)| input).collect();
        assert_eq!(received, sent, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_a_broken_version_blocked_end_well_when_it_is_rolled_back() {
    let (folder, let_go) = (tempfile::tempdir().unwrap(), watch::Sender::new(true));
    let test = host(folder.path(), &let_go).await;
    let old = deploy(&test, "order").await;
    let broken = deploy(&test, "order-next-broken").await;
    route(&test, RoutingChange::Promote(Some(broken))).await.unwrap();
    let ids = hundred_blocked(&test).await;
    route(&test, RoutingChange::RollBack).await.unwrap();
    hundred_end_well(&test, &ids, (broken, old)).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_heals_also_when_the_host_is_killed_right_behind_it() {
    let (folder, let_go) = (tempfile::tempdir().unwrap(), watch::Sender::new(true));
    let test = host(folder.path(), &let_go).await;
    let old = deploy(&test, "order").await;
    let broken = deploy(&test, "order-next-broken").await;
    route(&test, RoutingChange::Promote(Some(broken))).await.unwrap();
    let ids = hundred_blocked(&test).await;
    route(&test, RoutingChange::RollBack).await.unwrap();
    test.kill().await;
    let test = host(folder.path(), &let_go).await;
    hundred_end_well(&test, &ids, (broken, old)).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_version_heals_what_the_broken_one_blocked() {
    let (folder, let_go) = (tempfile::tempdir().unwrap(), watch::Sender::new(true));
    let test = host(folder.path(), &let_go).await;
    deploy(&test, "order").await;
    let broken = deploy(&test, "order-next-broken").await;
    route(&test, RoutingChange::Promote(Some(broken))).await.unwrap();
    let ids = hundred_blocked(&test).await;
    // The fix asks `get-version`, so that orders which have paid go on as they began.
    let fixed = deploy(&test, "order-next").await;
    route(&test, RoutingChange::Promote(Some(fixed))).await.unwrap();
    hundred_end_well(&test, &ids, (broken, fixed)).await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_heals_nothing_moves_nothing() {
    let (folder, let_go) = (tempfile::tempdir().unwrap(), watch::Sender::new(true));
    let test = host(folder.path(), &let_go).await;
    deploy(&test, "order").await;
    let broken = deploy(&test, "order-next-broken").await;
    route(&test, RoutingChange::Promote(Some(broken))).await.unwrap();
    let id = "order-1";
    let mut input = saga_input();
    input["order_id"] = json!(id);
    test.start("order", id, &input).await;
    let before = test.until(id, |run| run.blocked.is_some()).await;
    // The same code under another digest.
    let twin = test.host.deploy(&Namespace::default(), twin_of(component("order-next-broken"))).await;
    let twin = twin.unwrap().digest;
    route(&test, RoutingChange::Promote(Some(twin))).await.unwrap();
    let tried = |run: &everfold::runner::api::Description| {
        run.blocked.as_ref().is_some_and(|blocked| blocked.retries > before.blocked.as_ref().unwrap().retries)
    };
    let after = test.until(id, tried).await;
    assert_eq!((after.digest, after.history_length), (broken, before.history_length));

    // What waits for it would block it there, too. Whoever asks for the move all the same gets it: its past
    // holds there.
    let refused = upgrade(&test, twin, WhoMoves::AllOrNone).await;
    let Err(ApiError::Incompatible(report)) = refused else { panic!("{refused:?}") };
    let [group] = report.groups.as_slice() else { panic!("{:?}", report.groups) };
    assert_eq!((group.finding, group.examples[0].event_id), (Finding::Faulted, Some(EventId(5))));
    assert!(group.reason.starts_with("panicked at ") && !group.reason.contains(": "), "{}", group.reason);
    let report = upgrade(&test, twin, WhoMoves::Compatible).await.unwrap();
    assert_eq!(report.moved, 1);
    let moved = test.until(id, |run| run.blocked.is_some() && run.digest == twin).await;
    assert_eq!(moved.history_length, before.history_length + 1, "the move is in its history");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_never_began_moves_without_a_note() {
    let (folder, let_go) = (tempfile::tempdir().unwrap(), watch::Sender::new(true));
    let test = host(folder.path(), &let_go).await;
    let hostile = deploy(&test, "hostile").await;
    test.start("panic", "first", &Value::Null).await;
    let blocked = test.until("first", |run| run.blocked.is_some()).await;
    assert_eq!((blocked.history_length, blocked.inbox_length), (0, 1));
    let twin = test.host.deploy(&Namespace::default(), twin_of(component("hostile"))).await.unwrap().digest;
    let request = UpgradeRequest {
        namespace: Namespace::default(),
        workflow_type: "panic".to_owned(),
        digest: twin,
        workflow_ids: vec![WorkflowId("first".to_owned())],
        who_moves: WhoMoves::Compatible,
    };
    let unknown = UpgradeRequest { workflow_ids: vec![WorkflowId("frist".to_owned())], ..request.clone() };
    let unknown = test.host.upgrade(unknown, &watch::channel(Progress::default()).0).await;
    assert!(matches!(unknown, Err(ApiError::NotFound(_))), "{unknown:?}");
    let report = test.host.upgrade(request, &watch::channel(Progress::default()).0).await.unwrap();
    assert_eq!(report.moved, 1);
    assert_ne!(hostile, twin);
    let moved = test.until("first", |run| run.digest == twin && run.blocked.is_some()).await;
    assert_eq!((moved.history_length, moved.inbox_length), (0, 1), "its start waits still");
    test.stop().await;
}

/// The same code with other bytes: a custom section is appended.
fn twin_of(mut component: Vec<u8>) -> Vec<u8> {
    component.extend([0, 5, 4, b't', b'w', b'i', b'n']);
    component
}
