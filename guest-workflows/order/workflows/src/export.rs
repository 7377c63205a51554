//! What every version of the order component offers.

/// Makes a component of the order workflows, with that function as the workflow `order`.
#[macro_export]
macro_rules! export {
    ($process_order:path) => {
        $crate::__everfold_guest::export! {
            /// Reserves, charges and ships an order; when a step fails, undoes the steps before it.
            "order-saga" => $crate::saga::order_saga {
                /// State, step, attempts, and what was done and undone.
                query "status",
            },
            /// Validates, charges and ships an order; each step that fails has its own handler.
            "order" => $process_order {
                /// State, step, attempts, and what was done and undone.
                query "status",
            },
            /// Follows a parcel until it is delivered.
            "order-tracking" => $crate::tracking::order_tracking {
                /// The parcel arrived: `null`, or `{"delivered_at_ms": …}`.
                signal "order-delivered",
                /// Which parcel it is, since when it is under way, and how often that was checked.
                query "status",
            },
        }
    };
}
