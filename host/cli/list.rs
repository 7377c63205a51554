//! `everfold list`.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use everfold::clock::Clock;
use everfold::server::wire::RunList;
use everfold_core::machine::RunStatus;
use owo_colors::OwoColorize as _;

use super::client::Client;
use super::failure::Failure;
use super::output::{Form, Output};
use super::render::runs;

/// The most runs that the host gives at a time.
const PAGE: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only runs of which this holds, in the order that it asks for: `status = "running" and start_time <
    /// "2026-01-31T00:00:00Z" order by start_time desc`
    #[arg(long, value_name = "QUERY")]
    query: Option<String>,
    /// Only runs of that workflow type
    #[arg(long = "type", value_name = "TYPE")]
    workflow_type: Option<String>,
    /// Only runs that stand so
    #[arg(long, value_parser = PossibleValuesParser::new(RunStatus::ALL.map(RunStatus::name))
        .try_map(|name| RunStatus::from_name(&name).ok_or("no such status")))]
    status: Option<RunStatus>,
    /// Only runs with that workflow id
    #[arg(long)]
    id: Option<String>,
    /// Only blocked runs
    #[arg(long)]
    blocked: bool,
    /// The most runs
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    form: Form,
}

impl List {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut list = RunList { runs: Vec::new(), next_page_token: None };
        loop {
            let wanted = limit.saturating_sub(list.runs.len()).min(PAGE);
            let page: RunList =
                client.get(&["workflows"], &self.query(wanted, list.next_page_token.as_deref())).await?;
            list.runs.extend(page.runs);
            list.next_page_token = page.next_page_token;
            if list.next_page_token.is_none() || list.runs.len() >= limit {
                break;
            }
        }
        let mut output = Output::new();
        if self.form.is_json() {
            return output.json(&list);
        }
        if list.runs.is_empty() {
            anstream::eprintln!("{}", "there are no such runs".dimmed());
            return Ok(());
        }
        for line in runs::lines(&list.runs, Clock::system().now(), Output::width()) {
            output.line(line)?;
        }
        if list.next_page_token.is_some() {
            anstream::eprintln!("{}", "there are more; see them with --limit N".dimmed());
        }
        Ok(())
    }

    fn query(&self, limit: usize, page_token: Option<&str>) -> Vec<(&'static str, String)> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(self.query.iter().map(|text| ("query", text.clone())));
        query.extend(self.workflow_type.iter().map(|name| ("workflow_type", name.clone())));
        query.extend(self.id.iter().map(|id| ("workflow_id", id.clone())));
        query.extend(self.status.map(|status| ("status", status.name().to_owned())));
        query.extend(self.blocked.then(|| ("blocked", "true".to_owned())));
        query.extend(page_token.map(|token| ("page_token", token.to_owned())));
        query
    }
}
