//! The engine's clock tick: what lets a running guest be stopped.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The length of a tick. Compiled code looks at the epoch at every loop and call.
const TICK: Duration = Duration::from_millis(10);

/// A thread that advances the engine's epoch; it ends with this value.
#[derive(Debug)]
pub(super) struct Ticker {
    /// Never sent to: dropping it wakes the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new().name("guest-ticker".to_owned()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// The ticks after which `limit` has surely passed: the one under way does not count.
    pub(super) fn ticks(limit: Duration) -> u64 {
        let whole = limit.as_nanos().div_ceil(TICK.as_nanos());
        u64::try_from(whole).map_or(u64::MAX / 2, |ticks| (ticks + 1).min(u64::MAX / 2))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
