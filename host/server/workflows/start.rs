//! Starting runs.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use everfold_core::ids::{Namespace, WorkflowId};
use everfold_core::machine::RunStatus;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{NamespaceParameter, check_id, headers, payload};
use crate::runner::api::{RunRef, StartRequest};
use crate::server::Served;
use crate::server::extract::{Json, Query, Wait};
use crate::server::openapi::refusals;
use crate::server::problem::Answer;
use crate::server::wire::{Standing, StartBody, Started};
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
    responses((status = 201, description = "It was started, now or before", body = Started), refusals::Start)
)]
pub(in crate::server) async fn start(
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
        Err(problem) => {
            let problem = problem.to_value();
            tracing::debug!(workflow_id = %run.workflow_id, %problem, "a started run could not be waited for");
            Standing::new(RunStatus::Running, None)
        }
    }
}

fn start_request(namespace: Namespace, body: StartBody) -> Answer<StartRequest> {
    check_id("workflow_type", Some(&body.workflow_type))?;
    check_id("workflow_id", body.workflow_id.as_deref())?;
    check_id("request_id", body.request_id.as_deref())?;
    Ok(StartRequest {
        namespace,
        workflow_type: body.workflow_type,
        workflow_id: body.workflow_id.map(WorkflowId),
        input: payload(&body.input)?,
        headers: with_traceparent(headers(&body.headers)?),
        request_id: body.request_id,
        digest: body.digest,
    })
}
