//! A run that gets much at once is folded ahead of the disk: what was folded shares transactions, and is told when it
//! is committed; what does not come to be leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everfold::activity::{ActivityContext, Registry};
use everfold::clock::Clock;
use everfold::guest::EngineSettings;
use everfold::runner::api::ApiError;
use everfold::runner::{Host, HostSettings};
use everfold::store::{CommitError, Store as _};
use everfold::testing::TestStore;
use everfold_core::decision::BlockKind;
use everfold_core::limits::Limits;
use everfold_core::machine::RunStatus;
use futures::future::join_all;
use serde_json::{Value, json};
use support::{Failing, TestHost, returned, run, signals};
use tokio::sync::mpsc;

const SIGNALS: usize = 60;

async fn samples(folder: &Path, limits: Limits, fails: Failing) -> TestHost {
    let settings = HostSettings { limits, ..HostSettings::default() };
    let store = Arc::new(TestStore::open(folder).await.unwrap());
    store.fail(fails);
    let (engine, clock) = (EngineSettings::default(), Clock::system());
    let test = TestHost::open_on(store, Registry::default(), &settings, engine, clock);
    test.deploy("samples").await;
    test
}

/// Lets a run take what `sends` sends, while none of it is committed.
async fn while_held(test: &TestHost, sends: impl AsyncFnOnce(Host)) {
    let held = test.store.hold().await;
    let mut sending = std::pin::pin!(sends(test.host.clone()));
    let too_early = tokio::time::timeout(Duration::from_millis(300), &mut sending).await;
    assert!(too_early.is_err(), "nobody is told of what is not on disk");
    drop(held);
    sending.await;
}

/// Sends many signals at once; all are taken.
async fn many_signals(host: Host) {
    let send = |number| host.signal(support::signal("run", "add", &json!(number)));
    for answer in join_all((0..SIGNALS).map(send)).await {
        assert!(answer.is_ok(), "{answer:?}");
    }
}

/// Starts the run on a store some of whose commits fail.
async fn start_in_spite(test: &TestHost, workflow_type: &str, input: &Value) {
    while let Err(error) = test.host.start(support::request(workflow_type, "run", input)).await {
        assert!(matches!(error, ApiError::Busy(_)), "{error}");
    }
}

/// Every third commit is rolled back.
fn every_third(commit: usize) -> Option<CommitError> {
    (commit % 3 == 2).then(|| CommitError::RolledBack("the disk is full".to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_come_at_once_share_transactions_and_are_told_when_they_are_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), Limits::default(), |_| None).await;
    test.start("signals", "run", &json!({ "count": SIGNALS })).await;
    let before = test.store.commits();

    while_held(&test, many_signals).await;

    let end = test.end("run").await;
    assert_eq!(returned(&end).as_array().map(Vec::len), Some(SIGNALS));
    let took = test.store.commits() - before;
    assert!(took <= SIGNALS / 2, "{SIGNALS} signals took {took} transactions");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_folded_past_a_rolled_back_one_are_refused_and_can_be_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), Limits::default(), every_third).await;
    start_in_spite(&test, "signals", &json!({ "count": 300 })).await;
    let send = |number: usize| {
        let host = test.host.clone();
        tokio::spawn(async move {
            let mut refused = 0;
            loop {
                match host.signal(support::signal("run", "add", &json!(number))).await {
                    Ok(_) => return refused,
                    Err(ApiError::Busy(_)) => refused += 1,
                    Err(error) => panic!("signal {number}: {error}"),
                }
            }
        })
    };
    let refused: Vec<usize> = join_all((0..300).map(send)).await.into_iter().map(Result::unwrap).collect();
    assert!(refused.iter().sum::<usize>() > 0, "some transactions were rolled back");

    let end = test.end("run").await;
    assert_eq!(end.status, RunStatus::Completed);
    let numbers: Vec<i64> =
        signals(&test.events("run").await).iter().map(|(.., input)| input.as_i64().unwrap()).collect();
    assert_eq!(numbers.len(), 300, "what was refused left nothing behind");
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), 300, "each is there once");
    assert_eq!(returned(&end), json!(numbers), "and was folded in the order of the history");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_folded_past_a_rolled_back_one_are_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let test = samples(folder.path(), Limits::default(), every_third).await;
    start_in_spite(&test, "fan-out", &json!({ "width": 300 })).await;
    let end = test.end("run").await;
    assert_eq!(end.status, RunStatus::Completed);
    assert_eq!(test.events("run").await.len(), 1 + 300 + 300 + 1, "nothing is recorded twice");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_ahead_blocks_the_run_where_it_stands_on_disk_and_loses_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    // Events 2 to 21 are ten signals and their taking; the next signal may not be taken.
    let limits = Limits { history_events: 21, ..Limits::default() };
    let test = samples(folder.path(), limits, |_| None).await;
    test.start("signals", "run", &json!({ "count": 1_000 })).await;
    while_held(&test, many_signals).await;

    let blocked = test.until("run", |run| run.blocked.is_some()).await;
    let fault = blocked.blocked.unwrap();
    assert_eq!((fault.kind, fault.event_id.0), (BlockKind::LimitExceeded, 22), "{}", fault.reason);
    let events = test.events("run").await;
    assert_eq!(events.len(), 21, "what was folded before it is there");
    let key = test.host.describe(&run("run")).await.unwrap().key;
    let waiting = test.store.inbox(&key).await.unwrap();
    assert_eq!(signals(&events).len() + waiting.inputs.len(), SIGNALS, "the others wait");
    test.stop().await;
}

