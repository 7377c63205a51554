//! A live instance of a component: one run's guest.

use std::fmt;

use everfold_core::fold::{Activated, Activation, Guest, GuestFault};
use wasmtime::Store;

use super::bindings::WorkflowComponent;
use super::component::{LoadedComponent, fault_of, set_deadline};
use super::convert::lower;
use super::observation::Observation;
use super::state::GuestState;

/// An instance. After a fault its memory is in no known state: it folds nothing more and should
/// be dropped.
pub struct Instance {
    component: LoadedComponent,
    store: Store<GuestState>,
    guest: WorkflowComponent,
    health: Health,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Sound,
    Faulted,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("component", &self.component)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

impl Instance {
    pub(super) const fn new(
        component: LoadedComponent,
        store: Store<GuestState>,
        guest: WorkflowComponent,
    ) -> Self {
        Self { component, store, guest, health: Health::Sound }
    }

    /// The component that it is an instance of.
    #[must_use]
    pub const fn component(&self) -> &LoadedComponent {
        &self.component
    }

    /// The store that it lives in.
    pub(super) const fn store_mut(&mut self) -> &mut Store<GuestState> {
        &mut self.store
    }

    /// Bytes of its linear memory: what it can have touched, more than what is resident.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.store.data().limiter.memory()
    }
}

impl Guest for Instance {
    type Observations = Vec<Observation>;

    fn activate(&mut self, activation: Activation) -> Activated<Vec<Observation>> {
        if self.health == Health::Faulted {
            let fault = GuestFault::Trap {
                message: "the instance stopped at an earlier fault; a new one must be made".to_owned(),
                backtrace: String::new(),
            };
            return Activated { activation, outcome: Err(fault), observations: Vec::new() };
        }
        let (event, input) = activation.input();
        let event = lower::event(event, input);
        self.store.data_mut().lend(activation);
        set_deadline(&mut self.store, self.component.engine());
        let returned = self.guest.everfold_workflow_workflow().call_activate(&mut self.store, &event);
        let outcome = returned.map_err(|error| {
            self.health = Health::Faulted;
            fault_of(error, &mut self.store, self.component.engine())
        });
        let (activation, observations) = self.store.data_mut().take_back();
        Activated { activation, outcome, observations }
    }
}
