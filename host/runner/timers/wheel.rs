//! A timing wheel: a ring of slots, one for each millisecond, that holds what is due within its reach.
//!
//! ```text
//!          cursor                         reach
//!            ▼                              ▼
//!  … past │ 0 │ 1 │ 2 │ … │ SLOTS − 2 │ SLOTS − 1 │     a slot's entries are a list, the first in comes out first
//! ```
//!
//! To insert and to remove take the same time however much the wheel holds; to find the first or the last
//! slot takes a look at [`SLOTS`] bits at most. (Hashed timing wheels: Varghese and Lauck, 1987. With
//! nothing beyond its reach the wheel needs no rounds.) It must never give anything out before its time; it
//! knows no clock.

use everfold_core::ids::Timestamp;

/// Milliseconds that the wheel reaches ahead: 32.8 s. It must be a multiple of 64.
pub(super) const SLOTS: usize = 32_768;
/// The end of a list.
const NONE: u32 = u32::MAX;

/// A place in the wheel, until what is there is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    /// The first and the last entry of each slot.
    slots: Box<[(u32, u32)]>,
    /// A bit for each slot that is not empty.
    occupied: Box<[u64]>,
    entries: Vec<Entry<T>>,
    /// The first of the entries without a value, which are a list too.
    free: u32,
    len: usize,
    /// Every slot before this time is empty.
    cursor: i64,
}

#[derive(Debug)]
struct Entry<T> {
    value: Option<T>,
    slot: usize,
    before: u32,
    behind: u32,
}

