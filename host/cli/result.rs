//! `everfold result`.

use std::time::Duration;

use clap::Args;
use everfold::server::wire::{Description, End, RunResult};
use everfold_core::machine::RunStatus;
use owo_colors::OwoColorize as _;

use super::Run;
use super::client::{Client, LONG_POLL};
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::render;

/// How long a run is waited for before it is looked at; each wait is longer than the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct ResultOf {
    #[command(flatten)]
    run: Run,
    /// Wait for the run's end
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    form: Form,
}

impl ResultOf {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        if self.wait {
            return wait_and_print(client, &self.run, self.form).await;
        }
        let result = client.get_run(&self.run, &["result"], &[]).await?;
        print(&result, self.form)
    }
}

/// Waits for a run's end, however long it takes and whatever runs it continues as, and prints it.
pub(super) async fn wait_and_print(client: &Client, run: &Run, form: Form) -> Result<(), Failure> {
    // A host that is not there at all is said to be so, at once.
    let mut result: RunResult = client.get_run(run, &["result"], &[]).await?;
    let (mut wait, mut is_told) = (FIRST_WAIT, false);
    let mut run = Run { workflow_id: run.workflow_id.clone(), run_id: run.run_id };
    loop {
        if let Some(End::ContinuedAsRunId(next)) = &result.standing.end {
            anstream::eprintln!("{}", format!("{} goes on as run {next}", run.workflow_id).dimmed());
            run.run_id = Some(*next);
        } else if result.standing.status != RunStatus::Running {
            return print(&result, form);
        }
        result = client.await_run(&run, &["result"], &[], wait).await?;
        if result.standing.status == RunStatus::Running && !is_told {
            is_told = tell_blocked(client, &run).await?;
        }
        // What blocks a run mostly does so soon.
        wait = (wait * 4).min(LONG_POLL);
    }
}

/// Says that a run is blocked, if it is: who waits for it may wait long.
async fn tell_blocked(client: &Client, run: &Run) -> Result<bool, Failure> {
    let found: Description = client.get_run(run, &[], &[]).await?;
    let Some(blocked) = found.blocked else { return Ok(false) };
    let id = &run.workflow_id;
    let why = render::one_line(&blocked.reason);
    anstream::eprintln!(
        "{}",
        format!("{id} is blocked at event {}: {why}; see `everfold show {id}`. Still waiting", blocked.event)
            .yellow()
    );
    Ok(true)
}

fn print(result: &RunResult, form: Form) -> Result<(), Failure> {
    let mut output = Output::new();
    if form.is_json() {
        output.json(result)?;
    }
    let id = &result.workflow_id;
    match &result.standing.end {
        None if form.is_json() => Err(Failure::Silent(Exit::Conflict)),
        None => Err(Failure::new(Exit::Conflict, format!("{id} is still running"))
            .hint(format!("wait for it with `everfold result {id} --wait`, or see `everfold show {id}`"))),
        Some(End::Result(value)) => {
            if !form.is_json() {
                output.json(value)?;
            }
            Ok(())
        }
        Some(End::Failure(failure)) => {
            if !form.is_json() {
                let status = result.standing.status.name();
                let text = render::ended(failure).map(|how| format!("it {how}"));
                let text = text.unwrap_or_else(|| failure.to_string());
                anstream::eprintln!("{} {text}", format!("{status}:").red().bold());
            }
            Err(Failure::Silent(Exit::Failed))
        }
        Some(End::ContinuedAsRunId(run_id)) => {
            if !form.is_json() {
                output.line(format_args!("continued as run {run_id}"))?;
            }
            Ok(())
        }
    }
}
