//! Live instances: a cache, bounded by count and by memory. Evicting one loses nothing: its run is
//! folded again from history when it is next needed.

use everfold_core::ids::RunKey;
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
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    events: u64,
    memory_bytes: usize,
}

impl Residents {
    pub(super) fn new(limits: ResidentLimits) -> Self {
        Self { limits, used: Mutex::new(Used { order: LruCache::unbounded(), memory_bytes: 0 }) }
    }

    /// Notes that the run's instance was used, and names those to evict for it.
    pub(super) fn touch(&self, key: &RunKey, events: u64, memory_bytes: usize) -> Vec<RunKey> {
        let mut used = self.used.lock();
        let before = used.order.put(key.clone(), Cost { events, memory_bytes });
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

    /// How many instances there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.used.lock().order.len()
    }
}

impl Used {
    fn remove(&mut self, key: &RunKey) {
        if let Some(cost) = self.order.pop(key) {
            self.memory_bytes -= cost.memory_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use everfold_core::ids::{Namespace, RunId};

    use super::*;

    fn key(n: u8) -> RunKey {
        RunKey { namespace: Namespace::default(), run_id: RunId([n; 16]) }
    }

    #[test]
    fn the_cheapest_of_the_longest_unused_goes_first() {
        let residents = Residents::new(ResidentLimits { count: 3, memory_bytes: 1_000 });
        assert!(residents.touch(&key(1), 500, 10).is_empty());
        assert!(residents.touch(&key(2), 5, 10).is_empty());
        assert!(residents.touch(&key(3), 50, 10).is_empty());
        assert_eq!(residents.touch(&key(4), 1, 10), [key(2)], "not the newest, though it is cheaper");
        assert_eq!(residents.len(), 3);
        assert_eq!(residents.touch(&key(4), 1, 985), [key(3)], "memory counts too");
        residents.remove(&key(1));
        assert_eq!(residents.len(), 1);
    }
}
