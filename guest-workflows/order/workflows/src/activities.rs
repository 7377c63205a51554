//! The activities that the order workflows ask for: their names, what goes in, what comes out, and how
//! long each may take.
//!
//! Every step carries an idempotency key, and its undo names that key: it undoes what was done
//! under it, and does nothing where nothing was done.

use std::time::Duration;

use everfold_guest::{Activity, CancellationType, RetryPolicy, Uuid};
use serde::{Deserialize, Serialize};

use crate::order::{Address, INVALID_ORDER, Item, Order};

/// Checks the order and adds up what it costs.
pub const VALIDATE_ORDER: Activity<Order, ValidOrder> = step("validate-order");

/// Sets stock aside for the order.
pub const RESERVE_INVENTORY: Activity<ReserveInventory, Reservation> = step("reserve-inventory");

/// Charges the customer. An attempt asks the gateway three times before it gives up.
pub const PROCESS_PAYMENT: Activity<ProcessPayment, Payment> =
    step("process-payment").start_to_close(Duration::from_secs(30));

/// Takes the goods out of the stock.
pub const UPDATE_INVENTORY: Activity<UpdateInventory, InventoryUpdated> = step("update-inventory");

/// Hands the goods to the carrier, which takes its time; a heartbeat tells that somebody is at it.
pub const ARRANGE_SHIPPING: Activity<ArrangeShipping, Shipment> =
    step("arrange-shipping").start_to_close(Duration::from_secs(10 * 60)).heartbeat(Duration::from_secs(10));

/// Notes that the parcel has arrived.
pub const RECORD_DELIVERY: Activity<RecordDelivery, DeliveryRecorded> = undo("record-delivery");

/// Undoes [`RESERVE_INVENTORY`].
pub const RELEASE_RESERVATION: Activity<Undo, ReservationReleased> = undo("release-inventory-reservation");

/// Undoes [`PROCESS_PAYMENT`].
pub const REFUND_PAYMENT: Activity<Undo, PaymentRefunded> = undo("refund-payment");

/// Undoes [`UPDATE_INVENTORY`].
pub const RESTOCK_INVENTORY: Activity<Undo, InventoryRestocked> = undo("restock-inventory");

/// Undoes [`ARRANGE_SHIPPING`].
pub const CANCEL_SHIPMENT: Activity<Undo, ShipmentCanceled> = undo("cancel-shipment");

/// Closes the order for the customer: the last part of undoing it.
pub const CANCEL_ORDER: Activity<CancelOrder, OrderCanceled> = undo("cancel-order");

const INTERVALS: RetryPolicy = RetryPolicy::new()
    .initial_interval(Duration::from_secs(1))
    .backoff_coefficient(2.0)
    .maximum_interval(Duration::from_secs(60));

/// A step is tried five times, and waits for its own end when the run is cancelled, so that its
/// undo comes after it.
const fn step<I, O>(name: &'static str) -> Activity<I, O> {
    let retry = INTERVALS.maximum_attempts(5).non_retryable_types(&[INVALID_ORDER, "PaymentDeclined"]);
    Activity::new(name)
        .start_to_close(Duration::from_secs(5))
        .cancellation(CancellationType::WaitCancellationCompleted)
        .retry(retry)
}

/// What must come about in the end, as an undo, is not given up lightly: it is tried for a day.
const fn undo<I, O>(name: &'static str) -> Activity<I, O> {
    Activity::new(name)
        .start_to_close(Duration::from_secs(10))
        .schedule_to_close(Duration::from_secs(24 * 60 * 60))
        .retry(INTERVALS)
}

/// The input of [`RESERVE_INVENTORY`].
#[derive(Debug, Serialize)]
pub struct ReserveInventory {
    order_id: String,
    items: Vec<Quantity>,
}

/// The input of [`PROCESS_PAYMENT`].
#[derive(Debug, Serialize)]
pub struct ProcessPayment {
    order_id: String,
    amount_cents: i64,
    currency: String,
    payment_token: String,
}

/// The input of [`UPDATE_INVENTORY`]: takes what was reserved, or goods that nobody set aside.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum UpdateInventory {
    /// What was reserved.
    Reserved {
        /// The order's own id.
        order_id: String,
        /// What the reservation is known by.
        reservation_id: String,
    },
    /// Goods on the shelf.
    Unreserved {
        /// The order's own id.
        order_id: String,
        /// What is taken.
        items: Vec<Quantity>,
    },
}

/// The input of [`ARRANGE_SHIPPING`].
#[derive(Debug, Serialize)]
pub struct ArrangeShipping {
    order_id: String,
    ship_to: Address,
    items: Vec<Quantity>,
}

