//! Parcels: handing an order to the carrier, and calling it back.
//!
//! The carrier is asked first and the answer is written down after, as with payments.

use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::failure::Failure;
use serde::{Deserialize, Serialize};

use super::UndoInput;
use crate::activity::{Activity, ActivityContext};
use crate::orders::Shop;
use crate::orders::order::{Quantity, ShipTo};
use crate::orders::steps::{Found, Step, StepError};

/// `arrange-shipping`.
pub(in crate::orders) struct ArrangeShipping(pub(super) Arc<Shop>);

/// What the activity takes and what the carrier's `POST /shipments` takes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Ship {
    pub(in crate::orders) order_id: String,
    pub(in crate::orders) ship_to: ShipTo,
    pub(in crate::orders) items: Vec<Quantity>,
}

/// What the activity returns and what `POST /shipments` answers.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Shipped {
    pub(in crate::orders) shipment_id: String,
    pub(in crate::orders) tracking_number: String,
}

#[async_trait]
impl Activity for ArrangeShipping {
    const TYPE: &'static str = "arrange-shipping";
    type Input = Ship;
    type Output = Shipped;

    async fn run(&self, context: &ActivityContext, input: Ship) -> Result<Shipped, Failure> {
        Ok(ship(&self.0, &context.info().idempotency_key, &input).await?)
    }
}

async fn ship(shop: &Shop, key: &str, input: &Ship) -> Result<Shipped, StepError> {
    let step = Step { activity_type: ArrangeShipping::TYPE, key, order_id: &input.order_id };
    let mut read = shop.database.readers().acquire().await?;
    if let Some(shipped) = step.result(&mut read).await? {
        return Ok(shipped);
    }
    drop(read);
    let shipped: Shipped = shop.carrier.post("/shipments", key, input).await?;

    let mut write = shop.database.write().await?;
    // Another attempt may have written it down, or an undo passed this one, meanwhile.
    if let Some(shipped) = step.result(&mut write).await? {
        return Ok(shipped);
    }
    let now = shop.clock.now();
    sqlx::query(
        "INSERT INTO shipments (shipment_id, order_id, tracking_number, state, updated_at) \
         VALUES (?, ?, ?, 'arranged', ?)",
    )
    .bind(&shipped.shipment_id)
    .bind(&input.order_id)
    .bind(&shipped.tracking_number)
    .bind(now.0)
    .execute(&mut *write)
    .await?;
    step.record(&mut write, &shipped.shipment_id, &shipped, now).await?;
    write.commit().await?;
    Ok(shipped)
}

/// `cancel-shipment`: the undo of `arrange-shipping`.
pub(in crate::orders) struct CancelShipment(pub(super) Arc<Shop>);

/// What the carrier's `POST /shipments/cancel` takes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Cancel {
    pub(in crate::orders) order_id: String,
    /// The idempotency key of the shipment.
    pub(in crate::orders) shipment_key: String,
}

/// What the activity returns and what `POST /shipments/cancel` answers: false where nothing was
/// handed over.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Canceled {
    pub(in crate::orders) canceled: bool,
}

#[async_trait]
impl Activity for CancelShipment {
    const TYPE: &'static str = "cancel-shipment";
    type Input = UndoInput;
    type Output = Canceled;

    async fn run(&self, context: &ActivityContext, input: UndoInput) -> Result<Canceled, Failure> {
        Ok(cancel(&self.0, &context.info().idempotency_key, &input).await?)
    }
}

async fn cancel(shop: &Shop, key: &str, input: &UndoInput) -> Result<Canceled, StepError> {
    let step = Step { activity_type: ArrangeShipping::TYPE, key: &input.step_key, order_id: &input.order_id };
    let mut read = shop.database.readers().acquire().await?;
    if let Found::TakenBack(canceled) = step.find(&mut read).await? {
        return Ok(canceled);
    }
    drop(read);
    // Also where no shipment is written down here: the carrier alone knows whether one arrived.
    let body = Cancel { order_id: input.order_id.clone(), shipment_key: input.step_key.clone() };
    let canceled: Canceled = shop.carrier.post("/shipments/cancel", key, &body).await?;

    let mut write = shop.database.write().await?;
    let now = shop.clock.now();
    match step.find(&mut write).await? {
        Found::TakenBack(canceled) => return Ok(canceled),
        Found::Nothing => {}
        Found::Done { subject: shipment_id } => {
            sqlx::query("UPDATE shipments SET state = 'canceled', updated_at = ? WHERE shipment_id = ?")
                .bind(now.0)
                .bind(shipment_id)
                .execute(&mut *write)
                .await?;
        }
    }
    step.record_undo(&mut write, &canceled, now).await?;
    write.commit().await?;
    Ok(canceled)
}
