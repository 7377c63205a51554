//! What only tests do to a host: ask whether it is at work, drop an instance, hand over an input twice, give it up.

use everfold_core::event::Input;
use everfold_core::ids::RunKey;

use super::Host;
use super::run::Message;

impl Host {
    /// Whether no run has anything to do, and none waits for the store.
    pub(crate) fn is_idle(&self) -> bool {
        self.parts.cells.is_idle()
    }

    /// Waits until no run has anything to do, and none waits for the store.
    pub(crate) async fn idle(&self) {
        self.parts.cells.idle().await;
    }

    /// How often a run was given something to do.
    pub(crate) fn turns(&self) -> u64 {
        self.parts.cells.turns()
    }

    /// Drops a run's live instance, if it has one.
    pub(crate) fn evict(&self, key: &RunKey) {
        self.parts.cells.send_if_present(key, Message::Evict);
    }

    /// Hands a run an input, which it may have had already.
    pub(crate) fn deliver(&self, key: &RunKey, input: Input) {
        self.parts.send(key, Message::Input(input));
    }

    /// Lets all threads go without waiting for anything: the host's tasks have ended already.
    pub(crate) fn abandon(&self) {
        self.parts.stopping.cancel();
        self.parts.cells.stop();
    }
}
