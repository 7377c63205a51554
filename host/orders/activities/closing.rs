//! How an order ends beside being shipped: canceled, or delivered.

use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::failure::Failure;
use everfold_core::ids::Timestamp;
use serde::{Deserialize, Serialize};

use crate::activity::{Activity, ActivityContext};
use crate::orders::Shop;
use crate::orders::changes::{Arrival, deliver};
use crate::orders::steps::{Step, StepError};

/// The order has no such shipment, or it was called back. Final.
const NO_SUCH_SHIPMENT: &str = "NoSuchShipment";

/// `cancel-order`: the order is shown as canceled from now on. What its steps did is undone by their
/// own undos.
pub(in crate::orders) struct CancelOrder(pub(super) Arc<Shop>);

#[derive(Debug, Deserialize)]
pub(in crate::orders) struct CancelInput {
    order_id: String,
    /// For people.
    reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct OrderCanceled {
    /// False for an order that was delivered, or canceled by another activity.
    canceled: bool,
}

#[async_trait]
impl Activity for CancelOrder {
    const TYPE: &'static str = "cancel-order";
    type Input = CancelInput;
    type Output = OrderCanceled;

    async fn run(&self, context: &ActivityContext, input: CancelInput) -> Result<OrderCanceled, Failure> {
        Ok(cancel(&self.0, &context.info().idempotency_key, &input).await?)
    }
}

async fn cancel(shop: &Shop, key: &str, input: &CancelInput) -> Result<OrderCanceled, StepError> {
    let CancelInput { order_id, reason } = input;
    let step = Step { activity_type: CancelOrder::TYPE, key, order_id };
    let mut write = shop.database.write().await?;
    if let Some(canceled) = step.result(&mut write).await? {
        return Ok(canceled);
    }
    let now = shop.clock.now();
    let marked = sqlx::query(
        "INSERT INTO cancellations (order_id, reason, canceled_at) SELECT ?1, ?2, ?3 \
         WHERE NOT EXISTS (SELECT 1 FROM shipments WHERE order_id = ?1 AND state = 'delivered') \
         ON CONFLICT DO NOTHING",
    )
    .bind(order_id)
    .bind(reason)
    .bind(now.0)
    .execute(&mut *write)
    .await?;
    let canceled = OrderCanceled { canceled: marked.rows_affected() > 0 };
    step.record(&mut write, order_id, &canceled, now).await?;
    write.commit().await?;
    Ok(canceled)
}

/// `record-delivery`: the parcel arrived.
pub(in crate::orders) struct RecordDelivery(pub(super) Arc<Shop>);

#[derive(Debug, Deserialize)]
pub(in crate::orders) struct Delivery {
    order_id: String,
    shipment_id: String,
    delivered_at_ms: i64,
}

/// `{}`.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Recorded {}

#[async_trait]
impl Activity for RecordDelivery {
    const TYPE: &'static str = "record-delivery";
    type Input = Delivery;
    type Output = Recorded;

    async fn run(&self, context: &ActivityContext, input: Delivery) -> Result<Recorded, Failure> {
        Ok(record(&self.0, &context.info().idempotency_key, &input).await?)
    }
}

async fn record(shop: &Shop, key: &str, input: &Delivery) -> Result<Recorded, StepError> {
    let Delivery { order_id, shipment_id, delivered_at_ms } = input;
    let step = Step { activity_type: RecordDelivery::TYPE, key, order_id };
    let mut write = shop.database.write().await?;
    if let Some(recorded) = step.result(&mut write).await? {
        return Ok(recorded);
    }
    let now = shop.clock.now();
    let arrival =
        Arrival { order_id, shipment_id, delivered_at: Timestamp(*delivered_at_ms).min(Timestamp::MAX) };
    if !deliver(&mut write, arrival, now).await? {
        let message = format!("order {order_id} has no shipment {shipment_id} under way");
        return Err(Failure::non_retryable(NO_SUCH_SHIPMENT, message).into());
    }
    step.record(&mut write, shipment_id, &Recorded {}, now).await?;
    write.commit().await?;
    Ok(Recorded {})
}
