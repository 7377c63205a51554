//! Histories: order, pages, reading from the middle.

use everfold_core::event::Event;
use everfold_core::ids::EventId;

use super::Backend;
use super::fixtures::{advance, commit_each, event, key, start};
use crate::store::Store;

/// Run 1 with the rows 1, 2–4, 5, 6–9.
async fn written(backend: &impl Backend) -> (impl Store, Vec<Event>) {
    let store = backend.open().await.unwrap();
    let decisions =
        vec![start(1), advance(1, EventId(2), 3), advance(1, EventId(5), 1), advance(1, EventId(6), 4)];
    let events = decisions.iter().flat_map(|decision| decision.events.clone()).collect();
    commit_each(&store, decisions).await;
    (store, events)
}

/// The numbers of the events of one page.
async fn page(store: &impl Store, after: u64, limit: usize) -> Vec<u64> {
    let events = store.history(&key(1), EventId(after), limit).await.unwrap();
    events.into_iter().map(|event| event.id.0).collect()
}

pub(crate) async fn it_reads_back_as_it_was_written(backend: &impl Backend) {
    let (store, events) = written(backend).await;
    assert_eq!(store.history(&key(1), EventId(0), 1_000).await.unwrap(), events);
}

pub(crate) async fn pages_are_whole_rows_of_about_the_limit(backend: &impl Backend) {
    let (store, _) = written(backend).await;
    assert_eq!(page(&store, 0, 1).await, [1]);
    assert_eq!(page(&store, 0, 2).await, [1, 2, 3, 4]);
    assert_eq!(page(&store, 0, 4).await, [1, 2, 3, 4]);
    assert_eq!(page(&store, 0, 5).await, [1, 2, 3, 4, 5]);
    assert_eq!(page(&store, 4, 1).await, [5]);
    assert_eq!(page(&store, 5, 1).await, [6, 7, 8, 9]);
    assert_eq!(page(&store, 5, 0).await, [6, 7, 8, 9], "at least one event if there is one");
}

pub(crate) async fn it_can_be_read_from_the_middle_of_a_row(backend: &impl Backend) {
    let (store, _) = written(backend).await;
    assert_eq!(page(&store, 2, 1).await, [3, 4]);
    assert_eq!(page(&store, 3, 2).await, [4, 5]);
    assert_eq!(page(&store, 8, 100).await, [9]);
}

pub(crate) async fn behind_the_end_there_is_nothing(backend: &impl Backend) {
    let (store, _) = written(backend).await;
    for after in [9, 10, u64::MAX - 1, u64::MAX] {
        assert_eq!(page(&store, after, 10).await, [0; 0], "after {after}");
    }
    commit_each(&store, vec![advance(1, EventId(10), 1)]).await;
    assert_eq!(store.history(&key(1), EventId(9), 10).await.unwrap(), [event(EventId(10))]);
}

pub(crate) async fn every_run_has_its_own(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, vec![start(1), start(2), start(3), advance(2, EventId(2), 1)]).await;
    assert_eq!(page(&store, 0, 10).await, [1]);
    assert_eq!(page(&store, 1, 10).await, [0; 0]);
    assert_eq!(store.history(&key(2), EventId(1), 10).await.unwrap(), [event(EventId(2))]);
}
