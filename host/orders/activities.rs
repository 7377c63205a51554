//! The order workflow's activities. Each is idempotent by the activity's key; each undo works by the
//! key of the step that it takes back (see [`steps`](super::steps)).
//!
//! Their inputs, outputs and failure types are a contract with the workflow; they are named in the
//! files below and nowhere else on the host's side.

pub(super) mod closing;
pub(super) mod inventory;
pub(super) mod payment;
pub(super) mod shelf;
pub(super) mod shipping;
mod stock;
mod validation;

use std::sync::Arc;

use serde::Deserialize;

use super::Shop;
use crate::activity::Registry;

/// The input of every undo.
#[derive(Debug, Deserialize)]
pub(super) struct UndoInput {
    pub(super) order_id: String,
    /// The idempotency key of the step to take back.
    pub(super) step_key: String,
}

/// Registers all of them.
pub(super) fn register(registry: &mut Registry, shop: &Arc<Shop>) {
    registry.register(validation::ValidateOrder(Arc::clone(shop)));
    registry.register(inventory::ReserveInventory(Arc::clone(shop)));
    registry.register(shelf::UpdateInventory(Arc::clone(shop)));
    registry.register(inventory::ReleaseInventoryReservation(Arc::clone(shop)));
    registry.register(shelf::RestockInventory(Arc::clone(shop)));
    registry.register(payment::ProcessPayment(Arc::clone(shop)));
    registry.register(payment::RefundPayment(Arc::clone(shop)));
    registry.register(shipping::ArrangeShipping(Arc::clone(shop)));
    registry.register(shipping::CancelShipment(Arc::clone(shop)));
    registry.register(closing::CancelOrder(Arc::clone(shop)));
    registry.register(closing::RecordDelivery(Arc::clone(shop)));
}
