//! What the ways to fulfil an order share: steps and undos under keys, what the run tells of itself
//! meanwhile, and what happens when it is over.
//!
//! Must never decide what is undone: that is where the ways differ.

use everfold_guest::failure::RetryState;
use everfold_guest::{Activity, ActivityError, Context, Failure, Timestamp, Uuid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::activities::{CANCEL_ORDER, OrderCanceled, Undo};
use crate::order::Order;
use crate::status::{Progress, State};
use crate::tracking;

/// What became of an order that was shipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    /// The order's own id.
    pub order_id: String,
    /// What was charged.
    pub amount_cents: i64,
    /// What the reservation is known by, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation_id: Option<String>,
    /// What the payment is known by.
    pub payment_id: String,
    /// What the shipment is known by.
    pub shipment_id: String,
    /// What the customer follows it by.
    pub tracking_number: String,
}

/// An order on its way.
#[derive(Debug)]
pub(crate) struct Fulfilment {
    pub(crate) ctx: Context,
    pub(crate) order: Order,
    pub(crate) progress: Progress,
    began: Timestamp,
}

/// How a step ended that gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It failed.
    Failed,
    /// The run was cancelled, and the step with it.
    Canceled,
}

impl Fulfilment {
    /// Begins, and answers for it.
    pub(crate) fn begin(ctx: Context, order: Order) -> Self {
        let progress = Progress::answering(&ctx);
        Self { began: ctx.now(), ctx, order, progress }
    }

    /// Makes a step.
    pub(crate) async fn step<I, O>(&self, step: Activity<I, O>, input: &I) -> Result<O, ActivityError>
    where
        I: Serialize,
        O: DeserializeOwned,
    {
        let name = step.name().to_owned();
        self.progress.at(&name);
        match self.ctx.execute(step, input).with_attempt().await {
            Ok((output, attempt)) => {
                self.progress.done(&name, attempt);
                Ok(output)
            }
            Err(error) => {
                self.progress.ended(&name, error.attempt());
                Err(error)
            }
        }
    }

    /// Undoes the step that was made under that key; not before it is polled.
    pub(crate) fn undo<O>(
        &self,
        undo: Activity<Undo, O>,
        step_key: Uuid,
    ) -> impl Future<Output = Result<O, ActivityError>> + 'static + use<O>
    where
        O: DeserializeOwned + 'static,
    {
        let input = self.order.undo(step_key);
        self.compensation(undo, input)
    }

    /// Closes the order for the customer; not before it is polled.
    pub(crate) fn cancel_order(
        &self,
        reason: &str,
    ) -> impl Future<Output = Result<OrderCanceled, ActivityError>> + 'static + use<> {
        let input = self.order.cancel(reason);
        self.compensation(CANCEL_ORDER, input)
    }

    fn compensation<I, O>(
        &self,
        undo: Activity<I, O>,
        input: I,
    ) -> impl Future<Output = Result<O, ActivityError>> + 'static + use<I, O>
    where
        I: Serialize + 'static,
        O: DeserializeOwned + 'static,
    {
        let (ctx, progress) = (self.ctx.clone(), self.progress.clone());
        async move {
            let name = undo.name().to_owned();
            progress.at(&name);
            let result = ctx.execute(undo, &input).await;
            match &result {
                Ok(_) => progress.undone(&name),
                Err(_) => progress.not_undone(),
            }
            result
        }
    }

    /// Whether it was the run's cancellation that ended a step. To be asked before anything is undone:
    /// cancellation that comes later changes nothing.
    pub(crate) fn end_of_step(&self, error: &ActivityError) -> End {
        let gave_way = error.is_canceled() || error.retry_state() == Some(RetryState::CancelRequested);
        if gave_way && self.ctx.is_cancel_requested() { End::Canceled } else { End::Failed }
    }

    /// The failure of a run that was cancelled.
    pub(crate) fn canceled(&self) -> Failure {
        Failure::canceled(format!("order {} was cancelled", self.order.order_id), Vec::new())
    }

    /// The run's last act: what it was is measured, and a parcel on its way is followed.
    pub(crate) fn end(&self, result: &Result<Shipped, Failure>) {
        let state = State::at_end(&self.ctx, result);
        self.progress.end(state, result);
        let outcome = match state {
            State::Completed => "shipped",
            State::Canceled => "canceled",
            State::Running | State::Compensating | State::Failed => "failed",
        };
        let took = self.ctx.now() - self.began;
        self.ctx
            .histogram("order_processing_seconds")
            .attribute("outcome", outcome)
            .record(took.as_secs_f64());
        if let Ok(shipped) = result {
            // A sum of money is exact up to 2⁵³ cents.
            self.ctx
                .counter("order_amount_cents_total")
                .attribute("currency", &self.order.currency)
                .add(shipped.amount_cents as f64);
            tracking::start(&self.ctx, shipped);
        }
    }
}
