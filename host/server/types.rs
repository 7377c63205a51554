//! The routes of workflow types: where their new runs go, their versions, moves of their open runs.
//!
//! These writes need no `request_id`: saying the same again changes nothing, or is a conflict.

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post, put};
use everfold_core::ids::{Digest, Namespace, WorkflowId};

use super::extract::{Json, JsonOrNothing, Path, Query};
use super::openapi::{refusals, shapes};
use super::problem::Answer;
use super::progress::{self, Wanted};
use super::wire::{
    PromoteBody, Routed, RoutingBody, TypeVersions, UpgradeBody, UpgradeReport, WorkflowTypes,
};
use super::workflows::NamespaceQuery;
use super::workflows::talk::OPTIONAL;
use super::{Served, in_path};
use crate::runner::Host;
use crate::runner::api::{RoutingChange, RoutingRequest, TypeRouting, UpgradeRequest, WhoMoves};

/// Bytes of a body: room for thousands of workflow ids.
pub(super) const BODY_BYTES: usize = 1024 * 1024;

pub(super) fn routes() -> Router<Served> {
    Router::new()
        .route("/api/v1/workflow-types", get(list))
        .route("/api/v1/workflow-types/{workflow_type}", get(versions))
        .route("/api/v1/workflow-types/{workflow_type}/routing", put(route))
        .route("/api/v1/workflow-types/{workflow_type}/promote", post(promote))
        .route("/api/v1/workflow-types/{workflow_type}/rollback", post(roll_back))
        .route("/api/v1/workflow-types/{workflow_type}/upgrade", post(upgrade))
        .route("/api/v1/workflow-types/{workflow_type}/versions/{digest}/retire", post(retire))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
}

/// List the workflow types and where their new runs go
#[utoipa::path(
    get,
    path = "/api/v1/workflow-types",
    operation_id = "list_workflow_types",
    tag = "workflow types",
    params(NamespaceQuery),
    responses((status = 200, description = "All types, by name", body = WorkflowTypes), refusals::All)
)]
pub(super) async fn list(
    State(Served { host, .. }): State<Served>,
    Query(query): Query<NamespaceQuery>,
) -> Answer<Json<WorkflowTypes>> {
    let types = host.workflow_types(&query.namespace.0).await?;
    Ok(Json(WorkflowTypes { workflow_types: types.into_iter().map(Into::into).collect() }))
}

/// Describe a workflow type and its versions
#[utoipa::path(
    get,
    path = "/api/v1/workflow-types/{workflow_type}",
    operation_id = "describe_workflow_type",
    tag = "workflow types",
    params(("workflow_type" = String, Path, description = "The type"), NamespaceQuery),
    responses(
        (status = 200, description = "Its versions, and the runs on each", body = TypeVersions),
        refusals::LookAtType,
    )
)]
pub(super) async fn versions(
    State(Served { host, .. }): State<Served>,
    Path(workflow_type): Path<String>,
    Query(query): Query<NamespaceQuery>,
) -> Answer<Json<TypeVersions>> {
    Ok(Json(host.versions(&query.namespace.0, &workflow_type).await.map_err(in_path)?.into()))
}

/// Route new runs of a workflow type
///
/// The version becomes current, or with `ramp_percent` the candidate that a share of new runs starts on. Runs
/// under way stay where they are; blocked ones are tried again. Where the route leads there already, nothing
/// changes.
#[utoipa::path(
    put,
    path = "/api/v1/workflow-types/{workflow_type}/routing",
    operation_id = "route_workflow_type",
    tag = "workflow types",
    params(("workflow_type" = String, Path, description = "The type"), NamespaceQuery),
    request_body = RoutingBody,
    responses((status = 200, description = "The route now", body = Routed), refusals::Route)
)]
pub(super) async fn route(
    State(Served { host, .. }): State<Served>,
    Path(workflow_type): Path<String>,
    Query(query): Query<NamespaceQuery>,
    Json(body): Json<RoutingBody>,
) -> Answer<Json<Routed>> {
    let namespace = query.namespace.0;
    let before = host.routing(&namespace, &workflow_type).await.map_err(in_path)?;
    if leads_there(&before, body) {
        return Ok(Json(Routed { routing: before.into(), blocked_runs: 0 }));
    }
    let change = match body.ramp_percent {
        None => RoutingChange::Promote(Some(body.digest)),
        Some(ramp) => RoutingChange::Ramp(Some(body.digest), ramp),
    };
    changed(&host, namespace, workflow_type, change).await
}

