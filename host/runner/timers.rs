//! Timers: the next ones are in memory, all others stay in the store's table until their time comes near.
//! So a parked run costs no memory, and start-up reads only what is due.
//!
//! ```text
//!  fired, not folded yet │ in the wheel, by time │ end          in the table alone
//!  ──────────────────────┼───────────────────────┼─────────────────────────────────▶ time, then key
//!   at most UNDER_WAY    │   at most MOST_HELD   │ read when few are left and the next is near
//! ```
//!
//! What stands before `end` in the table's order is in memory, what stands behind it is not; a timer that
//! begins there is not either. Whatever there is too much of goes back behind `end`: the table has it.
//! Many that are due at once are handed over slice by slice, as fast as the runs take them. Nothing here
//! fires early, asks the store without need, or holds a commit up.

#[cfg(test)]
mod tests;
mod wheel;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use everfold_core::decision::Effects;
use everfold_core::event::{Input, TimerFired};
use everfold_core::ids::{EventId, Namespace, RunId, RunKey, Timestamp};
use everfold_core::lifetime::ALARM;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::run::Message;
use super::{Parts, STORE_PAUSE_MS};
use crate::store::{Store, StoreError, TimerRow};
use wheel::{Place, Wheel};

/// Timers in memory at most; there is more of them for no longer than a lock is held.
const MOST_HELD: usize = 16_384;
/// With fewer than this more are read.
const FEW_HELD: usize = MOST_HELD / 2;
/// Rows read at once.
const PAGE: usize = 1_024;
/// How long before its time a timer is read from the table, at the earliest.
const LEAD_MS: i64 = wheel::SLOTS as i64 / 2;
/// Timers that were handed to their runs and are not in a history yet.
const UNDER_WAY: usize = 2_048;
/// Behind that many, no more are handed over until this many are left.
const FEW_UNDER_WAY: usize = UNDER_WAY / 2;
/// How long runs that do not take their timers hold up others'. A guest that loops takes about as long.
const PATIENCE: Duration = Duration::from_secs(1);

/// The timers that fire next.
#[derive(Debug, Default)]
pub(super) struct Timers {
    soon: Mutex<Soon>,
    /// Told when there is something to do earlier than was known.
    earlier: Notify,
    /// Told when runs have taken what was handed to them.
    settled: Notify,
}

#[derive(Debug)]
struct Soon {
    wheel: Wheel<TimerRow>,
    held: BTreeMap<(RunKey, EventId), Held>,
    under_way: usize,
    /// What stands up to here in the table's order was read; nothing yet if absent.
    end: Option<TimerRow>,
    /// When the first timer behind `end` fires, or earlier; absent if there is none.
    unread: Option<Timestamp>,
    /// What was committed while a page is being read: the page may be from before.
    meanwhile: Option<Vec<Change>>,
}

/// What is in memory of a timer.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// It waits in the wheel.
    Waits(Place),
    /// It was handed to its run.
    UnderWay,
}

/// What a commit did to timers.
#[derive(Clone, Debug)]
enum Change {
    Started(TimerRow),
    Closed(RunKey, EventId),
    RunClosed(RunKey),
}

/// A page of the table, from `end` on.
struct Page {
    rows: Vec<TimerRow>,
    end: TimerRow,
    unread: Option<Timestamp>,
}

impl Timers {
    /// Takes note of a committed decision's timers.
    pub(super) fn apply(&self, key: &RunKey, effects: &Effects, is_closed: bool) {
        if effects.timers_started.is_empty() && effects.timers_closed.is_empty() && !is_closed {
            return;
        }
        let mut soon = self.soon.lock();
        let (wake, under_way) = (soon.wake(), soon.under_way);
        if is_closed {
            soon.note(Change::RunClosed(key.clone()));
        } else {
            for (id, fire_at) in &effects.timers_started {
                let row = TimerRow { fire_at: *fire_at, key: key.clone(), started_event_id: *id };
                soon.note(Change::Started(row));
            }
            for id in &effects.timers_closed {
                soon.note(Change::Closed(key.clone(), *id));
            }
        }
        if soon.wake().is_some_and(|now| wake.is_none_or(|before| now < before)) {
            self.earlier.notify_one();
        }
        if under_way > FEW_UNDER_WAY && soon.under_way <= FEW_UNDER_WAY {
            self.settled.notify_one();
        }
    }

