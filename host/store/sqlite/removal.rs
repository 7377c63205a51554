//! Removing closed runs: the row, the history, the requests that name it. A batch is bounded by runs
//! and by bytes, so that the transaction that it is stays short; what is too long for one goes in pieces.
//!
//! A run goes from the front: first its requests, then its row, then its history. From the moment its row
//! is gone nobody finds it; `removed_runs` remembers it until the last piece of its history is gone too. Must
//! never touch a run that is open.

use everfold_core::ids::{RunId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Result, Statement, params};

use super::details::DetailStatements;
use crate::store::rows::integer;
use crate::store::{Left, RemovalBounds, Removed, sql};

/// A row costs about as much time as so many bytes of a history do (measured: 1 µs).
const BYTES_PER_ROW: u64 = 256;

/// The statements, prepared once.
pub(super) struct Removal<'c> {
    closed_before: Statement<'c>,
    earliest_closed: Statement<'c>,
    requests_of: Statement<'c>,
    request_delete: Statement<'c>,
    run_delete: Statement<'c>,
    history_sizes: Statement<'c>,
    history_delete: Statement<'c>,
    removed_put: Statement<'c>,
    removed_first: Statement<'c>,
    removed_delete: Statement<'c>,
    details: DetailStatements<'c>,
}

/// What of the batch's bound is left.
struct Budget {
    bytes: u64,
}

impl Budget {
    /// Takes a row of that size; false when nothing is left behind it.
    const fn take_row(&mut self, bytes: u64) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes.saturating_add(BYTES_PER_ROW));
        self.bytes > 0
    }

    /// How many rows there is room for, at least one.
    fn rows(&self) -> u64 {
        (self.bytes / BYTES_PER_ROW).max(1)
    }
}

/// Whether all of something is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Gone,
    Partly,
}

impl<'c> Removal<'c> {
    /// Prepares the statements.
    pub(super) fn prepare(connection: &'c Connection) -> Result<Self> {
        let prepare = |sql| connection.prepare(sql);
        Ok(Self {
            closed_before: prepare(sql::CLOSED_BEFORE)?,
            earliest_closed: prepare(sql::EARLIEST_CLOSED)?,
            requests_of: prepare(sql::REQUESTS_OF)?,
            request_delete: prepare(sql::REQUEST_DELETE)?,
            run_delete: prepare(sql::RUN_DELETE)?,
            history_sizes: prepare(sql::HISTORY_SIZES)?,
            history_delete: prepare(sql::HISTORY_DELETE)?,
            removed_put: prepare(sql::REMOVED_PUT)?,
            removed_first: prepare(sql::REMOVED_FIRST)?,
            removed_delete: prepare(sql::REMOVED_DELETE)?,
            details: DetailStatements::prepare(connection)?,
        })
    }

    /// Removes runs that closed before `before`, as many as the bounds allow.
    pub(super) fn remove(&mut self, before: Timestamp, bounds: RemovalBounds) -> Result<Removed> {
        let mut budget = Budget { bytes: bounds.bytes.max(1) };
        let mut runs = 0;
        let more = |runs| Ok(Removed { runs, left: Left::More });
        while let Some(run_id) = self.removed_first.query_row([], |row| row.get(0)).optional()? {
            if self.remove_history(run_id, &mut budget)? == Progress::Partly {
                return more(runs);
            }
            self.removed_delete.execute([run_id])?;
        }
        let due: Vec<[u8; 16]> = self
            .closed_before
            .query_map(params![before.0, integer(bounds.runs)], |row| row.get(0))?
            .collect::<Result<_>>()?;
        for run_id in &due {
            if budget.bytes == 0 || self.remove_requests(*run_id, &mut budget)? == Progress::Partly {
                return more(runs);
            }
            self.run_delete.execute([run_id])?;
            self.details.delete(RunId(*run_id))?;
            runs += 1;
            if self.remove_history(*run_id, &mut budget)? == Progress::Partly {
                self.removed_put.execute([run_id])?;
                return more(runs);
            }
        }
        if due.len() as u64 >= bounds.runs {
            return more(runs);
        }
        let earliest: Option<i64> = self.earliest_closed.query_row([], |row| row.get(0))?;
        Ok(Removed { runs, left: Left::Later(earliest.map(Timestamp)) })
    }

    fn remove_requests(&mut self, run_id: [u8; 16], budget: &mut Budget) -> Result<Progress> {
        let most = budget.rows();
        let named = |row: &rusqlite::Row<'_>| -> Result<[String; 4]> {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
        };
        let requests: Vec<[String; 4]> =
            self.requests_of.query_map(params![run_id, integer(most)], named)?.collect::<Result<_>>()?;
        for [namespace, workflow_id, operation, request_id] in &requests {
            self.request_delete.execute(params![namespace, workflow_id, operation, request_id])?;
            budget.take_row(0);
        }
        Ok(if (requests.len() as u64) < most { Progress::Gone } else { Progress::Partly })
    }

    /// Removes a history from its beginning on.
    fn remove_history(&mut self, run_id: [u8; 16], budget: &mut Budget) -> Result<Progress> {
        let (mut reached, mut progress) = (None, Progress::Gone);
        {
            let mut rows = self.history_sizes.query([run_id])?;
            let mut has_room = true;
            while let Some(row) = rows.next()? {
                if !has_room {
                    progress = Progress::Partly;
                    break;
                }
                let (first_event_id, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
                reached = Some(first_event_id);
                has_room = budget.take_row(bytes.unsigned_abs());
            }
        }
        if let Some(reached) = reached {
            self.history_delete.execute(params![run_id, reached])?;
        }
        Ok(progress)
    }
}
