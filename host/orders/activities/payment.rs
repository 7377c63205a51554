//! Money: charging it through the payment gateway, and giving it back.
//!
//! The gateway is asked first and the answer is written down after. A host that stops between the
//! two asks again under the same key and gets the same answer.
//!
//! A charge has a retry of its own, because gateways fail for moments: three tries within one attempt,
//! all under the one key. A refusal is final at once; an outcome that is still unknown after them is
//! the attempt's failure, and the retry policy of the workflow goes on.

use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::failure::Failure;
use serde::{Deserialize, Serialize};

use super::UndoInput;
use crate::activity::{Activity, ActivityContext};
use crate::orders::Shop;
use crate::orders::remote::is_final;
use crate::orders::steps::{Found, Step, StepError};

/// Before the second and the third try.
const PAUSES_MS: [u64; 2] = [200, 800];
/// Of one try.
const LIMIT_MS: u64 = 3_000;

/// `process-payment`.
pub(in crate::orders) struct ProcessPayment(pub(super) Arc<Shop>);

/// What the activity takes and what the gateway's `POST /charges` takes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Charge {
    pub(in crate::orders) order_id: String,
    pub(in crate::orders) amount_cents: i64,
    pub(in crate::orders) currency: String,
    pub(in crate::orders) payment_token: String,
}

/// What the activity returns and what `POST /charges` answers.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Charged {
    pub(in crate::orders) payment_id: String,
}

#[async_trait]
impl Activity for ProcessPayment {
    const TYPE: &'static str = "process-payment";
    type Input = Charge;
    type Output = Charged;

    async fn run(&self, context: &ActivityContext, input: Charge) -> Result<Charged, Failure> {
        let charged = charge(&self.0, context, &input).await?;
        let currency = [("currency", input.currency.as_str())];
        // A sum of money is exact up to 2⁵³ cents.
        context.metrics().counter("order_payments_cents_total", input.amount_cents as f64, &currency);
        Ok(charged)
    }
}

async fn charge(shop: &Shop, context: &ActivityContext, input: &Charge) -> Result<Charged, StepError> {
    let key = &context.info().idempotency_key;
    let step = Step { activity_type: ProcessPayment::TYPE, key, order_id: &input.order_id };
    let mut read = shop.database.readers().acquire().await?;
    if let Some(charged) = step.result(&mut read).await? {
        return Ok(charged);
    }
    drop(read);
    let charged = ask_gateway(shop, context, input).await?;

    let mut write = shop.database.write().await?;
    // Another attempt may have written it down, or an undo passed this one, meanwhile.
    if let Some(charged) = step.result(&mut write).await? {
        return Ok(charged);
    }
    let now = shop.clock.now();
    sqlx::query(
        "INSERT INTO payments (payment_id, order_id, amount_cents, state, updated_at) \
         VALUES (?, ?, ?, 'charged', ?)",
    )
    .bind(&charged.payment_id)
    .bind(&input.order_id)
    .bind(input.amount_cents)
    .bind(now.0)
    .execute(&mut *write)
    .await?;
    step.record(&mut write, &charged.payment_id, &charged, now).await?;
    write.commit().await?;
    Ok(charged)
}

/// Tries up to three times. Asked to stop, it waits for the answer under way, which is money, and
/// begins no further try.
async fn ask_gateway(shop: &Shop, context: &ActivityContext, input: &Charge) -> Result<Charged, Failure> {
    let clock = &shop.clock;
    let mut pauses_ms = PAUSES_MS.into_iter();
    loop {
        let answer = tokio::select! {
            biased;
            answer = shop.gateway.post("/charges", &context.info().idempotency_key, input) => answer,
            () = clock.sleep_until(clock.now().plus_ms(LIMIT_MS)) => Err(shop.gateway.silent(LIMIT_MS)),
        };
        let unknown = match answer {
            Ok(charged) => return Ok(charged),
            Err(failure) if is_final(&failure) => return Err(failure),
            Err(failure) => failure,
        };
        let Some(pause_ms) = pauses_ms.next() else { return Err(unknown) };
        tokio::select! {
            biased;
            () = context.cancelled() => return Err(context.canceled_failure()),
            () = clock.sleep_until(clock.now().plus_ms(pause_ms)) => {}
        }
    }
}

/// `refund-payment`: the undo of `process-payment`.
pub(in crate::orders) struct RefundPayment(pub(super) Arc<Shop>);

/// What the gateway's `POST /refunds` takes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Refund {
    pub(in crate::orders) order_id: String,
    /// The idempotency key of the charge.
    pub(in crate::orders) charge_key: String,
}

/// What the activity returns and what `POST /refunds` answers: 0 where nothing was charged.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Refunded {
    pub(in crate::orders) refunded_cents: i64,
}

#[async_trait]
impl Activity for RefundPayment {
    const TYPE: &'static str = "refund-payment";
    type Input = UndoInput;
    type Output = Refunded;

    async fn run(&self, context: &ActivityContext, input: UndoInput) -> Result<Refunded, Failure> {
        Ok(refund(&self.0, context, &input).await?)
    }
}

async fn refund(shop: &Shop, context: &ActivityContext, input: &UndoInput) -> Result<Refunded, StepError> {
    let step = Step { activity_type: ProcessPayment::TYPE, key: &input.step_key, order_id: &input.order_id };
    let mut read = shop.database.readers().acquire().await?;
    if let Found::TakenBack(refunded) = step.find(&mut read).await? {
        return Ok(refunded);
    }
    drop(read);
    // Also where no charge is written down here: the gateway alone knows whether one arrived.
    let body = Refund { order_id: input.order_id.clone(), charge_key: input.step_key.clone() };
    let key = &context.info().idempotency_key;
    let refunded: Refunded = shop.gateway.post("/refunds", key, &body).await?;

    let mut write = shop.database.write().await?;
    let now = shop.clock.now();
    match step.find(&mut write).await? {
        Found::TakenBack(refunded) => return Ok(refunded),
        Found::Nothing => {}
        Found::Done { subject: payment_id } => {
            sqlx::query("UPDATE payments SET state = 'refunded', updated_at = ? WHERE payment_id = ?")
                .bind(now.0)
                .bind(payment_id)
                .execute(&mut *write)
                .await?;
        }
    }
    step.record_undo(&mut write, &refunded, now).await?;
    write.commit().await?;
    Ok(refunded)
}
