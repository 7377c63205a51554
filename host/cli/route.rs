//! `everfold promote`, `ramp` and `rollback`: where new runs of a workflow type go.

use clap::Args;
use everfold::server::wire::{PromoteBody, Routed, RoutingBody};
use everfold_core::ids::Digest;
use everfold_core::route::Percent;

use super::client::{Client, type_path};
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::render::versions;
use super::version::{self, Prefix};

#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The workflow type
    #[arg(value_name = "TYPE")]
    workflow_type: String,
    /// The version, or its first digits; default: the candidate
    #[arg(long, value_name = "DIGEST")]
    to: Option<Prefix>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
pub(super) struct Ramp {
    /// The workflow type
    #[arg(value_name = "TYPE")]
    workflow_type: String,
    /// How many of a hundred new runs start on the candidate
    #[arg(value_name = "PERCENT", value_parser = percent)]
    percent: Percent,
    /// The version, or its first digits; default: the candidate that there is
    #[arg(long, value_name = "DIGEST")]
    to: Option<Prefix>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
pub(super) struct RollBack {
    /// The workflow type
    #[arg(value_name = "TYPE")]
    workflow_type: String,
    #[command(flatten)]
    form: Form,
}

/// A share in per cent, with or without its sign.
pub(super) fn percent(text: &str) -> Result<Percent, String> {
    let number: u8 = text
        .strip_suffix('%')
        .unwrap_or(text)
        .parse()
        .map_err(|_| "a share is a whole number from 0 to 100".to_owned())?;
    Percent::try_from(number).map_err(|error| error.to_string())
}

impl Promote {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let digest = match &self.to {
            Some(prefix) => Some(version::find(client, &self.workflow_type, prefix).await?),
            None => None,
        };
        let body = serde_json::to_value(PromoteBody { digest }).map_err(anyhow::Error::from)?;
        let routed = client.post(&type_path(&self.workflow_type, &["promote"])?, &body).await?;
        print(&routed, self.form)
    }
}

impl Ramp {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let digest = match &self.to {
            Some(prefix) => version::find(client, &self.workflow_type, prefix).await?,
            None => candidate(client, &self.workflow_type).await?,
        };
        let routed = put(client, &self.workflow_type, digest, Some(self.percent)).await?;
        print(&routed, self.form)
    }
}

impl RollBack {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let before = version::all(client, &self.workflow_type).await?.routing;
        let body = serde_json::json!({});
        let routed: Routed = client.post(&type_path(&self.workflow_type, &["rollback"])?, &body).await?;
        let withdrawn = before.candidate.filter(|_| routed.routing.current == before.current);
        if let (Some(candidate), false) = (withdrawn, self.form.is_json()) {
            Output::new().line(format_args!(
                "the candidate {} is withdrawn; the current version is as it was. Roll back again to leave that, too",
                candidate.digest.short()
            ))?;
        }
        print(&routed, self.form)
    }
}

/// Makes a version current, or with a share the candidate. Nothing changes where it is so already.
pub(super) async fn put(
    client: &Client,
    workflow_type: &str,
    digest: Digest,
    ramp_percent: Option<Percent>,
) -> Result<Routed, Failure> {
    let path = type_path(workflow_type, &["routing"])?;
    client.put(&path, &RoutingBody { digest, ramp_percent }).await
}

async fn candidate(client: &Client, workflow_type: &str) -> Result<Digest, Failure> {
    let found = version::all(client, workflow_type).await?;
    found.routing.candidate.map(|candidate| candidate.digest).ok_or_else(|| {
        Failure::new(Exit::Conflict, format!("{workflow_type} has no candidate to ramp"))
            .hint(format!("name one with --to; see `everfold versions {workflow_type}`"))
    })
}

fn print(routed: &Routed, form: Form) -> Result<(), Failure> {
    let mut output = Output::new();
    if form.is_json() {
        return output.json(routed);
    }
    output.line(versions::routed(routed).join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_whole_number_up_to_a_hundred() {
        assert_eq!(percent("10").map(u8::from), Ok(10));
        assert_eq!(percent("100%").map(u8::from), Ok(100));
        for text in ["101", "-1", "1.5", "%", "300"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
