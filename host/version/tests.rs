//! Versions on the real store and the real engine, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use everfold_core::ids::{Digest, Namespace, Timestamp};
use tempfile::TempDir;

use super::loaded::{Rest, Unused};
use super::{Unavailable, Versions};
use crate::clock::{Clock, VirtualTime};
use crate::guest::tests::handwritten::Module;
use crate::guest::{CodeCache, Engine, EngineSettings};
use crate::runner::api::{ApiError, Deployed, RoutingChange, RoutingRequest};
use crate::store::{SqliteStore, Store};

struct Bench {
    _folder: TempDir,
    time: VirtualTime,
    versions: Arc<Versions>,
}

impl Bench {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path()).await.unwrap());
        let cache = CodeCache::open(&folder.path().join("code-cache")).unwrap();
        let engine = Engine::new(EngineSettings::default(), Some(cache)).unwrap();
        let time = VirtualTime::starting_at(Timestamp(1_700_000_000_000));
        let versions = Arc::new(Versions::new(engine, store, Clock::from_source(time.clone())));
        Self { _folder: folder, time, versions }
    }

    async fn deploy(&self, types: &[&str]) -> Deployed {
        let bytes = Module { types, ..Module::default() }.component();
        self.versions.deploy(&Namespace::default(), bytes).await.unwrap()
    }

    async fn promote(&self, workflow_type: &str, digest: Digest) {
        let request = RoutingRequest {
            namespace: Namespace::default(),
            workflow_type: workflow_type.to_owned(),
            change: RoutingChange::Promote(Some(digest)),
        };
        self.versions.routes().change(&request, async |_| Ok::<_, ApiError>(())).await.unwrap();
    }

    async fn unload(&self, which: Unused) -> Rest {
        self.versions.loaded().unload(which).await.unwrap()
    }

    fn has(&self, digest: Digest) -> bool {
        self.versions.loaded().has(digest)
    }
}

#[tokio::test]
async fn a_deploy_names_the_types_that_it_leaves_behind() {
    let bench = Bench::open().await;
    let first = bench.deploy(&["a", "b", "c"]).await;
    assert!(first.is_new && first.compile_time.is_some() && first.missing_types.is_empty());
    assert_eq!(bench.deploy(&["d"]).await.missing_types, [""; 0], "it replaces nothing");
    let second = bench.deploy(&["a", "c", "e"]).await;
    assert_eq!(second.missing_types, ["b"]);
    // The runs of a type that went elsewhere are not missed here.
    bench.promote("c", second.digest).await;
    assert_eq!(bench.deploy(&["a", "f"]).await.missing_types, ["b"]);
    assert_eq!(bench.deploy(&["a", "c", "g"]).await.missing_types, ["b", "e"], "of both that it replaces");
    let again = bench.deploy(&["a", "b", "c"]).await;
    assert!(!again.is_new && again.digest == first.digest);
    assert_eq!((again.compile_time, again.missing_types), (None, vec!["e".to_owned()]));
}

#[tokio::test]
async fn code_that_no_route_leads_to_goes_a_minute_behind_its_last_use() {
    let bench = Bench::open().await;
    let current = bench.deploy(&["a"]).await.digest;
    assert_eq!(bench.unload(Unused::ForAMinute).await, Rest::Routed);
    let other = bench.deploy(&["a", "b"]).await.digest;
    bench.promote("b", current).await;
    bench.time.advance(Duration::from_secs(59));
    assert_eq!(bench.unload(Unused::ForAMinute).await, Rest::More);
    drop(bench.versions.component(other).await.unwrap());
    bench.time.advance(Duration::from_secs(59));
    assert_eq!(bench.unload(Unused::ForAMinute).await, Rest::More, "it was used since");
    bench.time.advance(Duration::from_secs(1));
    assert_eq!(bench.unload(Unused::ForAMinute).await, Rest::Routed);
    assert!(bench.has(current) && !bench.has(other));
    assert_eq!(bench.versions.loaded().count(), 1);

    // It comes back when it is needed, from the code cache.
    let instance = bench.versions.component(other).await.unwrap().instantiate().unwrap();
    assert_eq!(instance.component().compile_time(), None);
    bench.time.advance(Duration::from_secs(3_600));
    assert_eq!(bench.unload(Unused::Now).await, Rest::More, "an instance holds it");
    drop(instance);
    assert_eq!(bench.unload(Unused::ForAMinute).await, Rest::More, "it was held a moment ago");
    assert_eq!(bench.unload(Unused::Now).await, Rest::Routed);
    assert!(!bench.has(other));
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_many_ask_for_is_loaded_once() {
    const ASKING: usize = 40;
    let bench = Bench::open().await;
    bench.deploy(&["a"]).await;
    let digest = bench.deploy(&["a", "b"]).await.digest;
    bench.promote("b", bench.deploy(&["b"]).await.digest).await;
    bench.unload(Unused::Now).await;
    assert!(!bench.has(digest));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..ASKING {
        let versions = Arc::clone(&bench.versions);
        tasks.spawn(async move { versions.component(digest).await.unwrap() });
    }
    let components = tasks.join_all().await;
    assert_eq!(components[0].holders(), ASKING + 1, "all hold the same, and so does the host");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_sent_many_times_at_once_are_compiled_once() {
    let bench = Bench::open().await;
    let bytes = Module::default().component();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (versions, bytes) = (Arc::clone(&bench.versions), bytes.clone());
        tasks.spawn(async move { versions.deploy(&Namespace::default(), bytes).await.unwrap() });
    }
    let deployed = tasks.join_all().await;
    assert_eq!(deployed.iter().filter(|deployed| deployed.is_new).count(), 1);
    assert_eq!(deployed.iter().filter(|deployed| deployed.compile_time.is_some()).count(), 1);
}

#[tokio::test]
async fn what_is_not_in_the_store_is_missed_each_time() {
    let bench = Bench::open().await;
    for _ in 0..2 {
        let missing = bench.versions.component(Digest([9; 32])).await;
        assert!(matches!(missing, Err(Unavailable::Missing(_))), "{missing:?}");
    }
    let refused = bench.versions.deploy(&Namespace::default(), b"\0asm".to_vec()).await;
    assert!(matches!(refused, Err(ApiError::InvalidComponent(_))), "{refused:?}");
    assert_eq!(bench.versions.loaded().count(), 0);
}
