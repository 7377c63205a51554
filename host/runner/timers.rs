//! Timers: those that fire soon are in memory, the others stay in the store's table until their
//! time comes near. So a parked run costs no memory, and start-up reads only what is due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use everfold_core::decision::Effects;
use everfold_core::event::{Input, TimerFired};
use everfold_core::ids::{EventId, RunKey, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Parts;
use super::run::Message;
use crate::store::TimerRow;

/// How far ahead timers are read from the store.
const HORIZON: Duration = Duration::from_secs(60);
/// Rows read at once.
const PAGE: usize = 1_024;

/// The timers that fire within the horizon.
#[derive(Debug, Default)]
pub(super) struct Timers {
    soon: Mutex<Soon>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Soon {
    by_time: BTreeSet<TimerRow>,
    by_run: HashMap<RunKey, BTreeMap<EventId, Timestamp>>,
    /// Everything that fires up to here has been read.
    read_until: Option<Timestamp>,
}

impl Timers {
    /// Takes note of a committed decision's timers.
    pub(super) fn apply(&self, key: &RunKey, effects: &Effects, is_closed: bool) {
        if effects.timers_started.is_empty() && effects.timers_closed.is_empty() && !is_closed {
            return;
        }
        let mut soon = self.soon.lock();
        let before = soon.first();
        if is_closed {
            soon.remove_run(key);
        } else {
            for (id, fire_at) in &effects.timers_started {
                if soon.read_until.is_some_and(|until| *fire_at <= until) {
                    soon.insert(TimerRow { fire_at: *fire_at, key: key.clone(), started_event_id: *id });
                }
            }
            for id in &effects.timers_closed {
                soon.remove(key, *id);
            }
        }
        if soon.first() != before {
            self.earlier.notify_one();
        }
    }

    fn take_due(&self, now: Timestamp) -> Vec<TimerRow> {
        let mut soon = self.soon.lock();
        let mut due = Vec::new();
        while soon.by_time.first().is_some_and(|timer| timer.fire_at <= now) {
            let Some(timer) = soon.by_time.pop_first() else { break };
            soon.forget(&timer.key, timer.started_event_id);
            due.push(timer);
        }
        due
    }
}

impl Soon {
    fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|timer| timer.fire_at)
    }

    fn insert(&mut self, timer: TimerRow) {
        self.by_run.entry(timer.key.clone()).or_default().insert(timer.started_event_id, timer.fire_at);
        self.by_time.insert(timer);
    }

    fn remove(&mut self, key: &RunKey, id: EventId) {
        if let Some(fire_at) = self.forget(key, id) {
            self.by_time.remove(&TimerRow { fire_at, key: key.clone(), started_event_id: id });
        }
    }

    fn remove_run(&mut self, key: &RunKey) {
        for (id, fire_at) in self.by_run.remove(key).unwrap_or_default() {
            self.by_time.remove(&TimerRow { fire_at, key: key.clone(), started_event_id: id });
        }
    }

    fn forget(&mut self, key: &RunKey, id: EventId) -> Option<Timestamp> {
        let timers = self.by_run.get_mut(key)?;
        let fire_at = timers.remove(&id);
        if timers.is_empty() {
            self.by_run.remove(key);
        }
        fire_at
    }
}

/// Fires timers for as long as the host lives.
pub(super) async fn fire_for_ever(parts: Arc<Parts>) {
    loop {
        let now = parts.clock.now();
        if parts.timers.soon.lock().read_until.is_none_or(|until| until.ms_since(now) < half_horizon_ms()) {
            read_ahead(&parts, now).await;
        }
        for timer in parts.timers.take_due(now) {
            let fired = Input::TimerFired(TimerFired { started_event_id: timer.started_event_id });
            parts.send(&timer.key, Message::Input(fired));
        }
        let read_again = now.plus_ms(half_horizon_ms());
        let next = parts.timers.soon.lock().first().map_or(read_again, |first| first.min(read_again));
        tokio::select! {
            () = parts.clock.sleep_until(next) => {}
            () = parts.timers.earlier.notified() => {}
        }
    }
}

fn half_horizon_ms() -> u64 {
    u64::try_from(HORIZON.as_millis() / 2).unwrap_or(u64::MAX)
}

/// Reads the timers up to the horizon. A store that does not answer is asked again at the next turn.
async fn read_ahead(parts: &Parts, now: Timestamp) {
    let until = now.plus_ms(2 * half_horizon_ms());
    // Set first: a timer that is committed while the pages are read is inserted by `apply`.
    let before = parts.timers.soon.lock().read_until.replace(until);
    let mut after = None;
    loop {
        match parts.store.timers_due(until, after.take(), PAGE).await {
            Ok(page) => {
                after = page.last().cloned();
                let is_last = page.len() < PAGE;
                let mut soon = parts.timers.soon.lock();
                page.into_iter().for_each(|timer| soon.insert(timer));
                if is_last {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "timers cannot be read");
                parts.timers.soon.lock().read_until = before;
                parts.clock.sleep_until(now.plus_ms(1_000)).await;
                return;
            }
        }
    }
}
