//! Talking to a run: signals, requests to cancel, termination.

use super::Host;
use super::api::{Acknowledged, ApiError, SignalRequest, StopRequest};

impl Host {
    /// Sends a signal; it is on disk when this returns. It is in the history of the run that is
    /// answered, or waits in its inbox, or was taken over by the run that goes on from it.
    ///
    /// # Errors
    /// `NotFound` when no such run is open, `LimitExceeded`, `InvalidInput`, `Busy`.
    pub async fn signal(&self, request: SignalRequest) -> Result<Acknowledged, ApiError> {
        let _ = request;
        Err(ApiError::Internal("signals are not delivered yet".to_owned()))
    }

    /// Asks a run to cancel; the request is on disk when this returns. Asking again changes nothing.
    ///
    /// # Errors
    /// `NotFound` when no such run is open, `Busy`.
    pub async fn cancel(&self, request: StopRequest) -> Result<Acknowledged, ApiError> {
        let _ = request;
        Err(ApiError::Internal("requests to cancel are not delivered yet".to_owned()))
    }

    /// Closes a run without asking its guest; nothing is undone.
    ///
    /// # Errors
    /// `NotFound` when no such run is open, `Busy`.
    pub async fn terminate(&self, request: StopRequest) -> Result<Acknowledged, ApiError> {
        let _ = request;
        Err(ApiError::Internal("runs are not terminated yet".to_owned()))
    }
}
