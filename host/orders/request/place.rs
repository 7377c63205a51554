//! The body of `POST /orders`.

use serde_json::Value;
use utoipa::ToSchema;

use super::{Faults, MAX_TEXT_CHARS};
use crate::orders::order::{Item, MAX_AMOUNT_CENTS, ShipTo, amount_cents};

/// More lines than a person's order has; bounds the work of one request.
const MAX_ITEMS: usize = 200;
const MAX_SKU_CHARS: usize = 64;

/// A checked order, not placed yet.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
pub(in crate::orders) struct OrderRequest {
    /// De-duplicates: the same id names the same order.
    #[schema(min_length = 1, max_length = 200)]
    pub(in crate::orders) request_id: Option<String>,
    /// Who orders.
    #[schema(minimum = 0, example = 7)]
    pub(in crate::orders) customer_id: i64,
    /// What; together it costs at least 1 and at most 9007199254740991.
    #[schema(min_items = 1, max_items = 200)]
    pub(in crate::orders) items: Vec<Item>,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$", example = "EUR")]
    pub(in crate::orders) currency: String,
    /// What the payment gateway knows the means of payment by.
    #[schema(min_length = 1, max_length = 200, example = "tok_ok")]
    pub(in crate::orders) payment_token: String,
    /// Where it goes.
    pub(in crate::orders) ship_to: ShipTo,
}

/// An order to place.
pub(in crate::orders) fn place(faults: &mut Faults, body: &Value) -> Option<OrderRequest> {
    faults.order(body)
}

impl Faults {
    fn order(&mut self, body: &Value) -> Option<OrderRequest> {
        let known = ["request_id", "customer_id", "items", "currency", "payment_token", "ship_to"];
        let fields = self.object(body, "", &known)?;
        let request_id = self.request_id(fields.get("request_id"));
        let customer_id = self.integer(fields.get("customer_id"), "customer_id", 0, i64::MAX);
        let items = self.items(fields.get("items"));
        let currency = self.capitals(fields.get("currency"), "currency", 3, "EUR");
        let payment_token = self.text(fields.get("payment_token"), "payment_token", MAX_TEXT_CHARS);
        let ship_to = self.ship_to(fields.get("ship_to"));
        let items = items?;
        let has_amount = match amount_cents(&items) {
            None => self.note("items", format!("the order costs more than {MAX_AMOUNT_CENTS}")),
            Some(0) => self.note("items", "the order costs nothing"),
            Some(_) => Some(()),
        };
        has_amount?;
        Some(OrderRequest {
            request_id: request_id?,
            customer_id: customer_id?,
            items,
            currency: currency?,
            payment_token: payment_token?,
            ship_to: ship_to?,
        })
    }

    fn items(&mut self, value: Option<&Value>) -> Option<Vec<Item>> {
        let lines = match value {
            None => return self.note("items", "is missing"),
            Some(Value::Array(lines)) => lines,
            Some(_) => return self.note("items", "must be a list"),
        };
        if lines.is_empty() || lines.len() > MAX_ITEMS {
            return self.note("items", format!("must have 1 to {MAX_ITEMS} entries"));
        }
        // All lines are looked at, also behind a faulty one.
        let items: Vec<_> = lines.iter().enumerate().map(|(index, line)| self.item(line, index)).collect();
        items.into_iter().collect()
    }

