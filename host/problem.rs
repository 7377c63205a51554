//! What a refused request is answered with: `application/problem+json` (RFC 9457) with a stable
//! `code`; the type is `about:blank`, so the title is the status's own phrase. Every error of every
//! route goes through here, the framework's own and those of applications included. It knows the
//! runner's refusals and nothing else of the host.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::runner::api::ApiError;

/// Seconds after which a busy host may be asked again.
const RETRY_AFTER_S: &str = "1";

/// What went wrong, for programs: a name that is part of the interface and never changes its meaning.
/// An application adds its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub &'static str);

impl Code {
    /// There is no such thing.
    pub const NOT_FOUND: Self = Self("not_found");
    /// The workflow id has an open run.
    pub const ALREADY_STARTED: Self = Self("already_started");
    /// There is such a thing already.
    pub const ALREADY_EXISTS: Self = Self("already_exists");
    /// It has changed since the caller saw it.
    pub const CONFLICT: Self = Self("conflict");
    /// The request cannot be read, or says something that cannot be.
    pub const INVALID_INPUT: Self = Self("invalid_input");
    /// No component has that workflow type.
    pub const UNKNOWN_WORKFLOW_TYPE: Self = Self("unknown_workflow_type");
    /// The workflow type has no such version, or there is no such component.
    pub const UNKNOWN_VERSION: Self = Self("unknown_version");
    /// The versions of the workflow type do not stand so that it could be done.
    pub const VERSION_CONFLICT: Self = Self("version_conflict");
    /// Open runs would break; `report` says which and why. Nothing was moved.
    pub const INCOMPATIBLE: Self = Self("incompatible");
    /// The bytes are no component that can be deployed.
    pub const INVALID_COMPONENT: Self = Self("invalid_component");
    /// The body is larger than allowed.
    pub const PAYLOAD_TOO_LARGE: Self = Self("payload_too_large");
    /// The body is of a type that the path does not take.
    pub const UNSUPPORTED_MEDIA_TYPE: Self = Self("unsupported_media_type");
    /// The path does not take that method.
    pub const METHOD_NOT_ALLOWED: Self = Self("method_not_allowed");
    /// A web page of another origin sent the request.
    pub const FORBIDDEN_ORIGIN: Self = Self("forbidden_origin");
    /// The request names a host that this server is not.
    pub const FORBIDDEN_HOST: Self = Self("forbidden_host");
    /// The token is missing or wrong.
    pub const UNAUTHORIZED: Self = Self("unauthorized");
    /// The run has no answer to such a question.
    pub const UNKNOWN_QUERY: Self = Self("unknown_query");
    /// The run's code could not answer; `failure` says why.
    pub const QUERY_FAILED: Self = Self("query_failed");
    /// The run knows no such update.
    pub const UNKNOWN_UPDATE: Self = Self("unknown_update");
    /// The run's code refused the update; `failure` says why. Nothing was done.
    pub const UPDATE_REJECTED: Self = Self("update_rejected");
    /// The run's code is at fault.
    pub const BLOCKED: Self = Self("blocked");
    /// The attempt that the token names is over; nothing was changed.
    pub const ATTEMPT_OVER: Self = Self("attempt_over");
    /// Nobody has asked the activity to stop.
    pub const CANCEL_NOT_REQUESTED: Self = Self("cancel_not_requested");
    /// The activity is not open any more.
    pub const ACTIVITY_CLOSED: Self = Self("activity_closed");
    /// The run was sent all that it may be sent, or what is sent is too large.
    pub const LIMIT_EXCEEDED: Self = Self("limit_exceeded");
    /// The host cannot take the request now; nothing was done.
    pub const BUSY: Self = Self("busy");
    /// A fault of the host.
    pub const INTERNAL: Self = Self("internal");
}

/// A refused request.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: StatusCode,
    code: Code,
    detail: String,
    members: Map<String, Value>,
}

/// What a handler returns.
pub type Answer<T> = Result<T, Problem>;

impl Problem {
    /// A problem of this occurrence.
    #[must_use]
    pub fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), members: Map::new() }
    }

    /// There is no such thing (404).
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NOT_FOUND, detail)
    }

    /// The request is readable, but says something that cannot be (422).
    #[must_use]
    pub fn invalid_input(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::INVALID_INPUT, detail)
    }

    /// The same problem with one more member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Whether the host cannot take the request now, and could later.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.code == Code::BUSY
    }

    /// The problem as JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code.0,
            "detail": self.detail,
        });
        if let Value::Object(object) = &mut body {
            object.extend(self.members.clone());
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.to_value().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code == Code::BUSY {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        if self.code == Code::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let detail = error.to_string();
        match error {
            ApiError::NotFound(_) => Self::not_found(detail),
            ApiError::UnknownWorkflowType(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::UNKNOWN_WORKFLOW_TYPE, detail)
            }
            ApiError::UnknownVersion(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::UNKNOWN_VERSION, detail)
            }
            ApiError::VersionConflict(_) => Self::new(StatusCode::CONFLICT, Code::VERSION_CONFLICT, detail),
            ApiError::Incompatible(report) => Self::new(StatusCode::CONFLICT, Code::INCOMPATIBLE, detail)
                .with("report", serde_json::to_value(report).unwrap_or_default()),
            ApiError::AlreadyStarted { workflow_id, run_id } | ApiError::IdTaken { workflow_id, run_id } => {
                Self::new(StatusCode::CONFLICT, Code::ALREADY_STARTED, detail)
                    .with("workflow_id", workflow_id.0)
                    .with("run_id", run_id.to_string())
            }
            ApiError::AlreadyExists(_) => Self::new(StatusCode::CONFLICT, Code::ALREADY_EXISTS, detail),
            ApiError::Conflict(_) => Self::new(StatusCode::CONFLICT, Code::CONFLICT, detail),
            ApiError::InvalidInput(_) => Self::invalid_input(detail),
            ApiError::InvalidComponent(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::INVALID_COMPONENT, detail)
            }
            ApiError::UnknownQuery(_) => Self::new(StatusCode::NOT_FOUND, Code::UNKNOWN_QUERY, detail),
            ApiError::QueryFailed(failure) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::QUERY_FAILED, detail)
                    .with("failure", serde_json::to_value(failure).unwrap_or_default())
            }
            ApiError::AttemptOver(_) => Self::new(StatusCode::CONFLICT, Code::ATTEMPT_OVER, detail),
            ApiError::CancelNotRequested(_) => {
                Self::new(StatusCode::CONFLICT, Code::CANCEL_NOT_REQUESTED, detail)
            }
            ApiError::ActivityClosed(_) => Self::new(StatusCode::CONFLICT, Code::ACTIVITY_CLOSED, detail),
            ApiError::UnknownUpdate(_) => Self::new(StatusCode::NOT_FOUND, Code::UNKNOWN_UPDATE, detail),
            ApiError::UpdateRejected(failure) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::UPDATE_REJECTED, detail)
                    .with("failure", serde_json::to_value(failure).unwrap_or_default())
            }
            ApiError::Blocked(_) => Self::new(StatusCode::CONFLICT, Code::BLOCKED, detail),
            ApiError::LimitExceeded(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::LIMIT_EXCEEDED, detail)
            }
            ApiError::Busy(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::BUSY, detail),
            ApiError::Internal(_) => {
                tracing::error!(error = %detail, "a request met a fault of the host");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::INTERNAL, detail)
            }
        }
    }
}
