//! What is asked of an order that was placed: a new address, its end, its delivery.

use axum::http::{HeaderMap, StatusCode, header};
use everfold_core::ids::Timestamp;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Faults, MAX_TEXT_CHARS, Parameters};
use crate::orders::changes::{Change, Expected};
use crate::orders::problem::{Code, PRECONDITION_REQUIRED, Problem};

/// The body of `PATCH /orders/{id}`.
#[derive(Debug, ToSchema)]
#[schema(as = OrderChange)]
pub(in crate::orders) struct ChangeRequest {
    /// The new address, whole or in part.
    #[allow(dead_code, reason = "the shape is for the interface's description; `change` reads it")]
    ship_to: ShipToChange,
    /// De-duplicates: the same id as the last change's is that change.
    #[schema(min_length = 1, max_length = 200)]
    #[allow(dead_code, reason = "the shape is for the interface's description; `change` reads it")]
    request_id: Option<String>,
}

/// What of an address is to change; at least one field.
#[derive(Debug, ToSchema)]
#[schema(min_properties = 1)]
#[allow(dead_code, reason = "the shape is for the interface's description; `change` reads it")]
pub(in crate::orders) struct ShipToChange {
    /// The recipient.
    #[schema(min_length = 1, max_length = 200, nullable = false)]
    name: Option<String>,
    /// ISO 3166-1 alpha-2.
    #[schema(pattern = "^[A-Z]{2}$", nullable = false)]
    country: Option<String>,
    /// As the carrier wants it.
    #[schema(min_length = 1, max_length = 200, nullable = false)]
    postcode: Option<String>,
}

/// A change of an order.
pub(in crate::orders) fn change(faults: &mut Faults, body: &Value) -> Option<Change> {
    let fields = faults.object(body, "", &["ship_to", "request_id"])?;
    let request_id = faults.request_id(fields.get("request_id"));
    let Some(ship_to) = fields.get("ship_to") else { return faults.note("ship_to", "is missing") };
    let known = ["name", "country", "postcode"];
    let parts = faults.object(ship_to, "ship_to", &known)?;
    if parts.is_empty() {
        return faults.note("ship_to", format!("must have at least one of {}", known.join(", ")));
    }
    let mut text = |name: &str| {
        let value = parts.get(name)?;
        faults.text(Some(value), &format!("ship_to.{name}"), MAX_TEXT_CHARS)
    };
    let (name, postcode) = (text("name"), text("postcode"));
    let country =
        parts.get("country").and_then(|value| faults.capitals(Some(value), "ship_to.country", 2, "DE"));
    Some(Change { name, country, postcode, request_id: request_id? })
}

/// The body of `POST /orders/{id}/delivered`.
#[derive(Clone, Debug, Default, PartialEq, Eq, ToSchema)]
#[schema(as = OrderDelivered)]
pub(in crate::orders) struct DeliveredRequest {
    /// When it arrived, not before it was ordered; default now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(in crate::orders) delivered_at: Option<Timestamp>,
    /// De-duplicates.
    #[schema(min_length = 1, max_length = 200)]
    pub(in crate::orders) request_id: Option<String>,
}

/// What is said about a delivery of an order that was placed at `created_at`.
pub(in crate::orders) fn delivered(
    faults: &mut Faults,
    body: &Value,
    created_at: Timestamp,
) -> Option<DeliveredRequest> {
    let fields = faults.object(body, "", &["delivered_at", "request_id"])?;
    let request_id = faults.request_id(fields.get("request_id"));
    let delivered_at = match fields.get("delivered_at") {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => match text.parse() {
            Ok(at) if at < created_at => {
                faults.note("delivered_at", format!("is before the order was placed, {created_at}"))
            }
            Ok(at) => Some(Some(at)),
            Err(_) => faults.note("delivered_at", "must be a time, as 2026-01-31T12:00:00Z"),
        },
        Some(_) => faults.note("delivered_at", "must be a time, as 2026-01-31T12:00:00Z"),
    };
    Some(DeliveredRequest { delivered_at: delivered_at?, request_id: request_id? })
}

/// The parameters of `DELETE /orders/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::orders) struct Stop {
    pub(in crate::orders) reason: Option<String>,
    pub(in crate::orders) request_id: Option<String>,
}

/// A request to cancel an order.
pub(in crate::orders) fn stop(faults: &mut Faults, parameters: &Parameters<'_>) -> Option<Stop> {
    let known = ["reason", "request_id"];
    parameters.only(faults, &known);
    let mut text = |name: &str| match parameters.get(name) {
        None => Some(None),
        Some(text) => faults.text(Some(&Value::from(text)), name, MAX_TEXT_CHARS).map(Some),
    };
    let [reason, request_id] = known.map(&mut text);
    Some(Stop { reason: reason?, request_id: request_id? })
}

