//! The routes of those who make attempts outside the host: polls of task queues, and reports by token.

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::Served;
use super::extract::{Json, JsonOrNothing, Path, Query, Wait};
use super::openapi::refusals;
use super::problem::{Answer, Problem};
use super::wire::{ActivityTask, CancelBody, CompleteBody, FailBody, HeartbeatBody, PollBody, Wishes};
use super::workflows::talk::OPTIONAL;
use super::workflows::{NamespaceParameter, check_id, largest, payload};
use crate::runner::api::PollRequest;

pub(super) fn routes(payload_bytes: usize) -> Router<Served> {
    Router::new()
        .route("/api/v1/task-queues/{task_queue}/poll", post(poll))
        .route("/api/v1/activities/{token}/complete", post(complete))
        .route("/api/v1/activities/{token}/fail", post(fail))
        .route("/api/v1/activities/{token}/heartbeat", post(heartbeat))
        .route("/api/v1/activities/{token}/cancel", post(cancel))
        .layer(DefaultBodyLimit::max(largest(payload_bytes)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PollQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// How long to wait for an attempt, as `30s`, `500ms` or `2m`; at most a minute
    #[serde(default)]
    #[param(value_type = Option<String>, example = "30s")]
    wait: Wait,
}

/// Nothing in particular may be said with a report.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NoQuery {}

/// Poll a task queue for an attempt to make
///
/// The attempt is leased to the worker that gets it: its time-outs run, and it ends by a report or by one of them.
/// With `wait` it is a long poll.
#[utoipa::path(
    post,
    path = "/api/v1/task-queues/{task_queue}/poll",
    operation_id = "poll_task_queue",
    tag = "activities",
    params(("task_queue" = String, Path, description = "Which queue"), PollQuery),
    request_body(content = PollBody),
    responses(
        (status = 200, description = "An attempt", body = ActivityTask),
        (status = 204, description = "None came in time"),
        refusals::Poll,
    )
)]
pub(super) async fn poll(
    State(served): State<Served>,
    Path(task_queue): Path<String>,
    Query(query): Query<PollQuery>,
    Json(body): Json<PollBody>,
) -> Answer<Response> {
    check_id("the task queue", Some(&task_queue))?;
    check_id("identity", Some(&body.identity))?;
    let PollBody { identity, activity_types } = body;
    let request = PollRequest { namespace: query.namespace.0, task_queue, identity, activity_types };
    let host = &served.host;
    let task = served.waiting(query.wait.0, |wait| host.poll(request.clone(), wait)).await?;
    Ok(match task {
        Some(task) => Json(ActivityTask::from(task)).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Complete an attempt
///
/// The result is on disk when this is answered. Saying the same again changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/activities/{token}/complete",
    operation_id = "complete_activity",
    tag = "activities",
    params(("token" = String, Path, description = "The attempt's token"), NoQuery),
    request_body(content = CompleteBody, description = OPTIONAL),
    responses((status = 204, description = "The result is recorded"), refusals::Report)
)]
pub(super) async fn complete(
    State(Served { host, .. }): State<Served>,
    Path(token): Path<String>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonOrNothing(body): JsonOrNothing<CompleteBody>,
) -> Answer<StatusCode> {
    host.complete_activity(&token, payload(&body.result)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fail an attempt
///
/// Whether another one follows is the matter of the activity's retry policy. Saying the same again changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/activities/{token}/fail",
    operation_id = "fail_activity",
    tag = "activities",
    params(("token" = String, Path, description = "The attempt's token"), NoQuery),
    request_body(content = FailBody),
    responses((status = 204, description = "The failure is recorded"), refusals::Report)
)]
pub(super) async fn fail(
    State(Served { host, .. }): State<Served>,
    Path(token): Path<String>,
    Query(NoQuery {}): Query<NoQuery>,
    Json(body): Json<FailBody>,
) -> Answer<StatusCode> {
    let failure = body.failure.into_failure().map_err(Problem::invalid_input)?;
    host.fail_activity(&token, failure).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Say that an attempt goes on
///
/// The answer says what is wished of it. What the last heartbeat said reaches the next attempt.
#[utoipa::path(
    post,
    path = "/api/v1/activities/{token}/heartbeat",
    operation_id = "heartbeat_activity",
    tag = "activities",
    params(("token" = String, Path, description = "The attempt's token"), NoQuery),
    request_body(content = HeartbeatBody, description = OPTIONAL),
    responses((status = 200, description = "It goes on", body = Wishes), refusals::Report)
)]
pub(super) async fn heartbeat(
    State(Served { host, .. }): State<Served>,
    Path(token): Path<String>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonOrNothing(body): JsonOrNothing<HeartbeatBody>,
) -> Answer<Json<Wishes>> {
    let details = body.details.as_ref().map(payload).transpose()?;
    Ok(Json(host.heartbeat_activity(&token, details).await?.into()))
}

/// Say that an attempt stopped because it was asked to
///
/// It is refused where nobody has asked the activity to stop.
#[utoipa::path(
    post,
    path = "/api/v1/activities/{token}/cancel",
    operation_id = "cancel_activity",
    tag = "activities",
    params(("token" = String, Path, description = "The attempt's token"), NoQuery),
    request_body(content = CancelBody, description = OPTIONAL),
    responses((status = 204, description = "The end is recorded"), refusals::ReportStop)
)]
pub(super) async fn cancel(
    State(Served { host, .. }): State<Served>,
    Path(token): Path<String>,
    Query(NoQuery {}): Query<NoQuery>,
    JsonOrNothing(body): JsonOrNothing<CancelBody>,
) -> Answer<StatusCode> {
    let details = body.details.iter().map(|details: &Value| payload(details)).collect::<Answer<_>>()?;
    host.cancel_activity(&token, details).await?;
    Ok(StatusCode::NO_CONTENT)
}
