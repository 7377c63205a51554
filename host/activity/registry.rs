//! Which activities this host can run.

use async_trait::async_trait;
use everfold_core::failure::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ActivityContext;

/// A native activity with typed input and output, JSON on the wire.
#[async_trait]
pub trait Activity: Send + Sync + 'static {
    /// The type by which workflows call it.
    const TYPE: &'static str;
    /// What it takes.
    type Input: DeserializeOwned + Send;
    /// What it returns.
    type Output: Serialize + Send;

    /// Runs one attempt. It may run more than once for the same activity: effects must be keyed by
    /// [`ActivityInfo::idempotency_key`](super::ActivityInfo).
    ///
    /// # Errors
    /// A failure; whether the activity is tried again is the retry policy's matter.
    async fn run(&self, context: &ActivityContext, input: Self::Input) -> Result<Self::Output, Failure>;
}

/// Activities by type.
#[derive(Default)]
pub struct Registry {}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// Adds an activity. The last one registered under a type is used.
    pub fn register<A: Activity>(&mut self, _activity: A) {}
}
