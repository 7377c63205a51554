//! The macro that makes a crate a component.

/// Exports workflows: the component offers each under the name given. A doc comment becomes the
/// summary that people see.
///
/// ```
/// # use everfold_guest::{Context, Failure};
/// # async fn greet_all(_: Context, _: ()) -> Result<(), Failure> { Ok(()) }
/// # async fn track(_: Context, _: ()) -> Result<(), Failure> { Ok(()) }
/// everfold_guest::export! {
///     /// Greets everybody on the list.
///     "greet-all" => greet_all,
///     /// Follows a parcel until it arrives.
///     "track" => track {
///         /// The parcel arrived.
///         signal "delivered",
///         /// Where it is.
///         query "status",
///     },
/// }
/// # fn main() {}
/// ```
///
/// A workflow is an `async fn(Context, I) -> Result<O, E>`, where `E` is [`Failure`](crate::Failure) or
/// anything else that becomes a [`Stop`](crate::Stop). What it takes and answers is listed behind it, for
/// people; an update that is listed may come before the workflow has a handler for it, and waits. Once for each crate; natively the macro
/// only checks types.
#[macro_export]
macro_rules! export {
    ($($workflows:tt)+) => {
        const _: () = {
            const WORKFLOWS: &[$crate::__component::Workflow] = $crate::__workflows!($($workflows)+);

            #[cfg(target_arch = "wasm32")]
            $crate::__component::export!(WORKFLOWS);

            #[cfg(not(target_arch = "wasm32"))]
            const _: &[$crate::__component::Workflow] = WORKFLOWS;
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __workflows {
    ($(
        $(#[doc = $summary:literal])*
        $name:literal => $workflow:path $({
            $($(#[doc = $handler_summary:literal])* $kind:ident $handler:literal),* $(,)?
        })?
    ),+ $(,)?) => {
        &[$(
            $crate::__component::Workflow::new(
                $name,
                ::std::concat!($($summary),*),
                &[$($(
                    $crate::__component::Handler::new(
                        $crate::__handler_kind!($kind),
                        $handler,
                        ::std::concat!($($handler_summary),*),
                    )
                ),*)?],
                |ctx, input| $crate::__component::body($workflow, ctx, input),
            )
        ),+]
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __handler_kind {
    (signal) => {
        $crate::__component::HandlerKind::Signal
    };
    (query) => {
        $crate::__component::HandlerKind::Query
    };
    (update) => {
        $crate::__component::HandlerKind::Update
    };
    ($other:ident) => {
        ::std::compile_error!(::std::concat!(
            "`",
            ::std::stringify!($other),
            "`: a handler is a `signal`, a `query` or an `update`"
        ))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_component {
    ($workflows:ident) => {
        struct Component;

        impl $crate::__component::Guest for Component {
            fn describe() -> $crate::__component::Description {
                $crate::__component::describe($workflows)
            }

            fn activate(event: $crate::__component::Event) {
                $crate::__component::activate($workflows, event);
            }
        }

        impl $crate::__component::QueryGuest for Component {
            fn query(
                name: ::std::string::String,
                input: $crate::Payload,
            ) -> ::std::result::Result<$crate::Payload, $crate::__component::FailureLinks> {
                $crate::__component::query(&name, &input)
            }
        }

        impl $crate::__component::UpdateGuest for Component {
            fn validate(
                name: ::std::string::String,
                input: $crate::Payload,
                _: ::std::vec::Vec<$crate::__component::Header>,
            ) -> ::std::result::Result<(), $crate::__component::FailureLinks> {
                $crate::__component::validate(&name, &input)
            }
        }

        $crate::__component::bindings::export!(
            Component with_types_in $crate::__component::bindings
        );
    };
}

#[cfg(test)]
mod tests {
    use crate::component::describe;
    use crate::workflow::{HandlerKind, Workflow};
    use crate::{Context, Failure, Stop};

    async fn plain(_: Context, (): ()) -> Result<(), Failure> {
        Ok(())
    }

    async fn endless(ctx: Context, (): ()) -> Result<(), Stop> {
        Err(ctx.continue_as_new(&()).into())
    }

    #[test]
    fn the_description_lists_what_a_workflow_takes_and_answers() {
        const WORKFLOWS: &[Workflow] = crate::__workflows! {
            /// Does it once.
            "plain" => plain,
            /// Does it
            /// for ever.
            "endless" => self::endless {
                /// Says that it is enough.
                signal "enough",
                query "status",
            },
        };
        let [plain, endless] = &describe(WORKFLOWS).workflow_types[..] else { panic!("two were listed") };
        assert_eq!((plain.name.as_str(), plain.summary.as_str()), ("plain", "Does it once."));
        assert_eq!(plain.handlers.len(), 0);
        assert_eq!(endless.summary, "Does it for ever.");
        let handlers: Vec<_> = endless
            .handlers
            .iter()
            .map(|handler| (handler.kind, handler.name.as_str(), handler.summary.as_str()))
            .collect();
        assert_eq!(
            handlers,
            [(HandlerKind::Signal, "enough", "Says that it is enough."), (HandlerKind::Query, "status", ""),],
        );
    }
}
