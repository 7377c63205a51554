//! `GET /orders/{id}`, and an order as its customer sees it.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use everfold_core::ids::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::{Found, OrderId, Routes};
use crate::orders::order::{Item, ShipTo, workflow_id};
use crate::orders::problem::Problem;
use crate::orders::status::{OrderFailure, OrderStatus, failure};

/// An order for its customer.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub(super) struct View {
    #[schema(format = "uuid")]
    order_id: String,
    /// The workflow that works on it.
    workflow_id: String,
    status: OrderStatus,
    customer_id: i64,
    items: Vec<Item>,
    /// ISO 4217.
    currency: String,
    /// What it costs.
    amount_cents: i64,
    ship_to: ShipTo,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipment_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_number: Option<String>,
    /// When it arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Timestamp>,
    /// Why it was canceled, if a workflow said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_reason: Option<String>,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<OrderFailure>,
    /// When it was placed.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(skip)]
    version: i64,
}

impl View {
    pub(super) fn of(found: Found) -> Self {
        let (status, run_status) = (found.status(), found.run_status());
        let Found { record, progress, run } = found;
        let shipment = progress.shipment;
        Self {
            workflow_id: workflow_id(&record.order_id).0,
            order_id: record.order_id,
            status,
            customer_id: record.customer_id,
            items: record.items,
            currency: record.currency,
            amount_cents: record.amount_cents,
            ship_to: record.ship_to,
            payment_id: progress.payment.map(|payment| payment.payment_id),
            shipment_id: shipment.as_ref().map(|shipment| shipment.shipment_id.clone()),
            tracking_number: shipment.as_ref().map(|shipment| shipment.tracking_number.clone()),
            delivered_at: shipment.and_then(|shipment| shipment.delivered_at).map(Timestamp),
            cancel_reason: progress.cancellation.map(|cancellation| cancellation.reason),
            failure: failure(run_status, run.and_then(|run| run.outcome).as_ref()),
            created_at: record.created_at,
            version: record.version,
        }
    }

    /// Names this state of the order: first the number of changes, which is what `If-Match` guards, then
    /// a digest of all that is shown.
    fn etag(&self) -> String {
        let shown = serde_json::to_vec(self).unwrap_or_default();
        format!("\"{}-{}\"", self.version, hex::encode(&Sha256::digest(shown)[..8]))
    }

    /// The order with its ETag.
    pub(super) fn reply(self, status: StatusCode) -> Response {
        let etag = self.etag();
        (status, [(header::ETAG, etag)], Json(self)).into_response()
    }
}

/// Shows an order.
#[utoipa::path(
    get,
    path = "/orders/{id}",
    operation_id = "get_order",
    tag = "orders",
    params(
        ("id" = String, Path, description = "The order's id", format = "uuid"),
        ("if-none-match" = Option<String>, Header, description = "Answers 304 if the order is still in one of these states"),
    ),
    responses(
        (status = 200, description = "The order", body = View,
         headers(("etag" = String, description = "Names this state of the order; a change needs it"))),
        (status = 304, description = "It is still as it was"),
        (status = 400, description = "`invalid_input`: the path cannot be read", content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", content_type = "application/problem+json"),
        (status = 503, description = "`busy`: try again later", content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(routes): State<Routes>,
    OrderId(order_id): OrderId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let view = View::of(routes.find(&order_id).await?);
    let etag = view.etag();
    if is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    Ok(view.reply(StatusCode::OK))
}

/// Whether the client has what the tag names (RFC 9110, section 13.1.2: compared weakly).
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let fields = headers.get_all(header::IF_NONE_MATCH).iter().map(HeaderValue::to_str);
    let mut tags = fields.flatten().flat_map(|field| field.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
