//! The routes of the shadow replay: what a component would do to runs, without touching one.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use everfold_core::divergence::Strictness;
use everfold_core::ids::{Digest, Timestamp, WorkflowId};
use utoipa::IntoParams;

use super::components::wasm;
use super::extract::{Path, Query};
use super::openapi::{refusals, shapes};
use super::problem::{Answer, Code, Problem};
use super::progress::{self, Wanted};
use super::wire::CheckReport;
use super::workflows::NamespaceParameter;
use super::{Served, in_path};
use crate::runner::Host;
use crate::runner::api::{CheckRequest, LookAhead, Subject};

/// The most days that closed runs are looked back for: a century.
const MOST_DAYS: u32 = 36_500;
/// The most imagined inputs in a row.
const MOST_STEPS: u32 = 50;
/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// What to check. Two parameters may stand several times, so they are read one by one.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CheckQuery {
    /// The namespace; `default` if absent
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    namespace: NamespaceParameter,
    /// Only these of its workflow types; may stand several times
    #[param(required = false)]
    workflow_type: Vec<String>,
    /// Only the open runs of these workflows; may stand several times
    #[param(required = false)]
    workflow_id: Vec<String>,
    /// Look at runs too that closed in the last so many days
    #[param(minimum = 1, maximum = 36500)]
    closed_days: Option<u32>,
    /// Count other inputs and options as divergence too
    #[param(value_type = Option<bool>, required = false)]
    strict: bool,
    /// Imagine so many results in a row beyond the end of histories
    #[param(minimum = 1, maximum = 50)]
    look_ahead: Option<u32>,
}

/// Check what a component would do to open runs
///
/// Every open run of its workflow types is replayed with it, beside everything else. No run is touched and
/// nothing of the component is kept.
#[utoipa::path(
    post,
    path = "/api/v1/components/check",
    operation_id = "check_component",
    tag = "components",
    params(CheckQuery),
    request_body(
        description = "The bytes of a .wasm file",
        content((shapes::Bytes = "application/octet-stream"), (shapes::Bytes = "application/wasm"))
    ),
    responses(
        (
            status = 200,
            description = "What was found; in lines with `Accept: application/x-ndjson`",
            content((CheckReport = "application/json"), (shapes::Lines = "application/x-ndjson"))
        ),
        refusals::Check,
    )
)]
pub(super) async fn check(
    State(Served { host, .. }): State<Served>,
    Query(pairs): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let query = CheckQuery::read(pairs)?;
    let subject = Subject::Bytes(wasm(&headers, body)?);
    answer(host, query, subject, Wanted::by(&headers)).await
}

/// Check what a deployed component would do to open runs
///
/// Every open run of its workflow types that is on another version is replayed with it, beside everything
/// else. No run is touched.
#[utoipa::path(
    post,
    path = "/api/v1/components/{digest}/check",
    operation_id = "check_deployed_component",
    tag = "components",
    params(
        ("digest" = String, Path, description = "The component", pattern = "^[0-9a-f]{64}$"),
        CheckQuery,
    ),
    responses(
        (
            status = 200,
            description = "What was found; in lines with `Accept: application/x-ndjson`",
            content((CheckReport = "application/json"), (shapes::Lines = "application/x-ndjson"))
        ),
        refusals::CheckDeployed,
    )
)]
pub(super) async fn check_deployed(
    State(Served { host, .. }): State<Served>,
    Path(digest): Path<Digest>,
    Query(pairs): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Answer<Response> {
    let query = CheckQuery::read(pairs)?;
    answer(host, query, Subject::Deployed(digest), Wanted::by(&headers)).await
}

async fn answer(host: Host, query: CheckQuery, subject: Subject, wanted: Wanted) -> Answer<Response> {
    let request = query.request(subject, host.now());
    progress::answer(wanted, |progress| async move { host.check(request, &progress).await.map_err(in_path) })
        .await
}

impl CheckQuery {
    fn read(pairs: Vec<(String, String)>) -> Answer<Self> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for (name, value) in pairs {
            match name.as_str() {
                "workflow_type" => query.workflow_type.push(value),
                "workflow_id" => query.workflow_id.push(value),
                _ if seen.contains(&name) => return Err(wrong(&name, "stands twice")),
                "namespace" => {
                    let namespace = NamespaceParameter::try_from(value);
                    query.namespace = namespace.map_err(|reason| wrong(&name, &reason))?;
                }
                "closed_days" => query.closed_days = Some(number(&name, &value, MOST_DAYS)?),
                "look_ahead" => query.look_ahead = Some(number(&name, &value, MOST_STEPS)?),
                "strict" => query.strict = value.parse().map_err(|_| wrong(&name, "true or false"))?,
                _ => return Err(wrong(&name, "there is no such parameter")),
            }
            seen.push(name);
        }
        Ok(query)
    }

    fn request(self, subject: Subject, now: Timestamp) -> CheckRequest {
        let closed_from = self.closed_days.map(|days| {
            let back = i64::try_from(u64::from(days) * DAY_MS).unwrap_or(i64::MAX);
            Timestamp(now.0.saturating_sub(back))
        });
        CheckRequest {
            namespace: self.namespace.0,
            subject,
            workflow_types: self.workflow_type,
            workflow_ids: self.workflow_id.into_iter().map(WorkflowId).collect(),
            closed_from,
            strictness: if self.strict { Strictness::Strict } else { Strictness::Lenient },
            look_ahead: self.look_ahead.map(|steps| LookAhead { steps }),
        }
    }
}

fn number(name: &str, value: &str, most: u32) -> Answer<u32> {
    let number = value.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| wrong(name, &format!("a whole number from 1 to {most}")))
}

fn wrong(name: &str, what: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, Code::INVALID_INPUT, format!("query: {name}: {what}"))
}
