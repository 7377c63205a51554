//! The routes of schedules.

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Served;
use super::extract::{Json, JsonOrNothing, Path, Query};
use super::openapi::refusals;
use super::problem::{Answer, Code, Problem};
use super::wire::{
    BackfillBody, PauseBody, Schedule, ScheduleAction, ScheduleBody, ScheduleList, ScheduleUpdateBody,
    TriggerBody,
};
use super::workflows::talk::OPTIONAL;
use super::workflows::{NamespaceParameter, NamespaceQuery, check_id, details, headers, largest, payload};
use crate::runner::api::{
    self, Definition, ScheduleKey, ScheduleListRequest, ScheduleOrder, ScheduleRequest, ScheduleUpdate, Terms,
};

/// Schedules of a page that names no limit, and the largest page.
const DEFAULT_PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;

pub(super) fn routes(payload_bytes: usize) -> Router<Served> {
    Router::new()
        .route("/api/v1/schedules", post(create).get(list))
        .route("/api/v1/schedules/{schedule_id}", get(describe).put(update).delete(delete))
        .route("/api/v1/schedules/{schedule_id}/pause", post(pause))
        .route("/api/v1/schedules/{schedule_id}/unpause", post(unpause))
        .route("/api/v1/schedules/{schedule_id}/trigger", post(trigger))
        .route("/api/v1/schedules/{schedule_id}/backfill", post(backfill))
        .layer(DefaultBodyLimit::max(largest(payload_bytes)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// Only schedules behind this id: the `next` of the page before
    after: Option<String>,
    /// The most schedules of the page; 50 if absent, at most 200
    #[param(minimum = 1)]
    limit: Option<usize>,
}

/// Make a schedule
///
/// It starts a run at each of its times. The run's workflow id ends with that time, so that each is started once.
#[utoipa::path(
    post,
    path = "/api/v1/schedules",
    operation_id = "create_schedule",
    tag = "schedules",
    params(NamespaceQuery),
    request_body = ScheduleBody,
    responses((status = 201, description = "It was made, now or before", body = Schedule), refusals::CreateSchedule)
)]
pub(super) async fn create(
    State(Served { host, .. }): State<Served>,
    Query(query): Query<NamespaceQuery>,
    Json(body): Json<ScheduleBody>,
) -> Answer<(StatusCode, Json<Schedule>)> {
    check_id("schedule_id", Some(&body.schedule_id))?;
    check_id("request_id", body.request_id.as_deref())?;
    let request = ScheduleRequest {
        definition: definition(&body.schedule_id, body.spec, body.action, body.policies.into())?,
        key: key(query, body.schedule_id),
        paused: body.paused,
        note: body.note,
        remaining_actions: body.remaining_actions,
        request_id: body.request_id,
    };
    Ok((StatusCode::CREATED, Json(host.create_schedule(request).await?.into())))
}

/// List schedules by id
#[utoipa::path(
    get,
    path = "/api/v1/schedules",
    operation_id = "list_schedules",
    tag = "schedules",
    params(ListQuery),
    responses((status = 200, description = "A page of the list", body = ScheduleList), refusals::All)
)]
pub(super) async fn list(
    State(Served { host, .. }): State<Served>,
    Query(query): Query<ListQuery>,
) -> Answer<Json<ScheduleList>> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).min(LARGEST_PAGE);
    if limit == 0 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, Code::INVALID_INPUT, "query: limit: at least 1"));
    }
    let request = ScheduleListRequest { namespace: query.namespace.0, after: query.after, limit };
    let page = host.schedules(request).await?;
    let schedules = page.schedules.into_iter().map(Into::into).collect();
    Ok(Json(ScheduleList { schedules, next: page.next }))
}

/// Describe a schedule
#[utoipa::path(
    get,
    path = "/api/v1/schedules/{schedule_id}",
    operation_id = "describe_schedule",
    tag = "schedules",
    params(("schedule_id" = String, Path, description = "The schedule's id"), NamespaceQuery),
    responses((status = 200, description = "What it is and how it stands", body = Schedule), refusals::Look)
)]
pub(super) async fn describe(
    State(Served { host, .. }): State<Served>,
    Path(schedule_id): Path<String>,
    Query(query): Query<NamespaceQuery>,
) -> Answer<Json<Schedule>> {
    Ok(Json(host.describe_schedule(&key(query, schedule_id)).await?.into()))
}

/// Change a schedule from now on
///
/// What waits already goes on as it was asked for.
#[utoipa::path(
    put,
    path = "/api/v1/schedules/{schedule_id}",
    operation_id = "update_schedule",
    tag = "schedules",
    params(("schedule_id" = String, Path, description = "The schedule's id"), NamespaceQuery),
    request_body = ScheduleUpdateBody,
    responses((status = 200, description = "It is so now", body = Schedule), refusals::ChangeSchedule)
)]
pub(super) async fn update(
    State(Served { host, .. }): State<Served>,
    Path(schedule_id): Path<String>,
    Query(query): Query<NamespaceQuery>,
    Json(body): Json<ScheduleUpdateBody>,
) -> Answer<Json<Schedule>> {
    let update = ScheduleUpdate {
        definition: definition(&schedule_id, body.spec, body.action, body.policies.into())?,
        key: key(query, schedule_id),
        note: body.note,
        remaining_actions: body.remaining_actions,
        revision: body.revision,
    };
    Ok(Json(host.update_schedule(update).await?.into()))
}

