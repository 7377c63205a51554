//! A host under test: the real core, engine and runner, a store in memory, a clock that the test moves, and activities that it
//! answers for.
//!
//! Tasks of the host have a runtime of their own, so that a test may be on any; what a test asks for is done there too. A host
//! may be stopped or killed and opened again ([`TestEnvironment::restart`]): store, clock, mocks and calls go on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use everfold_core::attributes::Details;
use everfold_core::ids::{Namespace, RunKey, Timestamp, WorkflowId};
use everfold_core::payload::Payload;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::activities::{Activities, Call};
use super::code;
use super::mock::Mock;
use super::quiet::{self, Parked};
use super::run::TestRun;
use super::store::TestStore;
use crate::activity::{Activity, AttemptSettings, Attempts, Registry};
use crate::clock::{Clock, TimeSource as _, VirtualTime};
use crate::guest::EngineSettings;
use crate::runner::api::{ApiError, IdConflictPolicy, IdReusePolicy, StartRequest, Terms};
use crate::runner::{Host, HostParts, HostSettings};
use crate::store::{SqliteMemory, Store};
use crate::telemetry::Telemetry;

/// 2026-01-01T00:00:00Z: when time begins in a test, unless it says otherwise.
pub const BEGINNING: Timestamp = Timestamp(1_767_225_600_000);
/// How long a test waits for a run, in real time.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a killed host's tasks may take to end, in real time.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// Who moves time while a test waits for a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeMoves {
    /// Time skips to what comes next whenever all that goes on is waiting for it. It stands still while a native activity
    /// ([`TestEnvironmentBuilder::activity`]) is under way.
    #[default]
    ByItself,
    /// Only [`TestEnvironment::advance`] moves it.
    ByHand,
}

/// How a host ends before the next one is opened on what it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// As by a signal to stop: what is under way is recorded as interrupted.
    InOrder,
    /// As by `kill -9`: what is not committed is lost.
    Killed,
}

/// What a [`TestEnvironment`] is made of.
#[derive(Debug)]
pub struct TestEnvironmentBuilder {
    components: Vec<Vec<u8>>,
    mocks: Vec<(String, Mock)>,
    natives: Registry,
    time_moves: TimeMoves,
    starting_at: Timestamp,
    settings: HostSettings,
    engine: Option<EngineSettings>,
    folder: Option<PathBuf>,
    patience: Duration,
}

impl TestEnvironmentBuilder {
    /// Deploys a component.
    #[must_use]
    pub fn component(mut self, wasm: impl Into<Vec<u8>>) -> Self {
        self.components.push(wasm.into());
        self
    }

    /// Deploys a component that is in a file.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn component_file(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        match std::fs::read(path) {
            Ok(wasm) => self.component(wasm),
            Err(error) => panic!("the component {} cannot be read: {error}", path.display()),
        }
    }

    /// Answers for an activity.
    #[must_use]
    pub fn mock(mut self, activity_type: impl Into<String>, mock: Mock) -> Self {
        self.mocks.push((activity_type.into(), mock));
        self
    }

    /// Runs a native activity where no mock answers for it.
    #[must_use]
    pub fn activity(mut self, activity: impl Activity) -> Self {
        self.natives.register(activity);
        self
    }

    /// Says who moves time.
    #[must_use]
    pub const fn time_moves(mut self, time_moves: TimeMoves) -> Self {
        self.time_moves = time_moves;
        self
    }

    /// Says when time begins.
    #[must_use]
    pub const fn starting_at(mut self, now: Timestamp) -> Self {
        self.starting_at = now;
        self
    }

    /// Sets the host's own settings: limits, residents, threads.
    #[must_use]
    pub fn settings(mut self, settings: HostSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets what a guest may take.
    #[must_use]
    pub fn engine(mut self, settings: EngineSettings) -> Self {
        self.engine = Some(settings);
        self
    }

    /// Keeps the store in a data folder instead of in memory.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Says how long a wait for a run may take in real time.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Opens the host.
    ///
    /// # Panics
    /// When something of it cannot be opened, or a component cannot be deployed.
    pub async fn open(self) -> TestEnvironment {
        let time = VirtualTime::starting_at(self.starting_at);
        let clock = Clock::from_source(time.clone());
        let activities = Arc::new(Activities::new(self.natives, clock));
        for (activity_type, mock) in self.mocks {
            activities.mock(&activity_type, mock);
        }
        let place = match self.folder {
            Some(folder) => Place::Folder(folder),
            None => Place::Memory(SqliteMemory::new().unwrap_or_else(|error| panic!("{error}"))),
        };
        let engine = self.engine.map_or_else(code::shared_engine, code::engine);
        let parts = Parts { place, time, activities, settings: self.settings, engine };
        let running = Arc::new(parts.open().await);
        let shared = Arc::new(Shared {
            parts,
            running: Mutex::new(running),
            time_moves: self.time_moves,
            patience: self.patience,
        });
        let environment = TestEnvironment { shared };
        for wasm in self.components {
            environment.deploy(wasm).await;
        }
        environment
    }
}

