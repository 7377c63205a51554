//! `GET /metrics`: on the server's own port like any other route, and on a port of its own if wanted.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::access::{self, Access};
use super::{ServeError, ServerSettings, listener, nothing_there};
use crate::runner::Host;

/// Where metrics are.
pub const PATH: &str = "/metrics";
/// Scrapers that may be connected at once.
const CONNECTIONS: usize = 64;
/// Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A bound listener that serves metrics and nothing else.
#[derive(Debug)]
pub struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
    access: Access,
}

impl MetricsServer {
    /// Binds the listener on `listen`, under the rules of the server itself.
    ///
    /// # Errors
    /// When the address needs a token that is not set, or cannot be bound.
    pub async fn bind(listen: SocketAddr, server: &ServerSettings) -> Result<Self, ServeError> {
        if !listen.ip().is_loopback() && server.token.is_none() {
            return Err(ServeError::TokenNeeded(listen));
        }
        let failed = |source| ServeError::Bind { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let access = Access::new(address, &server.allowed_hosts, server.token.clone());
        Ok(Self { listener, address, access })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stopping`.
    pub async fn serve(self, host: Host, stopping: CancellationToken) {
        let telemetry = host.telemetry().clone();
        let router = Router::new()
            .route(PATH, get(async move || reply(&host).await))
            .fallback(nothing_there)
            .layer(middleware::from_fn_with_state(Arc::new(self.access), access::guard));
        listener::serve(self.listener, router, CONNECTIONS, telemetry, stopping).await;
    }
}

/// All metrics.
pub(super) async fn reply(host: &Host) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], host.metrics().await).into_response()
}
