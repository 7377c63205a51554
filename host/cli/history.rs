//! `everfold history`: a timeline, one event a line.

use std::time::Duration;

use clap::Args;
use everfold::server::wire;
use everfold_core::ids::EventId;
use everfold_core::machine::RunStatus;
use owo_colors::OwoColorize as _;

use super::Run;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::render::timeline::Timeline;

/// Events asked for at a time.
const PAGE: &str = "500";
/// Pause before a host that went away while it was followed is asked again.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked again.
const RECONNECT_TRIES: u32 = 60;

#[derive(Debug, Args)]
pub(super) struct History {
    #[command(flatten)]
    run: Run,
    /// Grow with the run until it closes; exit 1 if it fails. With --json: one event a line
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    form: Form,
}

impl History {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        if !self.follow {
            return self.print_all(client).await;
        }
        tokio::select! {
            end = self.print_growing(client) => end,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }

    async fn print_all(&self, client: &Client) -> Result<(), Failure> {
        let mut history = self.page(client, EventId(0), None).await?;
        while !history.complete {
            let page = self.page(client, last(&history.events), None).await?;
            history.complete = page.complete;
            history.status = page.status;
            if page.events.is_empty() {
                break;
            }
            history.events.extend(page.events);
        }
        let mut output = Output::new();
        if self.form.is_json() {
            return output.json(&history);
        }
        let mut timeline = Timeline::new(Output::width());
        for event in &history.events {
            output.line(timeline.line(event))?;
        }
        if history.status == RunStatus::Running {
            let hint =
                format!("still running; follow it with `everfold history {} --follow`", self.run.workflow_id);
            anstream::eprintln!("{}", hint.dimmed());
        }
        Ok(())
    }

    async fn print_growing(&self, client: &Client) -> Result<(), Failure> {
        let mut output = Output::new();
        let mut timeline = Timeline::new(Output::width());
        let mut after = EventId(0);
        loop {
            let page = if after == EventId(0) {
                self.page(client, after, Some(Client::long_poll())).await?
            } else {
                self.page_again(client, after).await?
            };
            for event in &page.events {
                after = event.id;
                if self.form.is_json() {
                    output.json_line(event)?;
                } else {
                    output.line(timeline.line(event))?;
                }
            }
            if page.complete {
                return match page.status {
                    RunStatus::Completed | RunStatus::ContinuedAsNew | RunStatus::Running => Ok(()),
                    RunStatus::Failed | RunStatus::Canceled | RunStatus::Terminated | RunStatus::TimedOut => {
                        Err(Failure::Silent(Exit::Failed))
                    }
                };
            }
        }
    }

    /// A host that restarts goes on where it was: so does its reader.
    async fn page_again(&self, client: &Client, after: EventId) -> Result<wire::History, Failure> {
        for tried in 0..RECONNECT_TRIES {
            match self.page(client, after, Some(Client::long_poll())).await {
                Err(failure) if failure.is_unreachable() => {
                    if tried == 0 {
                        anstream::eprintln!("{}", "the host went away; waiting for it to come back".yellow());
                    }
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
                answer => return answer,
            }
        }
        self.page(client, after, None).await
    }

    async fn page(
        &self,
        client: &Client,
        after: EventId,
        wait: Option<(&'static str, String)>,
    ) -> Result<wire::History, Failure> {
        let query = [("after", after.to_string()), ("limit", PAGE.to_owned())];
        let query: Vec<_> = query.into_iter().chain(wait).collect();
        client.get_run(&self.run, &["history"], &query).await
    }
}

fn last(events: &[everfold_core::event::Event]) -> EventId {
    events.last().map_or(EventId(0), |event| event.id)
}
