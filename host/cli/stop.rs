//! `everfold cancel` and `everfold terminate`.

use clap::Args;
use everfold::server::wire::{Acknowledged, StopBody};
use owo_colors::OwoColorize as _;

use super::Run;
use super::client::Client;
use super::failure::Failure;
use super::output::{Form, Output};

#[derive(Debug, Args)]
pub(super) struct Stop {
    #[command(flatten)]
    run: Run,
    /// Why; it stands in the run's history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// De-duplicates: the same request id is one request
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    form: Form,
}

impl Stop {
    /// Asks the run to cancel.
    pub(super) async fn cancel(self, client: &Client) -> Result<(), Failure> {
        let form = self.form;
        let asked = self.post(client, "cancel").await?;
        let mut output = Output::new();
        if form.is_json() {
            return output.json(&asked);
        }
        let Acknowledged { workflow_id: id, run_id } = asked;
        output.line(format_args!("{} is asked to cancel (run {run_id})", id.bold()))?;
        let hint =
            format!("it undoes what is to be undone first; see its end with `everfold result {id} --wait`");
        anstream::eprintln!("{}", hint.dimmed());
        Ok(())
    }

    /// Closes the run without asking its code.
    pub(super) async fn terminate(self, client: &Client) -> Result<(), Failure> {
        let form = self.form;
        let closed = self.post(client, "terminate").await?;
        let mut output = Output::new();
        if form.is_json() {
            return output.json(&closed);
        }
        let Acknowledged { workflow_id: id, run_id } = closed;
        output.line(format_args!("{} is terminated (run {run_id}); nothing was undone", id.bold()))
    }

    async fn post(self, client: &Client, how: &str) -> Result<Acknowledged, Failure> {
        let body = StopBody { reason: self.reason, request_id: self.request_id };
        client.post_run(&self.run, &[how], &body).await
    }
}
