//! Shipments that the sandbox's carrier has taken and not confirmed yet.
//!
//! ```text
//!            its time has come
//! pending ───────────────────────▶ confirmed     a shipment, as any other
//!    │
//!    └─────▶ canceled     called off: there never is a shipment
//! ```
//!
//! A booking is confirmed when its time has come, whether anybody asks again or not: whoever reads or
//! writes the books confirms what is due first.

use everfold_core::ids::Timestamp;
use sqlx::SqliteConnection;

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Booking {
    pub(super) step_key: String,
    pub(super) order_id: String,
    pub(super) confirms_at: i64,
}

/// The bookings to confirm now, the earliest first; they count as confirmed from here on.
pub(super) async fn take_due(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<Vec<Booking>, sqlx::Error> {
    let due: Vec<Booking> = sqlx::query_as(
        "SELECT step_key, order_id, confirms_at FROM bookings WHERE state = 'pending' AND confirms_at <= ? \
         ORDER BY confirms_at, step_key",
    )
    .bind(now.0)
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query("UPDATE bookings SET state = 'confirmed' WHERE state = 'pending' AND confirms_at <= ?")
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(due)
}

/// Whether any booking is to be confirmed now; asked without the right to write.
pub(super) async fn any_due(pool: &sqlx::SqlitePool, now: Timestamp) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM bookings WHERE state = 'pending' AND confirms_at <= ?)")
        .bind(now.0)
        .fetch_one(pool)
        .await
}

/// Takes a booking, or keeps the one that is there.
pub(super) async fn book(connection: &mut SqliteConnection, booking: &Booking) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO bookings (step_key, order_id, state, confirms_at) VALUES (?, ?, 'pending', ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(&booking.step_key)
    .bind(&booking.order_id)
    .bind(booking.confirms_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Calls a pending booking off; false if there is none, true also if it was called off before.
pub(super) async fn call_off(connection: &mut SqliteConnection, step_key: &str) -> Result<bool, sqlx::Error> {
    let found =
        sqlx::query("UPDATE bookings SET state = 'canceled' WHERE step_key = ? AND state <> 'confirmed'")
            .bind(step_key)
            .execute(connection)
            .await?;
    Ok(found.rows_affected() > 0)
}
