//! `everfold signal`.

use clap::Args;
use everfold::server::wire::{Acknowledged, SignalBody};
use owo_colors::OwoColorize as _;
use serde_json::Map;

use super::client::Client;
use super::failure::Failure;
use super::output::{Form, Output};
use super::{Run, input};

#[derive(Debug, Args)]
pub(super) struct Signal {
    #[command(flatten)]
    run: Run,
    #[command(flatten)]
    said: Said,
    /// De-duplicates: the same request id is one signal
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    form: Form,
}

/// A signal: its name and what it says.
#[derive(Debug, Args)]
pub(super) struct Said {
    /// The signal's name
    pub(super) name: String,
    /// What it says: JSON, @FILE, or @- for standard input
    #[arg(
        value_name = "JSON|@FILE",
        default_value = "null",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    input: String,
}

impl Said {
    /// What is sent to a run.
    pub(super) fn body(&self, request_id: Option<String>) -> Result<SignalBody, Failure> {
        let input = input::parse("the signal's input", &self.input)?;
        Ok(SignalBody { input, headers: Map::new(), request_id })
    }
}

impl Signal {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let body = self.said.body(self.request_id)?;
        let taken: Acknowledged = client.post_run(&self.run, &["signals", &self.said.name], &body).await?;
        let mut output = Output::new();
        if self.form.is_json() {
            return output.json(&taken);
        }
        let Acknowledged { workflow_id, run_id } = taken;
        output.line(format_args!("{} has the signal {} (run {run_id})", workflow_id.bold(), self.said.name))
    }
}
