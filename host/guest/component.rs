//! A component that was checked, compiled and asked what it offers.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everfold_core::fold::GuestFault;
use everfold_core::ids::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, ComponentExportIndex};
use wasmtime::{PoolConcurrencyLimitError, Store};

use super::bindings::{WorkflowComponent, WorkflowComponentPre};
use super::bounds::check_bounds;
use super::description::Description;
use super::engine::{Allocation, Engine, NoInstance};
use super::fault;
use super::inspect::{InvalidComponent, check_binary, check_interfaces, said};
use super::instance::Instance;
use super::replica::{QUERY_INTERFACE, UPDATE_INTERFACE, query_function, validate_function};
use super::state::GuestState;
use super::ticker::Ticker;

/// A component, ready to be instantiated. Cheap to clone.
#[derive(Clone)]
pub struct LoadedComponent {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    pre: WorkflowComponentPre<GuestState>,
    digest: Digest,
    size: usize,
    description: Description,
    /// Present if it answers questions.
    query: Option<ComponentExportIndex>,
    /// Present if it validates updates.
    validate: Option<ComponentExportIndex>,
    compile_time: Option<Duration>,
}

impl fmt::Debug for LoadedComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedComponent")
            .field("digest", &self.inner.digest)
            .field("description", &self.inner.description)
            .finish_non_exhaustive()
    }
}

impl LoadedComponent {
    pub(super) fn load(engine: &Engine, wasm: &[u8]) -> Result<Self, InvalidComponent> {
        check_binary(wasm, engine.settings().component_bytes)?;
        let digest = Digest(Sha256::digest(wasm).into());
        let cached = engine.code_cache().and_then(|cache| cache.get(engine.wasmtime(), digest));
        let (component, compile_time) = match cached {
            Some(component) => (component, None),
            None => {
                check_bounds(wasm)?;
                compile(engine, wasm)?
            }
        };
        check_interfaces(engine.wasmtime(), &component)?;
        let pre = engine
            .linker()
            .instantiate_pre(&component)
            .map_err(|error| InvalidComponent::WrongHostSignature(said(&error)))?;
        let pre = WorkflowComponentPre::new(pre)
            .map_err(|error| InvalidComponent::WrongWorkflowSignature(said(&error)))?;
        let export = |interface, function| {
            let interface = component.get_export_index(None, interface)?;
            component.get_export_index(Some(&interface), function)
        };
        let query = export(QUERY_INTERFACE, "query");
        let validate = export(UPDATE_INTERFACE, "validate");
        let description = describe(engine, &pre, query.as_ref(), validate.as_ref())?;
        if let (Some(cache), Some(_)) = (engine.code_cache(), compile_time) {
            cache.put(engine.wasmtime(), digest, &component);
        }
        let engine = engine.clone();
        let size = wasm.len();
        let inner = Inner { engine, pre, digest, size, description, query, validate, compile_time };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The SHA-256 of its bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// What it offers.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.inner.description
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.inner.size
    }

    /// How long its compilation took; absent when its code came from the cache.
    #[must_use]
    pub fn compile_time(&self) -> Option<Duration> {
        self.inner.compile_time
    }

    /// How many hold its code: this one, every clone, instance and replica.
    #[must_use]
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.inner)
    }

    /// A new instance, which has folded nothing yet.
    ///
    /// # Errors
    /// When the host has no room for it, or its start trapped or passed a limit.
    pub fn instantiate(&self) -> Result<Instance, NoInstance> {
        let mut store = new_store(self.engine());
        match self.inner.pre.instantiate(&mut store) {
            Ok(guest) => Ok(Instance::new(self.clone(), store, guest)),
            Err(error) => Err(no_instance(error, &mut store, self.engine())),
        }
    }

    pub(super) fn new_store(&self) -> Store<GuestState> {
        new_store(self.engine())
    }

    pub(super) fn pre(&self) -> &WorkflowComponentPre<GuestState> {
        &self.inner.pre
    }

    /// Where its answers to questions are exported, if it answers any.
    pub(super) fn query_index(&self) -> Option<&ComponentExportIndex> {
        self.inner.query.as_ref()
    }

    /// Where its validator of updates is exported, if it has one.
    pub(super) fn validate_index(&self) -> Option<&ComponentExportIndex> {
        self.inner.validate.as_ref()
    }

    /// Whether it has a say in which updates are admitted.
    #[must_use]
    pub fn validates_updates(&self) -> bool {
        self.inner.validate.is_some()
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.inner.engine
    }
}

/// What an error of an instance's start means.
pub(super) fn no_instance(
    error: wasmtime::Error,
    store: &mut Store<GuestState>,
    engine: &Engine,
) -> NoInstance {
    match engine.settings().allocation {
        Allocation::Pooled { instances } if error.is::<PoolConcurrencyLimitError>() => {
            NoInstance::Full(instances)
        }
        Allocation::Pooled { .. } | Allocation::OnDemand => fault_of(error, store, engine).into(),
    }
}

/// Compiles, one component at a time: a compiler's memory is many times the size of what it compiles,
/// and it uses all cores by itself.
fn compile(engine: &Engine, wasm: &[u8]) -> Result<(Component, Option<Duration>), InvalidComponent> {
    let _alone = engine.compiling();
    let begun = Instant::now();
    let component = Component::from_binary(engine.wasmtime(), wasm)
        .map_err(|error| InvalidComponent::Malformed(said(&error)))?;
    Ok((component, Some(begun.elapsed())))
}

/// Asks a component what it offers, in an instance of its own.
fn describe(
    engine: &Engine,
    pre: &WorkflowComponentPre<GuestState>,
    query: Option<&ComponentExportIndex>,
    validate: Option<&ComponentExportIndex>,
) -> Result<Description, InvalidComponent> {
    let mut store = new_store(engine);
    let instance = pre
        .instance_pre()
        .instantiate(&mut store)
        .map_err(|error| InvalidComponent::StartFailed(fault_of(error, &mut store, engine)))?;
    let guest = WorkflowComponent::new(&mut store, &instance)
        .map_err(|error| InvalidComponent::WrongWorkflowSignature(said(&error)))?;
    if let Some(query) = query {
        query_function(query, &instance, &mut store)
            .map_err(|error| InvalidComponent::WrongQuerySignature(said(&error)))?;
    }
    if let Some(validate) = validate {
        validate_function(validate, &instance, &mut store)
            .map_err(|error| InvalidComponent::WrongUpdateSignature(said(&error)))?;
    }
    set_deadline(&mut store, engine);
    let description = guest
        .everfold_workflow_workflow()
        .call_describe(&mut store)
        .map_err(|error| InvalidComponent::DescribeFailed(fault_of(error, &mut store, engine)))?;
    Description::checked(description)
}

/// A store whose limits are in force from the component's start on.
fn new_store(engine: &Engine) -> Store<GuestState> {
    let mut store = Store::new(engine.wasmtime(), GuestState::new(engine.settings()));
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(engine.settings().call_bytes);
    set_deadline(&mut store, engine);
    store
}

/// Gives the guest its time from now on.
pub(super) fn set_deadline(store: &mut Store<GuestState>, engine: &Engine) {
    store.set_epoch_deadline(Ticker::ticks(engine.settings().activation_time));
}

/// The fault that an error of a call means.
pub(super) fn fault_of(error: wasmtime::Error, store: &mut Store<GuestState>, engine: &Engine) -> GuestFault {
    fault::of(error, store.data_mut().panic.take(), engine.settings())
}
