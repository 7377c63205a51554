//! The order workflows. Two ways to fulfil an order, the same article told twice: [`saga`] collects the
//! undoing of each step as it goes, [`processing`] has a handler for each step that can fail. Both end by
//! starting [`tracking`], which follows the parcel.
//!
//! [`activities`] is what they ask for, [`order`] what they are about, [`fulfilment`] what they share.
//!
//! A library, and no component: each version of the order workflows is a component of its own that
//! [exports](export!) what is here, and brings with it what it changes.

pub mod activities;
mod export;
pub mod fulfilment;
mod message;
pub mod order;
pub mod processing;
pub mod saga;
mod status;
pub mod tracking;

/// What the macro expands to. Not for authors.
#[doc(hidden)]
pub use everfold_guest as __everfold_guest;
