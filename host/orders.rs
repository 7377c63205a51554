//! The order application.
