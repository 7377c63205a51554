//! `everfold history`: a timeline, one event a line.

use clap::Args;
use everfold::server::wire;
use everfold_core::ids::{EventId, RunId};
use everfold_core::machine::RunStatus;
use owo_colors::OwoColorize as _;

use super::Run;
use super::client::{Client, LONG_POLL};
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::render::timeline::Timeline;

/// Events asked for at a time.
const PAGE: &str = "500";

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
            let page: wire::History = if after == EventId(0) {
                // A host that is not there at all is said to be so, at once.
                self.page(client, after, Some(Client::long_poll())).await?
            } else {
                client.await_run(&self.run, &["history"], &Self::query(after), LONG_POLL).await?
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
                        self.ended_badly(client, page.run_id).await
                    }
                };
            }
        }
    }

    /// The end of a run that closed without a result: it may go on as another one, being tried again or reset.
    async fn ended_badly(&self, client: &Client, run_id: RunId) -> Result<(), Failure> {
        let run = Run { workflow_id: self.run.workflow_id.clone(), run_id: Some(run_id) };
        let described: wire::Description = client.get_run(&run, &[], &[]).await?;
        let Some(wire::End::ContinuedAsRunId(next)) = described.standing.end else {
            return Err(Failure::Silent(Exit::Failed));
        };
        anstream::eprintln!("{}", format!("it goes on as run {next}").dimmed());
        Ok(())
    }

    async fn page(
        &self,
        client: &Client,
        after: EventId,
        wait: Option<(&'static str, String)>,
    ) -> Result<wire::History, Failure> {
        let query: Vec<_> = Self::query(after).into_iter().chain(wait).collect();
        client.get_run(&self.run, &["history"], &query).await
    }

    fn query(after: EventId) -> [(&'static str, String); 2] {
        [("after", after.to_string()), ("limit", PAGE.to_owned())]
    }
}

fn last(events: &[everfold_core::event::Event]) -> EventId {
    events.last().map_or(EventId(0), |event| event.id)
}
