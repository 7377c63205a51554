//! `everfold show`.

use clap::Args;
use everfold::clock::Clock;
use everfold::server::wire::Description;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::Run;
use super::client::Client;
use super::failure::Failure;
use super::output::{Form, Output};
use super::render::description;

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
        let text = description::text(&run, Clock::system().now(), &TimeZone::system());
        output.line(text.trim_end())
    }
}
