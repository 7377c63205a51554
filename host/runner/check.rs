//! What a component would do to runs, asked for by callers: a shadow replay.

use tokio::sync::watch;

use super::Host;
use super::api::{ApiError, CheckReport, CheckRequest, Progress};

impl Host {
    /// Folds the histories of runs into a component, beside everything else and without touching a run.
    ///
    /// # Errors
    /// `UnknownVersion`, `InvalidComponent`; `InvalidInput` for a workflow type that it does not have.
    pub async fn check(
        &self,
        request: CheckRequest,
        progress: &watch::Sender<Progress>,
    ) -> Result<CheckReport, ApiError> {
        let _ = (request, progress, &self.parts);
        Err(ApiError::Internal("not there yet".to_owned()))
    }
}
