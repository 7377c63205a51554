//! Shadow replays as the commands ask for them: `deploy --check`, `deploy --promote`, `upgrade --dry-run`.

use clap::Args;
use everfold::server::wire::CheckReport;
use everfold_core::ids::Digest;

use super::client::{Client, Long, Sent};
use super::failure::Failure;
use super::progress::Bar;

/// Which runs are looked at beside the open ones, how strictly, and how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct Scope {
    /// With a check: look also at runs that closed in the last N days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    closed_days: Option<u32>,
    /// With a check: count changed inputs and options as divergence too
    #[arg(long)]
    strict: bool,
    /// With a check: imagine results beyond the end of histories, and compare what comes next
    #[arg(
        long,
        value_name = "STEPS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=50)
    )]
    look_ahead: Option<u32>,
}

/// What bytes would do to runs; nothing of them is kept.
pub(super) async fn bytes(client: &Client, bytes: Vec<u8>, scope: Scope) -> Result<CheckReport, Failure> {
    let long = Long { path: vec!["components", "check"], query: scope.query(), sent: Sent::Wasm(bytes) };
    ask(client, long).await
}

/// What a deployed component would do to runs; of all its types if none is named.
pub(super) async fn deployed(
    client: &Client,
    digest: Digest,
    workflow_type: Option<&str>,
    workflow_ids: &[String],
    scope: Scope,
) -> Result<CheckReport, Failure> {
    let digest = digest.to_string();
    let mut query = scope.query();
    query.extend(workflow_type.map(|name| ("workflow_type", name.to_owned())));
    query.extend(workflow_ids.iter().map(|id| ("workflow_id", id.clone())));
    let long = Long { path: vec!["components", &digest, "check"], query, sent: Sent::Nothing };
    ask(client, long).await
}

async fn ask(client: &Client, long: Long<'_>) -> Result<CheckReport, Failure> {
    let bar = Bar::of("checking");
    Ok(client.follow(long, |progress| bar.tell(progress)).await??)
}

impl Scope {
    /// Whether nothing was said about it.
    pub(super) fn is_default(self) -> bool {
        self == Self::default()
    }

    fn query(self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        query.extend(self.closed_days.map(|days| ("closed_days", days.to_string())));
        query.extend(self.strict.then(|| ("strict", "true".to_owned())));
        query.extend(self.look_ahead.map(|steps| ("look_ahead", steps.to_string())));
        query
    }
}
