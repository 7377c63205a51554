//! Reservations and the shelf in SQL: what the inventory's activities share.
//!
//! ```text
//!           reserve            update-inventory
//! (nothing) ───────▶ held ────────────────────────▶ consumed
//!     │               │  ◀────────────────────────     ▲ │
//!     │               │         restock                │ │ restock
//!     │               │ release                        │ │ (direct)
//!     │               ▼                                │ ▼
//!     │            released               update-inventory, direct
//!     └────────────────────────────────────────────────┘
//! ```
//!
//! `held` counts in `reserved`; `consumed` has left `on_hand` and `reserved` both. Goods that were taken
//! without a reservation before (`direct`) are `released` when they are restocked.

use std::collections::BTreeMap;

use everfold_core::failure::Failure;
use everfold_core::ids::Timestamp;
use sqlx::SqliteConnection;

use crate::orders::order::Quantity;
use crate::orders::steps::StepError;

/// Unknown goods, or none. Final.
const INVALID_ORDER: &str = "InvalidOrderError";
/// Fewer in stock than asked for. Final.
const OUT_OF_STOCK: &str = "OutOfStock";

/// How goods are taken for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Set aside, to leave the shelf later.
    Reserved,
    /// Off the shelf at once.
    Direct,
}

impl Hold {
    const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Direct => "direct",
        }
    }

    const fn first_state(self) -> &'static str {
        match self {
            Self::Reserved => "held",
            Self::Direct => "consumed",
        }
    }

    /// Neither sells what is set aside for another order.
    const fn sql(self) -> &'static str {
        match self {
            Self::Reserved => {
                "UPDATE inventory SET reserved = reserved + ?1 WHERE sku = ?2 AND on_hand - reserved >= ?1"
            }
            Self::Direct => {
                "UPDATE inventory SET on_hand = on_hand - ?1 WHERE sku = ?2 AND on_hand - reserved >= ?1"
            }
        }
    }
}

/// A reservation's row.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Reservation {
    pub(super) order_id: String,
    pub(super) state: String,
    kind: String,
}

impl Reservation {
    /// Where its goods go when they are restocked, and its state then.
    pub(super) fn restocked(&self) -> (Shelf, &'static str) {
        if self.kind == Hold::Direct.name() {
            (Shelf { on_hand: 1, reserved: 0 }, "released")
        } else {
            (Shelf { on_hand: 1, reserved: 1 }, "held")
        }
    }
}

/// A sum over lines of one SKU; ordered, so that two orders name the same missing goods first.
#[allow(clippy::result_large_err, reason = "a failure is an activity's answer; it is made once an attempt")]
pub(super) fn total_by_sku(items: &[Quantity]) -> Result<BTreeMap<&str, i64>, Failure> {
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

/// Takes all that is wanted, under a new reservation.
///
/// # Errors
/// `OutOfStock` or `InvalidOrderError`: the caller drops the transaction, so that nothing is taken.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    (reservation_id, order_id): (&str, &str),
    hold: Hold,
    wanted: BTreeMap<&str, i64>,
    now: Timestamp,
) -> Result<(), StepError> {
    sqlx::query(
        "INSERT INTO reservations (reservation_id, order_id, state, kind, updated_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(reservation_id)
    .bind(order_id)
    .bind(hold.first_state())
    .bind(hold.name())
    .bind(now.0)
    .execute(&mut *connection)
    .await?;
    for (sku, quantity) in wanted {
        let taken = sqlx::query(hold.sql()).bind(quantity).bind(sku).execute(&mut *connection).await?;
        if taken.rows_affected() == 0 {
            return Err(missing(connection, sku, quantity).await?.into());
        }
        sqlx::query("INSERT INTO reservation_items (reservation_id, sku, quantity) VALUES (?, ?, ?)")
            .bind(reservation_id)
            .bind(sku)
            .bind(quantity)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Why so many of it cannot be had.
async fn missing(connection: &mut SqliteConnection, sku: &str, quantity: i64) -> Result<Failure, StepError> {
    let available: Option<i64> = sqlx::query_scalar("SELECT on_hand - reserved FROM inventory WHERE sku = ?")
        .bind(sku)
        .fetch_optional(connection)
        .await?;
    Ok(match available {
        None => Failure::non_retryable(INVALID_ORDER, format!("there is no `{sku}` in the catalogue")),
        Some(available) => Failure::non_retryable(
            OUT_OF_STOCK,
            format!("{quantity} of `{sku}` were asked for, {available} are available"),
        ),
    })
}

/// By how many times the reservation's quantities the two figures change.
pub(super) struct Shelf {
    pub(super) on_hand: i64,
    pub(super) reserved: i64,
}

pub(super) async fn move_stock(
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

pub(super) async fn reservation(
    connection: &mut SqliteConnection,
    reservation_id: &str,
) -> Result<Option<Reservation>, sqlx::Error> {
    sqlx::query_as("SELECT order_id, state, kind FROM reservations WHERE reservation_id = ?")
        .bind(reservation_id)
        .fetch_optional(connection)
        .await
}

pub(super) async fn set_state(
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
