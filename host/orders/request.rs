//! The body of `POST /orders`, checked: every fault of it is named at once.

use serde_json::{Map, Value};

use super::order::{Item, MAX_AMOUNT_CENTS, ShipTo, amount_cents};
use super::problem::FieldError;

/// More lines than a person's order has; bounds the work of one request.
const MAX_ITEMS: usize = 200;
const MAX_SKU_CHARS: usize = 64;
const MAX_TEXT_CHARS: usize = 200;

/// A checked order, not placed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OrderRequest {
    /// De-duplicates: the same id names the same order.
    pub(super) request_id: Option<String>,
    pub(super) customer_id: i64,
    pub(super) items: Vec<Item>,
    pub(super) currency: String,
    pub(super) amount_cents: i64,
    pub(super) payment_token: String,
    pub(super) ship_to: ShipTo,
}

/// Checks a body.
///
/// # Errors
/// All its faults, in the order of the fields.
pub(super) fn check(body: &Value) -> Result<OrderRequest, Vec<FieldError>> {
    let mut faults = Faults::default();
    let order = faults.order(body);
    match order {
        Some(order) if faults.0.is_empty() => Ok(order),
        _ => Err(faults.0),
    }
}

/// The faults found so far. Each method gives a value, or notes why there is none.
#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn note<T>(&mut self, field: impl Into<String>, message: impl Into<String>) -> Option<T> {
        self.0.push(FieldError { field: field.into(), message: message.into() });
        None
    }

    fn order(&mut self, body: &Value) -> Option<OrderRequest> {
        let known = ["request_id", "customer_id", "items", "currency", "payment_token", "ship_to"];
        let fields = self.object(body, "", &known)?;
        let request_id = match fields.get("request_id") {
            None | Some(Value::Null) => Some(None),
            Some(value) => self.text(Some(value), "request_id", MAX_TEXT_CHARS).map(Some),
        };
        let customer_id = self.integer(fields.get("customer_id"), "customer_id", 0, i64::MAX);
        let items = self.items(fields.get("items"));
        let currency = self.capitals(fields.get("currency"), "currency", 3, "EUR");
        let payment_token = self.text(fields.get("payment_token"), "payment_token", MAX_TEXT_CHARS);
        let ship_to = self.ship_to(fields.get("ship_to"));
        let items = items?;
        let amount_cents = match amount_cents(&items) {
            None => self.note("items", format!("the order costs more than {MAX_AMOUNT_CENTS}")),
            Some(0) => self.note("items", "the order costs nothing"),
            Some(amount_cents) => Some(amount_cents),
        };
        Some(OrderRequest {
            request_id: request_id?,
            customer_id: customer_id?,
            items,
            currency: currency?,
            amount_cents: amount_cents?,
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

    fn ship_to(&mut self, value: Option<&Value>) -> Option<ShipTo> {
        let Some(value) = value else { return self.note("ship_to", "is missing") };
        let fields = self.object(value, "ship_to", &["name", "country", "postcode"])?;
        let name = self.text(fields.get("name"), "ship_to.name", MAX_TEXT_CHARS);
        let country = self.capitals(fields.get("country"), "ship_to.country", 2, "DE");
        let postcode = self.text(fields.get("postcode"), "ship_to.postcode", MAX_TEXT_CHARS);
        Some(ShipTo { name: name?, country: country?, postcode: postcode? })
    }

    fn object<'a>(
        &mut self,
        value: &'a Value,
        field: &str,
        known: &[&str],
    ) -> Option<&'a Map<String, Value>> {
        let Value::Object(fields) = value else { return self.note(field, "must be an object") };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let path = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
            self.note::<()>(path, format!("is not a field; known are {}", known.join(", ")));
        }
        Some(fields)
    }

    fn integer(&mut self, value: Option<&Value>, field: &str, min: i64, max: i64) -> Option<i64> {
        let message = if max == i64::MAX {
            format!("must be an integer of at least {min}")
        } else {
            format!("must be an integer from {min} to {max}")
        };
        match value {
            None => self.note(field, "is missing"),
            Some(value) => match value.as_i64() {
                Some(number) if (min..=max).contains(&number) => Some(number),
                Some(_) | None => self.note(field, message),
            },
        }
    }

    fn text(&mut self, value: Option<&Value>, field: &str, max_chars: usize) -> Option<String> {
        match value {
            None => self.note(field, "is missing"),
            Some(Value::String(text))
                if !text.trim().is_empty()
                    && text.chars().count() <= max_chars
                    && !text.chars().any(char::is_control) =>
            {
                Some(text.clone())
            }
            Some(_) => self.note(
                field,
                format!("must be text of 1 to {max_chars} characters without control characters"),
            ),
        }
    }

    fn capitals(
        &mut self,
        value: Option<&Value>,
        field: &str,
        length: usize,
        example: &str,
    ) -> Option<String> {
        match value {
            None => self.note(field, "is missing"),
            Some(Value::String(text))
                if text.len() == length && text.bytes().all(|byte| byte.is_ascii_uppercase()) =>
            {
                Some(text.clone())
            }
            Some(_) => self.note(field, format!("must be {length} capital letters, as {example}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        assert_eq!(check(&body).expect("it is good").amount_cents, 2_500);
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
