//! The sandbox's carrier: `POST /shipments`, `POST /shipments/cancel`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};

use super::Shared;
use super::ledger::{Kind, Step};
use super::request::Keyed;
use super::scenario::Scenario;
use crate::orders::activities::shipping::{Cancel, Canceled, Ship, Shipped};
use crate::orders::problem::Problem;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/shipments", post(ship)).route("/shipments/cancel", post(cancel)).with_state(shared)
}

async fn ship(
    State(shared): State<Arc<Shared>>,
    Keyed { key, body }: Keyed<Ship>,
) -> Result<(StatusCode, Json<Shipped>), Problem> {
    let Ship { order_id, ship_to, items: _ } = body;
    let down = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the carrier is unavailable");
    match Scenario::of_postcode(&ship_to.postcode) {
        Scenario::Refused => {
            let detail = format!("the carrier does not deliver to {} {}", ship_to.country, ship_to.postcode);
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", detail));
        }
        Scenario::Down => return Err(down()),
        Scenario::Flaky(times) => {
            if shared.ledger.count_fault(Kind::Shipment, &key, times).await? {
                return Err(down());
            }
        }
        // No postcode is slow.
        Scenario::Works | Scenario::Slow(_) => {}
    }
    let step = Step { kind: Kind::Shipment, key: &key, order_id: &order_id, amount_cents: 0, currency: None };
    let shipment = shared.ledger.perform(step).await?;
    let shipped = Shipped {
        shipment_id: shipment.reference,
        tracking_number: shipment.tracking_number.unwrap_or_default(),
    };
    Ok((StatusCode::CREATED, Json(shipped)))
}

async fn cancel(
    State(shared): State<Arc<Shared>>,
    Keyed { key, body }: Keyed<Cancel>,
) -> Result<Json<Canceled>, Problem> {
    let cancellation = shared.ledger.take_back(Kind::Shipment, &body.shipment_key, &key).await?;
    Ok(Json(Canceled { canceled: cancellation.is_some() }))
}
