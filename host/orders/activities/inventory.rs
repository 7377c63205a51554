//! Stock set aside for an order, and set free again. Taking it off the shelf is
//! [`shelf`](super::shelf)'s.

use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::failure::Failure;
use serde::{Deserialize, Serialize};

use super::UndoInput;
use super::stock::{Hold, Shelf, move_stock, reservation, set_state, take, total_by_sku};
use crate::activity::{Activity, ActivityContext};
use crate::orders::Shop;
use crate::orders::order::Quantity;
use crate::orders::steps::{Found, Step, StepError};

/// The goods have left the shelf: they must be restocked first. Tried again.
const RESERVATION_CONSUMED: &str = "ReservationConsumed";

/// `reserve-inventory`.
pub(in crate::orders) struct ReserveInventory(pub(super) Arc<Shop>);

#[derive(Debug, Deserialize)]
pub(in crate::orders) struct ReserveInput {
    order_id: String,
    items: Vec<Quantity>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Reserved {
    reservation_id: String,
}

#[async_trait]
impl Activity for ReserveInventory {
    const TYPE: &'static str = "reserve-inventory";
    type Input = ReserveInput;
    type Output = Reserved;

    async fn run(&self, context: &ActivityContext, input: ReserveInput) -> Result<Reserved, Failure> {
        Ok(reserve(&self.0, &context.info().idempotency_key, &input).await?)
    }
}

async fn reserve(shop: &Shop, key: &str, input: &ReserveInput) -> Result<Reserved, StepError> {
    let wanted = total_by_sku(&input.items)?;
    let step = Step { activity_type: ReserveInventory::TYPE, key, order_id: &input.order_id };
    let mut write = shop.database.write().await?;
    if let Some(reserved) = step.result(&mut write).await? {
        return Ok(reserved);
    }
    let now = shop.clock.now();
    let reservation_id = shop.clock.new_uuid().to_string();
    take(&mut write, (&reservation_id, &input.order_id), Hold::Reserved, wanted, now).await?;
    let reserved = Reserved { reservation_id };
    step.record(&mut write, &reserved.reservation_id, &reserved, now).await?;
    write.commit().await?;
    Ok(reserved)
}

/// `release-inventory-reservation`: the undo of `reserve-inventory`.
pub(in crate::orders) struct ReleaseInventoryReservation(pub(super) Arc<Shop>);

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Released {
    released: bool,
}

#[async_trait]
impl Activity for ReleaseInventoryReservation {
    const TYPE: &'static str = "release-inventory-reservation";
    type Input = UndoInput;
    type Output = Released;

    async fn run(&self, _: &ActivityContext, input: UndoInput) -> Result<Released, Failure> {
        Ok(release(&self.0, &input).await?)
    }
}

async fn release(shop: &Shop, input: &UndoInput) -> Result<Released, StepError> {
    let step =
        Step { activity_type: ReserveInventory::TYPE, key: &input.step_key, order_id: &input.order_id };
    let mut write = shop.database.write().await?;
    let now = shop.clock.now();
    let released = match step.find(&mut write).await? {
        Found::TakenBack(released) => return Ok(released),
        Found::Nothing => false,
        Found::Done { subject: id } => {
            if reservation(&mut write, &id).await?.is_some_and(|found| found.state == "consumed") {
                let message =
                    format!("the goods of reservation {id} must be restocked before it is released");
                return Err(Failure::application(RESERVATION_CONSUMED, message).into());
            }
            move_stock(&mut write, &id, Shelf { on_hand: 0, reserved: -1 }).await?;
            set_state(&mut write, &id, "released", now).await?;
            true
        }
    };
    step.record_undo(&mut write, &Released { released }, now).await?;
    write.commit().await?;
    Ok(Released { released })
}
