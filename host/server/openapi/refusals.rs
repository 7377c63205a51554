//! What operations may be refused with: a type for each kind of operation, to stand among the responses
//! of its `#[utoipa::path]`.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::json;
use utoipa::IntoResponses;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};

use super::CODES;
use crate::server::problem::Code;

/// A status, and the codes that come with it.
type Refusal = (u16, &'static [Code]);

/// Every request may be refused with these: by the rules of access, by a fault of the host, or because the
/// server has all the connections that it may have.
const COMMON: [Refusal; 4] = [
    (401, &[Code::UNAUTHORIZED]),
    (403, &[Code::FORBIDDEN_HOST, Code::FORBIDDEN_ORIGIN]),
    (500, &[Code::INTERNAL]),
    (503, &[Code::BUSY]),
];
/// The content type of every refusal.
const PROBLEM_JSON: &str = "application/problem+json";
/// Codes of requests that meet no operation.
pub(super) const OF_NO_OPERATION: [Code; 2] = [Code::NOT_FOUND, Code::METHOD_NOT_ALLOWED];

/// Types that stand for lists of refusals.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: [$($code:ident),+]),+ $(,)? })+) => {$(
        $(#[$doc])*
        pub(in crate::server) enum $name {}

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[$(($status, &[$(Code::$code),+])),+])
            }
        }
    )+};
}

refusals! {
    /// Of a question about the host itself.
    Ready { 503: [BUSY] }
    /// Of a question about all of something.
    All { 400: [INVALID_INPUT], 503: [BUSY] }
    /// Of a question about one run.
    Look { 400: [INVALID_INPUT], 404: [NOT_FOUND], 503: [BUSY] }
    /// Of a start.
    Start {
        400: [INVALID_INPUT],
        404: [NOT_FOUND, UNKNOWN_UPDATE],
        409: [ALREADY_STARTED, VERSION_CONFLICT],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT, LIMIT_EXCEEDED, UNKNOWN_VERSION, UNKNOWN_WORKFLOW_TYPE, UPDATE_REJECTED],
        503: [BUSY],
    }
    /// Of a signal.
    Signal {
        400: [INVALID_INPUT],
        404: [NOT_FOUND],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT, LIMIT_EXCEEDED],
        503: [BUSY],
    }
    /// Of an update.
    Update {
        400: [INVALID_INPUT],
        404: [NOT_FOUND, UNKNOWN_UPDATE],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT, LIMIT_EXCEEDED, UPDATE_REJECTED],
        503: [BUSY],
    }
    /// Of a question about an update.
    UpdateOutcome {
        400: [INVALID_INPUT],
        404: [NOT_FOUND, UNKNOWN_UPDATE],
        422: [INVALID_INPUT, UPDATE_REJECTED],
        503: [BUSY],
    }
    /// Of a query.
    Ask {
        400: [INVALID_INPUT],
        404: [NOT_FOUND, UNKNOWN_QUERY],
        409: [BLOCKED],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT, QUERY_FAILED],
        503: [BUSY],
    }
    /// Of a request to stop.
    Stop {
        400: [INVALID_INPUT],
        404: [NOT_FOUND],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT],
        503: [BUSY],
    }
    /// Of a reset.
    Reset {
        400: [INVALID_INPUT],
        404: [NOT_FOUND],
        409: [ALREADY_STARTED, CONFLICT, VERSION_CONFLICT],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT, UNKNOWN_VERSION],
        503: [BUSY],
    }
    /// Of a poll for an attempt.
    Poll {
        400: [INVALID_INPUT],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT],
        503: [BUSY],
    }
    /// Of a report about an attempt.
    Report {
        400: [INVALID_INPUT],
        404: [NOT_FOUND],
        409: [ATTEMPT_OVER],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT, LIMIT_EXCEEDED],
        503: [BUSY],
    }
    /// Of the report that an attempt stopped on request.
    ReportStop {
        400: [INVALID_INPUT],
        404: [NOT_FOUND],
        409: [ATTEMPT_OVER, CANCEL_NOT_REQUESTED],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT, LIMIT_EXCEEDED],
        503: [BUSY],
    }
    /// Of what an operator wants of an activity.
    Operate { 400: [INVALID_INPUT], 404: [NOT_FOUND], 409: [ACTIVITY_CLOSED], 503: [BUSY] }
    /// The same, with a body.
    OperateWithBody {
        400: [INVALID_INPUT],
        404: [NOT_FOUND],
        409: [ACTIVITY_CLOSED],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT],
        503: [BUSY],
    }
    /// Of a new schedule.
    CreateSchedule {
        400: [INVALID_INPUT],
        409: [ALREADY_EXISTS],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT],
        503: [BUSY],
    }
    /// Of a change of a schedule.
    ChangeSchedule {
        400: [INVALID_INPUT],
        404: [NOT_FOUND],
        409: [CONFLICT],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT],
        503: [BUSY],
    }
    /// Of an order to a schedule.
    OrderSchedule {
        400: [INVALID_INPUT],
        404: [NOT_FOUND],
        409: [CONFLICT],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT, LIMIT_EXCEEDED],
        503: [BUSY],
    }
    /// Of a deployment.
    Deploy {
        400: [INVALID_INPUT],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_COMPONENT],
        503: [BUSY],
    }
    /// Of a check of bytes.
    Check {
        400: [INVALID_INPUT],
        404: [NOT_FOUND],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_COMPONENT, INVALID_INPUT],
        503: [BUSY],
    }
    /// Of a check of what is deployed.
    CheckDeployed { 400: [INVALID_INPUT], 404: [NOT_FOUND, UNKNOWN_VERSION], 422: [INVALID_INPUT], 503: [BUSY] }
    /// Of a question about one workflow type.
    LookAtType { 400: [INVALID_INPUT], 404: [NOT_FOUND, UNKNOWN_WORKFLOW_TYPE], 503: [BUSY] }
    /// Of a change of a route.
    Route {
        400: [INVALID_INPUT],
        404: [NOT_FOUND, UNKNOWN_WORKFLOW_TYPE],
        409: [VERSION_CONFLICT],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT, UNKNOWN_VERSION],
        503: [BUSY],
    }
    /// Of a rollback.
    RollBack {
        400: [INVALID_INPUT],
        404: [NOT_FOUND, UNKNOWN_WORKFLOW_TYPE],
        409: [VERSION_CONFLICT],
        422: [UNKNOWN_VERSION],
        503: [BUSY],
    }
    /// Of a move of open runs.
    Upgrade {
        400: [INVALID_INPUT],
        404: [NOT_FOUND, UNKNOWN_WORKFLOW_TYPE],
        409: [INCOMPATIBLE, VERSION_CONFLICT],
        413: [PAYLOAD_TOO_LARGE],
        415: [UNSUPPORTED_MEDIA_TYPE],
        422: [INVALID_INPUT, UNKNOWN_VERSION],
        503: [BUSY],
    }
    /// Of a retirement.
    Retire {
        400: [INVALID_INPUT],
        404: [NOT_FOUND, UNKNOWN_VERSION, UNKNOWN_WORKFLOW_TYPE],
        409: [VERSION_CONFLICT],
        503: [BUSY],
    }
}

