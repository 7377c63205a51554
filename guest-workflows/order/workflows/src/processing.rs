//! The workflow `order`: validate, pay, update the inventory, ship; each step that can fail has a handler
//! that says, in plain code, what is to be undone.
//!
//! The order of the steps is in [`process_order`] alone: a version of the workflow that has another one
//! makes the same steps through [`Processing`], and what is undone follows.

mod handler;

use everfold_guest::{ActivityError, Context, Failure, Uuid, info};

use crate::activities::{ARRANGE_SHIPPING, PROCESS_PAYMENT, Payment, UPDATE_INVENTORY, VALIDATE_ORDER};
use crate::fulfilment::{Fulfilment, Shipped};
use crate::message::{Money, Step};
use crate::order::Order;
use handler::Handler;

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
    Processing::of(ctx, order, async |steps| {
        let amount_cents = steps.validate().await?;
        let payment = steps.charge(amount_cents).await?;
        steps.update_inventory().await?;
        steps.ship(amount_cents, payment).await
    })
    .await
}

/// An order that is being processed: its steps, each with its handler. They may be made in any order, each
/// at most once.
#[derive(Debug)]
pub struct Processing {
    run: Fulfilment,
    /// What was done and can be undone, in the order in which it was done.
    done: Vec<Done>,
}

/// A step that was made, and the key by which its undo knows it.
#[derive(Clone, Copy, Debug)]
enum Done {
    Payment(Uuid),
    Inventory(Uuid),
    Shipment(Uuid),
}

impl Processing {
    /// Processes an order by these steps, from its beginning to its end.
    ///
    /// # Errors
    ///
    /// What the steps give.
    pub async fn of(
        ctx: Context,
        order: Order,
        steps: impl AsyncFnOnce(&mut Self) -> Result<Shipped, Failure>,
    ) -> Result<Shipped, Failure> {
        let mut processing = Self { run: Fulfilment::begin(ctx, order), done: Vec::new() };
        let result = steps(&mut processing).await;
        processing.run.end(&result);
        result
    }

    /// The order's run.
    #[must_use]
    pub const fn ctx(&self) -> &Context {
        &self.run.ctx
    }

    /// Checks the order, and gives what it costs.
    ///
    /// # Errors
    ///
    /// As [`process_order`], behind the step's handler.
    pub async fn validate(&self) -> Result<i64, Failure> {
        match self.run.step(VALIDATE_ORDER, &self.run.order).await {
            Ok(valid) => {
                info!(self.run.ctx, "order is valid", amount_cents = valid.amount_cents);
                Ok(valid.amount_cents)
            }
            Err(error) => Err(self.validation_failed(error)),
        }
    }

    /// Charges the customer.
    ///
    /// # Errors
    ///
    /// As [`process_order`], behind the step's handler.
    pub async fn charge(&mut self, amount_cents: i64) -> Result<Payment, Failure> {
        let key = self.run.ctx.uuid();
        let charge = self.run.order.charge(amount_cents);
        match self.run.step(PROCESS_PAYMENT.idempotency_key(key), &charge).await {
            Ok(payment) => {
                info!(self.run.ctx, "payment taken", id = payment.payment_id);
                self.done.push(Done::Payment(key));
                Ok(payment)
            }
            Err(error) => Err(self.payment_failed(key, error).await),
        }
    }

    /// Takes the goods out of the stock.
    ///
    /// # Errors
    ///
    /// As [`process_order`], behind the step's handler.
    pub async fn update_inventory(&mut self) -> Result<(), Failure> {
        let key = self.run.ctx.uuid();
        let goods = self.run.order.take_unreserved();
        match self.run.step(UPDATE_INVENTORY.idempotency_key(key), &goods).await {
            Ok(_) => {
                self.done.push(Done::Inventory(key));
                Ok(())
            }
            Err(error) => Err(self.inventory_update_failed(key, error).await),
        }
    }

    /// Hands the goods to the carrier: the last step of an order that was paid.
    ///
    /// # Errors
    ///
    /// As [`process_order`], behind the step's handler; also where the run was cancelled meanwhile.
    pub async fn ship(&mut self, amount_cents: i64, payment: Payment) -> Result<Shipped, Failure> {
        let key = self.run.ctx.uuid();
        let parcel = self.run.order.ship();
        let shipment = match self.run.step(ARRANGE_SHIPPING.idempotency_key(key), &parcel).await {
            Ok(shipment) => shipment,
            Err(error) => return Err(self.shipping_failed(key, error).await),
        };
        self.done.push(Done::Shipment(key));
        if self.run.ctx.is_cancel_requested() {
            return Err(self.canceled_while_shipping().await);
        }
        info!(self.run.ctx, "order shipped", tracking = shipment.tracking_number);
        Ok(Shipped {
            order_id: self.run.order.order_id.clone(),
            amount_cents,
            reservation_id: None,
            payment_id: payment.payment_id,
            shipment_id: shipment.shipment_id,
            tracking_number: shipment.tracking_number,
        })
    }

    /// Nothing was done yet, so nothing is undone.
    fn validation_failed(&self, error: ActivityError) -> Failure {
        Handler::of(&self.run, Step::Validation, error).fail()
    }

    /// The customer may have been charged all the same.
    async fn payment_failed(&self, key: Uuid, error: ActivityError) -> Failure {
        let mut handler = Handler::of(&self.run, Step::Payment, error);
        if !handler.step_had_no_effect() {
            handler.refund(key, Money::ReturnedIfCharged).await;
        }
        handler.take_back(&self.done).await
    }

    /// What was ordered cannot be had; the customer may have paid for it.
    async fn inventory_update_failed(&self, key: Uuid, error: ActivityError) -> Failure {
        let mut handler = Handler::of(&self.run, Step::InventoryUpdate, error);
        if !handler.step_had_no_effect() {
            handler.restock(key).await;
        }
        handler.take_back(&self.done).await
    }

    /// The goods are paid for and packed, and nobody carries them; or perhaps somebody does.
    async fn shipping_failed(&self, key: Uuid, error: ActivityError) -> Failure {
        let mut handler = Handler::of(&self.run, Step::Shipping, error);
        if !handler.step_had_no_effect() {
            handler.cancel_shipment(key).await;
        }
        handler.take_back(&self.done).await
    }

    /// The carrier has it, and the customer wants it no more.
    async fn canceled_while_shipping(&self) -> Failure {
        Handler::canceled(&self.run).take_back(&self.done).await
    }
}
