//! What a component must be before it is taken: the checks that need no run of it.

use everfold_core::fold::GuestFault;
use wasmtime::component::Component;
use wasmtime::component::types::{ComponentInstance, ComponentItem};

use super::host_interface::{FUNCTIONS, INTERFACE, TYPES_INTERFACE, WORKFLOW_INTERFACE};

/// The first bytes of every WebAssembly binary, and the four after them in a core module and in a
/// component (the component model's `Binary.md`).
const MAGIC: &[u8] = b"\0asm";
const CORE_MODULE: [u8; 4] = [1, 0, 0, 0];
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];

/// Why some bytes are no component that can be deployed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidComponent {
    /// More bytes than the settings allow.
    #[error("the component has {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Something else, WebAssembly's text format included.
    #[error("this is not a WebAssembly binary: it does not begin with \\0asm")]
    NotWebAssembly,
    /// A core module.
    #[error(
        "this is a core WebAssembly module, not a component; make one of it with \
         `wasm-tools component new MODULE.wasm -o COMPONENT.wasm`, or build it with `cargo xtask guests`"
    )]
    CoreModule,
    /// A binary of a version of the format that is not known.
    #[error("this WebAssembly binary is of an unknown version: {0:02x?} after \\0asm")]
    UnknownVersion([u8; 4]),
    /// It is made of more than the host compiles.
    #[error("{whole} has {count} {what}; at most {limit} are allowed")]
    TooComplex {
        /// The component, or a part of it.
        whole: String,
        /// What there is too much of.
        what: &'static str,
        /// How much there is, or was when counting stopped.
        count: u64,
        /// The limit.
        limit: u64,
    },
    /// It does not validate, or uses a feature that is off.
    #[error("the component cannot be compiled: {0}")]
    Malformed(String),
    /// It wants more than the host gives.
    #[error(
        "the component imports {}; a workflow may import `{INTERFACE}` and nothing else",
        quoted(.0)
    )]
    ForeignImports(Vec<String>),
    /// It calls functions that this version's `host` interface does not have.
    #[error("the component imports {} from `{INTERFACE}`, which this host does not have", quoted(.0))]
    UnknownHostFunctions(Vec<String>),
    /// It imports a function of `host` with another signature.
    #[error("the component imports `{INTERFACE}` with other signatures than this host's: {0}")]
    WrongHostSignature(String),
    /// It does not export the `workflow` interface.
    #[error("the component does not export `{WORKFLOW_INTERFACE}`: there is no workflow in it")]
    NoWorkflowInterface,
    /// It exports the interface with other functions or signatures.
    #[error("the component exports `{WORKFLOW_INTERFACE}` with other functions or signatures: {0}")]
    WrongWorkflowSignature(String),
    /// It exports the `query` interface with another function or signature.
    #[error("the component exports `everfold:workflow/query@0.1.0` with another signature: {0}")]
    WrongQuerySignature(String),
    /// It exports the `update` interface with another function or signature.
    #[error("the component exports `everfold:workflow/update@0.1.0` with another signature: {0}")]
    WrongUpdateSignature(String),
    /// It trapped or passed a limit before it could say what it offers.
    #[error("the component cannot be started: {0}")]
    StartFailed(GuestFault),
    /// `describe` trapped or passed a limit.
    #[error("the component cannot say what it offers: {0}")]
    DescribeFailed(GuestFault),
    /// It offers nothing.
    #[error("the component has no workflow type: register one with the SDK")]
    NoWorkflowTypes,
    /// What it says about itself breaks a rule.
    #[error("the component describes itself badly: {0}")]
    BadDescription(String),
}

/// Checks what can be seen in the first bytes.
pub(super) fn check_binary(wasm: &[u8], limit: usize) -> Result<(), InvalidComponent> {
    if wasm.len() > limit {
        return Err(InvalidComponent::TooLarge { size: wasm.len(), limit });
    }
    let version = wasm.strip_prefix(MAGIC).and_then(<[u8]>::first_chunk::<4>);
    match version {
        None => Err(InvalidComponent::NotWebAssembly),
        Some(&CORE_MODULE) => Err(InvalidComponent::CoreModule),
        Some(&COMPONENT) => Ok(()),
        Some(&version) => Err(InvalidComponent::UnknownVersion(version)),
    }
}

/// Checks a component's imports and exports by name; signatures are the linker's part.
pub(super) fn check_interfaces(
    engine: &wasmtime::Engine,
    component: &Component,
) -> Result<(), InvalidComponent> {
    let component = component.component_type();
    let mut foreign = Vec::new();
    let mut unknown = Vec::new();
    for (name, import) in component.imports(engine) {
        match (name, import.ty) {
            (INTERFACE, ComponentItem::ComponentInstance(host)) => {
                unknown.extend(functions(engine, &host).filter(|name| !FUNCTIONS.contains(&name.as_str())));
            }
            (TYPES_INTERFACE, ComponentItem::ComponentInstance(types)) => {
                foreign.extend(functions(engine, &types).map(|function| format!("{name}#{function}")));
            }
            _ => foreign.push(name.to_owned()),
        }
    }
    if !foreign.is_empty() {
        return Err(InvalidComponent::ForeignImports(foreign));
    }
    if !unknown.is_empty() {
        return Err(InvalidComponent::UnknownHostFunctions(unknown));
    }
    match component.get_export(engine, WORKFLOW_INTERFACE).map(|export| export.ty) {
        Some(ComponentItem::ComponentInstance(_)) => Ok(()),
        _ => Err(InvalidComponent::NoWorkflowInterface),
    }
}

/// The names of everything in an interface that is no plain type.
fn functions(engine: &wasmtime::Engine, interface: &ComponentInstance) -> impl Iterator<Item = String> {
    interface
        .exports(engine)
        .filter(|(_, item)| !matches!(item.ty, ComponentItem::Type(_)))
        .map(|(name, _)| name.to_owned())
        .collect::<Vec<_>>()
        .into_iter()
}

/// Names as a list for people, the first few of very many, and of a very long one its beginning.
fn quoted(names: &[String]) -> String {
    const SHOWN: usize = 20;
    const CHARACTERS: usize = 200;
    let mut shown: Vec<String> =
        names.iter().take(SHOWN).map(|name| format!("`{name:.CHARACTERS$}`")).collect();
    if let Some(more @ 1..) = names.len().checked_sub(SHOWN) {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

/// What the compiler says, its beginning: a name that it quotes may have 100,000 bytes.
pub(super) fn said(error: &wasmtime::Error) -> String {
    const CHARACTERS: usize = 2_000;
    let said = format!("{error:#}");
    format!("{said:.CHARACTERS$}")
}
