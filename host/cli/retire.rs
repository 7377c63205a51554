//! `everfold retire`.

use clap::Args;

use super::client::{Client, type_path};
use super::failure::Failure;
use super::output::Output;
use super::version::{self, Prefix};

#[derive(Debug, Args)]
pub(super) struct Retire {
    /// The workflow type
    #[arg(value_name = "TYPE")]
    workflow_type: String,
    /// The version, or its first digits
    #[arg(value_name = "DIGEST")]
    version: Prefix,
}

impl Retire {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let digest = version::find(client, &self.workflow_type, &self.version).await?;
        let whole = digest.to_string();
        client.order(&type_path(&self.workflow_type, &["versions", &whole, "retire"])?).await?;
        Output::new().line(format_args!(
            "{} of {} is retired; it comes back when it is deployed again",
            digest.short(),
            self.workflow_type
        ))
    }
}
