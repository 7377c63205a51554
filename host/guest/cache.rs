//! Compiled code, kept so that a component is compiled once.
//!
//! Loading compiled code runs it: whoever can write a file here can make the host run anything.
//! Hence this folder is the host's own, of mode 0700, is never filled from elsewhere, and what is
//! read is checked against the SHA-256 that was written with it, which catches damage (not an
//! attacker with the host's own rights: nothing could).
//!
//! A file is named by the component's digest and by wasmtime's compatibility hash (version,
//! settings, processor). It is
//!
//! ```text
//! "everfold-code-1\n" │ SHA-256 of (that line, digest, compatibility, code): 32 bytes │ code
//! ```
//!
//! It is written under a temporary name, flushed and renamed, so that a reader sees all of it or
//! nothing. The cache may be lost at any time.

use std::fmt;
use std::hash::{Hash as _, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::{
    Dir, MetadataExt as _, OpenOptions, OpenOptionsExt as _, Permissions, PermissionsExt as _,
};
use everfold_core::ids::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

const FORMAT: &[u8] = b"everfold-code-1\n";
const CHECKSUM_BYTES: usize = 32;
const SUFFIX: &str = ".code";
const TEMPORARY: &str = ".tmp";

/// A folder that cannot serve as the cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made or read.
    #[error("the code cache {path} cannot be opened: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others could have put code into it.
    #[error(
        "the code cache {path} can be written by others (mode {mode:03o}): remove it, the host makes a new one"
    )]
    Exposed {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user.
    #[error("the code cache {path} belongs to user {owner}, not to user {user} who runs the host")]
    NotOwned {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs the host.
        user: u32,
    },
}

/// The cache. Cheap to clone.
#[derive(Clone)]
pub struct CodeCache {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    folder: Dir,
    temporaries: AtomicU64,
}

impl fmt::Debug for CodeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeCache").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// What a file is for.
struct Key {
    digest: Digest,
    compatibility: [u8; 32],
}

impl CodeCache {
    /// Opens the folder, making it if it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or anybody else could have put code into it.
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        let failed = |error| CacheError::Io { path: path.to_owned(), error };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let folder = Dir::open_ambient_dir(path, ambient_authority()).map_err(failed)?;
        let cache =
            Self { inner: Arc::new(Inner { path: path.to_owned(), folder, temporaries: AtomicU64::new(0) }) };
        cache.check_owner()?;
        cache.remove_temporaries().map_err(failed)?;
        Ok(cache)
    }

    fn check_owner(&self) -> Result<(), CacheError> {
        let Inner { path, folder, .. } = &*self.inner;
        let failed = |error| CacheError::Io { path: path.clone(), error };
        let metadata = folder.dir_metadata().map_err(failed)?;
        // A file of ours tells who we are.
        let probe = self.temporary_name("probe");
        let file = folder.open_with(&probe, &new_file()).map_err(failed)?;
        let user = file.metadata().map_err(failed)?.uid();
        folder.remove_file(&probe).map_err(failed)?;
        if metadata.uid() != user {
            return Err(CacheError::NotOwned { path: path.clone(), owner: metadata.uid(), user });
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o022 != 0 {
            return Err(CacheError::Exposed { path: path.clone(), mode });
        }
        // Others could read it so far, which does no harm to what is in it.
        if mode & 0o077 != 0 {
            folder.set_permissions(".", Permissions::from_mode(0o700)).map_err(failed)?;
        }
        Ok(())
    }

    /// What a crash in the middle of a write left behind.
    fn remove_temporaries(&self) -> io::Result<()> {
        for entry in self.inner.folder.entries()? {
            let name = entry?.file_name();
            if Path::new(&name).extension().is_some_and(|extension| extension == &TEMPORARY[1..]) {
                self.inner.folder.remove_file(&name)?;
            }
        }
        Ok(())
    }

    /// The code of a component, if it is here. A file that is damaged or was not written by this
    /// cache is removed.
    pub(super) fn get(&self, engine: &wasmtime::Engine, digest: Digest) -> Option<Component> {
        let key = Key::new(engine, digest);
        let name = key.file_name();
        let file = match self.inner.folder.read(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%digest, %error, "compiled code cannot be read from the cache");
                return None;
            }
        };
        let component = key
            .code_in(&file)
            .ok_or_else(|| "its checksum does not match".to_owned())
            .and_then(|code| deserialize(engine, code));
        match component {
            Ok(component) => Some(component),
            Err(reason) => {
                tracing::warn!(%digest, reason, "compiled code in the cache is unusable: compiling again");
                if let Err(error) = self.inner.folder.remove_file(&name) {
                    tracing::warn!(%digest, %error, "unusable compiled code cannot be removed");
                }
                None
            }
        }
    }

    /// Keeps the code of a component. A failure costs a compilation later on, nothing else.
    pub(super) fn put(&self, engine: &wasmtime::Engine, digest: Digest, component: &Component) {
        let key = Key::new(engine, digest);
        let written = component
            .serialize()
            .map_err(|error| io::Error::other(error.to_string()))
            .and_then(|code| self.write(&key, &code));
        if let Err(error) = written {
            tracing::warn!(%digest, %error, "compiled code cannot be written to the cache");
        }
    }

    fn write(&self, key: &Key, code: &[u8]) -> io::Result<()> {
        let folder = &self.inner.folder;
        let name = key.file_name();
        let temporary = self.temporary_name(&name);
        let written = folder.open_with(&temporary, &new_file()).and_then(|mut file| {
            file.write_all(FORMAT)?;
            file.write_all(&key.checksum(code))?;
            file.write_all(code)?;
            file.sync_all()?;
            folder.rename(&temporary, folder, &name)
        });
        if written.is_err() {
            // It is missing if it could not be made.
            let _ = folder.remove_file(&temporary);
        }
        written
    }

    /// A name that no other thread or process uses.
    fn temporary_name(&self, name: &str) -> String {
        let number = self.inner.temporaries.fetch_add(1, Ordering::Relaxed);
        format!("{name}.{}.{number}{TEMPORARY}", std::process::id())
    }
}

impl Key {
    fn new(engine: &wasmtime::Engine, digest: Digest) -> Self {
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self { digest, compatibility: hasher.0.finalize().into() }
    }

    fn file_name(&self) -> String {
        format!("{}-{}{SUFFIX}", self.digest, hex::encode(&self.compatibility[..8]))
    }

    fn checksum(&self, code: &[u8]) -> [u8; CHECKSUM_BYTES] {
        Sha256::new()
            .chain_update(FORMAT)
            .chain_update(self.digest.0)
            .chain_update(self.compatibility)
            .chain_update(code)
            .finalize()
            .into()
    }

    /// The code in a file that was written for this key.
    fn code_in<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let (checksum, code) = file.strip_prefix(FORMAT)?.split_first_chunk::<CHECKSUM_BYTES>()?;
        (*checksum == self.checksum(code)).then_some(code)
    }
}

fn new_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

#[expect(
    unsafe_code,
    reason = "compiled code is only read from the host's own folder of mode 0700, with a matching checksum"
)]
fn deserialize(engine: &wasmtime::Engine, code: &[u8]) -> Result<Component, String> {
    // SAFETY: the checksum says that `code` is what `Component::serialize` gave to this cache for
    // this compatibility hash, and nobody but the host's user can write to its folder.
    unsafe { Component::deserialize(engine, code) }.map_err(|error| format!("{error:#}"))
}

/// Lets wasmtime's compatibility hash be the same in every process and version of Rust.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
    }
}
