//! What the sandbox did, on disk: each effect once.

use std::path::Path;

use everfold_core::ids::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;
use sqlx::migrate::Migrator;
use utoipa::ToSchema;

use super::bookings::{self, Booking};
use crate::clock::Clock;
use crate::orders::database::{Database, DatabaseError};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sandbox/sqlite");

/// What can be done and taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Charge,
    Shipment,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Shipment => "shipment",
        }
    }

    const fn undo_name(self) -> &'static str {
        match self {
            Self::Charge => "refund",
            Self::Shipment => "shipment_cancellation",
        }
    }
}

/// One effect, as it can be read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SandboxEffect)]
pub(super) struct Effect {
    /// The key of the request that had it.
    pub(super) idempotency_key: String,
    pub(super) order_id: String,
    /// `charge`, `refund`, `shipment` or `shipment_cancellation`.
    pub(super) kind: String,
    /// The key of the charge or shipment that it is about: its own, or the one taken back.
    pub(super) step_key: String,
    /// The id given to it.
    pub(super) reference: String,
    /// 0 for shipments: the sandbox's carrier ships free.
    pub(super) amount_cents: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) currency: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tracking_number: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub(super) at: Timestamp,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum LedgerError {
    #[error("it was taken back before it arrived, or since")]
    Voided,
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("the ledger does not answer: {0}")]
    Database(#[from] sqlx::Error),
}

/// A charge or a shipment to be made.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) kind: Kind,
    pub(super) key: &'a str,
    pub(super) order_id: &'a str,
    pub(super) amount_cents: i64,
    pub(super) currency: Option<&'a str>,
}

/// What came of taking a step back.
#[derive(Debug)]
pub(super) enum TakenBack {
    /// Nothing of it had arrived.
    Nothing,
    /// It was booked, and is called off before it was confirmed.
    Booking,
    /// It had happened; this makes up for it.
    Effect(Effect),
}

/// The open file.
#[derive(Debug)]
pub(super) struct Ledger {
    database: Database,
    clock: Clock,
}

#[derive(sqlx::FromRow)]
struct Row {
    kind: String,
    idempotency_key: String,
    step_key: String,
    order_id: String,
    reference: String,
    tracking_number: Option<String>,
    amount_cents: i64,
    currency: Option<String>,
    at: i64,
}

impl From<Row> for Effect {
    fn from(row: Row) -> Self {
        Self {
            idempotency_key: row.idempotency_key,
            order_id: row.order_id,
            kind: row.kind,
            step_key: row.step_key,
            reference: row.reference,
            amount_cents: row.amount_cents,
            currency: row.currency,
            tracking_number: row.tracking_number,
            at: Timestamp(row.at),
        }
    }
}

impl Ledger {
    pub(super) async fn open(folder: &Path, clock: Clock) -> Result<Self, DatabaseError> {
        Ok(Self { database: Database::open(folder, "sandbox.db", &MIGRATIONS).await?, clock })
    }

    /// Makes a charge or a shipment, or finds the one made under that key before.
    pub(super) async fn perform(&self, step: Step<'_>) -> Result<Effect, LedgerError> {
        let mut write = self.database.write().await?;
        if let Some(effect) = self.performed(&mut write, &step).await? {
            write.commit().await?;
            return Ok(effect);
        }
        let effect = self.effect(&step, self.clock.now());
        insert(&mut write, &effect).await?;
        write.commit().await?;
        Ok(effect)
    }

    /// Books a shipment that is confirmed `delay_ms` after it was first asked for; absent before that.
    pub(super) async fn book(&self, step: Step<'_>, delay_ms: u64) -> Result<Option<Effect>, LedgerError> {
        let mut write = self.database.write().await?;
        let mut effect = self.performed(&mut write, &step).await?;
        if effect.is_none() {
            let booking = Booking {
                step_key: step.key.to_owned(),
                order_id: step.order_id.to_owned(),
                confirms_at: self.clock.now().plus_ms(delay_ms).0,
            };
            bookings::book(&mut write, &booking).await?;
            // One that takes no time at all.
            effect = self.performed(&mut write, &step).await?;
        }
        write.commit().await?;
        Ok(effect)
    }

    /// What was made under a step's key, now or before.
    async fn performed(
        &self,
        write: &mut SqliteConnection,
        step: &Step<'_>,
    ) -> Result<Option<Effect>, LedgerError> {
        let Step { kind, key, .. } = *step;
        self.confirm_due(write).await?;
        if is_voided(write, kind, key).await? || find(write, kind.undo_name(), key).await?.is_some() {
            return Err(LedgerError::Voided);
        }
        let effect = find(write, kind.name(), key).await?;
        let is_same = effect.as_ref().is_none_or(|effect| {
            effect.order_id == step.order_id
                && effect.amount_cents == step.amount_cents
                && effect.currency.as_deref() == step.currency
        });
        if is_same { Ok(effect) } else { Err(LedgerError::KeyReused) }
    }

    /// Makes the shipments whose time has come.
    async fn confirm_due(&self, write: &mut SqliteConnection) -> Result<(), LedgerError> {
        for Booking { step_key, order_id, confirms_at } in bookings::take_due(write, self.clock.now()).await?
        {
            let step = Step {
                kind: Kind::Shipment,
                key: &step_key,
                order_id: &order_id,
                amount_cents: 0,
                currency: None,
            };
            insert(write, &self.effect(&step, Timestamp(confirms_at))).await?;
        }
        Ok(())
    }

