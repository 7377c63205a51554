//! A collector of traces that keeps nothing, so that what is measured is what spans cost the host.
//! It lives in the driver's process, where its own time is counted.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cli::failure::Failure;

/// It listens until it is dropped.
#[derive(Debug)]
pub(super) struct Collector {
    url: String,
    task: JoinHandle<()>,
}

impl Collector {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("there is no port for a collector of traces")?;
        let address = listener.local_addr().context("the collector of traces has no address")?;
        let router = Router::new().route("/v1/traces", post(take)).layer(DefaultBodyLimit::disable());
        let task = tokio::spawn(async move {
            // It ends with an error of the listener alone; then spans are dropped, which the report shows.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url: format!("http://{address}"), task })
    }

    /// Its base address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes spans: an `ExportTraceServiceResponse` without fields is an empty message.
async fn take(_: Bytes) -> ([(header::HeaderName, &'static str); 1], Bytes) {
    ([(header::CONTENT_TYPE, "application/x-protobuf")], Bytes::new())
}
