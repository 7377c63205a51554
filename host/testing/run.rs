//! A run under test: what it is sent and asked, and the wait for its end, which moves time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use everfold_core::decision::Outcome;
use everfold_core::event::{Event, EventKind, Input};
use everfold_core::failure::Failure;
use everfold_core::ids::{Namespace, RunId, WorkflowId};
use everfold_core::machine::RunStatus;
use everfold_core::payload::Payload;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::environment::{AbortOnDrop, Running, Shared, TimeMoves, json};
use super::history::History;
use super::stuck::Stuck;
use crate::runner::api::{
    Acknowledged, ApiError, Description, QueryRequest, ResetDone, ResetPoint, ResetRequest, RunRef,
    RunResult, SignalRequest, StopRequest,
};

/// Longer than any test waits.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The run of a workflow id in a [`TestEnvironment`](super::TestEnvironment), and those that went on from it.
#[derive(Clone)]
pub struct TestRun {
    shared: Arc<Shared>,
    workflow_id: String,
}

impl fmt::Debug for TestRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestRun").field(&self.workflow_id).finish()
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// How it is called.
    pub status: RunStatus,
    /// What came of it.
    pub outcome: Outcome,
}

impl TestRun {
    pub(super) const fn new(shared: Arc<Shared>, workflow_id: String) -> Self {
        Self { shared, workflow_id }
    }

    /// Its workflow id.
    #[must_use]
    pub fn workflow_id(&self) -> &str {
        &self.workflow_id
    }

    fn reference(&self) -> RunRef {
        let workflow_id = WorkflowId(self.workflow_id.clone());
        RunRef { namespace: Namespace::default(), workflow_id, run_id: None }
    }

    /// Waits for its end, and gives what it returned.
    ///
    /// # Panics
    /// With the reason when it does not come to an end, ends otherwise, or returned something else.
    pub async fn result<T: DeserializeOwned>(&self) -> T {
        match self.ended().await.outcome {
            Outcome::Result(result) => match result.decode() {
                Ok(result) => result,
                Err(error) => panic!("{self:?} returned something else: {error}: {}", result.to_value()),
            },
            other => panic!("{self:?} returned nothing: {}", told(&other)),
        }
    }

    /// Waits for its end, and gives the failure that it ended with.
    ///
    /// # Panics
    /// With the reason when it does not come to an end, or ends without a failure.
    pub async fn failure(&self) -> Failure {
        match self.ended().await.outcome {
            Outcome::Failure(failure) => failure,
            other => panic!("{self:?} did not fail: {}", told(&other)),
        }
    }

    async fn ended(&self) -> End {
        self.end().await.unwrap_or_else(|stuck| panic!("{self:?}: {stuck}"))
    }

    /// Waits for its end, through all runs that go on from it, while time moves as the environment says.
    ///
    /// # Errors
    /// Why it does not come to an end; at once, not when patience is over.
    pub async fn end(&self) -> Result<End, Stuck> {
        let patience = self.shared.patience;
        match self.shared.in_time(patience, self.wait()).await {
            Some(end) => end,
            None => Err(match self.try_description().await {
                Ok(description) => Stuck::Impatient(Box::new(description)),
                Err(error) => Stuck::Host(error),
            }),
        }
    }

    async fn wait(&self) -> Result<End, Stuck> {
        let running = self.shared.running();
        let (host, run) = (running.host.clone(), self.reference());
        let mut ended = AbortOnDrop(running.handle.spawn(async move { host.result(&run, FOR_EVER).await }));
        loop {
            tokio::select! {
                biased;
                problem = self.shared.parts.activities.problem() => return Err(Stuck::Activity(Box::new(problem))),
                ended = &mut ended.0 => return end_of(ended),
                () = running.until_quiet() => self.move_on(&running).await?,
            }
        }
    }

    /// All that goes on is waiting: lets time move to what comes next.
    async fn move_on(&self, running: &Running) -> Result<(), Stuck> {
        let description = match self.try_description().await {
            Ok(description) if description.status == RunStatus::Running => description,
            // It ended between two looks.
            Ok(_) => return Ok(()),
            Err(error) => return Err(Stuck::Host(error)),
        };
        if let Some(blocked) = description.blocked {
            return Err(Stuck::Blocked(Box::new(blocked)));
        }
        if self.shared.parts.activities.is_native_under_way() {
            // The world outside takes real time.
            self.shared.parts.activities.until_no_native_is_under_way().await;
            return Ok(());
        }
        let next = self.shared.parts.time.next_due();
        match (self.shared.time_moves, next) {
            (TimeMoves::ByItself, Some(at)) => {
                self.shared.parts.time.advance_to(at);
                Ok(())
            }
            (TimeMoves::ByItself, None) | (TimeMoves::ByHand, _) => {
                if let Err(readiness) = running.host.readiness() {
                    return Err(Stuck::Host(readiness));
                }
                Err(Stuck::Waiting(Box::new(description)))
            }
        }
    }

