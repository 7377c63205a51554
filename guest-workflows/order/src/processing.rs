//! The workflow `order`: validate, pay, update the inventory, ship; each step that can fail has a handler
//! that says, in plain code, what is to be undone.

use everfold_guest::saga::{Undone, compensate};
use everfold_guest::{ActivityError, Context, Failure, Uuid, error, info, warn};

use crate::activities::{
    ARRANGE_SHIPPING, CANCEL_SHIPMENT, PROCESS_PAYMENT, REFUND_PAYMENT, RESTOCK_INVENTORY, UPDATE_INVENTORY,
    VALIDATE_ORDER,
};
use crate::fulfilment::{End, Fulfilment, Shipped};
use crate::message::{Money, Step, what_went_wrong};
use crate::order::Order;

/// The type of the failure of an order that could not be processed. Its message is for the customer.
pub const ORDER_PROCESSING_FAILED: &str = "OrderProcessingFailed";

/// Validates, charges, updates the inventory and ships; when a step fails or the run is cancelled, its
/// handler undoes what was done.
///
/// # Errors
///
/// A failed step fails the run with [`ORDER_PROCESSING_FAILED`], the step's failure as the cause; what
/// could not be undone is in its details.
pub async fn process_order(ctx: Context, order: Order) -> Result<Shipped, Failure> {
    let fulfilment = Fulfilment::begin(ctx, order);
    let result = process(&fulfilment).await;
    fulfilment.end(&result);
    result
}

async fn process(run: &Fulfilment) -> Result<Shipped, Failure> {
    let Fulfilment { ctx, order, .. } = run;

    let amount_cents = match run.step(VALIDATE_ORDER, order).await {
        Ok(valid) => valid.amount_cents,
        Err(error) => return Err(validation_failed(run, error)),
    };
    info!(ctx, "order is valid", amount_cents);

    let payment_key = ctx.uuid();
    let charge = order.charge(amount_cents);
    let payment = match run.step(PROCESS_PAYMENT.idempotency_key(payment_key), &charge).await {
        Ok(payment) => payment,
        Err(error) => return Err(payment_failed(run, payment_key, error).await),
    };
    info!(ctx, "payment taken", id = payment.payment_id);

    let inventory_key = ctx.uuid();
    let goods = order.take_unreserved();
    if let Err(error) = run.step(UPDATE_INVENTORY.idempotency_key(inventory_key), &goods).await {
        return Err(inventory_update_failed(run, payment_key, inventory_key, error).await);
    }

    let shipping_key = ctx.uuid();
    let parcel = order.ship();
    let shipment = match run.step(ARRANGE_SHIPPING.idempotency_key(shipping_key), &parcel).await {
        Ok(shipment) => shipment,
        Err(error) => {
            return Err(shipping_failed(run, payment_key, inventory_key, shipping_key, error).await);
        }
    };
    if ctx.is_cancel_requested() {
        return Err(canceled_while_shipping(run, payment_key, inventory_key, shipping_key).await);
    }
    info!(ctx, "order shipped", tracking = shipment.tracking_number);

    Ok(Shipped {
        order_id: order.order_id.clone(),
        amount_cents,
        reservation_id: None,
        payment_id: payment.payment_id,
        shipment_id: shipment.shipment_id,
        tracking_number: shipment.tracking_number,
    })
}

/// Nothing was done yet, so nothing is undone.
fn validation_failed(run: &Fulfilment, error: ActivityError) -> Failure {
    Handler::of(run, Step::Validation, error).fail(Money::NotCharged)
}

/// The customer may have been charged all the same.
async fn payment_failed(run: &Fulfilment, payment_key: Uuid, error: ActivityError) -> Failure {
    let mut handler = Handler::of(run, Step::Payment, error);
    let money = if handler.step_had_no_effect() {
        Money::NotCharged
    } else {
        handler.refund(payment_key, Money::ReturnedIfCharged).await
    };
    handler.cancel_order().await;
    handler.fail(money)
}

/// The customer has paid for what cannot be had.
async fn inventory_update_failed(
    run: &Fulfilment,
    payment_key: Uuid,
    inventory_key: Uuid,
    error: ActivityError,
) -> Failure {
    let mut handler = Handler::of(run, Step::InventoryUpdate, error);
    if !handler.step_had_no_effect() {
        handler.restock(inventory_key).await;
    }
    let money = handler.refund(payment_key, Money::Returned).await;
    handler.cancel_order().await;
    handler.fail(money)
}

