//! Orders that are canceled or delivered.

use super::*;

fn cancel(order_id: &str) -> Value {
    json!({"order_id": order_id, "reason": "the payment was declined"})
}

#[tokio::test]
async fn an_order_is_canceled_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    for _ in 0..2 {
        let canceled = bench.result("cancel-order", "c", &cancel("o1")).await;
        assert_eq!(canceled, json!({"canceled": true}));
    }
    assert_eq!(bench.result("cancel-order", "d", &cancel("o1")).await, json!({"canceled": false}));
    assert_eq!(bench.count("cancellations WHERE reason = 'the payment was declined'").await, 1);
    let progress = bench.shop.progress("o1").await.expect("it is read");
    assert_eq!(status::status(&progress, None), status::OrderStatus::Canceled);
}

#[tokio::test]
async fn a_delivery_is_recorded_once_and_by_the_first_time_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let shipped = bench.result("arrange-shipping", "s", &ship("o1", "80331")).await;
    let delivery = |order_id: &str, at: i64| json!({"order_id": order_id, "shipment_id": shipped["shipment_id"], "delivered_at_ms": at});
    let foreign = bench.run("record-delivery", "x", &delivery("o2", 5)).await;
    assert!(
        foreign.starts_with("failed for good: NoSuchShipment: order o2 has no shipment shp_"),
        "{foreign}"
    );
    for (key, at) in [("d", 1_000), ("d", 1_000), ("e", 2_000)] {
        assert_eq!(bench.result("record-delivery", key, &delivery("o1", at)).await, json!({}));
    }
    assert_eq!(bench.count("shipments WHERE state = 'delivered' AND delivered_at = 1000").await, 1);
    assert_eq!(
        bench.result("cancel-order", "c", &cancel("o1")).await,
        json!({"canceled": false}),
        "what was delivered is not canceled"
    );
    let progress = bench.shop.progress("o1").await.expect("it is read");
    assert_eq!(status::status(&progress, None), status::OrderStatus::Delivered);
}

#[tokio::test]
async fn a_shipment_that_was_called_back_is_not_delivered() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let shipped = bench.result("arrange-shipping", "s", &ship("o1", "80331")).await;
    bench.result("cancel-shipment", "u", &undo("o1", "s")).await;
    let delivery = json!({"order_id": "o1", "shipment_id": shipped["shipment_id"], "delivered_at_ms": 1_000});
    let refused = bench.run("record-delivery", "d", &delivery).await;
    assert!(refused.starts_with("failed for good: NoSuchShipment"), "{refused}");
}
