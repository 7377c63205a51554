//! Updates: validated where they are admitted, durable once they are, answered once; by runs that are blocked, killed,
//! closed, or that go on as new ones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everfold::activity::Registry;
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::{
    ApiError, IdConflictPolicy, RunRef, StartRequest, StartUpdate, Terms, UpdateProgress,
};
use everfold_core::command::UpdateOutcome;
use everfold_core::event::{Event, EventKind, Input};
use everfold_core::failure::Failure;
use everfold_core::history::pack;
use everfold_core::ids::{RunId, Timestamp};
use everfold_core::limits::Limits;
use everfold_core::machine::update::{
    ACCEPTED_UPDATE_COMPLETED_WORKFLOW, ADMITTED_UPDATE_COMPLETED_WORKFLOW, UpdateStage,
};
use everfold_core::payload::Payload;
use futures::future::join_all;
use serde_json::{Value, json};
use support::server::{Server, text};
use support::{PATIENCE, TestHost, lines, request, returned, root, run, saga_input, update};
use tokio::sync::Semaphore;

/// Lets an activity end so many times.
type Gate = Arc<Semaphore>;

/// An activity that waits at a gate.
fn gated(name: &str, gate: &Gate) -> Registry {
    let mut registry = Registry::default();
    let gate = Arc::clone(gate);
    registry.register_fn(name, move |_context, _input: Value| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("it is not closed").forget();
            Ok::<Value, Failure>(json!(5))
        }
    });
    registry
}

async fn samples(folder: &Path, gate: &Gate) -> TestHost {
    let test = TestHost::open(folder, gated("price", gate)).await;
    test.deploy("samples").await;
    test
}

fn change(quantity: i64) -> Value {
    json!({ "article": "tea", "quantity": quantity })
}

/// What an update was answered.
fn result(progress: &UpdateProgress) -> Value {
    match (&progress.stage, &progress.outcome) {
        (UpdateStage::Completed, Some(UpdateOutcome::Result(result))) => result.to_value(),
        other => panic!("it has no result: {other:?}"),
    }
}

/// The type of the failure that an update was answered with.
fn failed(progress: &UpdateProgress) -> String {
    match &progress.outcome {
        Some(UpdateOutcome::Failure(failure)) => failure.type_name().to_owned(),
        other => panic!("it has not failed: {other:?}"),
    }
}

fn admitted(events: &[Event]) -> Vec<String> {
    let of = |event: &Event| match &event.kind {
        EventKind::Input(Input::UpdateAdmitted(update)) => Some(update.update_id.clone()),
        EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => None,
    };
    events.iter().filter_map(of).collect()
}

