//! `PATCH /orders/{id}`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::view::View;
use super::{Body, OrderId, Routes};
use crate::orders::changes::Changed;
use crate::orders::problem::{ALREADY_SHIPPED, ORDER_CLOSED, PRECONDITION_FAILED, Problem, no_such_order};
use crate::orders::request::{self, ChangeRequest};
use crate::orders::status::OrderStatus;

/// Changes where an order goes, while the carrier has not been asked to take it there.
#[utoipa::path(
    patch,
    path = "/orders/{id}",
    operation_id = "change_order",
    tag = "orders",
    params(
        ("id" = String, Path, description = "The order's id", format = "uuid"),
        ("if-match" = String, Header, description = "The order's ETag, or `*`"),
    ),
    request_body = ChangeRequest,
    responses(
        (status = 200, description = "The order as changed", body = View,
         headers(("etag" = String, description = "Names this state of the order"))),
        (status = 400, description = "`invalid_input`: not JSON, or no ETag", content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", content_type = "application/problem+json"),
        (status = 409, description = "`already_shipped`, `order_closed`", content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`: somebody else changed it meanwhile", content_type = "application/problem+json"),
        (status = 413, description = "`payload_too_large`", content_type = "application/problem+json"),
        (status = 422, description = "`invalid_input`: every fault is in `errors`", content_type = "application/problem+json"),
        (status = 428, description = "`precondition_required`: If-Match is missing", content_type = "application/problem+json"),
        (status = 503, description = "`busy`: try again later", content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(routes): State<Routes>,
    OrderId(order_id): OrderId,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    // Writes the row too, where it is missing.
    let found = routes.find(&order_id).await?;
    let expected = request::if_match(&headers)?;
    let change = request::read(&body, request::change)?;
    match found.status() {
        OrderStatus::Failed | OrderStatus::Canceled => return Err(closed(found.status())),
        // The transaction has the last word on the others.
        OrderStatus::Accepted | OrderStatus::Paid | OrderStatus::Shipped | OrderStatus::Delivered => {}
    }
    match routes.shop.change(&order_id, &change, &expected).await? {
        Changed::Done => Ok(View::of(routes.find(&order_id).await?).reply(StatusCode::OK)),
        Changed::Stale => {
            let detail = "the order was changed meanwhile: read it again";
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, PRECONDITION_FAILED, detail))
        }
        Changed::Shipped => Err(shipped()),
        Changed::Closed => Err(closed(OrderStatus::Canceled)),
        Changed::Missing => Err(no_such_order(&order_id)),
    }
}

/// The refusal to change or cancel what the carrier has, or is being asked to take.
pub(super) fn shipped() -> Problem {
    Problem::new(StatusCode::CONFLICT, ALREADY_SHIPPED, "the order's shipping has begun")
}

/// The refusal to do anything more about an order.
pub(super) fn closed(status: OrderStatus) -> Problem {
    Problem::new(StatusCode::CONFLICT, ORDER_CLOSED, format!("the order is {}", status.name()))
}
