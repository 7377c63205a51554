//! `everfold batch`: one thing done to every run that a query finds; to the open ones of them, unless it is a reset.
//!
//! ```text
//! count (page by page) ─▶ --dry-run: show the first of them
//!                    └──▶ --yes: page by page again, several runs at a time, each request under the batch's id
//! ```
//!
//! A page begins behind the last run of the one before, so that runs which close meanwhile move nothing. Every request
//! bears the batch's id as its `request_id`: a batch that was cut off is sent again under the same id, and does to no
//! workflow twice what it did.

use std::time::Duration;

use clap::{Args, Subcommand};
use everfold::clock::Clock;
use everfold::server::wire::{Progress, ResetRunBody, RunList, RunSummary, StopBody};
use everfold_core::ids::Digest;
use everfold_core::machine::RunStatus;
use everfold_core::reset::ResetPoint;
use futures::{StreamExt as _, stream};
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use super::Run;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::progress::Bar;
use super::render::{counted, runs};
use super::signal::Said;

/// Runs of a page: the host's most.
const PAGE: usize = 1_000;
/// Requests at a time.
const AT_ONCE: usize = 16;
/// The host's codes for a run that has others behind it.
const PASSED: [&str; 2] = ["conflict", "already_started"];
/// Runs and failures that are shown one by one.
const SHOWN: usize = 20;
/// How often a host that is away or full is asked again, and with what pause.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Batch {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Ask open runs to cancel
    Cancel(Stop),
    /// Close open runs without asking their code; nothing is undone
    Terminate(Stop),
    /// Send open runs a signal
    Signal(Signal),
    /// Let runs, open or closed, go on from an earlier event, as new runs; what they did later is not undone
    Reset(Reset),
}

#[derive(Debug, Args)]
struct Stop {
    /// Why; it stands in the runs' histories
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    scope: Scope,
}

#[derive(Debug, Args)]
struct Signal {
    #[command(flatten)]
    said: Said,
    #[command(flatten)]
    scope: Scope,
}

#[derive(Debug, Args)]
struct Reset {
    /// The event that they go back to: `start`, `last` for the last event behind which each was open, or a number
    #[arg(long, value_name = "EVENT|start|last")]
    to: ResetPoint,
    /// Why; it stands in the histories of the new runs
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Go on on that version (a whole digest); default: the one that each run is on
    #[arg(long, value_name = "DIGEST")]
    version: Option<Digest>,
    #[command(flatten)]
    scope: Scope,
}

/// Which runs, and whether it is meant.
#[derive(Debug, Args)]
struct Scope {
    /// Which of them, as for `everfold list`; "" for all
    #[arg(long, value_name = "QUERY")]
    query: String,
    /// Only say how many there are, and show the first
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// The id of a batch that was cut off: nothing that it did is done twice
    #[arg(long, value_name = "ID", default_value_t = new_id(), hide_default_value = true)]
    batch_id: String,
    #[command(flatten)]
    form: Form,
}

/// What is sent to each run.
struct Request {
    path: Vec<String>,
    body: Value,
    to: Whom,
    /// As in `cancelling`.
    doing: &'static str,
    /// As in `asked to cancel`.
    done: &'static str,
}

/// To which of the runs that the query finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Open,
    /// Also closed ones, but only the last run of each workflow.
    Last,
}

/// What came of a run's request.
enum Came {
    Done,
    /// It had closed before, or is not its workflow's last run.
    Passed,
    /// It is a run that this batch began.
    Own,
    Refused(String),
}

/// What came of the batch so far.
#[derive(Default)]
struct Told {
    done: u64,
    passed: u64,
    refused: u64,
    /// The first of them.
    refusals: Vec<Value>,
}