/// A host under test.
#[derive(Debug)]
pub struct TestEnvironment {
    shared: Arc<Shared>,
}

impl TestEnvironment {
    /// What it is to be made of.
    #[must_use]
    pub fn builder() -> TestEnvironmentBuilder {
        TestEnvironmentBuilder {
            components: Vec::new(),
            mocks: Vec::new(),
            natives: Registry::empty(),
            time_moves: TimeMoves::default(),
            starting_at: BEGINNING,
            settings: HostSettings { fold_threads: 1, ..HostSettings::default() },
            engine: None,
            folder: None,
            patience: PATIENCE,
        }
    }

    /// Deploys a component: a type's first version becomes current.
    ///
    /// # Panics
    /// When it cannot be deployed.
    pub async fn deploy(&self, wasm: impl Into<Vec<u8>>) {
        let (host, wasm) = (self.host(), wasm.into());
        let deployed = self.shared.ask(async move { host.deploy(&Namespace::default(), wasm).await }).await;
        if let Err(error) = deployed {
            panic!("a component cannot be deployed: {error}");
        }
    }

    /// Answers for an activity from now on.
    pub fn mock(&self, activity_type: impl AsRef<str>, mock: Mock) {
        self.shared.parts.activities.mock(activity_type.as_ref(), mock);
    }

