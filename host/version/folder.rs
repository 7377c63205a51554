//! A watched folder: which of its files are new, and whether they are whole.
//!
//! ```text
//! seen ─▶ the same size and time at the next look ─▶ read ─▶ taken or refused, told once
//!   ▲                                                           │ another size or time
//!   └───────────────────────────────────────────────────────────┘
//! ```
//!
//! A file counts if it is a plain one whose name ends in `.wasm` and does not begin with a dot. It is
//! reached through the folder's own handle: a link that leads out of the folder leads nowhere. This
//! module looks and reads; what a component is worth is for others to say.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::path::Path;

use cap_std::fs::{Dir, File, Metadata, MetadataExt as _};

use crate::guest::InvalidComponent;

/// A folder that is looked at again and again.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: Dir,
    /// Bytes of a component.
    limit: usize,
    seen: BTreeMap<OsString, Seen>,
}

/// What is known of a file.
#[derive(Debug)]
struct Seen {
    state: State,
    stage: Stage,
    origin: Origin,
}

/// By what a file is the same as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    File { inode: u64, size: u64, modified: (i64, i64) },
    Unreachable(io::ErrorKind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It may still be written.
    Settling,
    /// It could not be taken for a reason that passes.
    Postponed,
    /// It was taken or refused.
    Done,
}

/// Whether a file was there before the folder was watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was.
    Found,
    /// It came, or was changed, meanwhile.
    Dropped,
}

/// A file that is to be taken now.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Its name in the folder.
    pub(crate) name: OsString,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// Whether it was tried before, in this state, and is tried again.
    pub(crate) try_number: Try,
    state: State,
}

/// Which try it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Try {
    /// The first one, in this state of the file.
    First,
    /// A later one.
    Again,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It is being written.
    #[error("it is changing")]
    Changing,
    /// Nothing that it may become a component by.
    #[error(transparent)]
    Refused(#[from] InvalidComponent),
    /// It cannot be opened or read, or leads out of the folder.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Folder {
    /// A folder whose components have at most `limit` bytes.
    pub(crate) const fn new(dir: Dir, limit: usize) -> Self {
        Self { dir, limit, seen: BTreeMap::new() }
    }

    /// Looks at the files, and names those that are whole and were not taken in this state.
    ///
    /// # Errors
    /// When the folder cannot be read, or is there no more.
    pub(crate) fn look(&mut self, origin: Origin) -> io::Result<Vec<Arrival>> {
        if self.dir.dir_metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it was removed"));
        }
        let mut there = BTreeSet::new();
        for entry in self.dir.entries()? {
            let name = entry?.file_name();
            if is_component(&name) {
                there.insert(name);
            }
        }
        self.seen.retain(|name, _| there.contains(name));
        let mut arrivals = Vec::new();
        for name in there {
            let state = match self.dir.metadata(&name) {
                Ok(metadata) if metadata.is_file() => State::of(&metadata),
                // A folder or a device of that name; it may become a file.
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_link(&name) => continue,
                Err(error) => State::Unreachable(error.kind()),
            };
            match self.seen.get_mut(&name) {
                Some(seen) if seen.state == state => match seen.stage {
                    Stage::Done => {}
                    Stage::Settling | Stage::Postponed => {
                        let try_number = if seen.stage == Stage::Settling { Try::First } else { Try::Again };
                        arrivals.push(Arrival { name, origin: seen.origin, try_number, state });
                    }
                },
                Some(seen) => *seen = Seen { state, stage: Stage::Settling, origin: Origin::Dropped },
                None => drop(self.seen.insert(name, Seen { state, stage: Stage::Settling, origin })),
            }
        }
        Ok(arrivals)
    }

    /// Reads a file that was named by the last look.
    ///
    /// # Errors
    /// When it is not as it was seen, is too large, or cannot be read.
    pub(crate) fn read(&self, arrival: &Arrival) -> Result<Vec<u8>, Unreadable> {
        let size = match arrival.state {
            State::File { size, .. } => usize::try_from(size).unwrap_or(usize::MAX),
            State::Unreachable(_) => 0,
        };
        if size > self.limit {
            return Err(InvalidComponent::TooLarge { size, limit: self.limit }.into());
        }
        let mut file = self.dir.open(&arrival.name)?;
        is_still(&file, arrival.state)?;
        let mut bytes = Vec::with_capacity(size);
        file.by_ref().take(size as u64 + 1).read_to_end(&mut bytes)?;
        is_still(&file, arrival.state)?;
        if bytes.len() == size { Ok(bytes) } else { Err(Unreadable::Changing) }
    }

    /// Notes that a file was taken or refused: it is left alone until it changes.
    pub(crate) fn done(&mut self, arrival: &Arrival) {
        self.set(arrival, Stage::Done);
    }

    /// Notes that a file is to be tried again.
    pub(crate) fn postpone(&mut self, arrival: &Arrival) {
        self.set(arrival, Stage::Postponed);
    }

    /// Notes that a file is being written: it has to settle again.
    pub(crate) fn unsettle(&mut self, arrival: &Arrival) {
        self.seen.remove(&arrival.name);
    }

    fn set(&mut self, arrival: &Arrival, stage: Stage) {
        if let Some(seen) = self.seen.get_mut(&arrival.name)
            && seen.state == arrival.state
        {
            seen.stage = stage;
        }
    }

    fn is_link(&self, name: &OsStr) -> bool {
        self.dir.symlink_metadata(name).is_ok_and(|metadata| metadata.is_symlink())
    }
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self::File { inode: metadata.ino(), size: metadata.len(), modified }
    }
}

fn is_still(file: &File, state: State) -> Result<(), Unreadable> {
    if State::of(&file.metadata()?) == state { Ok(()) } else { Err(Unreadable::Changing) }
}

fn is_component(name: &OsStr) -> bool {
    let is_hidden = name.as_encoded_bytes().starts_with(b".");
    !is_hidden && Path::new(name).extension().is_some_and(|extension| extension == "wasm")
}
