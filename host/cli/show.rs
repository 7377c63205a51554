//! `everfold show`.

use clap::Args;
use everfold::clock::Clock;
use everfold::server::wire::{Description, History};
use jiff::tz::TimeZone;
use serde_json::Value;

use super::Run;
use super::client::Client;
use super::failure::Failure;
use super::output::{Form, Output};
use super::render::{description, divergence};

/// Events that are read before the place where code and history part.
const EVENTS_BEFORE: u64 = 24;

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    run: Run,
    #[command(flatten)]
    form: Form,
}

impl Show {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut output = Output::new();
        if self.form.is_json() {
            let description: Value = client.get_run(&self.run, &[], &[]).await?;
            return output.json(&description);
        }
        let run: Description = client.get_run(&self.run, &[], &[]).await?;
        let parting = self.parting(client, &run).await;
        let text = description::text(&run, &parting, Clock::system().now(), &TimeZone::system());
        output.line(text.trim_end())
    }

    /// Where a blocked run's code parts from its history, in two columns.
    async fn parting(&self, client: &Client, run: &Description) -> Vec<String> {
        let Some(blocked) = &run.blocked else { return Vec::new() };
        let Some(parting) = &blocked.divergence else { return Vec::new() };
        let after = parting.event_id.0.saturating_sub(EVENTS_BEFORE);
        let query = [("after", after.to_string()), ("limit", EVENTS_BEFORE.to_string())];
        // The calls before it are an extra: without them it is shown all the same.
        let before = client.get_run::<History>(&self.run, &["history"], &query).await;
        let before = before.map(|page| page.events).unwrap_or_default();
        let agreed = divergence::agreed(&before, parting.event_id);
        divergence::lines(parting, &blocked.backtrace, &agreed, Output::width())
    }
}
