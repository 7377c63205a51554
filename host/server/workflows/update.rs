//! Updates of one run: sending one, and asking what became of it.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use everfold_core::ids::RunId;
use everfold_core::machine::update::UpdateStage;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{NamespaceParameter, RunQuery, check_id, headers, payload};
use crate::runner::api::{AdmittedUpdate, UpdateProgress, UpdateRequest};
use crate::server::Served;
use crate::server::extract::{Json, JsonOrNothing, Path, Query, Wait};
use crate::server::openapi::{refusals, shapes};
use crate::server::problem::Answer;
use crate::server::wire::{UpdateBody, UpdateResult};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::server) struct UpdateQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// A particular run; without it the open one, else the latest
    #[param(value_type = Option<String>, format = "uuid")]
    run_id: Option<RunId>,
    /// How long to wait for the stage, as `30s`, `500ms` or `2m`; at most a minute
    #[serde(default)]
    #[param(value_type = Option<String>, example = "30s")]
    wait: Wait,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::server) struct OutcomeQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// A particular run; without it the open one, else the latest
    #[param(value_type = Option<String>, format = "uuid")]
    run_id: Option<RunId>,
    /// The stage to wait for; `completed` if absent
    #[param(value_type = Option<shapes::UpdateStage>)]
    wait_for: Option<UpdateStage>,
    /// How long to wait for it, as `30s`, `500ms` or `2m`; at most a minute
    #[serde(default)]
    #[param(value_type = Option<String>, example = "30s")]
    wait: Wait,
}

/// Send an update to an open run
///
/// The run's code is asked first whether it takes the update; one that it refuses leaves no trace. One that it takes is
/// on disk when this is answered. The same `update_id` for the same run is the same update, also when it is completed.
#[utoipa::path(
    post,
    path = "/api/v1/workflows/{workflow_id}/updates/{update}",
    operation_id = "update_workflow",
    tag = "workflows",
    params(
        ("workflow_id" = String, Path, description = "The workflow id"),
        ("update" = String, Path, description = "Which update"),
        UpdateQuery,
    ),
    request_body(content = UpdateBody, description = super::talk::OPTIONAL),
    responses(
        (status = 200, description = "It has reached the stage", body = UpdateResult),
        (status = 202, description = "It is on disk, and has not reached the stage", body = UpdateResult),
        refusals::Update,
    )
)]
pub(in crate::server) async fn update(
    State(served): State<Served>,
    Path((workflow_id, name)): Path<(String, String)>,
    Query(query): Query<UpdateQuery>,
    JsonOrNothing(body): JsonOrNothing<UpdateBody>,
) -> Answer<(StatusCode, Json<UpdateResult>)> {
    check_id("the update's name", Some(&name))?;
    check_id("update_id", body.update_id.as_deref())?;
    let request = UpdateRequest {
        run: RunQuery { namespace: query.namespace, run_id: query.run_id }.run(workflow_id),
        name,
        input: payload(&body.input)?,
        headers: headers(&body.headers)?,
        update_id: body.update_id,
    };
    let wait_for = body.wait_for.unwrap_or(UpdateStage::Completed);
    let update = served.host.update(request).await?;
    Ok(answer(progress(&served, &update, wait_for, query.wait.0).await?, wait_for))
}

/// How far an update is that is on disk; who finds no room to wait is told how it stands.
pub(super) async fn progress(
    served: &Served,
    update: &AdmittedUpdate,
    wait_for: UpdateStage,
    wait: Duration,
) -> Answer<UpdateProgress> {
    let host = &served.host;
    let waited = served.waiting(wait, |wait| host.update_progress(update, wait_for, wait)).await;
    match waited {
        Err(problem) if problem.is_busy() => {
            Ok(host.update_progress(update, wait_for, Duration::ZERO).await?)
        }
        waited => waited,
    }
}

/// Ask what became of an update
///
/// With `wait` it is a long poll. An update that was refused is not known.
#[utoipa::path(
    get,
    path = "/api/v1/workflows/{workflow_id}/updates/{update}",
    operation_id = "update_outcome",
    tag = "workflows",
    params(
        ("workflow_id" = String, Path, description = "The workflow id"),
        ("update" = String, Path, description = "The update's id"),
        OutcomeQuery,
    ),
    responses(
        (status = 200, description = "It has reached the stage", body = UpdateResult),
        (status = 202, description = "It has not reached the stage", body = UpdateResult),
        refusals::UpdateOutcome,
    )
)]
pub(in crate::server) async fn outcome(
    State(served): State<Served>,
    Path((workflow_id, update_id)): Path<(String, String)>,
    Query(query): Query<OutcomeQuery>,
) -> Answer<(StatusCode, Json<UpdateResult>)> {
    check_id("the update's id", Some(&update_id))?;
    let run = RunQuery { namespace: query.namespace, run_id: query.run_id }.run(workflow_id);
    let wait_for = query.wait_for.unwrap_or(UpdateStage::Completed);
    let (host, update_id) = (&served.host, update_id.as_str());
    let find = |wait| host.find_update(&run, update_id, wait_for, wait);
    Ok(answer(served.waiting(query.wait.0, find).await?, wait_for))
}

fn answer(progress: UpdateProgress, wait_for: UpdateStage) -> (StatusCode, Json<UpdateResult>) {
    let status = if progress.stage >= wait_for { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, Json(progress.into()))
}
