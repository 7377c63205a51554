//! What must hold for an order before anything is done about it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::failure::Failure;
use serde::{Deserialize, Serialize};

use crate::activity::{Activity, ActivityContext};
use crate::orders::Shop;
use crate::orders::order::{Order, amount_cents};
use crate::orders::problem::FieldError;
use crate::orders::request;
use crate::orders::steps::StepError;

/// The order breaks a rule; the message names all that it breaks. Final.
const INVALID_ORDER: &str = "InvalidOrder";

/// `validate-order`: reads, and changes nothing.
pub(in crate::orders) struct ValidateOrder(pub(super) Arc<Shop>);

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Validated {
    /// What the order costs.
    amount_cents: i64,
}

#[async_trait]
impl Activity for ValidateOrder {
    const TYPE: &'static str = "validate-order";
    type Input = Order;
    type Output = Validated;

    async fn run(&self, _: &ActivityContext, order: Order) -> Result<Validated, Failure> {
        Ok(validate(&self.0, &order).await?)
    }
}

async fn validate(shop: &Shop, order: &Order) -> Result<Validated, StepError> {
    // The rules of an order's form are those of the route that takes it: an order may come another way.
    let mut faults = request::faults_of(order)?;
    let catalogue: Vec<String> =
        sqlx::query_scalar("SELECT sku FROM inventory").fetch_all(shop.database.readers()).await?;
    let catalogue: BTreeSet<_> = catalogue.iter().map(String::as_str).collect();
    for (index, item) in order.items.iter().enumerate() {
        if !catalogue.contains(item.sku.as_str()) {
            let message = format!("names `{}`, which is not in the catalogue", item.sku);
            faults.push(FieldError { field: format!("items[{index}].sku"), message });
        }
    }
    match amount_cents(&order.items) {
        Some(amount_cents) if faults.is_empty() => Ok(Validated { amount_cents }),
        Some(_) | None => {
            let rules: Vec<_> =
                faults.iter().map(|FieldError { field, message }| format!("{field} {message}")).collect();
            Err(Failure::non_retryable(INVALID_ORDER, rules.join("; ")).into())
        }
    }
}
