//! Routes, versions and the runs on them, and runs that move.

use everfold_core::decision::{BlockChange, Blocked, Closed, Decision, Outcome};
use everfold_core::failure::Failure;
use everfold_core::ids::{Digest, EventId, Namespace, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use everfold_core::query::{Condition, Field, Query, Value};
use everfold_core::route::{Candidate, Percent, Route};

use super::Backend;
use super::components::component;
use super::fixtures::{
    DIGEST, advance, block, blocked, close, commit, commit_each, key, stand, start, start_on, started_at,
    workflow_id,
};
use crate::store::{
    NewComponent, OpenRunFilter, RetiredVersion, Retirement, RouteChange, RouteRow, RunRow, Standing, Store,
    Verdict, VersionRow,
};

/// When routes are changed and versions are retired here.
const AT: Timestamp = Timestamp(1_750_000_000_000);

/// The digest of a component of that number.
fn digest(number: u8) -> Digest {
    component(number, &[]).digest
}

async fn put(store: &impl Store, number: u8, types: &[&str]) {
    assert!(store.put_component(component(number, types)).await.unwrap());
}

async fn route(store: &impl Store, workflow_type: &str) -> RouteRow {
    let found = store.route(&Namespace::default(), workflow_type).await.unwrap();
    found.expect("the type has a route")
}

fn change(workflow_type: &str, expected_revision: i64, route: Route) -> RouteChange {
    let workflow_type = workflow_type.to_owned();
    RouteChange { namespace: Namespace::default(), workflow_type, expected_revision, route, at: AT }
}

async fn retire(store: &impl Store, workflow_type: &str, number: u8) -> Retirement {
    let version = RetiredVersion {
        namespace: Namespace::default(),
        workflow_type: workflow_type.to_owned(),
        digest: digest(number),
        at: AT,
    };
    store.retire(version).await.unwrap()
}

async fn standing(store: &impl Store, workflow_type: &str, number: u8) -> Standing {
    store.standing(&Namespace::default(), workflow_type, digest(number)).await.unwrap()
}

async fn versions(store: &impl Store, workflow_type: &str) -> Vec<VersionRow> {
    store.versions(&Namespace::default(), workflow_type).await.unwrap()
}

/// The row of a version that nobody started a run on.
fn unused(number: u8) -> VersionRow {
    let NewComponent { digest, sdk, deployed_at, bytes, .. } = component(number, &[]);
    VersionRow {
        digest,
        size: bytes.len() as u64,
        sdk,
        deployed_at,
        retired_at: None,
        routed_at: None,
        open: 0,
        blocked: 0,
        runs: 0,
        failed: 0,
        first_started_at: None,
        last_started_at: None,
    }
}

/// The same as the type's first version: new runs go there from the beginning.
fn first(number: u8) -> VersionRow {
    let unused = unused(number);
    VersionRow { routed_at: Some(unused.deployed_at), ..unused }
}

/// The step by which the `n`th run fails.
fn fail(n: usize, at: Timestamp) -> Decision {
    let outcome = Outcome::Failure(Failure::application("Broken", "it broke"));
    let closed = Some(Closed { status: RunStatus::Failed, at, outcome });
    Decision { closed, ..stand(n, EventId(2)) }
}

async fn run_row(store: &impl Store, n: usize) -> RunRow {
    store.run(&key(n)).await.unwrap().expect("the run is there")
}

pub(crate) async fn a_types_first_version_is_current(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    put(&store, 2, &["b", "a"]).await;
    put(&store, 1, &["a", "c"]).await;
    let row = |workflow_type: &str, number| RouteRow {
        workflow_type: workflow_type.to_owned(),
        route: Route::to(digest(number)),
        revision: 1,
        changed_at: component(number, &[]).deployed_at,
    };
    let namespace = Namespace::default();
    assert_eq!(store.routes(&namespace).await.unwrap(), [row("a", 2), row("b", 2), row("c", 1)]);
    assert_eq!(route(&store, "a").await, row("a", 2));
    assert_eq!(store.route(&namespace, "d").await.unwrap(), None);
    assert_eq!(store.routes(&Namespace("elsewhere".to_owned())).await.unwrap(), []);
}

pub(crate) async fn a_route_reads_back(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    put(&store, 1, &["a", "b"]).await;
    put(&store, 2, &["a"]).await;
    put(&store, 3, &["a"]).await;
    let ramped = |percent| {
        let ramp = Percent::try_from(percent).expect("it is a share");
        Some(Candidate { digest: digest(3), ramp })
    };
    let routes = [
        Route { current: digest(2), candidate: ramped(0), previous: Some(digest(1)) },
        Route { current: digest(2), candidate: ramped(100), previous: None },
        Route { current: digest(3), candidate: None, previous: Some(digest(2)) },
        Route::to(digest(1)),
    ];
    for (revision, wanted) in (1..).zip(routes) {
        assert!(store.set_route(change("a", revision, wanted)).await.unwrap());
        let found = route(&store, "a").await;
        assert_eq!((found.route, found.revision, found.changed_at), (wanted, revision + 1, AT));
    }
    let routed: Vec<_> = versions(&store, "a").await.iter().map(|version| version.routed_at).collect();
    let first = component(1, &[]).deployed_at;
    assert_eq!(routed, [Some(AT), Some(AT), Some(first)], "each was sent runs; the earliest time stays");
    assert_eq!(route(&store, "b").await.route, Route::to(digest(1)), "another type's is its own");
}

pub(crate) async fn routed_components_are_those_of_all_namespaces(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    assert_eq!(store.routed().await.unwrap(), []);
    for number in 1..=4 {
        put(&store, number, &["a"]).await;
    }
    put(&store, 5, &["a", "b"]).await;
    let elsewhere = NewComponent { namespace: Namespace("elsewhere".to_owned()), ..component(6, &["a"]) };
    assert!(store.put_component(elsewhere).await.unwrap());
    let ramp = Percent::try_from(0).expect("it is a share");
    let candidate = Some(Candidate { digest: digest(3), ramp });
    let ramped = Route { current: digest(2), candidate, previous: Some(digest(1)) };
    assert!(store.set_route(change("a", 1, ramped)).await.unwrap());
    let mut routed = store.routed().await.unwrap();
    routed.sort_unstable_by_key(|digest| digest.0);
    assert_eq!(routed, [2, 3, 5, 6].map(digest), "a way back is no route");
}

pub(crate) async fn a_route_is_changed_from_its_last_revision_only(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    put(&store, 1, &["a"]).await;
    put(&store, 2, &["a"]).await;
    assert!(store.set_route(change("a", 1, Route::to(digest(2)))).await.unwrap());
    let before = route(&store, "a").await;
    for stale in [0, 1, 3, i64::MAX] {
        assert!(!store.set_route(change("a", stale, Route::to(digest(1)))).await.unwrap(), "from {stale}");
    }
    assert!(!store.set_route(change("b", 1, Route::to(digest(1)))).await.unwrap());
    let elsewhere = Namespace("elsewhere".to_owned());
    let there = RouteChange { namespace: elsewhere.clone(), ..change("a", 2, Route::to(digest(1))) };
    assert!(!store.set_route(there).await.unwrap());
    assert_eq!(route(&store, "a").await, before);
    assert_eq!(store.route(&elsewhere, "a").await.unwrap(), None);
}

pub(crate) async fn versions_count_their_runs(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    put(&store, 2, &["a"]).await;
    put(&store, 1, &["a", "b"]).await;
    commit_each(&store, [1, 2, 3, 4].map(|n| start_on(n, "a", digest(2))).to_vec()).await;
    commit_each(&store, vec![start_on(5, "a", digest(1)), start_on(6, "b", digest(1))]).await;
    commit_each(&store, vec![block(1, EventId(2), 0), close(2, EventId(2)), fail(3, AT)]).await;
    let old = VersionRow {
        open: 2,
        blocked: 1,
        runs: 4,
        failed: 1,
        first_started_at: Some(started_at(1)),
        last_started_at: Some(started_at(4)),
        ..first(2)
    };
    let one = |n, row| VersionRow {
        open: 1,
        runs: 1,
        first_started_at: Some(started_at(n)),
        last_started_at: Some(started_at(n)),
        ..row
    };
    assert_eq!(versions(&store, "a").await, [old, one(5, unused(1))]);
    assert_eq!(versions(&store, "b").await, [one(6, first(1))]);
    commit_each(&store, vec![fail(1, AT), close(4, EventId(2))]).await;
    let old = versions(&store, "a").await.swap_remove(0);
    assert_eq!((old.open, old.blocked, old.runs, old.failed), (0, 0, 4, 2));
}

pub(crate) async fn versions_without_runs_come_oldest_first(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    for number in [2, 3, 1] {
        put(&store, number, &["a"]).await;
    }
    // A run on a component that does not have its type is nobody's version.
    commit_each(&store, vec![start_on(1, "a", digest(9))]).await;
    assert_eq!(versions(&store, "a").await, [unused(3), first(2), unused(1)]);
    assert_eq!(versions(&store, "b").await, []);
    let elsewhere = Namespace("elsewhere".to_owned());
    assert_eq!(store.versions(&elsewhere, "a").await.unwrap(), []);
}

pub(crate) async fn a_component_stands_to_each_type_for_itself(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    put(&store, 1, &["a", "b"]).await;
    put(&store, 2, &["a", "b"]).await;
    assert_eq!(retire(&store, "a", 2).await, Retirement::Retired);
    assert_eq!(standing(&store, "a", 1).await, Standing::Version);
    assert_eq!(standing(&store, "a", 2).await, Standing::Retired(AT));
    assert_eq!(standing(&store, "b", 2).await, Standing::Version);
    assert_eq!(standing(&store, "c", 1).await, Standing::Unknown);
    assert_eq!(standing(&store, "a", 3).await, Standing::Unknown);
    let elsewhere = store.standing(&Namespace("elsewhere".to_owned()), "a", digest(1)).await;
    assert_eq!(elsewhere.unwrap(), Standing::Unknown);
}

pub(crate) async fn a_version_in_use_is_not_retired(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    for number in [1, 2, 3] {
        put(&store, number, &["a", "b"]).await;
    }
    let ramp = Percent::try_from(0).expect("it is a share");
    let candidate = Some(Candidate { digest: digest(2), ramp });
    let routed = Route { current: digest(1), candidate, previous: None };
    assert!(store.set_route(change("a", 1, routed)).await.unwrap());
    assert_eq!(retire(&store, "a", 1).await, Retirement::Routed);
    assert_eq!(retire(&store, "a", 2).await, Retirement::Routed, "also where no run starts yet");
    assert_eq!(retire(&store, "a", 9).await, Retirement::Unknown);
    assert_eq!(retire(&store, "z", 3).await, Retirement::Unknown);

    commit_each(&store, [1, 2].map(|n| start_on(n, "a", digest(3))).to_vec()).await;
    assert_eq!(retire(&store, "a", 3).await, Retirement::InUse(2));
    assert_eq!(retire(&store, "b", 3).await, Retirement::Retired, "no run of this type is on it");
    commit_each(&store, vec![close(1, EventId(2))]).await;
    assert_eq!(retire(&store, "a", 3).await, Retirement::InUse(1));
    assert_eq!(standing(&store, "a", 3).await, Standing::Version);
    commit_each(&store, vec![fail(2, AT)]).await;
    assert_eq!(retire(&store, "a", 3).await, Retirement::Retired);
    let row = versions(&store, "a").await.into_iter().find(|row| row.digest == digest(3));
    assert_eq!(row.and_then(|row| row.retired_at), Some(AT));
}

pub(crate) async fn a_retired_version_is_no_way_back(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    for number in [1, 2, 3] {
        put(&store, number, &["a"]).await;
    }
    let promoted = Route { current: digest(2), candidate: None, previous: Some(digest(1)) };
    assert!(store.set_route(change("a", 1, promoted)).await.unwrap());
    assert_eq!(retire(&store, "a", 3).await, Retirement::Retired);
    assert_eq!(route(&store, "a").await.revision, 2, "another one changes nothing");
    assert_eq!(retire(&store, "a", 1).await, Retirement::Retired);
    let after = route(&store, "a").await;
    assert_eq!((after.route, after.revision), (Route::to(digest(2)), 3));
    // Who would go back knows a route that is none any more.
    assert!(!store.set_route(change("a", 2, Route::to(digest(1)))).await.unwrap());
}

pub(crate) async fn the_same_bytes_bring_a_retired_version_back(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    put(&store, 1, &["a", "b"]).await;
    put(&store, 2, &["a", "b"]).await;
    assert_eq!(retire(&store, "a", 2).await, Retirement::Retired);
    let later = RetiredVersion {
        namespace: Namespace::default(),
        workflow_type: "a".to_owned(),
        digest: digest(2),
        at: AT.plus_ms(9),
    };
    assert_eq!(store.retire(later).await.unwrap(), Retirement::Retired);
    assert_eq!(standing(&store, "a", 2).await, Standing::Retired(AT), "the first time counts");
    assert_eq!(retire(&store, "b", 2).await, Retirement::Retired);
    let elsewhere = NewComponent { namespace: Namespace("elsewhere".to_owned()), ..component(2, &["a"]) };
    assert!(store.put_component(elsewhere).await.unwrap());
    assert_eq!(standing(&store, "a", 2).await, Standing::Retired(AT));
    assert!(!store.put_component(component(2, &["a", "b"])).await.unwrap());
    assert_eq!(standing(&store, "a", 2).await, Standing::Version);
    assert_eq!(standing(&store, "b", 2).await, Standing::Version);
}

/// The workflow ids of open runs that match, behind `after`.
async fn open(
    store: &impl Store,
    filter: &OpenRunFilter,
    after: Option<&WorkflowId>,
    limit: usize,
) -> Vec<WorkflowId> {
    let rows = store.open_runs(&Namespace::default(), filter, after, limit).await.unwrap();
    rows.into_iter().map(|row| row.workflow_id).collect()
}

pub(crate) async fn open_runs_come_in_pages_by_workflow_id(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    // Started in another order than that of their workflow ids.
    commit_each(&store, [7, 3, 5, 1, 9].map(start).to_vec()).await;
    commit_each(&store, vec![close(5, EventId(2))]).await;
    let all = OpenRunFilter::default();
    assert_eq!(open(&store, &all, None, 10).await, [1, 3, 7, 9].map(workflow_id));
    assert_eq!(open(&store, &all, None, 2).await, [1, 3].map(workflow_id));
    assert_eq!(open(&store, &all, Some(&workflow_id(3)), 2).await, [7, 9].map(workflow_id));
    assert_eq!(open(&store, &all, Some(&workflow_id(5)), 1).await, [workflow_id(7)], "a run that is gone");
    assert_eq!(open(&store, &all, Some(&workflow_id(9)), 2).await, []);
    let row = store.open_runs(&Namespace::default(), &all, None, 1).await.unwrap();
    assert_eq!(row, [run_row(&store, 1).await]);
    let elsewhere = store.open_runs(&Namespace("elsewhere".to_owned()), &all, None, 10).await;
    assert_eq!(elsewhere.unwrap(), []);
}

pub(crate) async fn open_runs_are_filtered(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let runs = [
        start_on(1, "a", digest(1)),
        start_on(2, "a", digest(2)),
        start_on(3, "b", digest(1)),
        start_on(4, "a", digest(1)),
        start_on(5, "a", digest(1)),
    ];
    commit_each(&store, runs.to_vec()).await;
    commit_each(&store, vec![block(3, EventId(2), 0), block(4, EventId(2), 0), close(5, EventId(2))]).await;
    let of_type = OpenRunFilter { workflow_type: Some("a".to_owned()), ..OpenRunFilter::default() };
    let on = OpenRunFilter { digest: Some(digest(1)), ..OpenRunFilter::default() };
    let is_blocked = |blocked| OpenRunFilter { blocked: Some(blocked), ..OpenRunFilter::default() };
    assert_eq!(open(&store, &of_type, None, 10).await, [1, 2, 4].map(workflow_id));
    assert_eq!(open(&store, &of_type, Some(&workflow_id(1)), 1).await, [workflow_id(2)]);
    assert_eq!(open(&store, &on, None, 10).await, [1, 3, 4].map(workflow_id));
    assert_eq!(open(&store, &is_blocked(true), None, 10).await, [3, 4].map(workflow_id));
    assert_eq!(open(&store, &is_blocked(false), None, 10).await, [1, 2].map(workflow_id));
    let all = OpenRunFilter { digest: on.digest, blocked: Some(true), ..of_type };
    assert_eq!(open(&store, &all, None, 10).await, [workflow_id(4)]);
}

pub(crate) async fn closed_runs_are_listed_by_their_end(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, [1, 2, 3, 4].map(start).to_vec()).await;
    let ends = [(1, 100), (2, 200), (3, 300)];
    commit_each(&store, ends.map(|(n, at)| fail(n, Timestamp(at))).to_vec()).await;
    let closed = async |from: i64| {
        let query = Query::all([Condition::at_least(Field::CloseTime, Value::Time(Timestamp(from)))]);
        let rows = store.runs(&Namespace::default(), &query, None, 10).await.unwrap();
        rows.into_iter().map(|row| row.workflow_id).collect::<Vec<_>>()
    };
    assert_eq!(closed(0).await, [3, 2, 1].map(workflow_id), "an open run has no end");
    assert_eq!(closed(200).await, [3, 2].map(workflow_id));
    assert_eq!(closed(301).await, []);
}