    /// Waits until the run stands as wanted, while time moves as the environment says.
    ///
    /// # Panics
    /// With the reason when it will not.
    pub async fn until(&self, is_so: impl Fn(&Description) -> bool) -> Description {
        let running = self.shared.running();
        let wait = async {
            loop {
                running.until_quiet().await;
                let description = self.description().await;
                if is_so(&description) {
                    return description;
                }
                assert!(description.status == RunStatus::Running, "{self:?} has ended: {description:?}");
                if let Err(stuck) = self.move_on(&running).await {
                    panic!("{self:?}: {stuck}");
                }
            }
        };
        match self.shared.in_time(self.shared.patience, wait).await {
            Some(description) => description,
            None => panic!("{self:?} does not come to stand as wanted: {:?}", self.description().await),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// As [`Host::signal`](crate::runner::Host::signal).
    pub async fn signal(&self, name: &str, input: &impl Serialize) -> Result<Acknowledged, ApiError> {
        let (run, name, input) = (self.reference(), name.to_owned(), json(input));
        self.signal_as(SignalRequest { run, name, input, headers: Vec::new(), request_id: None }).await
    }

    /// Sends it a signal once, however often it is sent.
    ///
    /// # Errors
    /// As [`Host::signal`](crate::runner::Host::signal).
    pub async fn signal_once(
        &self,
        request_id: &str,
        name: &str,
        input: &impl Serialize,
    ) -> Result<Acknowledged, ApiError> {
        let (run, name, input) = (self.reference(), name.to_owned(), json(input));
        let request_id = Some(request_id.to_owned());
        self.signal_as(SignalRequest { run, name, input, headers: Vec::new(), request_id }).await
    }

    async fn signal_as(&self, request: SignalRequest) -> Result<Acknowledged, ApiError> {
        let host = self.shared.running().host.clone();
        self.shared.ask(async move { host.signal(request).await }).await
    }

    /// Asks it a question.
    ///
    /// # Errors
    /// As [`Host::query`](crate::runner::Host::query).
    ///
    /// # Panics
    /// When the answer is no `T`.
    pub async fn query<T: DeserializeOwned>(&self, name: &str) -> Result<T, ApiError> {
        let host = self.shared.running().host.clone();
        let (run, name) = (self.reference(), name.to_owned());
        let request = QueryRequest { run, name, input: json(&()) };
        let answer = self.shared.ask(async move { host.query(request).await }).await?;
        match answer.result.decode() {
            Ok(answer) => Ok(answer),
            Err(error) => panic!("{self:?} answered something else: {error}: {}", answer.result.to_value()),
        }
    }

    /// Asks it to cancel.
    ///
    /// # Errors
    /// As [`Host::cancel`](crate::runner::Host::cancel).
    pub async fn cancel(&self) -> Result<Acknowledged, ApiError> {
        let (host, request) = (self.shared.running().host.clone(), self.stop_request());
        self.shared.ask(async move { host.cancel(request).await }).await
    }

    /// Terminates it.
    ///
    /// # Errors
    /// As [`Host::terminate`](crate::runner::Host::terminate).
    pub async fn terminate(&self) -> Result<Acknowledged, ApiError> {
        let (host, request) = (self.shared.running().host.clone(), self.stop_request());
        self.shared.ask(async move { host.terminate(request).await }).await
    }

    /// Lets it go on from an earlier event, as a new run: this one from here on.
    ///
    /// # Errors
    /// As [`Host::reset`](crate::runner::Host::reset).
    pub async fn reset(&self, to: ResetPoint) -> Result<ResetDone, ApiError> {
        let (reason, request_id) = ("the test wants it".to_owned(), None);
        let request =
            ResetRequest { run: self.reference(), to, reason, digest: None, request_id, dry_run: false };
        let host = self.shared.running().host.clone();
        self.shared.ask(async move { host.reset(request).await }).await
    }

    fn stop_request(&self) -> StopRequest {
        StopRequest { run: self.reference(), reason: "the test wants it".to_owned(), request_id: None }
    }

    /// How it stands.
    ///
    /// # Panics
    /// When there is no such run.
    pub async fn description(&self) -> Description {
        self.try_description().await.unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    async fn try_description(&self) -> Result<Description, ApiError> {
        let (host, run) = (self.shared.running().host.clone(), self.reference());
        self.shared.ask(async move { host.describe(&run).await }).await
    }

    /// Its history.
    ///
    /// # Panics
    /// When there is none.
    pub async fn history(&self) -> History {
        self.history_of(self.reference()).await
    }

    /// The histories of all runs of the chain that ends with it, first to last.
    ///
    /// # Panics
    /// When there is none.
    pub async fn chain(&self) -> Vec<History> {
        let mut chain = Vec::new();
        let mut next = self.reference();
        loop {
            let history = self.history_of(next).await;
            let before = continued_from(&history.events);
            chain.insert(0, history);
            match before {
                Some(run_id) => next = RunRef { run_id: Some(run_id), ..self.reference() },
                None => return chain,
            }
        }
    }

    async fn history_of(&self, run: RunRef) -> History {
        let host = self.shared.running().host.clone();
        match self.shared.ask(async move { host.export(&run).await }).await {
            Ok(export) => History { run_id: export.run_id, events: export.events },
            Err(error) => panic!("{self:?}: {error}"),
        }
    }

    /// Hands it an input that it may have had already, as a host does that is not sure.
    pub async fn deliver_again(&self, input: Input) {
        let key = self.description().await.key;
        self.shared.running().host.deliver(&key, input);
    }
}

fn continued_from(events: &[Event]) -> Option<RunId> {
    match &events.first()?.kind {
        EventKind::Input(Input::WorkflowStarted(started)) => started.continued_from_run_id,
        EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => None,
    }
}

type Ended = Result<Result<RunResult, ApiError>, tokio::task::JoinError>;

fn end_of(ended: Ended) -> Result<End, Stuck> {
    let host_ended = || Stuck::Host(ApiError::Busy("the host has ended".to_owned()));
    let result = ended.map_err(|_| host_ended())?.map_err(Stuck::Host)?;
    let outcome = result.outcome.ok_or_else(host_ended)?;
    Ok(End { status: result.status, outcome })
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failure(failure) => format!("it failed: {failure}"),
        Outcome::Result(Payload { .. }) | Outcome::ContinuedAs(_) => format!("{outcome:?}"),
    }
}
