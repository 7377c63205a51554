//! What a refused request is answered with: `application/problem+json` (RFC 9457) with a stable
//! `code`. Every error of every route goes through here, the frameworks' own included.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::runner::api::ApiError;

/// Seconds after which a busy host may be asked again.
const RETRY_AFTER_S: &str = "1";

/// What went wrong, for programs. The names are part of the interface: none changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// There is no such thing.
    NotFound,
    /// The workflow id has an open run.
    AlreadyStarted,
    /// What is asked for does not fit how things stand.
    Conflict,
    /// The request cannot be read, or says something that cannot be.
    InvalidInput,
    /// No component has that workflow type.
    UnknownWorkflowType,
    /// The bytes are no component that can be deployed.
    InvalidComponent,
    /// The body is larger than allowed.
    PayloadTooLarge,
    /// The body is of a type that the path does not take.
    UnsupportedMediaType,
    /// The path does not take that method.
    MethodNotAllowed,
    /// A web page of another origin sent the request.
    ForbiddenOrigin,
    /// The request names a host that this server is not.
    ForbiddenHost,
    /// The token is missing or wrong.
    Unauthorized,
    /// The host cannot take the request now; nothing was done.
    Busy,
    /// A fault of the host.
    Internal,
}

impl Code {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyStarted => "already_started",
            Self::Conflict => "conflict",
            Self::InvalidInput => "invalid_input",
            Self::UnknownWorkflowType => "unknown_workflow_type",
            Self::InvalidComponent => "invalid_component",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::ForbiddenHost => "forbidden_host",
            Self::Unauthorized => "unauthorized",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    /// The same in a few words for people; never depends on the occurrence.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::AlreadyStarted => "The workflow is already running",
            Self::Conflict => "Not possible as things stand",
            Self::InvalidInput => "The request is not valid",
            Self::UnknownWorkflowType => "No component has this workflow type",
            Self::InvalidComponent => "Not a component that can be deployed",
            Self::PayloadTooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The content type is not taken here",
            Self::MethodNotAllowed => "The method is not taken here",
            Self::ForbiddenOrigin => "Requests of this origin are refused",
            Self::ForbiddenHost => "Requests to this host name are refused",
            Self::Unauthorized => "A token is needed",
            Self::Busy => "The host is busy",
            Self::Internal => "A fault of the host",
        }
    }
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
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, detail)
    }

    /// The request is readable, but says something that cannot be (422).
    #[must_use]
    pub fn invalid_input(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::InvalidInput, detail)
    }

    /// The same problem with one more member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The problem as JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut body = json!({
            "type": format!("urn:everfold:problem:{}", self.code.name()),
            "title": self.code.title(),
            "status": self.status.as_u16(),
            "code": self.code.name(),
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
        if self.code == Code::Busy {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        if self.code == Code::Unauthorized {
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
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::UnknownWorkflowType, detail)
            }
            ApiError::AlreadyStarted { workflow_id, run_id } => {
                Self::new(StatusCode::CONFLICT, Code::AlreadyStarted, detail)
                    .with("workflow_id", workflow_id.0)
                    .with("run_id", run_id.to_string())
            }
            ApiError::InvalidInput(_) => Self::invalid_input(detail),
            ApiError::InvalidComponent(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::InvalidComponent, detail)
            }
            ApiError::Busy(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Busy, detail),
            ApiError::Internal(_) => {
                tracing::error!(error = %detail, "a request met a fault of the host");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, detail)
            }
        }
    }
}
