//! The order application: reserve, pay, take off the shelf, ship, and undo.
//!
//! It is an application like any other: it uses the host's public interface alone ([`Host`] and the
//! activity traits) and keeps its tables in a file of its own, `orders.db`. The workflow that ties
//! its activities together is a component (`order-saga`); nothing here knows its steps' order.
//!
//! Every effect is keyed by its activity's idempotency key, in the tables here and at the payment
//! gateway and the carrier: however often an attempt is repeated, also after the host was killed
//! half-way, nothing is reserved, charged or shipped twice.
//!
//! **The catalogue.** A new shop has 1,000,000 each of `book`, `chair`, `desk`, `keyboard`, `lamp`,
//! `mug`, `notebook`, `pen`, `poster` and `shelf`; 1 of `last-one`; and `sold-out`, of which there
//! is none. Any other SKU is unknown.

mod activities;
mod changes;
mod database;
mod late;
mod openapi;
mod order;
mod problem;
mod records;
mod remote;
mod repair;
mod request;
mod routes;
mod sandbox;
mod status;
mod steps;

use std::path::Path;
use std::sync::Arc;

use sqlx::migrate::Migrator;

use crate::activity::Registry;
use crate::clock::Clock;
use crate::runner::Host;
use database::Database;
use late::Late;
use remote::Remote;

pub use database::DatabaseError;
pub use openapi::openapi;
pub use remote::RemoteError;
pub use repair::RepairError;
pub use sandbox::{Sandbox, SandboxError};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/orders/sqlite");

/// Settings of the order application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrdersSettings {
    /// The workflow type that `POST /orders` starts.
    pub workflow_type: String,
    /// Base address of the payment gateway; without it `process-payment` fails and is tried again.
    pub gateway_url: Option<String>,
    /// Base address of the carrier; without it `arrange-shipping` fails and is tried again.
    pub carrier_url: Option<String>,
}

impl Default for OrdersSettings {
    fn default() -> Self {
        Self { workflow_type: "order-saga".to_owned(), gateway_url: None, carrier_url: None }
    }
}

/// An order application that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OrdersError {
    /// Its file cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A setting is wrong.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// The open order application: cheap to clone.
#[derive(Clone, Debug)]
pub struct OrdersApp {
    shop: Arc<Shop>,
}

/// What activities and routes work with.
#[derive(Debug)]
struct Shop {
    database: Database,
    clock: Clock,
    gateway: Remote,
    carrier: Remote,
    workflow_type: String,
    late: Late,
}

impl OrdersApp {
    /// Opens `orders.db` in `data_dir`, making it with the catalogue if it is not there.
    ///
    /// # Errors
    /// When the file cannot be used or an address is none.
    pub async fn open(
        data_dir: impl AsRef<Path>,
        settings: OrdersSettings,
        clock: Clock,
    ) -> Result<Self, OrdersError> {
        let gateway = Remote::new(&remote::GATEWAY, settings.gateway_url.as_deref())?;
        let carrier = Remote::new(&remote::CARRIER, settings.carrier_url.as_deref())?;
        let database = Database::open(data_dir.as_ref(), "orders.db", &MIGRATIONS).await?;
        let workflow_type = settings.workflow_type;
        Ok(Self {
            shop: Arc::new(Shop { database, clock, gateway, carrier, workflow_type, late: Late::default() }),
        })
    }

    /// Registers the order workflow's activities.
    pub fn register(&self, registry: &mut Registry) {
        activities::register(registry, &self.shop);
    }

    /// The routes below `/orders`, on runs of `host`.
    pub fn router(&self, host: Host) -> axum::Router {
        routes::router(Arc::clone(&self.shop), host)
    }
}

#[cfg(test)]
mod tests;
