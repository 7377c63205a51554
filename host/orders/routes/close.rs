//! `DELETE /orders/{id}` and `POST /orders/{id}/delivered`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use everfold_core::ids::Timestamp;
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use serde_json::json;

use super::change::{closed, shipped};
use super::view::View;
use super::{Body, Found, OrderId, Pairs, Routes, run_of};
use crate::orders::changes::{Arrival, deliver};
use crate::orders::order::{namespace, tracking_id};
use crate::orders::problem::{NOT_SHIPPED, Problem, busy};
use crate::orders::request::{self, DeliveredRequest};
use crate::orders::status::OrderStatus;
use crate::orders::steps::StepError;
use crate::runner::api::{ApiError, RunRef, SignalRequest, StopRequest};

/// The signal by which tracking learns that the parcel arrived.
const ORDER_DELIVERED: &str = "order-delivered";

/// Asks for an order to be canceled; what was done for it is undone.
#[utoipa::path(
    delete,
    path = "/orders/{id}",
    operation_id = "cancel_order",
    tag = "orders",
    params(
        ("id" = String, Path, description = "The order's id", format = "uuid"),
        ("reason" = Option<String>, Query, description = "For people", min_length = 1, max_length = 200),
        ("request_id" = Option<String>, Query, description = "De-duplicates", min_length = 1, max_length = 200),
    ),
    responses(
        (status = 200, description = "It was canceled before", body = View),
        (status = 202, description = "It is asked to cancel: what is done is undone, and its status tells when", body = View),
        (status = 400, description = "`invalid_input`: every fault is in `errors`", content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", content_type = "application/problem+json"),
        (status = 409, description = "`already_shipped`, `order_closed`", content_type = "application/problem+json"),
        (status = 503, description = "`busy`: try again later", content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(routes): State<Routes>,
    OrderId(order_id): OrderId,
    Pairs(query): Pairs,
) -> Result<Response, Problem> {
    let stop = request::read_query(&query, request::stop)?;
    let found = routes.find(&order_id).await?;
    if let Some(answer) = settled(found) {
        return answer;
    }
    let request = StopRequest {
        run: run_of(&order_id),
        reason: stop.reason.unwrap_or_else(|| "the customer canceled the order".to_owned()),
        request_id: stop.request_id,
    };
    let asked = routes.host.cancel(request).await;
    let found = routes.find(&order_id).await?;
    match asked {
        Ok(_) => Ok(View::of(found).reply(StatusCode::ACCEPTED)),
        // It ended meanwhile, or nobody works on it any more.
        Err(ApiError::NotFound(_)) => {
            let status = found.status();
            settled(found).unwrap_or_else(|| Err(closed(status)))
        }
        Err(error) => Err(error.into()),
    }
}

/// The answer for an order that cannot be canceled any more.
fn settled(found: Found) -> Option<Result<Response, Problem>> {
    match found.status() {
        OrderStatus::Accepted | OrderStatus::Paid => None,
        OrderStatus::Canceled => Some(Ok(View::of(found).reply(StatusCode::OK))),
        OrderStatus::Shipped | OrderStatus::Delivered => Some(Err(shipped())),
        OrderStatus::Failed => Some(Err(closed(OrderStatus::Failed))),
    }
}

/// Tells that an order's parcel arrived.
#[utoipa::path(
    post,
    path = "/orders/{id}/delivered",
    operation_id = "order_delivered",
    tag = "orders",
    params(("id" = String, Path, description = "The order's id", format = "uuid")),
    request_body = Option<DeliveredRequest>,
    responses(
        (status = 200, description = "It is recorded, now or before", body = View),
        (status = 202, description = "It is on disk, and will be recorded", body = View),
        (status = 400, description = "`invalid_input`: not JSON", content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", content_type = "application/problem+json"),
        (status = 409, description = "`not_shipped`, `order_closed`", content_type = "application/problem+json"),
        (status = 413, description = "`payload_too_large`", content_type = "application/problem+json"),
        (status = 422, description = "`invalid_input`: every fault is in `errors`", content_type = "application/problem+json"),
        (status = 503, description = "`busy`: try again later", content_type = "application/problem+json"),
    )
)]
pub(super) async fn delivered(
    State(routes): State<Routes>,
    OrderId(order_id): OrderId,
    Body(body): Body,
) -> Result<Response, Problem> {
    let found = routes.find(&order_id).await?;
    let created_at = found.record.created_at;
    let request = if body.is_empty() {
        DeliveredRequest::default()
    } else {
        request::read(&body, |faults, body| request::delivered(faults, body, created_at))?
    };
    match found.status() {
        OrderStatus::Delivered => return Ok(View::of(found).reply(StatusCode::OK)),
        OrderStatus::Failed | OrderStatus::Canceled => return Err(closed(found.status())),
        OrderStatus::Accepted | OrderStatus::Paid => {
            let detail = "the carrier does not have the order yet";
            return Err(Problem::new(StatusCode::CONFLICT, NOT_SHIPPED, detail));
        }
        OrderStatus::Shipped => {}
    }
    let at = request.delivered_at.unwrap_or_else(|| routes.shop.clock.now());
    match routes.tell_tracking(&order_id, at, request.request_id).await {
        Ok(()) => Ok(View::of(routes.find(&order_id).await?).reply(StatusCode::ACCEPTED)),
        Err(ApiError::NotFound(_)) if found.run_status() == Some(RunStatus::Running) => {
            Err(busy("the order is just being handed over: its parcel is not followed yet"))
        }
        // Nobody follows the parcel, and nobody is going to.
        Err(ApiError::NotFound(_)) => {
            routes.record_delivery(&found, at).await?;
            Ok(View::of(routes.find(&order_id).await?).reply(StatusCode::OK))
        }
        Err(error) => Err(error.into()),
    }
}

impl Routes {
    async fn tell_tracking(
        &self,
        order_id: &str,
        at: Timestamp,
        request_id: Option<String>,
    ) -> Result<(), ApiError> {
        let request = SignalRequest {
            run: RunRef { namespace: namespace(), workflow_id: tracking_id(order_id), run_id: None },
            name: ORDER_DELIVERED.to_owned(),
            input: Payload::json(&json!({ "delivered_at_ms": at.0 }))
                .map_err(|error| ApiError::Internal(error.to_string()))?,
            headers: Vec::new(),
            // A parcel arrives once, however often that is said.
            request_id: Some(request_id.unwrap_or_else(|| ORDER_DELIVERED.to_owned())),
        };
        self.host.signal(request).await.map(|_| ())
    }

    async fn record_delivery(&self, found: &Found, delivered_at: Timestamp) -> Result<(), StepError> {
        let Some(shipment) = &found.progress.shipment else { return Ok(()) };
        let arrival =
            Arrival { order_id: &found.record.order_id, shipment_id: &shipment.shipment_id, delivered_at };
        let mut write = self.shop.database.write().await?;
        deliver(&mut write, arrival, self.shop.clock.now()).await?;
        write.commit().await?;
        Ok(())
    }
}
