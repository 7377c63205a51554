//! Parcels: handing an order to the carrier, and calling it back.
//!
//! The carrier is asked first and the answer is written down after, as with payments. It may take its
//! time: then it is asked again and again, with a heartbeat each time, and an attempt goes on from where
//! the one before it was.
//!
//! Where an order goes is fixed before the carrier is first asked (see
//! [`changes`](crate::orders::changes)), so that every attempt names the same address.

use std::sync::Arc;

use async_trait::async_trait;
use everfold_core::failure::Failure;
use serde::{Deserialize, Serialize};

use super::UndoInput;
use crate::activity::{Activity, ActivityContext};
use crate::orders::Shop;
use crate::orders::order::{Quantity, ShipTo};
use crate::orders::steps::{Found, Step, StepError};

const FIRST_PAUSE_MS: u64 = 500;
const LONGEST_PAUSE_MS: u64 = 2_000;

/// `arrange-shipping`.
pub(in crate::orders) struct ArrangeShipping(pub(super) Arc<Shop>);

/// What the activity takes and what the carrier's `POST /shipments` takes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Ship {
    pub(in crate::orders) order_id: String,
    /// For the activity: where to, unless the order's row says otherwise by now.
    pub(in crate::orders) ship_to: ShipTo,
    pub(in crate::orders) items: Vec<Quantity>,
}

/// What the activity returns and what `POST /shipments` answers in the end.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::orders) struct Shipped {
    pub(in crate::orders) shipment_id: String,
    pub(in crate::orders) tracking_number: String,
}

/// What `POST /shipments` answers: the shipment (201), or that it will be known later (202).
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(in crate::orders) enum Answer {
    Confirmed(Shipped),
    Booked { state: Pending },
}

/// The one state of a shipment that is not confirmed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::orders) enum Pending {
    Pending,
}

/// How far it is: the details of its heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::orders) struct Progress {
    stage: Stage,
    /// How often the carrier was asked again.
    polls: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// The carrier has taken the booking.
    Booked,
    /// It was asked again and has not confirmed it yet.
    Confirming,
}

impl Progress {
    /// One answer further: from nothing, or from what this attempt or the one before it had reached.
    fn after(before: Option<Self>) -> Self {
        before.map_or(Self { stage: Stage::Booked, polls: 0 }, |before| Self {
            stage: Stage::Confirming,
            polls: before.polls.saturating_add(1),
        })
    }

    /// Until the carrier is asked again: it doubles with each poll.
    const fn pause_ms(self) -> u64 {
        let doubled = if self.polls < 8 { FIRST_PAUSE_MS << self.polls } else { LONGEST_PAUSE_MS };
        if doubled < LONGEST_PAUSE_MS { doubled } else { LONGEST_PAUSE_MS }
    }
}

#[async_trait]
impl Activity for ArrangeShipping {
    const TYPE: &'static str = "arrange-shipping";
    type Input = Ship;
    type Output = Shipped;

    async fn run(&self, context: &ActivityContext, input: Ship) -> Result<Shipped, Failure> {
        Ok(ship(&self.0, context, input).await?)
    }
}

async fn ship(shop: &Shop, context: &ActivityContext, input: Ship) -> Result<Shipped, StepError> {
    let key = &context.info().idempotency_key;
    let order_id = input.order_id.clone();
    let step = Step { activity_type: ArrangeShipping::TYPE, key, order_id: &order_id };
    let mut read = shop.database.readers().acquire().await?;
    if let Some(shipped) = step.result(&mut read).await? {
        return Ok(shipped);
    }
    drop(read);
    let ship_to = shop.fix_destination(&order_id, &input.ship_to).await?;
    let shipped = ask_carrier(shop, context, &Ship { ship_to, ..input }).await?;

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
    .bind(&order_id)
    .bind(&shipped.tracking_number)
    .bind(now.0)
    .execute(&mut *write)
    .await?;
    step.record(&mut write, &shipped.shipment_id, &shipped, now).await?;
    write.commit().await?;
    Ok(shipped)
}

/// Books the parcel and asks again, under the same key, until the carrier confirms it. Asked to stop,
/// it leaves the booking as it is: the undo, by key, calls it off whether it is confirmed by then or not.
async fn ask_carrier(shop: &Shop, context: &ActivityContext, parcel: &Ship) -> Result<Shipped, Failure> {
    let clock = &shop.clock;
    let mut reached: Option<Progress> = context.heartbeat_details();
    loop {
        let answer = tokio::select! {
            biased;
            answer = shop.carrier.post("/shipments", &context.info().idempotency_key, parcel) => answer?,
            () = context.cancelled() => return Err(context.canceled_failure()),
        };
        match answer {
            Answer::Confirmed(shipped) => return Ok(shipped),
            Answer::Booked { state: Pending::Pending } => {}
        }
        let progress = Progress::after(reached);
        reached = Some(progress);
        context.heartbeat(&progress)?;
        tokio::select! {
            biased;
            () = context.cancelled() => return Err(context.canceled_failure()),
            () = clock.sleep_until(clock.now().plus_ms(progress.pause_ms())) => {}
        }
    }
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
/// booked.
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
        Ok(cancel(&self.0, context, &input).await?)
    }
}

async fn cancel(shop: &Shop, context: &ActivityContext, input: &UndoInput) -> Result<Canceled, StepError> {
    let step = Step { activity_type: ArrangeShipping::TYPE, key: &input.step_key, order_id: &input.order_id };
    let mut read = shop.database.readers().acquire().await?;
    if let Found::TakenBack(canceled) = step.find(&mut read).await? {
        return Ok(canceled);
    }
    drop(read);
    // Also where no shipment is written down here: the carrier alone knows whether one arrived.
    let body = Cancel { order_id: input.order_id.clone(), shipment_key: input.step_key.clone() };
    let key = &context.info().idempotency_key;
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
