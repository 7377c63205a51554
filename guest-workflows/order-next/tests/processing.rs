//! Both branches of the change with scripted activities: the order of the steps, each step failing, and
//! cancellation, with what is undone and what the customer is told.

#[path = "../../order/workflows/tests/support/mod.rs"]
mod support;

use everfold_guest::DEFAULT_VERSION;
use everfold_guest::failure::TimeoutType;
use everfold_guest::testing::{Answer, Closed, TestRun};
use order_next::{INVENTORY_FIRST, process_order};
use order_workflows::processing;
use serde_json::{Value, json};
use support::{drive, names, open, order, result, unnumbered};

const MARKER: &str = "VersionMarkerRecorded inventory-first 1";

/// One branch, and what it asks for.
struct Branch {
    start: fn() -> TestRun,
    steps: [&'static str; 4],
    /// The undo of each step; checking an order needs none.
    undos: [Option<&'static str>; 4],
    /// What closes an order at which the step failed that is known to have done nothing.
    handled: [&'static [&'static str]; 4],
    /// What the customer is told then.
    told: [&'static str; 4],
    /// The failures that are told of.
    causes: [&'static str; 4],
}

/// A run that paid, or was about to, before the change.
const OLD: Branch = Branch {
    start: || TestRun::following(INVENTORY_FIRST, DEFAULT_VERSION).start(process_order, &order()),
    steps: ["validate-order", "process-payment", "update-inventory", "arrange-shipping"],
    undos: [None, Some("refund-payment"), Some("restock-inventory"), Some("cancel-shipment")],
    handled: [
        &[],
        &["cancel-order"],
        &["refund-payment", "cancel-order"],
        &["restock-inventory", "refund-payment", "cancel-order"],
    ],
    told: [
        "Your order is not valid; nothing was charged.",
        "Your payment was declined; nothing was charged.",
        "Something that you ordered is out of stock; your payment has been refunded.",
        "Your order cannot be delivered to the address that you gave; your payment has been refunded.",
    ],
    causes: ["InvalidOrder", "PaymentDeclined", "OutOfStock", "ShipmentRefused"],
};

/// A new run.
const NEW: Branch = Branch {
    start: || TestRun::start(process_order, &order()),
    steps: ["validate-order", "update-inventory", "process-payment", "arrange-shipping"],
    undos: [None, Some("restock-inventory"), Some("refund-payment"), Some("cancel-shipment")],
    handled: [
        &[],
        &["cancel-order"],
        &["restock-inventory", "cancel-order"],
        &["refund-payment", "restock-inventory", "cancel-order"],
    ],
    told: [
        "Your order is not valid; nothing was charged.",
        "Something that you ordered is out of stock; nothing was charged.",
        "Your payment was declined; nothing was charged.",
        "Your order cannot be delivered to the address that you gave; your payment has been refunded.",
    ],
    causes: ["InvalidOrder", "OutOfStock", "PaymentDeclined", "ShipmentRefused"],
};

const BRANCHES: [Branch; 2] = [OLD, NEW];

impl Branch {
    /// All that is asked for when that step fails and is known to have done nothing.
    fn after_refusal(&self, step: usize) -> Vec<&'static str> {
        self.steps[..=step].iter().chain(self.handled[step]).copied().collect()
    }

    /// All that is asked for when nobody knows whether the failed step happened.
    fn after_doubt(&self, step: usize) -> Vec<&'static str> {
        self.steps[..=step].iter().chain(&self.undos[step]).chain(self.handled[step]).copied().collect()
    }

    /// A run that has made the steps before that one.
    fn at_step(&self, step: usize) -> TestRun {
        let mut run = (self.start)();
        for step in &self.steps[..step] {
            run.complete(open(&run).id, &result(step));
        }
        run
    }
}

#[test]
fn a_new_run_updates_the_inventory_first_and_an_old_one_goes_on_as_it_was() {
    for branch in BRANCHES {
        let mut run = (branch.start)();
        let asked = drive(&mut run, "none", &Answer::LeaveOpen);
        assert_eq!(names(&asked), branch.steps);
        let shipped = json!({
            "order_id": "o-1",
            "amount_cents": 3700,
            "payment_id": "p-1",
            "shipment_id": "s-1",
            "tracking_number": "t-1",
        });
        assert_eq!(run.closed(), Some(Closed::Completed(shipped)));
        let status = run.query("status", &()).expect("it is answered after the end");
        assert_eq!(status["done"], json!(branch.steps));
    }
}

#[test]
fn the_question_is_asked_at_the_place_of_the_change() {
    let history = unnumbered(&NEW.at_step(1));
    let marker = history.iter().position(|line| line == MARKER);
    assert_eq!(marker, Some(3), "behind the validation, before the next step: {history:?}");
    assert!(!unnumbered(&NEW.at_step(0)).contains(&MARKER.to_owned()), "nothing is asked before");
    assert!(!unnumbered(&OLD.at_step(3)).contains(&MARKER.to_owned()), "an old run gets no marker");
}

/// All of it, with the keys of the activities: what decides whether an old run can be moved.
fn everything(run: &mut TestRun) -> (Vec<Option<String>>, Vec<String>) {
    let asked = drive(run, "arrange-shipping", &Answer::TimeOut(TimeoutType::StartToClose));
    let keys = asked.into_iter().map(|activity| activity.options.idempotency_key).collect();
    (keys, run.history())
}

#[test]
fn the_old_branch_is_the_present_version_to_the_byte() {
    let mut present = TestRun::start(processing::process_order, &order());
    assert_eq!(everything(&mut (OLD.start)()), everything(&mut present));
}

#[test]
fn a_step_that_is_refused_is_handled_in_either_order() {
    for branch in BRANCHES {
        for (index, cause) in branch.causes.into_iter().enumerate() {
            let mut run = (branch.start)();
            let asked = drive(&mut run, branch.steps[index], &Answer::refuse(cause, "E-4711"));
            assert_eq!(names(&asked), branch.after_refusal(index));
            assert_eq!(run.failure().application_type(), Some(processing::ORDER_PROCESSING_FAILED));
            assert_eq!(run.failure().message(), branch.told[index]);
        }
    }
}

#[test]
fn a_step_whose_outcome_is_unknown_is_undone_by_its_key_in_either_order() {
    for branch in BRANCHES {
        for index in 0..branch.steps.len() {
            let mut run = (branch.start)();
            let asked = drive(&mut run, branch.steps[index], &Answer::TimeOut(TimeoutType::StartToClose));
            assert_eq!(names(&asked), branch.after_doubt(index));
            for (step, undo) in branch.steps.into_iter().zip(branch.undos) {
                let find = |name| asked.iter().find(|activity| Some(activity.activity_type.as_str()) == name);
                if let (Some(step), Some(undo)) = (find(Some(step)), find(undo)) {
                    assert_eq!(undo.input["step_key"].as_str(), step.options.idempotency_key.as_deref());
                }
            }
        }
    }
}

#[test]
fn a_payment_in_doubt_is_told_of_in_either_order() {
    for branch in BRANCHES {
        let mut run = (branch.start)();
        drive(&mut run, "process-payment", &Answer::exhaust("Unavailable", "nobody answers"));
        assert_eq!(
            run.failure().message(),
            "Your payment could not be completed; anything that was charged has been refunded.",
        );
    }
}

#[test]
fn a_refund_that_fails_keeps_no_other_undo_from_running() {
    for branch in BRANCHES {
        let mut run = (branch.start)();
        let mut asked = Vec::new();
        run.drive(|activity| {
            asked.push(activity.clone());
            match activity.activity_type.as_str() {
                "arrange-shipping" => Answer::refuse("ShipmentRefused", "no such place"),
                "refund-payment" => Answer::TimeOut(TimeoutType::ScheduleToClose),
                _ => support::well(activity),
            }
        });
        assert_eq!(names(&asked), branch.after_refusal(3));
        let delayed = "your refund is delayed, and we are seeing to it.";
        assert!(run.failure().message().ends_with(delayed), "{}", run.failure().message());
    }
}

#[test]
fn an_order_cancelled_at_each_step_is_undone_in_either_order() {
    for branch in BRANCHES {
        for index in 0..branch.steps.len() {
            let mut run = branch.at_step(index);
            run.request_cancel("the customer said so");
            run.answer(open(&run).id, Answer::Cancel);
            let asked = drive(&mut run, "none", &Answer::LeaveOpen);
            assert_eq!(names(&asked), branch.after_doubt(index)[index + 1..]);
            assert_eq!(run.closed(), Some(Closed::Canceled(Vec::new())));
        }
    }
}

#[test]
fn an_order_cancelled_while_it_is_shipped_is_undone_latest_first() {
    for branch in BRANCHES {
        let mut run = branch.at_step(3);
        run.request_cancel("");
        run.complete(open(&run).id, &result("arrange-shipping"));
        let asked = drive(&mut run, "none", &Answer::LeaveOpen);
        assert_eq!(names(&asked), branch.after_doubt(3)[4..]);
        assert_eq!(run.closed(), Some(Closed::Canceled(Vec::new())));
    }
}

#[test]
fn an_old_run_that_has_not_been_validated_follows_the_change() {
    // Nothing was asked yet, so nothing was passed: the answer comes when the place is reached.
    let mut run = TestRun::start(process_order, &order());
    assert_eq!(unnumbered(&run)[1..].len(), 1);
    run.complete(open(&run).id, &result("validate-order"));
    assert_eq!(open(&run).activity_type, "update-inventory");
    let taken: Value = json!({
        "order_id": "o-1",
        "items": [{"sku": "lamp", "quantity": 2}, {"sku": "bulb", "quantity": 4}],
    });
    assert_eq!(open(&run).input, taken);
}
