//! What the order application and the sandbox refuse, beside what every route may answer.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

pub(super) use crate::problem::{Code, Problem};

use super::steps::StepError;
use crate::runner::api::ApiError;

/// One fault of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldError {
    /// Where, as `items[0].quantity`; empty for the body as a whole.
    pub(super) field: String,
    /// What is wrong, for people.
    pub(super) message: String,
}

/// The `request_id` names another order.
pub(super) const REQUEST_ID_REUSED: Code = Code("request_id_reused");
/// A change needs `If-Match`.
pub(super) const PRECONDITION_REQUIRED: Code = Code("precondition_required");
/// Somebody else changed the order meanwhile.
pub(super) const PRECONDITION_FAILED: Code = Code("precondition_failed");
/// The carrier has the order, or is being asked to take it.
pub(super) const ALREADY_SHIPPED: Code = Code("already_shipped");
/// The carrier does not have the order yet.
pub(super) const NOT_SHIPPED: Code = Code("not_shipped");
/// The order failed or was canceled.
pub(super) const ORDER_CLOSED: Code = Code("order_closed");

/// Every code that a route of the application answers with.
pub(super) const CODES: [Code; 13] = [
    Code::NOT_FOUND,
    Code::INVALID_INPUT,
    Code::PAYLOAD_TOO_LARGE,
    Code::UNSUPPORTED_MEDIA_TYPE,
    Code::ALREADY_STARTED,
    Code::UNKNOWN_WORKFLOW_TYPE,
    Code::BUSY,
    REQUEST_ID_REUSED,
    PRECONDITION_REQUIRED,
    PRECONDITION_FAILED,
    ALREADY_SHIPPED,
    NOT_SHIPPED,
    ORDER_CLOSED,
];

/// Every fault of a request at once: in the detail for people, one by one for programs.
pub(super) fn faulty(status: StatusCode, faults: &[FieldError]) -> Problem {
    let sentence = |fault: &FieldError| format!("{} {}", fault.field, fault.message).trim_start().to_owned();
    let detail = faults.iter().map(sentence).collect::<Vec<_>>().join("; ");
    let errors = serde_json::to_value(faults).unwrap_or_default();
    Problem::new(status, Code::INVALID_INPUT, detail).with("errors", errors)
}

/// There is no such order.
pub(super) fn no_such_order(order_id: &str) -> Problem {
    Problem::not_found(format!("there is no order {order_id}"))
}

/// The order cannot be read or written at the moment.
pub(super) fn busy(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::BUSY, detail)
}

/// The host's refusal to start an order. A shop that is not set up is no fault of the customer's.
pub(super) fn not_started(error: ApiError) -> Problem {
    match error {
        ApiError::UnknownWorkflowType(detail) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::UNKNOWN_WORKFLOW_TYPE, detail)
        }
        error => error.into(),
    }
}

impl From<StepError> for Problem {
    fn from(error: StepError) -> Self {
        busy(error.to_string())
    }
}
