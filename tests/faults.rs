//! A store that fails: a transaction that was rolled back is done again or refused, never half done;
//! one whose outcome is unknown ends the host.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;

use everfold::activity::{AttemptSettings, Attempts, Registry};
use everfold::clock::Clock;
use everfold::guest::{Engine, EngineSettings};
use everfold::runner::api::ApiError;
use everfold::runner::{Host, HostParts, HostSettings};
use everfold::store::CommitError;
use everfold::telemetry::Telemetry;
use everfold::testing::TestStore;
use everfold_core::ids::Namespace;
use everfold_core::machine::RunStatus;
use serde_json::json;
use support::{Failing, PATIENCE, component, request, run};
use tokio::sync::mpsc;

/// A host on a faulty store, and what it says when it must not go on.
async fn host(folder: &std::path::Path, fails: Failing) -> (Host, mpsc::UnboundedReceiver<String>) {
    let store = Arc::new(TestStore::open(folder).await.unwrap());
    store.fail(fails);
    let clock = Clock::system();
    let (fatal, reasons) = mpsc::unbounded_channel();
    let parts = HostParts {
        store,
        engine: Engine::new(EngineSettings::default(), None).unwrap(),
        attempts: Attempts::new(Registry::default(), clock.clone(), AttemptSettings::default()),
        clock,
        telemetry: Telemetry::default(),
        on_fatal: Box::new(move |reason| fatal.send(reason.to_owned()).unwrap()),
    };
    let host = Host::open(parts, &HostSettings::default());
    host.deploy(&Namespace::default(), component("samples")).await.unwrap();
    (host, reasons)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_transaction_loses_nothing_and_answers_nothing_untrue() {
    let folder = tempfile::tempdir().unwrap();
    let every_third =
        |commit: usize| (commit % 3 == 2).then(|| CommitError::RolledBack("the disk is full".to_owned()));
    let (host, _) = host(folder.path(), every_third).await;
    for n in 0..12 {
        let id = format!("run-{n}");
        // A caller who is told that the host is busy may ask again: nothing was done.
        while let Err(error) = host.start(request("four-steps", &id, &json!({ "activity": "noop" }))).await {
            assert!(matches!(error, ApiError::Busy(_)), "{error}");
            let unknown = host.describe(&run(&id)).await;
            assert!(matches!(unknown, Err(ApiError::NotFound(_))), "{unknown:?}");
        }
    }
    for n in 0..12 {
        let id = format!("run-{n}");
        let end = host.result(&run(&id), PATIENCE).await.unwrap();
        assert_eq!(end.status, RunStatus::Completed, "{id}");
        let events = host.export(&run(&id)).await.unwrap().events;
        assert_eq!(events.len(), 10, "{id}: nothing is recorded twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_ends_the_host_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    {
        let fourth =
            |commit: usize| (commit >= 3).then(|| CommitError::Uncertain("the flush failed".to_owned()));
        let (host, mut reasons) = host(folder.path(), fourth).await;
        host.start(request("four-steps", "run", &json!({ "activity": "noop" }))).await.unwrap();
        let reason = reasons.recv().await.unwrap();
        assert!(reason.contains("the flush failed"), "{reason}");
        assert!(!host.is_ready());
        host.drain(std::time::Duration::ZERO).await;
    }
    let (host, _) = host(folder.path(), |_| None).await;
    assert_eq!(host.result(&run("run"), PATIENCE).await.unwrap().status, RunStatus::Completed);
}
