//! The routes of components: deploy, list. What one would do to runs is in `check`.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;

use super::extract::{Json, Query};
use super::openapi::{refusals, shapes};
use super::problem::{Answer, Code, Problem};
use super::wire::{Component, Components, Deployed};
use super::workflows::NamespaceQuery;
use super::{Served, check};

/// Content types of wasm bytes.
const WASM_CONTENT_TYPES: [&str; 2] = ["application/wasm", "application/octet-stream"];

pub(super) fn routes(component_bytes: usize) -> Router<Served> {
    Router::new()
        .route("/api/v1/components", post(deploy).get(list))
        .route("/api/v1/components/check", post(check::check))
        .route("/api/v1/components/{digest}/check", post(check::check_deployed))
        .layer(DefaultBodyLimit::max(component_bytes))
}

/// Deploy a component
///
/// A workflow type's first component becomes the one that its new runs start on; a later one stands
/// beside it until it is routed.
#[utoipa::path(
    post,
    path = "/api/v1/components",
    operation_id = "deploy_component",
    tag = "components",
    params(NamespaceQuery),
    request_body(
        description = "The bytes of a .wasm file",
        content((shapes::Bytes = "application/octet-stream"), (shapes::Bytes = "application/wasm"))
    ),
    responses(
        (status = 200, description = "The same bytes were deployed before", body = Deployed),
        (status = 201, description = "It is deployed", body = Deployed),
        refusals::Deploy,
    )
)]
pub(super) async fn deploy(
    State(Served { host, .. }): State<Served>,
    Query(query): Query<NamespaceQuery>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<(StatusCode, Json<Deployed>)> {
    let bytes = wasm(&headers, body)?;
    let deployed = host.deploy(&query.namespace.0, bytes).await?;
    let status = if deployed.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(deployed.into())))
}

/// The bytes of a component in a body.
pub(super) fn wasm(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Answer<Vec<u8>> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !WASM_CONTENT_TYPES.contains(&content_type) {
        let detail =
            "a component is sent as the bytes of its .wasm file with `Content-Type: application/wasm`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let bytes = body.map_err(unread)?;
    if bytes.is_empty() {
        return Err(invalid("the body is empty; send the bytes of a .wasm file"));
    }
    Ok(bytes.into())
}

fn unread(rejection: BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return invalid("the component is larger than limits.component_bytes allows");
    }
    Problem::new(rejection.status(), Code::INVALID_INPUT, rejection.body_text())
}

fn invalid(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, Code::INVALID_COMPONENT, detail)
}

/// List the components, oldest first
#[utoipa::path(
    get,
    path = "/api/v1/components",
    operation_id = "list_components",
    tag = "components",
    params(NamespaceQuery),
    responses((status = 200, description = "All components", body = Components), refusals::All)
)]
pub(super) async fn list(
    State(Served { host, .. }): State<Served>,
    Query(query): Query<NamespaceQuery>,
) -> Answer<Json<Components>> {
    let rows = host.components(&query.namespace.0).await?;
    let routes = host.workflow_types(&query.namespace.0).await?;
    Ok(Json(Components { components: rows.into_iter().map(|row| Component::new(row, &routes)).collect() }))
}
