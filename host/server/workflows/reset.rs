//! Resetting a run.

use axum::extract::State;

use super::{RunQuery, check_id};
use crate::runner::api::ResetRequest;
use crate::server::Served;
use crate::server::extract::{Json, Path, Query};
use crate::server::openapi::refusals;
use crate::server::problem::Answer;
use crate::server::wire::{ResetResult, ResetRunBody};

/// Reset a run, open or closed, to an earlier event
///
/// A new run goes on from there under the same workflow id; it is on disk when this is answered, and a run that was open is
/// closed. Signals and updates that came later are delivered again. What the run did later is not undone, and done again if
/// its code asks for it: `repeats` lists that.
#[utoipa::path(
    post,
    path = "/api/v1/workflows/{workflow_id}/reset",
    operation_id = "reset_workflow",
    tag = "workflows",
    params(("workflow_id" = String, Path, description = "The workflow id"), RunQuery),
    request_body = ResetRunBody,
    responses((status = 200, description = "The new run is there", body = ResetResult), refusals::Reset)
)]
pub(in crate::server) async fn reset(
    State(Served { host, .. }): State<Served>,
    Path(workflow_id): Path<String>,
    Query(query): Query<RunQuery>,
    Json(body): Json<ResetRunBody>,
) -> Answer<Json<ResetResult>> {
    check_id("request_id", body.request_id.as_deref())?;
    let ResetRunBody { to, reason, digest, request_id, dry_run } = body;
    let run = query.run(workflow_id);
    let done = host.reset(ResetRequest { run, to, reason, digest, request_id, dry_run }).await?;
    Ok(Json(done.into()))
}
