//! Components and what their types are current on.

use everfold_core::ids::{Digest, Namespace, Timestamp};

use super::Backend;
use crate::store::{ComponentRow, NewComponent, Store};

/// A component of this number, older the larger it is.
pub(crate) fn component(number: u8, types: &[&str]) -> NewComponent {
    NewComponent {
        namespace: Namespace::default(),
        digest: Digest([number; 32]),
        workflow_types: types.iter().map(|name| (*name).to_owned()).collect(),
        sdk: "everfold-guest 0.1.0".to_owned(),
        deployed_at: Timestamp(1_000 - i64::from(number)),
        bytes: vec![number; 3 + usize::from(number)],
    }
}

fn row(number: u8, types: &[(&str, bool)]) -> ComponentRow {
    let NewComponent { digest, sdk, deployed_at, bytes, .. } = component(number, &[]);
    let workflow_types = types.iter().map(|(name, is_current)| ((*name).to_owned(), *is_current)).collect();
    ComponentRow { digest, size: bytes.len() as u64, workflow_types, sdk, deployed_at }
}

async fn current(store: &impl Store, workflow_type: &str) -> Option<Digest> {
    store.route(&Namespace::default(), workflow_type).await.unwrap().map(|row| row.route.current)
}

async fn components(store: &impl Store) -> Vec<ComponentRow> {
    store.components(&Namespace::default()).await.unwrap()
}

pub(crate) async fn a_component_reads_back(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    assert_eq!(components(&store).await, []);
    assert!(store.put_component(component(1, &["order-saga", "order-tracking"])).await.unwrap());
    assert_eq!(components(&store).await, [row(1, &[("order-saga", true), ("order-tracking", true)])]);
    assert_eq!(store.component_bytes(Digest([1; 32])).await.unwrap(), Some(vec![1; 4]));
    assert_eq!(store.component_bytes(Digest([2; 32])).await.unwrap(), None);
    assert_eq!(current(&store, "order-saga").await, Some(Digest([1; 32])));
    assert_eq!(current(&store, "order").await, None);
}

pub(crate) async fn the_same_component_twice_changes_nothing(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    assert!(store.put_component(component(1, &["a"])).await.unwrap());
    let again = NewComponent { deployed_at: Timestamp(9), ..component(1, &["a", "b"]) };
    assert!(!store.put_component(again).await.unwrap());
    assert_eq!(components(&store).await, [row(1, &[("a", true)])]);
    assert_eq!(current(&store, "b").await, None);
}

pub(crate) async fn a_type_stays_with_its_first_component(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    assert!(store.put_component(component(2, &["a"])).await.unwrap());
    assert!(store.put_component(component(1, &["a", "b"])).await.unwrap());
    assert_eq!(current(&store, "a").await, Some(Digest([2; 32])));
    assert_eq!(current(&store, "b").await, Some(Digest([1; 32])));
    assert_eq!(components(&store).await, [row(2, &[("a", true)]), row(1, &[("a", false), ("b", true)])]);
}

pub(crate) async fn components_come_oldest_first(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    for number in [2, 3, 1] {
        assert!(store.put_component(component(number, &["a"])).await.unwrap());
    }
    let digests: Vec<_> = components(&store).await.iter().map(|row| row.digest.0[0]).collect();
    assert_eq!(digests, [3, 2, 1]);
}

pub(crate) async fn namespaces_share_bytes_only(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let elsewhere = Namespace("elsewhere".to_owned());
    assert!(store.put_component(component(1, &["a"])).await.unwrap());
    assert_eq!(store.components(&elsewhere).await.unwrap(), []);
    assert_eq!(store.route(&elsewhere, "a").await.unwrap(), None);
    let there = NewComponent { namespace: elsewhere.clone(), ..component(1, &["a"]) };
    assert!(store.put_component(there).await.unwrap());
    assert_eq!(store.components(&elsewhere).await.unwrap(), [row(1, &[("a", true)])]);
    assert_eq!(components(&store).await, [row(1, &[("a", true)])]);
}