/// Which state of an order a change is meant for: the versions with which the tags in `If-Match` begin.
/// The rest of a tag is of what a change does not touch.
///
/// # Errors
/// 428 without the header, 400 when it is no list of tags (RFC 9110, section 13.1.1).
pub(in crate::orders) fn if_match(headers: &HeaderMap) -> Result<Expected, Problem> {
    let invalid = || {
        let detail = "If-Match must be `*` or the order's ETag, in its quotes";
        Problem::new(StatusCode::BAD_REQUEST, Code::INVALID_INPUT, detail)
    };
    let mut versions = Vec::new();
    let mut fields = headers.get_all(header::IF_MATCH).iter().peekable();
    if fields.peek().is_none() {
        let detail = "a change needs the order's ETag in If-Match, so that no other change is lost";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, PRECONDITION_REQUIRED, detail));
    }
    for field in fields {
        for tag in field.to_str().map_err(|_| invalid())?.split(',').map(str::trim) {
            if tag == "*" {
                return Ok(Expected::Any);
            }
            let (is_weak, quoted) = tag.strip_prefix("W/").map_or((false, tag), |tag| (true, tag));
            let opaque =
                quoted.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).ok_or_else(invalid)?;
            // A weak tag never matches strongly, and one that was not given out matches nothing.
            if !is_weak && let Some((version, _)) = opaque.split_once('-') {
                versions.extend(version.parse::<i64>().ok());
            }
        }
    }
    Ok(Expected::Versions(versions))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn lines<T: std::fmt::Debug>(check: impl FnOnce(&mut Faults) -> Option<T>) -> Vec<String> {
        let faults = Faults::none_in(check).expect_err("it is faulty");
        faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
    }

    #[test]
    fn a_change_is_whole_or_in_part() {
        let body = json!({"ship_to": {"postcode": "10115"}, "request_id": "r"});
        let changed = Faults::none_in(|faults| change(faults, &body)).expect("it is good");
        let expected = Change {
            postcode: Some("10115".to_owned()),
            request_id: Some("r".to_owned()),
            ..Change::default()
        };
        assert_eq!(changed, expected);

        let faulty = json!({
            "ship_to": {"name": null, "country": "de", "street": "x"}, "items": [], "request_id": 7
        });
        assert_eq!(
            lines(|faults| change(faults, &faulty)),
            [
                "items: is not a field; known are ship_to, request_id",
                "request_id: must be text of 1 to 200 characters without control characters",
                "ship_to.street: is not a field; known are name, country, postcode",
                "ship_to.name: must be text of 1 to 200 characters without control characters",
                "ship_to.country: must be 2 capital letters, as DE",
            ]
        );
        assert_eq!(lines(|faults| change(faults, &json!({}))), ["ship_to: is missing"]);
        assert_eq!(
            lines(|faults| change(faults, &json!({"ship_to": {}}))),
            ["ship_to: must have at least one of name, country, postcode"]
        );
    }

    #[test]
    fn a_delivery_has_a_time_or_none() {
        let created_at = Timestamp(1_700_000_000_000);
        let read = |body: &Value| Faults::none_in(|faults| delivered(faults, body, created_at));
        assert_eq!(read(&json!({})).expect("it is good"), DeliveredRequest::default());
        let at =
            read(&json!({"delivered_at": "2023-11-14T23:13:20+00:00"})).expect("it is good").delivered_at;
        assert_eq!(at, Some(Timestamp(1_700_003_600_000)));
        let faulty = json!({"delivered_at": "2023-11-13T00:00:00Z", "by": "post"});
        assert_eq!(
            lines(|faults| delivered(faults, &faulty, created_at)),
            [
                "by: is not a field; known are delivered_at, request_id",
                "delivered_at: is before the order was placed, 2023-11-14T22:13:20.000Z",
            ]
        );
        for value in [json!("yesterday"), json!(7)] {
            let body = json!({"delivered_at": value});
            assert_eq!(
                lines(|faults| delivered(faults, &body, created_at)),
                ["delivered_at: must be a time, as 2026-01-31T12:00:00Z"]
            );
        }
    }

    #[test]
    fn a_change_names_the_state_that_it_is_meant_for() {
        let read = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(value.map(|value| (header::IF_MATCH, HeaderValue::from_static(value))));
            if_match(&headers).map_err(|problem| problem.to_value()["code"].clone())
        };
        assert_eq!(read(Some("*")), Ok(Expected::Any));
        assert_eq!(read(Some("\"3-abc\"")), Ok(Expected::Versions(vec![3])));
        assert_eq!(
            read(Some("\"x\", W/\"4-abc\" ,\"12-\"")),
            Ok(Expected::Versions(vec![12])),
            "the others match nothing"
        );
        assert_eq!(read(None), Err(json!("precondition_required")));
        for malformed in ["", "3-abc", "\"3-abc", "\""] {
            assert_eq!(read(Some(malformed)), Err(json!("invalid_input")), "{malformed}");
        }
    }
}
