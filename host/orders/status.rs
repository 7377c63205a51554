//! How an order stands, from what its steps have left behind and how its run ended.

use everfold_core::decision::Outcome;
use everfold_core::failure::{Failure, FailureKind};
use everfold_core::machine::RunStatus;
use serde::Serialize;

use super::records::Progress;

/// How an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OrderStatus {
    /// Its run is on disk.
    Accepted,
    /// The payment stands.
    Paid,
    /// The carrier has it.
    Shipped,
    /// It arrived.
    Delivered,
    /// It could not be done; what was done is undone.
    Failed,
    /// It was canceled; what was done is undone.
    Canceled,
}

/// Why an order failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct OrderFailure {
    /// The failure type at the root: `PaymentDeclined`, `OutOfStock`, …
    r#type: String,
    /// For people.
    message: String,
}

/// How an order stands. While its run is open, only what has not been undone counts.
pub(super) fn status(progress: &Progress, run: Option<RunStatus>) -> OrderStatus {
    match run {
        Some(RunStatus::Failed | RunStatus::Terminated | RunStatus::TimedOut) => OrderStatus::Failed,
        Some(RunStatus::Canceled) => OrderStatus::Canceled,
        // Without a run (its history may be gone) the tables alone tell.
        Some(RunStatus::Running | RunStatus::Completed | RunStatus::ContinuedAsNew) | None => {
            let shipment = progress.shipment.as_ref().map(|shipment| shipment.state.as_str());
            let payment = progress.payment.as_ref().map(|payment| payment.state.as_str());
            match (shipment, payment) {
                (Some("delivered"), _) => OrderStatus::Delivered,
                (Some("arranged"), _) => OrderStatus::Shipped,
                (_, Some("charged")) => OrderStatus::Paid,
                _ => OrderStatus::Accepted,
            }
        }
    }
}

/// Why the order failed, if it did.
pub(super) fn failure(status: OrderStatus, outcome: Option<&Outcome>) -> Option<OrderFailure> {
    match (status, outcome) {
        (OrderStatus::Failed, Some(Outcome::Failure(failure))) => Some(OrderFailure::of(failure)),
        (OrderStatus::Failed, Some(Outcome::Result(_) | Outcome::ContinuedAs(_)) | None)
        | (
            OrderStatus::Accepted
            | OrderStatus::Paid
            | OrderStatus::Shipped
            | OrderStatus::Delivered
            | OrderStatus::Canceled,
            _,
        ) => None,
    }
}

impl OrderFailure {
    fn of(failure: &Failure) -> Self {
        // What failed in the end, below the frames that only hand it on.
        let root = failure
            .chain()
            .filter(|link| !matches!(link.kind, FailureKind::Activity(_) | FailureKind::ChildWorkflow(_)))
            .last()
            .unwrap_or(failure);
        let message = if failure.message.contains(&root.message) {
            failure.message.clone()
        } else {
            format!("{}: {}", failure.message, root.message)
        };
        Self { r#type: root.type_name().to_owned(), message }
    }
}

#[cfg(test)]
mod tests {
    use everfold_core::failure::{ActivityFailure, RetryState};
    use everfold_core::ids::EventId;

    use super::*;
    use crate::orders::records::{Payment, Shipment};

    fn progress(payment: Option<&str>, shipment: Option<&str>) -> Progress {
        Progress {
            payment: payment.map(|state| Payment { payment_id: "p".to_owned(), state: state.to_owned() }),
            shipment: shipment.map(|state| Shipment {
                shipment_id: "s".to_owned(),
                tracking_number: "t".to_owned(),
                state: state.to_owned(),
            }),
        }
    }

    #[test]
    fn the_status_follows_the_tables_and_the_run() {
        use OrderStatus as S;
        let cases = [
            (None, None, Some(RunStatus::Running), S::Accepted),
            (Some("charged"), None, Some(RunStatus::Running), S::Paid),
            (Some("charged"), Some("arranged"), Some(RunStatus::Running), S::Shipped),
            (Some("charged"), Some("arranged"), Some(RunStatus::Completed), S::Shipped),
            (Some("charged"), Some("delivered"), Some(RunStatus::Completed), S::Delivered),
            (Some("charged"), Some("arranged"), None, S::Shipped),
            (Some("charged"), Some("canceled"), Some(RunStatus::Running), S::Paid),
            (Some("refunded"), Some("canceled"), Some(RunStatus::Running), S::Accepted),
            (Some("refunded"), None, Some(RunStatus::Failed), S::Failed),
            (Some("refunded"), None, Some(RunStatus::Canceled), S::Canceled),
            (Some("charged"), None, Some(RunStatus::Terminated), S::Failed),
            (None, None, Some(RunStatus::TimedOut), S::Failed),
        ];
        for (payment, shipment, run, expected) in cases {
            assert_eq!(
                status(&progress(payment, shipment), run),
                expected,
                "{payment:?} {shipment:?} {run:?}"
            );
        }
    }

    #[test]
    fn a_failure_names_its_root() {
        let activity = ActivityFailure {
            scheduled_event_id: EventId(5),
            activity_type: "process-payment".to_owned(),
            attempt: 1,
            retry_state: RetryState::NonRetryableFailure,
        };
        let chain = |outer: &str| {
            Outcome::Failure(
                Failure::non_retryable("OrderFailed", outer).caused_by(
                    Failure::new("activity failed", FailureKind::Activity(activity.clone()))
                        .caused_by(Failure::non_retryable("PaymentDeclined", "the card was declined")),
                ),
            )
        };
        let shown = |outer| {
            let failure = failure(OrderStatus::Failed, Some(&chain(outer))).expect("it failed");
            format!("{} | {}", failure.r#type, failure.message)
        };
        assert_eq!(
            shown("the order failed at the payment"),
            "PaymentDeclined | the order failed at the payment: the card was declined"
        );
        assert_eq!(
            shown("no payment, the card was declined"),
            "PaymentDeclined | no payment, the card was declined"
        );
        assert_eq!(failure(OrderStatus::Paid, Some(&chain("x"))), None);
    }
}
