//! The workflow `order-tracking`: waits until the parcel has arrived, and goes on as a new run each day,
//! so that its history stays short however long that takes.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use everfold_guest::{Context, Failure, InvalidSignal, SignalError, Stop, Timestamp, info, warn};
use futures::select_biased;
use serde::{Deserialize, Serialize};

use crate::activities::{RECORD_DELIVERY, RecordDelivery};
use crate::fulfilment::Shipped;
use crate::status::{STATUS, State};

/// The type under which the component exports the workflow.
pub const ORDER_TRACKING: &str = "order-tracking";

/// The signal that the parcel has arrived.
pub const ORDER_DELIVERED: &str = "order-delivered";

/// How long a run waits before it goes on as a new one.
const CHECK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// A parcel on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracking {
    /// The order's own id.
    pub order_id: String,
    /// What the shipment is known by.
    pub shipment_id: String,
    /// What the customer follows it by.
    pub tracking_number: String,
    /// When it was shipped.
    pub since_ms: u64,
    /// How many days it was waited for in vain.
    #[serde(default)]
    pub checks: u32,
    /// When the run goes on as a new one, so that days do not drift; a day from now in the first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_check_ms: Option<u64>,
}

/// A parcel that has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The order's own id.
    pub order_id: String,
    /// When it arrived.
    pub delivered_at_ms: u64,
    /// How many days it was waited for in vain.
    pub checks: u32,
}

/// The input of the signal, where there is any.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Delivery {
    delivered_at_ms: u64,
}

/// What the signal says, or that it cannot be read.
type News = Result<Option<Delivery>, InvalidSignal>;

/// The answer to the query `status`.
#[derive(Serialize)]
struct Status {
    state: State,
    order_id: String,
    tracking_number: String,
    checks: u32,
    since_ms: u64,
}

/// Follows the parcel of an order that was shipped, in a run that goes its own way.
pub(crate) fn start(ctx: &Context, shipped: &Shipped) {
    let tracking = Tracking {
        order_id: shipped.order_id.clone(),
        shipment_id: shipped.shipment_id.clone(),
        tracking_number: shipped.tracking_number.clone(),
        since_ms: ctx.now().as_unix_ms(),
        checks: 0,
        next_check_ms: None,
    };
    ctx.start_detached(ORDER_TRACKING, &format!("{ORDER_TRACKING}-{}", shipped.order_id), &tracking);
}

/// Waits for the signal [`ORDER_DELIVERED`] and records the delivery; after a day without it, goes on as a
/// new run.
///
/// # Errors
///
/// The next run; a cancellation; or the failure of the activity that records the delivery.
pub async fn order_tracking(ctx: Context, tracking: Tracking) -> Result<Delivered, Stop> {
    let state = answer_status(&ctx, &tracking);
    let next_check = tracking.next_check_ms.map_or(ctx.now() + CHECK_EVERY, Timestamp::from_unix_ms);
    match wait(&ctx, next_check).await {
        Ok(Some(news)) => {
            let result = record(&ctx, &tracking, delivered_at_ms(&ctx, news)).await;
            state.set(State::at_end(&ctx, &result));
            Ok(result?)
        }
        Ok(None) => {
            info!(ctx, "no delivery today", order_id = tracking.order_id, checks = tracking.checks);
            let checks = tracking.checks.saturating_add(1);
            let next_check_ms = Some((next_check + CHECK_EVERY).as_unix_ms());
            let next = Tracking { checks, next_check_ms, ..tracking };
            Err(ctx.continue_as_new(&next).into())
        }
        Err(canceled) => {
            state.set(State::Canceled);
            Err(canceled.into())
        }
    }
}

fn answer_status(ctx: &Context, tracking: &Tracking) -> Rc<Cell<State>> {
    let state = Rc::new(Cell::new(State::Running));
    ctx.on_query(STATUS, {
        let state = Rc::clone(&state);
        let tracking = tracking.clone();
        move |(): ()| Status {
            state: state.get(),
            order_id: tracking.order_id.clone(),
            tracking_number: tracking.tracking_number.clone(),
            checks: tracking.checks,
            since_ms: tracking.since_ms,
        }
    });
    state
}

/// Waits for news until the next check. Where news has come when that is due, it counts.
async fn wait(ctx: &Context, next_check: Timestamp) -> Result<Option<News>, Failure> {
    let deliveries = ctx.signal::<Option<Delivery>>(ORDER_DELIVERED);
    let mut delivery = deliveries.recv();
    let mut day = ctx.sleep_until(next_check).summary("until the next check");
    select_biased! {
        received = delivery => match received {
            Ok(news) => Ok(Some(Ok(news))),
            Err(SignalError::Invalid(invalid)) => Ok(Some(Err(invalid))),
            Err(SignalError::Canceled(canceled)) => Err(canceled.into()),
        },
        passed = day => {
            passed?;
            Ok(deliveries.try_recv())
        }
    }
}

/// When the parcel arrived, as far as the news tells; now, if it does not. That it arrived is not in
/// doubt: the signal's name says so.
fn delivered_at_ms(ctx: &Context, news: News) -> u64 {
    let now_ms = ctx.now().as_unix_ms();
    match news {
        Ok(delivery) => delivery.map_or(now_ms, |delivery| delivery.delivered_at_ms),
        Err(invalid) => {
            warn!(ctx, "the news of a delivery cannot be read, it is taken as of now", reason = invalid);
            now_ms
        }
    }
}

/// Out of reach of cancellation: the signal is taken, and nobody would send it again.
async fn record(ctx: &Context, tracking: &Tracking, delivered_at_ms: u64) -> Result<Delivered, Failure> {
    let Tracking { order_id, shipment_id, checks, .. } = tracking.clone();
    let delivery = RecordDelivery { order_id, shipment_id, delivered_at_ms };
    ctx.shield(ctx.execute(RECORD_DELIVERY, &delivery)).await?;
    info!(ctx, "order delivered", order_id = delivery.order_id, checks);
    Ok(Delivered { order_id: delivery.order_id, delivered_at_ms, checks })
}
