//! The routes of runs, one file for each subject, and what their paths and queries have in common.

pub(super) mod activities;
pub(super) mod list;
pub(super) mod look;
pub(super) mod reset;
pub(super) mod start;
pub(super) mod talk;
pub(super) mod update;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use everfold_core::attributes::{Details, Memo, SearchAttributes};
use everfold_core::ids::{Namespace, RunId, WorkflowId};
use everfold_core::payload::Payload;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use super::Served;
use super::problem::{Answer, Problem};
use crate::runner::api::RunRef;

/// The longest id, type or name, in bytes (Temporal's limit).
const LONGEST_ID: usize = 1_000;
/// Room beside the input in a body: ids, headers' names, JSON's own punctuation.
const ENVELOPE_BYTES: usize = 64 * 1024;

pub(super) fn routes(payload_bytes: usize) -> Router<Served> {
    Router::new()
        .route("/api/v1/workflows", post(start::start).get(list::list))
        .route("/api/v1/workflows/{workflow_id}", get(look::describe))
        .route("/api/v1/workflows/{workflow_id}/history", get(look::history))
        .route("/api/v1/workflows/{workflow_id}/result", get(look::result))
        .route("/api/v1/workflows/{workflow_id}/export", get(look::export))
        .route("/api/v1/workflows/{workflow_id}/signals/{name}", post(talk::signal))
        .route("/api/v1/workflows/{workflow_id}/updates/{update}", post(update::update).get(update::outcome))
        .route("/api/v1/workflows/{workflow_id}/queries/{name}", post(talk::query))
        .route("/api/v1/workflows/{workflow_id}/cancel", post(talk::cancel))
        .route("/api/v1/workflows/{workflow_id}/terminate", post(talk::terminate))
        .route("/api/v1/workflows/{workflow_id}/reset", post(reset::reset))
        .route(
            "/api/v1/workflows/{workflow_id}/activities/{scheduled_event_id}/pause",
            post(activities::pause),
        )
        .route(
            "/api/v1/workflows/{workflow_id}/activities/{scheduled_event_id}/resume",
            post(activities::resume),
        )
        .route(
            "/api/v1/workflows/{workflow_id}/activities/{scheduled_event_id}/reset",
            post(activities::reset),
        )
        .layer(DefaultBodyLimit::max(largest(payload_bytes)))
}

/// The largest body that these routes take.
pub(super) const fn largest(payload_bytes: usize) -> usize {
    payload_bytes.saturating_add(ENVELOPE_BYTES)
}

/// The query of a route that wants the namespace and nothing else.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NamespaceQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    pub(super) namespace: NamespaceParameter,
}

/// Which run of a workflow id is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// A particular run; without it the open one, else the latest
    #[param(value_type = Option<String>, format = "uuid")]
    run_id: Option<RunId>,
}

impl RunQuery {
    fn run(self, workflow_id: String) -> RunRef {
        RunRef { namespace: self.namespace.0, workflow_id: WorkflowId(workflow_id), run_id: self.run_id }
    }
}

/// `?namespace=`: letters, digits, `-`, `_`, `.`; at most 64.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct NamespaceParameter(pub(super) Namespace);

impl TryFrom<String> for NamespaceParameter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(is_allowed) {
            return Err("a name has 1 to 64 letters, digits, `-`, `_` or `.`".to_owned());
        }
        Ok(Self(Namespace(text)))
    }
}

/// Ids stand in paths and in lines of logs; `.` and `..` would be resolved away by clients.
pub(super) fn check_id(what: &str, id: Option<&str>) -> Answer<()> {
    let Some(id) = id else { return Ok(()) };
    if id.is_empty() || id.len() > LONGEST_ID || id.chars().any(char::is_control) || id == "." || id == ".." {
        return Err(Problem::invalid_input(format!(
            "{what}: 1 to {LONGEST_ID} bytes without control characters, and not `.` or `..`"
        )));
    }
    Ok(())
}

pub(super) fn payload(value: &Value) -> Answer<Payload> {
    Payload::json(value).map_err(|error| Problem::invalid_input(format!("input: {error}")))
}

pub(super) fn headers(headers: &Map<String, Value>) -> Answer<Vec<(String, Payload)>> {
    headers.iter().map(|(name, value)| Ok((name.clone(), payload(value)?))).collect()
}

/// What a run is described by; `null` is nothing.
pub(super) fn details(search_attributes: &Map<String, Value>, memo: &Map<String, Value>) -> Answer<Details> {
    let mut details = Details::new();
    let named = search_attributes.iter().map(|(name, value)| (name.as_str(), value));
    let changes = SearchAttributes::read_changes(named).map_err(Problem::invalid_input)?;
    details.search_attributes.change(&changes);
    let memo = Memo::read_changes(headers(memo)?).map_err(Problem::invalid_input)?;
    details.memo.change(&memo);
    Ok(details)
}
