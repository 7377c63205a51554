//! The sandbox's payment gateway: `POST /charges`, `POST /refunds`.

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
use crate::orders::activities::payment::{Charge, Charged, Refund, Refunded};
use crate::orders::problem::{Code, Problem};

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/charges", post(charge)).route("/refunds", post(refund)).with_state(shared)
}

async fn charge(
    State(shared): State<Arc<Shared>>,
    Keyed { key, body }: Keyed<Charge>,
) -> Result<(StatusCode, Json<Charged>), Problem> {
    let Charge { order_id, amount_cents, currency, payment_token } = body;
    if amount_cents < 0 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, Code::INVALID_INPUT, "amount_cents is negative"));
    }
    let down = || {
        let detail = "the gateway is unavailable";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, super::UNAVAILABLE, detail)
    };
    let delay = match Scenario::of_token(&payment_token) {
        None => {
            let detail = format!("nobody issued the payment token `{payment_token}`");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, Code("unknown_token"), detail));
        }
        Some(Scenario::Refused) => {
            let detail = "the card was declined";
            return Err(Problem::new(StatusCode::PAYMENT_REQUIRED, Code("declined"), detail));
        }
        Some(Scenario::Down) => return Err(down()),
        Some(Scenario::Flaky(times)) => {
            if shared.ledger.count_fault(Kind::Charge, &key, times).await? {
                return Err(down());
            }
            Duration::ZERO
        }
        Some(Scenario::Slow(delay)) => delay,
        Some(Scenario::Works) => Duration::ZERO,
    };
    let step =
        Step { kind: Kind::Charge, key: &key, order_id: &order_id, amount_cents, currency: Some(&currency) };
    let charge = shared.ledger.perform(step).await?;
    if !delay.is_zero() {
        shared.clock.sleep_until(shared.clock.now().plus_ms(super::milliseconds(delay))).await;
    }
    Ok((StatusCode::CREATED, Json(Charged { payment_id: charge.reference })))
}

async fn refund(
    State(shared): State<Arc<Shared>>,
    Keyed { key, body }: Keyed<Refund>,
) -> Result<Json<Refunded>, Problem> {
    let refund = shared.ledger.take_back(Kind::Charge, &body.charge_key, &key).await?;
    let refunded_cents = match refund {
        TakenBack::Effect(refund) => refund.amount_cents,
        TakenBack::Nothing | TakenBack::Booking => 0,
    };
    Ok(Json(Refunded { refunded_cents }))
}
