//! Log lines of a workflow: observations, which come out once, after the activation is committed.

pub use crate::bindings::everfold::workflow::host::LogLevel as Level;

/// Logs a line with fields, at the level that is its first argument.
///
/// ```ignore
/// log!(Level::Info, ctx, "paid", payment_id = payment.id, amount_cents = 1200);
/// ```
///
/// The message may name variables in braces, as with `format!`. A field's value is anything that
/// implements `Display`.
#[macro_export]
macro_rules! log {
    ($level:expr, $ctx:expr, $message:literal $(, $key:ident = $value:expr)* $(,)?) => {
        $ctx.log(
            $level,
            ::std::module_path!(),
            &::std::format!($message),
            &[$((
                ::std::string::String::from(::std::stringify!($key)),
                ::std::string::ToString::to_string(&$value),
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
