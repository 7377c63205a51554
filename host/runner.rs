//! load → fold → decide → commit → act: the only place where the parts meet.

pub mod api;

use std::time::Duration;

use everfold_core::history::Export;
use everfold_core::ids::{EventId, Namespace};

use crate::store::ComponentRow;
use api::{ApiError, Deployed, Description, HistoryPage, RunRef, RunResult, StartRequest, Started};

/// A running host: cheap to clone, shared by the server and the order application.
#[derive(Clone, Debug)]
pub struct Host {}

impl Host {
    /// Starts a run; it is on disk when this returns.
    ///
    /// # Errors
    /// `UnknownWorkflowType`, `AlreadyStarted`, `InvalidInput` (too large), `Busy`.
    pub async fn start(&self, _request: StartRequest) -> Result<Started, ApiError> {
        Err(ApiError::Internal("not built".to_owned()))
    }

    /// Describes a run.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn describe(&self, _run: &RunRef) -> Result<Description, ApiError> {
        Err(ApiError::Internal("not built".to_owned()))
    }

    /// A run's events behind `after`; waits up to `wait` for one while there is none and the run is
    /// open. A page holds about `limit` events.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn history(
        &self,
        _run: &RunRef,
        _after: EventId,
        _limit: usize,
        _wait: Duration,
    ) -> Result<HistoryPage, ApiError> {
        Err(ApiError::Internal("not built".to_owned()))
    }

    /// A run's end; waits up to `wait` for it. A run that continued as new is followed.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn result(&self, _run: &RunRef, _wait: Duration) -> Result<RunResult, ApiError> {
        Err(ApiError::Internal("not built".to_owned()))
    }

    /// A run's whole history, to be replayed anywhere.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn export(&self, _run: &RunRef) -> Result<Export, ApiError> {
        Err(ApiError::Internal("not built".to_owned()))
    }

    /// Checks, compiles and keeps a component.
    ///
    /// # Errors
    /// `InvalidComponent` with the reason.
    pub async fn deploy(&self, _namespace: &Namespace, _bytes: Vec<u8>) -> Result<Deployed, ApiError> {
        Err(ApiError::Internal("not built".to_owned()))
    }

    /// All components, oldest first.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn components(&self, _namespace: &Namespace) -> Result<Vec<ComponentRow>, ApiError> {
        Err(ApiError::Internal("not built".to_owned()))
    }

    /// Whether the host takes requests: started, store answering, not draining.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        false
    }

    /// Stops in order: takes no new work, lets attempts under way end for up to `grace`, records the
    /// rest as interrupted, closes the store.
    pub async fn drain(&self, _grace: Duration) {}
}
