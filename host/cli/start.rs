//! `everfold start`.

use std::io::Read as _;

use clap::Args;
use everfold::server::wire::{StartBody, Started};
use owo_colors::OwoColorize as _;
use serde_json::Value;

use super::Run;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::result;

#[derive(Debug, Args)]
pub(super) struct Start {
    /// The workflow type
    #[arg(value_name = "TYPE")]
    workflow_type: String,
    /// The workflow id; default: the request id, else a new one
    #[arg(long)]
    id: Option<String>,
    /// The input: JSON, @FILE, or @- for standard input
    #[arg(long, value_name = "JSON|@FILE", default_value = "null", hide_default_value = true)]
    input: String,
    /// De-duplicates: the same request id names the same run
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Wait for the run's end and print its result; exit 1 with its failure
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    form: Form,
}

impl Start {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let body = StartBody {
            workflow_type: self.workflow_type,
            workflow_id: self.id,
            input: parse_input(&self.input)?,
            request_id: self.request_id,
            digest: None,
            headers: serde_json::Map::new(),
        };
        let body = serde_json::to_value(body).map_err(anyhow::Error::from)?;
        let started: Started = client.post(&["workflows"], &body).await?;
        let id = started.workflow_id.0.clone();
        if self.wait {
            anstream::eprintln!("started {} as run {}", id.bold(), started.run_id);
            let run = Run { workflow_id: id, run_id: Some(started.run_id) };
            return result::wait_and_print(client, &run, self.form).await;
        }
        let mut output = Output::new();
        if self.form.is_json() {
            return output.json(&started);
        }
        output.line(format_args!("started {} as run {}", id.bold(), started.run_id))?;
        anstream::eprintln!("{}", format!("follow it with `everfold history {id} --follow`").dimmed());
        Ok(())
    }
}

/// JSON, `@FILE` or `@-`.
fn parse_input(input: &str) -> Result<Value, Failure> {
    let (text, source) = match input.strip_prefix('@') {
        None => (input.to_owned(), "--input".to_owned()),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| {
                Failure::new(Exit::Failed, format!("standard input cannot be read: {error}"))
            })?;
            (text, "standard input".to_owned())
        }
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::new(Exit::Usage, format!("--input: {file} cannot be read: {error}"))
            })?;
            (text, file.to_owned())
        }
    };
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{source} is not JSON: {error}")).hint(
            "quote it for the shell, as in --input '{\"name\": \"Ada\"}', or read it from a file with @FILE",
        )
    })
}
