//! What the tests of the whole share: [`server`], the real binary; and here a host in this process,
//! with the real engine and the real store in a folder of its own.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use everfold::activity::{AttemptSettings, Attempts, Registry};
use everfold::clock::Clock;
use everfold::guest::{Engine, EngineSettings};
use everfold::runner::api::{RunRef, RunResult, StartRequest, Started};
use everfold::runner::{Host, HostParts, HostSettings};
use everfold::store::{SqliteStore, Store};
use everfold::telemetry::Telemetry;
use everfold_core::command::Command;
use everfold_core::event::{Event, EventKind};
use everfold_core::ids::{Namespace, WorkflowId};
use everfold_core::payload::Payload;
use serde_json::{Value, json};

/// Longer than anything here takes; a wait that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A built component.
///
/// # Panics
/// When it was not built.
pub fn component(name: &str) -> Vec<u8> {
    let path = root().join("target/components").join(name).with_extension("wasm");
    match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{}: {error}; build the guests with `cargo xtask guests`", path.display()),
    }
}

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A host and what it stands on.
pub struct TestHost {
    pub host: Host,
    pub store: Arc<SqliteStore>,
}

impl TestHost {
    /// Opens a host on `folder` with the given activities.
    pub async fn open(folder: &Path, registry: Registry) -> Self {
        Self::open_with(folder, registry, &HostSettings::default(), EngineSettings::default()).await
    }

    /// Opens a host with other settings.
    pub async fn open_with(
        folder: &Path,
        registry: Registry,
        settings: &HostSettings,
        engine: EngineSettings,
    ) -> Self {
        Self::open_at(folder, registry, settings, engine, Clock::system()).await
    }

    /// Opens a host with a clock of its own.
    pub async fn open_at(
        folder: &Path,
        registry: Registry,
        settings: &HostSettings,
        engine: EngineSettings,
        clock: Clock,
    ) -> Self {
        let store = Arc::new(SqliteStore::open(folder).await.unwrap());
        let parts = HostParts {
            store: Arc::clone(&store) as Arc<dyn Store>,
            engine: Engine::new(engine, None).unwrap(),
            attempts: Attempts::new(registry, clock.clone(), AttemptSettings::default()),
            clock,
            telemetry: Telemetry::default(),
            on_fatal: Box::new(|reason| panic!("the host cannot go on: {reason}")),
        };
        Self { host: Host::open(parts, settings), store }
    }

    /// Deploys a built component.
    pub async fn deploy(&self, name: &str) {
        self.host.deploy(&Namespace::default(), component(name)).await.unwrap();
    }

    /// Starts a run.
    pub async fn start(&self, workflow_type: &str, id: &str, input: &Value) -> Started {
        self.host.start(request(workflow_type, id, input)).await.unwrap()
    }

    /// Waits for a run's end.
    pub async fn end(&self, id: &str) -> RunResult {
        let result = self.host.result(&run(id), PATIENCE).await.unwrap();
        assert!(result.outcome.is_some(), "{id} has not ended: {:?}", self.host.describe(&run(id)).await);
        result
    }

    /// All events of a run.
    pub async fn events(&self, id: &str) -> Vec<Event> {
        self.host.export(&run(id)).await.unwrap().events
    }

    /// Stops in order.
    pub async fn stop(self) {
        self.host.drain(Duration::ZERO).await;
    }
}

/// The run of a workflow id.
pub fn run(id: &str) -> RunRef {
    RunRef { namespace: Namespace::default(), workflow_id: WorkflowId(id.to_owned()), run_id: None }
}

/// The request for a run.
pub fn request(workflow_type: &str, id: &str, input: &Value) -> StartRequest {
    StartRequest {
        namespace: Namespace::default(),
        workflow_type: workflow_type.to_owned(),
        workflow_id: Some(WorkflowId(id.to_owned())),
        input: Payload::json(input).unwrap(),
        headers: Vec::new(),
        request_id: None,
        digest: None,
    }
}

/// A history for people: the number, type and name of each event.
pub fn lines(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| match &event.kind {
        EventKind::Command(command) => {
            format!("{} {} {}", event.id, command.type_name(), command.name()).trim_end().to_owned()
        }
        EventKind::Input(_) | EventKind::Note(_) => format!("{} {}", event.id, event.kind.type_name()),
    };
    events.iter().map(line).collect()
}

/// The types of the activities that a history schedules, in order.
pub fn scheduled(events: &[Event]) -> Vec<String> {
    let of = |event: &Event| match &event.kind {
        EventKind::Command(Command::ActivityScheduled(activity)) => Some(activity.activity_type.clone()),
        EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
    };
    events.iter().filter_map(of).collect()
}

/// Makes an activity's result.
pub type Answer = fn() -> Value;

/// How each activity of the order saga answers when all is well: steps, then undoings.
pub const SAGA_ANSWERS: [(&str, Answer); 8] = [
    ("reserve-inventory", || json!({ "reservation_id": "r-1" })),
    ("process-payment", || json!({ "payment_id": "p-1" })),
    ("update-inventory", || json!({})),
    ("arrange-shipping", || json!({ "shipment_id": "s-1", "tracking_number": "t-1" })),
    ("release-inventory-reservation", || json!({ "released": true })),
    ("refund-payment", || json!({ "refunded_cents": 2_500 })),
    ("restock-inventory", || json!({ "restocked": true })),
    ("cancel-shipment", || json!({ "canceled": true })),
];

/// An order of two books.
pub fn saga_input() -> Value {
    let mut input = server::order("tok_ok", "10115");
    input["order_id"] = json!("o-1");
    input
}
