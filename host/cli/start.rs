//! `everfold start`.

use clap::Args;
use everfold::server::wire::{StartBody, Started};
use owo_colors::OwoColorize as _;

use super::Run;
use super::client::Client;
use super::failure::Failure;
use super::input;
use super::output::{Form, Output};
use super::result;
use super::version::{self, Prefix};

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
    /// A version other than the one that new runs start on, or its first digits
    #[arg(long, value_name = "DIGEST")]
    digest: Option<Prefix>,
    /// Wait for the run's end and print its result; exit 1 with its failure
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    form: Form,
}

impl Start {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let digest = match &self.digest {
            Some(prefix) => Some(version::find(client, &self.workflow_type, prefix).await?),
            None => None,
        };
        let body = StartBody {
            workflow_type: self.workflow_type,
            workflow_id: self.id,
            input: input::parse("--input", &self.input)?,
            request_id: self.request_id,
            digest,
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
