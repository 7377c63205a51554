//! The change of `order-next` as one should not make it: `order` updates the inventory *before* the
//! payment, and does not ask whether a run has begun to pay already.
//!
//! A run of the component `order` that did cannot be moved here: the host finds that out before anything
//! is moved.

use everfold_guest::{Context, Failure};
use order_workflows::fulfilment::Shipped;
use order_workflows::order::Order;
use order_workflows::processing::Processing;

/// Validates, updates the inventory, charges and ships; when a step fails or the run is cancelled, its
/// handler undoes what was done.
///
/// # Errors
///
/// As [`order_workflows::processing::process_order`].
pub async fn process_order(ctx: Context, order: Order) -> Result<Shipped, Failure> {
    Processing::of(ctx, order, async |steps| {
        let amount_cents = steps.validate().await?;
        steps.update_inventory().await?;
        let payment = steps.charge(amount_cents).await?;
        steps.ship(amount_cents, payment).await
    })
    .await
}

order_workflows::export!(process_order);
