//! What wit-bindgen generates from `wit/`. Nothing is written here by hand; the types that authors
//! see are re-exported, with their methods, by the modules that own them.

#![allow(unsafe_code, reason = "the canonical ABI is pointers and lengths")]
#![allow(missing_docs, unreachable_pub, reason = "generated code")]
#![allow(clippy::all, reason = "generated code")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "updatable-workflow-component",
    pub_export_macro: true,
    default_bindings_module: "everfold_guest::__component::bindings",
    additional_derives: [PartialEq],
});
