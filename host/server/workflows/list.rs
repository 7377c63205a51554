//! The list of runs.

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use everfold_core::ids::{Digest, Timestamp};
use everfold_core::machine::RunStatus;
use everfold_core::query::{Comparison, Condition, Field, Query, Value};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use utoipa::IntoParams;

use super::NamespaceParameter;
use crate::runner::api::{ListRequest, RunPlace};
use crate::server::Served;
use crate::server::extract::{self, Json};
use crate::server::openapi::{refusals, shapes};
use crate::server::problem::{Answer, Code, Problem};
use crate::server::wire::RunList;

/// Runs of a page that names no limit.
const DEFAULT_PAGE: usize = 100;
/// The largest page.
const LARGEST_PAGE: usize = 1_000;
/// The first byte of a page token; four bytes that tell the query follow, then the place in CBOR.
const TOKEN_VERSION: u8 = 2;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::server) struct ListQuery {
    /// The namespace; `default` if absent
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// Only runs of which this holds, in the order that it asks for, as `status = "running" and start_time <
    /// "2026-01-31T00:00:00Z" order by start_time desc`. Fields, operators and their meaning: docs/query.md
    query: Option<String>,
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
struct PageToken {
    /// Of which query.
    tag: [u8; 4],
    place: RunPlace,
}

impl TryFrom<String> for PageToken {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = BASE64.decode(text).unwrap_or_default();
        let token = match bytes.split_first_chunk() {
            Some((&[TOKEN_VERSION, a, b, c, d], place)) => {
                minicbor::decode(place).ok().map(|place| Self { tag: [a, b, c, d], place })
            }
            Some(_) | None => None,
        };
        token.ok_or_else(|| "this is no `next_page_token` of this host".to_owned())
    }
}

impl PageToken {
    fn text(&self) -> String {
        let mut bytes = vec![TOKEN_VERSION];
        bytes.extend(self.tag);
        match minicbor::encode(&self.place, &mut bytes) {
            Ok(()) => BASE64.encode(bytes),
            Err(never) => unreachable!("a vector takes everything: {never}"),
        }
    }
}

/// What tells one query from others, for as long as a token lives: the next release may write it otherwise.
fn tag(query: &Query) -> [u8; 4] {
    let digest = Sha256::digest(format!("{query:?}"));
    [digest[0], digest[1], digest[2], digest[3]]
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
    extract::Query(query): extract::Query<ListQuery>,
) -> Answer<Json<RunList>> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if limit == 0 {
        return Err(refused("query: limit: at least 1"));
    }
    let text = query.query.as_deref().unwrap_or_default();
    let asked = Query::parse(text).map_err(|error| refused(format!("query: {error}")))?;
    let equal = |field, value: Option<Value>| value.map(|value| Condition::equal(field, value));
    let conditions = [
        equal(Field::WorkflowType, query.workflow_type.map(Value::Text)),
        equal(Field::WorkflowId, query.workflow_id.map(Value::Text)),
        equal(Field::Status, query.status.map(Value::Status)),
        equal(Field::Digest, query.digest.map(Value::Digest)),
        equal(Field::Blocked, query.blocked.map(Value::Bool)),
        query.started_from.map(|from| Condition::at_least(Field::StartTime, Value::Time(from))),
        query
            .started_before
            .map(|before| Condition::Compare(Field::StartTime, Comparison::Less, Value::Time(before))),
    ];
    let asked = asked.narrowed(conditions.into_iter().flatten());
    let tag = tag(&asked);
    let after = match query.page_token {
        Some(token) if token.tag != tag => {
            return Err(refused("query: page_token: it is the token of another query"));
        }
        token => token.map(|token| token.place),
    };
    let request =
        ListRequest { namespace: query.namespace.0, query: asked, after, limit: limit.min(LARGEST_PAGE) };
    let page = host.list(request).await?;
    Ok(Json(RunList {
        runs: page.runs.into_iter().map(Into::into).collect(),
        next_page_token: page.next.map(|place| PageToken { tag, place }.text()),
    }))
}

fn refused(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, Code::INVALID_INPUT, detail)
}

#[cfg(test)]
mod tests {
    use everfold_core::ids::RunId;

    use super::*;
    use crate::runner::api::PlaceValue;

    #[test]
    fn a_page_token_reads_back_and_no_other_text_is_one() {
        let run_id = RunId([0xA7; 16]);
        let values = [None, Some(PlaceValue::Number(i64::MAX)), Some(PlaceValue::Text("order-1".to_owned()))];
        let tokens = values.map(|value| PageToken { tag: [1, 2, 3, 4], place: RunPlace { value, run_id } });
        for token in &tokens {
            let read = PageToken::try_from(token.text()).expect("a token");
            assert_eq!((read.tag, &read.place), (token.tag, &token.place));
        }
        let whole = tokens[1].text();
        let short = whole[..whole.len() - 4].to_owned();
        let other_version = BASE64.encode([[1].as_slice(), &[0; 20]].concat());
        for text in ["", "x", "%", "019aa0c0-0000-7000-8000-00000000002a", &other_version, &short] {
            PageToken::try_from(text.to_owned()).expect_err(text);
        }
    }
}