    fn effect(&self, step: &Step<'_>, at: Timestamp) -> Effect {
        let Step { kind, key, order_id, amount_cents, currency } = *step;
        let id = self.clock.new_uuid().simple();
        let (reference, tracking_number) = match kind {
            Kind::Charge => (format!("pay_{id}"), None),
            Kind::Shipment => (format!("shp_{id}"), Some(format!("SB{}", id.to_string().to_uppercase()))),
        };
        Effect {
            idempotency_key: key.to_owned(),
            order_id: order_id.to_owned(),
            kind: kind.name().to_owned(),
            step_key: key.to_owned(),
            reference,
            amount_cents,
            currency: currency.map(str::to_owned),
            tracking_number,
            at,
        }
    }

    /// Takes a charge or a shipment back, or finds it taken back before. Where it has not happened
    /// yet, it is refused from now on.
    pub(super) async fn take_back(
        &self,
        kind: Kind,
        step_key: &str,
        key: &str,
    ) -> Result<TakenBack, LedgerError> {
        let mut write = self.database.write().await?;
        self.confirm_due(&mut write).await?;
        if let Some(effect) = find(&mut write, kind.undo_name(), step_key).await? {
            return Ok(TakenBack::Effect(effect));
        }
        let Some(step) = find(&mut write, kind.name(), step_key).await? else {
            sqlx::query("INSERT INTO voided (kind, step_key, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(kind.name())
                .bind(step_key)
                .bind(self.clock.now().0)
                .execute(&mut *write)
                .await?;
            let is_booked = kind == Kind::Shipment && bookings::call_off(&mut write, step_key).await?;
            write.commit().await?;
            return Ok(if is_booked { TakenBack::Booking } else { TakenBack::Nothing });
        };
        let id = self.clock.new_uuid().simple();
        let effect = Effect {
            idempotency_key: key.to_owned(),
            kind: kind.undo_name().to_owned(),
            reference: match kind {
                Kind::Charge => format!("ref_{id}"),
                Kind::Shipment => format!("can_{id}"),
            },
            tracking_number: None,
            at: self.clock.now(),
            ..step
        };
        insert(&mut write, &effect).await?;
        write.commit().await?;
        Ok(TakenBack::Effect(effect))
    }

    /// Counts one more failure under a key, up to `limit`; false once they are used up.
    pub(super) async fn count_fault(&self, kind: Kind, key: &str, limit: u32) -> Result<bool, LedgerError> {
        let mut write = self.database.write().await?;
        let counted: Option<i64> = sqlx::query_scalar(
            "INSERT INTO faults (kind, step_key, count) SELECT ?1, ?2, 1 WHERE ?3 > 0 \
             ON CONFLICT (kind, step_key) DO UPDATE SET count = count + 1 WHERE count < ?3 RETURNING count",
        )
        .bind(kind.name())
        .bind(key)
        .bind(limit)
        .fetch_optional(&mut *write)
        .await?;
        write.commit().await?;
        Ok(counted.is_some())
    }

    /// All charges and refunds, or shipments and cancellations, in their order.
    pub(super) async fn effects(
        &self,
        kind: Kind,
        order_id: Option<&str>,
    ) -> Result<Vec<Effect>, LedgerError> {
        if bookings::any_due(self.database.readers(), self.clock.now()).await? {
            let mut write = self.database.write().await?;
            self.confirm_due(&mut write).await?;
            write.commit().await?;
        }
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT * FROM effects WHERE kind IN (?1, ?2) AND (?3 IS NULL OR order_id = ?3) ORDER BY sequence",
        )
        .bind(kind.name())
        .bind(kind.undo_name())
        .bind(order_id)
        .fetch_all(self.database.readers())
        .await?;
        Ok(rows.into_iter().map(Effect::from).collect())
    }
}

async fn find(
    connection: &mut SqliteConnection,
    kind: &'static str,
    step_key: &str,
) -> Result<Option<Effect>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as("SELECT * FROM effects WHERE kind = ? AND step_key = ?")
        .bind(kind)
        .bind(step_key)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(Effect::from))
}

async fn is_voided(connection: &mut SqliteConnection, kind: Kind, key: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM voided WHERE kind = ? AND step_key = ?)")
        .bind(kind.name())
        .bind(key)
        .fetch_one(connection)
        .await
}

async fn insert(connection: &mut SqliteConnection, effect: &Effect) -> Result<(), LedgerError> {
    let inserted = sqlx::query(
        "INSERT INTO effects (kind, idempotency_key, step_key, order_id, reference, tracking_number, \
         amount_cents, currency, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&effect.kind)
    .bind(&effect.idempotency_key)
    .bind(&effect.step_key)
    .bind(&effect.order_id)
    .bind(&effect.reference)
    .bind(&effect.tracking_number)
    .bind(effect.amount_cents)
    .bind(&effect.currency)
    .bind(effect.at.0)
    .execute(connection)
    .await;
    match inserted {
        Ok(_) => Ok(()),
        // An undo's own key that took another step back before.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(LedgerError::KeyReused),
        Err(error) => Err(error.into()),
    }
}
