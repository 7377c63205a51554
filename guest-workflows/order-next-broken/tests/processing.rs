//! The bug: it shows behind the payment, and not before.

#[path = "../../order/workflows/tests/support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use everfold_guest::testing::{Answer, TestRun};
use order_next_broken::process_order;
use support::{drive, names, open, order, result};

#[test]
fn it_panics_where_it_would_update_the_inventory() {
    let mut run = TestRun::start(process_order, &order());
    run.complete(open(&run).id, &result("validate-order"));
    let payment = open(&run);
    assert_eq!(payment.activity_type, "process-payment");
    let paid = catch_unwind(AssertUnwindSafe(|| run.complete(payment.id, &result("process-payment"))));
    let panic = paid.expect_err("it panics");
    let said = panic.downcast_ref::<String>().map(String::as_str);
    assert_eq!(said, Some("no shelf has the goods that payment p-1 is for"));
}

#[test]
fn an_order_whose_payment_fails_never_comes_to_the_bug() {
    let mut run = TestRun::start(process_order, &order());
    let asked = drive(&mut run, "process-payment", &Answer::refuse("PaymentDeclined", "no cover"));
    assert_eq!(names(&asked), ["validate-order", "process-payment", "cancel-order"]);
    assert_eq!(run.failure().message(), "Your payment was declined; nothing was charged.");
}
