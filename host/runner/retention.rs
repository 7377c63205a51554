//! Removing runs that closed long ago, while the host does everything else.
//!
//! A batch is one short transaction of the writer, between two group commits: a decision waits for one
//! batch at most. Between batches the writer is left to others for longer than the batch took. Where
//! nothing is due it sleeps until the earliest closed run will be. It must never touch an open run, nor
//! anything of the applications: an order's rows stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use everfold_core::ids::Timestamp;

use super::{Parts, STORE_PAUSE_MS};
use crate::store::{Left, RemovalBounds};

/// One batch. A run of an order takes 80 to 110 µs, so that it is about 3 ms; 256 KiB of a long history take 1 ms.
const BATCH: RemovalBounds = RemovalBounds { runs: 32, bytes: 256 * 1024 };
/// The pause behind a batch, as a multiple of the time that it took: a third of the writer's time is taken at
/// most, for about 3,500 runs a second.
const PAUSE_FACTOR: u32 = 2;
/// Runs that come due within this time are removed together.
const GATHER_MS: u64 = 1_000;

/// Removes runs that closed longer than `kept` ago for as long as the host lives.
pub(super) async fn remove_for_ever(parts: Arc<Parts>, kept: Duration) {
    let kept_ms = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
    // A run that a schedule has started and not yet noted is known by its request.
    parts.schedules.caught_up().await;
    loop {
        let now = parts.clock.now();
        let next = match remove_due(&parts, before(now, kept_ms)).await {
            // Whatever closes from now on comes due later than that.
            Some(earliest) => {
                earliest.unwrap_or(now).plus_ms(kept_ms.saturating_add(1)).max(now.plus_ms(GATHER_MS))
            }
            None => now.plus_ms(STORE_PAUSE_MS),
        };
        parts.clock.rest_until(next).await;
    }
}

/// The time before which a run must have closed to be removed now.
fn before(now: Timestamp, kept_ms: u64) -> Timestamp {
    Timestamp(now.0.saturating_sub_unsigned(kept_ms))
}

/// Removes what is due, batch by batch. Gives when the earliest run that is left closed, if there is one; none
/// at all if the store does not answer.
async fn remove_due(parts: &Parts, before: Timestamp) -> Option<Option<Timestamp>> {
    let mut runs = 0;
    let earliest = loop {
        let began = Instant::now();
        match parts.store.remove_closed(before, BATCH).await {
            Ok(removed) => {
                runs += removed.runs;
                parts.telemetry.runs_removed(removed.runs);
                match removed.left {
                    // By the machine's time: it is the machine that is to be left to others.
                    Left::More => tokio::time::sleep(began.elapsed() * PAUSE_FACTOR).await,
                    Left::Later(earliest) => break Some(earliest),
                }
            }
            Err(error) => {
                tracing::error!(%error, "old runs cannot be removed");
                break None;
            }
        }
    };
    if runs > 0 {
        tracing::debug!(runs, closed_before = %before, "old runs were removed");
    }
    earliest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_kept_for_the_whole_time_and_for_ever_if_that_is_longer_than_time() {
        assert_eq!(before(Timestamp(10_000), 4_000), Timestamp(6_000));
        assert!(before(Timestamp(10_000), u64::MAX) < Timestamp(0));
    }
}