fn of_run(id: &str, run_id: RunId) -> RunRef {
    RunRef { run_id: Some(run_id), ..run(id) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_admitted_accepted_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::new(Semaphore::new(0));
    let test = samples(folder.path(), &gate).await;
    test.start("cart", "cart", &json!({})).await;
    assert_eq!(result(&test.update("cart", "u-1", "change", &change(3)).await.unwrap()), json!(3));
    let priced = test.host.update(update("cart", "u-2", "check-out", &Value::Null)).await.unwrap();
    let accepted = test.host.update_progress(&priced, UpdateStage::Accepted, PATIENCE).await.unwrap();
    assert_eq!((accepted.stage, accepted.outcome), (UpdateStage::Accepted, None));
    let described = test.host.describe(&run("cart")).await.unwrap();
    let [pending] = &described.pending_updates[..] else { panic!("{described:?}") };
    assert_eq!((pending.name.as_str(), pending.stage), ("check-out", UpdateStage::Accepted));

    let cart = run("cart");
    let waiting = test.host.find_update(&cart, "u-2", UpdateStage::Completed, PATIENCE);
    let (answered, ()) = tokio::join!(waiting, async { gate.add_permits(1) });
    assert_eq!(result(&answered.unwrap()), json!(15));
    assert_eq!(returned(&test.end("cart").await), json!({ "tea": 3 }));
    assert_eq!(
        lines(&test.events("cart").await),
        [
            "1 WorkflowStarted",
            "2 UpdateAdmitted",
            "3 UpdateAccepted change",
            "4 UpdateCompleted change",
            "5 UpdateAdmitted",
            "6 UpdateAccepted check-out",
            "7 ActivityScheduled price",
            "8 ActivityCompleted",
            "9 UpdateCompleted check-out",
            "10 WorkflowCompleted",
        ]
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_is_refused_leaves_the_history_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &Gate::new(Semaphore::new(0))).await;
    test.start("cart", "cart", &json!({})).await;
    test.update("cart", "u-1", "change", &change(3)).await.unwrap();
    let before = pack(&test.events("cart").await);

    let refused = test.update("cart", "u-2", "change", &change(-4)).await;
    assert!(
        matches!(&refused, Err(ApiError::UpdateRejected(failure)) if failure.type_name() == "TooFew"),
        "{refused:?}"
    );
    let invalid = test.update("cart", "u-3", "change", &json!("four")).await;
    assert!(
        matches!(&invalid, Err(ApiError::UpdateRejected(failure)) if failure.type_name() == "InvalidInput"),
        "{invalid:?}"
    );
    let unknown = test.update("cart", "u-4", "burn", &Value::Null).await;
    assert!(
        matches!(&unknown, Err(ApiError::UnknownUpdate(known)) if known.contains("`check-out`")),
        "{unknown:?}"
    );
    let asked = test.host.find_update(&run("cart"), "u-2", UpdateStage::Completed, Duration::ZERO).await;
    assert!(matches!(asked, Err(ApiError::NotFound(_))), "{asked:?}");

    assert_eq!(pack(&test.events("cart").await), before);
    assert_eq!(test.host.describe(&run("cart")).await.unwrap().inbox_length, 0);
    // Its id may be used for another one.
    assert_eq!(result(&test.update("cart", "u-2", "change", &change(-3)).await.unwrap()), json!(0));
    test.stop().await;
}

/// What the validator lets through holds when the update is folded: no other one comes between.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_validated_at_the_event_where_it_is_admitted() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &Gate::new(Semaphore::new(0))).await;
    test.start("cart", "cart", &json!({})).await;
    test.update("cart", "fill", "change", &change(5)).await.unwrap();
    let take = async |number: usize| test.update("cart", &format!("u-{number}"), "change", &change(-1)).await;
    let answers = join_all((0..20).map(take)).await;
    let mut left: Vec<_> =
        answers.iter().flatten().map(|progress| result(progress).as_u64().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 3, 4]);
    let refused = |answer: &&Result<_, _>| matches!(answer, Err(ApiError::UpdateRejected(_)));
    assert_eq!(answers.iter().filter(refused).count(), 15);
    assert_eq!(admitted(&test.events("cart").await).len(), 6);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_update_id_is_one_update_also_when_it_is_answered_and_the_run_closed() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::new(Semaphore::new(0));
    let test = samples(folder.path(), &gate).await;
    let started = test.start("cart", "cart", &json!({})).await;
    let two = change(2);
    let add = || test.update("cart", "u-1", "change", &two);
    for progress in join_all((0..20).map(|_| add())).await {
        assert_eq!(result(&progress.unwrap()), json!(2));
    }
    assert_eq!(admitted(&test.events("cart").await), ["u-1"]);
    gate.add_permits(1);
    test.update("cart", "u-2", "check-out", &Value::Null).await.unwrap();
    test.end("cart").await;
    test.stop().await;

    let test = samples(folder.path(), &gate).await;
    let again = test.update("cart", "u-1", "change", &change(2)).await.unwrap();
    assert_eq!((again.run_id, result(&again)), (started.run_id, json!(2)));
    let new = test.update("cart", "u-3", "change", &change(2)).await;
    assert!(matches!(&new, Err(ApiError::NotFound(reason)) if reason.contains("no open run")), "{new:?}");
    let nobody = test.update("nobody", "u-1", "change", &change(2)).await;
    assert!(matches!(nobody, Err(ApiError::NotFound(_))), "{nobody:?}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_races_the_end_is_in_the_history_or_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &Gate::new(Semaphore::new(1_000))).await;
    for round in 0..20 {
        let id = format!("cart-{round}");
        let started = test.start("cart", &id, &json!({})).await;
        let changes = join_all((0..6).map(async |number: usize| {
            let update_id = format!("u-{number}");
            (update_id.clone(), test.update(&id, &update_id, "change", &change(1)).await)
        }));
        let end = async {
            if round % 2 == 0 {
                test.terminate(&id).await.unwrap();
            } else {
                test.update(&id, "end", "check-out", &Value::Null).await.unwrap();
            }
        };
        let (changes, ()) = tokio::join!(changes, end);
        test.end(&id).await;
        let events = test.host.export(&of_run(&id, started.run_id)).await.unwrap().events;
        let in_history = admitted(&events);
        for (update_id, answer) in changes {
            match answer {
                Ok(progress) => {
                    assert!(in_history.contains(&update_id), "{update_id}: {progress:?}");
                    assert!(result(&progress).as_u64().unwrap() > 0);
                }
                Err(ApiError::NotFound(_)) => assert!(!in_history.contains(&update_id), "{update_id}"),
                Err(other) => panic!("{other}"),
            }
        }
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_closed_run_has_not_answered_fails_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &Gate::new(Semaphore::new(0))).await;
    test.start("cart", "cart", &json!({})).await;
    test.update("cart", "u-1", "change", &change(1)).await.unwrap();
    let priced = test.host.update(update("cart", "u-2", "check-out", &Value::Null)).await.unwrap();
    let waiting = test.host.update_progress(&priced, UpdateStage::Completed, PATIENCE);
    let (answered, terminated) = tokio::join!(waiting, test.terminate("cart"));
    terminated.unwrap();
    assert_eq!(failed(&answered.unwrap()), ACCEPTED_UPDATE_COMPLETED_WORKFLOW);
    let asked = test.host.find_update(&run("cart"), "u-2", UpdateStage::Completed, Duration::ZERO).await;
    assert_eq!(failed(&asked.unwrap()), ACCEPTED_UPDATE_COMPLETED_WORKFLOW);

    // Announced, and nobody had a handler for it yet.
    test.start("cart", "shut", &json!({ "closed_at_first": true })).await;
    let early = test.host.update(update("shut", "u-1", "change", &change(1))).await.unwrap();
    let stage = test.host.update_progress(&early, UpdateStage::Accepted, Duration::ZERO).await.unwrap().stage;
    assert_eq!(stage, UpdateStage::Admitted);
    test.terminate("shut").await.unwrap();
    let answered = test.host.update_progress(&early, UpdateStage::Accepted, PATIENCE).await.unwrap();
    assert_eq!(failed(&answered), ADMITTED_UPDATE_COMPLETED_WORKFLOW);
    test.stop().await;
}

