//! The sole user of wall time and of the operating system's randomness.

mod virtual_time;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use everfold_core::decision::LeaseId;
use everfold_core::ids::{RunId, Seed, Timestamp};
use futures::future::BoxFuture;

pub use virtual_time::VirtualTime;

/// Where time comes from; a test may bring its own.
pub trait TimeSource: Send + Sync + 'static {
    /// The present.
    fn now(&self) -> Timestamp;

    /// Waits until `at`.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;

    /// The same for housekeeping: what nobody waits for, and what keeps nobody from skipping time.
    fn rest_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        self.sleep_until(at)
    }
}

/// Time and randomness, handed to whoever needs them.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn TimeSource>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).finish()
    }
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::from_source(SystemTimeSource)
    }

    /// Another source of time.
    #[must_use]
    pub fn from_source(source: impl TimeSource) -> Self {
        Self { source: Arc::new(source) }
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.source.now()
    }

    /// Waits until `at`; returns at once if it has passed.
    pub fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        self.source.sleep_until(at)
    }

    /// The same for housekeeping, which a test that skips time does not stop for.
    pub fn rest_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        self.source.rest_until(at)
    }

    /// A new UUIDv7 for a run (RFC 9562): time-ordered, so that keys are inserted at the end.
    #[must_use]
    pub fn new_run_id(&self) -> RunId {
        RunId(self.new_uuid().into_bytes())
    }

    /// A new UUIDv7 for anything else.
    #[must_use]
    pub fn new_uuid(&self) -> uuid::Uuid {
        uuid::Uuid::now_v7()
    }

    /// A new seed for a run.
    ///
    /// # Panics
    /// When the operating system has no randomness to give; no durable work is possible then.
    #[must_use]
    pub fn new_seed(&self) -> Seed {
        Seed(random_bytes())
    }

    /// A new id for a lease.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    #[must_use]
    pub fn new_lease_id(&self) -> LeaseId {
        LeaseId(random_bytes())
    }
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        panic!("the operating system gives no randomness: {error}");
    }
    bytes
}

#[derive(Debug)]
struct SystemTimeSource;

impl TimeSource for SystemTimeSource {
    #[expect(clippy::disallowed_methods, reason = "this module is the sole user of wall time")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let wait = Duration::from_millis(at.ms_since(self.now()));
        Box::pin(tokio::time::sleep(wait))
    }
}
