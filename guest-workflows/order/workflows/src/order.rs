//! An order, and what must hold for it before anything is done about it.

use everfold_guest::Failure;
use serde::{Deserialize, Serialize};

/// The type of the failure of an order that breaks a rule.
pub const INVALID_ORDER: &str = "InvalidOrderError";

/// What a customer ordered. Money is whole minor units of the currency.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The order's own id.
    pub order_id: String,
    /// Who ordered; not negative.
    pub customer_id: i64,
    /// What, and how much of it.
    pub items: Vec<Item>,
    /// ISO 4217 code.
    pub currency: String,
    /// What the payment gateway knows the means of payment by.
    pub payment_token: String,
    /// Where it goes.
    pub ship_to: Address,
}

/// One line of an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Item {
    /// The article.
    pub sku: String,
    /// How many; at least one.
    pub quantity: u32,
    /// What one of them costs; not negative.
    pub unit_price_cents: i64,
}

/// Where an order goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Address {
    /// The recipient.
    pub name: String,
    /// ISO 3166 code.
    pub country: String,
    /// As the carrier wants it.
    pub postcode: String,
}

impl Order {
    /// Checks the order and adds up what it costs.
    ///
    /// # Errors
    ///
    /// A final failure of type [`INVALID_ORDER`] that names the first rule broken.
    pub fn amount_cents(&self) -> Result<i64, Failure> {
        if self.customer_id < 0 {
            return Err(invalid(format!("customer {} is not a customer", self.customer_id)));
        }
        if self.items.is_empty() {
            return Err(invalid("there is nothing in it".to_owned()));
        }
        self.items.iter().try_fold(0_i64, |sum, item| {
            let price = item.price_cents()?;
            sum.checked_add(price).ok_or_else(|| invalid("its sum is too large".to_owned()))
        })
    }
}

impl Item {
    fn price_cents(&self) -> Result<i64, Failure> {
        let Self { sku, quantity, unit_price_cents } = self;
        if *quantity == 0 {
            return Err(invalid(format!("`{sku}` is ordered zero times")));
        }
        if *unit_price_cents < 0 {
            return Err(invalid(format!("`{sku}` has a negative price")));
        }
        unit_price_cents
            .checked_mul(i64::from(*quantity))
            .ok_or_else(|| invalid(format!("the price of {quantity} × `{sku}` is too large")))
    }
}

fn invalid(rule: String) -> Failure {
    Failure::application(INVALID_ORDER, format!("the order is invalid: {rule}")).non_retryable()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(items: &[(u32, i64)]) -> Order {
        let item = |&(quantity, unit_price_cents)| Item { sku: "sku".to_owned(), quantity, unit_price_cents };
        Order {
            order_id: "o-1".to_owned(),
            customer_id: 1,
            items: items.iter().map(item).collect(),
            currency: "EUR".to_owned(),
            payment_token: "tok_ok".to_owned(),
            ship_to: Address {
                name: "Ada".to_owned(),
                country: "DE".to_owned(),
                postcode: "10115".to_owned(),
            },
        }
    }

    #[test]
    fn the_amount_is_the_sum_of_the_lines() {
        assert_eq!(order(&[(2, 1_250), (1, 0), (3, 99)]).amount_cents(), Ok(2_797));
    }

    #[test]
    fn broken_rules_are_final_and_named() {
        for (items, rule) in [
            (vec![], "there is nothing in it"),
            (vec![(0, 1)], "`sku` is ordered zero times"),
            (vec![(1, -1)], "`sku` has a negative price"),
            (vec![(2, i64::MAX)], "the price of 2 × `sku` is too large"),
            (vec![(1, i64::MAX), (1, 1)], "its sum is too large"),
        ] {
            let failure = order(&items).amount_cents().expect_err("a rule is broken");
            assert_eq!(failure.application_type(), Some(INVALID_ORDER));
            assert_eq!(failure.message(), format!("the order is invalid: {rule}"));
        }
        let nobody = Order { customer_id: -1, ..order(&[(1, 1)]) };
        assert!(nobody.amount_cents().is_err());
    }
}
