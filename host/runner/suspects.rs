//! Code that lately passed a limit: workflow types whose runs begin on a thread of their own, so that
//! guests that loop wait for each other and for nobody else.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use everfold_core::ids::Digest;
use parking_lot::Mutex;

/// The suspect workflow types, by component.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    types: Mutex<HashSet<(Digest, String)>>,
    /// Their number, so that nobody waits for the lock while there is none.
    count: AtomicUsize,
}

impl Suspects {
    /// Whether runs of the type are to begin apart.
    pub(super) fn contains(&self, digest: Digest, workflow_type: &str) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            && self.types.lock().contains(&(digest, workflow_type.to_owned()))
    }

    /// A run of the type passed a limit.
    pub(super) fn add(&self, digest: Digest, workflow_type: &str) {
        let mut types = self.types.lock();
        types.insert((digest, workflow_type.to_owned()));
        self.count.store(types.len(), Ordering::Relaxed);
    }

    /// A run of the type was folded: its code is not at fault for every input.
    pub(super) fn clear(&self, digest: Digest, workflow_type: &str) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut types = self.types.lock();
        types.remove(&(digest, workflow_type.to_owned()));
        self.count.store(types.len(), Ordering::Relaxed);
    }
}
