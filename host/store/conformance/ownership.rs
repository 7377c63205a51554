//! Who owns the store, and what survives a change of owner.

use std::sync::Arc;

use everfold_core::decision::Decision;
use everfold_core::ids::{Digest, EventId, Namespace, Timestamp};

use super::Backend;
use super::fixtures::{
    DIGEST, advance, attempt, commit, commit_each, inbox_input, key, start, start_by_request,
};
use crate::store::{CommitError, NewComponent, Store, StoreError, Verdict};

pub(crate) async fn one_store_at_a_time(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let Err(StoreError::InUse(_)) = backend.open().await else { panic!("the second opening is refused") };
    // The refusal took nothing away.
    assert_eq!(commit(&store, start(1)).await, Verdict::COMMITTED);
    drop(store);
    let store = backend.open().await.unwrap();
    assert!(store.run(&key(1)).await.unwrap().is_some());
}

pub(crate) async fn the_epoch_grows_with_every_opening(backend: &impl Backend) {
    let mut last = None;
    for _ in 0..3 {
        let store = backend.open().await.unwrap();
        assert!(last < Some(store.epoch()), "{last:?} then {:?}", store.epoch());
        last = Some(store.epoch());
    }
}

pub(crate) async fn a_stop_in_order_is_remembered_once(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    assert!(store.was_closed_in_order(), "a new store has nothing to look after");
    store.close().await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = backend.open().await.unwrap();
    assert!(store.was_closed_in_order());
    // Not closed: as after a kill.
    drop(store);
    let store = backend.open().await.unwrap();
    assert!(!store.was_closed_in_order());
    store.close().await.unwrap();
    assert!(!store.was_closed_in_order(), "that was the host before");
    drop(store);
    assert!(backend.open().await.unwrap().was_closed_in_order());
}

pub(crate) async fn a_closed_store_takes_no_more_but_can_be_read(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    store.close().await.unwrap();
    let Err(CommitError::RolledBack(_)) = store.commit(Arc::new(vec![start(2)])).await else {
        panic!("it is closed");
    };
    assert!(store.run(&key(1)).await.unwrap().is_some());
    drop(store);
    let store = backend.open().await.unwrap();
    assert_eq!(store.run(&key(2)).await.unwrap(), None);
}

pub(crate) async fn reopening_keeps_everything(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let mut step = Decision { open_activities: 1, ..advance(1, EventId(2), 3) };
    step.inbox_put = vec![inbox_input(1)];
    step.attempts = vec![attempt(EventId(3), 2)];
    step.effects.timers_started = vec![(EventId(4), Timestamp(10))];
    commit_each(&store, vec![start_by_request(1, 1, "r"), step]).await;
    let component = NewComponent {
        namespace: Namespace::default(),
        digest: DIGEST,
        workflow_types: vec!["order-saga".to_owned()],
        sdk: String::new(),
        deployed_at: Timestamp(0),
        bytes: b"\0asm".to_vec(),
    };
    store.put_component(component).await.unwrap();
    let before = everything(&store).await;
    drop(store);

    let store = backend.open().await.unwrap();
    assert_eq!(everything(&store).await, before);
    let again = start_by_request(2, 1, "r");
    assert_eq!(commit(&store, again).await, Verdict::SameRequest(key(1).run_id));
    assert_eq!(commit(&store, advance(1, EventId(5), 1)).await, Verdict::COMMITTED);
}

/// All that can be read of run 1 and of the components, as text.
async fn everything(store: &impl Store) -> String {
    let run = store.run(&key(1)).await.unwrap();
    let history = store.history(&key(1), EventId(0), 100).await.unwrap();
    assert_eq!(history.len(), 4);
    let inbox = store.inbox(&key(1)).await.unwrap();
    let attempts = store.attempts(&key(1)).await.unwrap();
    let attention = store.needing_attention(None, 10).await.unwrap();
    let timers = store.timers_due(Timestamp::MAX, None, 10).await.unwrap();
    assert_eq!((inbox.inputs.len(), attempts.len(), attention.len(), timers.len()), (1, 1, 1, 1));
    let components = store.components(&Namespace::default()).await.unwrap();
    let bytes = store.component_bytes(Digest([7; 32])).await.unwrap();
    format!("{run:?} {history:?} {inbox:?} {attempts:?} {attention:?} {timers:?} {components:?} {bytes:?}")
}