impl Batch {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (scope, request) = match self.what {
            What::Cancel(Stop { reason, scope }) => {
                let body = StopBody { reason, request_id: Some(scope.batch_id.clone()) };
                (scope, Request::new(&["cancel"], &body, Whom::Open, "cancelling", "asked to cancel")?)
            }
            What::Terminate(Stop { reason, scope }) => {
                let body = StopBody { reason, request_id: Some(scope.batch_id.clone()) };
                (scope, Request::new(&["terminate"], &body, Whom::Open, "terminating", "terminated")?)
            }
            What::Signal(Signal { said, scope }) => {
                let body = said.body(Some(scope.batch_id.clone()))?;
                let path = ["signals", &said.name];
                (scope, Request::new(&path, &body, Whom::Open, "signalling", "signalled")?)
            }
            What::Reset(Reset { to, reason, version, scope }) => {
                let request_id = Some(scope.batch_id.clone());
                let body = ResetRunBody { to, reason, digest: version, request_id, dry_run: false };
                (scope, Request::new(&["reset"], &body, Whom::Last, "resetting", "reset")?)
            }
        };
        scope.run(client, &request).await
    }
}

impl Request {
    fn new(
        path: &[&str],
        body: &impl serde::Serialize,
        to: Whom,
        doing: &'static str,
        done: &'static str,
    ) -> Result<Self, Failure> {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        let body = serde_json::to_value(body).map_err(anyhow::Error::from)?;
        Ok(Self { path, body, to, doing, done })
    }

    /// Sends it to one run.
    async fn send(&self, client: &Client, run: RunSummary) -> Result<(RunSummary, Came), Failure> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let to = Run { workflow_id: run.workflow_id.0.clone(), run_id: Some(run.run_id) };
        let sent = patiently(async || client.post_run::<Value>(&to, &path, &self.body).await).await;
        match sent {
            // The batch began it itself.
            Ok(done) if self.to == Whom::Last && done["reset_run_id"] != json!(run.run_id) => {
                Ok((run, Came::Own))
            }
            Ok(_) => Ok((run, Came::Done)),
            Err(Failure::Told { exit: Exit::NotFound, .. }) => Ok((run, Came::Passed)),
            Err(Failure::Told { code: Some(code), .. }) if PASSED.contains(&code.as_str()) => {
                Ok((run, Came::Passed))
            }
            Err(failure @ Failure::Told { exit: Exit::Unreachable, .. }) => Err(failure),
            Err(Failure::Told { message, .. }) => Ok((run, Came::Refused(message))),
            Err(other) => Err(other),
        }
    }
}

/// An id that no batch had.
fn new_id() -> String {
    format!("batch-{}", Clock::system().new_uuid())
}

impl Scope {
    async fn run(self, client: &Client, request: &Request) -> Result<(), Failure> {
        let batch_id = &self.batch_id;
        let (matched, first) = self.count(client, request.to).await?;
        let mut output = Output::new();
        if self.dry_run {
            return self.show(&mut output, request.to, matched, &first);
        }
        if !self.yes {
            let message = format!("{} would be {}", request.to.counted(matched), request.done);
            let hint = "say --yes to do it, or --dry-run to see them";
            return Err(Failure::new(Exit::Usage, message).hint(hint));
        }
        anstream::eprintln!("{}", format!("this is batch {batch_id}").dimmed());
        let told = self.act(client, request, matched).await.map_err(|failure| {
            failure.hint(format!(
                "what was done stays done; go on with the same command and --batch-id {batch_id}"
            ))
        })?;
        if self.form.is_json() {
            output.json(&json!({
                "batch_id": batch_id,
                "matched": matched,
                "done": told.done,
                "passed_over": told.passed,
                "refused": told.refused,
                "refusals": told.refusals,
            }))?;
        } else {
            let passed = match told.passed {
                0 => String::new(),
                passed => format!("; {} {}", counted(passed, "run", "runs"), request.to.passed()),
            };
            output.line(format_args!("{} {}{passed}", counted(told.done, "run", "runs"), request.done))?;
            for refusal in &told.refusals {
                let (id, why) = (&refusal["workflow_id"], &refusal["error"]);
                let line =
                    format!("  {}: {}", id.as_str().unwrap_or_default(), why.as_str().unwrap_or_default());
                output.line(line.red())?;
            }
        }
        if told.refused > 0 {
            let message = format!("{} refused", counted(told.refused, "run", "runs"));
            return Err(Failure::new(Exit::Failed, message));
        }
        Ok(())
    }

