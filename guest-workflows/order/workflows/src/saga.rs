//! The workflow `order-saga`: four steps, each with its undo.

use everfold_guest::saga::Undone;
use everfold_guest::{Activity, ActivityError, Context, Failure, Saga, error, info, warn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::activities::{
    ARRANGE_SHIPPING, CANCEL_SHIPMENT, PROCESS_PAYMENT, REFUND_PAYMENT, RELEASE_RESERVATION,
    RESERVE_INVENTORY, RESTOCK_INVENTORY, UPDATE_INVENTORY, Undo,
};
use crate::fulfilment::{End, Fulfilment, Shipped};
use crate::order::Order;

/// The type of the failure of an order that could not be fulfilled.
pub const ORDER_FAILED: &str = "OrderFailed";

/// Reserves, charges, commits the stock and ships; when a step fails or the run is cancelled,
/// undoes what was done, latest first.
///
/// # Errors
///
/// An invalid order fails as it is. A failed step fails the run with [`ORDER_FAILED`], the step's
/// failure as the cause; what could not be undone is in its details.
pub async fn order_saga(ctx: Context, order: Order) -> Result<Shipped, Failure> {
    let fulfilment = Fulfilment::begin(ctx, order);
    let result = fulfil_or_undo(&fulfilment).await;
    fulfilment.end(&result);
    result
}

async fn fulfil_or_undo(run: &Fulfilment) -> Result<Shipped, Failure> {
    let ctx = &run.ctx;
    let amount_cents = run.order.amount_cents()?;
    info!(ctx, "order accepted", amount_cents);

    let mut saga = Saga::new(ctx);
    match fulfil(run, &mut saga, amount_cents).await {
        Ok(_) if ctx.is_cancel_requested() => {
            warn!(ctx, "order cancelled while it was shipped, undoing its steps");
            run.progress.compensating("the order was cancelled".to_owned());
            let undone = saga.undo().await;
            Err(failed(run, End::Canceled, &undone))
        }
        Ok(shipped) => {
            info!(ctx, "order shipped", tracking = shipped.tracking_number);
            Ok(shipped)
        }
        Err(cause) => {
            warn!(ctx, "order failed, undoing its steps", reason = cause);
            run.progress.compensating(cause.to_string());
            let end = run.end_of_step(&cause);
            let undone = saga.undo().await;
            Err(failed(run, end, &undone).with_cause(cause))
        }
    }
}

async fn fulfil(run: &Fulfilment, saga: &mut Saga, amount_cents: i64) -> Result<Shipped, ActivityError> {
    let Fulfilment { ctx, order, .. } = run;
    let mut steps = Steps { run, saga };

    let reservation = steps.make(RESERVE_INVENTORY, &order.reserve(), RELEASE_RESERVATION).await?;
    info!(ctx, "stock reserved", id = reservation.reservation_id);

    let payment = steps.make(PROCESS_PAYMENT, &order.charge(amount_cents), REFUND_PAYMENT).await?;
    info!(ctx, "payment taken", id = payment.payment_id);

    steps.make(UPDATE_INVENTORY, &order.take(&reservation), RESTOCK_INVENTORY).await?;

    let shipment = steps.make(ARRANGE_SHIPPING, &order.ship(), CANCEL_SHIPMENT).await?;

    Ok(Shipped {
        order_id: order.order_id.clone(),
        amount_cents,
        reservation_id: Some(reservation.reservation_id),
        payment_id: payment.payment_id,
        shipment_id: shipment.shipment_id,
        tracking_number: shipment.tracking_number,
    })
}

/// Makes the steps of one order: each under a key of its own, by which its undo knows it.
struct Steps<'a> {
    run: &'a Fulfilment,
    saga: &'a mut Saga,
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
        let key = self.run.ctx.uuid();
        let name = undo.name().to_owned();
        let step = self.run.step(step.idempotency_key(key), input);
        self.saga.step(name, step, self.run.undo(undo, key)).await
    }
}

/// The run's failure: cancelled if the run was cancelled, [`ORDER_FAILED`] otherwise; in both what
/// could not be undone.
fn failed(run: &Fulfilment, end: End, undone: &Undone) -> Failure {
    let order_id = &run.order.order_id;
    for left in &undone.failures {
        error!(run.ctx, "not undone", compensation = left.compensation, reason = left.failure);
    }
    let failure = match end {
        End::Canceled => run.canceled(),
        End::Failed => Failure::application(ORDER_FAILED, format!("order {order_id} could not be fulfilled"))
            .non_retryable(),
    };
    undone.report_in(failure)
}
