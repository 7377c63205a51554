//! What the kernel says that a process used. Where it says nothing (another system than Linux, another
//! user's process), there is no figure; none is ever guessed.

use std::path::PathBuf;

/// Ticks of a second in `/proc/PID/stat`: `USER_HZ`, which is 100 wherever Linux is new enough to
/// matter (proc_pid_stat(5), `include/uapi/asm-generic/param.h`).
const TICKS_PER_SECOND: u64 = 100;

/// A process, by its folder below `/proc`.
#[derive(Clone, Debug)]
pub(super) struct Process {
    folder: PathBuf,
}

/// What a process had used when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time, in user and kernel mode.
    pub(super) cpu_ms: Option<u64>,
    /// The most memory since [`Process::reset_peak`], else since it began.
    pub(super) peak_memory_bytes: Option<u64>,
    /// Memory now.
    pub(super) memory_bytes: Option<u64>,
    /// Bytes that it caused to be written to storage.
    pub(super) written_bytes: Option<u64>,
}

impl Process {
    /// That process.
    pub(super) fn of(id: u32) -> Self {
        Self { folder: PathBuf::from(format!("/proc/{id}")) }
    }

    /// This process.
    pub(super) fn this() -> Self {
        Self::of(std::process::id())
    }

    /// Lets the peak of memory begin anew, where the kernel can do that (`clear_refs`, proc_pid_clear_refs(5)).
    pub(super) fn reset_peak(&self) {
        // Without it the peak is that of the process's whole life, which is true as well.
        let _ = std::fs::write(self.folder.join("clear_refs"), "5");
    }

    /// What it has used.
    pub(super) fn usage(&self) -> Usage {
        let read = |file| std::fs::read_to_string(self.folder.join(file)).ok();
        let status = read("status");
        let memory = |name| status.as_deref().and_then(|status| kilobytes(status, name));
        Usage {
            cpu_ms: read("stat").and_then(|stat| cpu_ms(&stat)),
            peak_memory_bytes: memory("VmHWM:"),
            memory_bytes: memory("VmRSS:"),
            written_bytes: read("io").and_then(|io| number_of(&io, "write_bytes:")),
        }
    }
}

/// Fields 14 and 15; the name before them may have spaces, and ends with the last parenthesis.
fn cpu_ms(stat: &str) -> Option<u64> {
    let (_, behind_the_name) = stat.rsplit_once(')')?;
    let mut fields = behind_the_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 1_000 / TICKS_PER_SECOND)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    Some(number_of(text, name)? * 1_024)
}

fn number_of(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 8 0 100 1 2";
        assert_eq!(cpu_ms(stat), Some(3_000));
        assert_eq!(cpu_ms("nonsense"), None);
        assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmHWM:\t   12 kB\n", "VmHWM:"), Some(12_288));
        assert_eq!(number_of("wchar: 1\nwrite_bytes: 4096\n", "write_bytes:"), Some(4_096));
        assert_eq!(Process::of(u32::MAX).usage(), Usage::default(), "nobody is no figure");
    }
}
