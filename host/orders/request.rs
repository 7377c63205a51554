//! What requests to the order application say, checked: every fault is named at once.

mod change;
mod list;
mod place;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::order::{Order, ShipTo};
use super::problem::{Code, FieldError, Problem, faulty};
use super::steps::StepError;

pub(super) use change::{ChangeRequest, DeliveredRequest, change, delivered, if_match, stop};
pub(super) use list::{ListQuery, effects, list, page_token};
pub(super) use place::{OrderRequest, place};

const MAX_TEXT_CHARS: usize = 200;

/// Reads a body and checks what it says.
///
/// # Errors
/// 400 for what is not JSON, 422 with all faults for what is.
pub(super) fn read<T>(
    body: &[u8],
    check: impl FnOnce(&mut Faults, &Value) -> Option<T>,
) -> Result<T, Problem> {
    let value = serde_json::from_slice(body).map_err(|error| {
        let detail = format!("the body is not JSON: {error}");
        Problem::new(StatusCode::BAD_REQUEST, Code::INVALID_INPUT, detail)
    })?;
    Faults::none_in(|faults| check(faults, &value))
        .map_err(|faults| faulty(StatusCode::UNPROCESSABLE_ENTITY, &faults))
}

/// Checks the parameters of a query.
///
/// # Errors
/// 400 with all faults.
pub(super) fn read_query<T>(
    query: &[(String, String)],
    check: impl FnOnce(&mut Faults, &Parameters<'_>) -> Option<T>,
) -> Result<T, Problem> {
    Faults::none_in(|faults| check(faults, &Parameters(query)))
        .map_err(|faults| faulty(StatusCode::BAD_REQUEST, &faults))
}

/// The rules of form that an order breaks which came another way.
pub(super) fn faults_of(order: &Order) -> Result<Vec<FieldError>, StepError> {
    let mut body = serde_json::to_value(order)?;
    if let Value::Object(fields) = &mut body {
        fields.remove("order_id");
    }
    Ok(Faults::none_in(|faults| place(faults, &body)).err().unwrap_or_default())
}

/// The parameters of a query, in their order.
pub(super) struct Parameters<'a>(&'a [(String, String)]);

impl Parameters<'_> {
    /// Notes those that are not known, or are there twice.
    fn only(&self, faults: &mut Faults, known: &[&str]) {
        for (index, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                faults.note::<()>(name, format!("is not a parameter; known are {}", known.join(", ")));
            } else if self.0[..index].iter().any(|(earlier, _)| earlier == name) {
                faults.note::<()>(name, "is given more than once");
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// The faults found so far. Each method gives a value, or notes why there is none.
#[derive(Default)]
pub(super) struct Faults(Vec<FieldError>);

impl Faults {
    /// What a check gives if it noted nothing.
    fn none_in<T>(check: impl FnOnce(&mut Self) -> Option<T>) -> Result<T, Vec<FieldError>> {
        let mut faults = Self::default();
        match check(&mut faults) {
            Some(checked) if faults.0.is_empty() => Ok(checked),
            Some(_) | None => Err(faults.0),
        }
    }

    fn note<T>(&mut self, field: impl Into<String>, message: impl Into<String>) -> Option<T> {
        self.0.push(FieldError { field: field.into(), message: message.into() });
        None
    }

    /// An id under which a request is done once; absent or null is none.
    fn request_id(&mut self, value: Option<&Value>) -> Option<Option<String>> {
        match value {
            None | Some(Value::Null) => Some(None),
            Some(value) => self.text(Some(value), "request_id", MAX_TEXT_CHARS).map(Some),
        }
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
