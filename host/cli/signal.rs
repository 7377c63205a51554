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
    /// The signal's name
    name: String,
    /// What it says: JSON, @FILE, or @- for standard input
    #[arg(
        value_name = "JSON|@FILE",
        default_value = "null",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    input: String,
    /// De-duplicates: the same request id is one signal
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    form: Form,
}

impl Signal {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let body = SignalBody {
            input: input::parse("the signal's input", &self.input)?,
            headers: Map::new(),
            request_id: self.request_id,
        };
        let taken: Acknowledged = client.post_run(&self.run, &["signals", &self.name], &body).await?;
        let mut output = Output::new();
        if self.form.is_json() {
            return output.json(&taken);
        }
        let Acknowledged { workflow_id, run_id } = taken;
        output.line(format_args!("{} has the signal {} (run {run_id})", workflow_id.bold(), self.name))
    }
}
