//! Connections: accepted, bounded, and given up when they say nothing.
//!
//! Each open connection costs a file, a task and its buffers, so that their number is bounded. One more is
//! accepted all the same, and its first request answered with 503 `busy` and closed: somebody in a queue that
//! the server does not look at would learn nothing. Only `/healthz` is answered as ever, because the process
//! lives. A few such connections are open at once; beyond those a connection is closed unanswered.
//!
//! A connection whose request's head does not arrive in time is closed, an idle one too. When the server
//! stops, nothing is accepted any more, and each connection ends behind the request that it is in.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::problem::{Code, Problem};
use crate::telemetry::Telemetry;

/// How long a request's head may take, and a connection be idle.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);
/// The largest head of a request, and the most of a body that is read ahead, in bytes.
const BUFFER: usize = 64 * 1024;
/// Connections that are open at once only to be refused.
const REFUSED_AT_ONCE: usize = 256;
/// How long accepting pauses when the process has no more files.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `stopping`, then until the requests under way are answered.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    connections: usize,
    telemetry: Telemetry,
    stopping: CancellationToken,
) {
    let bounded = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    let (room, refused) = (bounded(connections), bounded(REFUSED_AT_ONCE));
    let open = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        let Some(stream) = accepted else { continue };
        let stopping = stopping.clone();
        if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
            open.spawn(keep(stream, TowerToHyperService::new(router.clone()), permit, stopping));
            continue;
        }
        telemetry.refused("connections");
        if let Ok(permit) = Arc::clone(&refused).try_acquire_owned() {
            let router = router.clone();
            open.spawn(keep(stream, service_fn(move |request| turn_away(request, router.clone())), permit, stopping));
        }
    }
    drop(listener);
    open.close();
    open.wait().await;
}

/// Accepts a connection. Absent when there was none: it went away, or there are no more files.
async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Without it an answer in two writes waits for a delayed acknowledgement.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY could not be set");
            }
            Some(stream)
        }
        Err(error) if is_of_the_peer(&error) => None,
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection to its end.
async fn keep<S>(stream: TcpStream, service: S, permit: OwnedSemaphorePermit, stopping: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    let _permit = permit;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_SILENCE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Answers a request for which there is no connection left.
async fn turn_away(
    request: Request<Incoming>,
    router: Router,
) -> Result<Response, Infallible> {
    let mut response = if request.uri().path() == "/healthz" {
        TowerToHyperService::new(router).call(request).await?
    } else {
        let detail = "the server has as many connections open as it may have";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::BUSY, detail).into_response()
    };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}