/// A run of the workflow that begins an activity with one signal and panics with the next, on a host whose
/// predecessor was killed; the activity tells its attempt, and waits until it is cancelled.
async fn beside_a_panic(folder: &Path) -> (TestHost, mpsc::UnboundedReceiver<u32>) {
    let before = samples(folder, Limits::default(), |_| None).await;
    before.deploy("hostile").await;
    before.kill().await;
    let (began, begins) = mpsc::unbounded_channel();
    let mut registry = Registry::default();
    registry.register_fn("slow", move |context: ActivityContext, (): ()| {
        let began = began.clone();
        async move {
            began.send(context.info().attempt).unwrap();
            context.cancelled().await;
            began.send(0).unwrap();
            Err::<(), _>(context.canceled_failure())
        }
    });
    let store = Arc::new(TestStore::open(folder).await.unwrap());
    let (settings, engine) = (HostSettings::default(), EngineSettings::default());
    let test = TestHost::open_on(store, registry, &settings, engine, Clock::system());
    test.start("panic-beside-step", "run", &json!("slow")).await;
    (test, begins)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_a_commit_before_a_fault_scheduled_is_begun_once_and_as_the_first_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let (test, mut begins) = beside_a_panic(folder.path()).await;
    while_held(&test, async |host| {
        let go = || host.signal(support::signal("run", "go", &json!(null)));
        let (first, second) = futures::join!(go(), go());
        assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    })
    .await;
    test.until("run", |run| run.blocked.is_some()).await;
    assert_eq!(begins.recv().await, Some(1), "it was never begun before");
    let key = test.host.describe(&run("run")).await.unwrap().key;
    assert_eq!(test.store.attempts(&key).await.unwrap(), [], "no attempt of it was lost");
    assert!(begins.try_recv().is_err(), "it is begun once");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_a_commit_before_a_fault_cancelled_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (test, mut begins) = beside_a_panic(folder.path()).await;
    test.signal("run", "go", &json!(null)).await.unwrap();
    assert_eq!(begins.recv().await, Some(1));
    while_held(&test, async |host| {
        let asked = test.store.asked();
        let go = async {
            // What cancels the activity comes first: it is on its way to the disk.
            while test.store.asked() == asked {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            host.signal(support::signal("run", "go", &json!(null))).await
        };
        let (cancelled, gone) = futures::join!(host.cancel(support::stop("run")), go);
        assert!(cancelled.is_ok() && gone.is_ok(), "{cancelled:?} {gone:?}");
    })
    .await;
    test.until("run", |run| run.blocked.is_some()).await;
    let told = tokio::time::timeout(support::PATIENCE, begins.recv()).await;
    assert_eq!(told.unwrap(), Some(0), "it is asked to stop");
    test.stop().await;
}