/// Adds what every request may be refused with, where the operation does not say more.
pub(super) fn add_common(operation: &mut Operation) {
    for (status, response) in responses(&COMMON) {
        operation.responses.responses.entry(status).or_insert(response);
    }
}

/// Adds what every write may be refused with: a content type that a web form can send.
pub(super) fn add_to_write(operation: &mut Operation) {
    for (status, response) in responses(&[(415, &[Code::UNSUPPORTED_MEDIA_TYPE])]) {
        operation.responses.responses.entry(status).or_insert(response);
    }
}

/// Gives each refusal that an application describes the shape that all have.
pub(super) fn add_shape(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        if let Some(RefOr::T(content)) = response.content.get_mut(PROBLEM_JSON)
            && content.schema.is_none()
        {
            content.schema = Some(Ref::from_schema_name("Problem").into());
        }
    }
}

fn responses(refusals: &[Refusal]) -> BTreeMap<String, RefOr<Response>> {
    refusals.iter().map(|(status, codes)| (status.to_string(), response(*status, codes).into())).collect()
}

fn response(status: u16, codes: &[Code]) -> Response {
    let names: Vec<&str> = codes.iter().map(|code| code.0).collect();
    let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let listed: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let mut response = ResponseBuilder::new()
        .description(format!("{}: {}", title.unwrap_or("Refused"), listed.join(", ")))
        .content(PROBLEM_JSON, problem)
        .extensions(Some(Extensions::from_iter([(CODES, json!(names))])));
    if codes.contains(&Code::BUSY) {
        let seconds = HeaderBuilder::new().description(Some("Seconds after which to try again"));
        response = response.header("Retry-After", seconds.build());
    }
    response.build()
}
