//! `everfold update`.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use everfold::server::wire::{UpdateBody, UpdateEnd, UpdateResult};
use everfold_core::machine::update::UpdateStage;
use owo_colors::OwoColorize as _;
use serde_json::Map;

use super::client::{Client, LONG_POLL};
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::{Run, input, render};

#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    run: Run,
    /// The update's name
    name: String,
    /// What it says: JSON, @FILE, or @- for standard input
    #[arg(
        value_name = "JSON|@FILE",
        default_value = "null",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    input: String,
    /// De-duplicates: the same id for the same run is one update; default: a new one
    #[arg(long, value_name = "ID")]
    update_id: Option<String>,
    /// What to wait for
    #[arg(long, value_name = "STAGE", value_enum, default_value_t = Stage::Completed)]
    wait_for: Stage,
    /// How long to wait for it, as 30s or 5m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    wait: Duration,
    #[command(flatten)]
    form: Form,
}

/// [`UpdateStage`] as a flag's value.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stage {
    /// It is on disk
    Admitted,
    /// The workflow has taken it on
    Accepted,
    /// It is answered
    Completed,
}

impl From<Stage> for UpdateStage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Admitted => Self::Admitted,
            Stage::Accepted => Self::Accepted,
            Stage::Completed => Self::Completed,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok();
    parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("`{text}` is not a duration such as 30s, 500ms or 2m"))
}

impl Update {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let wait_for = UpdateStage::from(self.wait_for);
        let body = UpdateBody {
            input: input::parse("the update's input", &self.input)?,
            headers: Map::new(),
            update_id: self.update_id,
            wait_for: Some(wait_for),
        };
        let deadline = Instant::now() + self.wait;
        let left = || deadline.saturating_duration_since(Instant::now()).min(LONG_POLL);
        let wait = [("wait", format!("{}ms", left().as_millis()))];
        let path = ["updates", self.name.as_str()];
        let mut answer: UpdateResult = client.ask_run(&self.run, &path, &wait, &body).await?;
        while answer.stage < wait_for && !left().is_zero() {
            // The run that has it: another one may be open by now.
            let run = Run { workflow_id: answer.workflow_id.0.clone(), run_id: Some(answer.run_id) };
            let stage = [("wait_for", wait_for.name().to_owned())];
            let path = ["updates", answer.update_id.as_str()];
            answer = client.await_run(&run, &path, &stage, left()).await?;
        }
        print(&answer, wait_for, self.form)
    }
}

/// Prints how far an update is; one that has not reached the stage is a conflict, one that failed a failure.
pub(super) fn print(answer: &UpdateResult, wait_for: UpdateStage, form: Form) -> Result<(), Failure> {
    let mut output = Output::new();
    if form.is_json() {
        output.json(answer)?;
    }
    let UpdateResult { workflow_id, update_id, stage, .. } = answer;
    match &answer.end {
        Some(UpdateEnd::Result(value)) if !form.is_json() => output.json(value),
        Some(UpdateEnd::Result(_)) => Ok(()),
        Some(UpdateEnd::Failure(failure)) => {
            if !form.is_json() {
                let text = render::ended(failure).map(|how| format!("it {how}"));
                let text = text.unwrap_or_else(|| failure.to_string());
                anstream::eprintln!("{} {text}", "the update failed:".red().bold());
            }
            Err(Failure::Silent(Exit::Failed))
        }
        None if *stage >= wait_for && form.is_json() => Ok(()),
        None if *stage >= wait_for => {
            output.line(format_args!("{} has {} the update {update_id}", workflow_id.bold(), stage.name()))
        }
        None if form.is_json() => Err(Failure::Silent(Exit::Conflict)),
        None => {
            let message = format!(
                "update {update_id} of {workflow_id} is {}, not yet {}",
                stage.name(),
                wait_for.name()
            );
            Err(Failure::new(Exit::Conflict, message)
                .hint("the same command with the same --update-id waits for it again"))
        }
    }
}
