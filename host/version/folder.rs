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
pub(crate) struct Folder {
    open: Box<dyn Fn() -> io::Result<Dir> + Send + Sync>,
    /// As it was opened for the last look: another folder may bear its name by now.
    dir: Option<Dir>,
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
    /// A folder whose components have at most `limit` bytes; `open` opens it.
    pub(crate) fn new(open: impl Fn() -> io::Result<Dir> + Send + Sync + 'static, limit: usize) -> Self {
        Self { open: Box::new(open), dir: None, limit, seen: BTreeMap::new() }
    }

    fn dir(&self) -> io::Result<&Dir> {
        self.dir.as_ref().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it was not opened"))
    }

    /// Looks at the files, and names those that are whole and were not taken in this state.
    ///
    /// # Errors
    /// When the folder cannot be read, or is there no more.
    pub(crate) fn look(&mut self, origin: Origin) -> io::Result<Vec<Arrival>> {
        let dir = (self.open)().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(io::ErrorKind::NotFound, "it was removed"),
            _ => error,
        })?;
        let mut there = BTreeSet::new();
        for entry in dir.entries()? {
            let name = entry?.file_name();
            if is_component(&name) {
                there.insert(name);
            }
        }
        let dir = self.dir.insert(dir);
        self.seen.retain(|name, _| there.contains(name));
        let mut arrivals = Vec::new();
        for name in there {
            let state = match dir.metadata(&name) {
                Ok(metadata) if metadata.is_file() => State::of(&metadata),
                // A folder or a device of that name; it may become a file.
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(dir, &name) => continue,
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
        let mut file = self.dir()?.open(&arrival.name)?;
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
}

fn is_link(dir: &Dir, name: &OsStr) -> bool {
    dir.symlink_metadata(name).is_ok_and(|metadata| metadata.is_symlink())
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use cap_std::ambient_authority;
    use tempfile::TempDir;

    use super::*;

    /// A folder on disk and the one that looks at it.
    struct Bench {
        disk: TempDir,
        folder: Folder,
        origin: Origin,
    }

    impl Bench {
        fn new() -> Self {
            let disk = tempfile::tempdir().unwrap();
            let path = disk.path().to_owned();
            let open = move || Dir::open_ambient_dir(&path, ambient_authority());
            Self { disk, folder: Folder::new(open, 100), origin: Origin::Found }
        }

        /// Writes a file whose time says `second`.
        fn write(&self, name: &str, text: &str, second: u64) {
            let path = self.disk.path().join(name);
            fs::write(&path, text).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).unwrap();
        }

        /// Looks, and reads what is to be taken; each is done then, or settles again.
        fn look(&mut self) -> Vec<String> {
            let arrivals = self.folder.look(self.origin).unwrap();
            self.origin = Origin::Dropped;
            let mut lines = Vec::new();
            for arrival in &arrivals {
                let name = arrival.name.to_string_lossy();
                match self.folder.read(arrival) {
                    Ok(bytes) => lines.push(format!("{name}: {}", String::from_utf8_lossy(&bytes))),
                    Err(error) => lines.push(format!("{name}! {error}")),
                }
                self.folder.done(arrival);
            }
            lines
        }
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn a_file_is_taken_once_it_stands_still() {
        let mut bench = Bench::new();
        assert_eq!(bench.look(), NOTHING);
        bench.write("a.wasm", "ha", 1);
        assert_eq!(bench.look(), NOTHING);
        bench.write("a.wasm", "half", 1);
        assert_eq!(bench.look(), NOTHING, "it grew");
        bench.write("a.wasm", "Half", 2);
        assert_eq!(bench.look(), NOTHING, "it was written again");
        assert_eq!(bench.look(), ["a.wasm: Half"]);
        assert_eq!(bench.look(), NOTHING, "it was taken");
        bench.write("a.wasm", "more", 3);
        assert_eq!((bench.look(), bench.look()), (vec![], vec!["a.wasm: more".to_owned()]));
        fs::remove_file(bench.disk.path().join("a.wasm")).unwrap();
        assert_eq!(bench.look(), NOTHING);
        bench.write("a.wasm", "more", 3);
        assert_eq!((bench.look(), bench.look()), (vec![], vec!["a.wasm: more".to_owned()]), "it is back");
    }

    #[test]
    fn a_file_that_was_put_in_the_place_of_another_is_another() {
        let mut bench = Bench::new();
        bench.write("a.wasm", "one", 1);
        bench.write("b", "two", 1);
        assert_eq!((bench.look(), bench.look()), (vec![], vec!["a.wasm: one".to_owned()]));
        fs::rename(bench.disk.path().join("b"), bench.disk.path().join("a.wasm")).unwrap();
        assert_eq!((bench.look(), bench.look()), (vec![], vec!["a.wasm: two".to_owned()]));
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_settles_again() {
        let mut bench = Bench::new();
        bench.write("a.wasm", "one", 1);
        assert!(bench.folder.look(Origin::Found).unwrap().is_empty());
        let arrivals = bench.folder.look(Origin::Dropped).unwrap();
        bench.write("a.wasm", "three", 1);
        let error = bench.folder.read(&arrivals[0]).unwrap_err();
        assert!(matches!(error, Unreadable::Changing), "{error:?}");
        bench.folder.unsettle(&arrivals[0]);
        assert_eq!((bench.look(), bench.look()), (vec![], vec!["a.wasm: three".to_owned()]));
    }

    #[test]
    fn what_is_postponed_comes_again_and_says_so() {
        let mut bench = Bench::new();
        bench.write("a.wasm", "one", 1);
        assert!(bench.folder.look(Origin::Found).unwrap().is_empty());
        let first = bench.folder.look(Origin::Dropped).unwrap();
        assert_eq!((first[0].try_number, first[0].origin), (Try::First, Origin::Found));
        bench.folder.postpone(&first[0]);
        let second = bench.folder.look(Origin::Dropped).unwrap();
        assert_eq!((second[0].try_number, second[0].origin), (Try::Again, Origin::Found));
        bench.write("a.wasm", "two", 2);
        assert!(bench.folder.look(Origin::Dropped).unwrap().is_empty());
        // What was known of its former state is of no matter.
        bench.folder.done(&second[0]);
        let third = bench.folder.look(Origin::Dropped).unwrap();
        assert_eq!((third[0].try_number, third[0].origin), (Try::First, Origin::Dropped));
    }

    #[test]
    fn other_files_are_not_looked_at() {
        let mut bench = Bench::new();
        for name in [".hidden.wasm", "a.wasm.part", "wasm", "a.WASM", ".wasm"] {
            bench.write(name, "text", 1);
        }
        fs::create_dir(bench.disk.path().join("folder.wasm")).unwrap();
        assert_eq!((bench.look(), bench.look()), (vec![], vec![]));
    }

    #[test]
    fn a_link_stays_in_the_folder_or_leads_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.wasm"), "secret").unwrap();
        let mut bench = Bench::new();
        let link = |to: &Path, name: &str| symlink(to, bench.disk.path().join(name)).unwrap();
        link(&outside.path().join("secret.wasm"), "absolute.wasm");
        let beside = Path::new("..").join(outside.path().file_name().unwrap()).join("secret.wasm");
        link(&beside, "beside.wasm");
        link(Path::new("nothing"), "dangling.wasm");
        link(Path::new("data"), "inside.wasm");
        bench.write("data", "inside", 1);
        assert_eq!(bench.look(), NOTHING);
        let lines = bench.look();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        for (line, start) in lines.iter().zip([
            "absolute.wasm! it cannot be read: ",
            "beside.wasm! it cannot be read: ",
            "dangling.wasm! it cannot be read: ",
            "inside.wasm: inside",
        ]) {
            assert!(line.starts_with(start) && !line.contains("secret"), "{line}");
        }
        assert_eq!(bench.look(), NOTHING, "told once");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let mut bench = Bench::new();
        bench.write("fits.wasm", &"x".repeat(100), 1);
        bench.write("large.wasm", &"x".repeat(101), 1);
        assert_eq!(bench.look(), NOTHING);
        let lines = bench.look();
        assert_eq!(lines[1], "large.wasm! the component has 101 bytes; at most 100 are allowed");
        assert!(lines[0].starts_with("fits.wasm: xxx"), "{}", lines[0]);
    }

    #[test]
    fn a_folder_that_was_removed_is_named_as_such() {
        let mut bench = Bench::new();
        bench.write("a.wasm", "one", 1);
        fs::remove_dir_all(bench.disk.path()).unwrap();
        assert_eq!(bench.folder.look(Origin::Found).unwrap_err().to_string(), "it was removed");
    }
}
