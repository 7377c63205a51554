//! `POST /orders` and `GET /orders/{id}`.
//!
//! An order is in two places: its run, with the whole order as input, and its row. The run is started
//! first. If the host stops before the row is written, the order goes on all the same, and whoever
//! looks for the row next writes it from the run's first event. So there is no order without a run,
//! and none that a row promises and nobody works on.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use everfold_core::event::{EventKind, Input};
use everfold_core::ids::{EventId, Timestamp};
use everfold_core::payload::Payload;
use serde::Serialize;
use uuid::Uuid;

use super::Shop;
use super::order::{Item, Order, ShipTo, namespace, workflow_id};
use super::problem::Problem;
use super::records::{Progress, Record};
use super::request::{OrderRequest, check};
use super::status::{OrderFailure, OrderStatus, failure, status};
use super::steps::StepError;
use crate::runner::Host;
use crate::runner::api::{ApiError, Description, RunRef, StartRequest};
use crate::telemetry::http::with_traceparent;

/// Base of the ids of orders that were placed with a `request_id` (UUIDv5, RFC 9562): the same
/// request gives the same order, on every host.
const REQUEST_IDS: Uuid = Uuid::from_u128(0x6d3f_1f0b_2c86_4c52_9d0e_7f58_1b5a_e4c7);

#[derive(Clone)]
struct Routes {
    shop: Arc<Shop>,
    host: Host,
}

pub(super) fn router(shop: Arc<Shop>, host: Host) -> Router {
    Router::new()
        .route("/orders", post(place))
        .route("/orders/{id}", get(show))
        .with_state(Routes { shop, host })
}

#[derive(Serialize)]
struct Placed {
    order_id: String,
    workflow_id: String,
    status: OrderStatus,
}

/// An order for its customer.
#[derive(Serialize)]
struct View {
    order_id: String,
    workflow_id: String,
    status: OrderStatus,
    customer_id: i64,
    items: Vec<Item>,
    currency: String,
    amount_cents: i64,
    ship_to: ShipTo,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipment_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<OrderFailure>,
    created_at: Timestamp,
}

async fn place(
    State(routes): State<Routes>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|refused| {
        let code = match refused.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "payload_too_large",
            _ => "invalid_input",
        };
        Problem::new(refused.status(), code, refused.body_text())
    })?;
    let request = parse(&body)?;
    let order_id = match &request.request_id {
        Some(request_id) => Uuid::new_v5(&REQUEST_IDS, request_id.as_bytes()),
        None => routes.shop.clock.new_uuid(),
    }
    .to_string();
    let created_at = routes.shop.clock.now();
    let order = order(order_id.clone(), request);
    let started = routes.host.start(start_request(&routes.shop, &order)?).await?;
    let record = Record::of(order, created_at);
    let (kept, status) = if started.is_duplicate {
        let (kept, progress, run) = routes.find(&order_id).await?;
        (kept, status(&progress, run.map(|run| run.status)))
    } else {
        routes.shop.keep(&record).await?;
        (record.clone(), OrderStatus::Accepted)
    };
    if !is_same(&record, &kept) {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "request_id_reused",
            format!("the request_id was used before, for another order: {order_id}"),
        ));
    }
    let location = format!("/orders/{order_id}");
    let placed = Placed { workflow_id: started.workflow_id.0, order_id, status };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(placed)).into_response())
}

async fn show(State(routes): State<Routes>, Path(order_id): Path<String>) -> Result<Json<View>, Problem> {
    // Ids are written in one way only: as they were given out.
    if Uuid::parse_str(&order_id).map(|id| id.to_string()).as_ref() != Ok(&order_id) {
        return Err(no_such_order(&order_id));
    }
    let (record, progress, run) = routes.find(&order_id).await?;
    Ok(Json(view(record, progress, run)))
}