/// Unread signals and updates that were not accepted go over in order, and are validated where they arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_as_a_new_one_hands_over_what_was_not_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &Gate::new(Semaphore::new(0))).await;
    let first = test.start("cart", "cart", &json!({ "closed_at_first": true })).await;
    let send = async |update_id: &str, quantity| {
        test.host.update(update("cart", update_id, "change", &change(quantity))).await.unwrap()
    };
    let two = send("u-1", 2).await;
    test.signal("cart", "unread", &json!(1)).await.unwrap();
    let less = send("u-2", -5).await;
    let one = send("u-3", 1).await;
    test.signal("cart", "open", &Value::Null).await.unwrap();

    let progress = async |update| test.host.update_progress(update, UpdateStage::Completed, PATIENCE).await;
    let answered = progress(&two).await.unwrap();
    assert_ne!(answered.run_id, first.run_id);
    assert_eq!(result(&answered), json!(2));
    assert_eq!(result(&progress(&one).await.unwrap()), json!(3));
    let refused = progress(&less).await;
    assert!(
        matches!(&refused, Err(ApiError::UpdateRejected(failure)) if failure.type_name() == "TooFew"),
        "{refused:?}"
    );
    let asked = test
        .host
        .find_update(&of_run("cart", first.run_id), "u-3", UpdateStage::Completed, PATIENCE)
        .await
        .unwrap();
    assert_eq!(asked.run_id, answered.run_id, "who names the run before is sent on");
    let chain = test.chain("cart").await;
    assert_eq!(chain.len(), 2);
    assert_eq!(
        lines(&chain[1].1),
        [
            "1 WorkflowStarted",
            "2 UpdateAdmitted",
            "3 UpdateAccepted change",
            "4 UpdateCompleted change",
            "5 SignalReceived",
            "6 UpdateAdmitted",
            "7 UpdateAccepted change",
            "8 UpdateCompleted change",
        ]
    );
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_accepted_and_has_not_answered_does_not_go_over() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &Gate::new(Semaphore::new(0))).await;
    test.start("cart", "cart", &json!({ "continue_every": 1, "articles": { "tea": 1 } })).await;
    let priced = test.host.update(update("cart", "u-1", "check-out", &Value::Null)).await.unwrap();
    assert_eq!(result(&test.update("cart", "u-2", "change", &change(1)).await.unwrap()), json!(2));
    let answered = test.host.update_progress(&priced, UpdateStage::Completed, PATIENCE).await.unwrap();
    assert_eq!(failed(&answered), ACCEPTED_UPDATE_COMPLETED_WORKFLOW);
    test.until("cart", |run| run.history_length > 0).await;
    assert_eq!(test.chain("cart").await.len(), 2);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_to_a_blocked_run_wait_and_are_validated_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { history_events: 6, pending_updates: 2, ..Limits::default() };
    let settings = HostSettings { limits, ..HostSettings::default() };
    let registry = Registry::default();
    let test = TestHost::open_with(folder.path(), registry, &settings, Default::default()).await;
    test.deploy("samples").await;
    test.start("cart", "cart", &json!({})).await;
    test.update("cart", "u-1", "change", &change(1)).await.unwrap();
    // Its answer would be the seventh event.
    let second = test.host.update(update("cart", "u-2", "change", &change(1))).await.unwrap();
    test.until("cart", |run| run.blocked.is_some()).await;
    let third = test.host.update(update("cart", "u-3", "change", &change(-9))).await.unwrap();
    assert_eq!(
        test.host.update(update("cart", "u-2", "change", &change(1))).await.unwrap().from,
        second.from
    );
    assert_eq!(result(&test.update("cart", "u-1", "change", &change(1)).await.unwrap()), json!(1));
    let stage =
        test.host.update_progress(&third, UpdateStage::Completed, Duration::ZERO).await.unwrap().stage;
    assert_eq!(stage, UpdateStage::Admitted);
    let too_many = test.host.update(update("cart", "u-4", "change", &change(1))).await;
    assert!(
        matches!(&too_many, Err(ApiError::LimitExceeded(limit)) if limit.contains("at most 2")),
        "{too_many:?}"
    );
    let described = test.host.describe(&run("cart")).await.unwrap();
    assert_eq!(
        (described.history_length, described.inbox_length, described.pending_updates.len()),
        (4, 2, 2)
    );
    test.kill().await;

    let test = TestHost::open(folder.path(), Registry::default()).await;
    test.host
        .find_update(&run("cart"), "u-2", UpdateStage::Completed, PATIENCE)
        .await
        .map(|answered| {
            assert_eq!(result(&answered), json!(2));
        })
        .unwrap();
    let refused = test.host.find_update(&run("cart"), "u-3", UpdateStage::Completed, PATIENCE).await;
    assert!(
        matches!(&refused, Err(ApiError::UpdateRejected(failure)) if failure.type_name() == "TooFew"),
        "{refused:?}"
    );
    test.until("cart", |run| run.blocked.is_none() && run.inbox_length == 0).await;
    assert_eq!(admitted(&test.events("cart").await), ["u-1", "u-2"]);
    test.stop().await;
}

