//! The order saga: reserve, pay, commit the stock, ship; and undo what was done when a step fails.
//!
//! [`saga`] is the workflow, [`activities`] what it asks for, [`order`] what it is about.

pub mod activities;
pub mod order;
pub mod saga;

everfold_guest::export! {
    /// Reserves, charges and ships an order; when a step fails, undoes the steps before it.
    "order-saga" => saga::order_saga,
}
