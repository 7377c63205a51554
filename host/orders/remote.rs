//! The payment gateway and the carrier as the order application calls them: JSON over HTTP, with the
//! activity's idempotency key, so that a repeated attempt has no second effect.
//!
//! | answer | means |
//! |---|---|
//! | 2xx | done, now or before |
//! | the remote's own refusal (402 of the gateway, 422 of the carrier) | refused for good |
//! | 410, or any with the code `voided` | the step was taken back before: `StepUndone` |
//! | 408, 409 (under way), 425, 429, 5xx, no answer, an unreadable 2xx | unknown: ask again |
//! | another 3xx or 4xx | rejected for good, with the remote's words |

use std::time::Duration;

use everfold_core::failure::{Failure, FailureKind};
use reqwest::header::HeaderValue;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::steps::STEP_UNDONE;
use crate::telemetry::trace::TRACEPARENT;
use crate::telemetry::{ClientSpan, client_span};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The activity's own time-out is the rule; this one is for an activity that has none.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// No answer of either is longer than a few lines.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Which remote it is: its names in settings, failures and messages.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) name: &'static str,
    pub(super) setting: &'static str,
    /// The status by which it refuses for good, and the failure type that stands for it.
    pub(super) refusal: (StatusCode, &'static str),
    /// The failure type of an unknown outcome.
    pub(super) unavailable: &'static str,
    /// The failure type of any other refusal.
    pub(super) rejected: &'static str,
}

pub(super) const GATEWAY: Role = Role {
    name: "payment gateway",
    setting: "gateway_url",
    refusal: (StatusCode::PAYMENT_REQUIRED, "PaymentDeclined"),
    unavailable: "PaymentGatewayUnavailable",
    rejected: "PaymentRejected",
};

pub(super) const CARRIER: Role = Role {
    name: "carrier",
    setting: "carrier_url",
    refusal: (StatusCode::UNPROCESSABLE_ENTITY, "ShipmentRefused"),
    unavailable: "CarrierUnavailable",
    rejected: "ShipmentRejected",
};

/// An address that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Not an `http` or `https` address.
    #[error("{setting} is not the address of an HTTP server: `{url}`")]
    InvalidUrl {
        /// The setting.
        setting: &'static str,
        /// What it says.
        url: String,
    },
    /// The HTTP client cannot be made.
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// One remote.
#[derive(Debug)]
pub(super) struct Remote {
    role: &'static Role,
    /// Absent when no address is configured: every call then fails and says so.
    target: Option<(Client, String)>,
}

/// What either remote says about a refusal (RFC 9457); anything else is shown as it came.
#[derive(Default, Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
    code: Option<String>,
}

/// The code of a step that was taken back before it arrived.
pub(super) const VOIDED: &str = "voided";

impl Remote {
    pub(super) fn new(role: &'static Role, url: Option<&str>) -> Result<Self, RemoteError> {
        let Some(url) = url else { return Ok(Self { role, target: None }) };
        let invalid = || RemoteError::InvalidUrl { setting: role.setting, url: url.to_owned() };
        let parsed = Url::parse(url).map_err(|_| invalid())?;
        let host =
            parsed.host_str().filter(|_| matches!(parsed.scheme(), "http" | "https")).ok_or_else(invalid)?;
        // reqwest is built without a TLS provider of its own. Whoever installs one first wins, and
        // there is only one in this binary.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none());
        // A proxy that the environment names cannot reach this machine's loopback.
        if matches!(host, "127.0.0.1" | "[::1]" | "localhost") {
            builder = builder.no_proxy();
        }
        // A machine without root certificates can still call a remote that needs none.
        if parsed.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| RemoteError::Client(error.to_string()))?;
        Ok(Self { role, target: Some((client, url.trim_end_matches('/').to_owned())) })
    }

    /// Posts `body` under `key`, as a part of the attempt's trace.
    pub(super) async fn post<R: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> Result<R, Failure> {
        let Role { name, setting, .. } = self.role;
        let Some((client, base)) = &self.target else {
            return Err(self.unavailable(format!(
                "no {name} is configured: set orders.{setting}, or start the host with --sandbox"
            )));
        };
        let key = HeaderValue::from_str(key).map_err(|_| {
            Failure::non_retryable(self.role.rejected, format!("not an idempotency key for HTTP: {key:?}"))
        })?;
        let mut span = client_span(&format!("POST {path}"));
        let mut request = client.post(format!("{base}{path}")).header("idempotency-key", key).json(body);
        if let Some(traceparent) = span.as_ref().and_then(ClientSpan::traceparent) {
            request = request.header(TRACEPARENT, traceparent);
        }
        let answered = self.read_answer(request).await;
        if let (Some(span), Err(failure)) = (&mut span, &answered) {
            span.failed(failure);
        }
        answered
    }

    async fn read_answer<R: DeserializeOwned>(&self, request: RequestBuilder) -> Result<R, Failure> {
        let name = self.role.name;
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let answer = read(response).await.map_err(|error| self.unreachable(error))?;
        if status.is_success() {
            return serde_json::from_slice(&answer)
                .map_err(|error| self.unavailable(format!("the {name}'s answer cannot be read: {error}")));
        }
        Err(self.refused(status, &answer))
    }

    fn refused(&self, status: StatusCode, answer: &[u8]) -> Failure {
        let Problem { detail, title, code } = serde_json::from_slice(answer).unwrap_or_default();
        let said = detail.or(title).unwrap_or_else(|| excerpt(answer));
        let (refusal, refused) = self.role.refusal;
        match status {
            _ if code.as_deref() == Some(VOIDED) => Failure::non_retryable(STEP_UNDONE, said),
            status if status == refusal => Failure::non_retryable(refused, said),
            StatusCode::GONE => Failure::non_retryable(STEP_UNDONE, said),
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::CONFLICT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS => self.unavailable(self.answered(status, &said)),
            status if status.is_server_error() => self.unavailable(self.answered(status, &said)),
            status => Failure::non_retryable(self.role.rejected, self.answered(status, &said)),
        }
    }

    fn answered(&self, status: StatusCode, said: &str) -> String {
        format!("the {} answered {}: {said}", self.role.name, status.as_u16())
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        // The sources say what happened (refused, timed out, reset); the outermost only where.
        let reasons = std::iter::successors(std::error::Error::source(&error), |error| error.source());
        let reason = reasons.last().map_or_else(|| error.to_string(), ToString::to_string);
        self.unavailable(format!("the {} cannot be reached: {reason}", self.role.name))
    }

    /// The failure of a call that was given up after `limit_ms`.
    pub(super) fn silent(&self, limit_ms: u64) -> Failure {
        self.unavailable(format!("the {} did not answer within {limit_ms} ms", self.role.name))
    }

    fn unavailable(&self, message: String) -> Failure {
        Failure::application(self.role.unavailable, message)
    }
}

/// Whether asking again would change nothing.
pub(super) fn is_final(failure: &Failure) -> bool {
    match &failure.kind {
        FailureKind::Application(application) => application.non_retryable,
        FailureKind::TimedOut(_)
        | FailureKind::Canceled(_)
        | FailureKind::Terminated
        | FailureKind::Activity(_)
        | FailureKind::ChildWorkflow(_)
        | FailureKind::Other(_) => false,
    }
}

/// The beginning of an answer that does not say in words what is wrong.
fn excerpt(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).chars().take(300).collect()
}

async fn read(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_ANSWER_BYTES - answer.len();
        answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if answer.len() == MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(answer)
}
