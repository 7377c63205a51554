//! Stock: reserving it, taking it off the shelf, and both taken back.
//!
//! ```text
//!           reserve            update-inventory
//! (nothing) ───────▶ held ────────────────────────▶ consumed
//!                     │  ◀────────────────────────
//!                     │         restock
//!                     │ release
//!                     ▼
//!                  released
//! ```
//!
//! `held` counts in `reserved`; `consumed` has left `on_hand` and `reserved` both.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::failure::Failure;
use everfold_core::ids::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::UndoInput;
use crate::activity::{Activity, ActivityContext};
use crate::orders::Shop;
use crate::orders::order::Quantity;
use crate::orders::steps::{Found, Step, StepError};

/// Unknown goods, or none. Final.
const INVALID_ORDER: &str = "InvalidOrderError";
/// Fewer in stock than asked for. Final.
const OUT_OF_STOCK: &str = "OutOfStock";
/// The reservation is not this order's, or not held. Final.
const RESERVATION_NOT_HELD: &str = "ReservationNotHeld";
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
    sqlx::query(
        "INSERT INTO reservations (reservation_id, order_id, state, updated_at) VALUES (?, ?, 'held', ?)",
    )
    .bind(&reservation_id)
    .bind(&input.order_id)
    .bind(now.0)
    .execute(&mut *write)
    .await?;
    for (sku, quantity) in wanted {
        reserve_one(&mut write, &reservation_id, sku, quantity).await?;
    }
    let reserved = Reserved { reservation_id };
    step.record(&mut write, &reserved.reservation_id, &reserved, now).await?;
    write.commit().await?;
    Ok(reserved)
}

/// A sum over lines of one SKU; ordered, so that two orders name the same missing goods first.
#[allow(clippy::result_large_err, reason = "a failure is an activity's answer; it is made once an attempt")]
fn total_by_sku(items: &[Quantity]) -> Result<BTreeMap<&str, i64>, Failure> {
    let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
    for Quantity { sku, quantity } in items {
        if *quantity == 0 {
            return Err(Failure::non_retryable(INVALID_ORDER, format!("the quantity of {sku} is 0")));
        }
        let sum = wanted.entry(sku).or_default();
        *sum = sum.saturating_add(i64::from(*quantity));
    }
    if wanted.is_empty() {
        return Err(Failure::non_retryable(INVALID_ORDER, "the order has no items"));
    }
    Ok(wanted)
}

async fn reserve_one(
    connection: &mut SqliteConnection,
    reservation_id: &str,
    sku: &str,
    quantity: i64,
) -> Result<(), StepError> {
    let changed = sqlx::query(
        "UPDATE inventory SET reserved = reserved + ?1 WHERE sku = ?2 AND on_hand - reserved >= ?1",
    )
    .bind(quantity)
    .bind(sku)
    .execute(&mut *connection)
    .await?;
    if changed.rows_affected() == 0 {
        let available: Option<i64> =
            sqlx::query_scalar("SELECT on_hand - reserved FROM inventory WHERE sku = ?")
                .bind(sku)
                .fetch_optional(connection)
                .await?;
        return Err(match available {
            None => Failure::non_retryable(INVALID_ORDER, format!("there is no `{sku}` in the catalogue")),
            Some(available) => Failure::non_retryable(
                OUT_OF_STOCK,
                format!("{quantity} of `{sku}` were asked for, {available} are available"),
            ),
        }
        .into());
    }
    sqlx::query("INSERT INTO reservation_items (reservation_id, sku, quantity) VALUES (?, ?, ?)")
        .bind(reservation_id)
        .bind(sku)
        .bind(quantity)
        .execute(connection)
        .await?;
    Ok(())
}

/// `update-inventory`: the reserved goods leave the shelf.
pub(in crate::orders) struct UpdateInventory(pub(super) Arc<Shop>);

#[derive(Debug, Deserialize)]
pub(in crate::orders) struct UpdateInput {
    order_id: String,
    reservation_id: String,
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
    let id = &input.reservation_id;
    match reservation(&mut write, id).await? {
        Some((order_id, state)) if order_id == input.order_id && state == "held" => {}
        Some((order_id, _)) if order_id != input.order_id => {
            let message = format!("reservation {id} is not that of order {}", input.order_id);
            return Err(Failure::non_retryable(RESERVATION_NOT_HELD, message).into());
        }
        Some((_, state)) => {
            let message = format!("reservation {id} is {state}");
            return Err(Failure::non_retryable(RESERVATION_NOT_HELD, message).into());
        }
        None => {
            let message = format!("there is no reservation {id}");
            return Err(Failure::non_retryable(RESERVATION_NOT_HELD, message).into());
        }
    }
    let now = shop.clock.now();
    move_stock(&mut write, id, Shelf { on_hand: -1, reserved: -1 }).await?;
    set_state(&mut write, id, "consumed", now).await?;
    step.record(&mut write, id, &Updated {}, now).await?;
    write.commit().await?;
    Ok(Updated {})
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
            if let Some((_, state)) = reservation(&mut write, &id).await?
                && state == "consumed"
            {
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
            move_stock(&mut write, &id, Shelf { on_hand: 1, reserved: 1 }).await?;
            set_state(&mut write, &id, "held", now).await?;
            true
        }
    };
    step.record_undo(&mut write, &Restocked { restocked }, now).await?;
    write.commit().await?;
    Ok(Restocked { restocked })
}

/// By how many times the reservation's quantities the two figures change.
struct Shelf {
    on_hand: i64,
    reserved: i64,
}

async fn move_stock(
    connection: &mut SqliteConnection,
    reservation_id: &str,
    by: Shelf,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE inventory SET on_hand = on_hand + ?1 * items.quantity, reserved = reserved + ?2 * items.quantity \
         FROM reservation_items AS items WHERE items.sku = inventory.sku AND items.reservation_id = ?3",
    )
    .bind(by.on_hand)
    .bind(by.reserved)
    .bind(reservation_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// A reservation's order and state.
async fn reservation(
    connection: &mut SqliteConnection,
    reservation_id: &str,
) -> Result<Option<(String, String)>, sqlx::Error> {
    sqlx::query_as("SELECT order_id, state FROM reservations WHERE reservation_id = ?")
        .bind(reservation_id)
        .fetch_optional(connection)
        .await
}

async fn set_state(
    connection: &mut SqliteConnection,
    reservation_id: &str,
    state: &'static str,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE reservations SET state = ?, updated_at = ? WHERE reservation_id = ?")
        .bind(state)
        .bind(now.0)
        .bind(reservation_id)
        .execute(connection)
        .await?;
    Ok(())
}
