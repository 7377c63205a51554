//! Removing closed runs: what goes, what stays, and in which pieces.

use everfold_core::decision::{Decision, Operation, Request};
use everfold_core::ids::{EventId, Namespace, Timestamp};
use everfold_core::query::Query;

use super::Backend;
use super::fixtures::{
    advance, close, commit, commit_each, key, start, start_as, start_by_request, workflow_id,
};
use crate::store::{Left, RemovalBounds, Removed, Store, Verdict};

/// A batch without bounds.
const ALL: RemovalBounds = RemovalBounds { runs: 1_000, bytes: u64::MAX };

/// The step that closes the `n`th run, whose history has one event, at a time.
fn close_at(n: usize, at: i64) -> Decision {
    let mut decision = close(n, EventId(2));
    decision.closed.as_mut().expect("it closes").at = Timestamp(at);
    decision
}

async fn remove(store: &impl Store, before: i64, bounds: RemovalBounds) -> Removed {
    store.remove_closed(Timestamp(before), bounds).await.unwrap()
}

/// Which of the runs from 0 to `count` are there.
async fn there(store: &impl Store, count: usize) -> Vec<usize> {
    let mut found = Vec::new();
    for n in 0..count {
        if store.run(&key(n)).await.unwrap().is_some() {
            found.push(n);
        }
    }
    found
}

async fn events(store: &impl Store, n: usize) -> usize {
    store.history(&key(n), EventId(0), usize::MAX).await.unwrap().len()
}

async fn named(store: &impl Store, n: usize, request_id: &str) -> bool {
    let request = Request { operation: Operation::Start, request_id: request_id.to_owned() };
    store.request(&Namespace::default(), &workflow_id(n), &request).await.unwrap().is_some()
}

pub(crate) async fn runs_that_closed_before_a_time_are_removed_with_all_that_names_them(
    backend: &impl Backend,
) {
    let store = backend.open().await.unwrap();
    let runs = vec![start_by_request(0, 0, "r"), start_by_request(1, 1, "r"), start(2), start(3)];
    commit_each(&store, runs).await;
    commit_each(&store, vec![close_at(0, 10), close_at(1, 20), close_at(2, 30)]).await;
    let removed = remove(&store, 20, ALL).await;
    assert_eq!(removed, Removed { runs: 1, left: Left::Later(Some(Timestamp(20))) });
    assert_eq!(there(&store, 4).await, [1, 2, 3]);
    assert_eq!((events(&store, 0).await, named(&store, 0, "r").await), (0, false));
    assert_eq!((events(&store, 1).await, named(&store, 1, "r").await), (2, true));
    let listed = store.runs(&Namespace::default(), &Query::default(), None, 10).await.unwrap();
    assert_eq!(listed.len(), 3);

    // An open run stays, whatever the time.
    let removed = remove(&store, i64::MAX, ALL).await;
    assert_eq!(removed, Removed { runs: 2, left: Left::Later(None) });
    assert_eq!(there(&store, 4).await, [3]);
    assert_eq!(events(&store, 3).await, 1);
    commit_each(&store, vec![advance(3, EventId(2), 1)]).await;
    let removed = remove(&store, i64::MAX, ALL).await;
    assert_eq!(removed, Removed { runs: 0, left: Left::Later(None) });
}

pub(crate) async fn a_workflow_id_goes_on_with_the_runs_that_stay(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start_by_request(0, 7, "first"), close_at(0, 10)]).await;
    commit_each(&store, vec![start_by_request(1, 7, "second"), close_at(1, 20)]).await;
    let latest = async || {
        let row = store.latest_run(&Namespace::default(), &workflow_id(7)).await.unwrap();
        row.map(|row| row.key)
    };
    remove(&store, 15, ALL).await;
    assert_eq!(latest().await, Some(key(1)));
    assert_eq!((named(&store, 7, "first").await, named(&store, 7, "second").await), (false, true));
    let again = commit(&store, start_by_request(2, 7, "second")).await;
    assert_eq!(again, Verdict::SameRequest(key(1).run_id));
    commit_each(&store, vec![start_by_request(2, 7, "first")]).await;
    remove(&store, i64::MAX, ALL).await;
    assert_eq!(latest().await, Some(key(2)));
    assert_eq!((named(&store, 7, "first").await, named(&store, 7, "second").await), (true, false));
}

