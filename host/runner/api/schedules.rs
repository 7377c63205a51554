//! What callers say of schedules and are told.

use everfold_core::ids::{Namespace, Timestamp};
pub use everfold_core::schedule::{
    Action, CalendarSpec, Counts, Definition, IntervalSpec, OverlapPolicy, Policies, ScheduleAction,
    ScheduleSpec, Span,
};

/// Which schedule is meant.
pub use crate::store::ScheduleKey;

/// A schedule to make.
#[derive(Clone, Debug)]
pub struct ScheduleRequest {
    /// Which one.
    pub key: ScheduleKey,
    /// What it is.
    pub definition: Definition,
    /// Whether it begins paused.
    pub paused: bool,
    /// For people.
    pub note: String,
    /// How often it starts something; no limit if absent.
    pub remaining_actions: Option<u64>,
    /// De-duplicates: the same id for the same schedule is one request.
    pub request_id: Option<String>,
}

/// A schedule to change.
#[derive(Clone, Debug)]
pub struct ScheduleUpdate {
    /// Which one.
    pub key: ScheduleKey,
    /// What it is from now on.
    pub definition: Definition,
    /// For people; stays if absent.
    pub note: Option<String>,
    /// How often it starts something from now on.
    pub remaining_actions: Option<u64>,
    /// The revision that the caller has seen; whichever there is if absent.
    pub revision: Option<u64>,
}

/// What is asked of a schedule beside its times.
#[derive(Clone, Debug)]
pub enum ScheduleOrder {
    /// Let times pass.
    Pause {
        /// For people.
        note: String,
    },
    /// Act on times again, from now on.
    Unpause {
        /// For people.
        note: String,
    },
    /// Start now.
    Trigger {
        /// In place of the schedule's own policy.
        overlap: Option<OverlapPolicy>,
    },
    /// Act on a range of times as if it passed now.
    Backfill {
        /// The first.
        from: Timestamp,
        /// The last.
        to: Timestamp,
        /// In place of the schedule's own policy.
        overlap: Option<OverlapPolicy>,
    },
}

/// A page of the list of schedules.
#[derive(Clone, Debug)]
pub struct ScheduleList {
    /// By id.
    pub schedules: Vec<ScheduleDescription>,
    /// The id that the next page goes on behind; absent on the last one.
    pub next: Option<String>,
}

/// A schedule as its caller sees it.
#[derive(Clone, Debug)]
pub struct ScheduleDescription {
    /// Which one.
    pub key: ScheduleKey,
    /// The number of the last change that a caller made.
    pub revision: u64,
    /// What it is.
    pub definition: Definition,
    /// Whether times pass without a start.
    pub paused: bool,
    /// For people.
    pub note: String,
    /// Starts that are left; no limit if absent.
    pub remaining_actions: Option<u64>,
    /// The next times at which it acts.
    pub next_times: Vec<Timestamp>,
    /// Runs that have not ended.
    pub running: Vec<Action>,
    /// The last runs started, the latest last.
    pub recent: Vec<Action>,
    /// Starts that wait.
    pub waiting: usize,
    /// Backfills under way.
    pub backfills: usize,
    /// What was counted.
    pub counts: Counts,
    /// Why the last start was not done, if it was not.
    pub last_error: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub changed_at: Timestamp,
}

/// The schedules of a namespace.
#[derive(Clone, Debug)]
pub struct ScheduleListRequest {
    /// Where.
    pub namespace: Namespace,
    /// Only behind this id.
    pub after: Option<String>,
    /// At most that many.
    pub limit: usize,
}
