//! Looking at one run: its description, history, result, export.

use axum::extract::State;
use axum::http::StatusCode;
use everfold_core::history::Export;
use everfold_core::ids::{EventId, RunId};
use everfold_core::machine::RunStatus;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{NamespaceParameter, RunQuery};
use crate::server::Served;
use crate::server::extract::{Json, Path, Query, Wait};
use crate::server::openapi::{refusals, shapes};
use crate::server::problem::{Answer, Code, Problem};
use crate::server::wire::{Description, History, RunResult, Standing};

/// Events of a page of history that names no limit.
const DEFAULT_PAGE: usize = 1_000;
/// The largest page of history.
const LARGEST_PAGE: usize = 10_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::server) struct HistoryQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// A particular run; without it the open one, else the latest
    #[param(value_type = Option<String>, format = "uuid")]
    run_id: Option<RunId>,
    /// Only events behind the one of this number
    #[serde(default)]
    #[param(default = 0)]
    after: u64,
    /// How long to wait for such an event, as `30s`, `500ms` or `2m`; at most a minute
    #[serde(default)]
    #[param(value_type = Option<String>, example = "30s")]
    wait: Wait,
    /// About how many events the page has; 1,000 if absent, at most 10,000. A page ends behind the step that reaches it
    #[param(minimum = 1)]
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::server) struct ResultQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// A particular run; without it the open one, else the latest
    #[param(value_type = Option<String>, format = "uuid")]
    run_id: Option<RunId>,
    /// How long to wait for the run's end, as `30s`, `500ms` or `2m`; at most a minute
    #[serde(default)]
    #[param(value_type = Option<String>, example = "30s")]
    wait: Wait,
}

/// Describe a run
#[utoipa::path(
    get,
    path = "/api/v1/workflows/{workflow_id}",
    operation_id = "describe_workflow",
    tag = "workflows",
    params(("workflow_id" = String, Path, description = "The workflow id"), RunQuery),
    responses((status = 200, description = "How it stands", body = Description), refusals::Look)
)]
pub(in crate::server) async fn describe(
    State(Served { host, .. }): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<RunQuery>,
) -> Answer<Json<Description>> {
    Ok(Json(host.describe(&query.run(workflow_id)).await?.into()))
}

/// Read a page of a run's events
///
/// With `wait` it is a long poll: it answers as soon as there is an event behind `after`.
#[utoipa::path(
    get,
    path = "/api/v1/workflows/{workflow_id}/history",
    operation_id = "workflow_history",
    tag = "workflows",
    params(("workflow_id" = String, Path, description = "The workflow id"), HistoryQuery),
    responses((status = 200, description = "Events in order", body = History), refusals::Look)
)]
pub(in crate::server) async fn history(
    State(served): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Answer<Json<History>> {
    let run = RunQuery { namespace: query.namespace, run_id: query.run_id }.run(workflow_id);
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if limit == 0 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, Code::INVALID_INPUT, "query: limit: at least 1"));
    }
    let (host, limit, after) = (&served.host, limit.min(LARGEST_PAGE), EventId(query.after));
    let page = served.waiting(query.wait.0, |wait| host.history(&run, after, limit, wait)).await?;
    Ok(Json(page.into()))
}

/// Read a run's result, or its failure
#[utoipa::path(
    get,
    path = "/api/v1/workflows/{workflow_id}/result",
    operation_id = "workflow_result",
    tag = "workflows",
    params(("workflow_id" = String, Path, description = "The workflow id"), ResultQuery),
    responses(
        (status = 200, description = "It has ended", body = RunResult),
        (status = 202, description = "It is running", body = RunResult),
        refusals::Look,
    )
)]
pub(in crate::server) async fn result(
    State(served): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<ResultQuery>,
) -> Answer<(StatusCode, Json<RunResult>)> {
    let run = RunQuery { namespace: query.namespace, run_id: query.run_id }.run(workflow_id);
    let host = &served.host;
    let result = served.waiting(query.wait.0, |wait| host.result(&run, wait)).await?;
    let status = if result.status == RunStatus::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    let standing = Standing::new(result.status, result.outcome);
    Ok((status, Json(RunResult { workflow_id: run.workflow_id, run_id: result.key.run_id, standing })))
}

/// Export a run's whole history, to be replayed anywhere
#[utoipa::path(
    get,
    path = "/api/v1/workflows/{workflow_id}/export",
    operation_id = "export_workflow",
    tag = "workflows",
    params(("workflow_id" = String, Path, description = "The workflow id"), RunQuery),
    responses((status = 200, description = "The history", body = shapes::Export), refusals::Look)
)]
pub(in crate::server) async fn export(
    State(Served { host, .. }): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<RunQuery>,
) -> Answer<Json<Export>> {
    Ok(Json(host.export(&query.run(workflow_id)).await?))
}
