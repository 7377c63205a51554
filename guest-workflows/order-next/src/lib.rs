//! The next version of the order workflows: `order` updates the inventory *before* the payment, so that
//! nobody pays for what cannot be had.
//!
//! It asks which version of that change a run follows. A run that was paying before the change goes
//! on in the old order of steps, so that every open run of the component `order` can be moved here.
//! `order-next-plain` is the same change without the question.

use everfold_guest::{Context, DEFAULT_VERSION, Failure};
use order_workflows::fulfilment::Shipped;
use order_workflows::order::Order;
use order_workflows::processing::Processing;

/// The change: the inventory is updated before the payment.
pub const INVENTORY_FIRST: &str = "inventory-first";

/// Validates, updates the inventory, charges and ships; when a step fails or the run is cancelled, its
/// handler undoes what was done.
///
/// # Errors
///
/// As [`order_workflows::processing::process_order`].
pub async fn process_order(ctx: Context, order: Order) -> Result<Shipped, Failure> {
    Processing::of(ctx, order, async |steps| {
        let amount_cents = steps.validate().await?;
        let payment = if steps.ctx().version(INVENTORY_FIRST, DEFAULT_VERSION..=1) == DEFAULT_VERSION {
            let payment = steps.charge(amount_cents).await?;
            steps.update_inventory().await?;
            payment
        } else {
            steps.update_inventory().await?;
            steps.charge(amount_cents).await?
        };
        steps.ship(amount_cents, payment).await
    })
    .await
}

order_workflows::export!(process_order);
