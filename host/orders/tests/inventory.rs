//! Stock is neither made nor lost, and never sold twice.

use super::*;

#[tokio::test]
async fn two_hundred_orders_at_once_never_oversell() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let mut write = bench.shop.database.write().await.expect("it writes");
    sqlx::query("UPDATE inventory SET on_hand = 121 WHERE sku = 'lamp'")
        .execute(&mut *write)
        .await
        .expect("121 lamps");
    write.commit().await.expect("it commits");

    let orders = (0..200).map(|number| {
        let bench = bench.clone();
        tokio::spawn(async move {
            let (order_id, key) = (format!("o{number}"), format!("k{number}"));
            bench.run("reserve-inventory", &key, &reserve(&order_id, "lamp", 2)).await
        })
    });
    let outcomes = futures::future::try_join_all(orders).await.expect("all end");
    let reserved = outcomes.iter().filter(|outcome| outcome.starts_with("completed")).count();
    let refused = outcomes
        .iter()
        .filter(|outcome| {
            **outcome == "failed for good: OutOfStock: 2 of `lamp` were asked for, 1 are available"
        })
        .count();
    assert_eq!((reserved, refused), (60, 140), "{outcomes:?}");
    assert_eq!(bench.stock("lamp").await, (121, 120));
    assert_eq!(bench.count("reservations").await, 60, "a refused reservation leaves nothing");
}

#[tokio::test]
async fn stock_moves_there_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let reserved = bench.result("reserve-inventory", "r", &reserve("o1", "mug", 3)).await;
    let update = json!({"order_id": "o1", "reservation_id": reserved["reservation_id"]});
    assert_eq!(bench.stock("mug").await, (1_000_000, 3));
    for _ in 0..2 {
        assert_eq!(bench.result("update-inventory", "u", &update).await, json!({}));
        assert_eq!(bench.stock("mug").await, (999_997, 0));
    }
    assert_eq!(
        bench.run("update-inventory", "u2", &update).await,
        format!(
            "failed for good: ReservationNotHeld: reservation {} is consumed",
            text(&reserved, "reservation_id")
        )
    );
    let release = bench.run("release-inventory-reservation", "x", &undo("o1", "r")).await;
    assert!(release.starts_with("failed: ReservationConsumed: "), "it must be restocked first: {release}");

    for _ in 0..2 {
        let restocked = bench.result("restock-inventory", "y", &undo("o1", "u")).await;
        assert_eq!(restocked, json!({"restocked": true}));
        assert_eq!(bench.stock("mug").await, (1_000_000, 3));
    }
    assert_eq!(
        bench.run("update-inventory", "u", &update).await,
        "failed for good: StepUndone: step u of update-inventory was undone"
    );
    for _ in 0..2 {
        let released = bench.result("release-inventory-reservation", "x", &undo("o1", "r")).await;
        assert_eq!(released, json!({"released": true}));
        assert_eq!(bench.stock("mug").await, (1_000_000, 0));
    }
    assert_eq!(
        bench.run("update-inventory", "u3", &update).await,
        format!(
            "failed for good: ReservationNotHeld: reservation {} is released",
            text(&reserved, "reservation_id")
        )
    );
    let nothing = bench.result("restock-inventory", "z", &undo("o1", "never")).await;
    assert_eq!(nothing, json!({"restocked": false}));
    assert_eq!(
        bench.run("update-inventory", "never", &update).await,
        "failed for good: StepUndone: step never of update-inventory was undone"
    );
}

#[tokio::test]
async fn a_reservation_is_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let cases = [
        (
            json!([{"sku": "book", "quantity": 1}, {"sku": "sold-out", "quantity": 1}]),
            "failed for good: OutOfStock: 1 of `sold-out` were asked for, 0 are available",
        ),
        (
            json!([{"sku": "last-one", "quantity": 1}, {"sku": "last-one", "quantity": 1}]),
            "failed for good: OutOfStock: 2 of `last-one` were asked for, 1 are available",
        ),
        (
            json!([{"sku": "book", "quantity": 1}, {"sku": "unicorn", "quantity": 1}]),
            "failed for good: InvalidOrderError: there is no `unicorn` in the catalogue",
        ),
        (
            json!([{"sku": "book", "quantity": 0}]),
            "failed for good: InvalidOrderError: the quantity of book is 0",
        ),
        (json!([]), "failed for good: InvalidOrderError: the order has no items"),
    ];
    for (items, expected) in cases {
        let input = json!({"order_id": "o1", "items": items});
        assert_eq!(bench.run("reserve-inventory", "k", &input).await, expected);
    }
    assert_eq!(bench.stock("book").await, (1_000_000, 0));
    assert_eq!(bench.stock("last-one").await, (1, 0));
    assert_eq!(bench.count("reservations").await, 0);

    let update = json!({"order_id": "o2", "reservation_id": "nowhere"});
    assert_eq!(
        bench.run("update-inventory", "u", &update).await,
        "failed for good: ReservationNotHeld: there is no reservation nowhere"
    );
    let reserved = bench.result("reserve-inventory", "r", &reserve("o1", "last-one", 1)).await;
    let id = text(&reserved, "reservation_id");
    assert_eq!(
        bench.run("update-inventory", "u", &json!({"order_id": "o2", "reservation_id": id})).await,
        format!("failed for good: ReservationNotHeld: reservation {id} is not that of order o2")
    );
}

