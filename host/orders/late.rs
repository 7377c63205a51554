//! Rows that come late: the order's run is on disk, but the order application's own file took no row.
//!
//! Such an order is accepted all the same, because it goes on whatever becomes of the row; its row is written as
//! soon as the file takes it. Until then no other order is accepted, so that few rows wait, all of them younger
//! than what [`repair`](super::repair) looks for after a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Shop;
use super::problem::{Problem, busy};
use super::records::Record;
use super::steps::StepError;

/// How long a row waits before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How many rows wait.
#[derive(Debug, Default)]
pub(super) struct Late {
    rows: AtomicUsize,
}

impl Shop {
    /// Refuses an order whose row would have to wait.
    ///
    /// # Errors
    /// `busy`.
    pub(super) fn check_takes_rows(&self) -> Result<(), Problem> {
        match self.late.rows.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(busy("the order database cannot be written")),
        }
    }

    /// Writes an accepted order's row, now or as soon as it can be written.
    pub(super) async fn keep_in_time(self: &Arc<Self>, record: Record) {
        let Err(error) = self.keep(&record).await else { return };
        if self.late.rows.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(%error, "the order database cannot be written: new orders are refused until it can");
        }
        tokio::spawn(keep_late(Arc::clone(self), record));
    }
}

async fn keep_late(shop: Arc<Shop>, record: Record) {
    loop {
        tokio::time::sleep(PAUSE).await;
        match shop.keep(&record).await {
            Ok(()) => break,
            Err(StepError::Database(_)) => {}
            Err(error @ (StepError::Damaged(_) | StepError::Failure(_))) => {
                tracing::error!(order_id = record.order_id, %error, "an order has no row");
                break;
            }
        }
    }
    if shop.late.rows.fetch_sub(1, Ordering::Relaxed) == 1 {
        tracing::info!("the order database can be written again");
    }
}
