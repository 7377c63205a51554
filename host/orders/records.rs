//! The rows of orders: what was ordered, and what has come of it so far.

use everfold_core::ids::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

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
    /// Counts its changes, from 1.
    pub(super) version: i64,
}

/// What the steps have left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) payment: Option<Payment>,
    pub(super) shipment: Option<Shipment>,
    pub(super) cancellation: Option<Cancellation>,
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
    pub(super) delivered_at: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Cancellation {
    pub(super) reason: String,
}

/// Which orders to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) customer_id: Option<i64>,
    /// Placed then or later.
    pub(super) created_after: Option<Timestamp>,
    /// Placed before.
    pub(super) created_before: Option<Timestamp>,
}

/// A place in the list of orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) created_at: Timestamp,
    pub(super) order_id: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    order_id: String,
    customer_id: i64,
    items: String,
    currency: String,
    amount_cents: i64,
    ship_to_name: String,
    ship_to_country: String,
    ship_to_postcode: String,
    created_at: i64,
    version: i64,
}

impl Row {
    fn record(self) -> Result<Record, StepError> {
        Ok(Record {
            order_id: self.order_id,
            customer_id: self.customer_id,
            items: serde_json::from_str(&self.items)?,
            currency: self.currency,
            amount_cents: self.amount_cents,
            ship_to: ShipTo {
                name: self.ship_to_name,
                country: self.ship_to_country,
                postcode: self.ship_to_postcode,
            },
            created_at: Timestamp(self.created_at),
            version: self.version,
        })
    }
}

impl Record {
    /// Its place in the list.
    pub(super) fn position(&self) -> Position {
        Position { created_at: self.created_at, order_id: self.order_id.clone() }
    }

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
            version: 1,
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
        let row: Option<Row> = sqlx::query_as("SELECT * FROM orders WHERE order_id = ?")
            .bind(order_id)
            .fetch_optional(&mut *read)
            .await?;
        let progress = progress(&mut read, order_id).await?;
        Ok((row.map(Row::record).transpose()?, progress))
    }

    /// The orders that match, newest first, behind `after`; at most `limit`.
    pub(super) async fn orders(
        &self,
        filter: &Filter,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Vec<Record>, StepError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM orders WHERE true");
        if let Some(customer_id) = filter.customer_id {
            query.push(" AND customer_id = ").push_bind(customer_id);
        }
        if let Some(from) = filter.created_after {
            query.push(" AND created_at >= ").push_bind(from.0);
        }
        if let Some(before) = filter.created_before {
            query.push(" AND created_at < ").push_bind(before.0);
        }
        if let Some(Position { created_at, order_id }) = after {
            query.push(" AND (created_at, order_id) < (").push_bind(created_at.0);
            query.push(", ").push_bind(order_id.clone()).push(")");
        }
        query.push(" ORDER BY created_at DESC, order_id DESC LIMIT ");
        query.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows: Vec<Row> = query.build_query_as().fetch_all(self.database.readers()).await?;
        rows.into_iter().map(Row::record).collect()
    }

    /// What has come of an order.
    pub(super) async fn progress(&self, order_id: &str) -> Result<Progress, StepError> {
        let mut read = self.database.readers().begin().await?;
        Ok(progress(&mut read, order_id).await?)
    }

    /// When the newest order was placed that has a row.
    pub(super) async fn newest_order(&self) -> Result<Option<Timestamp>, StepError> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT max(created_at) FROM orders")
            .fetch_one(self.database.readers())
            .await?;
        Ok(newest.map(Timestamp))
    }

    /// Whether an order has a row.
    pub(super) async fn has_row(&self, order_id: &str) -> Result<bool, StepError> {
        let found = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM orders WHERE order_id = ?)")
            .bind(order_id)
            .fetch_one(self.database.readers())
            .await?;
        Ok(found)
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
        "SELECT shipment_id, tracking_number, state, delivered_at FROM shipments WHERE order_id = ? \
         ORDER BY updated_at DESC LIMIT 1",
    )
    .bind(order_id)
    .fetch_optional(&mut *connection)
    .await?;
    let cancellation = sqlx::query_as("SELECT reason FROM cancellations WHERE order_id = ?")
        .bind(order_id)
        .fetch_optional(connection)
        .await?;
    Ok(Progress { payment, shipment, cancellation })
}
