//! The change without its question: one order of steps for all, and no marker.

#[path = "../../order/workflows/tests/support/mod.rs"]
mod support;

use everfold_guest::testing::{Answer, TestRun};
use order_next_plain::process_order;
use support::{drive, names, order, unnumbered};

#[test]
fn the_inventory_is_updated_first_whatever_the_run_followed() {
    for mut run in [
        TestRun::start(process_order, &order()),
        TestRun::following("inventory-first", everfold_guest::DEFAULT_VERSION).start(process_order, &order()),
    ] {
        let asked = drive(&mut run, "none", &Answer::LeaveOpen);
        assert_eq!(
            names(&asked),
            ["validate-order", "update-inventory", "process-payment", "arrange-shipping"]
        );
        assert!(!unnumbered(&run).iter().any(|line| line.starts_with("VersionMarkerRecorded")), "{run:?}");
    }
}

#[test]
fn what_was_done_is_undone_latest_first() {
    let mut run = TestRun::start(process_order, &order());
    let asked = drive(&mut run, "arrange-shipping", &Answer::refuse("ShipmentRefused", "no such place"));
    assert_eq!(names(&asked)[4..], ["refund-payment", "restock-inventory", "cancel-order"]);
}