/// Forget a schedule
///
/// Runs that it started go on.
#[utoipa::path(
    delete,
    path = "/api/v1/schedules/{schedule_id}",
    operation_id = "delete_schedule",
    tag = "schedules",
    params(("schedule_id" = String, Path, description = "The schedule's id"), NamespaceQuery),
    responses((status = 204, description = "It is gone"), refusals::Look)
)]
pub(super) async fn delete(
    State(Served { host, .. }): State<Served>,
    Path(schedule_id): Path<String>,
    Query(query): Query<NamespaceQuery>,
) -> Answer<StatusCode> {
    host.delete_schedule(&key(query, schedule_id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a schedule: its times pass without a start
#[utoipa::path(
    post,
    path = "/api/v1/schedules/{schedule_id}/pause",
    operation_id = "pause_schedule",
    tag = "schedules",
    params(("schedule_id" = String, Path, description = "The schedule's id"), NamespaceQuery),
    request_body(content = PauseBody, description = OPTIONAL),
    responses((status = 200, description = "It is paused, now or before", body = Schedule), refusals::OrderSchedule)
)]
pub(super) async fn pause(
    State(served): State<Served>,
    Path(schedule_id): Path<String>,
    Query(query): Query<NamespaceQuery>,
    JsonOrNothing(PauseBody { note, request_id }): JsonOrNothing<PauseBody>,
) -> Answer<Json<Schedule>> {
    order(served, key(query, schedule_id), ScheduleOrder::Pause { note }, request_id).await
}

/// End a schedule's pause
///
/// What passed meanwhile is past; a backfill can act on it.
#[utoipa::path(
    post,
    path = "/api/v1/schedules/{schedule_id}/unpause",
    operation_id = "unpause_schedule",
    tag = "schedules",
    params(("schedule_id" = String, Path, description = "The schedule's id"), NamespaceQuery),
    request_body(content = PauseBody, description = OPTIONAL),
    responses((status = 200, description = "It goes on, now or before", body = Schedule), refusals::OrderSchedule)
)]
pub(super) async fn unpause(
    State(served): State<Served>,
    Path(schedule_id): Path<String>,
    Query(query): Query<NamespaceQuery>,
    JsonOrNothing(PauseBody { note, request_id }): JsonOrNothing<PauseBody>,
) -> Answer<Json<Schedule>> {
    order(served, key(query, schedule_id), ScheduleOrder::Unpause { note }, request_id).await
}

/// Start a schedule's run now
#[utoipa::path(
    post,
    path = "/api/v1/schedules/{schedule_id}/trigger",
    operation_id = "trigger_schedule",
    tag = "schedules",
    params(("schedule_id" = String, Path, description = "The schedule's id"), NamespaceQuery),
    request_body(content = TriggerBody, description = OPTIONAL),
    responses((status = 200, description = "It was taken: see `recent`", body = Schedule), refusals::OrderSchedule)
)]
pub(super) async fn trigger(
    State(served): State<Served>,
    Path(schedule_id): Path<String>,
    Query(query): Query<NamespaceQuery>,
    JsonOrNothing(TriggerBody { overlap, request_id }): JsonOrNothing<TriggerBody>,
) -> Answer<Json<Schedule>> {
    order(served, key(query, schedule_id), ScheduleOrder::Trigger { overlap }, request_id).await
}

/// Act on a range of times as if it passed now
#[utoipa::path(
    post,
    path = "/api/v1/schedules/{schedule_id}/backfill",
    operation_id = "backfill_schedule",
    tag = "schedules",
    params(("schedule_id" = String, Path, description = "The schedule's id"), NamespaceQuery),
    request_body = BackfillBody,
    responses((status = 200, description = "It was taken", body = Schedule), refusals::OrderSchedule)
)]
pub(super) async fn backfill(
    State(served): State<Served>,
    Path(schedule_id): Path<String>,
    Query(query): Query<NamespaceQuery>,
    Json(BackfillBody { from, to, overlap, request_id }): Json<BackfillBody>,
) -> Answer<Json<Schedule>> {
    let backfill = ScheduleOrder::Backfill { from, to, overlap };
    order(served, key(query, schedule_id), backfill, request_id).await
}

async fn order(
    Served { host, .. }: Served,
    key: ScheduleKey,
    order: ScheduleOrder,
    request_id: Option<String>,
) -> Answer<Json<Schedule>> {
    check_id("request_id", request_id.as_deref())?;
    Ok(Json(host.order_schedule(&key, order, request_id.as_deref()).await?.into()))
}

fn key(query: NamespaceQuery, schedule_id: String) -> ScheduleKey {
    ScheduleKey { namespace: query.namespace.0, schedule_id }
}

fn definition(
    schedule_id: &str,
    spec: api::ScheduleSpec,
    action: ScheduleAction,
    policies: api::Policies,
) -> Answer<Definition> {
    check_id("action: workflow_type", Some(&action.workflow_type))?;
    check_id("action: workflow_id", action.workflow_id.as_deref())?;
    let details = details(&action.search_attributes, &action.memo)?;
    let action = api::ScheduleAction {
        workflow_type: action.workflow_type,
        workflow_id: action.workflow_id.unwrap_or_else(|| schedule_id.to_owned()),
        input: payload(&action.input)?,
        headers: headers(&action.headers)?,
        digest: action.digest,
        terms: Terms {
            execution_timeout_ms: action.execution_timeout_ms,
            run_timeout_ms: action.run_timeout_ms,
            retry_policy: action.retry_policy,
            start_delay_ms: None,
        },
        search_attributes: details.search_attributes,
        memo: details.memo,
    };
    Ok(Definition { spec, action, policies })
}
