//! `everfold start`.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use everfold::runner::api::{IdConflictPolicy, IdReusePolicy};
use everfold::server::wire::{StartBody, StartSignal, StartUpdate, Started};
use everfold_core::machine::update::UpdateStage;
use everfold_core::retry::RetryPolicy;
use owo_colors::OwoColorize as _;

use super::Run;
use super::client::Client;
use super::described::Described;
use super::failure::Failure;
use super::input;
use super::output::{Form, Output};
use super::result;
use super::update;
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
    /// Whether the workflow id may have been a closed run's
    #[arg(long, value_name = "POLICY", value_enum)]
    id_reuse_policy: Option<Reuse>,
    /// What becomes of a run that is open under the workflow id; default: the start is refused
    #[arg(long, value_name = "POLICY", value_enum)]
    id_conflict_policy: Option<Conflict>,
    /// A signal that the new run begins with, or that the open one is sent
    #[arg(long, value_name = "NAME")]
    signal: Option<String>,
    /// That signal's input: JSON, @FILE, or @- for standard input
    #[arg(
        long,
        value_name = "JSON|@FILE",
        default_value = "null",
        hide_default_value = true,
        requires = "signal"
    )]
    signal_input: String,
    #[command(flatten)]
    described: Described,
    #[command(flatten)]
    terms: Terms,
    /// An update that the new run is sent, or that the open one is sent; its answer is waited for and printed
    #[arg(long, value_name = "NAME", conflicts_with_all = ["signal", "wait"])]
    update: Option<String>,
    /// That update's input: JSON, @FILE, or @- for standard input
    #[arg(
        long,
        value_name = "JSON|@FILE",
        default_value = "null",
        hide_default_value = true,
        requires = "update"
    )]
    update_input: String,
    /// De-duplicates the update; default: the request id, else a new one
    #[arg(long, value_name = "ID", requires = "update")]
    update_id: Option<String>,
    /// A version other than the one that new runs start on, or its first digits
    #[arg(long, value_name = "DIGEST")]
    digest: Option<Prefix>,
    /// Wait for the run's end and print its result; exit 1 with its failure
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    form: Form,
}

/// How long the workflow may take, when it begins, and whether it is tried again.
#[derive(Debug, Args)]
struct Terms {
    /// How long all runs of the workflow may take together: `1h`, `30 days`
    #[arg(long, value_name = "TIME")]
    execution_timeout: Option<Span>,
    /// How long each run may take
    #[arg(long, value_name = "TIME")]
    run_timeout: Option<Span>,
    /// How long the run waits before it begins
    #[arg(long, value_name = "TIME")]
    start_delay: Option<Span>,
    /// Try the workflow again when a run fails or passes its run time-out: so many times in all, 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    retry_attempts: Option<u32>,
    /// The delay before the second try; it doubles each time [default: 1s]
    #[arg(long, value_name = "TIME", requires = "retry_attempts")]
    retry_interval: Option<Span>,
}

impl Terms {
    fn retry_policy(&self) -> Option<RetryPolicy> {
        Some(RetryPolicy {
            maximum_attempts: Some(self.retry_attempts?),
            initial_interval_ms: self.retry_interval.map(Span::ms),
            ..RetryPolicy::default()
        })
    }
}

/// A length of time: `500ms`, `30s`, `1h 30m`, `7 days`.
#[derive(Clone, Copy, Debug)]
struct Span(u64);

impl Span {
    const fn ms(self) -> u64 {
        self.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span: jiff::Span = text.parse().map_err(|error: jiff::Error| error.to_string())?;
        let days_are_24_hours = jiff::SpanRelativeTo::days_are_24_hours();
        let length = span.to_duration(days_are_24_hours).map_err(|error| error.to_string())?;
        u64::try_from(length.as_millis()).map(Self).map_err(|_| "it is negative, or too long".to_owned())
    }
}

/// [`IdReusePolicy`] as a flag's value.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Reuse {
    /// It may
    AllowDuplicate,
    /// Only if that one did not complete
    AllowDuplicateFailedOnly,
    /// It may not
    RejectDuplicate,
}

/// [`IdConflictPolicy`] as a flag's value.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Conflict {
    /// The start is refused
    Fail,
    /// It is the run that is started
    UseExisting,
    /// It is terminated first
    TerminateExisting,
}

impl From<Reuse> for IdReusePolicy {
    fn from(reuse: Reuse) -> Self {
        match reuse {
            Reuse::AllowDuplicate => Self::AllowDuplicate,
            Reuse::AllowDuplicateFailedOnly => Self::AllowDuplicateFailedOnly,
            Reuse::RejectDuplicate => Self::RejectDuplicate,
        }
    }
}

impl From<Conflict> for IdConflictPolicy {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::Fail => Self::Fail,
            Conflict::UseExisting => Self::UseExisting,
            Conflict::TerminateExisting => Self::TerminateExisting,
        }
    }
}

impl Start {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let digest = match &self.digest {
            Some(prefix) => Some(version::find(client, &self.workflow_type, prefix).await?),
            None => None,
        };
        let signal_input = input::parse("--signal-input", &self.signal_input)?;
        let signal = self.signal.map(|name| StartSignal {
            name,
            input: signal_input,
            headers: serde_json::Map::new(),
        });
        let (search_attributes, memo) = self.described.read()?;
        let update_input = input::parse("--update-input", &self.update_input)?;
        let update = self.update.map(|name| StartUpdate {
            name,
            input: update_input,
            headers: serde_json::Map::new(),
            update_id: self.update_id,
            wait_for: None,
        });
        let body = StartBody {
            workflow_type: self.workflow_type,
            workflow_id: self.id,
            input: input::parse("--input", &self.input)?,
            request_id: self.request_id,
            digest,
            headers: serde_json::Map::new(),
            id_reuse_policy: self.id_reuse_policy.map(Into::into),
            id_conflict_policy: self.id_conflict_policy.map(Into::into),
            signal,
            execution_timeout_ms: self.terms.execution_timeout.map(Span::ms),
            run_timeout_ms: self.terms.run_timeout.map(Span::ms),
            start_delay_ms: self.terms.start_delay.map(Span::ms),
            retry_policy: self.terms.retry_policy(),
            search_attributes,
            memo,
            update,
        };
        let body = serde_json::to_value(body).map_err(anyhow::Error::from)?;
        let query = if body["update"].is_null() { Vec::new() } else { vec![Client::long_poll()] };
        let started: Started = client.ask(&["workflows"], &query, &body).await?;
        let id = started.workflow_id.0.clone();
        let begun = match started.started {
            true => format!("started {} as run {}", id.bold(), started.run_id),
            false => format!("{} was started before: it is run {}", id.bold(), started.run_id),
        };
        if let Some(answer) = &started.update {
            anstream::eprintln!("{} is run {}", id.bold(), started.run_id);
            return update::print(answer, UpdateStage::Completed, self.form);
        }
        if self.wait {
            anstream::eprintln!("{begun}");
            let run = Run { workflow_id: id, run_id: Some(started.run_id) };
            return result::wait_and_print(client, &run, self.form).await;
        }
        let mut output = Output::new();
        if self.form.is_json() {
            return output.json(&started);
        }
        output.line(begun)?;
        anstream::eprintln!("{}", format!("follow it with `everfold history {id} --follow`").dimmed());
        Ok(())
    }
}