impl<T> Wheel<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![(NONE, NONE); SLOTS].into(),
            occupied: vec![0; SLOTS / 64].into(),
            entries: Vec::new(),
            free: NONE,
            len: 0,
            cursor: i64::MIN / 2,
        }
    }

    /// How many entries it holds.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The latest time that something may be inserted at.
    pub(super) const fn reach(&self) -> Timestamp {
        Timestamp(self.cursor + SLOTS as i64 - 1)
    }

    /// Moves the reach on as time passes, as far as what is due was taken out.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let first = self.first().map_or(now.0, |first| first.0);
        self.cursor = self.cursor.max(first.min(now.0));
    }

    /// Puts a value behind those of the same time; one of the past becomes due first of all.
    ///
    /// # Panics
    /// When the time is beyond the reach.
    pub(super) fn insert(&mut self, at: Timestamp, value: T) -> Place {
        assert!(at <= self.reach(), "a timer at {at} does not fit a wheel that reaches to {}", self.reach());
        let slot = slot(at.0.max(self.cursor));
        let (_, last) = self.slots[slot];
        let entry = Entry { value: Some(value), slot, before: last, behind: NONE };
        let place = match self.entries.get_mut(self.free as usize) {
            Some(free) => {
                let place = std::mem::replace(&mut self.free, free.behind);
                *free = entry;
                place
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        match last {
            NONE => self.slots[slot].0 = place,
            last => self.entries[last as usize].behind = place,
        }
        self.slots[slot].1 = place;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
        Place(place)
    }

    /// Takes out what is at a place.
    pub(super) fn remove(&mut self, Place(place): Place) -> Option<T> {
        let entry = self.entries.get_mut(place as usize)?;
        let value = entry.value.take()?;
        let (slot, before, behind) = (entry.slot, entry.before, entry.behind);
        entry.behind = std::mem::replace(&mut self.free, place);
        match before {
            NONE => self.slots[slot].0 = behind,
            before => self.entries[before as usize].behind = behind,
        }
        match behind {
            NONE => self.slots[slot].1 = before,
            behind => self.entries[behind as usize].before = before,
        }
        if self.slots[slot].0 == NONE {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
        self.len -= 1;
        Some(value)
    }

    /// When the first entry is due.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.first_slot().map(|slot| self.time(slot))
    }

    /// Takes out the first entry that is due by `now`.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<T> {
        let slot = self.first_slot().filter(|slot| self.time(*slot) <= now)?;
        self.remove(Place(self.slots[slot].0))
    }

    /// Takes out the last entry of the last slot.
    pub(super) fn take_last(&mut self) -> Option<T> {
        let (from, words) = (slot(self.cursor), self.occupied.len());
        let slot = (0..=words).find_map(|step| {
            let word = (from / 64 + words - step) % words;
            let bits = self.occupied[word] & around(from, words - step, words);
            (bits != 0).then(|| word * 64 + 63 - bits.leading_zeros() as usize)
        })?;
        self.remove(Place(self.slots[slot].1))
    }

    fn first_slot(&self) -> Option<usize> {
        let (from, words) = (slot(self.cursor), self.occupied.len());
        (0..=words).find_map(|step| {
            let word = (from / 64 + step) % words;
            let bits = self.occupied[word] & around(from, step, words);
            (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
        })
    }

    /// The time that an occupied slot stands for.
    fn time(&self, occupied: usize) -> Timestamp {
        Timestamp(self.cursor + ((occupied + SLOTS - slot(self.cursor)) % SLOTS) as i64)
    }
}

/// The slot of a time.
const fn slot(at: i64) -> usize {
    at.rem_euclid(SLOTS as i64) as usize
}

/// The bits of a word to look at on the way round from slot `from`: the first word holds both the beginning
/// and the end of the way.
const fn around(from: usize, step: usize, words: usize) -> u64 {
    let behind = u64::MAX << (from % 64);
    if step == 0 {
        behind
    } else if step == words {
        !behind
    } else {
        u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

    use super::*;

    /// The same by a sorted map: by time, then in the order of insertion.
    #[derive(Default)]
    struct Model(BTreeMap<(i64, u64), Place>);

    /// Does what a seed says to a wheel and to its model.
    fn compare(seed: u64) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = move |bound: u64| random.next_u64() % bound;
        let (mut wheel, mut model) = (Wheel::new(), Model::default());
        let mut now = 1_700_000_000_000 + below(100_000) as i64;
        wheel.advance(Timestamp(now));
        for number in 0..5_000 {
            match below(10) {
                0..=4 => {
                    let ahead = if below(2) == 0 { below(50) } else { below(SLOTS as u64) } as i64;
                    // Some are past already.
                    let at = (now + ahead - 20).min(wheel.reach().0);
                    let due = at.max(wheel.cursor);
                    let place = wheel.insert(Timestamp(at), (due, number));
                    assert_eq!(model.0.insert((due, number), place), None, "seed {seed}");
                }
                5..=6 => {
                    let nth = below(model.0.len().max(1) as u64) as usize;
                    if let Some((key, place)) = model.0.iter().nth(nth).map(|(key, place)| (*key, *place)) {
                        model.0.remove(&key);
                        assert_eq!(wheel.remove(place), Some(key), "seed {seed}");
                    }
                }
                7 => {
                    let last = model.0.pop_last().map(|(key, _)| key);
                    assert_eq!(wheel.take_last(), last, "seed {seed}");
                }
                _ => {
                    now += if below(20) == 0 { below(40_000) } else { below(40) } as i64;
                    // Not everything that is due is taken at once.
                    for _ in 0..below(30) {
                        let due = model.0.first_entry().filter(|first| first.key().0 <= now);
                        let due = due.map(|first| first.remove_entry().0);
                        assert_eq!(wheel.take_due(Timestamp(now)), due, "seed {seed}");
                    }
                    wheel.advance(Timestamp(now));
                }
            }
            let first = model.0.first_key_value().map(|((at, _), _)| Timestamp(*at));
            assert_eq!((wheel.first(), wheel.len()), (first, model.0.len()), "seed {seed}");
        }
        while let Some((key, _)) = model.0.pop_first() {
            assert_eq!(wheel.take_due(Timestamp(i64::MAX)), Some(key), "seed {seed}");
        }
        assert_eq!(wheel.take_last(), None, "seed {seed}");
    }

    #[test]
    fn it_does_as_a_sorted_map_does() {
        // A seed that failed is pasted here.
        for seed in 0..60 {
            compare(seed);
        }
    }

    #[test]
    fn a_place_is_empty_once_it_was_taken() {
        let mut wheel = Wheel::new();
        wheel.advance(Timestamp(5));
        let place = wheel.insert(Timestamp(9), 'a');
        assert_eq!((wheel.take_due(Timestamp(8)), wheel.take_due(Timestamp(9))), (None, Some('a')));
        assert_eq!((wheel.remove(place), wheel.len(), wheel.first()), (None, 0, None));
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn what_is_beyond_the_reach_is_refused() {
        let mut wheel = Wheel::new();
        wheel.advance(Timestamp(0));
        wheel.insert(wheel.reach().plus_ms(1), ());
    }
}
