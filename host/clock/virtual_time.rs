//! Time that stands still until it is moved by hand: tests of anything that waits need no sleep.
//!
//! It never moves by itself. A test waits until the code under test sleeps
//! ([`VirtualTime::until_sleeping`]), then moves time; every sleeper whose time has come wakes in the
//! order of its time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use everfold_core::ids::Timestamp;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::TimeSource;

/// Who sleeps.
#[derive(Debug)]
struct Sleeper {
    wake: oneshot::Sender<()>,
    why: Why,
}

/// Why somebody sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Somebody waits for what follows.
    Work,
    /// Nobody does.
    Housekeeping,
}

/// A clock that a test moves. Clones share one time.
#[derive(Clone, Debug)]
pub struct VirtualTime {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// How many sleep; changes together with `state.sleepers`.
    sleeping: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    /// By the time at which each wakes, then in the order in which they fell asleep.
    sleepers: BTreeMap<(Timestamp, u64), Sleeper>,
    next_sleeper: u64,
}

impl VirtualTime {
    /// Time that stands at `now`.
    #[must_use]
    pub fn starting_at(now: Timestamp) -> Self {
        let state = State { now, sleepers: BTreeMap::new(), next_sleeper: 0 };
        let sleeping = watch::Sender::new(0);
        Self { shared: Arc::new(Shared { state: Mutex::new(state), sleeping }) }
    }

    /// Moves time forward and wakes all whose time has come.
    pub fn advance(&self, by: Duration) {
        let to = self.now().plus_ms(u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
        self.advance_to(to);
    }

    /// Moves time forward to `to` and wakes all whose time has come; does nothing if `to` has passed.
    pub fn advance_to(&self, to: Timestamp) {
        let mut state = self.shared.state.lock();
        state.now = state.now.max(to);
        let now = state.now;
        while let Some(first) = state.sleepers.first_entry() {
            if first.key().0 > now {
                break;
            }
            // A sleeper that was dropped meanwhile has nobody to wake.
            let _ = first.remove().wake.send(());
        }
        self.shared.sleeping.send_replace(state.sleepers.len());
    }

    /// When the next sleeper wakes; nobody sleeps if absent.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.shared.state.lock().sleepers.keys().next().map(|(at, _)| *at)
    }

    /// The same, without those who sleep between two rounds of housekeeping.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let state = self.shared.state.lock();
        let mut due = state.sleepers.iter().filter(|(_, sleeper)| sleeper.why == Why::Work);
        due.next().map(|((at, _), _)| *at)
    }

    /// Waits until at least `count` sleep.
    pub async fn until_sleeping(&self, count: usize) {
        let mut sleeping = self.shared.sleeping.subscribe();
        // The sender lives as long as `self`.
        let _ = sleeping.wait_for(|sleeping| *sleeping >= count).await;
    }
}

impl TimeSource for VirtualTime {
    fn now(&self) -> Timestamp {
        self.shared.state.lock().now
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        self.sleep(at, Why::Work)
    }

    fn rest_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        self.sleep(at, Why::Housekeeping)
    }
}

impl VirtualTime {
    fn sleep(&self, at: Timestamp, why: Why) -> BoxFuture<'static, ()> {
        let mut state = self.shared.state.lock();
        if at <= state.now {
            return Box::pin(std::future::ready(()));
        }
        let key = (at, state.next_sleeper);
        state.next_sleeper += 1;
        let (wake, woken) = oneshot::channel();
        state.sleepers.insert(key, Sleeper { wake, why });
        self.shared.sleeping.send_replace(state.sleepers.len());
        let bed = Bed { shared: Arc::clone(&self.shared), key };
        Box::pin(async move {
            let _bed = bed;
            // The sender goes only by waking or with this very future.
            let _ = woken.await;
        })
    }
}

/// A sleeper's place: given up when the sleeper wakes or is dropped.
struct Bed {
    shared: Arc<Shared>,
    key: (Timestamp, u64),
}

impl Drop for Bed {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if state.sleepers.remove(&self.key).is_some() {
            self.shared.sleeping.send_replace(state.sleepers.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[tokio::test]
    async fn sleepers_wake_when_their_time_comes_and_not_before() {
        let time = VirtualTime::starting_at(Timestamp(1_000));
        let clock = Clock::from_source(time.clone());
        let early = clock.sleep_until(Timestamp(1_010));
        let late = tokio::spawn(clock.sleep_until(Timestamp(1_020)));
        time.until_sleeping(2).await;
        assert_eq!(time.next_wake(), Some(Timestamp(1_010)));

        time.advance(Duration::from_millis(10));
        early.await;
        assert_eq!(clock.now(), Timestamp(1_010));
        assert_eq!(time.next_wake(), Some(Timestamp(1_020)), "the other one still sleeps");

        time.advance_to(Timestamp(5_000));
        late.await.expect("it woke");
        assert_eq!(time.next_wake(), None);
        clock.sleep_until(Timestamp(5_000)).await;

        let _resting = clock.rest_until(Timestamp(6_000));
        assert_eq!((time.next_wake(), time.next_due()), (Some(Timestamp(6_000)), None));
        let _working = clock.sleep_until(Timestamp(7_000));
        assert_eq!((time.next_wake(), time.next_due()), (Some(Timestamp(6_000)), Some(Timestamp(7_000))));
        time.advance_to(Timestamp(7_000));

        drop(clock.sleep_until(Timestamp(9_000)));
        assert_eq!(time.next_wake(), None, "a dropped sleeper is forgotten");
    }
}
