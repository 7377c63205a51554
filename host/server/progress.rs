//! Answers that take their time: as one JSON body, or in lines that say how far they have come.
//!
//! Both end when the client goes away: the work is part of the answer, and is dropped with it.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::extract::Json;
use super::problem::{Answer, Problem};
use super::wire::Progress;

/// The content type of an answer in lines.
const NDJSON: &str = "application/x-ndjson";
/// The least time between two lines.
const PACE: Duration = Duration::from_millis(100);
/// Beats after which a line is written although nothing is new: a client that went away is noticed by it.
const LONGEST_SILENCE: u32 = 50;

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One body at the end.
    Whole,
    /// Lines, the last of which is the answer.
    Lines,
}

impl Wanted {
    /// The form that a request accepts.
    pub(super) fn by(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut kinds = accepted.flat_map(|value| value.split(','));
        let is_lines = |kind: &str| {
            let essence = kind.split(';').next().unwrap_or_default();
            essence.trim().eq_ignore_ascii_case(NDJSON)
        };
        if kinds.any(is_lines) { Self::Lines } else { Self::Whole }
    }
}

/// Answers with what `work` gives. It tells how far it has come by the sender that it gets.
///
/// # Errors
/// Those of the work. In lines they are the last line.
pub(super) async fn answer<T, F>(
    wanted: Wanted,
    work: impl FnOnce(watch::Sender<Progress>) -> F,
) -> Answer<Response>
where
    T: Serialize + Send + 'static,
    F: Future<Output = Answer<T>> + Send + 'static,
{
    let (sender, progress) = watch::channel(Progress::default());
    let work = work(sender);
    match wanted {
        Wanted::Whole => Ok(Json(work.await?).into_response()),
        Wanted::Lines => Ok(lines(progress, work)),
    }
}

/// What is under way.
struct Underway {
    work: Pin<Box<dyn Future<Output = Value> + Send>>,
    progress: watch::Receiver<Progress>,
    beat: Interval,
    silent: u32,
}

fn lines<T, F>(progress: watch::Receiver<Progress>, work: F) -> Response
where
    T: Serialize + Send + 'static,
    F: Future<Output = Answer<T>> + Send + 'static,
{
    let work = Box::pin(async move {
        match work.await {
            Ok(report) => json!({ "report": report }),
            Err(problem) => json!({ "problem": Problem::to_value(&problem) }),
        }
    });
    let mut beat = interval(PACE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let underway = Some(Underway { work, progress, beat, silent: 0 });
    let lines = stream::unfold(underway, |underway| async move {
        let mut underway = underway?;
        let line = underway.next().await;
        Some(match line {
            Said::Progress(progress) => (line_of(&json!({ "progress": progress })), Some(underway)),
            Said::End(end) => (line_of(&end), None),
        })
    });
    let mut response = Body::from_stream(lines).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response
}

/// What a line says.
enum Said {
    Progress(Progress),
    End(Value),
}

impl Underway {
    async fn next(&mut self) -> Said {
        loop {
            tokio::select! {
                biased;
                end = &mut self.work => return Said::End(end),
                _ = self.beat.tick() => {}
            }
            self.silent += 1;
            let is_new = self.progress.has_changed().unwrap_or_default();
            if is_new || self.silent >= LONGEST_SILENCE {
                self.silent = 0;
                return Said::Progress(*self.progress.borrow_and_update());
            }
        }
    }
}

fn line_of(value: &Value) -> Result<Bytes, Infallible> {
    Ok(format!("{value}\n").into())
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::http::StatusCode;
    use tokio::sync::oneshot;

    use super::super::problem::Code;
    use super::*;

    fn accepting(kinds: &str) -> Wanted {
        let value = HeaderValue::from_str(kinds).expect("a header");
        Wanted::by(&HeaderMap::from_iter([(header::ACCEPT, value)]))
    }

    async fn text(response: Response) -> String {
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        String::from_utf8(bytes.into()).expect("UTF-8")
    }

    #[test]
    fn lines_are_given_to_those_who_accept_them() {
        assert_eq!(Wanted::by(&HeaderMap::new()), Wanted::Whole);
        assert_eq!(accepting("*/*"), Wanted::Whole);
        assert_eq!(accepting("application/json, application/X-NDJSON;q=0.9"), Wanted::Lines);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_tell_progress_and_then_the_end() {
        let answered = answer(Wanted::Lines, |progress| async move {
            for done in [1, 2] {
                progress.send_replace(Progress { done, total: 2 });
                tokio::time::sleep(PACE * 2).await;
            }
            Ok("all")
        });
        let response = answered.await.expect("an answer");
        assert_eq!(response.headers()[header::CONTENT_TYPE], NDJSON);
        insta::assert_snapshot!(text(response).await, @r#"
        {"progress":{"done":1,"total":2}}
        {"progress":{"done":2,"total":2}}
        {"report":"all"}
        "#);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_the_last_line_or_the_answer() {
        let refuse = |_: watch::Sender<Progress>| async {
            Err::<(), _>(Problem::new(StatusCode::CONFLICT, Code::VERSION_CONFLICT, "no"))
        };
        let in_lines = answer(Wanted::Lines, refuse).await.expect("lines");
        let last: Value = serde_json::from_str(&text(in_lines).await).expect("JSON");
        assert_eq!(last["problem"]["code"], "version_conflict");
        let refused = answer(Wanted::Whole, refuse).await;
        assert_eq!(refused.map(|_| ()).expect_err("a refusal").to_value(), last["problem"]);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_nobody_waits_for_ends() {
        let (kept, dropped) = oneshot::channel::<()>();
        let answered = answer(Wanted::Lines, |_progress| async move {
            let _kept = kept;
            std::future::pending::<Answer<()>>().await
        });
        let mut body = answered.await.expect("lines").into_body().into_data_stream();
        let first = futures::StreamExt::next(&mut body).await;
        assert_eq!(first.expect("a line").expect("bytes"), "{\"progress\":{\"done\":0,\"total\":0}}\n");
        drop(body);
        assert!(dropped.await.is_err(), "the work is gone");
    }
}
