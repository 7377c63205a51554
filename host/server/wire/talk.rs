//! The JSON of what is said to a run: signals, queries, requests to stop.

use everfold_core::ids::{RunId, WorkflowId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

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
