//! One attempt of a native activity, without a host: what it is given, what it says in its heartbeats, how it takes a request to
//! stop, and how it runs out of time on a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use everfold_core::command::{ActivityScheduled, CancellationType};
use everfold_core::event::ActivityTimeouts;
use everfold_core::failure::Failure;
use everfold_core::ids::{EventId, Namespace, RunId, RunKey};
use everfold_core::payload::Payload;
use everfold_core::retry::RetryPolicy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::environment::{BEGINNING, json};
use crate::activity::{
    Activity, ActivityContext, AttemptOutcome, AttemptSettings, AttemptTask, Attempts, Heartbeats, Registry,
};
use crate::clock::{Clock, VirtualTime};
use crate::telemetry::RunNames;

/// An activity that is to be tried. Without further words it is the first attempt, and has no time-out.
#[derive(Debug)]
pub struct ActivityHarness {
    registry: Registry,
    scheduled: ActivityScheduled,
    workflow_id: String,
    attempt: u32,
    heartbeat_details: Option<Payload>,
}

impl ActivityHarness {
    /// Tries an activity.
    #[must_use]
    pub fn new<A: Activity>(activity: A) -> Self {
        let mut registry = Registry::empty();
        registry.register(activity);
        Self::of(registry, A::TYPE)
    }

    /// Tries a closure.
    #[must_use]
    pub fn of_fn<F, Fut, I, O>(activity_type: &str, run: F) -> Self
    where
        F: Fn(ActivityContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, Failure>> + Send + 'static,
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
    {
        let mut registry = Registry::empty();
        registry.register_fn(activity_type, run);
        Self::of(registry, activity_type)
    }

    fn of(registry: Registry, activity_type: &str) -> Self {
        let scheduled = ActivityScheduled {
            activity_type: activity_type.to_owned(),
            input: Payload::default(),
            task_queue: "default".to_owned(),
            timeouts: ActivityTimeouts::default(),
            retry_policy: RetryPolicy::default(),
            cancellation_type: CancellationType::default(),
            headers: Vec::new(),
            idempotency_key: "test-key".to_owned(),
            summary: String::new(),
        };
        let workflow_id = "test-workflow".to_owned();
        Self { registry, scheduled, workflow_id, attempt: 1, heartbeat_details: None }
    }

    /// Says which attempt it is, from 1.
    #[must_use]
    pub const fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Says what the last heartbeat of the attempt before said.
    #[must_use]
    pub fn heartbeat_details(mut self, details: &impl Serialize) -> Self {
        self.heartbeat_details = Some(json(details));
        self
    }

    /// Says how long the attempt may take.
    #[must_use]
    pub fn start_to_close(mut self, allowed: Duration) -> Self {
        self.scheduled.timeouts.start_to_close_ms = Some(ms(allowed));
        self
    }

    /// Says how long its heartbeats may stay away.
    #[must_use]
    pub fn heartbeat_timeout(mut self, allowed: Duration) -> Self {
        self.scheduled.timeouts.heartbeat_ms = Some(ms(allowed));
        self
    }

    /// Says by which key it does what it does once.
    #[must_use]
    pub fn idempotency_key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.scheduled.idempotency_key);
        self
    }

    /// Says whose activity it is.
    #[must_use]
    pub fn workflow_id(mut self, workflow_id: &str) -> Self {
        workflow_id.clone_into(&mut self.workflow_id);
        self
    }

    /// Adds a named payload beside the input.
    #[must_use]
    pub fn header(mut self, name: &str, value: &impl Serialize) -> Self {
        self.scheduled.headers.push((name.to_owned(), json(value)));
        self
    }

    /// Runs the attempt to its end.
    pub async fn run(self, input: &impl Serialize) -> Attempted {
        self.begin(input).await.end().await
    }

    /// Begins the attempt, and waits until it waits for something itself or has ended. Needs a tokio runtime.
    pub async fn begin(mut self, input: &impl Serialize) -> RunningActivity {
        self.scheduled.input = json(input);
        let time = VirtualTime::starting_at(BEGINNING);
        let clock = Clock::from_source(time.clone());
        let timeouts = &self.scheduled.timeouts;
        let sleepers = [timeouts.start_to_close_ms, timeouts.heartbeat_ms].into_iter().flatten().count();
        let (said, heard) = mpsc::unbounded_channel();
        let heartbeats = Heartbeats::told(clock.clone(), self.heartbeat_details.clone(), said);
        let cancellation = CancellationToken::new();
        let attempts = Attempts::new(self.registry, clock, AttemptSettings::default());
        let task = AttemptTask {
            key: RunKey { namespace: Namespace::default(), run_id: RunId([7; 16]) },
            names: RunNames::of_nobody(&self.workflow_id, "test"),
            scheduled_event_id: EventId(2),
            scheduled: Arc::new(self.scheduled),
            scheduled_at: BEGINNING,
            attempt: self.attempt,
            heartbeat_details: self.heartbeat_details,
            desk: Arc::default(),
        };
        let stop = cancellation.clone();
        let mut ends = tokio::spawn(async move { attempts.run(task, stop, heartbeats).await });
        let ended = tokio::select! {
            ended = &mut ends => Some(outcome(ended)),
            () = time.until_sleeping(sleepers), if sleepers > 0 => None,
            () = tokio::task::yield_now(), if sleepers == 0 => None,
        };
        RunningActivity { ends, ended, heard, heartbeats: Vec::new(), cancellation, time }
    }
}

