//! Random programs against a simple model: a seed makes programs up, which the sample workflow `program` does, and what is done to them and to their
//! host meanwhile: signals, cancels, resets, killed and stopped hosts, dropped instances, transactions that are rolled back, inputs that come twice. Time is
//! virtual, the store is in memory, and what came of it must be what the model says.
//!
//! ```text
//!  seed ──▶ Plan ──▶ programs ──▶ the host under test ──▶ results, histories, calls ──▶ the model
//!             └────▶ moves ──────────▲
//! ```
//!
//! A failing seed is printed; put it into [`this_seed`].

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

#[path = "model/check.rs"]
mod check;
#[path = "model/program.rs"]
mod program;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use check::Left;
use everfold::activity::ActivityContext;
use everfold::clock::Clock;
use everfold::runner::api::{Acknowledged, ApiError, ResetPoint, RunRef};
use everfold::store::CommitError;
use everfold::testing::{Failure, Mock, Restart, RunStatus, TestEnvironment, TestRun};
use everfold_core::event::{EventKind, Input};
use everfold_core::ids::{EventId, Namespace, WorkflowId};
use parking_lot::Mutex;
use program::{Move, Plan, Task, workflow_id};
use serde_json::{Value, json};
use support::component;

/// How many seeds are tried, and from which on; the environment may say otherwise.
const SEEDS: u64 = 2_000;
const SEEDS_VARIABLE: &str = "EVERFOLD_MODEL_SEEDS";
const FROM_VARIABLE: &str = "EVERFOLD_MODEL_FROM";
/// Seeds that are tried at once.
const AT_ONCE: usize = 3;
/// Longer than any seed takes.
const LONGEST: Duration = Duration::from_secs(40);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn this_seed() {
    play(0);
}

#[test]
fn random_programs_end_as_the_model_says() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number of seeds"))
    };
    let (from, seeds) = (number(FROM_VARIABLE, 0), number(SEEDS_VARIABLE, SEEDS));
    let (next, began) = (AtomicU64::new(from), Instant::now());
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let players: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| failures(&next, from + seeds))).collect();
        players.into_iter().flat_map(|player| player.join().unwrap()).collect()
    });
    eprintln!("{seeds} seeds in {:.1} s", began.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "put one of these seeds into `this_seed`: {failed:?}");
}

/// Plays seeds until there are none left, and gives those that failed.
fn failures(next: &AtomicU64, end: u64) -> Vec<u64> {
    let mut failed = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return failed;
        }
        if catch_unwind(AssertUnwindSafe(|| play(seed))).is_err() {
            eprintln!("seed {seed} failed");
            failed.push(seed);
        }
    }
}

/// Plays the plan of a seed, and checks what came of it.
fn play(seed: u64) {
    let at = Mutex::new("its beginning".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let plan = Plan::of(seed);
        let played = async {
            let mut play = Play::begin(&plan, seed).await;
            for step in &plan.moves {
                *at.lock() = format!("{step:?}");
                play.make(*step).await;
            }
            *at.lock() = "its end".to_owned();
            play.end().await;
        };
        if tokio::time::timeout(LONGEST, played).await.is_err() {
            panic!("seed {seed} does not come to an end: it is at {}\n{plan:#?}", at.lock());
        }
    });
}

/// A plan that is being played.
struct Play<'p> {
    plan: &'p Plan,
    seed: u64,
    environment: TestEnvironment,
    runs: Vec<TestRun>,
    /// How many signals of each run were sent.
    sent: Vec<usize>,
    /// How many hosts there were.
    hosts: u64,
}

impl<'p> Play<'p> {
    async fn begin(plan: &'p Plan, seed: u64) -> Self {
        let environment = TestEnvironment::builder()
            .component(component("samples"))
            .mock("noop", Mock::returns(Value::Null))
            .patience(Duration::from_secs(20))
            .open()
            .await;
        environment.mock("task", task(environment.clock()));
        let sent = vec![0; plan.programs.len()];
        let mut play = Self { plan, seed, environment, runs: Vec::new(), sent, hosts: 0 };
        play.roll_back();
        for (run, steps) in plan.programs.iter().enumerate() {
            let id = workflow_id(run);
            let mut request = TestEnvironment::request("program", &id, &json!({ "steps": steps }));
            request.request_id = Some(id);
            let started = play.persist(|| play.environment.try_start(request.clone())).await;
            play.runs.push(started.unwrap());
        }
        play
    }

