//! Compiled code in memory: loaded when it is first needed, once however many ask for it, and unloaded
//! when no run needs it.
//!
//! Code is needed while a route leads to it, while an instance or a replica holds it, and for a minute
//! behind its last use. Unloading loses nothing: the bytes are in the store, the code in the engine's
//! cache. It never decides what a run is folded by.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use everfold_core::ids::{Digest, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

use super::Unavailable;
use crate::clock::Clock;
use crate::guest::{Engine, LoadedComponent};
use crate::store::{Store, StoreError};

/// How long code that no route leads to stays behind its last use.
const IDLE: Duration = Duration::from_secs(60);

/// The compiled code of this host.
pub struct Loaded {
    engine: Engine,
    store: Arc<dyn Store>,
    clock: Clock,
    known: Mutex<HashMap<Digest, Entry>>,
    /// Who loads a component; others wait for their turn, and find it loaded.
    loading: Mutex<HashMap<Digest, Arc<AsyncMutex<()>>>>,
    /// One at a time: what was sent to be deployed is checked and compiled.
    trying: Semaphore,
    changed: Notify,
}

struct Entry {
    component: LoadedComponent,
    used_at: Timestamp,
}

/// A component that was checked.
pub(super) struct Compiled {
    pub(super) component: LoadedComponent,
    /// Its bytes, given back.
    pub(super) bytes: Vec<u8>,
    /// How long its compilation took; absent when there was none.
    pub(super) compile_time: Option<Duration>,
}

/// Which code may be unloaded, of that which nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// All of it.
    Now,
    /// What was not used for a minute.
    ForAMinute,
}

/// Whether there is code that may be unloaded later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// All that is loaded is what routes lead to.
    Routed,
    /// There is more.
    More,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Loaded {
    pub(super) fn new(engine: Engine, store: Arc<dyn Store>, clock: Clock) -> Self {
        Self {
            engine,
            store,
            clock,
            known: Mutex::default(),
            loading: Mutex::default(),
            trying: Semaphore::new(1),
            changed: Notify::new(),
        }
    }

    /// Bytes that a component may have.
    #[must_use]
    pub fn component_limit(&self) -> usize {
        self.engine.settings().component_bytes
    }

    /// How many components' code is in memory.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.lock().len()
    }

    /// Whether a component's code is in memory.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        self.known.lock().contains_key(&digest)
    }

    /// Waits until code was loaded, or somebody said that there is something to look after.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Lets whoever looks after what is in memory look again.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }

    /// The component of that digest, ready to run. Many who ask at once wait for one who loads it.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(super) async fn get(&self, digest: Digest) -> Result<LoadedComponent, Unavailable> {
        if let Some(component) = self.used(digest) {
            return Ok(component);
        }
        let turn = Arc::clone(self.loading.lock().entry(digest).or_default());
        let _turn = turn.lock().await;
        if let Some(component) = self.used(digest) {
            return Ok(component);
        }
        let loaded = self.load(digest).await;
        self.loading.lock().remove(&digest);
        loaded
    }

    async fn load(&self, digest: Digest) -> Result<LoadedComponent, Unavailable> {
        let bytes = self.store.component_bytes(digest).await?.ok_or(Unavailable::Missing(digest))?;
        let engine = self.engine.clone();
        let loaded = blocking(move || engine.load(&bytes).map_err(|error| error.to_string())).await;
        let component = loaded.map_err(|reason| Unavailable::Refused { digest, reason })?;
        Ok(self.keep(component))
    }

    /// Checks and compiles bytes that somebody sent, one component at a time: bounded in memory, however
    /// many are sent. Code that is in memory already is taken from there.
    ///
    /// # Errors
    /// Why they are no component.
    pub(super) async fn compile(&self, bytes: Vec<u8>) -> Result<Compiled, String> {
        let Ok(_alone) = self.trying.acquire().await else {
            return Err("the host is stopping".to_owned());
        };
        let (digest, bytes) = blocking(move || Ok((Digest(Sha256::digest(&bytes).into()), bytes))).await?;
        if let Some(component) = self.used(digest) {
            return Ok(Compiled { component, bytes, compile_time: None });
        }
        let engine = self.engine.clone();
        blocking(move || {
            let component = engine.load(&bytes).map_err(|error| error.to_string())?;
            let compile_time = component.compile_time();
            Ok(Compiled { component, bytes, compile_time })
        })
        .await
    }

    /// Keeps a component's code in memory; gives back the one that is kept if it was loaded twice.
    pub(super) fn keep(&self, component: LoadedComponent) -> LoadedComponent {
        if let Some(kept) = self.used(component.digest()) {
            return kept;
        }
        let entry = Entry { component: component.clone(), used_at: self.clock.now() };
        self.known.lock().insert(component.digest(), entry);
        tracing::debug!(component = %component.digest().short(), "loaded a component's code");
        self.look_again();
        component
    }

    fn used(&self, digest: Digest) -> Option<LoadedComponent> {
        let mut known = self.known.lock();
        let entry = known.get_mut(&digest)?;
        entry.used_at = self.clock.now();
        Some(entry.component.clone())
    }

    /// Unloads code that nobody needs.
    ///
    /// # Errors
    /// When the routes cannot be read; nothing is unloaded then.
    pub async fn unload(&self, which: Unused) -> Result<Rest, StoreError> {
        let routed: HashSet<Digest> = self.store.routed().await?.into_iter().collect();
        let now = self.clock.now();
        let mut rest = Rest::Routed;
        let mut known = self.known.lock();
        let unneeded: Vec<LoadedComponent> = known
            .extract_if(|digest, entry| {
                if routed.contains(digest) {
                    return false;
                }
                // The map's own does not count.
                let is_held = entry.component.holders() > 1;
                if is_held {
                    entry.used_at = now;
                }
                let is_idle = match which {
                    Unused::Now => true,
                    Unused::ForAMinute => u128::from(now.ms_since(entry.used_at)) >= IDLE.as_millis(),
                };
                let goes = !is_held && is_idle;
                if !goes {
                    rest = Rest::More;
                }
                goes
            })
            .map(|(_, entry)| entry.component)
            .collect();
        drop(known);
        for component in unneeded {
            tracing::debug!(component = %component.digest().short(), "unloaded code that no run needs");
        }
        Ok(rest)
    }
}

/// Works away from the threads that serve requests.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(format!("the compiler failed: {error}")))
}
