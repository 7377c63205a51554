//! Where an order goes: changed by its customer, fixed by its shipping.

use super::*;
use crate::orders::changes::{Change, Changed, Expected};
use crate::orders::order::{Item, Order, ShipTo};
use crate::orders::records::Record;

/// An order as the route writes it.
pub(super) fn record(order_id: &str, customer_id: i64, created_at: Timestamp) -> Record {
    let order = Order {
        order_id: order_id.to_owned(),
        customer_id,
        items: vec![Item { sku: "book".to_owned(), quantity: 2, unit_price_cents: 1_250 }],
        currency: "EUR".to_owned(),
        payment_token: "tok_ok".to_owned(),
        ship_to: ShipTo { name: "Ada".to_owned(), country: "DE".to_owned(), postcode: "REFUSED".to_owned() },
    };
    Record::of(order, created_at)
}

fn to(postcode: &str) -> Change {
    Change { postcode: Some(postcode.to_owned()), ..Change::default() }
}

async fn postcode(bench: &Bench, order_id: &str) -> (String, i64) {
    let (record, _) = bench.shop.order(order_id).await.expect("it is read");
    record.map(|record| (record.ship_to.postcode, record.version)).expect("it is there")
}

#[tokio::test]
async fn of_two_changes_of_one_state_one_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    bench.shop.keep(&record("o1", 1, T0)).await.expect("it is kept");
    for version in 1..=20 {
        let expected = Expected::Versions(vec![version]);
        let (one, other) = (to("11111"), to("22222"));
        let (one, other) = tokio::join!(
            bench.shop.change("o1", &one, &expected),
            bench.shop.change("o1", &other, &expected)
        );
        let mut results = [one.expect("it is decided"), other.expect("it is decided")];
        results.sort_by_key(|result| *result == Changed::Stale);
        assert_eq!(results, [Changed::Done, Changed::Stale]);
        assert_eq!(postcode(&bench, "o1").await.1, version + 1);
    }
}

#[tokio::test]
async fn a_repeated_change_is_made_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    bench.shop.keep(&record("o1", 1, T0)).await.expect("it is kept");
    let change = Change { request_id: Some("r".to_owned()), ..to("11111") };
    let expected = Expected::Versions(vec![1]);
    for _ in 0..2 {
        let changed = bench.shop.change("o1", &change, &expected).await;
        assert_eq!(changed.expect("it is decided"), Changed::Done);
        assert_eq!(postcode(&bench, "o1").await, ("11111".to_owned(), 2));
    }
    let missing = bench.shop.change("o2", &change, &expected).await;
    assert_eq!(missing.expect("it is decided"), Changed::Missing);
}

#[tokio::test]
async fn the_address_in_the_row_wins_until_shipping_begins_and_stays_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    bench.shop.keep(&record("o1", 1, T0)).await.expect("it is kept");
    // The run was given an address where the carrier does not deliver.
    let changed = bench.shop.change("o1", &to("FLAKY_1"), &Expected::Any).await;
    assert_eq!(changed.expect("it is decided"), Changed::Done);
    let first = bench.run("arrange-shipping", "s", &ship("o1", "REFUSED")).await;
    assert_eq!(first, "failed: CarrierUnavailable: the carrier answered 503: the carrier is unavailable");

    for expected in [Expected::Any, Expected::Versions(vec![2])] {
        let late = bench.shop.change("o1", &to("DOWN"), &expected).await;
        assert_eq!(late.expect("it is decided"), Changed::Shipped, "the carrier was told where to");
    }
    let second = bench.run("arrange-shipping", "s", &ship("o1", "REFUSED")).await;
    assert!(second.starts_with("completed"), "{second}");
}

#[tokio::test]
async fn shipping_that_comes_before_the_row_fixes_the_address_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let shipped = bench.run("arrange-shipping", "s", &ship("o1", "80331")).await;
    assert!(shipped.starts_with("completed"), "{shipped}");
    bench.shop.keep(&record("o1", 1, T0)).await.expect("it is kept");
    let late = bench.shop.change("o1", &to("DOWN"), &Expected::Any).await;
    assert_eq!(late.expect("it is decided"), Changed::Shipped);
    bench.result("cancel-order", "c", &json!({"order_id": "o1", "reason": "x"})).await;
    let late = bench.shop.change("o1", &to("DOWN"), &Expected::Any).await;
    assert_eq!(late.expect("it is decided"), Changed::Closed);
}
