//! The HTTP interface: JSON over the host's public functions.
//!
//! This module owns paths, bodies, refusals and the listener. It decides nothing about runs and
//! never meets a store or a guest. `router` puts the pieces together, outermost first: requests are counted
//! and traced, panics become an answer, [`access`] refuses what must not come in and `bounds` what does not
//! fit, then the routes. An application's own routes
//! are passed in as a router; they get the same treatment, and write their errors as [`problem::Problem`].

pub mod access;
mod activities;
mod bounds;
mod check;
mod components;
pub mod extract;
mod listener;
pub mod metrics;
mod openapi;
pub mod problem;
mod progress;
mod schedules;
#[cfg(test)]
mod tests;
mod types;
pub mod wire;
mod workflows;

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi as Document;

use crate::runner::Host;
use crate::runner::api::ApiError;
use crate::telemetry;
use access::{Access, AllowedHost, Token};
use bounds::{Bodies, Waits};
use openapi::{refusals, shapes};
use problem::{Answer, Code, Problem};

pub use bounds::ServerLimits;

/// The largest body that an application's routes take: the framework's own limit.
const LARGEST_BODY: usize = 2 * 1024 * 1024;

/// How the server listens and whom it lets in.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Needed by every request if set; must be set to listen beyond loopback.
    pub token: Option<Token>,
    /// Names of this server besides the loopback ones and the listening address.
    pub allowed_hosts: Vec<AllowedHost>,
    /// The largest payload.
    pub payload_bytes: usize,
    /// The largest component.
    pub component_bytes: usize,
    /// What it takes on at once.
    pub limits: ServerLimits,
}

/// A server that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Everybody in the network could start workflows.
    #[error("listening on {0} is open to other machines and needs a token")]
    TokenNeeded(SocketAddr),
    /// The address is in use, is not this machine's, or is not allowed.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    settings: ServerSettings,
    /// The description of all routes, as JSON.
    document: Arc<str>,
}

impl Server {
    /// Binds the listener; requests are taken from [`Server::serve`] on.
    ///
    /// # Errors
    /// When the address needs a token that is not set, or cannot be bound.
    pub async fn bind(settings: ServerSettings) -> Result<Self, ServeError> {
        let address = settings.listen;
        if !address.ip().is_loopback() && settings.token.is_none() {
            return Err(ServeError::TokenNeeded(address));
        }
        let failed = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, settings, document: openapi::text([]) })
    }

    /// Adds what applications say of their routes to the document at `/api/v1/openapi.json`.
    #[must_use]
    pub fn describing(mut self, applications: impl IntoIterator<Item = Document>) -> Self {
        self.document = openapi::text(applications);
        self
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stopping`: then no connection is accepted any more, waiting requests are
    /// answered with how things stand, and the others end.
    pub async fn serve(self, host: Host, application: Router, stopping: CancellationToken) {
        let application = application.merge(openapi::routes(self.document));
        let telemetry = host.telemetry().clone();
        let router = router(host, application, &self.settings, self.address, stopping.clone());
        listener::serve(self.listener, router, self.settings.limits.connections, telemetry, stopping).await;
    }
}

/// What handlers know.
#[derive(Clone, Debug)]
struct Served {
    host: Host,
    stopping: CancellationToken,
    waits: Waits,
}

impl Served {
    /// Asks with a wait, if there is room for one more; when the server stops meanwhile, asks again without.
    async fn waiting<T, F>(&self, wait: Duration, ask: impl Fn(Duration) -> F) -> Answer<T>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        if wait.is_zero() {
            return Ok(ask(wait).await?);
        }
        let _room = self.waits.take()?;
        tokio::select! {
            biased;
            answer = ask(wait) => Ok(answer?),
            () = self.stopping.cancelled() => Ok(ask(Duration::ZERO).await?),
        }
    }
}

/// All routes behind the rules of access.
fn router(
    host: Host,
    application: Router,
    settings: &ServerSettings,
    address: SocketAddr,
    stopping: CancellationToken,
) -> Router {
    let access = Access::new(address, &settings.allowed_hosts, settings.token.clone());
    let telemetry = host.telemetry().clone();
    let waits = Waits::new(settings.limits.waiting_requests, telemetry.clone());
    let bodies = Bodies::new(settings.limits.request_bytes_under_way, telemetry.clone());
    let bounded = |largest| middleware::from_fn_with_state(bodies.up_to(largest), bounds::admit);
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route(metrics::PATH, get(scrape))
        .merge(
            workflows::routes(settings.payload_bytes)
                .layer(bounded(workflows::largest(settings.payload_bytes))),
        )
        .merge(
            activities::routes(settings.payload_bytes)
                .layer(bounded(workflows::largest(settings.payload_bytes))),
        )
        .merge(
            schedules::routes(settings.payload_bytes)
                .layer(bounded(workflows::largest(settings.payload_bytes))),
        )
        .merge(components::routes(settings.component_bytes).layer(bounded(settings.component_bytes)))
        .merge(types::routes().layer(bounded(types::BODY_BYTES)))
        .with_state(Served { host, stopping, waits })
        .merge(application.layer(bounded(LARGEST_BODY)))
        .fallback(nothing_there)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::new(access), access::guard))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(telemetry, telemetry::http::observe))
}

/// Whether the process is alive
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "operations",
    responses((status = 200, description = "It is", body = shapes::Health))
)]
async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Whether the host takes requests
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "operations",
    responses((status = 200, description = "It does", body = shapes::Health), refusals::Ready)
)]
async fn readyz(State(served): State<Served>) -> Answer<Json<Value>> {
    if served.stopping.is_cancelled() {
        return Err(ApiError::Busy("the host is stopping".to_owned()).into());
    }
    served.host.readiness()?;
    Ok(Json(json!({ "status": "ready" })))
}

async fn scrape(State(served): State<Served>) -> Response {
    metrics::reply(&served.host).await
}

/// A refusal of what a path names: there is no such thing.
fn in_path(error: ApiError) -> Problem {
    let code = match error {
        ApiError::UnknownWorkflowType(_) => Code::UNKNOWN_WORKFLOW_TYPE,
        ApiError::UnknownVersion(_) => Code::UNKNOWN_VERSION,
        other => return other.into(),
    };
    Problem::new(StatusCode::NOT_FOUND, code, error.to_string())
}

async fn nothing_there(method: Method, uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {method} {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; see the Allow header", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, Code::METHOD_NOT_ALLOWED, detail)
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(message, "a request handler panicked");
    let detail = "the request met a fault of the host; its log says more";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, Code::INTERNAL, detail).into_response()
}
