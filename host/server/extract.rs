//! What handlers take from a request. The same as axum's extractors, except that a refusal is a
//! [`Problem`] that says what is wrong.

use std::fmt;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::problem::{Code, Problem};

/// The longest time that a request may wait; a longer wish is cut to it, because a wait may always
/// end early.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A JSON body of content type `application/json`, or a JSON reply.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

/// A JSON body as [`Json`] takes it, or none at all: then what `T` is by default. Generated clients name
/// the content type of a body that they do not send.
#[derive(Clone, Copy, Debug)]
pub struct JsonOrNothing<T>(pub T);

/// Query parameters.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

/// Path parameters, percent-decoded.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(body) = axum::Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for JsonOrNothing<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let is_absent = content_type.is_none_or(|content_type| content_type == "application/json");
        if is_absent && request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        let Json(body) = Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Query(query) =
            axum::extract::Query::from_request_parts(parts, state).await.map_err(|rejection| {
                let QueryRejection::FailedToDeserializeQueryString(error) = &rejection else {
                    return Problem::new(rejection.status(), Code::INVALID_INPUT, rejection.body_text());
                };
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    Code::INVALID_INPUT,
                    format!("query: {}", particular(error)),
                )
            })?;
        Ok(Self(query))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Path(path) = axum::extract::Path::from_request_parts(parts, state).await.map_err(
            |rejection: PathRejection| {
                let code =
                    if rejection.status().is_server_error() { Code::INTERNAL } else { Code::INVALID_INPUT };
                Problem::new(rejection.status(), code, rejection.body_text())
            },
        )?;
        Ok(Self(path))
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let status = rejection.status();
        match &rejection {
            JsonRejection::JsonDataError(error) => Self::new(status, Code::INVALID_INPUT, particular(error)),
            JsonRejection::JsonSyntaxError(error) => {
                Self::new(status, Code::INVALID_INPUT, format!("the body is not JSON: {}", particular(error)))
            }
            JsonRejection::MissingJsonContentType(_) => Self::new(
                status,
                Code::UNSUPPORTED_MEDIA_TYPE,
                "this path takes JSON: send it with `Content-Type: application/json`",
            ),
            _ if status == StatusCode::PAYLOAD_TOO_LARGE => Self::new(
                status,
                Code::PAYLOAD_TOO_LARGE,
                "the body is larger than limits.payload_bytes allows",
            ),
            _ => Self::new(status, Code::INVALID_INPUT, rejection.body_text()),
        }
    }
}

/// The sentence that says what is wrong and where, without the framework's general one before it.
fn particular(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// How long a request may wait: `30s`, `500ms`, `2m`; at most [`LONGEST_WAIT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl Wait {
    /// What is wrong with a text that is no duration.
    pub(super) fn expected(text: &str) -> String {
        format!("`{text}` is not a duration such as 30s, 500ms or 2m")
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(WaitVisitor)
    }
}

struct WaitVisitor;

impl Visitor<'_> for WaitVisitor {
    type Value = Wait;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 30s, 500ms or 2m")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Wait, E> {
        text.parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .map(|duration| Wait(duration.min(LONGEST_WAIT)))
            .ok_or_else(|| E::custom(Wait::expected(text)))
    }
}
