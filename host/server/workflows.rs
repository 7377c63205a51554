//! The routes of runs: start, describe, history, result, export.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use everfold_core::history::Export;
use everfold_core::ids::{EventId, Namespace, RunId, WorkflowId};
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use serde::Deserialize;

use super::Served;
use super::extract::{Json, Path, Query, Wait};
use super::problem::{Answer, Code, Problem};
use super::wire::{Description, History, RunResult, Standing, StartBody, Started};
use crate::runner::api::{RunRef, StartRequest};
use crate::telemetry::http::with_traceparent;

/// The longest id or type, in bytes (Temporal's limit).
const LONGEST_ID: usize = 1_000;
/// Room beside the input in the body of a start: ids, headers' names, JSON's own punctuation.
const ENVELOPE_BYTES: usize = 64 * 1024;
/// Events of a page of history that names no limit.
const DEFAULT_PAGE: usize = 1_000;
/// The largest page of history.
const LARGEST_PAGE: usize = 10_000;

pub(super) fn routes(payload_bytes: usize) -> Router<Served> {
    Router::new()
        .route("/api/v1/workflows", post(start))
        .route("/api/v1/workflows/{workflow_id}", get(describe))
        .route("/api/v1/workflows/{workflow_id}/history", get(history))
        .route("/api/v1/workflows/{workflow_id}/result", get(result))
        .route("/api/v1/workflows/{workflow_id}/export", get(export))
        .layer(DefaultBodyLimit::max(payload_bytes.saturating_add(ENVELOPE_BYTES)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartQuery {
    #[serde(default)]
    namespace: NamespaceParameter,
    wait: Option<Wait>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunQuery {
    #[serde(default)]
    namespace: NamespaceParameter,
    run_id: Option<RunId>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    #[serde(default)]
    namespace: NamespaceParameter,
    run_id: Option<RunId>,
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait: Wait,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultQuery {
    #[serde(default)]
    namespace: NamespaceParameter,
    run_id: Option<RunId>,
    #[serde(default)]
    wait: Wait,
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

async fn start(
    State(served): State<Served>,
    Query(query): Query<StartQuery>,
    Json(body): Json<StartBody>,
) -> Answer<(StatusCode, Json<Started>)> {
    let namespace = query.namespace.0;
    let request = start_request(namespace.clone(), body)?;
    let started = served.host.start(request).await?;
    let run = RunRef { namespace, workflow_id: started.workflow_id.clone(), run_id: Some(started.run_id) };
    let standing = match query.wait {
        Some(Wait(wait)) => Some(standing_after(&served, &run, wait).await),
        None => None,
    };
    let started = Started { workflow_id: started.workflow_id, run_id: started.run_id, standing };
    Ok((StatusCode::CREATED, Json(started)))
}

/// The run is on disk whatever happens to the waiting: the start is acknowledged in any case.
async fn standing_after(served: &Served, run: &RunRef, wait: Duration) -> Standing {
    let host = &served.host;
    match served.waiting(wait, |wait| host.result(run, wait)).await {
        Ok(result) => Standing::new(result.status, result.outcome),
        Err(error) => {
            tracing::warn!(workflow_id = %run.workflow_id, %error, "a started run could not be waited for");
            Standing::new(RunStatus::Running, None)
        }
    }
}

fn start_request(namespace: Namespace, body: StartBody) -> Answer<StartRequest> {
    check_id("workflow_type", Some(&body.workflow_type))?;
    check_id("workflow_id", body.workflow_id.as_deref())?;
    check_id("request_id", body.request_id.as_deref())?;
    let payload = |value: &serde_json::Value| {
        Payload::json(value).map_err(|error| Problem::invalid_input(format!("input: {error}")))
    };
    let headers = body.headers.iter().map(|(name, value)| Ok((name.clone(), payload(value)?)));
    Ok(StartRequest {
        namespace,
        workflow_type: body.workflow_type,
        workflow_id: body.workflow_id.map(WorkflowId),
        input: payload(&body.input)?,
        headers: with_traceparent(headers.collect::<Answer<_>>()?),
        request_id: body.request_id,
        digest: body.digest,
    })
}

/// Ids stand in paths and in lines of logs; `.` and `..` would be resolved away by clients.
fn check_id(what: &str, id: Option<&str>) -> Answer<()> {
    let Some(id) = id else { return Ok(()) };
    if id.is_empty() || id.len() > LONGEST_ID || id.chars().any(char::is_control) || id == "." || id == ".." {
        return Err(Problem::invalid_input(format!(
            "{what}: 1 to {LONGEST_ID} bytes without control characters, and not `.` or `..`"
        )));
    }
    Ok(())
}

fn run_ref(workflow_id: String, namespace: NamespaceParameter, run_id: Option<RunId>) -> RunRef {
    RunRef { namespace: namespace.0, workflow_id: WorkflowId(workflow_id), run_id }
}

async fn describe(
    State(Served { host, .. }): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<RunQuery>,
) -> Answer<Json<Description>> {
    let run = run_ref(workflow_id, query.namespace, query.run_id);
    Ok(Json(host.describe(&run).await?.into()))
}

async fn history(
    State(served): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Answer<Json<History>> {
    let run = run_ref(workflow_id, query.namespace, query.run_id);
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if limit == 0 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, Code::INVALID_INPUT, "query: limit: at least 1"));
    }
    let (host, limit, after) = (&served.host, limit.min(LARGEST_PAGE), EventId(query.after));
    let page = served.waiting(query.wait.0, |wait| host.history(&run, after, limit, wait)).await?;
    Ok(Json(page.into()))
}

async fn result(
    State(served): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<ResultQuery>,
) -> Answer<(StatusCode, Json<RunResult>)> {
    let run = run_ref(workflow_id, query.namespace, query.run_id);
    let host = &served.host;
    let result = served.waiting(query.wait.0, |wait| host.result(&run, wait)).await?;
    let status = if result.status == RunStatus::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    let standing = Standing::new(result.status, result.outcome);
    Ok((status, Json(RunResult { workflow_id: run.workflow_id, run_id: result.key.run_id, standing })))
}

async fn export(
    State(Served { host, .. }): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<RunQuery>,
) -> Answer<Json<Export>> {
    let run = run_ref(workflow_id, query.namespace, query.run_id);
    Ok(Json(host.export(&run).await?))
}