/// A component that was built before there were updates has no validator: it admits all, and they wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_without_a_validator_admits_every_update() {
    let folder = tempfile::tempdir().unwrap();
    let registry = gated("reserve-inventory", &Gate::new(Semaphore::new(0)));
    let test = TestHost::open(folder.path(), registry).await;
    let old = std::fs::read(root().join("tests/histories/0.1.0/order.wasm")).unwrap();
    test.host.deploy(&run("old").namespace, old).await.unwrap();
    test.start("order-saga", "old", &saga_input()).await;
    let sent = test.host.update(update("old", "u-1", "anything", &json!(1))).await.unwrap();
    let progress = test.host.update_progress(&sent, UpdateStage::Accepted, Duration::ZERO).await.unwrap();
    assert_eq!(progress.stage, UpdateStage::Admitted);
    assert_eq!(admitted(&test.events("old").await), ["u-1"]);
    test.terminate("old").await.unwrap();
    let answered = test.host.update_progress(&sent, UpdateStage::Accepted, PATIENCE).await.unwrap();
    assert_eq!(failed(&answered), ADMITTED_UPDATE_COMPLETED_WORKFLOW);
    test.stop().await;
}

/// A cart, with an update of that id.
fn cart_with(update_id: Option<&str>, quantity: i64) -> StartRequest {
    let update = StartUpdate {
        name: "change".to_owned(),
        input: Payload::json(&change(quantity)).unwrap(),
        headers: Vec::new(),
        update_id: update_id.map(str::to_owned),
    };
    let start = request("cart", "cart", &json!({}));
    StartRequest { update: Some(update), id_conflict: IdConflictPolicy::UseExisting, ..start }
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_to_a_run_with_a_start_delay_wait_for_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let time = VirtualTime::starting_at(Timestamp(1_700_000_000_000));
    let open = async || {
        let (settings, engine) = (HostSettings::default(), EngineSettings::default());
        let clock = Clock::from_source(time.clone());
        TestHost::open_at(folder.path(), Registry::default(), &settings, engine, clock).await
    };
    let test = open().await;
    test.deploy("samples").await;
    let terms = Terms { start_delay_ms: Some(3_600_000), ..Terms::default() };
    test.host.start(StartRequest { terms, ..request("cart", "cart", &json!({})) }).await.unwrap();
    let good = test.host.update(update("cart", "good", "change", &change(2))).await.unwrap();
    let bad = test.host.update(update("cart", "bad", "change", &change(-9))).await.unwrap();
    let again = test.host.update(update("cart", "good", "change", &change(2))).await.unwrap();
    assert_eq!((again.key.run_id, again.update_id.as_str()), (good.key.run_id, "good"));
    let waiting = test.host.describe(&run("cart")).await.unwrap();
    let stages: Vec<_> =
        waiting.pending_updates.iter().map(|update| (update.update_id.as_str(), update.stage)).collect();
    assert_eq!(stages, [("good", UpdateStage::Admitted), ("bad", UpdateStage::Admitted)]);
    test.kill().await;
    let test = open().await;
    time.advance(Duration::from_secs(3_600));
    let answered = test.host.update_progress(&good, UpdateStage::Completed, PATIENCE).await.unwrap();
    assert_eq!(result(&answered), json!(2));
    let refused = test.host.update_progress(&bad, UpdateStage::Completed, PATIENCE).await;
    assert!(matches!(refused, Err(ApiError::UpdateRejected(_))), "{refused:?}");
    assert_eq!(admitted(&test.events("cart").await), ["good"]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_an_update_begins_a_run_with_it_or_updates_the_open_one() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &Gate::new(Semaphore::new(0))).await;
    let start = async |request: StartRequest| {
        let (started, update) = test.host.start_with_update(request).await?;
        let progress = test.host.update_progress(&update, UpdateStage::Completed, PATIENCE).await?;
        Ok::<_, ApiError>((started, progress))
    };
    let (first, answered) = start(cart_with(Some("u-1"), 2)).await.unwrap();
    assert_eq!((first.is_duplicate, answered.run_id, result(&answered)), (false, first.run_id, json!(2)));
    let (again, answered) = start(cart_with(None, 3)).await.unwrap();
    assert_eq!((again.is_duplicate, again.run_id, result(&answered)), (true, first.run_id, json!(5)));
    let (again, answered) = start(cart_with(Some("u-1"), 2)).await.unwrap();
    assert_eq!((again.run_id, result(&answered)), (first.run_id, json!(2)), "the same id is the same update");
    let refused = start(cart_with(None, -6)).await;
    assert!(matches!(refused, Err(ApiError::UpdateRejected(_))), "{refused:?}");
    assert_eq!(test.query(run("cart"), "articles").await.unwrap(), json!({ "tea": 5 }));

    // Of a run that begins, the run stays.
    test.terminate("cart").await.unwrap();
    let refused = start(cart_with(None, -1)).await;
    assert!(matches!(refused, Err(ApiError::UpdateRejected(_))), "{refused:?}");
    let described = test.host.describe(&run("cart")).await.unwrap();
    assert_ne!(described.key.run_id, first.run_id);
    assert_eq!(described.history_length, 1);

    let wrong = StartRequest { id_conflict: IdConflictPolicy::Fail, ..cart_with(None, 1) };
    assert!(matches!(test.host.start(wrong).await, Err(ApiError::InvalidInput(_))));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_an_update_is_done_once_also_when_its_run_has_closed_since() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), &Gate::new(Semaphore::new(0))).await;
    let by = |request_id: &str, quantity| StartRequest {
        request_id: Some(request_id.to_owned()),
        ..cart_with(None, quantity)
    };
    let start = async |request| {
        let (started, update) = test.host.start_with_update(request).await.unwrap();
        let progress = test.host.update_progress(&update, UpdateStage::Completed, PATIENCE).await.unwrap();
        (started.run_id, result(&progress))
    };
    // It began a run, and it updated one.
    let began = start(by("r-1", 1)).await;
    assert_eq!(start(by("r-1", 1)).await, began);
    let updated = start(by("r-2", 2)).await;
    assert_eq!(updated, (began.0, json!(3)));
    test.terminate("cart").await.unwrap();
    assert_eq!(start(by("r-1", 1)).await, began);
    assert_eq!(start(by("r-2", 2)).await, updated, "none is started for it");

    // Many at once make one run that has them all.
    test.start("cart", "other", &json!({})).await;
    let at_once = (0..10).map(|number| {
        let of = StartRequest { workflow_id: Some(run("many").workflow_id), ..by(&format!("m-{number}"), 1) };
        start(of)
    });
    let mut sums: Vec<_> =
        join_all(at_once).await.into_iter().map(|(_, sum)| sum.as_u64().unwrap()).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=10).collect::<Vec<_>>());
    test.stop().await;
}

