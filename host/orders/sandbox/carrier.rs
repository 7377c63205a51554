//! The sandbox's carrier: `POST /shipments`, `POST /shipments/cancel`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};

use super::Shared;
use super::ledger::{Kind, Step, TakenBack};
use super::request::Keyed;
use super::scenario::Scenario;
use crate::orders::activities::shipping::{Answer, Cancel, Canceled, Pending, Ship, Shipped};
use crate::orders::problem::{Code, Problem};

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/shipments", post(ship)).route("/shipments/cancel", post(cancel)).with_state(shared)
}

async fn ship(
    State(shared): State<Arc<Shared>>,
    Keyed { key, body }: Keyed<Ship>,
) -> Result<(StatusCode, Json<Answer>), Problem> {
    let Ship { order_id, ship_to, items: _ } = body;
    let down = || {
        let detail = "the carrier is unavailable";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, super::UNAVAILABLE, detail)
    };
    let delay = match Scenario::of_postcode(&ship_to.postcode) {
        Scenario::Refused => {
            let detail = format!("the carrier does not deliver to {} {}", ship_to.country, ship_to.postcode);
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, Code("refused"), detail));
        }
        Scenario::Down => return Err(down()),
        Scenario::Flaky(times) => {
            if shared.ledger.count_fault(Kind::Shipment, &key, times).await? {
                return Err(down());
            }
            Duration::ZERO
        }
        Scenario::Slow(delay) => delay,
        Scenario::Works => Duration::ZERO,
    };
    let step = Step { kind: Kind::Shipment, key: &key, order_id: &order_id, amount_cents: 0, currency: None };
    let shipment = if delay.is_zero() {
        Some(shared.ledger.perform(step).await?)
    } else {
        shared.ledger.book(step, super::milliseconds(delay)).await?
    };
    let Some(shipment) = shipment else {
        return Ok((StatusCode::ACCEPTED, Json(Answer::Booked { state: Pending::Pending })));
    };
    let shipped = Shipped {
        shipment_id: shipment.reference,
        tracking_number: shipment.tracking_number.unwrap_or_default(),
    };
    Ok((StatusCode::CREATED, Json(Answer::Confirmed(shipped))))
}

async fn cancel(
    State(shared): State<Arc<Shared>>,
    Keyed { key, body }: Keyed<Cancel>,
) -> Result<Json<Canceled>, Problem> {
    let canceled = match shared.ledger.take_back(Kind::Shipment, &body.shipment_key, &key).await? {
        TakenBack::Booking | TakenBack::Effect(_) => true,
        TakenBack::Nothing => false,
    };
    Ok(Json(Canceled { canceled }))
}
