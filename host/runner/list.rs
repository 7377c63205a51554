//! The list of runs.

use super::Host;
use super::api::{ApiError, ListRequest, RunPage};

impl Host {
    /// A page of the runs that match.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn list(&self, request: ListRequest) -> Result<RunPage, ApiError> {
        let _ = request;
        Err(ApiError::Internal("runs are not listed yet".to_owned()))
    }
}
