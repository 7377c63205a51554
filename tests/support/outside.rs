//! A host whose activities are made outside of it, by the test, on a clock that the test moves.

use std::path::Path;
use std::time::Duration;

use everfold::activity::Registry;
use everfold::clock::{Clock, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold::runner::api::{
    ActivityOperation, ActivityState, ActivityTask, ApiError, OperateRequest, PendingActivityInfo,
    PollRequest, Wishes,
};
use everfold_core::failure::{ApplicationFailure, Failure, FailureKind};
use everfold_core::ids::{EventId, Namespace, Timestamp};
use everfold_core::payload::Payload;
use serde_json::{Value, json};

use super::{PATIENCE, TestHost, run};

/// When the clock begins.
pub const T0: Timestamp = Timestamp(1_700_000_000_000);
/// The task queue that the test's workers poll.
pub const QUEUE: &str = "python";
/// The event that schedules the activity of the sample `remote`.
pub const ACTIVITY: EventId = EventId(2);

/// The host and its clock.
pub struct Outside {
    pub test: TestHost,
    pub time: VirtualTime,
}

impl Outside {
    /// Opens a host with activities of its own.
    pub async fn open(folder: &Path, registry: Registry, time: &VirtualTime) -> Self {
        let clock = Clock::from_source(time.clone());
        let (settings, engine) = (HostSettings::default(), EngineSettings::default());
        let test = TestHost::open_at(folder, registry, &settings, engine, clock).await;
        Self { test, time: time.clone() }
    }

    /// Opens a host and deploys the samples.
    pub async fn begin_with(folder: &Path, registry: Registry) -> Self {
        let outside = Self::open(folder, registry, &VirtualTime::starting_at(T0)).await;
        outside.test.deploy("samples").await;
        outside
    }

    /// The same without activities of its own.
    pub async fn begin(folder: &Path) -> Self {
        Self::begin_with(folder, Registry::default()).await
    }

    /// Kills the host and opens another one.
    pub async fn restart_with(self, folder: &Path, registry: Registry) -> Self {
        let time = self.time;
        self.test.kill().await;
        Self::open(folder, registry, &time).await
    }

    /// The same without activities of its own.
    pub async fn restart(self, folder: &Path) -> Self {
        self.restart_with(folder, Registry::default()).await
    }

    /// Starts the sample `remote` with an activity `work` on the queue; `options` come beside that.
    pub async fn start(&self, id: &str, options: Value) {
        let mut input = json!({ "activity": "work", "task_queue": QUEUE, "start_to_close_ms": 60_000 });
        if let (Value::Object(input), Value::Object(options)) = (&mut input, options) {
            input.extend(options);
            input.retain(|_, value| !value.is_null());
        }
        self.test.start("remote", id, &input).await;
    }

    /// Polls the queue until there is an attempt.
    pub async fn poll(&self) -> ActivityTask {
        self.poll_for("w-1", &[]).await
    }

    /// The same under another name, for some types.
    pub async fn poll_for(&self, identity: &str, activity_types: &[&str]) -> ActivityTask {
        let request = poll(identity, activity_types);
        self.test.host.poll(request, PATIENCE).await.unwrap().expect("an attempt")
    }

    /// Polls the queue, which must have none.
    pub async fn nothing(&self) {
        let polled = self.test.host.poll(poll("w-1", &[]), Duration::ZERO).await.unwrap();
        assert!(polled.is_none(), "{polled:?}");
    }

    pub async fn complete(&self, token: &str, result: Value) -> Result<(), ApiError> {
        self.test.host.complete_activity(token, Payload::json(&result).unwrap()).await
    }

    pub async fn fail(&self, token: &str, failure_type: &str) -> Result<(), ApiError> {
        self.test.host.fail_activity(token, Failure::application(failure_type, "it went wrong")).await
    }

    pub async fn fail_until(&self, token: &str, next_retry_delay_ms: u64) -> Result<(), ApiError> {
        let kind = FailureKind::Application(ApplicationFailure {
            failure_type: "Busy".to_owned(),
            next_retry_delay_ms: Some(next_retry_delay_ms),
            ..ApplicationFailure::default()
        });
        self.test.host.fail_activity(token, Failure::new("later", kind)).await
    }

    pub async fn heartbeat(&self, token: &str, details: Value) -> Result<Wishes, ApiError> {
        self.test.host.heartbeat_activity(token, Some(Payload::json(&details).unwrap())).await
    }

    /// Asks the run to cancel, and waits until whoever makes the attempt can hear of it.
    pub async fn request_cancel(&self, id: &str, token: &str) {
        self.test.cancel(id).await.unwrap();
        while !self.heartbeat(token, json!("listening")).await.unwrap().cancel_requested {
            tokio::task::yield_now().await;
        }
    }

    pub async fn cancel(&self, token: &str) -> Result<(), ApiError> {
        self.test.host.cancel_activity(token, Vec::new()).await
    }

    pub async fn operate(&self, id: &str, operation: ActivityOperation) -> Result<(), ApiError> {
        self.operate_on(id, ACTIVITY, operation).await
    }

    pub async fn operate_on(
        &self,
        id: &str,
        scheduled_event_id: EventId,
        operation: ActivityOperation,
    ) -> Result<(), ApiError> {
        let request = OperateRequest { run: run(id), scheduled_event_id, operation };
        self.test.host.operate_activity(request).await.map(|_| ())
    }

    /// The run's open activity.
    pub async fn activity(&self, id: &str) -> PendingActivityInfo {
        let description = self.test.host.describe(&run(id)).await.unwrap();
        description.pending_activities.into_iter().next().expect("an open activity")
    }

    /// Waits until the run's activity is in that state.
    pub async fn until(&self, id: &str, state: ActivityState) -> PendingActivityInfo {
        let description = self
            .test
            .until(id, |run| run.pending_activities.first().is_some_and(|activity| activity.state == state))
            .await;
        description.pending_activities.into_iter().next().expect("an open activity")
    }
}

/// A poll of the queue.
pub fn poll(identity: &str, activity_types: &[&str]) -> PollRequest {
    PollRequest {
        namespace: Namespace::default(),
        task_queue: QUEUE.to_owned(),
        identity: identity.to_owned(),
        activity_types: activity_types.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// What the next attempt is told of the one before.
pub fn details(task: &ActivityTask) -> Option<Value> {
    task.heartbeat_details.as_ref().map(Payload::to_value)
}

/// A refusal as one word.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, ApiError>) -> &'static str {
    match answer {
        Err(ApiError::AttemptOver(_)) => "attempt over",
        Err(ApiError::CancelNotRequested(_)) => "cancel not requested",
        Err(ApiError::ActivityClosed(_)) => "activity closed",
        Err(ApiError::NotFound(_)) => "not found",
        Err(ApiError::LimitExceeded(_)) => "limit exceeded",
        Err(ApiError::InvalidInput(_)) => "invalid input",
        other => panic!("{other:?}"),
    }
}

/// The failure that a run ended with, and its causes.
///
/// # Panics
/// When it did not fail.
pub fn causes(end: &everfold::runner::api::RunResult) -> Vec<String> {
    match &end.outcome {
        Some(everfold_core::decision::Outcome::Failure(failure)) => {
            failure.chain().map(|failure| format!("{}: {}", failure.type_name(), failure.message)).collect()
        }
        other => panic!("it did not fail: {other:?}"),
    }
}
