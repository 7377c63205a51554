//! Which runs a starting host has to look at.

use everfold_core::decision::{BlockChange, Decision};
use everfold_core::ids::{EventId, Namespace, RunKey};

use super::Backend;
use super::fixtures::{DIGEST, advance, block, close, commit_each, inbox_input, key, stand, start};
use crate::store::Store;

async fn needing(store: &impl Store) -> Vec<RunKey> {
    store.needing_attention(None, 1_000).await.unwrap()
}

pub(crate) async fn open_activities_need_attention(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), Decision { open_activities: 1, ..start(2) }]).await;
    assert_eq!(needing(&store).await, [key(2)]);
    commit_each(&store, vec![Decision { open_activities: 2, ..advance(1, EventId(2), 1) }]).await;
    assert_eq!(needing(&store).await, [key(1), key(2)]);
    commit_each(&store, vec![advance(1, EventId(3), 1), advance(2, EventId(2), 1)]).await;
    assert_eq!(needing(&store).await, []);
}

pub(crate) async fn an_inbox_needs_attention_until_it_is_empty(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let put = Decision { inbox_put: vec![inbox_input(1), inbox_input(2)], ..stand(1, EventId(2)) };
    let mut with_inbox = start(2);
    with_inbox.inbox_put = vec![inbox_input(1)];
    commit_each(&store, vec![start(1), put, with_inbox]).await;
    assert_eq!(needing(&store).await, [key(1), key(2)]);

    let seqs: Vec<_> = store.inbox(&key(1)).await.unwrap().inputs.into_iter().map(|(seq, _)| seq).collect();
    let take = |seq| Decision { inbox_taken: vec![seq], ..stand(1, EventId(2)) };
    // A row that is named twice counts once.
    commit_each(&store, vec![take(seqs[0]), take(seqs[0])]).await;
    assert_eq!(needing(&store).await, [key(1), key(2)]);
    commit_each(&store, vec![take(seqs[1])]).await;
    assert_eq!(needing(&store).await, [key(2)]);
}

pub(crate) async fn a_blocked_run_needs_attention(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), block(1, EventId(2), 0)]).await;
    assert_eq!(needing(&store).await, [key(1)]);
    let clear = Decision { blocked: BlockChange::Clear, ..stand(1, EventId(2)) };
    commit_each(&store, vec![clear]).await;
    assert_eq!(needing(&store).await, []);
}

pub(crate) async fn a_closed_run_needs_none(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let mut busy = Decision { open_activities: 2, ..block(1, EventId(2), 0) };
    busy.inbox_put = vec![inbox_input(1)];
    commit_each(&store, vec![start(1), busy]).await;
    assert_eq!(needing(&store).await, [key(1)]);
    commit_each(&store, vec![Decision { open_activities: 2, ..close(1, EventId(2)) }]).await;
    assert_eq!(needing(&store).await, []);
}

pub(crate) async fn it_is_listed_in_pages_by_key(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let mut starts: Vec<_> =
        [4, 2, 5, 1, 3].map(|n| Decision { open_activities: 1, ..start(n) }).into_iter().collect();
    // Runs in other namespaces, before and after; the run ids do not follow that order.
    starts[0].key.namespace = Namespace("b".to_owned());
    starts[3].key.namespace = Namespace("x".to_owned());
    let mut all: Vec<RunKey> = starts.iter().map(|start| start.key.clone()).collect();
    all.sort();
    commit_each(&store, starts).await;
    assert_eq!(needing(&store).await, all);
    for limit in 1..=all.len() + 1 {
        let mut paged: Vec<RunKey> = Vec::new();
        loop {
            let page = store.needing_attention(paged.last().cloned(), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all, "in pages of {limit}");
    }
}

pub(crate) async fn open_runs_are_counted_by_type_and_component(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    assert_eq!(store.survey().await.unwrap(), []);
    let mut other = start(4);
    other.new_run.as_mut().unwrap().workflow_type = "other".to_owned();
    let decisions = vec![start(1), start(2), start(3), other, block(1, EventId(2), 0), close(2, EventId(2))];
    commit_each(&store, decisions).await;
    let counts: Vec<_> = store
        .survey()
        .await
        .unwrap()
        .into_iter()
        .map(|count| {
            assert_eq!(count.digest, DIGEST);
            (count.workflow_type, count.open, count.blocked)
        })
        .collect();
    assert_eq!(counts, [("order-saga".to_owned(), 2, 1), ("other".to_owned(), 1, 0)]);
}
