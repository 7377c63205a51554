//! The list of runs.

use everfold_core::attributes::Details;
use everfold_core::ids::RunId;

use super::api::{ApiError, ListRequest, RunPage, RunPlace, RunSummary};
use super::{Host, internal};
use crate::store::RunRow;

impl Host {
    /// A page of the runs that match.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn list(&self, request: ListRequest) -> Result<RunPage, ApiError> {
        let ListRequest { namespace, query, after, limit } = request;
        // One more than asked for tells whether a page follows.
        let found = self.parts.store.runs(&namespace, &query, after.as_ref(), limit.saturating_add(1)).await;
        let mut rows = found.map_err(|error| internal(&error))?;
        let is_last = rows.len() <= limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| !is_last).map(|row| RunPlace::of(row, query.order.by));
        let details = self.details_of(&rows).await?;
        let runs = rows.into_iter().zip(details).map(|(row, details)| summary(row, details));
        Ok(RunPage { runs: runs.collect(), next })
    }

    /// What each of these runs is described by.
    pub(super) async fn details_of(&self, rows: &[RunRow]) -> Result<Vec<Details>, ApiError> {
        let run_ids: Vec<RunId> = rows.iter().map(|row| row.key.run_id).collect();
        let mut found = self.parts.store.details(&run_ids).await.map_err(|error| internal(&error))?;
        Ok(run_ids.iter().map(|run_id| found.remove(run_id).unwrap_or_default()).collect())
    }
}

fn summary(row: RunRow, details: Details) -> RunSummary {
    RunSummary {
        key: row.key,
        workflow_id: row.workflow_id,
        workflow_type: row.workflow_type,
        digest: row.digest,
        status: row.status,
        history_length: row.next_event_id.0 - 1,
        started_at: row.started_at,
        closed_at: row.closed_at,
        blocked: row.blocked,
        details,
    }
}
