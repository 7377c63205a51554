//! Schedules as the store keeps them.

use everfold_core::ids::{Namespace, Timestamp};
use everfold_core::schedule::{Definition, ScheduleState};

/// Which schedule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleKey {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its id.
    pub schedule_id: String,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleRow {
    /// Which one.
    pub key: ScheduleKey,
    /// The number of the last change, from 1.
    pub revision: i64,
    /// What it is.
    pub definition: Definition,
    /// What it has seen and done.
    pub state: ScheduleState,
    /// When it has something to do, if no run's end brings that.
    pub wake_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub changed_at: Timestamp,
}
