//! `everfold upgrade`: moves open runs to another version.

use clap::Args;
use everfold::server::wire::{UpgradeBody, UpgradeReport, Version};
use everfold_core::ids::Digest;

use super::check::{self, Scope};
use super::client::{Client, Long, Refused, Sent, type_path};
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::progress::Bar;
use super::render::report;
use super::version::{self, Prefix};

#[derive(Debug, Args)]
pub(super) struct Upgrade {
    /// The workflow type
    #[arg(value_name = "TYPE")]
    workflow_type: String,
    /// The version to move to, or its first digits
    #[arg(long, value_name = "DIGEST")]
    to: Prefix,
    /// Move those whose replay holds, and leave the others; without it none moves unless all can
    #[arg(long)]
    only_compatible: bool,
    /// Only these workflows
    #[arg(long = "id", value_name = "ID", num_args = 1..)]
    ids: Vec<String>,
    /// Move none: only say what would become of them; exit 1 if not all could be moved
    #[arg(long, conflicts_with = "only_compatible")]
    dry_run: bool,
    #[command(flatten)]
    form: Form,
}

/// Which runs move when some would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhoMoves {
    /// None.
    AllOrNone,
    /// Those whose replay holds.
    Compatible,
}

impl Upgrade {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let digest = version::find(client, &self.workflow_type, &self.to).await?;
        let mut output = Output::new();
        if self.dry_run {
            let versions = version::all(client, &self.workflow_type).await?.versions;
            let is_retired = |version: &Version| version.digest == digest && version.retired_at.is_some();
            if versions.iter().any(is_retired) {
                let (name, digest) = (&self.workflow_type, digest.short());
                let message = format!("version {digest} of {name} is retired: deploy it again");
                return Err(Failure::new(Exit::Conflict, message));
            }
            let kind = Some(self.workflow_type.as_str());
            let found = check::deployed(client, digest, kind, &self.ids, Scope::default()).await?;
            if self.form.is_json() {
                output.json(&found)?;
            } else {
                output.line(report::check(&found, Output::width()).join("\n"))?;
            }
            return if found.holds { Ok(()) } else { Err(Failure::Silent(Exit::Failed)) };
        }
        let who = if self.only_compatible { WhoMoves::Compatible } else { WhoMoves::AllOrNone };
        let answer = moved(client, &self.workflow_type, digest, self.ids, who).await?;
        let (report, end) = match answer {
            Ok(report) => (report, Ok(())),
            Err(refused) => match refused.member("incompatible", "report") {
                Some(report) => (report, Err(Failure::from(refused))),
                None => return Err(refused.into()),
            },
        };
        if self.form.is_json() {
            output.json(&report)?;
        } else {
            output.line(report::upgrade(&report, Output::width()).join("\n"))?;
        }
        end.map_err(|failure| {
            failure
                .hint("none was moved; --only-compatible moves the others and leaves those on their version")
        })
    }
}

/// Moves open runs.
pub(super) async fn moved(
    client: &Client,
    workflow_type: &str,
    digest: Digest,
    workflow_ids: Vec<String>,
    who: WhoMoves,
) -> Result<Result<UpgradeReport, Refused>, Failure> {
    let body = UpgradeBody { digest, only_compatible: who == WhoMoves::Compatible, workflow_ids };
    let body = serde_json::to_value(body).map_err(anyhow::Error::from)?;
    let path = type_path(workflow_type, &["upgrade"])?;
    let bar = Bar::of("moving");
    client
        .follow(Long { path, query: Vec::new(), sent: Sent::Json(body) }, |progress| bar.tell(progress))
        .await
}
