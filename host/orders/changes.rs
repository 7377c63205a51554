//! What changes an order after it was placed: a new address, until its shipping begins; its delivery.
//!
//! Whether shipping has begun is decided in one transaction with fixing where the order goes, so that
//! a change is either what the carrier is told or is refused.

use everfold_core::ids::Timestamp;
use sqlx::SqliteConnection;

use super::Shop;
use super::order::ShipTo;
use super::steps::StepError;

/// A change that a customer asks for. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) name: Option<String>,
    pub(super) country: Option<String>,
    pub(super) postcode: Option<String>,
    /// The same id as the last change's is that change.
    pub(super) request_id: Option<String>,
}

/// Which state of the order a change is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Whatever it is.
    Any,
    /// One of these.
    Versions(Vec<i64>),
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// It is made, now or by the same request before.
    Done,
    /// Somebody else changed the order meanwhile.
    Stale,
    /// Its shipping has begun.
    Shipped,
    /// It was canceled.
    Closed,
    /// It has no row.
    Missing,
}

#[derive(sqlx::FromRow)]
struct Standing {
    version: i64,
    changed_by: Option<String>,
    is_shipping: bool,
    is_canceled: bool,
}

impl Shop {
    /// Changes an order. Of two changes meant for one version exactly one is made.
    pub(super) async fn change(
        &self,
        order_id: &str,
        change: &Change,
        expected: &Expected,
    ) -> Result<Changed, StepError> {
        let mut write = self.database.write().await?;
        let standing: Option<Standing> = sqlx::query_as(
            "SELECT version, changed_by, \
             EXISTS (SELECT 1 FROM destinations WHERE order_id = ?1) AS is_shipping, \
             EXISTS (SELECT 1 FROM cancellations WHERE order_id = ?1) AS is_canceled \
             FROM orders WHERE order_id = ?1",
        )
        .bind(order_id)
        .fetch_optional(&mut *write)
        .await?;
        let Some(standing) = standing else { return Ok(Changed::Missing) };
        if change.request_id.is_some() && change.request_id == standing.changed_by {
            return Ok(Changed::Done);
        }
        if standing.is_canceled {
            return Ok(Changed::Closed);
        }
        if standing.is_shipping {
            return Ok(Changed::Shipped);
        }
        match expected {
            Expected::Versions(versions) if !versions.contains(&standing.version) => {
                return Ok(Changed::Stale);
            }
            Expected::Versions(_) | Expected::Any => {}
        }
        sqlx::query(
            "UPDATE orders SET ship_to_name = coalesce(?, ship_to_name), \
             ship_to_country = coalesce(?, ship_to_country), ship_to_postcode = coalesce(?, ship_to_postcode), \
             version = version + 1, changed_by = ? WHERE order_id = ?",
        )
        .bind(&change.name)
        .bind(&change.country)
        .bind(&change.postcode)
        .bind(&change.request_id)
        .bind(order_id)
        .execute(&mut *write)
        .await?;
        write.commit().await?;
        Ok(Changed::Done)
    }

    /// Where an order goes, from now on unchangeable: what its row says, or `ordered` if it has none yet.
    pub(super) async fn fix_destination(
        &self,
        order_id: &str,
        ordered: &ShipTo,
    ) -> Result<ShipTo, StepError> {
        let mut write = self.database.write().await?;
        sqlx::query(
            "INSERT INTO destinations (order_id, name, country, postcode, fixed_at) \
             SELECT ?1, coalesce(ship_to_name, ?2), coalesce(ship_to_country, ?3), \
             coalesce(ship_to_postcode, ?4), ?5 FROM (SELECT 1) LEFT JOIN orders ON order_id = ?1 \
             WHERE true ON CONFLICT DO NOTHING",
        )
        .bind(order_id)
        .bind(&ordered.name)
        .bind(&ordered.country)
        .bind(&ordered.postcode)
        .bind(self.clock.now().0)
        .execute(&mut *write)
        .await?;
        let fixed = sqlx::query_as("SELECT name, country, postcode FROM destinations WHERE order_id = ?")
            .bind(order_id)
            .fetch_one(&mut *write)
            .await?;
        write.commit().await?;
        Ok(fixed)
    }
}

/// An order's parcel that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) order_id: &'a str,
    pub(super) shipment_id: &'a str,
    pub(super) delivered_at: Timestamp,
}

/// Records that a parcel arrived; false if the order has no such parcel under way. Said twice, by
/// whomever: it arrived when it was first said to.
pub(super) async fn deliver(
    connection: &mut SqliteConnection,
    arrival: Arrival<'_>,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let found = sqlx::query(
        "UPDATE shipments SET state = 'delivered', delivered_at = coalesce(delivered_at, ?), updated_at = ? \
         WHERE shipment_id = ? AND order_id = ? AND state <> 'canceled'",
    )
    .bind(arrival.delivered_at.0)
    .bind(now.0)
    .bind(arrival.shipment_id)
    .bind(arrival.order_id)
    .execute(connection)
    .await?;
    Ok(found.rows_affected() > 0)
}
