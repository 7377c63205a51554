//! When a host has nothing left to do but to wait: for time, for the world outside, for the test.
//!
//! ```text
//!  folding threads ──┐
//!  the store ────────┼── busy? ──▶ wait until not ──▶ let every task run until it waits ──▶ did any begin meanwhile? ──▶ quiet
//!  tasks ────────────┘        ▲                                                                 │ yes
//!                             └─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Tasks run on one thread, which parks when none of them can go on. What wakes a task is another task, a folding thread, the store,
//! time, or the test. So if threads and store were idle from before the tasks ran until after they all wait, nothing is on its way.
//! Nothing here guesses by waiting for a while.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::store::TestStore;
use crate::runner::Host;

/// How often the one thread of a runtime found nothing to run.
#[derive(Clone, Debug, Default)]
pub(super) struct Parked(Arc<watch::Sender<u64>>);

impl Parked {
    /// A runtime with one thread, whose rests are counted.
    pub(super) fn runtime(&self) -> std::io::Result<Runtime> {
        let parked = self.0.clone();
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("everfold-test")
            .enable_all()
            .on_thread_park(move || parked.send_modify(|times| *times += 1))
            .build()
    }

    /// Waits until every task of the runtime that could go on has done so.
    async fn all_waiting(&self, runtime: &tokio::runtime::Handle) {
        let mut parked = self.0.subscribe();
        // It stands behind all that was ready before.
        let before = runtime.spawn({
            let parked = self.0.subscribe();
            async move { *parked.borrow() }
        });
        let Ok(before) = before.await else { return };
        // The sender lives as long as `self`.
        let _ = parked.wait_for(|times| *times > before).await;
    }
}

/// Waits until nothing goes on in a host.
pub(super) async fn until_quiet(
    host: &Host,
    store: &TestStore,
    runtime: &tokio::runtime::Handle,
    parked: &Parked,
) {
    loop {
        host.idle().await;
        store.idle().await;
        let before = (host.turns(), store.begun());
        if host.is_idle() && store.is_idle() {
            parked.all_waiting(runtime).await;
            if host.is_idle() && store.is_idle() && before == (host.turns(), store.begun()) {
                return;
            }
        }
    }
}
