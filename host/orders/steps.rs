//! What became of each step, by its idempotency key: a step is taken once and taken back once.
//!
//! ```text
//!             step                undo
//!           ┌───────▶ done ───────────────▶ undone
//! (nothing) ┤
//!           └───────▶ void     a step that arrives now, or once undone, is refused
//!             undo
//! ```
//!
//! A repeated step gets the first one's result, a repeated undo the first undo's. All of it happens
//! in the caller's transaction, together with the effect itself.

use everfold_core::failure::Failure;
use everfold_core::ids::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::SqliteConnection;

/// The step was taken back before it arrived, or since. Final.
pub(super) const STEP_UNDONE: &str = "StepUndone";
/// The key names a step of another activity. Final.
const KEY_REUSED: &str = "IdempotencyKeyReused";
/// The order application's database does not answer. Tried again.
const DATABASE_UNAVAILABLE: &str = "OrdersDatabaseUnavailable";

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The database failed; nothing was changed.
    #[error("the order database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A stored result does not decode; nothing was changed.
    #[error("a stored result of the order database does not decode: {0}")]
    Damaged(#[from] serde_json::Error),
    /// The answer to the workflow.
    #[error("{0}")]
    Failure(#[from] Failure),
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Failure(failure) => failure,
            StepError::Database(_) | StepError::Damaged(_) => {
                Self::application(DATABASE_UNAVAILABLE, error.to_string())
            }
        }
    }
}

/// A step's name: the activity that takes it and the key of that activity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) activity_type: &'static str,
    pub(super) key: &'a str,
    pub(super) order_id: &'a str,
}

/// What an undo finds.
#[derive(Debug)]
pub(super) enum Found<O> {
    /// The step has not arrived.
    Nothing,
    /// The step was taken; what it made or changed.
    Done { subject: String },
    /// It was taken back already, with this result.
    TakenBack(O),
}

#[derive(sqlx::FromRow)]
struct Row {
    activity_type: String,
    state: String,
    subject: Option<String>,
    result: Option<String>,
    undo_result: Option<String>,
}

impl Step<'_> {
    async fn row(&self, connection: &mut SqliteConnection) -> Result<Option<Row>, StepError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT activity_type, state, subject, result, undo_result FROM effects WHERE idempotency_key = ?",
        )
        .bind(self.key)
        .fetch_optional(connection)
        .await?;
        match row {
            Some(row) if row.activity_type != self.activity_type => Err(Failure::non_retryable(
                KEY_REUSED,
                format!(
                    "key {} is that of a step of {}, not of {}",
                    self.key, row.activity_type, self.activity_type
                ),
            )
            .into()),
            row => Ok(row),
        }
    }

    /// The result of the step if it was taken before.
    ///
    /// # Errors
    /// `StepUndone` if it was taken back.
    pub(super) async fn result<O: DeserializeOwned>(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Option<O>, StepError> {
        match self.row(connection).await? {
            None => Ok(None),
            Some(Row { result: Some(result), state, .. }) if state == "done" => {
                Ok(Some(serde_json::from_str(&result)?))
            }
            Some(_) => Err(self.undone().into()),
        }
    }

    /// The refusal of a step that was taken back.
    pub(super) fn undone(&self) -> Failure {
        Failure::non_retryable(STEP_UNDONE, format!("step {} of {} was undone", self.key, self.activity_type))
    }

    /// Records that the step was taken: it made or changed `subject`.
    pub(super) async fn record(
        &self,
        connection: &mut SqliteConnection,
        subject: &str,
        result: &impl Serialize,
        now: Timestamp,
    ) -> Result<(), StepError> {
        sqlx::query(
            "INSERT INTO effects (idempotency_key, activity_type, order_id, state, subject, result, updated_at) \
             VALUES (?, ?, ?, 'done', ?, ?, ?)",
        )
        .bind(self.key)
        .bind(self.activity_type)
        .bind(self.order_id)
        .bind(subject)
        .bind(serde_json::to_string(result)?)
        .bind(now.0)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// What there is to take back.
    pub(super) async fn find<O: DeserializeOwned>(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Found<O>, StepError> {
        match self.row(connection).await? {
            None => Ok(Found::Nothing),
            Some(Row { undo_result: Some(result), .. }) => {
                Ok(Found::TakenBack(serde_json::from_str(&result)?))
            }
            Some(Row { subject, .. }) => Ok(Found::Done { subject: subject.unwrap_or_default() }),
        }
    }

    /// Records that the step was taken back, or will be refused when it arrives.
    pub(super) async fn record_undo(
        &self,
        connection: &mut SqliteConnection,
        undo_result: &impl Serialize,
        now: Timestamp,
    ) -> Result<(), StepError> {
        sqlx::query(
            "INSERT INTO effects (idempotency_key, activity_type, order_id, state, undo_result, updated_at) \
             VALUES (?, ?, ?, 'void', ?, ?) \
             ON CONFLICT (idempotency_key) DO UPDATE \
             SET state = 'undone', undo_result = excluded.undo_result, updated_at = excluded.updated_at",
        )
        .bind(self.key)
        .bind(self.activity_type)
        .bind(self.order_id)
        .bind(serde_json::to_string(undo_result)?)
        .bind(now.0)
        .execute(connection)
        .await?;
        Ok(())
    }
}