#[tokio::test]
async fn goods_leave_the_shelf_without_a_reservation_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    bench.result("reserve-inventory", "r", &reserve("o9", "mug", 999_996)).await;
    let take = |quantity: u32| {
        json!({"order_id": "o1", "items": [
            {"sku": "mug", "quantity": quantity}, {"sku": "mug", "quantity": 1}, {"sku": "pen", "quantity": 2},
        ]})
    };
    assert_eq!(
        bench.run("update-inventory", "u", &take(4)).await,
        "failed for good: OutOfStock: 5 of `mug` were asked for, 4 are available",
        "what another order has reserved is not for sale"
    );
    assert_eq!(bench.stock("pen").await, (1_000_000, 0));
    for _ in 0..2 {
        assert_eq!(bench.result("update-inventory", "u", &take(3)).await, json!({}));
        assert_eq!(bench.stock("mug").await, (999_996, 999_996));
        assert_eq!(bench.stock("pen").await, (999_998, 0));
    }
    for key in ["x", "x", "y"] {
        let restocked = bench.result("restock-inventory", key, &undo("o1", "u")).await;
        assert_eq!(restocked, json!({"restocked": true}));
        assert_eq!(bench.stock("mug").await, (1_000_000, 999_996), "free again, reserved for nobody");
        assert_eq!(bench.stock("pen").await, (1_000_000, 0));
    }
    assert_eq!(
        bench.run("update-inventory", "u", &take(3)).await,
        "failed for good: StepUndone: step u of update-inventory was undone"
    );
    let neither = bench.run("update-inventory", "n", &json!({"order_id": "o1"})).await;
    assert!(neither.starts_with("failed for good: InvalidActivityInput: "), "{neither}");
    assert!(neither.contains("`reservation_id` or `items`"), "{neither}");
}

#[tokio::test]
async fn an_order_is_validated_by_all_its_rules_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::open(&folder).await;
    let mut order = json!({
        "order_id": "o1",
        "customer_id": 7,
        "items": [
            {"sku": "book", "quantity": 2, "unit_price_cents": 1_250},
            {"sku": "sold-out", "quantity": 1, "unit_price_cents": 5},
        ],
        "currency": "EUR",
        "payment_token": "tok_ok",
        "ship_to": {"name": "Ada", "country": "DE", "postcode": "80331"},
    });
    let validated = bench.result("validate-order", "v", &order).await;
    assert_eq!(validated, json!({"amount_cents": 2_505}), "what is sold out is known all the same");

    order["customer_id"] = json!(-1);
    order["items"][1] = json!({"sku": "unicorn", "quantity": 0, "unit_price_cents": i64::MAX});
    order["currency"] = json!("euro");
    assert_eq!(
        bench.run("validate-order", "w", &order).await,
        "failed for good: InvalidOrder: customer_id must be an integer of at least 0; items[1].quantity must be an \
         integer from 1 to 4294967295; items[1].unit_price_cents must be an integer from 0 to 9007199254740991; \
         currency must be 3 capital letters, as EUR; items[1].sku names `unicorn`, which is not in the catalogue"
    );
    let dear = json!({"sku": "book", "quantity": u32::MAX, "unit_price_cents": (1_i64 << 53) - 1});
    order["items"] = json!([dear, dear]);
    let outcome = bench.run("validate-order", "x", &order).await;
    assert!(outcome.contains("items the order costs more than 9007199254740991"), "{outcome}");
    assert_eq!(bench.count("effects").await, 0, "it only reads");
}
