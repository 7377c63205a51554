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
    let connections = connections.min(files());
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
            open.spawn(keep(
                stream,
                service_fn(move |request| turn_away(request, router.clone())),
                permit,
                stopping,
            ));
        }
    }
    drop(listener);
    open.close();
    open.wait().await;
}

/// How many of the files that the process may have open can be connections; the others are for the store and
/// for what activities call.
fn files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let files = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    files.map_or(usize::MAX, |files| files / 4 * 3)
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
async fn turn_away(request: Request<Incoming>, router: Router) -> Result<Response, Infallible> {
    let mut response = if request.uri().path() == "/healthz" {
        TowerToHyperService::new(router).call(request).await?
    } else {
        let detail = "the server has as many connections open as it may have";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::BUSY, detail).into_response()
    };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server for `connections`, its address, and what stops it.
    async fn serving(
        connections: usize,
    ) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router =
            Router::new().route("/", get(|| async { "hello" })).route("/healthz", get(|| async { "ok" }));
        let stopping = CancellationToken::new();
        let served = serve(listener, router, connections, Telemetry::default(), stopping.clone());
        (address, stopping, tokio::spawn(served))
    }

    async fn said(mut stream: TcpStream, text: &str) -> String {
        stream.write_all(text.as_bytes()).await.expect("it is sent");
        let mut answer = Vec::new();
        // A connection that is reset has said nothing more.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_arrive_closes_its_connection() {
        let (address, _stopping, _server) = serving(1).await;
        let slow = TcpStream::connect(address).await.expect("a connection");
        let answer = said(slow, "GET / HTTP/1.1\r\nhost: a").await;
        assert!(!answer.contains("hello"), "{answer}");
        // Its place is free.
        let next = TcpStream::connect(address).await.expect("a connection");
        assert!(said(next, "GET / HTTP/1.0\r\n\r\n").await.ends_with("hello"));
    }

    #[tokio::test]
    async fn a_connection_too_many_is_refused_but_the_process_lives() {
        let (address, _stopping, _server) = serving(0).await;
        let refused = TcpStream::connect(address).await.expect("a connection");
        let refused = said(refused, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\"code\":\"busy\""), "{refused}");
        let alive = TcpStream::connect(address).await.expect("a connection");
        assert!(said(alive, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.ends_with("ok"));
    }

    #[tokio::test]
    async fn idle_connections_do_not_hold_up_the_stop() {
        let (address, stopping, server) = serving(1).await;
        let idle = TcpStream::connect(address).await.expect("a connection");
        stopping.cancel();
        server.await.expect("it stops");
        drop(idle);
    }
}
