//! A version of the order workflows with a bug: `order` panics where it would update the inventory, its
//! third step, live and on a replay.
//!
//! A run that has not been paid replays here without a complaint, and blocks as soon as it is; rolled
//! back, it goes on from there.

use everfold_guest::{Context, Failure};
use order_workflows::activities::Payment;
use order_workflows::fulfilment::Shipped;
use order_workflows::order::Order;
use order_workflows::processing::Processing;

/// Validates and charges, and looks for the goods in vain.
///
/// # Errors
///
/// As [`order_workflows::processing::process_order`].
///
/// # Panics
///
/// Behind every payment.
pub async fn process_order(ctx: Context, order: Order) -> Result<Shipped, Failure> {
    Processing::of(ctx, order, async |steps| {
        let amount_cents = steps.validate().await?;
        let payment = steps.charge(amount_cents).await?;
        find_goods(&payment);
        steps.update_inventory().await?;
        steps.ship(amount_cents, payment).await
    })
    .await
}

/// The bug. A function of its own, so that it shows in the backtrace.
#[inline(never)]
fn find_goods(payment: &Payment) {
    panic!("no shelf has the goods that payment {} is for", payment.payment_id);
}

order_workflows::export!(process_order);