/// An attempt under way.
#[derive(Debug)]
pub struct RunningActivity {
    ends: JoinHandle<AttemptOutcome>,
    ended: Option<AttemptOutcome>,
    heard: mpsc::UnboundedReceiver<Payload>,
    heartbeats: Vec<Value>,
    cancellation: CancellationToken,
    time: VirtualTime,
}

impl RunningActivity {
    /// Waits for the next heartbeat, and gives what it says; none when the attempt has ended without a further one.
    pub async fn next_heartbeat(&mut self) -> Option<Value> {
        let details = self.heard.recv().await?.to_value();
        self.heartbeats.push(details.clone());
        Some(details)
    }

    /// Asks it to stop.
    pub fn cancel(&self) {
        self.cancellation.cancel();
    }

    /// Moves its clock: time-outs that come by pass.
    pub fn advance(&self, by: Duration) {
        self.time.advance(by);
    }

    /// Its clock, for what it sleeps on itself.
    #[must_use]
    pub fn time(&self) -> VirtualTime {
        self.time.clone()
    }

    /// Waits for its end. It does not move time.
    pub async fn end(mut self) -> Attempted {
        let outcome = match self.ended.take() {
            Some(ended) => ended,
            None => outcome((&mut self.ends).await),
        };
        while let Ok(details) = self.heard.try_recv() {
            self.heartbeats.push(details.to_value());
        }
        Attempted { outcome, heartbeats: self.heartbeats }
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempted {
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What its heartbeats said, in order.
    pub heartbeats: Vec<Value>,
}

impl Attempted {
    /// What it returned.
    ///
    /// # Panics
    /// When it did not, or something else.
    #[must_use]
    pub fn result<T: DeserializeOwned>(&self) -> T {
        match &self.outcome {
            AttemptOutcome::Completed(result) => match result.decode() {
                Ok(result) => result,
                Err(error) => panic!("the activity returned something else: {error}: {}", result.to_value()),
            },
            AttemptOutcome::Failed(failure) | AttemptOutcome::Canceled(failure) => {
                panic!("the activity returned nothing: {failure}")
            }
            AttemptOutcome::CompletesLater { .. } => panic!("the activity completes later"),
        }
    }

    /// The failure that it ended with, also that of having stopped on request.
    ///
    /// # Panics
    /// When it returned something.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match &self.outcome {
            AttemptOutcome::Failed(failure) | AttemptOutcome::Canceled(failure) => failure,
            AttemptOutcome::Completed(result) => panic!("the activity did not fail: {}", result.to_value()),
            AttemptOutcome::CompletesLater { .. } => panic!("the activity completes later"),
        }
    }

    /// Whether it stopped on request.
    #[must_use]
    pub const fn is_canceled(&self) -> bool {
        matches!(self.outcome, AttemptOutcome::Canceled(_))
    }
}

fn outcome(ended: Result<AttemptOutcome, tokio::task::JoinError>) -> AttemptOutcome {
    // Panics of the activity are failures of the attempt.
    ended.unwrap_or_else(|error| panic!("the attempt did not end: {error}"))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