    /// Starts a run.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn start(
        &self,
        workflow_type: impl Into<String>,
        workflow_id: impl Into<String>,
        input: &impl Serialize,
    ) -> TestRun {
        self.start_as(Self::request(workflow_type, workflow_id, input)).await
    }

    /// Starts a run as a request says.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn start_as(&self, request: StartRequest) -> TestRun {
        match self.try_start(request).await {
            Ok(run) => run,
            Err(error) => panic!("the run was not started: {error}"),
        }
    }

    /// Starts a run as a request says.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub async fn try_start(&self, request: StartRequest) -> Result<TestRun, ApiError> {
        let host = self.host();
        let started = self.shared.ask(async move { host.start(request).await }).await?;
        Ok(self.run(started.workflow_id.0))
    }

    /// A request for a run, to be changed and given to [`TestEnvironment::start_as`].
    ///
    /// # Panics
    /// When the input cannot be written as JSON.
    #[must_use]
    pub fn request(
        workflow_type: impl Into<String>,
        workflow_id: impl Into<String>,
        input: &impl Serialize,
    ) -> StartRequest {
        StartRequest {
            namespace: Namespace::default(),
            workflow_type: workflow_type.into(),
            workflow_id: Some(WorkflowId(workflow_id.into())),
            input: json(input),
            headers: Vec::new(),
            request_id: None,
            digest: None,
            id_reuse: IdReusePolicy::default(),
            id_conflict: IdConflictPolicy::default(),
            signal: None,
            terms: Terms::default(),
            update: None,
            details: Details::new(),
        }
    }

    /// The run of a workflow id: the open one, or else the last.
    #[must_use]
    pub fn run(&self, workflow_id: impl Into<String>) -> TestRun {
        TestRun::new(Arc::clone(&self.shared), workflow_id.into())
    }

    /// All calls of activities so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.parts.activities.calls().borrow().clone()
    }

    /// The calls of one activity so far, in order.
    #[must_use]
    pub fn calls_of(&self, activity_type: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.activity_type == activity_type).collect()
    }

    /// The types of the activities that were called so far, in order, each attempt for itself.
    #[must_use]
    pub fn called(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.activity_type).collect()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.shared.parts.activities.forget_calls();
    }

    /// Waits until an activity was called that often. It does not move time.
    ///
    /// # Panics
    /// When that takes longer than the test's patience.
    pub async fn until_called(&self, activity_type: &str, times: usize) {
        let mut calls = self.shared.parts.activities.calls();
        let count = |calls: &Vec<Call>| {
            calls.iter().filter(|call| call.activity_type == activity_type).count() >= times
        };
        let patience = self.shared.patience;
        let called = async move { calls.wait_for(count).await.is_ok() };
        assert!(
            self.shared.in_time(patience, called).await == Some(true),
            "activity {activity_type} was not called {times} times: {:?}",
            self.called()
        );
    }

    /// The present of the test.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.time().now()
    }

    /// The clock. It may be handed to what sleeps in a test's own activities.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::from_source(self.shared.parts.time.clone())
    }

    pub(super) fn time(&self) -> Clock {
        self.clock()
    }

    /// Moves time forward. What is due on the way happens at its time and in its order, with all that follows from it.
    pub async fn advance(&self, by: Duration) {
        self.shared.advance(by).await;
    }

    /// Waits until all that goes on is waiting: for time, for a signal, or for the world outside.
    pub async fn settle(&self) {
        self.shared.settle().await;
    }

    /// Ends the host and opens another one on what it left.
    ///
    /// # Panics
    /// When the store cannot be opened again.
    pub async fn restart(&self, how: Restart) {
        self.shared.restart(how).await;
    }

    /// Drops the live instance of a workflow id's open run, if it has one: it is folded again from history when it is next needed.
    ///
    /// # Panics
    /// When there is no such run.
    pub async fn evict(&self, workflow_id: &str) {
        let key: RunKey = self.run(workflow_id).description().await.key;
        self.host().evict(&key);
    }

    /// The host, for all that has no method here.
    #[must_use]
    pub fn host(&self) -> Host {
        self.shared.running().host.clone()
    }

    /// The host's store, which can be told to fail. It is another one behind a restart.
    #[must_use]
    pub fn store(&self) -> Arc<TestStore> {
        Arc::clone(&self.shared.running().store)
    }
}

/// A payload of JSON.
pub(super) fn json(value: &impl Serialize) -> Payload {
    match Payload::json(value) {
        Ok(payload) => payload,
        Err(error) => panic!("a value cannot be written as JSON: {error}"),
    }
}

/// Where the store is.
#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    Memory(SqliteMemory),
}

/// What outlives a host.
#[derive(Debug)]
pub(super) struct Parts {
    place: Place,
    pub(super) time: VirtualTime,
    pub(super) activities: Arc<Activities>,
    settings: HostSettings,
    engine: crate::guest::Engine,
}

impl Parts {
    async fn open(&self) -> Running {
        let store = match &self.place {
            Place::Folder(folder) => TestStore::open(folder).await,
            Place::Memory(memory) => TestStore::open_in_memory(memory).await,
        };
        let store = Arc::new(store.unwrap_or_else(|error| panic!("{error}")));
        let clock = Clock::from_source(self.time.clone());
        let parts = HostParts {
            store: Arc::clone(&store) as Arc<dyn Store>,
            engine: self.engine.clone(),
            attempts: Attempts::new(self.activities.registry(), clock.clone(), AttemptSettings::default()),
            clock,
            telemetry: Telemetry::default(),
            // The host refuses all further work, so that the test fails.
            on_fatal: Box::new(|reason| tracing::error!(reason, "the host under test cannot go on")),
        };
        let parked = Parked::default();
        let runtime = match parked.runtime() {
            Ok(runtime) => runtime,
            Err(error) => panic!("the host under test has no thread: {error}"),
        };
        let host = {
            let _entered = runtime.enter();
            Host::open(parts, &self.settings)
        };
        Running { host, store, parked, handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)) }
    }
}

