//! What the handlers of failed steps have in common: each undo out of reach of cancellation, none kept from
//! running by one that fails, and at the end what the customer is told.

use everfold_guest::saga::{Undone, compensate};
use everfold_guest::{ActivityError, Failure, Uuid, error, warn};

use super::{Done, ORDER_PROCESSING_FAILED};
use crate::activities::{CANCEL_SHIPMENT, REFUND_PAYMENT, RESTOCK_INVENTORY};
use crate::fulfilment::{End, Fulfilment};
use crate::message::{Money, Step, what_went_wrong};

/// Why an order is undone that was cancelled, in a clause for the customer.
const CANCELED: &str = "Your order was cancelled";

/// Undoes what was done for one order.
pub(super) struct Handler<'a> {
    run: &'a Fulfilment,
    /// Absent where no step failed.
    error: Option<ActivityError>,
    end: End,
    /// Why, in a clause for the customer.
    reason: &'static str,
    /// Where the customer's money is.
    money: Money,
    undone: Undone,
}

impl<'a> Handler<'a> {
    /// Handles that step's failure.
    pub(super) fn of(run: &'a Fulfilment, step: Step, error: ActivityError) -> Self {
        let end = run.end_of_step(&error);
        let reason = match end {
            End::Failed => what_went_wrong(step, &error),
            End::Canceled => CANCELED,
        };
        warn!(run.ctx, "order could not be processed", reason = error);
        Self::because(run, Some(error), end, reason)
    }

    /// Handles a cancellation at which all went well.
    pub(super) fn canceled(run: &'a Fulfilment) -> Self {
        warn!(run.ctx, "order cancelled while it was shipped");
        Self::because(run, None, End::Canceled, CANCELED)
    }

    fn because(run: &'a Fulfilment, error: Option<ActivityError>, end: End, reason: &'static str) -> Self {
        run.progress.compensating(reason.to_owned());
        Self { run, error, end, reason, money: Money::NotCharged, undone: Undone::default() }
    }

    /// Whether the failed step is known to have done nothing.
    pub(super) fn step_had_no_effect(&self) -> bool {
        self.error.as_ref().is_some_and(ActivityError::had_no_effect)
    }

    /// Undoes the steps before, latest first, and closes the order.
    pub(super) async fn take_back(mut self, done: &[Done]) -> Failure {
        for step in done.iter().rev() {
            match *step {
                Done::Payment(key) => self.refund(key, Money::Returned).await,
                Done::Inventory(key) => self.restock(key).await,
                Done::Shipment(key) => self.cancel_shipment(key).await,
            }
        }
        self.undo("cancel-order", self.run.cancel_order(self.reason)).await;
        self.fail()
    }

    /// Undoes a shipment.
    pub(super) async fn cancel_shipment(&mut self, key: Uuid) {
        self.undo(CANCEL_SHIPMENT.name(), self.run.undo(CANCEL_SHIPMENT, key)).await;
    }

    /// Puts the goods back.
    pub(super) async fn restock(&mut self, key: Uuid) {
        self.undo(RESTOCK_INVENTORY.name(), self.run.undo(RESTOCK_INVENTORY, key)).await;
    }

    /// Gives the money back; it is `returned` then, if all goes well.
    pub(super) async fn refund(&mut self, key: Uuid, returned: Money) {
        let failed_before = self.undone.failures.len();
        self.undo(REFUND_PAYMENT.name(), self.run.undo(REFUND_PAYMENT, key)).await;
        let all_well = self.undone.failures.len() == failed_before;
        self.money = if all_well { returned } else { Money::ReturnDelayed };
    }

    async fn undo<O>(&mut self, name: &str, undo: impl Future<Output = Result<O, ActivityError>>) {
        if let Err(left) = compensate(&self.run.ctx, name, undo).await {
            error!(self.run.ctx, "not undone", compensation = left.compensation, reason = left.failure);
            self.undone.failures.push(left);
        }
    }

    /// The run's failure, told to the customer.
    pub(super) fn fail(self) -> Failure {
        let message = format!("{}; {}.", self.reason, self.money);
        self.run.progress.tell(&message);
        let failure = match self.end {
            End::Failed => Failure::application(ORDER_PROCESSING_FAILED, message).non_retryable(),
            End::Canceled => self.run.canceled(),
        };
        let failure = self.undone.report_in(failure);
        match self.error {
            Some(error) => failure.with_cause(error),
            None => failure,
        }
    }
}
