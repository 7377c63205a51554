//! The rows of orders: what was ordered, and what has come of it so far.

use everfold_core::ids::Timestamp;
use sqlx::SqliteConnection;

use super::Shop;
use super::order::{Item, Order, ShipTo, amount_cents, workflow_id};
use super::steps::StepError;

/// An order as it was placed. The payment token is not kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) order_id: String,
    pub(super) customer_id: i64,
    pub(super) items: Vec<Item>,
    pub(super) currency: String,
    pub(super) amount_cents: i64,
    pub(super) ship_to: ShipTo,
    pub(super) created_at: Timestamp,
}

/// What the steps have left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) payment: Option<Payment>,
    pub(super) shipment: Option<Shipment>,
}

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Payment {
    pub(super) payment_id: String,
    pub(super) state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Shipment {
    pub(super) shipment_id: String,
    pub(super) tracking_number: String,
    pub(super) state: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    customer_id: i64,
    items: String,
    currency: String,
    amount_cents: i64,
    ship_to_name: String,
    ship_to_country: String,
    ship_to_postcode: String,
    created_at: i64,
}

impl Record {
    /// The record of an order that was placed at `created_at`.
    pub(super) fn of(order: Order, created_at: Timestamp) -> Self {
        Self {
            // An order whose amount does not fit was refused when it was placed.
            amount_cents: amount_cents(&order.items).unwrap_or(super::order::MAX_AMOUNT_CENTS),
            order_id: order.order_id,
            customer_id: order.customer_id,
            items: order.items,
            currency: order.currency,
            ship_to: order.ship_to,
            created_at,
        }
    }
}

impl Shop {
    /// Writes an order's row, or keeps the one that is there.
    pub(super) async fn keep(&self, record: &Record) -> Result<(), StepError> {
        let items = serde_json::to_string(&record.items)?;
        let mut write = self.database.write().await?;
        sqlx::query(
            "INSERT INTO orders (order_id, workflow_id, customer_id, items, currency, amount_cents, \
             ship_to_name, ship_to_country, ship_to_postcode, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&record.order_id)
        .bind(workflow_id(&record.order_id).0)
        .bind(record.customer_id)
        .bind(items)
        .bind(&record.currency)
        .bind(record.amount_cents)
        .bind(&record.ship_to.name)
        .bind(&record.ship_to.country)
        .bind(&record.ship_to.postcode)
        .bind(record.created_at.0)
        .execute(&mut *write)
        .await?;
        write.commit().await?;
        Ok(())
    }

    /// An order's row and what has come of it, as of one moment.
    pub(super) async fn order(&self, order_id: &str) -> Result<(Option<Record>, Progress), StepError> {
        let mut read = self.database.readers().begin().await?;
        let row: Option<Row> = sqlx::query_as(
            "SELECT customer_id, items, currency, amount_cents, ship_to_name, ship_to_country, \
             ship_to_postcode, created_at FROM orders WHERE order_id = ?",
        )
        .bind(order_id)
        .fetch_optional(&mut *read)
        .await?;
        let progress = progress(&mut read, order_id).await?;
        let Some(row) = row else { return Ok((None, progress)) };
        let record = Record {
            order_id: order_id.to_owned(),
            customer_id: row.customer_id,
            items: serde_json::from_str(&row.items)?,
            currency: row.currency,
            amount_cents: row.amount_cents,
            ship_to: ShipTo {
                name: row.ship_to_name,
                country: row.ship_to_country,
                postcode: row.ship_to_postcode,
            },
            created_at: Timestamp(row.created_at),
        };
        Ok((Some(record), progress))
    }
}

/// The latest payment and shipment; a run that was reset may have left more than one.
async fn progress(connection: &mut SqliteConnection, order_id: &str) -> Result<Progress, sqlx::Error> {
    let payment = sqlx::query_as(
        "SELECT payment_id, state FROM payments WHERE order_id = ? ORDER BY updated_at DESC LIMIT 1",
    )
    .bind(order_id)
    .fetch_optional(&mut *connection)
    .await?;
    let shipment = sqlx::query_as(
        "SELECT shipment_id, tracking_number, state FROM shipments WHERE order_id = ? \
         ORDER BY updated_at DESC LIMIT 1",
    )
    .bind(order_id)
    .fetch_optional(connection)
    .await?;
    Ok(Progress { payment, shipment })
}
