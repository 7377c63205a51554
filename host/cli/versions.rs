//! `everfold versions`.

use clap::Args;
use everfold::clock::Clock;
use everfold::server::wire::WorkflowTypes;
use owo_colors::OwoColorize as _;

use super::client::Client;
use super::failure::Failure;
use super::output::{Form, Output};
use super::render::versions;
use super::version;

#[derive(Debug, Args)]
pub(super) struct Versions {
    /// The workflow type; without it, one line for each type
    #[arg(value_name = "TYPE")]
    workflow_type: Option<String>,
    #[command(flatten)]
    form: Form,
}

impl Versions {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut output = Output::new();
        let now = Clock::system().now();
        let Some(workflow_type) = &self.workflow_type else {
            let types: WorkflowTypes = client.get(&["workflow-types"], &[]).await?;
            if self.form.is_json() {
                return output.json(&types);
            }
            if types.workflow_types.is_empty() {
                anstream::eprintln!(
                    "{}",
                    "nothing is deployed; `everfold deploy FILE.wasm` does it".dimmed()
                );
                return Ok(());
            }
            return output.line(versions::types(&types.workflow_types, now).join("\n"));
        };
        let found = version::all(client, workflow_type).await?;
        if self.form.is_json() {
            return output.json(&found);
        }
        output.line(versions::of_type(&found, now).join("\n"))
    }
}
