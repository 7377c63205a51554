//! The activities against the real sandbox, over HTTP and in a real folder.

mod changes;
mod closing;
mod inventory;
mod remotes;
mod routes;
mod shipping;
mod steps;

use std::path::Path;
use std::sync::Arc;

use everfold_core::command::{ActivityScheduled, CancellationType};
use everfold_core::event::ActivityTimeouts;
use everfold_core::failure::FailureKind;
use everfold_core::ids::{EventId, Namespace, RunId, RunKey, Timestamp};
use everfold_core::payload::Payload;
use everfold_core::retry::RetryPolicy;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::activity::{AttemptOutcome, AttemptSettings, AttemptTask, Attempts};
use crate::clock::VirtualTime;
use crate::telemetry::RunNames;

/// No activity pauses longer before it asks again.
const LONGEST_PAUSE_MS: u64 = 2_000;
const T0: Timestamp = Timestamp(1_700_000_000_000);

/// An open order application and what is around it. Time stands still unless a test moves it.
#[derive(Clone)]
struct Bench {
    time: VirtualTime,
    shop: Arc<Shop>,
    attempts: Arc<Attempts>,
    sandbox: Arc<Sandbox>,
}

impl Bench {
    async fn open(folder: &TempDir) -> Self {
        let time = VirtualTime::starting_at(T0);
        let clock = Clock::from_source(time.clone());
        let sandbox = Sandbox::start(folder.path(), clock.clone()).await.expect("the sandbox starts");
        let settings = OrdersSettings {
            gateway_url: Some(sandbox.gateway_url.clone()),
            carrier_url: Some(format!("{}/", sandbox.carrier_url)),
            ..OrdersSettings::default()
        };
        let (shop, attempts) = open_app(folder.path(), settings, clock).await;
        Self { time, shop, attempts, sandbox: Arc::new(sandbox) }
    }

    /// One attempt, with time moved through its pauses; its end in a line.
    async fn run(&self, activity_type: &str, key: &str, input: &Value) -> String {
        self.paced(attempt(&self.attempts, activity_type, key, input)).await.0
    }

    /// Moves time through every pause of an attempt; its end, and how long each pause was.
    async fn paced<T>(&self, attempt: impl Future<Output = T>) -> (T, Vec<u64>) {
        tokio::pin!(attempt);
        let mut pauses = Vec::new();
        loop {
            tokio::select! {
                biased;
                outcome = &mut attempt => return (outcome, pauses),
                () = tokio::task::yield_now() => {}
            }
            let now = self.shop.clock.now();
            // Whatever sleeps longer is a time-out.
            let pause = self.time.next_wake().filter(|at| at.ms_since(now) <= LONGEST_PAUSE_MS);
            if let Some(at) = pause {
                pauses.push(at.ms_since(now));
                self.time.advance_to(at);
            }
        }
    }

    /// One attempt that must succeed; its result.
    async fn result(&self, activity_type: &str, key: &str, input: &Value) -> Value {
        let heartbeats = self.attempts.heartbeats(None);
        let task = task(activity_type, key, input);
        let attempt = self.attempts.run(task, CancellationToken::new(), heartbeats);
        match self.paced(attempt).await.0 {
            AttemptOutcome::Completed(result) => result.to_value(),
            AttemptOutcome::Failed(failure) | AttemptOutcome::Canceled(failure) => {
                panic!("{activity_type} failed: {failure}")
            }
            AttemptOutcome::CompletesLater { .. } => panic!("{activity_type} completes later"),
        }
    }

    /// What the sandbox did, one effect a line.
    async fn effects(&self, what: &str) -> Vec<String> {
        let url = serve(self.sandbox.router()).await;
        let list = get(&format!("{url}/sandbox/{what}")).await;
        let line = |effect: &Value| {
            format!("{} {} {}", text(effect, "kind"), text(effect, "step_key"), effect["amount_cents"])
        };
        list.as_array().expect("a list").iter().map(line).collect()
    }

