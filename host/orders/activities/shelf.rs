//! Goods that leave the shelf, and come back to it.

use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::failure::Failure;
use everfold_core::ids::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::UndoInput;
use super::stock::{Hold, Shelf, move_stock, reservation, set_state, take, total_by_sku};
use crate::activity::{Activity, ActivityContext};
use crate::orders::Shop;
use crate::orders::order::Quantity;
use crate::orders::steps::{Found, Step, StepError};

/// The reservation is not this order's, or not held. Final.
const RESERVATION_NOT_HELD: &str = "ReservationNotHeld";

/// `update-inventory`: an order's goods leave the shelf.
pub(in crate::orders) struct UpdateInventory(pub(super) Arc<Shop>);

#[derive(Debug, Deserialize)]
pub(in crate::orders) struct UpdateInput {
    order_id: String,
    #[serde(flatten)]
    goods: Goods,
}

/// Which goods.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`reservation_id` or `items` must say which goods leave the shelf")]
enum Goods {
    /// Those of a reservation.
    Reserved { reservation_id: String },
    /// These, which nobody reserved.
    Listed { items: Vec<Quantity> },
}

/// `{}`.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Updated {}

#[async_trait]
impl Activity for UpdateInventory {
    const TYPE: &'static str = "update-inventory";
    type Input = UpdateInput;
    type Output = Updated;

    async fn run(&self, context: &ActivityContext, input: UpdateInput) -> Result<Updated, Failure> {
        Ok(update(&self.0, &context.info().idempotency_key, &input).await?)
    }
}

async fn update(shop: &Shop, key: &str, input: &UpdateInput) -> Result<Updated, StepError> {
    let step = Step { activity_type: UpdateInventory::TYPE, key, order_id: &input.order_id };
    let mut write = shop.database.write().await?;
    if let Some(updated) = step.result(&mut write).await? {
        return Ok(updated);
    }
    let now = shop.clock.now();
    let reservation_id = match &input.goods {
        Goods::Reserved { reservation_id } => {
            consume(&mut write, reservation_id, &input.order_id, now).await?;
            reservation_id.clone()
        }
        Goods::Listed { items } => {
            let reservation_id = shop.clock.new_uuid().to_string();
            let wanted = total_by_sku(items)?;
            take(&mut write, (&reservation_id, &input.order_id), Hold::Direct, wanted, now).await?;
            reservation_id
        }
    };
    step.record(&mut write, &reservation_id, &Updated {}, now).await?;
    write.commit().await?;
    Ok(Updated {})
}

/// Takes what an order has reserved.
async fn consume(
    connection: &mut SqliteConnection,
    id: &str,
    order_id: &str,
    now: Timestamp,
) -> Result<(), StepError> {
    let why_not = match reservation(connection, id).await? {
        Some(found) if found.order_id != order_id => {
            format!("reservation {id} is not that of order {order_id}")
        }
        Some(found) if found.state == "held" => {
            move_stock(connection, id, Shelf { on_hand: -1, reserved: -1 }).await?;
            return Ok(set_state(connection, id, "consumed", now).await?);
        }
        Some(found) => format!("reservation {id} is {}", found.state),
        None => format!("there is no reservation {id}"),
    };
    Err(Failure::non_retryable(RESERVATION_NOT_HELD, why_not).into())
}

/// `restock-inventory`: the undo of `update-inventory`.
pub(in crate::orders) struct RestockInventory(pub(super) Arc<Shop>);

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Restocked {
    restocked: bool,
}

#[async_trait]
impl Activity for RestockInventory {
    const TYPE: &'static str = "restock-inventory";
    type Input = UndoInput;
    type Output = Restocked;

    async fn run(&self, _: &ActivityContext, input: UndoInput) -> Result<Restocked, Failure> {
        Ok(restock(&self.0, &input).await?)
    }
}

async fn restock(shop: &Shop, input: &UndoInput) -> Result<Restocked, StepError> {
    let step = Step { activity_type: UpdateInventory::TYPE, key: &input.step_key, order_id: &input.order_id };
    let mut write = shop.database.write().await?;
    let now = shop.clock.now();
    let restocked = match step.find(&mut write).await? {
        Found::TakenBack(restocked) => return Ok(restocked),
        Found::Nothing => false,
        Found::Done { subject: id } => {
            let found = reservation(&mut write, &id).await?;
            if let Some(found) = &found {
                let (by, state) = found.restocked();
                move_stock(&mut write, &id, by).await?;
                set_state(&mut write, &id, state, now).await?;
            }
            found.is_some()
        }
    };
    step.record_undo(&mut write, &Restocked { restocked }, now).await?;
    write.commit().await?;
    Ok(Restocked { restocked })
}