pub(crate) async fn a_step_moves_its_run(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2), block(1, EventId(2), 0)]).await;
    let moving = Decision { moved_to: Some(digest(1)), ..advance(1, EventId(2), 2) };
    commit_each(&store, vec![moving]).await;
    let row = run_row(&store, 1).await;
    assert_eq!((row.digest, row.next_event_id), (digest(1), EventId(4)));
    assert_eq!(row.blocked, Some(blocked(EventId(2), 0)), "a move alone heals nothing");
    // A run without a history moves without an event.
    let unnoted = Decision { moved_to: Some(digest(2)), ..stand(1, EventId(4)) };
    commit_each(&store, vec![unnoted, advance(1, EventId(4), 1)]).await;
    assert_eq!(run_row(&store, 1).await.digest, digest(2), "a step without a move changes nothing");
    // It may move in the step that closes it.
    commit_each(&store, vec![Decision { moved_to: Some(digest(3)), ..close(1, EventId(5)) }]).await;
    let row = run_row(&store, 1).await;
    assert_eq!((row.digest, row.status), (digest(3), RunStatus::Completed));
    assert_eq!(run_row(&store, 2).await.digest, DIGEST, "another run stays");
}

pub(crate) async fn a_refused_step_moves_nothing(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2), close(2, EventId(2))]).await;
    let moving = |n, expected| Decision { moved_to: Some(digest(1)), ..advance(n, EventId(expected), 1) };
    assert_eq!(commit(&store, moving(1, 7)).await, Verdict::Fenced);
    assert_eq!(commit(&store, moving(2, 3)).await, Verdict::Fenced, "it is closed");
    assert_eq!(run_row(&store, 1).await.digest, DIGEST);
    assert_eq!(run_row(&store, 2).await.digest, DIGEST);
    assert_eq!(store.history(&key(1), EventId(0), 10).await.unwrap().len(), 1);
}

pub(crate) async fn a_divergence_goes_with_its_block(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let trap = Blocked { divergence: None, ..blocked(EventId(2), 1) };
    let trapped = || Decision { blocked: BlockChange::Block(trap.clone()), ..stand(1, EventId(2)) };
    let cleared = || Decision { blocked: BlockChange::Clear, ..stand(1, EventId(2)) };
    commit_each(&store, vec![start(1), block(1, EventId(2), 0)]).await;
    assert!(run_row(&store, 1).await.blocked.is_some_and(|blocked| blocked.divergence.is_some()));
    commit_each(&store, vec![trapped()]).await;
    assert_eq!(run_row(&store, 1).await.blocked.as_ref(), Some(&trap));
    commit_each(&store, vec![block(1, EventId(2), 0), cleared(), trapped()]).await;
    assert_eq!(run_row(&store, 1).await.blocked.as_ref(), Some(&trap), "nothing is left of an earlier one");
}