    /// On hand and reserved.
    async fn stock(&self, sku: &str) -> (i64, i64) {
        sqlx::query_as("SELECT on_hand, reserved FROM inventory WHERE sku = ?")
            .bind(sku)
            .fetch_one(self.shop.database.readers())
            .await
            .expect("the SKU is there")
    }

    async fn count(&self, table_and_condition: &'static str) -> i64 {
        let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table_and_condition}"));
        sqlx::query_scalar(query).fetch_one(self.shop.database.readers()).await.expect("it counts")
    }
}

async fn open_app(folder: &Path, settings: OrdersSettings, clock: Clock) -> (Arc<Shop>, Arc<Attempts>) {
    let app = OrdersApp::open(folder, settings, clock.clone()).await.expect("the application opens");
    let mut registry = Registry::default();
    app.register(&mut registry);
    (app.shop, Arc::new(Attempts::new(registry, clock, AttemptSettings::default())))
}

async fn attempt(attempts: &Attempts, activity_type: &str, key: &str, input: &Value) -> String {
    let heartbeats = attempts.heartbeats(None);
    line(attempts.run(task(activity_type, key, input), CancellationToken::new(), heartbeats).await)
}

/// An attempt's end in a line.
fn line(outcome: AttemptOutcome) -> String {
    match outcome {
        AttemptOutcome::Completed(result) => format!("completed: {}", result.to_value()),
        AttemptOutcome::Canceled(failure) => format!("canceled: {failure}"),
        AttemptOutcome::CompletesLater { since } => format!("completes later, begun at {since}"),
        AttemptOutcome::Failed(failure) => {
            let is_final =
                matches!(&failure.kind, FailureKind::Application(failure) if failure.non_retryable);
            format!("{}: {failure}", if is_final { "failed for good" } else { "failed" })
        }
    }
}

fn task(activity_type: &str, key: &str, input: &Value) -> AttemptTask {
    AttemptTask {
        key: RunKey { namespace: Namespace::default(), run_id: RunId([7; 16]) },
        names: RunNames::of_nobody("order-o1", "order-saga"),
        scheduled_event_id: EventId(2),
        scheduled: Arc::new(ActivityScheduled {
            activity_type: activity_type.to_owned(),
            input: Payload::json(input).expect("JSON"),
            task_queue: "default".to_owned(),
            timeouts: ActivityTimeouts { start_to_close_ms: Some(60_000), ..ActivityTimeouts::default() },
            retry_policy: RetryPolicy::default(),
            cancellation_type: CancellationType::default(),
            headers: Vec::new(),
            idempotency_key: key.to_owned(),
            summary: String::new(),
        }),
        scheduled_at: T0,
        attempt: 1,
        heartbeat_details: None,
        desk: Arc::default(),
    }
}

fn reserve(order_id: &str, sku: &str, quantity: u32) -> Value {
    json!({"order_id": order_id, "items": [{"sku": sku, "quantity": quantity}]})
}

fn charge(order_id: &str, amount_cents: i64, token: &str) -> Value {
    json!({"order_id": order_id, "amount_cents": amount_cents, "currency": "EUR", "payment_token": token})
}

fn ship(order_id: &str, postcode: &str) -> Value {
    json!({
        "order_id": order_id,
        "ship_to": {"name": "Ada", "country": "DE", "postcode": postcode},
        "items": [{"sku": "book", "quantity": 2}],
    })
}

fn undo(order_id: &str, step_key: &str) -> Value {
    json!({"order_id": order_id, "step_key": step_key})
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().expect("text")
}

/// Serves `router` on this machine until the test's runtime ends.
async fn serve(router: axum::Router) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it has an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn get(url: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    client.get(url).send().await.expect("it answers").json().await.expect("JSON")
}

#[test]
fn a_bad_setting_is_named() {
    for url in ["", "gateway", "ftp://gateway", "http://"] {
        let error = Remote::new(&remote::GATEWAY, Some(url)).expect_err("it is no address");
        assert_eq!(error.to_string(), format!("gateway_url is not the address of an HTTP server: `{url}`"));
    }
}