impl Routes {
    /// An order with what has come of it. Where its row is missing, it is written from the run.
    async fn find(&self, order_id: &str) -> Result<(Record, Progress, Option<Description>), Problem> {
        let run = RunRef { namespace: namespace(), workflow_id: workflow_id(order_id), run_id: None };
        // The run first: tables that are read later show at least what it had done.
        let description = match self.host.describe(&run).await {
            Ok(description) => Some(description),
            Err(ApiError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let (record, progress) = self.shop.order(order_id).await?;
        let record = match record {
            Some(record) => record,
            None if description.is_some() => {
                let record = self.ordered(&run, order_id).await?.ok_or_else(|| no_such_order(order_id))?;
                self.shop.keep(&record).await?;
                record
            }
            None => return Err(no_such_order(order_id)),
        };
        Ok((record, progress, description))
    }

    /// The order as its run was given it; absent if the run is not that of an order.
    async fn ordered(&self, run: &RunRef, order_id: &str) -> Result<Option<Record>, Problem> {
        let page = self.host.history(run, EventId(0), 1, Duration::ZERO).await?;
        let Some(event) = page.events.into_iter().next() else {
            // Its first activation is blocked: the history is empty, the order waits in the inbox.
            let detail = "the order is accepted but not readable yet; try again later";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail));
        };
        let EventKind::Input(Input::WorkflowStarted(started)) = event.kind else { return Ok(None) };
        let order: Option<Order> = started.input.decode().ok();
        Ok(order.filter(|order| order.order_id == order_id).map(|order| Record::of(order, event.time)))
    }
}

fn parse(body: &[u8]) -> Result<OrderRequest, Problem> {
    let value = serde_json::from_slice(body).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_input", format!("the body is not JSON: {error}"))
    })?;
    check(&value).map_err(|errors| {
        let detail = errors
            .iter()
            .map(|error| format!("{} {}", error.field, error.message).trim_start().to_owned())
            .collect::<Vec<_>>()
            .join("; ");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_input", detail).with_errors(errors)
    })
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
    })
}

/// Whether two records are of the same order, whenever each was placed.
fn is_same(one: &Record, other: &Record) -> bool {
    *one == Record { created_at: one.created_at, ..other.clone() }
}

fn view(record: Record, progress: Progress, run: Option<Description>) -> View {
    let status = status(&progress, run.as_ref().map(|run| run.status));
    let (shipment_id, tracking_number) =
        progress.shipment.map(|shipment| (shipment.shipment_id, shipment.tracking_number)).unzip();
    View {
        workflow_id: workflow_id(&record.order_id).0,
        order_id: record.order_id,
        status,
        customer_id: record.customer_id,
        items: record.items,
        currency: record.currency,
        amount_cents: record.amount_cents,
        ship_to: record.ship_to,
        payment_id: progress.payment.map(|payment| payment.payment_id),
        shipment_id,
        tracking_number,
        failure: failure(status, run.and_then(|run| run.outcome).as_ref()),
        created_at: record.created_at,
    }
}

fn no_such_order(order_id: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is no order {order_id}"))
}

impl From<StepError> for Problem {
    fn from(error: StepError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string())
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let (status, code) = match &error {
            ApiError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            // The shop is not set up yet: no fault of the order.
            ApiError::UnknownWorkflowType(_) => (StatusCode::SERVICE_UNAVAILABLE, "unknown_workflow_type"),
            ApiError::AlreadyStarted { .. } => (StatusCode::CONFLICT, "already_started"),
            ApiError::InvalidInput(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_input"),
            ApiError::InvalidComponent(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_component"),
            ApiError::UnknownQuery(_) => (StatusCode::NOT_FOUND, "unknown_query"),
            ApiError::QueryFailed(_) => (StatusCode::UNPROCESSABLE_ENTITY, "query_failed"),
            ApiError::Blocked(_) => (StatusCode::CONFLICT, "blocked"),
            ApiError::LimitExceeded(_) => (StatusCode::UNPROCESSABLE_ENTITY, "limit_exceeded"),
            ApiError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            ApiError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    async fn reply(body: &str) -> Value {
        let response = parse(body.as_bytes()).expect_err("it is refused").into_response();
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
