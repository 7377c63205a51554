//! `everfold reset`.

use clap::Args;
use everfold::server::wire::{Description, Repeated, ResetResult, ResetRunBody};
use everfold_core::reset::{ResetPoint, START};
use owo_colors::OwoColorize as _;

use super::Run;
use super::client::Client;
use super::failure::Failure;
use super::output::{Form, Output};
use super::render::counted;
use super::version::{self, Prefix};

#[derive(Debug, Args)]
pub(super) struct Reset {
    #[command(flatten)]
    run: Run,
    /// The event that it goes back to: the last one of a step, as `everfold history` numbers them; `start` for before the
    /// first one, `last` for the last event behind which the run was open
    #[arg(long, value_name = "EVENT|start|last")]
    to: ResetPoint,
    /// Why; it stands in the history of the new run, and in that of a run that was open
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Go on on that version, or its first digits; default: the one that the run is on
    #[arg(long, value_name = "DIGEST")]
    version: Option<Prefix>,
    /// Only say what would come of it
    #[arg(long)]
    dry_run: bool,
    /// De-duplicates: the same request id is one reset
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    form: Form,
}

impl Reset {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let digest = match &self.version {
            None => None,
            Some(prefix) => {
                let run: Description = client.get_run(&self.run, &[], &[]).await?;
                Some(version::find(client, &run.workflow_type, prefix).await?)
            }
        };
        let Self { run, to, reason, request_id, dry_run, .. } = self;
        let body = ResetRunBody { to, reason, digest, request_id, dry_run };
        let done = client.post_run(&run, &["reset"], &body).await;
        let done: ResetResult = done.map_err(|failure| match failure.is_code("already_started") {
            true => failure.hint("reset that run, or terminate it first"),
            false => failure,
        })?;
        let mut output = Output::new();
        if self.form.is_json() {
            return output.json(&done);
        }
        let ResetResult { workflow_id: id, run_id, reset_run_id, to_event_id, repeats } = done;
        let place =
            if to_event_id == START { "the start".to_owned() } else { format!("event {to_event_id}") };
        match run_id {
            Some(run_id) => {
                output.line(format_args!("{} goes on from {place} as run {run_id}", id.bold()))?
            }
            None => output.line(format_args!(
                "{} would go on from {place} of run {reset_run_id}; nothing was done",
                id.bold()
            ))?,
        }
        if !repeats.is_empty() {
            let what = counted(repeats.len() as u64, "effect is", "effects are");
            output.line(format_args!("{what} not undone, and may come again:"))?;
        }
        for repeated in &repeats {
            output.line(line(repeated))?;
        }
        Ok(())
    }
}

fn line(repeated: &Repeated) -> String {
    let Repeated { event_id, event_type, name, workflow_id, idempotency_key } = repeated;
    let name = name.as_deref().unwrap_or_default();
    let of = workflow_id.as_ref().map(|id| format!(" → {id}")).unwrap_or_default();
    let key = match idempotency_key {
        Some(key) => format!("  begins anew under its key {key}"),
        None => String::new(),
    };
    let event_id = event_id.to_string();
    format!("  {event_id:>5}  {event_type:<24}  {name}{of}{key}")
}
