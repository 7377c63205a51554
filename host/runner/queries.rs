//! Questions to runs, answered by replicas.

use super::Host;
use super::api::{ApiError, QueryAnswer, QueryRequest};

impl Host {
    /// Asks a run, open or closed. The answer is as of its history when the question was asked.
    ///
    /// # Errors
    /// `NotFound`; `UnknownQuery` and `QueryFailed` from the run's code; `Blocked` when its history
    /// cannot be folded; `Busy`.
    pub async fn query(&self, request: QueryRequest) -> Result<QueryAnswer, ApiError> {
        let _ = request;
        Err(ApiError::Internal("queries are not answered yet".to_owned()))
    }
}
