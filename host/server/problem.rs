//! The refusals of this module's routes; applications answer with the same type.

pub use crate::problem::{Answer, Code, Problem};
