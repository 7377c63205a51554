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
        let before = version::all(client, &self.workflow_type).await?;
        client.order(&type_path(&self.workflow_type, &["versions", &whole, "retire"])?).await?;
        let (digest, name) = (digest.short(), &self.workflow_type);
        let mut output = Output::new();
        output
            .line(format_args!("{digest} of {name} is retired; it comes back when it is deployed again"))?;
        if before.routing.previous.is_some_and(|previous| previous.short() == digest) {
            output.line(format_args!("a rollback of {name} led there; it leads nowhere now"))?;
        }
        Ok(())
    }
}
