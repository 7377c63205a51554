//! OTLP over HTTP: spans as protobuf, posted by the same HTTP client that activities use.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use reqwest::Client;

/// How long the collector may take for one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is a few lines at most.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Where a collector takes spans (OTLP/HTTP specification).
const TRACES_PATH: &str = "/v1/traces";

/// A collector that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Not the address of an HTTP server.
    #[error("telemetry.otlp_endpoint is not the address of an HTTP server: `{0}`")]
    InvalidUrl(String),
    /// The client or the exporter cannot be made.
    #[error("no exporter of traces: {0}")]
    Exporter(String),
}

/// Makes the exporter to the collector at `endpoint`, its base address as in
/// `OTEL_EXPORTER_OTLP_ENDPOINT`. Must be called within a tokio runtime.
///
/// # Errors
/// When the address or the environment's settings (`OTEL_EXPORTER_OTLP_HEADERS`, …) are bad.
pub(super) fn exporter(endpoint: &str) -> Result<SpanExporter, ExportError> {
    let url = format!("{}{TRACES_PATH}", endpoint.trim_end_matches('/'));
    let parsed = reqwest::Url::parse(&url).map_err(|_| ExportError::InvalidUrl(endpoint.to_owned()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(ExportError::InvalidUrl(endpoint.to_owned()));
    }
    let failed = |error: &dyn std::fmt::Display| ExportError::Exporter(error.to_string());
    // Whoever installs a TLS provider first wins, and there is only one in this binary.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
    if matches!(parsed.host_str(), Some("127.0.0.1" | "[::1]" | "localhost")) {
        builder = builder.no_proxy();
    }
    if parsed.scheme() == "http" {
        builder = builder.tls_certs_only([]);
    }
    let client = builder.build().map_err(|error| failed(&error))?;
    let posting = Posting { client, runtime: tokio::runtime::Handle::current() };
    SpanExporter::builder()
        .with_http()
        .with_http_client(posting)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .with_endpoint(url)
        .build()
        .map_err(|error| failed(&error))
}

/// Posts from a thread that is not tokio's.
#[derive(Debug)]
struct Posting {
    client: Client,
    runtime: tokio::runtime::Handle,
}

#[async_trait]
impl HttpClient for Posting {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(post(client, request)).await?
    }
}

async fn post(client: Client, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
    let request = reqwest::Request::try_from(request)?;
    let mut response = client.execute(request).await?;
    let mut answer = http::Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        headers.clone_from(response.headers());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer.body(body.into())?)
}
