//! The macro that makes a crate a component.

/// Exports workflows: the component offers each under the name given. A doc comment becomes the
/// summary that people see.
///
/// ```ignore
/// everfold_guest::export! {
///     /// Greets everybody on the list.
///     "greet-all" => greet_all,
/// }
/// ```
///
/// A workflow is an `async fn(Context, I) -> Result<O, Failure>`. Once for each crate; natively the
/// macro only checks types.
#[macro_export]
macro_rules! export {
    ($($(#[doc = $summary:literal])* $name:literal => $workflow:path),+ $(,)?) => {
        const _: () = {
            const WORKFLOWS: &[$crate::__component::Workflow] = &[$(
                $crate::__component::Workflow::new(
                    $name,
                    ::std::concat!($($summary),*),
                    |ctx, input| $crate::__component::body($workflow, ctx, input),
                )
            ),+];

            #[cfg(target_arch = "wasm32")]
            $crate::__component::export!(WORKFLOWS);

            #[cfg(not(target_arch = "wasm32"))]
            const _: &[$crate::__component::Workflow] = WORKFLOWS;
        };
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

        $crate::__component::bindings::export!(
            Component with_types_in $crate::__component::bindings
        );
    };
}
