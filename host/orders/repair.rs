//! Rows that a host did not come to write before it stopped: its orders' runs go on, but no list would
//! show them.

use everfold_core::ids::{RunId, Timestamp};
use everfold_core::query::{Condition, Field, Query, Value};

use super::order::{namespace, workflow_id};
use super::routes::{is_order_id, ordered};
use super::{OrdersApp, Shop};
use crate::runner::Host;
use crate::runner::api::{ApiError, ListRequest, RunSummary};

/// How much older than the newest row a missing one may be: longer than any request is under way.
const OVERLAP_MS: i64 = 60_000;
/// Runs that are looked at together.
const PAGE: usize = 200;

/// Rows that could not be looked for.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The host cannot list its runs.
    #[error("the host's runs cannot be listed: {0}")]
    Host(#[from] ApiError),
    /// The order application's tables do not answer.
    #[error("{0}")]
    Database(String),
}

impl OrdersApp {
    /// Writes the rows of orders that were placed last and have none; gives how many there were. To be
    /// called once after the host was opened; orders may be placed meanwhile.
    ///
    /// # Errors
    /// When the runs or the rows cannot be read. An order that cannot be read alone is left for later.
    pub async fn repair(&self, host: &Host) -> Result<usize, RepairError> {
        let failed = |error: super::steps::StepError| RepairError::Database(error.to_string());
        let newest = self.shop.newest_order().await.map_err(failed)?;
        let workflow_type = Value::Text(self.shop.workflow_type.clone());
        let of_orders = Condition::equal(Field::WorkflowType, workflow_type);
        let since = newest.map(|newest| Timestamp(newest.0.saturating_sub(OVERLAP_MS)));
        // By their ids: only runs of that time are read, however many there are before.
        let since =
            since.map(|since| Condition::at_least(Field::RunId, Value::RunId(RunId::at_least(since))));
        let mut request = ListRequest {
            namespace: namespace(),
            query: Query::all([of_orders]).narrowed(since),
            after: None,
            limit: PAGE,
        };
        let mut repaired = 0;
        loop {
            let page = host.list(request.clone()).await?;
            for run in &page.runs {
                let Some(order_id) = order_id(run) else { continue };
                if !self.shop.has_row(order_id).await.map_err(failed)? {
                    repaired += usize::from(self.shop.rewrite(host, order_id).await.map_err(failed)?);
                }
            }
            match page.next {
                Some(next) => request.after = Some(next),
                None => return Ok(repaired),
            }
        }
    }
}

impl Shop {
    /// Writes an order's row from its run; false if the run does not say what was ordered.
    async fn rewrite(&self, host: &Host, order_id: &str) -> Result<bool, super::steps::StepError> {
        match ordered(host, order_id).await {
            Ok(Some(record)) => {
                self.keep(&record).await?;
                tracing::info!(order_id, "an order's row was missing and is written now");
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(problem) => {
                tracing::warn!(order_id, problem = %problem.to_value(), "an order's row is missing and its run cannot be read");
                Ok(false)
            }
        }
    }
}

/// The order that a run works on, by its name.
fn order_id(run: &RunSummary) -> Option<&str> {
    let order_id = run.workflow_id.0.strip_prefix("order-").filter(|id| is_order_id(id))?;
    (workflow_id(order_id) == run.workflow_id).then_some(order_id)
}
