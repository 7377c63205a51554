//! The environment in which the guests are built: the same for everybody, because it decides the
//! components' digests.

use std::process::Command;

/// Settings of cargo that say where to fetch from and how to talk, and never what comes out.
const KEPT: [&str; 6] =
    ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_TERM_"];

/// A command that inherits none of what would change its output: what the cargo that started this
/// command set, and what a person set for the host.
pub(crate) fn clean_command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(decides_output) {
            command.env_remove(&name);
        }
    }
    command
}

fn decides_output(name: &str) -> bool {
    let builds = name.starts_with("RUSTC")
        || name.starts_with("RUSTFLAGS")
        || name.starts_with("RUSTDOC")
        || name.starts_with("CARGO")
        || name == "RUSTUP_TOOLCHAIN";
    builds && !KEPT.iter().any(|kept| name.starts_with(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_the_output_is_cleared() {
        for name in [
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "CARGO",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(decides_output(name), "{name}");
        }
    }

    #[test]
    fn what_people_need_to_reach_the_registry_is_kept() {
        for name in ["CARGO_HOME", "CARGO_HTTP_PROXY", "CARGO_TERM_COLOR", "RUSTUP_HOME", "PATH"] {
            assert!(!decides_output(name), "{name}");
        }
    }
}