    /// Lets some transactions of the present host be rolled back.
    fn roll_back(&self) {
        let Some(one_in) = self.plan.rolls_back_one_in else { return };
        let mixed = (self.seed ^ (self.hosts << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.environment.store().fail(move |commit| {
            let draw = (mixed ^ commit as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 33;
            draw.is_multiple_of(one_in).then(|| CommitError::RolledBack("the test wants it".to_owned()))
        });
    }

    async fn make(&mut self, step: Move) {
        match step {
            Move::Send(run) => self.send_next(run).await,
            Move::SendAgain(run) => {
                if let Some(last) = self.sent[run].checked_sub(1) {
                    self.send(run, last).await;
                }
            }
            Move::SendAndKill(run) => self.send_and_kill(run).await,
            Move::Advance(ms) => self.environment.advance(Duration::from_millis(ms)).await,
            Move::Settle => self.environment.settle().await,
            Move::Restart(how) => self.restart(how).await,
            Move::Evict(run) => self.environment.evict(&workflow_id(run)).await,
            Move::Cancel(run) => {
                let cancelled = self.persist(|| self.runs[run].cancel()).await;
                assert!(matches!(cancelled, Ok(_) | Err(ApiError::NotFound(_))), "{cancelled:?}");
            }
            Move::DeliverAgain(run, which) => self.deliver_again(run, which).await,
            Move::Reset(run, which) => self.reset(run, which).await,
        }
    }

    async fn send_next(&mut self, run: usize) {
        let next = self.sent[run];
        if next < self.plan.signals(run).len() {
            self.sent[run] += 1;
            self.send(run, next).await;
        }
    }

    async fn send(&self, run: usize, number: usize) {
        let sent = self.persist(|| self.sending(run, number)).await;
        assert!(matches!(sent, Ok(_) | Err(ApiError::NotFound(_))), "{sent:?}");
    }

    /// Sends a signal under its own request id, so that it is one however often it is sent.
    fn sending(
        &self,
        run: usize,
        number: usize,
    ) -> impl Future<Output = Result<Acknowledged, ApiError>> + Send + 'static {
        let (run, (name, value)) = (self.runs[run].clone(), self.plan.signals(run)[number].clone());
        async move { run.signal_once(&format!("{name}-{value}"), &name, &value).await }
    }

    async fn send_and_kill(&mut self, run: usize) {
        let next = self.sent[run];
        if next < self.plan.signals(run).len() {
            self.sent[run] += 1;
            let sending = tokio::spawn(self.sending(run, next));
            tokio::task::yield_now().await;
            self.restart(Restart::Killed).await;
            let sent = sending.await.unwrap();
            let is_expected = matches!(
                sent,
                Ok(_) | Err(ApiError::NotFound(_) | ApiError::Busy(_) | ApiError::Internal(_))
            );
            assert!(is_expected, "{sent:?}");
            self.send(run, next).await;
        }
    }

    async fn restart(&mut self, how: Restart) {
        self.environment.restart(how).await;
        self.hosts += 1;
        self.roll_back();
    }

    /// Hands a run one of the inputs that it had.
    async fn deliver_again(&self, run: usize, which: u64) {
        let workflow_id = WorkflowId(workflow_id(run));
        let reference = RunRef { namespace: Namespace::default(), workflow_id, run_id: None };
        // It may have no history yet.
        let Ok(export) = self.environment.host().export(&reference).await else { return };
        let of = |kind: &EventKind| match kind {
            EventKind::Input(
                input @ (Input::ActivityCompleted(_) | Input::ActivityFailed(_) | Input::TimerFired(_)),
            ) => Some(input.clone()),
            EventKind::Input(_) | EventKind::Command(_) | EventKind::Note(_) => None,
        };
        let inputs: Vec<Input> = export.events.iter().filter_map(|event| of(&event.kind)).collect();
        if !inputs.is_empty() {
            self.runs[run].deliver_again(inputs[which as usize % inputs.len()].clone()).await;
        }
    }

    /// Lets a run that is open go on from one of its events, if that is the last one of a step. One that has closed has
    /// refused signals that it would take now.
    async fn reset(&self, run: usize, which: u64) {
        let description = self.runs[run].description().await;
        if description.status == RunStatus::Running && description.history_length > 0 {
            let to = ResetPoint::Event(EventId(1 + which % description.history_length));
            let reset = self.persist(|| self.runs[run].reset(to)).await;
            // It may have gone on as a new run meanwhile.
            let is_expected = matches!(reset, Ok(_) | Err(ApiError::InvalidInput(_) | ApiError::Conflict(_)));
            assert!(is_expected, "{reset:?}");
        }
    }

    /// Asks until the host is not busy any more; time moves where the answer waits for it.
    async fn persist<T, F>(&self, ask: impl Fn() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        loop {
            let asked = ask();
            tokio::pin!(asked);
            let answer = loop {
                tokio::select! {
                    biased;
                    answer = &mut asked => break answer,
                    () = self.environment.settle() => self.environment.advance(SECOND).await,
                }
            };
            match answer {
                Err(ApiError::Busy(_)) => {}
                answer => return answer,
            }
        }
    }

    /// Sends what was not sent, waits for all runs, and checks what they left.
    async fn end(mut self) {
        for run in 0..self.runs.len() {
            while self.sent[run] < self.plan.signals(run).len() {
                self.send_next(run).await;
            }
        }
        for run in 0..self.runs.len() {
            let left = self.left(run).await;
            if let Err(reason) = check::run(self.plan, run, &left, &self.environment.calls()) {
                let histories: Vec<String> = left.chain.iter().map(ToString::to_string).collect();
                panic!(
                    "seed {}: run {run}: {reason}\n{:#?}\nlog: {}\n{}",
                    self.seed,
                    self.plan,
                    json!(left.log),
                    histories.join("\n—\n")
                );
            }
        }
    }

    async fn left(&self, run: usize) -> Left {
        let test = &self.runs[run];
        let end = match test.end().await {
            Ok(end) => end,
            Err(stuck) => {
                panic!("seed {}: run {run}: {stuck}\n{:#?}\n{}", self.seed, self.plan, test.history().await)
            }
        };
        // Folded once more, from what is on disk.
        let log: Vec<Value> = test.query("log").await.unwrap();
        if end.status == RunStatus::Completed {
            assert_eq!(test.result::<Vec<Value>>().await, log, "seed {}: run {run}", self.seed);
        }
        Left { status: end.status, log, chain: test.chain().await }
    }
}

/// The activity of all programs.
fn task(clock: Clock) -> Mock {
    Mock::call_async(move |context: ActivityContext, task: Task| {
        let clock = clock.clone();
        async move {
            if task.takes_ms > 0 {
                clock.sleep_until(clock.now().plus_ms(task.takes_ms)).await;
            }
            if context.info().attempt <= task.fails {
                Err(Failure::application("Busy", "try again"))
            } else if task.is_refused {
                Err(Failure::non_retryable("Refused", "never"))
            } else {
                Ok(check::given_by(&task))
            }
        }
    })
}
