//! Histories that releases have recorded, each with the component that recorded it: they must replay
//! for ever. `tests/histories/VERSION/` holds the components and, for each run, its export.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use everfold::guest::{Engine, EngineSettings};
use everfold_core::divergence::Replaying;
use everfold_core::fold::activations;
use everfold_core::history::{Export, pack, unpack};
use everfold_core::replay::replay;
use support::root;

#[test]
fn recorded_histories_replay() {
    let engine = Engine::new(EngineSettings::default(), None).unwrap();
    let mut replayed = 0;
    for version in std::fs::read_dir(root().join("tests/histories")).unwrap() {
        let folder = version.unwrap().path();
        let component = engine.load(&std::fs::read(folder.join("order.wasm")).unwrap()).unwrap();
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let place = file.display();
            let export = Export::from_json(&std::fs::read(&file).unwrap()).unwrap();
            assert_eq!(export.digest, component.digest(), "{place}");
            let mut unpacked = Vec::new();
            unpack(&pack(&export.events), &mut unpacked).unwrap();
            assert_eq!(unpacked, export.events, "{place}: packing changes nothing");
            let mut instance = component.instantiate().unwrap();
            let held = replay(&mut instance, activations(export.events), Replaying::with(component.digest()));
            assert!(held.is_ok(), "{place}: {held:?}");
            replayed += 1;
        }
    }
    assert!(replayed >= 3, "only {replayed} histories were found");
}
