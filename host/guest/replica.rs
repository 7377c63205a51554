//! Replicas: instances that answer questions about a run, folded from its committed history. A
//! replica is never used for anything else; a command that it makes while it answers is a fault.

use std::fmt;

use everfold_core::failure::Failure;
use everfold_core::fold::{Activated, Activation, Guest, GuestFault};
use everfold_core::payload::Payload;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, Instance as WasmInstance, TypedFunc};

use super::bindings::WorkflowComponent;
use super::bindings::everfold::workflow::types;
use super::component::{LoadedComponent, fault_of, no_instance, set_deadline};
use super::convert::{lift, lower};
use super::engine::NoInstance;
use super::instance::Instance;
use super::observation::Observation;
use super::state::GuestState;

/// The interface by which a component answers questions.
pub(super) const QUERY_INTERFACE: &str = "everfold:workflow/query@0.1.0";

/// The function that answers.
pub(super) type QueryFunction =
    TypedFunc<(String, types::Payload), (Result<types::Payload, types::Failure>,)>;

/// An instance that folds and answers.
pub struct Replica {
    instance: Instance,
    query: QueryFunction,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replica").field(&self.instance).finish()
    }
}

/// Finds the function that answers in an instance of a component that exports it.
pub(super) fn query_function(
    index: &ComponentExportIndex,
    instance: &WasmInstance,
    store: &mut Store<GuestState>,
) -> wasmtime::Result<QueryFunction> {
    instance.get_typed_func(store, index)
}

impl LoadedComponent {
    /// A new replica, which has folded nothing yet; none if the component answers no questions.
    ///
    /// # Errors
    /// When the host has no room for it, or its start trapped or passed a limit.
    pub fn replica(&self) -> Result<Option<Replica>, NoInstance> {
        let Some(index) = self.query_index() else { return Ok(None) };
        let mut store = self.new_store();
        let made = self.pre().instance_pre().instantiate(&mut store).and_then(|instance| {
            let guest = WorkflowComponent::new(&mut store, &instance)?;
            let query = query_function(index, &instance, &mut store)?;
            Ok((guest, query))
        });
        match made {
            Ok((guest, query)) => {
                Ok(Some(Replica { instance: Instance::new(self.clone(), store, guest), query }))
            }
            Err(error) => Err(no_instance(error, &mut store, self.engine())),
        }
    }
}

impl Replica {
    /// Bytes of its linear memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.instance.memory_bytes()
    }

    /// Asks the run. It must have folded at least one event.
    ///
    /// # Errors
    /// When the guest trapped or passed a limit; the replica is of no more use then.
    pub fn query(&mut self, name: &str, input: &Payload) -> Result<Result<Payload, Failure>, GuestFault> {
        let Self { instance, query } = self;
        let engine = instance.component().engine().clone();
        let store = instance.store_mut();
        set_deadline(store, &engine);
        let answered = query.call(&mut *store, (name.to_owned(), lower::payload(input)));
        // What is said while answering is dropped.
        store.data_mut().observations.take();
        match answered {
            Ok((Ok(result),)) => Ok(Ok(lift::payload(result))),
            Ok((Err(chain),)) => {
                lift::failure(chain).map(Err).map_err(|stop| fault_of(stop.into(), store, &engine))
            }
            Err(error) => Err(fault_of(error, store, &engine)),
        }
    }
}

impl Guest for Replica {
    type Observations = Vec<Observation>;

    fn activate(&mut self, activation: Activation) -> Activated<Vec<Observation>> {
        self.instance.activate(activation)
    }
}
