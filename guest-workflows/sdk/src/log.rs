//! Log lines of a workflow: observations, which come out once, after the activation is committed.

pub use crate::bindings::everfold::workflow::host::LogLevel as Level;

/// Logs a line with fields, at the level that is its first argument.
///
/// ```
/// # use everfold_guest::{Context, Level, log};
/// fn paid(ctx: &Context, payment_id: &str, cents: u64) {
///     log!(Level::Info, ctx, "paid by {payment_id}", payment_id, euros = cents / 100);
/// }
/// ```
///
/// The message may name variables in braces, as with `format!`. A field is a variable, or a name and
/// its value; values are anything that implements `Display`.
#[macro_export]
macro_rules! log {
    (@value $key:ident) => { ::std::string::ToString::to_string(&$key) };
    (@value $key:ident = $value:expr) => { ::std::string::ToString::to_string(&$value) };
    ($level:expr, $ctx:expr, $message:literal $(, $key:ident $(= $value:expr)?)* $(,)?) => {
        $ctx.log(
            $level,
            ::std::module_path!(),
            &::std::format!($message),
            &[$((
                ::std::string::String::from(::std::stringify!($key)),
                $crate::log!(@value $key $(= $value)?),
            )),*],
        )
    };
}

/// Logs what only a developer of the workflow wants to see: `debug!(ctx, "message", key = value)`.
#[macro_export]
macro_rules! debug {
    ($($line:tt)*) => { $crate::log!($crate::Level::Debug, $($line)*) };
}

/// Logs what went as planned: `info!(ctx, "message", key = value)`.
#[macro_export]
macro_rules! info {
    ($($line:tt)*) => { $crate::log!($crate::Level::Info, $($line)*) };
}

/// Logs what somebody might have to look at: `warn!(ctx, "message", key = value)`.
#[macro_export]
macro_rules! warn {
    ($($line:tt)*) => { $crate::log!($crate::Level::Warn, $($line)*) };
}

/// Logs what somebody has to look at: `error!(ctx, "message", key = value)`.
#[macro_export]
macro_rules! error {
    ($($line:tt)*) => { $crate::log!($crate::Level::Error, $($line)*) };
}
