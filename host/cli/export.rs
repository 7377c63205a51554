//! `everfold export`.

use clap::Args;
use serde_json::Value;

use super::Run;
use super::client::Client;
use super::failure::Failure;
use super::output::Output;

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    run: Run,
}

impl Export {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let export: Value = client.get_run(&self.run, &["export"], &[]).await?;
        Output::new().json(&export)
    }
}
