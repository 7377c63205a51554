//! The list of runs.

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use everfold_core::ids::{Digest, RunId, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use serde::Deserialize;
use utoipa::IntoParams;

use super::NamespaceParameter;
use crate::runner::api::{ListRequest, RunFilter};
use crate::server::Served;
use crate::server::extract::{Json, Query};
use crate::server::openapi::{refusals, shapes};
use crate::server::problem::{Answer, Code, Problem};
use crate::server::wire::RunList;

/// Runs of a page that names no limit.
const DEFAULT_PAGE: usize = 100;
/// The largest page.
const LARGEST_PAGE: usize = 1_000;
/// The first byte of a page token; the run id of the last run of the page before follows.
const TOKEN_VERSION: u8 = 1;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::server) struct ListQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// Only runs of that type
    workflow_type: Option<String>,
    /// Only runs with that workflow id
    workflow_id: Option<String>,
    /// Only runs that stand so
    #[param(value_type = Option<shapes::RunStatus>)]
    status: Option<RunStatus>,
    /// Only runs that this component folds
    #[param(value_type = Option<String>, pattern = "^[0-9a-f]{64}$")]
    digest: Option<Digest>,
    /// Only runs that are blocked, or that are not
    blocked: Option<bool>,
    /// Only runs started at this time or later
    #[param(value_type = Option<String>, format = DateTime)]
    started_from: Option<Timestamp>,
    /// Only runs started before this time
    #[param(value_type = Option<String>, format = DateTime)]
    started_before: Option<Timestamp>,
    /// The most runs of the page; 100 if absent, at most 1,000
    #[param(minimum = 1)]
    limit: Option<usize>,
    /// The `next_page_token` of the page before, asked for with the same filter
    #[param(value_type = Option<String>)]
    page_token: Option<PageToken>,
}

/// The place in the list where a page begins. Callers are not to read it.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct PageToken(RunId);

impl TryFrom<String> for PageToken {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = BASE64.decode(text).unwrap_or_default();
        match bytes.split_first() {
            Some((&TOKEN_VERSION, id)) => <[u8; 16]>::try_from(id).ok().map(|id| Self(RunId(id))),
            _ => None,
        }
        .ok_or_else(|| "this is no `next_page_token` of this host".to_owned())
    }
}

impl PageToken {
    fn text(&self) -> String {
        let mut bytes = vec![TOKEN_VERSION];
        bytes.extend(self.0.0);
        BASE64.encode(bytes)
    }
}

/// List runs, the latest first
#[utoipa::path(
    get,
    path = "/api/v1/workflows",
    operation_id = "list_workflows",
    tag = "workflows",
    params(ListQuery),
    responses((status = 200, description = "A page of the list", body = RunList), refusals::All)
)]
pub(in crate::server) async fn list(
    State(Served { host, .. }): State<Served>,
    Query(query): Query<ListQuery>,
) -> Answer<Json<RunList>> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if limit == 0 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, Code::INVALID_INPUT, "query: limit: at least 1"));
    }
    let request = ListRequest {
        namespace: query.namespace.0,
        filter: RunFilter {
            workflow_type: query.workflow_type,
            workflow_id: query.workflow_id.map(WorkflowId),
            status: query.status,
            digest: query.digest,
            blocked: query.blocked,
            started_from: query.started_from,
            started_before: query.started_before,
            closed_from: None,
        },
        after: query.page_token.map(|token| token.0),
        limit: limit.min(LARGEST_PAGE),
    };
    let page = host.list(request).await?;
    Ok(Json(RunList {
        runs: page.runs.into_iter().map(Into::into).collect(),
        next_page_token: page.next.map(|next| PageToken(next).text()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_reads_back_and_no_other_text_is_one() {
        let id = RunId([0xA7; 16]);
        let token = PageToken(id).text();
        assert_eq!(PageToken::try_from(token.clone()).expect("a token").0, id);
        let other_version = BASE64.encode([[2].as_slice(), &[0; 16]].concat());
        let short = token[..token.len() - 2].to_owned();
        for text in ["", "x", "%", "019aa0c0-0000-7000-8000-00000000002a", &other_version, &short] {
            PageToken::try_from(text.to_owned()).expect_err(text);
        }
    }
}
