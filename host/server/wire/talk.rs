//! The JSON of what is said to a run: signals, updates, queries, requests to stop.

use everfold_core::command::UpdateOutcome;
use everfold_core::failure::Failure;
use everfold_core::ids::{RunId, WorkflowId};
use everfold_core::machine::update::UpdateStage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::runner::api::UpdateProgress;
use crate::server::openapi::shapes;

/// The body of a signal; an absent body counts as `{}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `input`, `headers`, `request_id`, or nothing")]
pub struct SignalBody {
    /// What it says; `null` if absent.
    #[serde(default)]
    pub input: Value,
    /// Named values beside the input.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = HashMap<String, Value>)]
    pub headers: Map<String, Value>,
    /// De-duplicates: the same id for the same workflow id is one signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub request_id: Option<String>,
}

/// The body of an update; an absent body counts as `{}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with `input`, `headers`, `update_id`, `wait_for`, or nothing"
)]
pub struct UpdateBody {
    /// What it says; `null` if absent.
    #[serde(default)]
    pub input: Value,
    /// Named values beside the input.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = HashMap<String, Value>)]
    pub headers: Map<String, Value>,
    /// De-duplicates: the same id for the same run is one update. A new UUIDv7 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub update_id: Option<String>,
    /// The stage to wait for; `completed` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shapes::UpdateStage>)]
    pub wait_for: Option<UpdateStage>,
}

/// How far an update is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpdateResult {
    /// The run's workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// The run that has it.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// Its id.
    pub update_id: String,
    /// The stage that it has reached.
    #[schema(value_type = shapes::UpdateStage)]
    pub stage: UpdateStage,
    /// Its answer, once it is completed.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = shapes::UpdateEnd)]
    pub end: Option<UpdateEnd>,
}

/// The answer to an update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateEnd {
    /// Its handler returned this.
    Result(Value),
    /// Its handler failed with this, or the run closed before.
    Failure(Failure),
}

impl From<UpdateProgress> for UpdateResult {
    fn from(progress: UpdateProgress) -> Self {
        let UpdateProgress { workflow_id, run_id, update_id, stage, outcome } = progress;
        let end = outcome.map(|outcome| match outcome {
            UpdateOutcome::Result(result) => UpdateEnd::Result(result.to_value()),
            UpdateOutcome::Failure(failure) => UpdateEnd::Failure(failure),
        });
        Self { workflow_id, run_id, update_id, stage, end }
    }
}

/// The body of a query; an absent body counts as `{}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `input`, or nothing")]
pub struct QueryBody {
    /// What is asked with it; `null` if absent.
    #[serde(default)]
    pub input: Value,
}

/// The body of a request to cancel or to terminate; an absent body counts as `{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `reason`, `request_id`, or nothing")]
pub struct StopBody {
    /// Why; may be empty.
    #[serde(default)]
    pub reason: String,
    /// De-duplicates: the same id for the same workflow id is one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000)]
    pub request_id: Option<String>,
}

/// What was said to a run is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acknowledged {
    /// The run's workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// The run that took it.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueryResult {
    /// The run's workflow id.
    #[schema(value_type = String)]
    pub workflow_id: WorkflowId,
    /// The run that was asked.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// Its answer.
    pub result: Value,
}