/// Promote a version: new runs of the type start on it
///
/// Runs under way stay where they are; blocked ones are tried again.
#[utoipa::path(
    post,
    path = "/api/v1/workflow-types/{workflow_type}/promote",
    operation_id = "promote_version",
    tag = "workflow types",
    params(("workflow_type" = String, Path, description = "The type"), NamespaceQuery),
    request_body(content = PromoteBody, description = OPTIONAL),
    responses((status = 200, description = "The route now", body = Routed), refusals::Route)
)]
pub(super) async fn promote(
    State(Served { host, .. }): State<Served>,
    Path(workflow_type): Path<String>,
    Query(query): Query<NamespaceQuery>,
    JsonOrNothing(body): JsonOrNothing<PromoteBody>,
) -> Answer<Json<Routed>> {
    let namespace = query.namespace.0;
    host.routing(&namespace, &workflow_type).await.map_err(in_path)?;
    changed(&host, namespace, workflow_type, RoutingChange::Promote(body.digest)).await
}

/// Roll back: withdraw the candidate, else go back to the version before the last promotion
///
/// Runs under way stay where they are; blocked ones are tried again.
#[utoipa::path(
    post,
    path = "/api/v1/workflow-types/{workflow_type}/rollback",
    operation_id = "roll_back_version",
    tag = "workflow types",
    params(("workflow_type" = String, Path, description = "The type"), NamespaceQuery),
    responses((status = 200, description = "The route now", body = Routed), refusals::RollBack)
)]
pub(super) async fn roll_back(
    State(Served { host, .. }): State<Served>,
    Path(workflow_type): Path<String>,
    Query(query): Query<NamespaceQuery>,
) -> Answer<Json<Routed>> {
    let namespace = query.namespace.0;
    host.routing(&namespace, &workflow_type).await.map_err(in_path)?;
    changed(&host, namespace, workflow_type, RoutingChange::RollBack).await
}

/// Move open runs of a workflow type to one of its versions
///
/// Each is replayed there first, at the moment of its move, and moves only if that holds. Without
/// `only_compatible` nothing is moved unless all can.
#[utoipa::path(
    post,
    path = "/api/v1/workflow-types/{workflow_type}/upgrade",
    operation_id = "upgrade_workflows",
    tag = "workflow types",
    params(("workflow_type" = String, Path, description = "The type"), NamespaceQuery),
    request_body = UpgradeBody,
    responses(
        (
            status = 200,
            description = "What became of them; in lines with `Accept: application/x-ndjson`",
            content((UpgradeReport = "application/json"), (shapes::Lines = "application/x-ndjson"))
        ),
        refusals::Upgrade,
    )
)]
pub(super) async fn upgrade(
    State(Served { host, .. }): State<Served>,
    Path(workflow_type): Path<String>,
    Query(query): Query<NamespaceQuery>,
    headers: HeaderMap,
    Json(body): Json<UpgradeBody>,
) -> Answer<Response> {
    let namespace = query.namespace.0;
    host.routing(&namespace, &workflow_type).await.map_err(in_path)?;
    let request = UpgradeRequest {
        namespace,
        workflow_type,
        digest: body.digest,
        workflow_ids: body.workflow_ids.into_iter().map(WorkflowId).collect(),
        who_moves: if body.only_compatible { WhoMoves::Compatible } else { WhoMoves::AllOrNone },
    };
    let work = |progress| async move { Ok(host.upgrade(request, &progress).await?) };
    progress::answer(Wanted::by(&headers), work).await
}

/// Retire a version: no run starts on it any more
///
/// Its bytes stay, for the histories that were recorded on it. It comes back when it is deployed again.
#[utoipa::path(
    post,
    path = "/api/v1/workflow-types/{workflow_type}/versions/{digest}/retire",
    operation_id = "retire_version",
    tag = "workflow types",
    params(
        ("workflow_type" = String, Path, description = "The type"),
        ("digest" = String, Path, description = "The version", pattern = "^[0-9a-f]{64}$"),
        NamespaceQuery,
    ),
    responses((status = 204, description = "It is retired, now or before"), refusals::Retire)
)]
pub(super) async fn retire(
    State(Served { host, .. }): State<Served>,
    Path((workflow_type, digest)): Path<(String, Digest)>,
    Query(query): Query<NamespaceQuery>,
) -> Answer<StatusCode> {
    let namespace = query.namespace.0;
    host.routing(&namespace, &workflow_type).await.map_err(in_path)?;
    host.retire(&namespace, &workflow_type, digest).await.map_err(in_path)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the route is already such as it is to be.
fn leads_there(routing: &TypeRouting, wanted: RoutingBody) -> bool {
    match (wanted.ramp_percent, routing.route.candidate) {
        (None, _) => routing.route.current == wanted.digest,
        (Some(ramp), Some(candidate)) => candidate.digest == wanted.digest && candidate.ramp == ramp,
        (Some(_), None) => false,
    }
}

async fn changed(
    host: &Host,
    namespace: Namespace,
    workflow_type: String,
    change: RoutingChange,
) -> Answer<Json<Routed>> {
    let routed = host.route(RoutingRequest { namespace, workflow_type, change }).await?;
    Ok(Json(routed.into()))
}
