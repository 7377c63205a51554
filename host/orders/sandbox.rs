//! Stand-ins for the payment gateway and the carrier: real HTTP servers on this machine, steered by
//! what is sent to them, as payment companies' test cards are.
//!
//! | payment token | the gateway |
//! |---|---|
//! | `tok_ok` | charges |
//! | `tok_declined` | refuses for good (402) |
//! | `tok_flaky_N` | fails N times under each idempotency key (503), then charges |
//! | `tok_down` | always fails (503) |
//! | `tok_slow_S` | charges at once and answers after S seconds, each time it is asked |
//! | anything else | knows no such token (422) |
//!
//! | postcode | the carrier |
//! |---|---|
//! | `REFUSED` | refuses for good (422) |
//! | `FLAKY_N` | fails N times under each idempotency key (503), then ships |
//! | `DOWN` | always fails (503) |
//! | `SLOW_S` | takes the booking (202), and ships S seconds after it was first asked |
//! | anything else | ships |
//!
//! Every effect is on disk (`sandbox.db`) before it is answered, and is there once, however often it
//! is asked for. Taking back what has not arrived makes its later arrival be refused (410, `voided`).

mod bookings;
mod carrier;
mod gateway;
mod ledger;
mod request;
mod scenario;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use utoipa::{IntoParams, OpenApi};

use super::database::DatabaseError;
use super::problem::{Code, Problem};
use super::routes::Pairs;
use crate::clock::Clock;
use ledger::{Effect, Kind, Ledger, LedgerError};

/// A stand-in that cannot, or was told not to be able to.
const UNAVAILABLE: Code = Code("unavailable");

/// A sandbox that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Its file cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// No port is to be had.
    #[error("the sandbox cannot listen on 127.0.0.1: {0}")]
    Listen(#[from] std::io::Error),
}

/// The sandbox's routes as the interface's description has them.
#[derive(OpenApi)]
#[openapi(paths(payments, shipments))]
pub(super) struct Described;

/// A running sandbox; its servers stop when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    /// Where the payment gateway listens.
    pub gateway_url: String,
    /// Where the carrier listens.
    pub carrier_url: String,
    shared: Arc<Shared>,
    _running: DropGuard,
}

/// What both servers work with.
#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    clock: Clock,
}

impl Sandbox {
    /// Starts both servers, each on a port of its own, with what earlier ones in `data_dir` did.
    ///
    /// # Errors
    /// When the file cannot be used or no port is free.
    pub async fn start(data_dir: impl AsRef<Path>, clock: Clock) -> Result<Self, SandboxError> {
        let ledger = Ledger::open(data_dir.as_ref(), clock.clone()).await?;
        let shared = Arc::new(Shared { ledger, clock });
        let stop = CancellationToken::new();
        let gateway_url = serve(gateway::router(Arc::clone(&shared)), stop.clone()).await?;
        let carrier_url = serve(carrier::router(Arc::clone(&shared)), stop.clone()).await?;
        Ok(Self { gateway_url, carrier_url, shared, _running: stop.drop_guard() })
    }

    /// `GET /sandbox/payments` and `GET /sandbox/shipments`, each `[?order_id=]`: a list with one entry
    /// for each effect, in the order in which they happened.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/sandbox/payments", get(payments))
            .route("/sandbox/shipments", get(shipments))
            .with_state(Arc::clone(&self.shared))
    }
}

async fn serve(router: Router, stop: CancellationToken) -> Result<String, SandboxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|connection| {
        // Without it an answer may wait 40 ms for a delayed acknowledgement; still an answer if it fails.
        let _ = connection.set_nodelay(true);
    });
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "a server of the sandbox stopped");
        }
    });
    Ok(url)
}

/// The parameters as they are sent.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the shape is for the interface's description; `order_of` reads it")]
struct Filter {
    /// Only what was done for this order.
    order_id: Option<String>,
}

/// What the payment gateway's stand-in did, in its order.
#[utoipa::path(
    get,
    path = "/sandbox/payments",
    operation_id = "sandbox_payments",
    tag = "sandbox",
    params(Filter),
    responses(
        (status = 200, description = "Charges and refunds", body = Vec<Effect>),
        (status = 400, description = "`invalid_input`: every fault is in `errors`", content_type = "application/problem+json"),
    )
)]
async fn payments(State(shared): State<Arc<Shared>>, query: Pairs) -> Result<Json<Vec<Effect>>, Problem> {
    Ok(Json(shared.ledger.effects(Kind::Charge, order_of(&query)?.as_deref()).await?))
}

/// What the carrier's stand-in did, in its order.
#[utoipa::path(
    get,
    path = "/sandbox/shipments",
    operation_id = "sandbox_shipments",
    tag = "sandbox",
    params(Filter),
    responses(
        (status = 200, description = "Shipments and their cancellations", body = Vec<Effect>),
        (status = 400, description = "`invalid_input`: every fault is in `errors`", content_type = "application/problem+json"),
    )
)]
async fn shipments(State(shared): State<Arc<Shared>>, query: Pairs) -> Result<Json<Vec<Effect>>, Problem> {
    Ok(Json(shared.ledger.effects(Kind::Shipment, order_of(&query)?.as_deref()).await?))
}

/// Whose effects are wanted; everybody's if absent.
fn order_of(Pairs(query): &Pairs) -> Result<Option<String>, Problem> {
    super::request::read_query(query, super::request::effects)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        let detail = error.to_string();
        match error {
            LedgerError::Voided => Self::new(StatusCode::GONE, Code(super::remote::VOIDED), detail),
            LedgerError::KeyReused => {
                Self::new(StatusCode::BAD_REQUEST, Code("idempotency_key_reused"), detail)
            }
            LedgerError::Database(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, detail),
        }
    }
}
