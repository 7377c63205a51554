//! Writing schedules.

use rusqlite::{Connection, Result, Statement, params};

use crate::store::rows::integer;
use crate::store::{ScheduleKey, ScheduleRow, sql};

/// The statements, prepared once.
pub(super) struct ScheduleStatements<'c> {
    create: Statement<'c>,
    change: Statement<'c>,
    delete: Statement<'c>,
}

impl<'c> ScheduleStatements<'c> {
    /// Prepares the statements.
    pub(super) fn prepare(connection: &'c Connection) -> Result<Self> {
        Ok(Self {
            create: connection.prepare(sql::SCHEDULE_CREATE)?,
            change: connection.prepare(sql::SCHEDULE_CHANGE)?,
            delete: connection.prepare(sql::SCHEDULE_DELETE)?,
        })
    }

    /// Writes a schedule; false if it is not at the revision before.
    pub(super) fn put(&mut self, schedule: &ScheduleRow) -> Result<bool> {
        let ScheduleRow { key, revision, definition, state, wake_at, created_at, changed_at } = schedule;
        let ScheduleKey { namespace, schedule_id } = key;
        let (definition, running) = (json(definition), integer(state.running.len() as u64));
        let (state, wake_at) = (json(state), wake_at.map(|at| at.0));
        let rows = if *revision == 1 {
            self.create.execute(params![
                namespace.0,
                schedule_id,
                revision,
                definition,
                state,
                wake_at,
                running,
                created_at.0,
                changed_at.0,
            ])?
        } else {
            self.change.execute(params![
                revision,
                definition,
                state,
                wake_at,
                running,
                changed_at.0,
                namespace.0,
                schedule_id,
                created_at.0,
                revision - 1,
            ])?
        };
        Ok(rows > 0)
    }

    /// Forgets a schedule; false if there is none.
    pub(super) fn delete(&mut self, key: &ScheduleKey) -> Result<bool> {
        Ok(self.delete.execute(params![key.namespace.0, key.schedule_id])? > 0)
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Both have text for keys.
    serde_json::to_string(value).unwrap_or_default()
}
