//! Talking to one run: signals, queries, requests to stop.

use axum::extract::State;
use axum::http::StatusCode;

use super::{RunQuery, check_id, headers, payload};
use crate::runner::api::{self, QueryRequest, SignalRequest, StopRequest};
use crate::server::Served;
use crate::server::extract::{Json, JsonOrNothing, Path, Query};
use crate::server::openapi::refusals;
use crate::server::problem::Answer;
use crate::server::wire::{Acknowledged, QueryBody, QueryResult, SignalBody, StopBody};

/// Bodies that may be absent are described so; [`openapi`](crate::server::openapi) goes by it.
pub(in crate::server) const OPTIONAL: &str = "It may be absent: that counts as `{}`";

/// Send a signal to an open run
///
/// It is on disk when this is answered.
#[utoipa::path(
    post,
    path = "/api/v1/workflows/{workflow_id}/signals/{name}",
    operation_id = "signal_workflow",
    tag = "workflows",
    params(
        ("workflow_id" = String, Path, description = "The workflow id"),
        ("name" = String, Path, description = "Which signal"),
        RunQuery,
    ),
    request_body(content = SignalBody, description = OPTIONAL),
    responses((status = 200, description = "The run has it", body = Acknowledged), refusals::Signal)
)]
pub(in crate::server) async fn signal(
    State(Served { host, .. }): State<Served>,
    Path((workflow_id, name)): Path<(String, String)>,
    Query(query): Query<RunQuery>,
    JsonOrNothing(body): JsonOrNothing<SignalBody>,
) -> Answer<Json<Acknowledged>> {
    check_id("the signal's name", Some(&name))?;
    check_id("request_id", body.request_id.as_deref())?;
    let request = SignalRequest {
        run: query.run(workflow_id),
        name,
        input: payload(&body.input)?,
        headers: headers(&body.headers)?,
        request_id: body.request_id,
    };
    Ok(acknowledged(host.signal(request).await?))
}

/// Ask a run, open or closed, a question
///
/// The answer is as of its history; asking changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/workflows/{workflow_id}/queries/{name}",
    operation_id = "query_workflow",
    tag = "workflows",
    params(
        ("workflow_id" = String, Path, description = "The workflow id"),
        ("name" = String, Path, description = "Which question"),
        RunQuery,
    ),
    request_body(content = QueryBody, description = OPTIONAL),
    responses((status = 200, description = "The answer", body = QueryResult), refusals::Ask)
)]
pub(in crate::server) async fn query(
    State(Served { host, .. }): State<Served>,
    Path((workflow_id, name)): Path<(String, String)>,
    Query(query): Query<RunQuery>,
    JsonOrNothing(body): JsonOrNothing<QueryBody>,
) -> Answer<Json<QueryResult>> {
    check_id("the query's name", Some(&name))?;
    let request = QueryRequest { run: query.run(workflow_id), name, input: payload(&body.input)? };
    let answer = host.query(request).await?;
    let result = answer.result.to_value();
    Ok(Json(QueryResult { workflow_id: answer.workflow_id, run_id: answer.run_id, result }))
}

/// Ask a run to cancel
///
/// Its code hears of it, undoes what is to be undone, and ends. Asking again changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/workflows/{workflow_id}/cancel",
    operation_id = "cancel_workflow",
    tag = "workflows",
    params(("workflow_id" = String, Path, description = "The workflow id"), RunQuery),
    request_body(content = StopBody, description = OPTIONAL),
    responses((status = 202, description = "The run is asked", body = Acknowledged), refusals::Stop)
)]
pub(in crate::server) async fn cancel(
    State(Served { host, .. }): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<RunQuery>,
    JsonOrNothing(body): JsonOrNothing<StopBody>,
) -> Answer<(StatusCode, Json<Acknowledged>)> {
    let request = stop_request(workflow_id, query, body)?;
    Ok((StatusCode::ACCEPTED, acknowledged(host.cancel(request).await?)))
}

/// Close a run without asking its code
///
/// Nothing is undone.
#[utoipa::path(
    post,
    path = "/api/v1/workflows/{workflow_id}/terminate",
    operation_id = "terminate_workflow",
    tag = "workflows",
    params(("workflow_id" = String, Path, description = "The workflow id"), RunQuery),
    request_body(content = StopBody, description = OPTIONAL),
    responses((status = 200, description = "The run is closed", body = Acknowledged), refusals::Stop)
)]
pub(in crate::server) async fn terminate(
    State(Served { host, .. }): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<RunQuery>,
    JsonOrNothing(body): JsonOrNothing<StopBody>,
) -> Answer<Json<Acknowledged>> {
    let request = stop_request(workflow_id, query, body)?;
    Ok(acknowledged(host.terminate(request).await?))
}

fn stop_request(workflow_id: String, query: RunQuery, body: StopBody) -> Answer<StopRequest> {
    check_id("request_id", body.request_id.as_deref())?;
    Ok(StopRequest { run: query.run(workflow_id), reason: body.reason, request_id: body.request_id })
}

pub(super) fn acknowledged(done: api::Acknowledged) -> Json<Acknowledged> {
    Json(Acknowledged { workflow_id: done.workflow_id, run_id: done.run_id })
}
