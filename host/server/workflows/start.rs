//! Starting runs.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use everfold_core::event::SignalReceived;
use everfold_core::ids::{Namespace, WorkflowId};
use everfold_core::machine::RunStatus;
use everfold_core::machine::update::UpdateStage;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{NamespaceParameter, check_id, details, headers, payload};
use crate::runner::api::{self, ApiError, IdConflictPolicy, RunResult, StartRequest, Terms};
use crate::server::Served;
use crate::server::extract::{Json, Query, Wait};
use crate::server::openapi::refusals;
use crate::server::problem::Answer;
use crate::server::wire::{Standing, StartBody, StartSignal, StartUpdate, Started, UpdateResult};
use crate::telemetry::http::with_traceparent;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::server) struct StartQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// How long to wait for the run's end, as `30s`, `500ms` or `2m`; at most a minute
    #[param(value_type = Option<String>, example = "30s")]
    wait: Option<Wait>,
}

/// Start a run
///
/// It is on disk when this is answered. The same `request_id` for the same workflow id names the same run.
#[utoipa::path(
    post,
    path = "/api/v1/workflows",
    operation_id = "start_workflow",
    tag = "workflows",
    params(StartQuery),
    request_body = StartBody,
    responses(
        (status = 201, description = "It was started", body = Started),
        (status = 200, description = "It was there: started before by this request, or open", body = Started),
        refusals::Start,
    )
)]
pub(in crate::server) async fn start(
    State(served): State<Served>,
    Query(query): Query<StartQuery>,
    Json(body): Json<StartBody>,
) -> Answer<(StatusCode, Json<Started>)> {
    let wait_for = body.update.as_ref().and_then(|update| update.wait_for).unwrap_or(UpdateStage::Completed);
    let request = start_request(query.namespace.0, body)?;
    if request.update.is_some() {
        let wait = query.wait.map_or(Duration::ZERO, |Wait(wait)| wait);
        return start_with_update(&served, request, wait_for, wait).await;
    }
    let (started, standing) = match query.wait {
        None => (served.host.start(request).await?, None),
        Some(Wait(wait)) => {
            let (started, ending) = served.host.start_to_end(request).await?;
            // Only now, when the run is on disk: who waits gives the room of the body back.
            let result = match served.waits.take() {
                Ok(_room) => ending.within(wait).await,
                Err(_) => ending.within(Duration::ZERO).await,
            };
            let standing = standing_of(&started, result);
            (started, Some(standing))
        }
    };
    Ok(answer(started, standing, None))
}

/// 201 for a run that was begun, 200 for one that was there.
fn answer(
    started: api::Started,
    standing: Option<Standing>,
    update: Option<UpdateResult>,
) -> (StatusCode, Json<Started>) {
    let api::Started { workflow_id, run_id, is_duplicate } = started;
    let status = if is_duplicate { StatusCode::OK } else { StatusCode::CREATED };
    (status, Json(Started { workflow_id, run_id, started: !is_duplicate, standing, update }))
}

/// Starts a run with an update; who waits does so for the update.
async fn start_with_update(
    served: &Served,
    request: StartRequest,
    wait_for: UpdateStage,
    wait: Duration,
) -> Answer<(StatusCode, Json<Started>)> {
    let host = &served.host;
    let (started, update) = host.start_with_update(request).await?;
    let progress = super::update::progress(served, &update, wait_for, wait).await?;
    Ok(answer(started, None, Some(progress.into())))
}

/// The run is on disk whatever came of the waiting: the start is acknowledged in any case.
fn standing_of(started: &api::Started, result: Result<RunResult, ApiError>) -> Standing {
    match result {
        Ok(result) => Standing::new(result.status, result.outcome),
        Err(error) => {
            tracing::warn!(workflow_id = %started.workflow_id, %error, "a started run could not be waited for");
            Standing::new(RunStatus::Running, None)
        }
    }
}

fn start_request(namespace: Namespace, body: StartBody) -> Answer<StartRequest> {
    check_id("workflow_type", Some(&body.workflow_type))?;
    check_id("workflow_id", body.workflow_id.as_deref())?;
    check_id("request_id", body.request_id.as_deref())?;
    let signal = body.signal.map(start_signal).transpose()?;
    let update = body.update.map(start_update).transpose()?;
    let unless_told = match (&signal, &update) {
        (Some(_), _) | (None, Some(_)) => IdConflictPolicy::UseExisting,
        (None, None) => IdConflictPolicy::Fail,
    };
    Ok(StartRequest {
        namespace,
        workflow_type: body.workflow_type,
        workflow_id: body.workflow_id.map(WorkflowId),
        input: payload(&body.input)?,
        headers: with_traceparent(headers(&body.headers)?),
        request_id: body.request_id,
        digest: body.digest,
        id_reuse: body.id_reuse_policy.unwrap_or_default(),
        id_conflict: body.id_conflict_policy.unwrap_or(unless_told),
        signal,
        terms: Terms {
            execution_timeout_ms: body.execution_timeout_ms,
            run_timeout_ms: body.run_timeout_ms,
            retry_policy: body.retry_policy,
            start_delay_ms: body.start_delay_ms,
        },
        details: details(&body.search_attributes, &body.memo)?,
        update,
    })
}

fn start_update(update: StartUpdate) -> Answer<api::StartUpdate> {
    let StartUpdate { name, input, headers: beside, update_id, wait_for: _ } = update;
    check_id("update.name", Some(&name))?;
    check_id("update.update_id", update_id.as_deref())?;
    Ok(api::StartUpdate { name, input: payload(&input)?, headers: headers(&beside)?, update_id })
}

fn start_signal(signal: StartSignal) -> Answer<SignalReceived> {
    let StartSignal { name, input, headers: beside } = signal;
    check_id("signal.name", Some(&name))?;
    Ok(SignalReceived { name, input: payload(&input)?, headers: headers(&beside)? })
}
