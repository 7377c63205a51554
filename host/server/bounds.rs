//! What the server takes on at once: the bytes of bodies, and the requests that wait.
//!
//! A body counts from before it is read until its request is answered, or waits for something that needs the
//! body no more: by its announced length, or by the most that its path takes where none is announced. What the
//! host makes of a body on its way to the disk is a small multiple of it, so that this bound is what holds the
//! memory of writes. A body that does not come does not hold its room for long.
//!
//! A request that finds no room is refused with 503 `busy` and a `Retry-After`: nothing was done. The number of
//! connections is bounded in [`listener`](super::listener), writes and activities in the runner's `admission`.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::problem::{Code, Problem};
use crate::telemetry::Telemetry;

/// How long a body may take to arrive.
const LONGEST_UPLOAD: Duration = Duration::from_secs(30);

/// How long a body that finds no room may take to pass.
const LONGEST_REFUSAL: Duration = Duration::from_secs(5);

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Bytes of the bodies of all requests that are not answered yet.
    pub request_bytes_under_way: usize,
    /// Open connections.
    pub connections: usize,
    /// Requests that wait for a run's end, its next event, or an attempt to make.
    pub waiting_requests: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { request_bytes_under_way: 256 * 1024 * 1024, connections: 10_000, waiting_requests: 5_000 }
    }
}

tokio::task_local! {
    /// The room that the present request's body takes.
    static ROOM: RefCell<Option<OwnedSemaphorePermit>>;
}

/// Room for bodies, of which a group of routes takes some.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    room: Arc<Semaphore>,
    bytes: usize,
    /// The largest body that the routes take.
    largest: usize,
    telemetry: Telemetry,
}

/// Room for requests that wait.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    room: Arc<Semaphore>,
    telemetry: Telemetry,
}

impl Bodies {
    pub(super) fn new(bytes: usize, telemetry: Telemetry) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(bytes)), bytes, largest: 0, telemetry }
    }

    /// The same room, for routes that take bodies of up to `largest` bytes.
    pub(super) fn up_to(&self, largest: usize) -> Self {
        Self { largest, ..self.clone() }
    }

    /// Takes room for a body; one that is larger than all room has all of it.
    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes.min(self.largest).min(self.bytes)).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| {
            self.telemetry.refused("request_bytes_under_way");
            busy(format!("the bodies of the requests under way take {} bytes already", self.bytes))
        })
    }
}

impl Waits {
    pub(super) fn new(requests: usize, telemetry: Telemetry) -> Self {
        let room = Arc::new(Semaphore::new(requests.min(Semaphore::MAX_PERMITS)));
        Self { room, telemetry }
    }

    /// Takes room for a request that is to wait.
    ///
    /// # Errors
    /// `busy`.
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            self.telemetry.refused("waiting_requests");
            busy("too many requests wait already".to_owned())
        })?;
        // What waits needs its body no more.
        let _ = ROOM.try_with(|room| room.borrow_mut().take());
        Ok(permit)
    }
}

fn busy(detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::BUSY, detail)
}

/// Lets a request with a body in as long as there is room for the body.
pub(super) async fn admit(State(bodies): State<Bodies>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    match bodies.take(announced.unwrap_or(usize::MAX)) {
        Ok(room) => ROOM.scope(RefCell::new(Some(room)), next.run(request.map(in_time))).await,
        Err(problem) => {
            // Who is still sending would find the connection closed, and not see the answer.
            let sent = let_pass(request.into_body(), bodies.largest);
            let _ = tokio::time::timeout(LONGEST_REFUSAL, sent).await;
            problem.into_response()
        }
    }
}

/// Takes a body from the connection and keeps nothing of it, up to `most` bytes.
async fn let_pass(body: Body, most: usize) {
    let (mut body, mut passed) = (body.into_data_stream(), 0);
    while passed <= most
        && let Some(Ok(chunk)) = body.next().await
    {
        passed += chunk.len();
    }
}

/// The body, which fails if it does not arrive in time.
fn in_time(body: Body) -> Body {
    Body::from_stream(until(Instant::now() + LONGEST_UPLOAD, body.into_data_stream()))
}

fn until<E>(
    deadline: Instant,
    body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<Bytes, axum::BoxError>> + Send + 'static
where
    E: Into<axum::BoxError> + Send + 'static,
{
    stream::unfold(body, move |mut body| async move {
        let chunk = tokio::select! {
            biased;
            chunk = body.next() => chunk?.map_err(Into::into),
            () = sleep_until(deadline) => {
                Err(format!("the body did not arrive within {} s", LONGEST_UPLOAD.as_secs()).into())
            }
        };
        Some((chunk, body))
    })
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::to_bytes;
    use axum::middleware::from_fn_with_state;
    use axum::routing::post;
    use tokio::sync::oneshot;
    use tower::ServiceExt as _;

    use super::*;

    fn bodies(bytes: usize) -> Bodies {
        Bodies::new(bytes, Telemetry::default()).up_to(1_000)
    }

    fn request(length: Option<usize>, body: Body) -> Request {
        let request = Request::post("/");
        match length {
            Some(length) => request.header(header::CONTENT_LENGTH, length).body(body).expect("a request"),
            None => request.body(body).expect("a request"),
        }
    }

    #[test]
    fn a_body_without_a_length_counts_as_the_largest_and_the_largest_of_all_fits_alone() {
        let bodies = bodies(1_500);
        let first = bodies.take(usize::MAX).expect("there is room");
        assert_eq!(first.num_permits(), 1_000);
        assert!(bodies.take(501).is_err());
        assert!(bodies.take(500).is_ok());
        drop(first);
        let all = bodies.up_to(usize::MAX).take(usize::MAX).expect("there is room");
        assert_eq!(all.num_permits(), 1_500);
    }

    #[tokio::test]
    async fn room_is_held_until_the_answer_and_refusals_say_when_to_come_back() {
        let bodies = bodies(1_000);
        let (let_go, wait) = oneshot::channel::<()>();
        let wait = Arc::new(tokio::sync::Mutex::new(Some(wait)));
        let handler = move |_: Bytes| async move {
            if let Some(wait) = wait.lock().await.take() {
                let _ = wait.await;
            }
        };
        let router = Router::new().route("/", post(handler)).layer(from_fn_with_state(bodies.clone(), admit));
        let first = tokio::spawn(router.clone().oneshot(request(Some(600), Body::from(vec![0; 600]))));
        while bodies.room.available_permits() > 400 {
            tokio::task::yield_now().await;
        }
        let refused = router.clone().oneshot(request(Some(600), Body::from(vec![0; 600]))).await;
        let refused = refused.expect("an answer");
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (503, &"1".parse().expect("a value"))
        );
        let _ = let_go.send(());
        assert_eq!(first.await.expect("it ends").expect("an answer").status(), 200);
        assert_eq!(bodies.room.available_permits(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_fails_and_frees_its_room() {
        let bodies = bodies(1_000);
        let router = Router::new()
            .route("/", post(|_: Bytes| async {}))
            .layer(from_fn_with_state(bodies.clone(), admit));
        let silent = Body::from_stream(stream::pending::<Result<Bytes, axum::BoxError>>());
        let answer = router.oneshot(request(Some(1_000), silent)).await.expect("an answer");
        assert_eq!(answer.status(), 400);
        let text = to_bytes(answer.into_body(), 1_000).await.expect("a body");
        assert!(String::from_utf8_lossy(&text).contains("did not arrive"), "{text:?}");
        assert_eq!(bodies.room.available_permits(), 1_000);
    }
}
