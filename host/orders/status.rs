//! How an order stands, from what its steps have left behind and how its run ended.

use everfold_core::decision::Outcome;
use everfold_core::failure::{Failure, FailureKind};
use everfold_core::machine::RunStatus;
use serde::Serialize;
use utoipa::ToSchema;

use super::records::Progress;

/// The failure type of a run whose message is written for the customer as it is.
const ORDER_PROCESSING_FAILED: &str = "OrderProcessingFailed";

/// How an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct OrderFailure {
    /// The failure type at the root: `PaymentDeclined`, `OutOfStock`, …
    r#type: String,
    /// For people.
    message: String,
}

impl OrderStatus {
    /// Its name in text and JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// All of them.
    pub(super) const ALL: [Self; 6] =
        [Self::Accepted, Self::Paid, Self::Shipped, Self::Delivered, Self::Failed, Self::Canceled];
}

/// How an order stands. While its run is open, only what has not been undone counts.
pub(super) fn status(progress: &Progress, run: Option<RunStatus>) -> OrderStatus {
    match run {
        Some(RunStatus::Canceled) => OrderStatus::Canceled,
        // A workflow may cancel the order and fail then, to say why. One that ships it did so behind a reset.
        _ if progress.cancellation.is_some() && !has_shipped(progress, run) => OrderStatus::Canceled,
        Some(RunStatus::Failed | RunStatus::Terminated | RunStatus::TimedOut) => OrderStatus::Failed,
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

/// Whether the order's run completed and a shipment is under way.
fn has_shipped(progress: &Progress, run: Option<RunStatus>) -> bool {
    let shipment = progress.shipment.as_ref().map(|shipment| shipment.state.as_str());
    run == Some(RunStatus::Completed) && matches!(shipment, Some("arranged" | "delivered"))
}

/// Why the order's run failed, if it did.
pub(super) fn failure(run: Option<RunStatus>, outcome: Option<&Outcome>) -> Option<OrderFailure> {
    match (run?, outcome?) {
        (RunStatus::Failed | RunStatus::Terminated | RunStatus::TimedOut, Outcome::Failure(failure)) => {
            Some(OrderFailure::of(failure))
        }
        (
            RunStatus::Running
            | RunStatus::Completed
            | RunStatus::Canceled
            | RunStatus::ContinuedAsNew
            | RunStatus::Failed
            | RunStatus::Terminated
            | RunStatus::TimedOut,
            Outcome::Failure(_) | Outcome::Result(_) | Outcome::ContinuedAs(_),
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
        let is_for_customers = failure.type_name() == ORDER_PROCESSING_FAILED;
        let message = if is_for_customers || failure.message.contains(&root.message) {
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
    use crate::orders::records::{Cancellation, Payment, Shipment};

    fn progress(payment: Option<&str>, shipment: Option<&str>) -> Progress {
        Progress {
            payment: payment.map(|state| Payment { payment_id: "p".to_owned(), state: state.to_owned() }),
            shipment: shipment.map(|state| Shipment {
                shipment_id: "s".to_owned(),
                tracking_number: "t".to_owned(),
                state: state.to_owned(),
                delivered_at: None,
            }),
            cancellation: None,
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
        let canceled = Progress {
            cancellation: Some(Cancellation { reason: "no payment".to_owned() }),
            ..progress(Some("refunded"), None)
        };
        for run in [RunStatus::Running, RunStatus::Failed, RunStatus::Canceled, RunStatus::Completed] {
            assert_eq!(status(&canceled, Some(run)), S::Canceled, "{run:?}");
        }
        let shipped =
            Progress { cancellation: canceled.cancellation, ..progress(Some("charged"), Some("arranged")) };
        assert_eq!(status(&shipped, Some(RunStatus::Completed)), S::Shipped, "its run was reset");
    }

    #[test]
    fn a_failure_names_its_root() {
        let activity = ActivityFailure {
            scheduled_event_id: EventId(5),
            activity_type: "process-payment".to_owned(),
            attempt: 1,
            retry_state: RetryState::NonRetryableFailure,
        };
        let chain = |r#type: &str, outer: &str| {
            Outcome::Failure(
                Failure::non_retryable(r#type, outer).caused_by(
                    Failure::new("activity failed", FailureKind::Activity(activity.clone()))
                        .caused_by(Failure::non_retryable("PaymentDeclined", "the card was declined")),
                ),
            )
        };
        let shown_as = |r#type, outer| {
            let failure = failure(Some(RunStatus::Failed), Some(&chain(r#type, outer))).expect("it failed");
            format!("{} | {}", failure.r#type, failure.message)
        };
        let shown = |outer| shown_as("OrderFailed", outer);
        assert_eq!(
            shown("the order failed at the payment"),
            "PaymentDeclined | the order failed at the payment: the card was declined"
        );
        assert_eq!(
            shown("no payment, the card was declined"),
            "PaymentDeclined | no payment, the card was declined"
        );
        assert_eq!(
            shown_as(ORDER_PROCESSING_FAILED, "we could not take your payment"),
            "PaymentDeclined | we could not take your payment"
        );
        assert_eq!(failure(Some(RunStatus::Canceled), Some(&chain("OrderFailed", "x"))), None);
        assert_eq!(failure(None, None), None);
    }
}
