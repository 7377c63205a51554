//! The description of the HTTP interface, as OpenAPI 3.1.
//!
//! Each handler says what it takes and gives, by `#[utoipa::path]` beside it; its refusals are a type of
//! [`refusals`]; the core's types, which know nothing of OpenAPI, have their [`shapes`] here. [`document`]
//! puts all together with what an application says of its own routes. Nothing here decides anything
//! about a request.

pub(super) mod refusals;
pub(super) mod shapes;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Info, ObjectBuilder, OpenApi as Document, PathItem, RefOr, ResponseBuilder,
    Type,
};
use utoipa::{OpenApi as _, PartialSchema as _, ToSchema as _};

use super::access::OPEN_PATHS;
use super::{activities, check, components, schedules, types, workflows};

/// Where the document is served.
pub(super) const PATH: &str = "/api/v1/openapi.json";
/// The name of the token's scheme in the document.
const TOKEN: &str = "token";
/// The member of a response, and of the problem's schema, that lists codes.
pub(super) const CODES: &str = "x-codes";

#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        super::healthz,
        super::readyz,
        workflows::start::start,
        workflows::list::list,
        workflows::look::describe,
        workflows::look::history,
        workflows::look::result,
        workflows::look::export,
        workflows::talk::signal,
        workflows::talk::query,
        workflows::update::update,
        workflows::update::outcome,
        workflows::talk::cancel,
        workflows::talk::terminate,
        workflows::reset::reset,
        workflows::activities::pause,
        workflows::activities::resume,
        workflows::activities::reset,
        activities::poll,
        activities::complete,
        activities::fail,
        activities::heartbeat,
        activities::cancel,
        schedules::create,
        schedules::list,
        schedules::describe,
        schedules::update,
        schedules::delete,
        schedules::pause,
        schedules::unpause,
        schedules::trigger,
        schedules::backfill,
        components::deploy,
        components::list,
        check::check,
        check::check_deployed,
        types::list,
        types::versions,
        types::route,
        types::promote,
        types::roll_back,
        types::upgrade,
        types::retire,
    ),
    tags(
        (name = "workflows", description = "Runs of workflows: start them, look at them, talk to them."),
        (name = "activities", description = "Attempts that workers outside the host make, and what operators do to open activities."),
        (name = "schedules", description = "Runs that are started again and again."),
        (name = "components", description = "The code that runs are folded with."),
        (name = "workflow types", description = "Which code new runs start on, and open runs go on with."),
        (name = "operations", description = "The host itself."),
    )
)]
struct Own;

/// The whole document: the server's own routes, and those that `applications` describe.
pub(super) fn document(applications: impl IntoIterator<Item = Document>) -> Document {
    let mut document = Own::openapi();
    document.info = Info::new("Everfold", env!("CARGO_PKG_VERSION"));
    document.info.description = Some(
        "A durable workflow host. Times are RFC 3339, names snake_case, payloads the JSON value itself. Every \
         refusal is a problem (RFC 9457) with a stable `code`; each response lists its codes in `x-codes`. Where \
         the host has a token, every path but the two probes needs it."
            .to_owned(),
    );
    document.info.license = None;
    document.paths.add_path_operation(PATH, vec![HttpMethod::Get], itself());
    document.paths.add_path_operation("/metrics", vec![HttpMethod::Get], metrics());
    for application in applications {
        document.merge(application);
    }
    for (path, item) in &mut document.paths.paths {
        for operation in writes(item) {
            refusals::add_to_write(operation);
        }
        for operation in operations(item) {
            refusals::add_shape(operation);
            refusals::add_common(operation);
            if OPEN_PATHS.contains(&path.as_str()) {
                operation.security = Some(Vec::new());
                operation.responses.responses.remove("401");
            }
            if path == "/healthz" {
                // It is answered whatever else is refused.
                operation.responses.responses.remove("503");
            }
            if let Some(RefOr::T(body)) = operation.request_body.as_mut()
                && body.description.as_deref() == Some(workflows::talk::OPTIONAL)
            {
                body.required = None;
            }
        }
    }
    let codes = codes(&mut document);
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.insert(shapes::Problem::name().into_owned(), shapes::Problem::schema());
    if let Some(RefOr::T(utoipa::openapi::Schema::Object(problem))) =
        components.schemas.get_mut(shapes::Problem::name().as_ref())
    {
        problem.extensions = Some(Extensions::from_iter([(CODES, codes)]));
    }
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme(TOKEN, scheme);
    // The empty requirement: a host on loopback may have no token.
    let token = SecurityRequirement::new(TOKEN, [""; 0]);
    document.security = Some(vec![SecurityRequirement::default(), token]);
    document
}

/// The same as JSON.
pub(super) fn text(applications: impl IntoIterator<Item = Document>) -> Arc<str> {
    // A document made of strings and maps with string keys can always be written.
    document(applications).to_json().unwrap_or_default().into()
}

/// The route of the document.
pub(super) fn routes(document: Arc<str>) -> Router {
    Router::new().route(PATH, get(async move || answer(&document)))
}

fn answer(text: &str) -> Response {
    let mut response = text.to_owned().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn itself() -> Operation {
    let any_object =
        ContentBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::Object))).build();
    OperationBuilder::new()
        .operation_id(Some("openapi"))
        .tag("operations")
        .summary(Some("This document"))
        .response(
            "200",
            ResponseBuilder::new()
                .description("The description of the interface")
                .content("application/json", any_object),
        )
        .build()
}

fn metrics() -> Operation {
    let text = ContentBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).build();
    OperationBuilder::new()
        .operation_id(Some("metrics"))
        .tag("operations")
        .summary(Some("What the host measures, in Prometheus's text format"))
        .response("200", ResponseBuilder::new().description("The measurements").content("text/plain", text))
        .build()
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().filter_map(Option::as_mut)
}

/// Those of them that change something.
fn writes(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { put, post, delete, patch, .. } = item;
    [put, post, delete, patch].into_iter().filter_map(Option::as_mut)
}

/// All codes that a request may be refused with, sorted.
fn codes(document: &mut Document) -> Value {
    let mut all: BTreeSet<String> = refusals::OF_NO_OPERATION.iter().map(|code| code.0.to_owned()).collect();
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        for response in operation.responses.responses.values() {
            let RefOr::T(response) = response else { continue };
            let listed = response.extensions.as_ref().and_then(|members| members.get(CODES));
            let listed = listed.and_then(Value::as_array).into_iter().flatten();
            all.extend(listed.filter_map(Value::as_str).map(str::to_owned));
        }
    }
    json!(all)
}

#[cfg(test)]
mod tests;
