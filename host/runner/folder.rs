//! Deploying what is dropped into a folder: looks at it every second, and tells what became of each file
//! once. A file that is refused changes nothing, nor does one that is taken away.
//!
//! Files that were there before the host started are deployed if their components are unknown. Those that
//! are known are left as they are: a version that was retired stays retired.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cap_std::fs::Dir;
use everfold_core::ids::{Digest, Namespace};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::Host;
use super::api::{ApiError, Deployed};
use crate::version::folder::{Arrival, Folder, Origin, Try, Unreadable};

/// How often the folder is looked at.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether the folder could be read when it was looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readability {
    Unknown,
    Readable,
    Unreadable,
}

/// A folder and where its components go.
struct Watch {
    host: Host,
    namespace: Namespace,
    folder: Arc<Mutex<Folder>>,
    readability: Readability,
    origin: Origin,
}

/// What became of a file.
enum Taken {
    Deployed(Box<Deployed>),
    /// The component was known before the host started.
    Known(Digest),
}

impl Host {
    /// Deploys the components that are in a folder, and those that are dropped into it, until the host
    /// stops. `open` opens the folder; it is asked for each look, so that another folder under the same name
    /// is seen.
    pub fn watch(&self, open: impl Fn() -> io::Result<Dir> + Send + Sync + 'static, namespace: Namespace) {
        let limit = self.parts.versions.loaded().component_limit();
        let watch = Watch {
            host: self.clone(),
            namespace,
            folder: Arc::new(Mutex::new(Folder::new(open, limit))),
            readability: Readability::Unknown,
            origin: Origin::Found,
        };
        let stopping = self.parts.stopping.clone();
        self.parts.runtime.spawn(async move { stopping.run_until_cancelled(watch.go_on_for_ever()).await });
    }
}

impl Watch {
    async fn go_on_for_ever(mut self) {
        let clock = self.host.parts.clock.clone();
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        loop {
            self.look().await;
            clock.sleep_until(clock.now().plus_ms(pause)).await;
        }
    }

    async fn look(&mut self) {
        let origin = self.origin;
        match self.on_folder(move |folder| folder.look(origin)).await {
            Ok(arrivals) => {
                if self.readability == Readability::Unreadable {
                    tracing::info!("the folder of components can be read again");
                }
                self.readability = Readability::Readable;
                self.origin = Origin::Dropped;
                for arrival in arrivals {
                    self.take(Arc::new(arrival)).await;
                }
            }
            Err(error) => {
                if self.readability != Readability::Unreadable {
                    tracing::warn!(%error, "the folder of components cannot be read");
                }
                self.readability = Readability::Unreadable;
            }
        }
    }

    /// Reads one file and deploys it; one at a time, so that memory is bounded.
    async fn take(&self, arrival: Arc<Arrival>) {
        let file = Arc::clone(&arrival);
        match self.on_folder(move |folder| folder.read(&file)).await {
            Ok(bytes) => match self.deploy(bytes, arrival.origin).await {
                Ok(taken) => {
                    taken.tell(&arrival.name);
                    self.folder.lock().done(&arrival);
                }
                Err(ApiError::InvalidComponent(reason)) => {
                    tell_refused(&arrival.name, &reason);
                    self.folder.lock().done(&arrival);
                }
                Err(error) => self.postpone(&arrival, &error.to_string()),
            },
            Err(Unreadable::Changing) => self.folder.lock().unsettle(&arrival),
            Err(Unreadable::Refused(reason)) => {
                tell_refused(&arrival.name, &reason.to_string());
                self.folder.lock().done(&arrival);
            }
            Err(error @ Unreadable::Io(_)) => self.postpone(&arrival, &error.to_string()),
        }
    }

    async fn deploy(&self, bytes: Vec<u8>, origin: Origin) -> Result<Taken, ApiError> {
        match origin {
            Origin::Found => {
                let digest = Digest(Sha256::digest(&bytes).into());
                let known = self.host.components(&self.namespace).await?;
                if known.iter().any(|row| row.digest == digest) {
                    return Ok(Taken::Known(digest));
                }
            }
            Origin::Dropped => {}
        }
        self.host.deploy(&self.namespace, bytes).await.map(|deployed| Taken::Deployed(Box::new(deployed)))
    }

    fn postpone(&self, arrival: &Arrival, reason: &str) {
        if arrival.try_number == Try::First {
            let file = arrival.name.to_string_lossy();
            tracing::warn!(%file, reason, "a file of the watched folder cannot be taken now");
        }
        self.folder.lock().postpone(arrival);
    }

    /// Works on the folder away from the threads that serve requests.
    async fn on_folder<T: Send + 'static>(&self, work: impl FnOnce(&mut Folder) -> T + Send + 'static) -> T {
        let folder = Arc::clone(&self.folder);
        match tokio::task::spawn_blocking(move || work(&mut folder.lock())).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Taken {
    fn tell(&self, name: &OsStr) {
        let file = name.to_string_lossy();
        match self {
            Self::Deployed(deployed) => {
                let digest = deployed.digest;
                let types: Vec<String> = deployed
                    .workflow_types
                    .iter()
                    .map(|found| {
                        let standing = if found.route.current == digest { "current" } else { "candidate" };
                        format!("{} ({standing})", found.name)
                    })
                    .collect();
                let types = types.join(", ");
                if deployed.is_new {
                    tracing::info!(%file, %digest, types, "deployed a component from the watched folder");
                } else {
                    tracing::info!(%file, %digest, types, "the component was deployed before");
                }
            }
            Self::Known(digest) => tracing::debug!(%file, %digest, "the component was deployed before"),
        }
    }
}

fn tell_refused(name: &OsStr, reason: &str) {
    let file = name.to_string_lossy();
    tracing::warn!(%file, reason, "a file of the watched folder was refused");
}
