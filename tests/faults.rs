//! A store that fails: a transaction that was rolled back is done again or refused, never half done;
//! one whose outcome is unknown ends the host.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use everfold::activity::{AttemptSettings, Attempts, Registry};
use everfold::clock::Clock;
use everfold::guest::{Engine, EngineSettings};
use everfold::runner::api::ApiError;
use everfold::runner::{Host, HostParts, HostSettings};
use everfold::store::{
    CommitError, ComponentRow, Epoch, NewComponent, OpenCount, OpenRunFilter, RetiredVersion, Retirement,
    RouteChange, RouteRow, RunFilter, RunRow, SqliteStore, Store, StoreError, TimerRow, Verdict, VersionRow,
};
use everfold::telemetry::Telemetry;
use everfold_core::decision::{Decision, InboxInput, InboxSeq, PendingActivity, Request};
use everfold_core::event::Event;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use serde_json::json;
use support::{PATIENCE, component, request, run};
use tokio::sync::mpsc;

/// A real store whose commits fail at some of the times.
struct Faulty {
    inner: SqliteStore,
    commits: AtomicUsize,
    fails: fn(usize) -> Option<CommitError>,
}

#[async_trait]
impl Store for Faulty {
    async fn commit(&self, decisions: Vec<Decision>) -> Result<Vec<Verdict>, CommitError> {
        match (self.fails)(self.commits.fetch_add(1, Ordering::SeqCst)) {
            Some(error) => Err(error),
            None => self.inner.commit(decisions).await,
        }
    }

    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }

    async fn put_component(&self, component: NewComponent) -> Result<bool, StoreError> {
        self.inner.put_component(component).await
    }

    async fn components(&self, namespace: &Namespace) -> Result<Vec<ComponentRow>, StoreError> {
        self.inner.components(namespace).await
    }

    async fn component_bytes(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.component_bytes(digest).await
    }

    async fn routes(&self, namespace: &Namespace) -> Result<Vec<RouteRow>, StoreError> {
        self.inner.routes(namespace).await
    }

    async fn route(&self, namespace: &Namespace, name: &str) -> Result<Option<RouteRow>, StoreError> {
        self.inner.route(namespace, name).await
    }

    async fn set_route(&self, change: RouteChange) -> Result<bool, StoreError> {
        self.inner.set_route(change).await
    }

    async fn versions(&self, namespace: &Namespace, name: &str) -> Result<Vec<VersionRow>, StoreError> {
        self.inner.versions(namespace, name).await
    }

    async fn retire(&self, version: RetiredVersion) -> Result<Retirement, StoreError> {
        self.inner.retire(version).await
    }

    async fn open_runs(
        &self,
        namespace: &Namespace,
        filter: &OpenRunFilter,
        after: Option<&WorkflowId>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.inner.open_runs(namespace, filter, after, limit).await
    }

    async fn run(&self, key: &RunKey) -> Result<Option<RunRow>, StoreError> {
        self.inner.run(key).await
    }

    async fn latest_run(&self, namespace: &Namespace, id: &WorkflowId) -> Result<Option<RunRow>, StoreError> {
        self.inner.latest_run(namespace, id).await
    }

    async fn request(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
        request: &Request,
    ) -> Result<Option<RunId>, StoreError> {
        self.inner.request(namespace, workflow_id, request).await
    }

    async fn runs(
        &self,
        namespace: &Namespace,
        filter: &RunFilter,
        after: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.inner.runs(namespace, filter, after, limit).await
    }

    async fn history(&self, key: &RunKey, after: EventId, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.inner.history(key, after, limit).await
    }

    async fn inbox(&self, key: &RunKey) -> Result<Vec<(InboxSeq, InboxInput)>, StoreError> {
        self.inner.inbox(key).await
    }

    async fn attempts(&self, key: &RunKey) -> Result<Vec<PendingActivity>, StoreError> {
        self.inner.attempts(key).await
    }

    async fn needing_attention(
        &self,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError> {
        self.inner.needing_attention(after, limit).await
    }

    async fn survey(&self) -> Result<Vec<OpenCount>, StoreError> {
        self.inner.survey().await
    }

    async fn timers_due(
        &self,
        until: Timestamp,
        after: Option<TimerRow>,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        self.inner.timers_due(until, after, limit).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }

    fn was_closed_in_order(&self) -> bool {
        self.inner.was_closed_in_order()
    }
}

/// A host on a faulty store, and what it says when it must not go on.
async fn host(
    folder: &std::path::Path,
    fails: fn(usize) -> Option<CommitError>,
) -> (Host, mpsc::UnboundedReceiver<String>) {
    let inner = SqliteStore::open(folder).await.unwrap();
    let store = Faulty { inner, commits: AtomicUsize::new(0), fails };
    let clock = Clock::system();
    let (fatal, reasons) = mpsc::unbounded_channel();
    let parts = HostParts {
        store: Arc::new(store),
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
