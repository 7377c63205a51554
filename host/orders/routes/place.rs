//! `POST /orders`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use everfold_core::attributes::{AttributeValue, Details};
use everfold_core::payload::Payload;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Body, Found, Routes, ordered};
use crate::orders::Shop;
use crate::orders::order::{Order, namespace, workflow_id};
use crate::orders::problem::{Problem, REQUEST_ID_REUSED, not_started};
use crate::orders::records::Record;
use crate::orders::request::{self, OrderRequest};
use crate::orders::status::OrderStatus;
use crate::orders::steps::StepError;
use crate::runner::api::{IdConflictPolicy, IdReusePolicy, StartRequest, Terms};
use crate::telemetry::http::with_traceparent;

/// Base of the ids of orders that were placed with a `request_id` (UUIDv5, RFC 9562): the same
/// request gives the same order, on every host.
const REQUEST_IDS: Uuid = Uuid::from_u128(0x6d3f_1f0b_2c86_4c52_9d0e_7f58_1b5a_e4c7);

/// An order that was taken.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderPlaced)]
pub(super) struct Placed {
    #[schema(format = "uuid")]
    order_id: String,
    /// The workflow that works on it.
    workflow_id: String,
    status: OrderStatus,
}

/// Places an order; it is on disk when this is answered.
#[utoipa::path(
    post,
    path = "/orders",
    operation_id = "place_order",
    tag = "orders",
    request_body = OrderRequest,
    responses(
        (status = 201, description = "It is taken, now or by the same `request_id` before", body = Placed,
         headers(("location" = String, description = "The order's own path"))),
        (status = 400, description = "`invalid_input`: not JSON", content_type = "application/problem+json"),
        (status = 409, description = "`request_id_reused`: for another order", content_type = "application/problem+json"),
        (status = 413, description = "`payload_too_large`", content_type = "application/problem+json"),
        (status = 422, description = "`invalid_input`: every fault is in `errors`", content_type = "application/problem+json"),
        (status = 503, description = "`busy`, `unknown_workflow_type`: try again later", content_type = "application/problem+json"),
    )
)]
pub(super) async fn place(State(routes): State<Routes>, Body(body): Body) -> Result<Response, Problem> {
    let request = request::read(&body, request::place)?;
    routes.shop.check_takes_rows()?;
    let order_id = match &request.request_id {
        Some(request_id) => Uuid::new_v5(&REQUEST_IDS, request_id.as_bytes()),
        None => routes.shop.clock.new_uuid(),
    }
    .to_string();
    // The row outlives the run, and with it the host's memory of the request.
    let is_placed = request.request_id.is_some() && routes.shop.has_row(&order_id).await?;
    let created_at = routes.shop.clock.now();
    let order = order(order_id.clone(), request);
    let is_duplicate = is_placed || {
        let started = routes.host.start(start_request(&routes.shop, &order)?).await;
        started.map_err(not_started)?.is_duplicate
    };
    let record = Record::of(order, created_at);
    let status = if is_duplicate {
        let found = routes.find(&order_id).await?;
        let status = found.status();
        if !is_same(&record, &routes.placed(found).await?) {
            let detail = format!("the request_id was used before, for another order: {order_id}");
            return Err(Problem::new(StatusCode::CONFLICT, REQUEST_ID_REUSED, detail));
        }
        status
    } else {
        routes.shop.keep_in_time(record).await;
        OrderStatus::Accepted
    };
    let location = format!("/orders/{order_id}");
    let placed = Placed { workflow_id: workflow_id(&order_id).0, order_id, status };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(placed)).into_response())
}

impl Routes {
    /// An order as it was placed, whatever changed since.
    async fn placed(&self, found: Found) -> Result<Record, Problem> {
        let record = found.record;
        if record.version == 1 {
            return Ok(record);
        }
        Ok(ordered(&self.host, &record.order_id).await?.unwrap_or(record))
    }
}

fn order(order_id: String, request: OrderRequest) -> Order {
    Order {
        order_id,
        customer_id: request.customer_id,
        items: request.items,
        currency: request.currency,
        payment_token: request.payment_token,
        ship_to: request.ship_to,
    }
}

fn start_request(shop: &Shop, order: &Order) -> Result<StartRequest, Problem> {
    Ok(StartRequest {
        namespace: namespace(),
        workflow_type: shop.workflow_type.clone(),
        workflow_id: Some(workflow_id(&order.order_id)),
        input: Payload::json(order).map_err(StepError::Damaged)?,
        headers: with_traceparent(Vec::new()),
        request_id: Some(order.order_id.clone()),
        digest: None,
        id_reuse: IdReusePolicy::default(),
        id_conflict: IdConflictPolicy::default(),
        signal: None,
        terms: Terms::default(),
        details: details(order),
        update: None,
    })
}

/// What an order's run is found by.
fn details(order: &Order) -> Details {
    let mut details = Details::new();
    details.search_attributes.set("customer_id", AttributeValue::Integer(order.customer_id));
    details
}

/// Whether two records are of the same order, whenever each was placed.
fn is_same(one: &Record, other: &Record) -> bool {
    *one == Record { created_at: one.created_at, version: one.version, ..other.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    async fn reply(body: &str) -> Value {
        let refused = request::read(body.as_bytes(), request::place).expect_err("it is refused");
        let response = refused.into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        let body: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(body["status"], json!(status));
        body
    }

    #[tokio::test]
    async fn a_bad_body_is_answered_with_all_its_faults() {
        assert_eq!(
            reply("{\"customer_id\": 1,").await,
            json!({
                "type": "about:blank",
                "title": "Bad Request",
                "status": 400,
                "code": "invalid_input",
                "detail": "the body is not JSON: EOF while parsing a value at line 1 column 18",
            })
        );
        let body = json!({
            "customer_id": 1,
            "items": [{"sku": "book", "quantity": 0, "unit_price_cents": 5}],
            "currency": "EUR",
            "payment_token": "tok_ok",
            "ship_to": {"name": "Ada", "country": "de", "postcode": "80331"},
        });
        let reply = reply(&body.to_string()).await;
        assert_eq!(reply["status"], json!(422));
        assert_eq!(
            reply["errors"],
            json!([
                {"field": "items[0].quantity", "message": "must be an integer from 1 to 4294967295"},
                {"field": "ship_to.country", "message": "must be 2 capital letters, as DE"},
            ])
        );
        assert_eq!(
            reply["detail"],
            json!(
                "items[0].quantity must be an integer from 1 to 4294967295; ship_to.country must be 2 capital letters, as DE"
            )
        );
    }
}
