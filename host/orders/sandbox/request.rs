//! What every request to the sandbox's servers has: an idempotency key and a JSON body.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use crate::orders::problem::{Code, Problem};

/// A body and the key under which it is sent.
pub(super) struct Keyed<T> {
    pub(super) key: String,
    pub(super) body: T,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Keyed<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::new(StatusCode::BAD_REQUEST, Code::INVALID_INPUT, detail);
        let key = match request.headers().get("idempotency-key").map(|key| key.to_str()) {
            Some(Ok(key)) if !key.is_empty() => key.to_owned(),
            Some(_) | None => {
                return Err(invalid("the header Idempotency-Key is missing or not text".to_owned()));
            }
        };
        let bytes = Bytes::from_request(request, state).await.map_err(|error| invalid(error.body_text()))?;
        let body = serde_json::from_slice(&bytes)
            .map_err(|error| invalid(format!("the body does not decode: {error}")))?;
        Ok(Self { key, body })
    }
}
