//! What a customer is told of an order that could not be processed: what went wrong, and where the
//! money is. Must never tell of anything inside: no names of activities, systems or failures.

use std::fmt;

use everfold_guest::ActivityError;

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Validation,
    Payment,
    InventoryUpdate,
    Shipping,
}

/// What became of the customer's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Money {
    NotCharged,
    /// Nobody knows whether anything was charged; if so, it went back.
    ReturnedIfCharged,
    Returned,
    /// It should have gone back, and has not yet.
    ReturnDelayed,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotCharged => "nothing was charged",
            Self::ReturnedIfCharged => "anything that was charged has been refunded",
            Self::Returned => "your payment has been refunded",
            Self::ReturnDelayed => "your refund is delayed, and we are seeing to it",
        })
    }
}

/// What went wrong, in a clause.
pub(crate) fn what_went_wrong(step: Step, error: &ActivityError) -> &'static str {
    match (step, error.application_type()) {
        (Step::Validation, Some("InvalidOrder" | "InvalidOrderError")) => "Your order is not valid",
        (Step::Validation, _) => "Your order could not be checked",
        (Step::Payment, Some("PaymentDeclined")) => "Your payment was declined",
        (Step::Payment, _) => "Your payment could not be completed",
        (Step::InventoryUpdate, Some("OutOfStock")) => "Something that you ordered is out of stock",
        (Step::InventoryUpdate, _) => "Your order could not be prepared",
        (Step::Shipping, Some("ShipmentRefused")) => {
            "Your order cannot be delivered to the address that you gave"
        }
        (Step::Shipping, _) => "Your order could not be shipped",
    }
}