    fn item(&mut self, value: &Value, index: usize) -> Option<Item> {
        let field = format!("items[{index}]");
        let fields = self.object(value, &field, &["sku", "quantity", "unit_price_cents"])?;
        let sku = self.text(fields.get("sku"), &format!("{field}.sku"), MAX_SKU_CHARS);
        let quantity =
            self.integer(fields.get("quantity"), &format!("{field}.quantity"), 1, i64::from(u32::MAX));
        let unit_price_cents = self.integer(
            fields.get("unit_price_cents"),
            &format!("{field}.unit_price_cents"),
            0,
            MAX_AMOUNT_CENTS,
        );
        Some(Item {
            sku: sku?,
            quantity: u32::try_from(quantity?).ok()?,
            unit_price_cents: unit_price_cents?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::orders::problem::FieldError;

    fn check(body: &Value) -> Result<OrderRequest, Vec<FieldError>> {
        Faults::none_in(|faults| place(faults, body))
    }

    fn good() -> Value {
        json!({
            "customer_id": 7,
            "items": [{"sku": "book", "quantity": 2, "unit_price_cents": 1250}],
            "currency": "EUR",
            "payment_token": "tok_ok",
            "ship_to": {"name": "Ada", "country": "DE", "postcode": "80331"},
        })
    }

    fn faults(body: &Value) -> Vec<String> {
        match check(body) {
            Ok(order) => panic!("accepted: {order:?}"),
            Err(faults) => {
                faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
            }
        }
    }

    #[test]
    fn a_good_order_is_taken_as_it_is() {
        let mut body = good();
        let order = check(&body).expect("it is good");
        assert_eq!(amount_cents(&order.items), Some(2_500));
        body["request_id"] = json!("r-1");
        body["customer_id"] = json!(0);
        let order = check(&body).expect("it is good");
        assert_eq!(order.request_id.as_deref(), Some("r-1"));
        assert_eq!(order.ship_to.postcode, "80331");
    }

    #[test]
    fn each_fault_is_named() {
        let cases = [
            ("/customer_id", json!(-1), "customer_id: must be an integer of at least 0"),
            ("/customer_id", json!("7"), "customer_id: must be an integer of at least 0"),
            ("/customer_id", json!(1.5), "customer_id: must be an integer of at least 0"),
            ("/customer_id", json!(u64::MAX), "customer_id: must be an integer of at least 0"),
            ("/items", json!([]), "items: must have 1 to 200 entries"),
            ("/items", json!({}), "items: must be a list"),
            ("/items/0", json!(1), "items[0]: must be an object"),
            ("/items/0/quantity", json!(0), "items[0].quantity: must be an integer from 1 to 4294967295"),
            (
                "/items/0/quantity",
                json!(4_294_967_296_u64),
                "items[0].quantity: must be an integer from 1 to 4294967295",
            ),
            (
                "/items/0/unit_price_cents",
                json!(-1),
                "items[0].unit_price_cents: must be an integer from 0 to 9007199254740991",
            ),
            ("/items/0/unit_price_cents", json!(0), "items: the order costs nothing"),
            (
                "/items/0/unit_price_cents",
                json!(MAX_AMOUNT_CENTS),
                "items: the order costs more than 9007199254740991",
            ),
            (
                "/items/0/sku",
                json!(" "),
                "items[0].sku: must be text of 1 to 64 characters without control characters",
            ),
            ("/currency", json!("eur"), "currency: must be 3 capital letters, as EUR"),
            (
                "/payment_token",
                json!("tok\n"),
                "payment_token: must be text of 1 to 200 characters without control characters",
            ),
            ("/ship_to", json!("here"), "ship_to: must be an object"),
            ("/ship_to/country", json!("DEU"), "ship_to.country: must be 2 capital letters, as DE"),
        ];
        for (pointer, value, expected) in cases {
            let mut body = good();
            *body.pointer_mut(pointer).expect("the field is there") = value;
            assert_eq!(faults(&body), [expected], "{pointer}");
        }
        assert_eq!(faults(&json!([1])), [": must be an object"]);
        let most = json!([
            {"sku": "book", "quantity": u32::MAX, "unit_price_cents": MAX_AMOUNT_CENTS},
            {"sku": "book", "quantity": u32::MAX, "unit_price_cents": MAX_AMOUNT_CENTS},
        ]);
        let mut body = good();
        body["items"] = most;
        assert_eq!(faults(&body), ["items: the order costs more than 9007199254740991"]);
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let body = json!({
            "customer": 7,
            "items": [{"sku": "book", "quantity": -2}, {"quantity": 1, "unit_price_cents": 5, "color": "red"}],
            "ship_to": {"name": "", "postcode": "80331"},
        });
        let fields: Vec<_> =
            check(&body).expect_err("it is faulty").into_iter().map(|fault| fault.field).collect();
        assert_eq!(
            fields,
            [
                "customer",
                "customer_id",
                "items[0].quantity",
                "items[0].unit_price_cents",
                "items[1].color",
                "items[1].sku",
                "currency",
                "payment_token",
                "ship_to.name",
                "ship_to.country",
            ]
        );
    }
}
