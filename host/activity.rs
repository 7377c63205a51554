//! Activities: native code, registered by name, run one attempt at a time.
//!
//! This module owns what happens *within* an attempt: decoding, the context, start-to-close,
//! cancellation, panics; and the `desk` of each activity, and the `token`s of attempts that are ended from
//! outside. Whether there is another attempt is the core's retry formula, applied by
//! the runner; nothing here writes to the store.

mod attempt;
mod context;
pub(crate) mod deadline;
pub(crate) mod desk;
mod heartbeat;
mod registry;
pub(crate) mod token;

use std::sync::Arc;

use everfold_core::command::ActivityScheduled;
use everfold_core::failure::Failure;
use everfold_core::ids::{EventId, RunKey, Timestamp};
use everfold_core::payload::Payload;

use crate::telemetry::RunNames;

pub use attempt::{AttemptSettings, Attempts};
pub use context::{ActivityContext, ActivityInfo, ActivityMetrics};
pub use desk::{Desk, Wishes};
pub use heartbeat::{Heartbeat, Heartbeats};
pub use registry::{Activity, NOOP, Registry};

/// The failure types that attempts themselves raise; persisted, so that none is ever renamed.
pub mod failure_type {
    /// No activity of that type is registered here. Tried again: another binary may know it.
    pub const NOT_REGISTERED: &str = "ActivityNotRegistered";
    /// The input is not what the activity takes. Final.
    pub const INVALID_INPUT: &str = "InvalidActivityInput";
    /// The result cannot be written as JSON. Final.
    pub const INVALID_OUTPUT: &str = "InvalidActivityOutput";
    /// The result is larger than a payload may be. Final.
    pub const RESULT_TOO_LARGE: &str = "ResultTooLarge";
    /// The activity's code panicked. Tried again.
    pub const PANICKED: &str = "ActivityPanicked";
    /// What an activity fails with that completes later: it is never recorded.
    pub(super) const COMPLETES_LATER: &str = "CompletesLater";
}

/// One attempt to be made.
#[derive(Clone, Debug)]
pub struct AttemptTask {
    /// Whose activity it is.
    pub key: RunKey,
    /// The run's names.
    pub names: Arc<RunNames>,
    /// The command that scheduled it.
    pub scheduled_event_id: EventId,
    /// What was asked for.
    pub scheduled: Arc<ActivityScheduled>,
    /// When; behind a reset, when that was.
    pub scheduled_at: Timestamp,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// What the last heartbeat of the attempt before said.
    pub heartbeat_details: Option<Payload>,
    /// The activity's desk.
    pub desk: Arc<Desk>,
}

impl AttemptTask {
    /// The first attempt of an activity that the event of that number and time scheduled.
    #[must_use]
    pub fn first(
        key: &RunKey,
        names: &Arc<RunNames>,
        scheduled_event_id: EventId,
        scheduled_at: Timestamp,
        scheduled: &Arc<ActivityScheduled>,
    ) -> Self {
        Self {
            key: key.clone(),
            names: Arc::clone(names),
            scheduled_event_id,
            scheduled: Arc::clone(scheduled),
            scheduled_at,
            attempt: 1,
            heartbeat_details: None,
            desk: Arc::default(),
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptOutcome {
    /// With a result.
    Completed(Payload),
    /// With a failure: the activity's own, a time-out, or a panic.
    Failed(Failure),
    /// It stopped because it was asked to.
    Canceled(Failure),
    /// It goes on outside the host until somebody reports its end by its token.
    CompletesLater {
        /// When it began.
        since: Timestamp,
    },
}
