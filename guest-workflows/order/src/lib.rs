//! The order workflows. Two ways to fulfil an order, the same article told twice: [`saga`] collects the
//! undoing of each step as it goes, [`processing`] has a handler for each step that can fail. Both end by
//! starting [`tracking`], which follows the parcel.
//!
//! [`activities`] is what they ask for, [`order`] what they are about, [`fulfilment`] what they share.

pub mod activities;
pub mod fulfilment;
mod message;
pub mod order;
pub mod processing;
pub mod saga;
mod status;
pub mod tracking;

everfold_guest::export! {
    /// Reserves, charges and ships an order; when a step fails, undoes the steps before it.
    "order-saga" => saga::order_saga {
        /// State, step, attempts, and what was done and undone.
        query "status",
    },
    /// Validates, charges and ships an order; each step that fails has its own handler.
    "order" => processing::process_order {
        /// State, step, attempts, and what was done and undone.
        query "status",
    },
    /// Follows a parcel until it is delivered.
    "order-tracking" => tracking::order_tracking {
        /// The parcel arrived: `null`, or `{"delivered_at_ms": …}`.
        signal "order-delivered",
        /// Which parcel it is, since when it is under way, and how often that was checked.
        query "status",
    },
}
