//! Replicas: instances that answer questions about a run and validate its updates, folded from its committed
//! history. A replica is never used for anything else; a command that it makes while it answers is a fault.

use std::fmt;

use everfold_core::event::UpdateAdmitted;
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

/// The interface by which a component validates updates.
pub(super) const UPDATE_INTERFACE: &str = "everfold:workflow/update@0.1.0";

/// The function that validates.
pub(super) type ValidateFunction =
    TypedFunc<(String, types::Payload, Vec<types::Header>), (Result<(), types::Failure>,)>;

/// An instance that folds and answers.
pub struct Replica {
    instance: Instance,
    query: Option<QueryFunction>,
    validate: Option<ValidateFunction>,
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

/// Finds the function that validates in an instance of a component that exports it.
pub(super) fn validate_function(
    index: &ComponentExportIndex,
    instance: &WasmInstance,
    store: &mut Store<GuestState>,
) -> wasmtime::Result<ValidateFunction> {
    instance.get_typed_func(store, index)
}

impl LoadedComponent {
    /// A new replica, which has folded nothing yet; none if the component answers no questions and validates no
    /// updates.
    ///
    /// # Errors
    /// When the host has no room for it, or its start trapped or passed a limit.
    pub fn replica(&self) -> Result<Option<Replica>, NoInstance> {
        let (query, validate) = (self.query_index(), self.validate_index());
        if query.is_none() && validate.is_none() {
            return Ok(None);
        }
        let mut store = self.new_store();
        let made = self.pre().instance_pre().instantiate(&mut store).and_then(|instance| {
            let guest = WorkflowComponent::new(&mut store, &instance)?;
            let query = query.map(|index| query_function(index, &instance, &mut store)).transpose()?;
            let validate =
                validate.map(|index| validate_function(index, &instance, &mut store)).transpose()?;
            Ok((guest, query, validate))
        });
        match made {
            Ok((guest, query, validate)) => {
                let instance = Instance::new(self.clone(), store, guest);
                Ok(Some(Replica { instance, query, validate }))
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

    /// Asks the run; none if its component answers no questions. It must have folded at least one event.
    ///
    /// # Errors
    /// When the guest trapped or passed a limit; the replica is of no more use then.
    pub fn query(
        &mut self,
        name: &str,
        input: &Payload,
    ) -> Result<Option<Result<Payload, Failure>>, GuestFault> {
        let Some(query) = &self.query else { return Ok(None) };
        let said =
            asked(&mut self.instance, |store| query.call(store, (name.to_owned(), lower::payload(input))));
        match said? {
            (Ok(result),) => Ok(Some(Ok(lift::payload(result)))),
            (Err(chain),) => self.failure(chain).map(Err).map(Some),
        }
    }

    /// Asks whether the update may be admitted; a component without validators admits every one. It must have
    /// folded at least one event.
    ///
    /// # Errors
    /// As [`Replica::query`].
    pub fn validate(&mut self, update: &UpdateAdmitted) -> Result<Result<(), Failure>, GuestFault> {
        let Some(validate) = &self.validate else { return Ok(Ok(())) };
        let UpdateAdmitted { update_id: _, name, input, headers } = update;
        let arguments = (name.clone(), lower::payload(input), lower::headers(headers));
        match asked(&mut self.instance, |store| validate.call(store, arguments))? {
            (Ok(()),) => Ok(Ok(())),
            (Err(chain),) => self.failure(chain).map(Err),
        }
    }

    fn failure(&mut self, chain: types::Failure) -> Result<Failure, GuestFault> {
        let engine = self.instance.component().engine().clone();
        lift::failure(chain).map_err(|stop| fault_of(stop.into(), self.instance.store_mut(), &engine))
    }
}

/// Calls a function that must change nothing.
fn asked<T>(
    instance: &mut Instance,
    call: impl FnOnce(&mut Store<GuestState>) -> wasmtime::Result<T>,
) -> Result<T, GuestFault> {
    let engine = instance.component().engine().clone();
    let store = instance.store_mut();
    set_deadline(store, &engine);
    let said = call(store);
    // What is said while answering is dropped.
    store.data_mut().observations.take();
    said.map_err(|error| fault_of(error, store, &engine))
}

impl Guest for Replica {
    type Observations = Vec<Observation>;

    fn activate(&mut self, activation: Activation) -> Activated<Vec<Observation>> {
        self.instance.activate(activation)
    }
}
