//! Activities in the host's public interface: what workers poll and report, what operators want, how they stand.

use std::sync::Arc;

use everfold_core::command::ActivityScheduled;
use everfold_core::decision::PendingActivity;
use everfold_core::ids::{EventId, Namespace, RunId, Timestamp, WorkflowId};
use everfold_core::payload::Payload;

use super::RunRef;

pub use crate::activity::Wishes;

/// An open activity.
#[derive(Clone, Debug)]
pub struct PendingActivityInfo {
    /// The command that scheduled it.
    pub scheduled_event_id: EventId,
    /// Its type.
    pub activity_type: String,
    /// The queue in which it waits for a worker, unless it is native code of this host.
    pub task_queue: String,
    /// When it was scheduled.
    pub scheduled_at: Timestamp,
    /// How it stands.
    pub state: ActivityState,
    /// Whether its cancellation was asked for.
    pub cancel_requested: bool,
    /// The most it may be tried, if there is a limit.
    pub maximum_attempts: Option<u32>,
    /// Its row; absent before the first failure, heartbeat, lease, pause or reset.
    pub attempts: Option<PendingActivity>,
}

/// How an open activity stands. Names are those of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivityState {
    /// Its next attempt begins at its time.
    Scheduled,
    /// It waits for a worker that polls its task queue.
    WaitingForWorker,
    /// An attempt is under way.
    Started,
    /// No attempt begins.
    Paused,
    /// No attempt begins behind the one that is under way.
    PauseRequested,
}

impl ActivityState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Scheduled, Self::WaitingForWorker, Self::Started, Self::Paused, Self::PauseRequested];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::WaitingForWorker => "waiting_for_worker",
            Self::Started => "started",
            Self::Paused => "paused",
            Self::PauseRequested => "pause_requested",
        }
    }

    /// How the activity with that row stands.
    pub(in crate::runner) fn of(row: Option<&PendingActivity>, is_native: bool, now: Timestamp) -> Self {
        let paused = row.and_then(|row| row.paused);
        let is_held = row.is_some_and(|row| row.lease.is_some());
        match paused {
            Some(paused) if is_held || paused.attempt_under_way => Self::PauseRequested,
            Some(_) => Self::Paused,
            None if is_held => Self::Started,
            None if row.is_some_and(|row| row.next_attempt_at > now) => Self::Scheduled,
            None if is_native => Self::Started,
            None => Self::WaitingForWorker,
        }
    }
}

/// A worker that wants something to do.
#[derive(Clone, Debug)]
pub struct PollRequest {
    /// Where.
    pub namespace: Namespace,
    /// From which queue.
    pub task_queue: String,
    /// The worker, as it names itself.
    pub identity: String,
    /// What it runs; empty for everything.
    pub activity_types: Vec<String>,
}

/// An attempt that a worker is to make.
#[derive(Clone, Debug)]
pub struct ActivityTask {
    /// What it is reported by.
    pub token: String,
    /// The run's workflow id.
    pub workflow_id: WorkflowId,
    /// The run.
    pub run_id: RunId,
    /// The run's type.
    pub workflow_type: String,
    /// The command that scheduled the activity.
    pub scheduled_event_id: EventId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// What was asked for.
    pub scheduled: Arc<ActivityScheduled>,
    /// What the last heartbeat of the attempt before said.
    pub heartbeat_details: Option<Payload>,
    /// When the activity was scheduled; behind a reset, when that was.
    pub scheduled_at: Timestamp,
    /// When the attempt began: now.
    pub started_at: Timestamp,
    /// When it runs out of time.
    pub deadline: Option<Timestamp>,
}

/// What an operator wants of an open activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivityOperation {
    /// That no further attempt begins; one that is under way goes on.
    Pause,
    /// That attempts begin again, at once or at their time.
    Resume,
    /// That attempts count from 1 again, and the next one begins at once.
    Reset {
        /// Whether a pause stays.
        keep_paused: bool,
    },
}

/// An open activity, and what is wanted of it.
#[derive(Clone, Debug)]
pub struct OperateRequest {
    /// Whose it is.
    pub run: RunRef,
    /// The command that scheduled it.
    pub scheduled_event_id: EventId,
    /// What is wanted.
    pub operation: ActivityOperation,
}
