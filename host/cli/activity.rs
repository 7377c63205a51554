//! `everfold activity pause`, `resume` and `reset`.

use clap::{Args, Subcommand};
use everfold::server::wire::{Acknowledged, ResetBody};
use owo_colors::OwoColorize as _;

use super::Run;
use super::client::Client;
use super::failure::Failure;
use super::output::{Form, Output};

/// What is done to an open activity.
#[derive(Debug, Subcommand)]
pub(super) enum Activity {
    /// Let no further attempt begin; one that is under way goes on
    Pause(Which),
    /// Let attempts begin again, at once or at their time
    Resume(Which),
    /// Count attempts from 1 again, and let the next one begin at once
    Reset(Reset),
}

/// An open activity of a run.
#[derive(Debug, Args)]
pub(super) struct Which {
    #[command(flatten)]
    run: Run,
    /// The event that scheduled it: its number in `everfold show` and `everfold history`
    #[arg(value_name = "EVENT", value_parser = clap::value_parser!(u64).range(1..))]
    event: u64,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
pub(super) struct Reset {
    #[command(flatten)]
    which: Which,
    /// Let a pause stay
    #[arg(long)]
    keep_paused: bool,
}

impl Activity {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Pause(which) => which.post(client, "pause", &ResetBody::default(), "is paused").await,
            Self::Resume(which) => which.post(client, "resume", &ResetBody::default(), "goes on").await,
            Self::Reset(Reset { which, keep_paused }) => {
                which.post(client, "reset", &ResetBody { keep_paused }, "is reset").await
            }
        }
    }
}

impl Which {
    async fn post(self, client: &Client, what: &str, body: &ResetBody, done: &str) -> Result<(), Failure> {
        let event = self.event.to_string();
        let path = ["activities", event.as_str(), what];
        let acknowledged: Acknowledged = client.post_run(&self.run, &path, body).await?;
        let mut output = Output::new();
        if self.form.is_json() {
            return output.json(&acknowledged);
        }
        let Acknowledged { workflow_id, run_id } = acknowledged;
        output.line(format_args!(
            "the activity of event {event} of {} {done} (run {run_id})",
            workflow_id.bold()
        ))
    }
}
