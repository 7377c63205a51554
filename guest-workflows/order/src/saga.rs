//! The workflow: four steps, each with its undo.

use everfold_guest::saga::Undone;
use everfold_guest::{Activity, ActivityError, Context, Failure, Saga, error, info, warn};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::activities::{
    ARRANGE_SHIPPING, CANCEL_SHIPMENT, PROCESS_PAYMENT, REFUND_PAYMENT, RELEASE_RESERVATION,
    RESERVE_INVENTORY, RESTOCK_INVENTORY, UPDATE_INVENTORY, Undo,
};
use crate::order::Order;

/// The type of the failure of an order that could not be fulfilled.
pub const ORDER_FAILED: &str = "OrderFailed";

/// What became of an order that was shipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    /// The order's own id.
    pub order_id: String,
    /// What was charged.
    pub amount_cents: i64,
    /// What the reservation is known by.
    pub reservation_id: String,
    /// What the payment is known by.
    pub payment_id: String,
    /// What the shipment is known by.
    pub shipment_id: String,
    /// What the customer follows it by.
    pub tracking_number: String,
}

/// Reserves, charges, commits the stock and ships; when a step fails or the run is cancelled,
/// undoes what was done, latest first.
///
/// # Errors
///
/// An invalid order fails as it is. A failed step fails the run with [`ORDER_FAILED`], the step's
/// failure as the cause; what could not be undone is in its details.
pub async fn order_saga(ctx: Context, order: Order) -> Result<Shipped, Failure> {
    let amount_cents = order.amount_cents()?;
    info!(ctx, "order accepted", amount_cents);

    let mut saga = Saga::new(&ctx);
    match fulfil(&ctx, &mut saga, &order, amount_cents).await {
        Ok(shipped) => {
            info!(ctx, "order shipped", tracking = shipped.tracking_number);
            Ok(shipped)
        }
        Err(cause) => {
            warn!(ctx, "order failed, undoing its steps", reason = cause);
            let undone = saga.undo().await;
            Err(failed(&ctx, &order, cause, &undone))
        }
    }
}

async fn fulfil(
    ctx: &Context,
    saga: &mut Saga,
    order: &Order,
    amount_cents: i64,
) -> Result<Shipped, ActivityError> {
    let mut steps = Steps { ctx, saga, order };

    let reservation = steps.make(RESERVE_INVENTORY, &order.reserve(), RELEASE_RESERVATION).await?;
    info!(ctx, "stock reserved", id = reservation.reservation_id);

    let payment = steps.make(PROCESS_PAYMENT, &order.charge(amount_cents), REFUND_PAYMENT).await?;
    info!(ctx, "payment taken", id = payment.payment_id);

    steps.make(UPDATE_INVENTORY, &order.take(&reservation), RESTOCK_INVENTORY).await?;

    let shipment = steps.make(ARRANGE_SHIPPING, &order.ship(), CANCEL_SHIPMENT).await?;

    Ok(Shipped {
        order_id: order.order_id.clone(),
        amount_cents,
        reservation_id: reservation.reservation_id,
        payment_id: payment.payment_id,
        shipment_id: shipment.shipment_id,
        tracking_number: shipment.tracking_number,
    })
}

/// Makes the steps of one order: each under a key of its own, by which its undo knows it.
struct Steps<'a> {
    ctx: &'a Context,
    saga: &'a mut Saga,
    order: &'a Order,
}

impl Steps<'_> {
    async fn make<I, O, U>(
        &mut self,
        step: Activity<I, O>,
        input: &I,
        undo: Activity<Undo, U>,
    ) -> Result<O, ActivityError>
    where
        I: Serialize,
        O: DeserializeOwned,
        U: DeserializeOwned + 'static,
    {
        let key = self.ctx.uuid();
        let name = undo.name().to_owned();
        let step = self.ctx.execute(step.idempotency_key(key), input);
        let undo = self.ctx.execute(undo, &self.order.undo(key));
        self.saga.step(name, step, undo).await
    }
}

/// The run's failure: cancelled if the run was cancelled, [`ORDER_FAILED`] otherwise; in both what
/// could not be undone.
fn failed(ctx: &Context, order: &Order, cause: ActivityError, undone: &Undone) -> Failure {
    let order_id = &order.order_id;
    for left in &undone.failures {
        error!(ctx, "not undone", compensation = left.compensation, reason = left.failure);
    }
    let failure = if cause.is_canceled() && ctx.is_cancel_requested() {
        Failure::canceled(format!("order {order_id} was cancelled"), Vec::new())
    } else {
        Failure::application(ORDER_FAILED, format!("order {order_id} could not be fulfilled")).non_retryable()
    };
    undone.report_in(failure).with_cause(cause)
}
