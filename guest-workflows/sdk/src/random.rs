//! The run's randomness: ChaCha8 keyed with the seed that the host recorded.
//!
//! The generator is part of the WIT package's contract. How the numbers here are derived from its
//! words is fixed too: a change would make recorded runs diverge.

use std::convert::Infallible;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng, TryRng};
use uuid::Uuid;

use crate::run::Run;

/// The run's generator. Every copy draws from the same sequence.
///
/// It also implements [`rand_core::Rng`], for crates that take one.
#[derive(Clone)]
pub struct Random(Rc<Run>);

impl Random {
    pub(crate) fn new(run: Rc<Run>) -> Self {
        Self(run)
    }

    /// Any number, each as likely.
    pub fn u64(&self) -> u64 {
        self.draw(|rng| rng.next_u64())
    }

    /// A number from 0 up to but not including 1, in steps of 2⁻⁵³.
    pub fn f64(&self) -> f64 {
        // 53 bits are what an f64's significand holds, so the quotient is exact.
        (self.u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the range, each as likely (Lemire, "Fast Random Integer Generation in an
    /// Interval", 2019).
    ///
    /// # Panics
    ///
    /// When the range is empty.
    pub fn range(&self, range: impl RangeBounds<u64>) -> u64 {
        let first = match range.start_bound() {
            Bound::Included(start) => Some(*start),
            Bound::Excluded(start) => start.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let last = match range.end_bound() {
            Bound::Included(end) => Some(*end),
            Bound::Excluded(end) => end.checked_sub(1),
            Bound::Unbounded => Some(u64::MAX),
        };
        match (first, last) {
            (Some(first), Some(last)) if first <= last => match (last - first).checked_add(1) {
                Some(width) => first + self.below(width),
                None => self.u64(),
            },
            _ => panic!("a random number was asked of an empty range"),
        }
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.draw(|rng| rng.fill_bytes(&mut bytes));
        bytes
    }

    /// A UUID of version 4.
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// One of the items, each as likely; none of none.
    pub fn choose<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        match items {
            [] => None,
            items => Some(&items[self.below(items.len() as u64) as usize]),
        }
    }

    /// Puts the items into a random order, each as likely (Fisher and Yates, from the end).
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    fn below(&self, width: u64) -> u64 {
        let unfair = width.wrapping_neg() % width;
        loop {
            let wide = u128::from(self.u64()) * u128::from(width);
            if wide as u64 >= unfair {
                return (wide >> 64) as u64;
            }
        }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        self.0.draw(draw)
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.draw(|rng| rng.next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.draw(|rng| rng.fill_bytes(bytes));
        Ok(())
    }
}

/// The type of the event that brings another seed.
pub(crate) const RANDOM_RESEEDED: &str = "RandomReseeded";

/// The generator of a run with that seed.
///
/// # Panics
///
/// When the seed is not 32 bytes long: the host broke the contract.
pub(crate) fn generator(seed: &[u8]) -> ChaCha8Rng {
    let Ok(seed) = <[u8; 32]>::try_from(seed) else {
        panic!("the host gave a seed of {} bytes instead of 32", seed.len());
    };
    ChaCha8Rng::from_seed(seed)
}