/// The real binary, killed while a handler waits: the update is answered by the next process, and asked for by its id.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_survives_kill_9_between_admission_and_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data")).await;
    server.deploy("samples");
    assert!(server.everfold(&["start", "cart", "--id", "cart", "--input", "{}"]).status.success());
    let path = "/api/v1/workflows/cart/updates/check-out";
    let body = json!({ "input": 1_000, "update_id": "u-1", "wait_for": "accepted" });
    let sent = server.http.post(server.url(&format!("{path}?wait=30s"))).json(&body).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    let accepted: Value = sent.json().await.unwrap();
    assert_eq!((&accepted["stage"], &accepted["update_id"]), (&json!("accepted"), &json!("u-1")));
    assert!(accepted.get("result").is_none(), "{accepted}");
    server.kill();
    server.restart().await;
    let outcome = server.get("/api/v1/workflows/cart/updates/u-1?wait=30s").await;
    assert_eq!((&outcome["stage"], &outcome["result"]), (&json!("completed"), &json!(0)));
    let again = server.http.post(server.url(path)).json(&body).send().await.unwrap();
    assert_eq!(again.json::<Value>().await.unwrap(), outcome, "also after the run has closed");
    assert_eq!(server.get("/api/v1/workflows/cart/result").await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_and_http_send_updates() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data")).await;
    server.deploy("samples");
    let said = |arguments: &[&str]| {
        let output = server.everfold(arguments);
        (output.status.code().unwrap(), text(&output).trim().to_owned())
    };
    let with = ["start", "cart", "--id", "cart", "--input", "{}", "--update", "change", "--update-input"];
    let (code, answer) = said(&[&with[..], &[r#"{"article":"tea","quantity":2}"#]].concat());
    assert_eq!((code, answer.lines().next()), (0, Some("2")), "{answer}");
    let (code, answer) =
        said(&["update", "cart", "change", r#"{"article":"tea","quantity":1}"#, "--update-id", "u-1"]);
    assert_eq!((code, answer.as_str()), (0, "3"));
    let (code, answer) = said(&["update", "cart", "change", r#"{"article":"tea","quantity":-4}"#]);
    assert_eq!(code, 1, "{answer}");
    assert!(answer.contains("there are only 3 of tea"), "{answer}");
    let (code, answer) = said(&["update", "cart", "burn"]);
    assert_eq!(code, 3, "{answer}");
    let (code, _) = said(&["update", "nobody", "burn"]);
    assert_eq!(code, 3);
    let slow = ["update", "cart", "check-out", "60000", "--update-id", "slow"];
    let (code, answer) = said(&[&slow[..], &["--wait", "10ms"]].concat());
    assert_eq!(code, 4, "{answer}");
    let (code, answer) = said(&[&slow[..], &["--wait-for", "accepted"]].concat());
    assert_eq!((code, answer.as_str()), (0, "cart has accepted the update slow"));
    let (_, shown) = said(&["show", "cart"]);
    assert!(shown.contains("updates    accepted: check-out (slow)"), "{shown}");
    let (_, history) = said(&["history", "cart"]);
    assert!(history.contains("UpdateCompleted") && history.contains("(u-1) 3"), "{history}");
    let (_, versions) =
        said(&["deploy", "--check", root().join("target/components/samples.wasm").to_str().unwrap()]);
    assert!(!versions.is_empty());

    let ask = async |path: &str, body: Value| {
        let sent = server.http.post(server.url(path)).json(&body).send().await.unwrap();
        (sent.status().as_u16(), sent.json::<Value>().await.unwrap())
    };
    let path = "/api/v1/workflows/cart/updates/change";
    let (status, refused) = ask(path, json!({ "input": change(-9) })).await;
    assert_eq!((status, &refused["code"]), (422, &json!("update_rejected")));
    assert_eq!(refused["failure"]["kind"]["type"], "TooFew");
    let (status, unknown) = ask("/api/v1/workflows/cart/updates/burn", json!({})).await;
    assert_eq!((status, &unknown["code"]), (404, &json!("unknown_update")));
    let (status, gone) = ask("/api/v1/workflows/nobody/updates/burn", json!({})).await;
    assert_eq!((status, &gone["code"]), (404, &json!("not_found")));
    let (status, wrong) = ask(path, json!({ "wait_for": "rejected" })).await;
    assert_eq!((status, &wrong["code"]), (422, &json!("invalid_input")), "{wrong}");
}
