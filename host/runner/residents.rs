//! Live instances: a cache, bounded by count and by memory. Evicting one loses nothing: its run is
//! folded again from history when it is next needed.

use everfold_core::ids::{Digest, RunKey};
use lru::LruCache;
use parking_lot::Mutex;

/// Among how many of the longest unused instances the cheapest to rebuild is looked for.
const CANDIDATES: usize = 8;

/// What bounds the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidentLimits {
    /// Instances. Each takes four memory mappings, and the kernel's `vm.max_map_count` (65,530)
    /// ends the process at about 16,000.
    pub count: usize,
    /// Bytes of guest memory.
    pub memory_bytes: usize,
}

impl Default for ResidentLimits {
    fn default() -> Self {
        Self { count: 8_000, memory_bytes: 2 * 1024 * 1024 * 1024 }
    }
}

/// The runs whose instances are in memory, least recently used first.
#[derive(Debug)]
pub(super) struct Residents {
    limits: ResidentLimits,
    used: Mutex<Used>,
}

#[derive(Debug)]
struct Used {
    order: LruCache<RunKey, Cost>,
    memory_bytes: usize,
    /// How many there are of each type and component; few, and never removed.
    kinds: Vec<Kind>,
}

/// How many instances of one type and component are in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) workflow_type: String,
    pub(super) digest: Digest,
    pub(super) live: usize,
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    kind: usize,
    events: u64,
    memory_bytes: usize,
}

impl Residents {
    pub(super) fn new(limits: ResidentLimits) -> Self {
        Self {
            limits,
            used: Mutex::new(Used { order: LruCache::unbounded(), memory_bytes: 0, kinds: Vec::new() }),
        }
    }

    /// Notes that the run's instance was used, and names those to evict for it.
    pub(super) fn touch(
        &self,
        key: &RunKey,
        of: (&str, Digest),
        events: u64,
        memory_bytes: usize,
    ) -> Vec<RunKey> {
        let mut used = self.used.lock();
        let kind = used.kind(of);
        let before = used.order.put(key.clone(), Cost { kind, events, memory_bytes });
        used.kinds[kind].live += 1;
        if let Some(before) = before {
            used.kinds[before.kind].live -= 1;
        }
        used.memory_bytes += memory_bytes;
        used.memory_bytes -= before.map_or(0, |cost| cost.memory_bytes);
        let mut evicted = Vec::new();
        while used.order.len() > 1
            && (used.order.len() > self.limits.count || used.memory_bytes > self.limits.memory_bytes)
        {
            // The run just used is the last in this order; it is never its own victim.
            let oldest = used.order.iter().rev().take(CANDIDATES.min(used.order.len() - 1));
            let Some(victim) = oldest.min_by_key(|(_, cost)| cost.events).map(|(key, _)| key.clone()) else {
                break;
            };
            used.remove(&victim);
            evicted.push(victim);
        }
        evicted
    }

    /// Notes that the run has no instance any more.
    pub(super) fn remove(&self, key: &RunKey) {
        self.used.lock().remove(key);
    }

    /// How many instances there are of each type and component.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.used.lock().kinds.clone()
    }

    /// How many instances there are.
    pub(super) fn len(&self) -> usize {
        self.used.lock().order.len()
    }
}

impl Used {
    fn remove(&mut self, key: &RunKey) {
        if let Some(cost) = self.order.pop(key) {
            self.memory_bytes -= cost.memory_bytes;
            self.kinds[cost.kind].live -= 1;
        }
    }

    /// The place of a type and component among the kinds.
    fn kind(&mut self, (workflow_type, digest): (&str, Digest)) -> usize {
        let found =
            self.kinds.iter().position(|kind| kind.digest == digest && kind.workflow_type == workflow_type);
        found.unwrap_or_else(|| {
            self.kinds.push(Kind { workflow_type: workflow_type.to_owned(), digest, live: 0 });
            self.kinds.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use everfold_core::ids::{Namespace, RunId};

    use super::*;

    const OF: (&str, Digest) = ("t", Digest([1; 32]));

    fn key(n: u8) -> RunKey {
        RunKey { namespace: Namespace::default(), run_id: RunId([n; 16]) }
    }

    #[test]
    fn the_cheapest_of_the_longest_unused_goes_first() {
        let residents = Residents::new(ResidentLimits { count: 3, memory_bytes: 1_000 });
        assert!(residents.touch(&key(1), OF, 500, 10).is_empty());
        assert!(residents.touch(&key(2), OF, 5, 10).is_empty());
        assert!(residents.touch(&key(3), OF, 50, 10).is_empty());
        assert_eq!(residents.touch(&key(4), OF, 1, 10), [key(2)], "not the newest, though it is cheaper");
        assert_eq!(residents.len(), 3);
        assert_eq!(residents.touch(&key(4), OF, 1, 985), [key(3)], "memory counts too");
        residents.remove(&key(1));
        assert_eq!(residents.len(), 1);
        let kind = Kind { workflow_type: "t".to_owned(), digest: OF.1, live: 1 };
        assert_eq!(residents.kinds(), [kind], "those that went are not counted");
    }
}
