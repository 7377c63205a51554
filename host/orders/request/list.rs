//! The parameters of `GET /orders`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use everfold_core::ids::Timestamp;
use utoipa::IntoParams;

use super::{Faults, Parameters};
use crate::orders::records::{Filter, Position};
use crate::orders::status::OrderStatus;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;

/// Which orders to list, and how many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::orders) struct List {
    pub(in crate::orders) filter: Filter,
    pub(in crate::orders) status: Option<OrderStatus>,
    pub(in crate::orders) limit: usize,
    pub(in crate::orders) after: Option<Position>,
}

/// The parameters as they are sent.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the shape is for the interface's description; `list` reads it")]
pub(in crate::orders) struct ListQuery {
    /// Only this customer's.
    #[param(minimum = 0)]
    customer_id: Option<i64>,
    /// Only those that stand so. A page may then be short, or empty, though more follow.
    #[param(inline)]
    status: Option<OrderStatus>,
    /// Only those placed then or later.
    #[param(value_type = Option<String>, format = DateTime)]
    created_after: Option<Timestamp>,
    /// Only those placed before.
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<Timestamp>,
    /// At most that many; default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// The `next_page_token` of the page before.
    page_token: Option<String>,
}

/// A list of orders.
pub(in crate::orders) fn list(faults: &mut Faults, parameters: &Parameters<'_>) -> Option<List> {
    let known = ["customer_id", "status", "created_after", "created_before", "limit", "page_token"];
    parameters.only(faults, &known);
    let customer_id = optional(parameters, "customer_id", |text| match text.parse() {
        Ok(id) if id >= 0 => Some(id),
        Ok(_) | Err(_) => faults.note("customer_id", "must be an integer of at least 0"),
    });
    let status = optional(parameters, "status", |text| {
        let found = OrderStatus::ALL.into_iter().find(|status| status.name() == text);
        let names = || OrderStatus::ALL.map(OrderStatus::name).join(", ");
        found.or_else(|| faults.note("status", format!("must be one of {}", names())))
    });
    let mut time = |name: &str| {
        optional(parameters, name, |text| match text.parse::<Timestamp>() {
            Ok(time) => Some(time),
            Err(_) => faults.note(name, "must be a time, as 2026-01-31T12:00:00Z"),
        })
    };
    let (created_after, created_before) = (time("created_after"), time("created_before"));
    let limit = optional(parameters, "limit", |text| match text.parse() {
        Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Some(limit),
        Ok(_) | Err(_) => faults.note("limit", format!("must be an integer from 1 to {MAX_LIMIT}")),
    });
    let after = optional(parameters, "page_token", |text| {
        let position = position(text);
        position.or_else(|| faults.note("page_token", "is not a token that an earlier page gave"))
    });
    Some(List {
        filter: Filter {
            customer_id: customer_id?,
            created_after: created_after?,
            created_before: created_before?,
        },
        status: status?,
        limit: limit?.unwrap_or(DEFAULT_LIMIT),
        after: after?,
    })
}

/// Whose effects the sandbox is asked for.
pub(in crate::orders) fn effects(faults: &mut Faults, parameters: &Parameters<'_>) -> Option<Option<String>> {
    parameters.only(faults, &["order_id"]);
    Some(parameters.get("order_id").map(str::to_owned))
}

/// A parameter that need not be there; absent as a whole if it is faulty.
fn optional<T>(
    parameters: &Parameters<'_>,
    name: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Option<Option<T>> {
    match parameters.get(name) {
        None => Some(None),
        Some(text) => read(text).map(Some),
    }
}

/// A place in the list as clients hand it back.
pub(in crate::orders) fn page_token(position: &Position) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}/{}", position.created_at.0, position.order_id))
}

fn position(token: &str) -> Option<Position> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (created_at, order_id) = text.split_once('/')?;
    Some(Position { created_at: Timestamp(created_at.parse().ok()?), order_id: order_id.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<List, Vec<String>> {
        let query: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Faults::none_in(|faults| list(faults, &Parameters(&query))).map_err(|faults| {
            faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
        })
    }

    #[test]
    fn parameters_are_read() {
        let all = read(&[]).expect("nothing is asked for");
        assert_eq!((all.filter, all.status, all.limit, all.after), (Filter::default(), None, 50, None));
        let place = Position { created_at: Timestamp(-5), order_id: "o/1".to_owned() };
        let token = page_token(&place);
        let some = read(&[
            ("customer_id", "7"),
            ("status", "shipped"),
            ("created_after", "2023-11-14T22:13:20Z"),
            ("limit", "200"),
            ("page_token", &token),
        ])
        .expect("it is good");
        assert_eq!(some.filter.customer_id, Some(7));
        assert_eq!(some.filter.created_after, Some(Timestamp(1_700_000_000_000)));
        assert_eq!((some.status, some.limit), (Some(OrderStatus::Shipped), 200));
        assert_eq!(some.after, Some(place));
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let faults = read(&[
            ("customer_id", "-1"),
            ("state", "paid"),
            ("status", "Paid"),
            ("created_after", "now"),
            ("created_before", ""),
            ("limit", "0"),
            ("limit", "5"),
            ("page_token", "%%"),
        ]);
        let known = "customer_id, status, created_after, created_before, limit, page_token";
        assert_eq!(
            faults.expect_err("it is faulty"),
            [
                &format!("state: is not a parameter; known are {known}"),
                "limit: is given more than once",
                "customer_id: must be an integer of at least 0",
                "status: must be one of accepted, paid, shipped, delivered, failed, canceled",
                "created_after: must be a time, as 2026-01-31T12:00:00Z",
                "created_before: must be a time, as 2026-01-31T12:00:00Z",
                "limit: must be an integer from 1 to 200",
                "page_token: is not a token that an earlier page gave",
            ]
        );
    }
}
