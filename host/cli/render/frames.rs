//! The frames of a backtrace that a workflow's author wrote. It never shortens what JSON gives.

use super::{counted, one_line};

/// Where sources lie that the author did not write: the standard library's, its dependencies', and, as
/// `cargo xtask guests` and cargo call them, those of other crates.
const FOLDERS: [&str; 5] = ["/rustc/", "/rust/deps/", "/crates/", "/cargo/", "/registry/src/"];
/// Where the SDK's sources lie in its repository.
const SDK: [&str; 2] = ["guest-workflows/sdk/", "/sdk/src/"];
/// What the names of functions begin with that the author did not write.
const PATHS: [&str; 4] = ["everfold_guest::", "std::", "core::", "alloc::"];
/// What the name of a component's export begins with, which the bindings make.
const EXPORT: &str = "everfold:workflow/";

/// What is shown of a backtrace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frames {
    /// Frames, innermost first.
    pub(super) shown: Vec<String>,
    /// What was left out.
    pub(super) rest: Option<String>,
}

/// The author's frames of a backtrace that has one a line; all, where none is the author's.
pub(super) fn authors(backtrace: &str) -> Frames {
    let all: Vec<&str> = backtrace.lines().collect();
    let shown: Vec<&str> = all.iter().copied().filter(|frame| is_authors(frame)).collect();
    let shown = if shown.is_empty() { all.clone() } else { shown };
    let left_out = u64::try_from(all.len().saturating_sub(shown.len())).unwrap_or(u64::MAX);
    let rest = (left_out > 0).then(|| {
        let frames = counted(left_out, "frame", "frames");
        format!("and {frames} of the SDK and of libraries (--json has all)")
    });
    Frames { shown: shown.into_iter().map(one_line).collect(), rest }
}

impl Frames {
    /// Every line, the note on what was left out being the last one.
    pub(super) fn into_lines(self) -> impl Iterator<Item = String> {
        self.shown.into_iter().chain(self.rest)
    }
}

/// A frame is `function (file:line:column)`, or the function alone where the component has no line for it.
fn is_authors(frame: &str) -> bool {
    match frame.strip_suffix(')').and_then(|frame| frame.rsplit_once(" (")) {
        // An export stands where the author's macro does, but under a name of the bindings.
        Some((name, place)) => !is_from(place) && !is_of(name),
        None => !is_of(frame),
    }
}

fn is_from(place: &str) -> bool {
    FOLDERS.iter().any(|folder| place.contains(folder)) || SDK.iter().any(|folder| place.contains(folder))
}

/// Whether a function's name, such as `<core::iter::Map<I, F> as core::iter::Iterator>::next`, is one of
/// the SDK or the standard library. A trait of theirs that the author's type has is the author's code.
fn is_of(name: &str) -> bool {
    let name = name.trim_start_matches(['<', '&', '*', '[']);
    name.starts_with(EXPORT) || PATHS.iter().any(|path| name.starts_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKTRACE: &str = "everfold_guest::run::Run::schedule_activity (/everfold/guest-workflows/sdk/src/run.rs:137:28)
<order::Pay as core::future::future::Future>::poll
order_workflows::fulfilment::Fulfilment::step::{{closure}} (/everfold/guest-workflows/order/src/fulfilment.rs:67:60)
{async_fn#0} (/everfold/guest-workflows/order/src/processing.rs:118:76)
poll (/rustc/59807616e1/library/core/src/future/future.rs:133:9)
<alloc::boxed::Box<F> as core::future::future::Future>::poll
serde_json::from_slice (/crates/serde_json-1.0.154/src/de.rs:1:1)
everfold:workflow/workflow@0.1.0#activate (/everfold/guest-workflows/order/src/lib.rs:28:1)";

    #[test]
    fn only_the_authors_frames_are_shown() {
        let lines: Vec<String> = authors(BACKTRACE).into_lines().collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        <order::Pay as core::future::future::Future>::poll
        order_workflows::fulfilment::Fulfilment::step::{{closure}} (/everfold/guest-workflows/order/src/fulfilment.rs:67:60)
        {async_fn#0} (/everfold/guest-workflows/order/src/processing.rs:118:76)
        and 5 frames of the SDK and of libraries (--json has all)
        ");
    }

    #[test]
    fn all_are_shown_where_none_is_the_authors() {
        let backtrace = "std::process::abort\neverfold:workflow/workflow@0.1.0#activate";
        let Frames { shown, rest } = authors(backtrace);
        assert_eq!((shown.join("\n").as_str(), rest), (backtrace, None));
        assert_eq!(authors(""), Frames { shown: Vec::new(), rest: None });
    }
}