    /// Takes what is due, in the order of time, as far as it may be handed over now.
    fn take_due(&self, now: Timestamp) -> Vec<TimerRow> {
        let mut soon = self.soon.lock();
        let mut due = Vec::new();
        while soon.under_way < UNDER_WAY
            && let Some(row) = soon.wheel.take_due(now)
        {
            soon.held.insert((row.key.clone(), row.started_event_id), Held::UnderWay);
            soon.under_way += 1;
            due.push(row);
        }
        due
    }

    /// Waits while too many are under way. Those that nobody took in time are not counted any more.
    async fn settle(&self) {
        if self.soon.lock().under_way < UNDER_WAY {
            return;
        }
        let settled = async {
            while self.soon.lock().under_way > FEW_UNDER_WAY {
                self.settled.notified().await;
            }
        };
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            self.soon.lock().forget_under_way();
        }
    }

    /// Reads the table where that is due. Answers whether it did.
    async fn read_ahead(&self, store: &dyn Store, now: Timestamp) -> Result<bool, StoreError> {
        let Some((after, reach)) = self.begin_page(now) else { return Ok(false) };
        self.end_page(Page::read(store, after, reach).await)?;
        Ok(true)
    }

    /// Where the next page begins and up to when it is to reach, if one is to be read.
    fn begin_page(&self, now: Timestamp) -> Option<(Option<TimerRow>, Timestamp)> {
        let mut soon = self.soon.lock();
        soon.wheel.advance(now);
        if soon.read_at().is_none_or(|at| at > now) {
            return None;
        }
        soon.meanwhile = Some(Vec::new());
        Some((soon.end.clone(), soon.wheel.reach()))
    }

    /// Takes the page that was read.
    fn end_page(&self, page: Result<Page, StoreError>) -> Result<(), StoreError> {
        let mut soon = self.soon.lock();
        let meanwhile = soon.meanwhile.take().unwrap_or_default();
        soon.add(page?, meanwhile);
        Ok(())
    }
}

impl Page {
    async fn read(store: &dyn Store, after: Option<TimerRow>, reach: Timestamp) -> Result<Self, StoreError> {
        let rows = store.timers_due(reach, after, PAGE).await?;
        if rows.len() >= PAGE
            && let Some(last) = rows.last()
        {
            let (end, unread) = (last.clone(), Some(last.fire_at));
            return Ok(Self { rows, end, unread });
        }
        let end = before_all_at(reach.plus_ms(1));
        let next = store.timers_due(Timestamp(i64::MAX), Some(end.clone()), 1).await?;
        Ok(Self { rows, end, unread: next.first().map(|row| row.fire_at) })
    }
}

/// The place in the table's order before all timers of a time.
const fn before_all_at(fire_at: Timestamp) -> TimerRow {
    let key = RunKey { namespace: Namespace(String::new()), run_id: RunId([0; 16]) };
    TimerRow { fire_at, key, started_event_id: EventId(0) }
}

impl Default for Soon {
    fn default() -> Self {
        Self {
            wheel: Wheel::new(),
            held: BTreeMap::new(),
            under_way: 0,
            end: None,
            // Before the first look everything may be due.
            unread: Some(Timestamp(i64::MIN)),
            meanwhile: None,
        }
    }
}

impl Soon {
    /// When the table is to be read again, if ever.
    fn read_at(&self) -> Option<Timestamp> {
        let unread = self.unread.filter(|_| self.wheel.len() < FEW_HELD)?;
        Some(Timestamp(unread.0.saturating_sub(LEAD_MS)))
    }

    /// When there is something to do.
    fn wake(&self) -> Option<Timestamp> {
        [self.wheel.first(), self.read_at()].into_iter().flatten().min()
    }