    /// How many open runs match, and the first of them.
    async fn count(&self, client: &Client, whom: Whom) -> Result<(u64, Vec<RunSummary>), Failure> {
        let (mut count, mut first, mut token) = (0, Vec::new(), None);
        loop {
            let page = self.page(client, whom, token.as_deref()).await?;
            count += page.runs.len() as u64;
            let room = SHOWN - first.len();
            first.extend(page.runs.into_iter().take(room));
            token = page.next_page_token;
            if token.is_none() {
                return Ok((count, first));
            }
        }
    }

    async fn page(&self, client: &Client, whom: Whom, token: Option<&str>) -> Result<RunList, Failure> {
        let mut query = vec![("query", self.query.clone()), ("limit", PAGE.to_string())];
        if whom == Whom::Open {
            query.push(("status", RunStatus::Running.name().to_owned()));
        }
        query.extend(token.map(|token| ("page_token", token.to_owned())));
        let mut page: RunList = patiently(async || client.get(&["workflows"], &query).await).await?;
        page.runs.retain(|run| run.status != RunStatus::ContinuedAsNew);
        Ok(page)
    }

    async fn act(&self, client: &Client, request: &Request, matched: u64) -> Result<Told, Failure> {
        let bar = Bar::of(request.doing);
        let (mut told, mut token) = (Told::default(), None);
        loop {
            let page = self.page(client, request.to, token.as_deref()).await?;
            let sending = page.runs.into_iter().map(|run| request.send(client, run));
            let mut answers = stream::iter(sending).buffer_unordered(AT_ONCE);
            while let Some(answer) = answers.next().await {
                let (run, came) = answer?;
                told.take(&run, came);
                let done = told.done + told.passed + told.refused;
                bar.tell(Progress { done, total: matched });
            }
            drop(answers);
            token = page.next_page_token;
            if token.is_none() {
                return Ok(told);
            }
        }
    }

    fn show(
        &self,
        output: &mut Output,
        whom: Whom,
        matched: u64,
        first: &[RunSummary],
    ) -> Result<(), Failure> {
        if self.form.is_json() {
            return output.json(&json!({ "matched": matched, "first": first }));
        }
        for line in runs::lines(first, Clock::system().now(), Output::width()) {
            output.line(line)?;
        }
        let more = matched - first.len() as u64;
        let more = if more > 0 { format!(", {more} more than shown") } else { String::new() };
        output.line(format_args!("{}{more}; nothing was done", whom.counted(matched)))
    }
}

impl Whom {
    fn counted(self, runs: u64) -> String {
        match self {
            Self::Open => counted(runs, "open run", "open runs"),
            Self::Last => counted(runs, "run", "runs"),
        }
    }

    /// What is said of runs to which nothing was done.
    const fn passed(self) -> &'static str {
        match self {
            Self::Open => "had closed before",
            Self::Last => "had others behind them",
        }
    }
}

impl Told {
    fn take(&mut self, run: &RunSummary, came: Came) {
        match came {
            Came::Done => self.done += 1,
            Came::Passed => self.passed += 1,
            Came::Own => {}
            Came::Refused(error) => {
                self.refused += 1;
                if self.refusals.len() < SHOWN {
                    let (workflow_id, run_id) = (&run.workflow_id, run.run_id);
                    self.refusals
                        .push(json!({ "workflow_id": workflow_id, "run_id": run_id, "error": error }));
                }
            }
        }
    }
}

/// Asks again for a while when nobody answers, or the host takes nothing now.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 0..TRIES {
        match ask().await {
            Err(failure) if failure.is_unreachable() => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
    ask().await
}
