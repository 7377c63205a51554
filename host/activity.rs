//! Activities: native code, registered by name, run one attempt at a time.
//!
//! This module owns what happens *within* an attempt: decoding, the context, start-to-close,
//! cancellation, panics. Whether there is another attempt is the core's retry formula, applied by
//! the runner; nothing here writes to the store.

mod attempt;
mod context;
mod registry;

use everfold_core::command::ActivityScheduled;
use everfold_core::failure::Failure;
use everfold_core::ids::{EventId, RunKey, Timestamp, WorkflowId};
use everfold_core::payload::Payload;

pub use context::{ActivityContext, ActivityInfo};
pub use registry::{Activity, Registry};

/// One attempt to be made.
#[derive(Clone, Debug)]
pub struct AttemptTask {
    /// Whose activity it is.
    pub key: RunKey,
    /// The run's workflow id.
    pub workflow_id: WorkflowId,
    /// The run's type.
    pub workflow_type: String,
    /// The command that scheduled it.
    pub scheduled_event_id: EventId,
    /// What was asked for.
    pub scheduled: ActivityScheduled,
    /// When.
    pub scheduled_at: Timestamp,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// What the last heartbeat of the attempt before said.
    pub heartbeat_details: Option<Payload>,
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
}
