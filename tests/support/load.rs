//! A load of starts through HTTP, whose senders insist: each start is sent again until it is acknowledged,
//! through refusals and through the death of the host. What was acknowledged must then be there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use reqwest::{Response, header};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::server::Server;

/// How long a sender pauses between two starts, and before it sends one again.
const PAUSE: Duration = Duration::from_millis(10);

/// Events of a run of `four-steps`: its start, four activities of two events each, its end.
pub const EVENTS: usize = 10;

/// Senders at work.
pub struct Load {
    seen: Arc<Seen>,
    senders: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    acknowledged: Mutex<Vec<String>>,
    refused: AtomicUsize,
    unanswered: AtomicUsize,
    changed: Notify,
    is_over: AtomicBool,
}

impl Load {
    /// Begins: `senders` connections start runs of `four-steps`, with workflow ids that begin with `name`.
    pub fn begin(server: &Server, name: &str, senders: usize) -> Self {
        let seen = Arc::new(Seen::default());
        let sender = |number: usize| {
            let (http, url) = (server.http.clone(), server.url("/api/v1/workflows"));
            tokio::spawn(send(http, url, format!("{name}-{number}"), Arc::clone(&seen)))
        };
        let senders = (0..senders).map(sender).collect();
        Self { seen, senders }
    }

    /// Waits until so many more starts are acknowledged.
    pub async fn is_acknowledged(&self, more: usize) {
        let from = self.acknowledged().len();
        self.until(|seen| seen.acknowledged.lock().len() >= from + more).await;
    }

    /// Waits until so many more starts are refused.
    pub async fn is_refused(&self, more: usize) {
        let from = self.refused();
        self.until(|seen| seen.refused.load(Ordering::SeqCst) >= from + more).await;
    }

    /// How many starts were refused.
    pub fn refused(&self) -> usize {
        self.seen.refused.load(Ordering::SeqCst)
    }

    /// The workflow ids whose start was acknowledged so far.
    pub fn acknowledged(&self) -> Vec<String> {
        self.seen.acknowledged.lock().clone()
    }

    /// Ends it when each sender's present start is acknowledged; gives all workflow ids.
    pub async fn end(self) -> Vec<String> {
        self.seen.is_over.store(true, Ordering::SeqCst);
        for sender in self.senders {
            sender.await.unwrap();
        }
        self.seen.acknowledged.lock().clone()
    }

    async fn until(&self, is_so: impl Fn(&Seen) -> bool) {
        let waits = async {
            loop {
                let changed = self.seen.changed.notified();
                if is_so(&self.seen) || self.senders.iter().any(JoinHandle::is_finished) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(super::PATIENCE, waits).await.expect("the load goes on");
        assert!(is_so(&self.seen), "a sender has failed");
    }
}

async fn send(http: reqwest::Client, url: String, name: String, seen: Arc<Seen>) {
    for number in 0.. {
        let id = format!("{name}-{number}");
        let body = json!({
            "workflow_type": "four-steps",
            "workflow_id": id,
            "request_id": id,
            "input": { "activity": "noop" },
        });
        while !is_acknowledged(http.post(&url).json(&body).send().await, &seen).await {
            seen.changed.notify_waiters();
            tokio::time::sleep(PAUSE).await;
        }
        seen.acknowledged.lock().push(id);
        seen.changed.notify_waiters();
        if seen.is_over.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a start was; it may also be refused, or the host die with it.
async fn is_acknowledged(answer: reqwest::Result<Response>, seen: &Seen) -> bool {
    let Ok(response) = answer else {
        seen.unanswered.fetch_add(1, Ordering::SeqCst);
        return false;
    };
    // 200 where the answer to the same request had got lost.
    if [200, 201].contains(&response.status().as_u16()) {
        return true;
    }
    if refusal(response).await.is_some() {
        seen.refused.fetch_add(1, Ordering::SeqCst);
    }
    false
}

/// The problem of a refusal by a busy host, which says when to come back. Absent if the host died meanwhile.
///
/// # Panics
/// When it is any other answer.
pub async fn refusal(response: Response) -> Option<Value> {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.text().await.ok()?;
    let problem: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status}: {body}"));
    assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("busy")), "{body}");
    assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{body}");
    let seconds = headers[header::RETRY_AFTER].to_str().unwrap().parse::<u32>().unwrap();
    assert!((1..=60).contains(&seconds), "Retry-After: {seconds}");
    Some(problem)
}

/// Waits until all these runs have completed, each with nothing recorded twice.
pub async fn assert_completed(server: &Server, ids: &[String]) {
    let check = |id: &String| {
        let id = id.clone();
        async move {
            let end = server.end(&id).await;
            assert_eq!(end["status"], "completed", "{id}: {end}");
            assert_eq!(history(server, &id).await.len(), EVENTS, "{id}");
        }
    };
    stream::iter(ids.iter().map(check)).buffer_unordered(16).collect::<Vec<()>>().await;
}

/// The events of these runs so far.
pub async fn histories(server: &Server, ids: &[String]) -> Vec<(String, Vec<Value>)> {
    let read = |id: &String| {
        let id = id.clone();
        async move {
            let events = history(server, &id).await;
            (id, events)
        }
    };
    stream::iter(ids.iter().map(read)).buffer_unordered(16).collect().await
}

/// Checks that what was recorded before is there, unchanged.
pub async fn assert_kept(server: &Server, before: &[(String, Vec<Value>)]) {
    for (id, events) in before {
        let now = history(server, id).await;
        assert!(
            now.len() >= events.len() && now[..events.len()] == events[..],
            "{id}: what is recorded stays"
        );
    }
}

async fn history(server: &Server, id: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/workflows/{id}/history?limit=1000")).await;
    page["events"].as_array().unwrap().clone()
}
