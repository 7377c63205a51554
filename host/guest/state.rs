//! What a wasmtime store carries for one instance: the activation being folded, what the guest
//! says meanwhile, what it has taken.

use everfold_core::command::Command;
use everfold_core::fold::Activation;
use everfold_core::ids::EventId;

use super::engine::EngineSettings;
use super::fault::{Panic, Stop};
use super::limiter::Limiter;
use super::observation::{Observation, ObservationBuffer};

/// The data of an instance's store.
#[derive(Debug)]
pub(super) struct GuestState {
    /// Present while `activate` runs, and only then: `describe` and start functions have none.
    activation: Option<Activation>,
    pub(super) observations: ObservationBuffer,
    pub(super) panic: Option<Panic>,
    pub(super) limiter: Limiter,
    /// Bytes that this activation may still hand over in commands.
    bytes_left: usize,
    bytes_limit: usize,
}

impl GuestState {
    pub(super) const fn new(settings: &EngineSettings) -> Self {
        Self {
            activation: None,
            observations: ObservationBuffer::new(),
            panic: None,
            limiter: Limiter::new(settings.memory_bytes),
            bytes_left: 0,
            bytes_limit: settings.activation_bytes,
        }
    }

    /// Lends the guest an activation.
    pub(super) fn lend(&mut self, activation: Activation) {
        self.bytes_left = self.bytes_limit;
        self.panic = None;
        self.activation = Some(activation);
    }

    /// Takes the activation back, with what the guest said meanwhile.
    pub(super) fn take_back(&mut self) -> (Activation, Vec<Observation>) {
        match self.activation.take() {
            Some(activation) => (activation, self.observations.take()),
            None => unreachable!("no call of the guest takes the activation away"),
        }
    }

    /// The activation, for a command that is about to be made.
    pub(super) fn activation(&mut self, function: &'static str) -> Result<&mut Activation, Stop> {
        self.activation.as_mut().ok_or_else(|| {
            Stop::illegal(format!("`{function}` was called outside `activate`: commands belong to an event"))
        })
    }

    /// Makes a command of `bytes` bytes.
    pub(super) fn command(
        &mut self,
        function: &'static str,
        bytes: usize,
        command: Command,
    ) -> Result<EventId, Stop> {
        Ok(self.spend(function, bytes)?.command(command)?)
    }

    /// The activation, for a command of `bytes` bytes that is about to be made. A guest whose command is refused
    /// makes no further one.
    pub(super) fn spend(&mut self, function: &'static str, bytes: usize) -> Result<&mut Activation, Stop> {
        let limit = self.bytes_limit;
        let left = self.bytes_left.checked_sub(bytes);
        self.activation(function)?;
        let Some(left) = left else {
            return Err(Stop::limit(format!(
                "the commands of one activation may have at most {limit} bytes"
            )));
        };
        self.bytes_left = left;
        self.activation(function)
    }
}
