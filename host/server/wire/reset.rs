//! Resets as JSON.

use everfold_core::ids::{Digest, EventId, RunId, WorkflowId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::runner::api::{self, ResetPoint};
use crate::server::openapi::shapes;

/// The body of a reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with `to`, and `reason`, `digest`, `request_id`, `dry_run`"
)]
pub struct ResetRunBody {
    /// The event that the run goes back to: the last one of a step; `"start"` for before the first one, `"last"` for
    /// the last event behind which it was open.
    #[schema(value_type = shapes::ResetPoint)]
    pub to: ResetPoint,
    /// Why; may be empty.
    #[serde(default)]
    pub reason: String,
    /// The version that the new run goes on on; the run's own one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{64}$")]
    pub digest: Option<Digest>,
    /// De-duplicates: the same id for the same workflow id is one reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub request_id: Option<String>,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// A reset that is on disk, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResetResult {
    /// The run's workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// The run that goes on; absent where that was only asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub run_id: Option<RunId>,
    /// The run that was reset.
    #[schema(value_type = String, format = "uuid")]
    pub reset_run_id: RunId,
    /// Its last event that was taken over; 0 if none was.
    #[schema(value_type = u64)]
    pub to_event_id: EventId,
    /// What the run did that its code may do again. Nothing of it is undone.
    pub repeats: Vec<Repeated>,
}

/// Something that a run did and that its code may do again behind a reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Repeated {
    /// The event of the run that was reset.
    #[schema(value_type = u64)]
    pub event_id: EventId,
    /// Its type.
    pub event_type: String,
    /// An activity's type, a workflow's type or a signal's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The workflow that it concerns, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<String>,
    /// Of an activity that is open at the event: it begins anew in any case, under this key. What the run did later
    /// has another key when it is asked for again, unless the run's code names the keys itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl From<api::ResetDone> for ResetResult {
    fn from(done: api::ResetDone) -> Self {
        let api::ResetDone { workflow_id, run_id, reset_run_id, to_event_id, repeats, is_duplicate: _ } =
            done;
        let repeats = repeats.into_iter().map(Into::into).collect();
        Self { workflow_id, run_id, reset_run_id, to_event_id, repeats }
    }
}

impl From<api::Repeated> for Repeated {
    fn from(repeated: api::Repeated) -> Self {
        let api::Repeated { event_id, event_type, name, workflow_id, idempotency_key } = repeated;
        Self { event_id, event_type: event_type.to_owned(), name, workflow_id, idempotency_key }
    }
}
