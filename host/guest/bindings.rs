//! What wasmtime generates from `wit/`. Private to the guest: [`convert`](super::convert) turns
//! these shapes into the core's.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "workflow-component",
    imports: { default: trappable },
});