/// The goods are paid for and packed, and nobody carries them; or perhaps somebody does.
async fn shipping_failed(
    run: &Fulfilment,
    payment_key: Uuid,
    inventory_key: Uuid,
    shipping_key: Uuid,
    error: ActivityError,
) -> Failure {
    let mut handler = Handler::of(run, Step::Shipping, error);
    if !handler.step_had_no_effect() {
        handler.cancel_shipment(shipping_key).await;
    }
    handler.take_back(payment_key, inventory_key).await
}

/// The carrier has it, and the customer wants it no more.
async fn canceled_while_shipping(
    run: &Fulfilment,
    payment_key: Uuid,
    inventory_key: Uuid,
    shipping_key: Uuid,
) -> Failure {
    let mut handler = Handler::canceled(run);
    handler.cancel_shipment(shipping_key).await;
    handler.take_back(payment_key, inventory_key).await
}

/// Why an order is undone that was cancelled, in a clause for the customer.
const CANCELED: &str = "Your order was cancelled";

/// What the handlers do with a step's failure: each undo out of reach of cancellation, none kept from
/// running by one that fails.
struct Handler<'a> {
    run: &'a Fulfilment,
    /// Absent where no step failed.
    error: Option<ActivityError>,
    end: End,
    /// Why, in a clause for the customer.
    reason: &'static str,
    undone: Undone,
}

impl<'a> Handler<'a> {
    fn of(run: &'a Fulfilment, step: Step, error: ActivityError) -> Self {
        let end = run.end_of_step(&error);
        let reason = match end {
            End::Failed => what_went_wrong(step, &error),
            End::Canceled => CANCELED,
        };
        warn!(run.ctx, "order could not be processed", reason = error);
        run.progress.compensating(reason.to_owned());
        Self { run, error: Some(error), end, reason, undone: Undone::default() }
    }

    fn canceled(run: &'a Fulfilment) -> Self {
        warn!(run.ctx, "order cancelled while it was shipped");
        run.progress.compensating(CANCELED.to_owned());
        Self { run, error: None, end: End::Canceled, reason: CANCELED, undone: Undone::default() }
    }

    fn step_had_no_effect(&self) -> bool {
        self.error.as_ref().is_some_and(ActivityError::had_no_effect)
    }

    /// What comes behind the shipment's undo.
    async fn take_back(mut self, payment_key: Uuid, inventory_key: Uuid) -> Failure {
        self.restock(inventory_key).await;
        let money = self.refund(payment_key, Money::Returned).await;
        self.cancel_order().await;
        self.fail(money)
    }

    async fn cancel_shipment(&mut self, shipping_key: Uuid) {
        self.undo(CANCEL_SHIPMENT.name(), self.run.undo(CANCEL_SHIPMENT, shipping_key)).await;
    }

    async fn restock(&mut self, inventory_key: Uuid) {
        self.undo(RESTOCK_INVENTORY.name(), self.run.undo(RESTOCK_INVENTORY, inventory_key)).await;
    }

    /// Gives the money back, and says where it is: `returned`, if all goes well.
    async fn refund(&mut self, payment_key: Uuid, returned: Money) -> Money {
        let failed_before = self.undone.failures.len();
        self.undo(REFUND_PAYMENT.name(), self.run.undo(REFUND_PAYMENT, payment_key)).await;
        if self.undone.failures.len() == failed_before { returned } else { Money::ReturnDelayed }
    }

    async fn cancel_order(&mut self) {
        self.undo("cancel-order", self.run.cancel_order(self.reason)).await;
    }

    async fn undo<O>(&mut self, name: &str, undo: impl Future<Output = Result<O, ActivityError>>) {
        if let Err(left) = compensate(&self.run.ctx, name, undo).await {
            error!(self.run.ctx, "not undone", compensation = left.compensation, reason = left.failure);
            self.undone.failures.push(left);
        }
    }

    /// The run's failure, told to the customer.
    fn fail(self, money: Money) -> Failure {
        let message = format!("{}; {money}.", self.reason);
        self.run.progress.tell(&message);
        let failure = match self.end {
            End::Failed => Failure::application(ORDER_PROCESSING_FAILED, message).non_retryable(),
            End::Canceled => self.run.canceled(),
        };
        let failure = self.undone.report_in(failure);
        match self.error {
            Some(error) => failure.with_cause(error),
            None => failure,
        }
    }
}