/// The input of [`RECORD_DELIVERY`].
#[derive(Debug, Serialize)]
pub struct RecordDelivery {
    /// The order's own id.
    pub order_id: String,
    /// What the shipment is known by.
    pub shipment_id: String,
    /// When the parcel arrived.
    pub delivered_at_ms: u64,
}

/// The input of [`CANCEL_ORDER`].
#[derive(Debug, Serialize)]
pub struct CancelOrder {
    order_id: String,
    reason: String,
}

/// The input of every undo.
#[derive(Debug, Serialize)]
pub struct Undo {
    order_id: String,
    /// The idempotency key of the step to undo.
    step_key: Uuid,
}

/// How many of an article; the price is nobody's business in the warehouse.
#[derive(Debug, Serialize)]
pub struct Quantity {
    sku: String,
    quantity: u32,
}

/// The result of [`VALIDATE_ORDER`].
#[derive(Debug, Deserialize)]
pub struct ValidOrder {
    /// What the order costs.
    pub amount_cents: i64,
}

/// The result of [`RESERVE_INVENTORY`].
#[derive(Debug, Deserialize)]
pub struct Reservation {
    /// What the reservation is known by.
    pub reservation_id: String,
}

/// The result of [`PROCESS_PAYMENT`].
#[derive(Debug, Deserialize)]
pub struct Payment {
    /// What the payment is known by.
    pub payment_id: String,
}

/// The result of [`UPDATE_INVENTORY`].
#[derive(Debug, Deserialize)]
pub struct InventoryUpdated {}

/// The result of [`ARRANGE_SHIPPING`].
#[derive(Debug, Deserialize)]
pub struct Shipment {
    /// What the shipment is known by.
    pub shipment_id: String,
    /// What the customer follows it by.
    pub tracking_number: String,
}

/// The result of [`RELEASE_RESERVATION`].
#[derive(Debug, Deserialize)]
pub struct ReservationReleased {
    /// Whether there was one.
    pub released: bool,
}

/// The result of [`REFUND_PAYMENT`].
#[derive(Debug, Deserialize)]
pub struct PaymentRefunded {
    /// How much went back.
    pub refunded_cents: i64,
}

/// The result of [`RESTOCK_INVENTORY`].
#[derive(Debug, Deserialize)]
pub struct InventoryRestocked {
    /// Whether anything had been taken out.
    pub restocked: bool,
}

/// The result of [`CANCEL_SHIPMENT`].
#[derive(Debug, Deserialize)]
pub struct ShipmentCanceled {
    /// Whether there was one.
    pub canceled: bool,
}

/// The result of [`RECORD_DELIVERY`].
#[derive(Debug, Deserialize)]
pub struct DeliveryRecorded {}

/// The result of [`CANCEL_ORDER`].
#[derive(Debug, Deserialize)]
pub struct OrderCanceled {
    /// Whether it was still there to be cancelled.
    pub canceled: bool,
}

impl Order {
    /// Asks for the order's goods.
    #[must_use]
    pub fn reserve(&self) -> ReserveInventory {
        ReserveInventory { order_id: self.order_id.clone(), items: self.quantities() }
    }

    /// Asks for its price.
    #[must_use]
    pub fn charge(&self, amount_cents: i64) -> ProcessPayment {
        ProcessPayment {
            order_id: self.order_id.clone(),
            amount_cents,
            currency: self.currency.clone(),
            payment_token: self.payment_token.clone(),
        }
    }

    /// Asks for what is reserved to be taken out of the stock.
    #[must_use]
    pub fn take(&self, reservation: &Reservation) -> UpdateInventory {
        UpdateInventory::Reserved {
            order_id: self.order_id.clone(),
            reservation_id: reservation.reservation_id.clone(),
        }
    }

    /// Asks for its goods to be taken out of the stock, where nothing is reserved.
    #[must_use]
    pub fn take_unreserved(&self) -> UpdateInventory {
        UpdateInventory::Unreserved { order_id: self.order_id.clone(), items: self.quantities() }
    }

    /// Asks for its goods to be sent.
    #[must_use]
    pub fn ship(&self) -> ArrangeShipping {
        ArrangeShipping {
            order_id: self.order_id.clone(),
            ship_to: self.ship_to.clone(),
            items: self.quantities(),
        }
    }

    /// Asks for the step with that key to be undone.
    #[must_use]
    pub fn undo(&self, step_key: Uuid) -> Undo {
        Undo { order_id: self.order_id.clone(), step_key }
    }

    /// Asks for it to be closed.
    #[must_use]
    pub fn cancel(&self, reason: &str) -> CancelOrder {
        CancelOrder { order_id: self.order_id.clone(), reason: reason.to_owned() }
    }

    fn quantities(&self) -> Vec<Quantity> {
        let quantity = |item: &Item| Quantity { sku: item.sku.clone(), quantity: item.quantity };
        self.items.iter().map(quantity).collect()
    }
}
