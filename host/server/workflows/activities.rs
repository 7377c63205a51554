//! Operating a run's open activities: pause, resume, reset.

use axum::extract::State;
use everfold_core::ids::EventId;

use super::RunQuery;
use super::talk::{OPTIONAL, acknowledged};
use crate::runner::api::{ActivityOperation, OperateRequest};
use crate::server::Served;
use crate::server::extract::{Json, JsonOrNothing, Path, Query};
use crate::server::openapi::refusals;
use crate::server::problem::Answer;
use crate::server::wire::{Acknowledged, ResetBody};

/// Pause an open activity
///
/// No further attempt begins; one that is under way goes on, and hears of it through its heartbeats.
#[utoipa::path(
    post,
    path = "/api/v1/workflows/{workflow_id}/activities/{scheduled_event_id}/pause",
    operation_id = "pause_activity",
    tag = "activities",
    params(
        ("workflow_id" = String, Path, description = "The workflow id"),
        ("scheduled_event_id" = u64, Path, description = "The event that scheduled the activity", minimum = 1),
        RunQuery,
    ),
    responses((status = 200, description = "It is paused", body = Acknowledged), refusals::Operate)
)]
pub(in crate::server) async fn pause(
    State(served): State<Served>,
    Path(activity): Path<(String, u64)>,
    Query(query): Query<RunQuery>,
) -> Answer<Json<Acknowledged>> {
    operate(served, activity, query, ActivityOperation::Pause).await
}

/// Resume a paused activity
///
/// Its next attempt begins at its time, or at once where that has passed.
#[utoipa::path(
    post,
    path = "/api/v1/workflows/{workflow_id}/activities/{scheduled_event_id}/resume",
    operation_id = "resume_activity",
    tag = "activities",
    params(
        ("workflow_id" = String, Path, description = "The workflow id"),
        ("scheduled_event_id" = u64, Path, description = "The event that scheduled the activity", minimum = 1),
        RunQuery,
    ),
    responses((status = 200, description = "It goes on", body = Acknowledged), refusals::Operate)
)]
pub(in crate::server) async fn resume(
    State(served): State<Served>,
    Path(activity): Path<(String, u64)>,
    Query(query): Query<RunQuery>,
) -> Answer<Json<Acknowledged>> {
    operate(served, activity, query, ActivityOperation::Resume).await
}

/// Reset an open activity
///
/// Its attempts count from 1 again, schedule-to-close begins anew, and the next attempt begins at once: behind
/// the one that is under way, where there is one. A pause ends unless it is to stay.
#[utoipa::path(
    post,
    path = "/api/v1/workflows/{workflow_id}/activities/{scheduled_event_id}/reset",
    operation_id = "reset_activity",
    tag = "activities",
    params(
        ("workflow_id" = String, Path, description = "The workflow id"),
        ("scheduled_event_id" = u64, Path, description = "The event that scheduled the activity", minimum = 1),
        RunQuery,
    ),
    request_body(content = ResetBody, description = OPTIONAL),
    responses((status = 200, description = "It is reset", body = Acknowledged), refusals::OperateWithBody)
)]
pub(in crate::server) async fn reset(
    State(served): State<Served>,
    Path(activity): Path<(String, u64)>,
    Query(query): Query<RunQuery>,
    JsonOrNothing(body): JsonOrNothing<ResetBody>,
) -> Answer<Json<Acknowledged>> {
    let ResetBody { keep_paused } = body;
    operate(served, activity, query, ActivityOperation::Reset { keep_paused }).await
}

async fn operate(
    Served { host, .. }: Served,
    (workflow_id, event_id): (String, u64),
    query: RunQuery,
    operation: ActivityOperation,
) -> Answer<Json<Acknowledged>> {
    let run = query.run(workflow_id);
    let request = OperateRequest { run, scheduled_event_id: EventId(event_id), operation };
    Ok(acknowledged(host.operate_activity(request).await?))
}
