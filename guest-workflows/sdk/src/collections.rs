//! Maps and sets whose order is the same in every build.
//!
//! `std`'s `HashMap` seeds itself from addresses on this target: deterministic for one binary, but
//! not across two, and so a workflow that iterates over one cannot be moved to a later version.
//! The types here iterate in the order of insertion; `BTreeMap` and `BTreeSet` in the order of keys.

use std::hash::{BuildHasherDefault, Hasher};

pub use std::collections::{BTreeMap, BTreeSet};

/// A hash map that iterates in the order of insertion.
pub type FixedHashMap<K, V> = indexmap::IndexMap<K, V, BuildHasherDefault<FixedHasher>>;

/// A hash set that iterates in the order of insertion.
pub type FixedHashSet<T> = indexmap::IndexSet<T, BuildHasherDefault<FixedHasher>>;

/// FNV-1a with 64 bits (offset basis and prime of draft-eastlake-fnv-17.2). Not made against keys that
/// an attacker chooses to collide; a workflow's limits bound what that could cost.
#[derive(Clone, Debug)]
pub struct FixedHasher(u64);

impl Default for FixedHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        let mut hasher = FixedHasher::default();
        hasher.write(b"foobar");
        assert_eq!(hasher.finish(), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn order_is_that_of_insertion() {
        let map: FixedHashMap<_, _> = (0..100).rev().map(|n| (n, ())).collect();
        assert!(map.into_keys().eq((0..100).rev()));
    }
}
