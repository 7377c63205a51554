//! How far real guests are from the bounds.

use super::{Tally, measure};
use crate::guest::tests::guest;

/// How many times what the largest guest has fits under every limit.
const MARGIN: u64 = 8;

#[test]
fn the_guests_of_this_repository_are_far_below_every_limit() {
    let history =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/histories/0.1.0/order.wasm");
    let recorded = std::fs::read(history).expect("it is committed");
    for wasm in [guest("order"), guest("samples"), guest("hostile"), recorded] {
        let counts = measure(&wasm).expect("a real guest is within all bounds");
        for Tally { bound, count } in counts.tallies() {
            assert!(count * MARGIN <= bound.most, "{count} {}; {} are allowed", bound.what, bound.most);
        }
    }
}
