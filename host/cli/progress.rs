//! A bar on standard error that shows how far a long answer has come, where a terminal shows it.

use std::borrow::Cow;
use std::io::IsTerminal as _;

use everfold::server::wire::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How a bar looks.
const TEMPLATE: &str = "{msg} {wide_bar} {human_pos} of {human_len} {prefix}, {eta} left";

/// A bar. It goes away when it is dropped.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar of what is done to runs: `checking`, say.
    pub(super) fn of(what: &'static str) -> Self {
        Self::counting(what, "runs")
    }

    /// A bar of what is done, and to what.
    pub(super) fn counting(what: impl Into<Cow<'static, str>>, things: &'static str) -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_message(what).with_prefix(things);
        // Only a template of our own could be refused; then the bar looks as it does by default.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Shows how far it has come.
    pub(super) fn tell(&self, progress: Progress) {
        self.0.set_length(progress.total.max(progress.done));
        self.0.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