/// A host that runs.
pub(super) struct Running {
    pub(super) host: Host,
    store: Arc<TestStore>,
    parked: Parked,
    pub(super) handle: tokio::runtime::Handle,
    runtime: Mutex<Option<Runtime>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Running {
    /// Waits until all that goes on is waiting.
    pub(super) async fn until_quiet(&self) {
        quiet::until_quiet(&self.host, &self.store, &self.handle, &self.parked).await;
    }

    async fn end(&self, how: Restart, time: &VirtualTime) {
        match how {
            Restart::InOrder => self.drain(time).await,
            Restart::Killed => {}
        }
        // Behind a stop in order it holds its place still.
        self.store.kill().await;
        let runtime = self.runtime.lock().take();
        let (host, store) = (self.host.clone(), Arc::clone(&self.store));
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            give_up(runtime, &host, &store);
            // Who gave up waiting need not know.
            let _ = ended.send(());
        });
        let _ = has_ended.await;
    }

    /// Stops in order. What the store refused is tried again meanwhile, for which time has to move.
    async fn drain(&self, time: &VirtualTime) {
        let host = self.host.clone();
        let mut drained = AbortOnDrop(self.handle.spawn(async move { host.drain(Duration::ZERO).await }));
        loop {
            tokio::select! {
                biased;
                // A task that is lost with its runtime has nothing more to do.
                _ = &mut drained.0 => return,
                () = self.until_quiet() => time.advance(STEP),
            }
        }
    }
}

/// How far time moves while a host stops that waits for it.
const STEP: Duration = Duration::from_secs(1);

/// Ends all threads of a host whose store is dead. Blocks.
fn give_up(runtime: Option<Runtime>, host: &Host, store: &TestStore) {
    if let Some(runtime) = runtime {
        runtime.shutdown_timeout(LAST_BREATH);
    }
    // No task is left: who still folds hears that the store is gone, and can do nothing about it.
    store.bury();
    host.abandon();
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
        self.store.bury();
        self.host.abandon();
    }
}

/// A task that nobody needs once this is dropped.
pub(super) struct AbortOnDrop<T>(pub(super) tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What an environment and its runs share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) parts: Parts,
    running: Mutex<Arc<Running>>,
    pub(super) time_moves: TimeMoves,
    pub(super) patience: Duration,
}

impl Shared {
    /// The host that runs now.
    pub(super) fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.lock())
    }

    /// Asks the host something, on its own runtime.
    ///
    /// # Errors
    /// The host's own, and `Busy` when it ends before it has answered.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let mut asked = AbortOnDrop(self.running().handle.spawn(work));
        let ended = |_| Err(ApiError::Busy("the host ended before it answered".to_owned()));
        (&mut asked.0).await.unwrap_or_else(ended)
    }

    /// What comes of something within so much real time.
    pub(super) async fn in_time<T>(&self, patience: Duration, what: impl Future<Output = T>) -> Option<T> {
        let running = self.running();
        let sleep = running.handle.spawn(async move { tokio::time::sleep(patience).await });
        let mut time_is_up = AbortOnDrop(sleep);
        tokio::select! {
            biased;
            done = what => Some(done),
            _ = &mut time_is_up.0 => None,
        }
    }

    async fn settle(&self) {
        let running = self.running();
        if self.in_time(self.patience, running.until_quiet()).await.is_none() {
            panic!("the host under test is still busy");
        }
    }

    async fn advance(&self, by: Duration) {
        let time = &self.parts.time;
        let to = time.now().plus_ms(u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
        loop {
            self.settle().await;
            match time.next_due().filter(|at| *at <= to) {
                Some(at) => time.advance_to(at),
                None => break,
            }
        }
        time.advance_to(to);
        self.settle().await;
    }

    async fn restart(&self, how: Restart) {
        self.running().end(how, &self.parts.time).await;
        let running = Arc::new(self.parts.open().await);
        *self.running.lock() = running;
    }
}

impl Drop for Shared {
    /// A problem that no wait has told of fails the test in the end.
    fn drop(&mut self) {
        if let Some(problem) = self.parts.activities.take_problem()
            && !std::thread::panicking()
        {
            panic!("{problem}");
        }
    }
}
