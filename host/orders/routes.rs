//! The routes of the order application.
//!
//! An order is in two places: its run, with the whole order as input, and its row. The run is started
//! first. If the host stops before the row is written, the order goes on all the same; the next host
//! writes the row from the run's first event (see [`repair`](super::repair)), and so does whoever looks
//! for the order before that. So there is no order without a run, and none that a row promises and
//! nobody works on.

mod change;
mod close;
mod list;
mod place;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post};
use everfold_core::event::{EventKind, Input};
use everfold_core::ids::EventId;
use everfold_core::machine::RunStatus;
use utoipa::OpenApi;
use uuid::Uuid;

use super::Shop;
use super::order::{Order, namespace, workflow_id};
use super::problem::{Code, FieldError, Problem, busy, no_such_order};
use super::records::{Progress, Record};
use super::status::{OrderStatus, status};
use crate::runner::Host;
use crate::runner::api::{ApiError, RunRef, RunResult};

/// The routes as the interface's description has them.
#[derive(OpenApi)]
#[openapi(
    paths(place::place, list::list, view::show, change::change, close::cancel, close::delivered),
    components(schemas(FieldError))
)]
pub(super) struct Described;

#[derive(Clone)]
struct Routes {
    shop: Arc<Shop>,
    host: Host,
}

pub(super) fn router(shop: Arc<Shop>, host: Host) -> Router {
    Router::new()
        .route("/orders", get(list::list).post(place::place))
        .route("/orders/{id}", get(view::show).patch(change::change).delete(close::cancel))
        .route("/orders/{id}/delivered", post(close::delivered))
        .with_state(Routes { shop, host })
}

/// An order with all that is known of it.
struct Found {
    record: Record,
    progress: Progress,
    /// Absent where its history is gone.
    run: Option<RunResult>,
}

impl Found {
    fn status(&self) -> OrderStatus {
        status(&self.progress, self.run_status())
    }

    fn run_status(&self) -> Option<RunStatus> {
        self.run.as_ref().map(|run| run.status)
    }
}

impl Routes {
    /// An order with what has come of it. Where its row is missing, it is written from the run.
    async fn find(&self, order_id: &str) -> Result<Found, Problem> {
        // The run first: tables that are read later show at least what it had done.
        let run = self.run(order_id).await?;
        let (record, progress) = self.shop.order(order_id).await?;
        let record = match record {
            Some(record) => record,
            None if run.is_some() => {
                let record = ordered(&self.host, order_id).await?.ok_or_else(|| no_such_order(order_id))?;
                if let Err(error) = self.shop.keep(&record).await {
                    // It can be shown all the same.
                    tracing::debug!(order_id, %error, "an order's row is missing and cannot be written");
                }
                record
            }
            None => return Err(no_such_order(order_id)),
        };
        Ok(Found { record, progress, run })
    }

    /// How an order's run stands.
    async fn run(&self, order_id: &str) -> Result<Option<RunResult>, Problem> {
        match self.host.result(&run_of(order_id), Duration::ZERO).await {
            Ok(run) => Ok(Some(run)),
            Err(ApiError::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The latest run of an order.
fn run_of(order_id: &str) -> RunRef {
    RunRef { namespace: namespace(), workflow_id: workflow_id(order_id), run_id: None }
}

/// The order as its run was given it; absent if the run is not that of an order.
pub(super) async fn ordered(host: &Host, order_id: &str) -> Result<Option<Record>, Problem> {
    let page = host.history(&run_of(order_id), EventId(0), 1, Duration::ZERO).await?;
    let Some(event) = page.events.into_iter().next() else {
        // Its first activation is blocked: the history is empty, the order waits in the inbox.
        return Err(busy("the order is accepted but not readable yet; try again later"));
    };
    let EventKind::Input(Input::WorkflowStarted(started)) = event.kind else { return Ok(None) };
    let order: Option<Order> = started.input.decode().ok();
    Ok(order.filter(|order| order.order_id == order_id).map(|order| Record::of(order, event.time)))
}

/// Whether it is an order's id, written as it was given out.
pub(super) fn is_order_id(text: &str) -> bool {
    Uuid::parse_str(text).map(|id| id.to_string()).as_deref() == Ok(text)
}

/// The id in the path. What is none names no order.
struct OrderId(String);

impl<S: Send + Sync> FromRequestParts<S> for OrderId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(id) =
            path.map_err(|refused| Problem::new(refused.status(), Code::INVALID_INPUT, refused.body_text()))?;
        if is_order_id(&id) { Ok(Self(id)) } else { Err(no_such_order(&id)) }
    }
}

/// A body, whatever is in it.
struct Body(Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, state).await;
        body.map(Self).map_err(|refused: BytesRejection| {
            let code = match refused.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Code::PAYLOAD_TOO_LARGE,
                _ => Code::INVALID_INPUT,
            };
            Problem::new(refused.status(), code, refused.body_text())
        })
    }
}

/// The parameters of a query, in their order.
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::from_request_parts(parts, state).await.map_err(
            |refused: axum::extract::rejection::QueryRejection| {
                Problem::new(refused.status(), Code::INVALID_INPUT, refused.body_text())
            },
        )?;
        Ok(Self(pairs))
    }
}