    /// Takes a change, now and behind the page that is being read.
    fn note(&mut self, change: Change) {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.push(change.clone());
        }
        self.apply(change);
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Started(row) => {
                if row.started_event_id == ALARM {
                    self.forget(&(row.key.clone(), ALARM));
                }
                if self.end.as_ref().is_some_and(|end| row <= *end) {
                    self.hold(row);
                    self.give_back();
                } else {
                    self.unread = Some(self.unread.map_or(row.fire_at, |unread| unread.min(row.fire_at)));
                }
            }
            Change::Closed(key, id) => self.forget(&(key, id)),
            Change::RunClosed(key) => {
                let all = (key.clone(), EventId(0))..=(key, EventId(u64::MAX));
                let ids: Vec<(RunKey, EventId)> = self.held.range(all).map(|(id, _)| id.clone()).collect();
                ids.iter().for_each(|id| self.forget(id));
            }
        }
    }

    fn add(&mut self, page: Page, meanwhile: Vec<Change>) {
        let Page { rows, end, unread } = page;
        rows.into_iter().for_each(|row| self.hold(row));
        (self.end, self.unread) = (Some(end), unread);
        meanwhile.into_iter().for_each(|change| self.apply(change));
        self.give_back();
    }

    /// Holds a timer, unless it is held already.
    fn hold(&mut self, row: TimerRow) {
        let id = (row.key.clone(), row.started_event_id);
        if !self.held.contains_key(&id) {
            self.held.insert(id, Held::Waits(self.wheel.insert(row.fire_at, row)));
        }
    }

    fn forget(&mut self, id: &(RunKey, EventId)) {
        match self.held.remove(id) {
            Some(Held::Waits(place)) => _ = self.wheel.remove(place),
            Some(Held::UnderWay) => self.under_way -= 1,
            None => {}
        }
    }

    fn forget_under_way(&mut self) {
        self.held.retain(|_, held| matches!(held, Held::Waits(_)));
        self.under_way = 0;
    }

    /// Leaves the last ones to the table when there are too many.
    fn give_back(&mut self) {
        if self.wheel.len() <= MOST_HELD {
            return;
        }
        // Half of them: the next one that begins must not have it done again.
        while self.wheel.len() > FEW_HELD
            && let Some(row) = self.wheel.take_last()
        {
            self.held.remove(&(row.key, row.started_event_id));
            self.unread = Some(self.unread.map_or(row.fire_at, |unread| unread.min(row.fire_at)));
        }
        // The slot that was cut goes as a whole, so that the end is between two times.
        while let Some(unread) = self.unread
            && let Some(row) = self.wheel.take_last()
        {
            if row.fire_at < unread {
                let id = (row.key.clone(), row.started_event_id);
                self.held.insert(id, Held::Waits(self.wheel.insert(row.fire_at, row)));
                break;
            }
            self.held.remove(&(row.key, row.started_event_id));
        }
        self.end = self.unread.map(before_all_at);
    }
}

/// Fires timers for as long as the host lives.
pub(super) async fn fire_for_ever(parts: Arc<Parts>) {
    let timers = &parts.timers;
    loop {
        let now = parts.clock.now();
        let has_read = match timers.read_ahead(parts.store.as_ref(), now).await {
            Ok(has_read) => has_read,
            Err(error) => {
                tracing::error!(%error, "timers cannot be read");
                parts.clock.sleep_until(now.plus_ms(STORE_PAUSE_MS)).await;
                false
            }
        };
        let due = timers.take_due(parts.clock.now());
        for timer in &due {
            let started_event_id = timer.started_event_id;
            let message = match started_event_id {
                ALARM => Message::Alarm,
                _ => Message::Input(Input::TimerFired(TimerFired { started_event_id })),
            };
            parts.send(&timer.key, message);
        }
        timers.settle().await;
        if has_read || !due.is_empty() {
            continue;
        }
        let wake = timers.soon.lock().wake();
        let sleep = async {
            match wake {
                Some(wake) => parts.clock.sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = timers.earlier.notified() => {}
        }
    }
}