pub(crate) async fn removals_come_in_batches_the_earliest_first(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    for n in 0..5 {
        commit_each(&store, vec![start(n), close_at(n, 100 - n as i64)]).await;
    }
    let two = RemovalBounds { runs: 2, bytes: u64::MAX };
    assert_eq!(remove(&store, 1_000, two).await, Removed { runs: 2, left: Left::More });
    assert_eq!(there(&store, 5).await, [0, 1, 2]);
    assert_eq!(remove(&store, 1_000, two).await, Removed { runs: 2, left: Left::More });
    assert_eq!(remove(&store, 1_000, two).await, Removed { runs: 1, left: Left::Later(None) });
    assert_eq!(there(&store, 5).await, [0; 0]);
}

pub(crate) async fn a_long_history_goes_in_pieces_and_its_run_at_once<B: Backend>(backend: &B) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(0)]).await;
    commit_each(&store, (0..20).map(|step| advance(0, EventId(2 + step), 1)).collect()).await;
    let mut last = close(0, EventId(22));
    last.closed.as_mut().expect("it closes").at = Timestamp(10);
    commit_each(&store, vec![last, start(1), close_at(1, 20)]).await;
    // The smallest piece is a row.
    let little = RemovalBounds { runs: 10, bytes: 0 };
    assert_eq!(remove(&store, 100, little).await, Removed { runs: 1, left: Left::More });
    assert_eq!(there(&store, 2).await, [1]);
    assert_eq!(events(&store, 0).await, 21);
    assert_eq!(commit(&store, start_as(2, 0)).await, Verdict::COMMITTED, "the workflow id is free");
    drop(store);

    // The next host finds what the one before left.
    let store = backend.open().await.unwrap();
    let some = RemovalBounds { runs: 10, bytes: 2_000 };
    let (mut batches, mut before) = (0, events(&store, 0).await);
    while before > 0 {
        let removed = remove(&store, 100, some).await;
        let now = events(&store, 0).await;
        assert!(
            now < before && (now == 0 || removed == Removed { runs: 0, left: Left::More }),
            "{removed:?}"
        );
        (batches, before) = (batches + 1, now);
    }
    assert!(batches > 2, "{batches} batches");
    while remove(&store, 100, some).await.left == Left::More {}
    assert_eq!(there(&store, 3).await, [2]);
    assert_eq!((events(&store, 1).await, events(&store, 2).await), (0, 1));
}

pub(crate) async fn many_requests_go_in_pieces_before_their_run(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(0)]).await;
    for n in 0..10 {
        let request = Request { operation: Operation::Signal, request_id: format!("s-{n}") };
        let step = Decision { request: Some(request), ..advance(0, EventId(2 + n), 1) };
        commit_each(&store, vec![step]).await;
    }
    let mut last = close(0, EventId(12));
    last.closed.as_mut().expect("it closes").at = Timestamp(10);
    commit_each(&store, vec![last]).await;
    let four = RemovalBounds { runs: 10, bytes: 1_100 };
    assert_eq!(remove(&store, 100, four).await, Removed { runs: 0, left: Left::More });
    assert_eq!(there(&store, 1).await, [0]);
    assert_eq!(events(&store, 0).await, 12);
    while remove(&store, 100, four).await.left == Left::More {}
    assert_eq!((there(&store, 1).await, events(&store, 0).await), (vec![], 0));
    let request = Request { operation: Operation::Signal, request_id: "s-9".to_owned() };
    assert_eq!(store.request(&Namespace::default(), &workflow_id(0), &request).await.unwrap(), None);
}
