//! What an order is: the shapes that the HTTP routes, the workflow and the tables share.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The namespace in which orders run.
pub(super) fn namespace() -> everfold_core::ids::Namespace {
    everfold_core::ids::Namespace::default()
}

/// The workflow id of an order's run.
pub(super) fn workflow_id(order_id: &str) -> everfold_core::ids::WorkflowId {
    everfold_core::ids::WorkflowId(format!("order-{order_id}"))
}

/// The workflow id of the run that follows an order's parcel.
pub(super) fn tracking_id(order_id: &str) -> everfold_core::ids::WorkflowId {
    everfold_core::ids::WorkflowId(format!("order-tracking-{order_id}"))
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = OrderItem)]
pub(super) struct Item {
    /// What.
    #[schema(min_length = 1, max_length = 64, example = "book")]
    pub(super) sku: String,
    /// How many; not 0.
    #[schema(minimum = 1, maximum = 4294967295_u32, value_type = i64, example = 2)]
    pub(super) quantity: u32,
    /// The price of one.
    #[schema(minimum = 0, maximum = 9007199254740991_i64, example = 1250)]
    pub(super) unit_price_cents: i64,
}

/// How much of what, when the price is of no interest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Quantity {
    pub(super) sku: String,
    pub(super) quantity: u32,
}

/// Where an order goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, sqlx::FromRow)]
pub(super) struct ShipTo {
    /// The recipient.
    #[schema(min_length = 1, max_length = 200, example = "Ada Lovelace")]
    pub(super) name: String,
    /// ISO 3166-1 alpha-2.
    #[schema(pattern = "^[A-Z]{2}$", example = "DE")]
    pub(super) country: String,
    /// As the carrier wants it.
    #[schema(min_length = 1, max_length = 200, example = "80331")]
    pub(super) postcode: String,
}

/// The input of the order workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) order_id: String,
    pub(super) customer_id: i64,
    pub(super) items: Vec<Item>,
    /// ISO 4217.
    pub(super) currency: String,
    pub(super) payment_token: String,
    pub(super) ship_to: ShipTo,
}

/// The largest amount: above it a JSON reader that knows only doubles would round (RFC 8259,
/// section 6).
pub(super) const MAX_AMOUNT_CENTS: i64 = (1 << 53) - 1;

/// What `items` cost together; absent if that is more than [`MAX_AMOUNT_CENTS`] or negative.
pub(super) fn amount_cents(items: &[Item]) -> Option<i64> {
    let sum = items.iter().try_fold(0_i64, |sum, item| {
        sum.checked_add(item.unit_price_cents.checked_mul(i64::from(item.quantity))?)
    })?;
    (0..=MAX_AMOUNT_CENTS).contains(&sum).then_some(sum)
}
