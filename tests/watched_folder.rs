//! A folder whose components are deployed: what is dropped into it, and what is told of it, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use everfold::activity::Registry;
use everfold::clock::{Clock, TimeSource as _, VirtualTime};
use everfold::guest::EngineSettings;
use everfold::runner::HostSettings;
use everfold_core::ids::{Digest, Namespace, Timestamp};
use everfold_core::machine::RunStatus;
use parking_lot::Mutex;
use serde_json::json;
use support::{TestHost, component};
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// What hosts of this process told, down to `info`; all tests share it.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::INFO && event.metadata().target().starts_with("everfold") {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.0.lock().push(line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

fn lines() -> Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    let subscribe = || {
        let lines = Lines::default();
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines.clone())).unwrap();
        lines
    };
    LINES.get_or_init(subscribe).clone()
}

/// A host that watches a folder. Names of files are different in each test, so that lines can be told apart.
struct Bench {
    data: TempDir,
    watched: TempDir,
    time: VirtualTime,
    lines: Lines,
    test: TestHost,
}

impl Bench {
    async fn open() -> Self {
        let (data, watched) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let time = VirtualTime::starting_at(Timestamp(1_700_000_000_000));
        let test = host(&data, &time).await;
        Self { data, watched, time, lines: lines(), test }
    }

    /// Begins to watch, and waits until the first look is over.
    async fn watch(&self) {
        let path = self.watched.path().to_owned();
        let open = move || Dir::open_ambient_dir(&path, ambient_authority());
        self.test.host.watch(open, Namespace::default());
        self.looked().await;
    }

    /// Waits until the watcher sleeps until a second from now.
    async fn looked(&self) {
        while self.time.next_wake() != Some(self.time.now().plus_ms(1_000)) {
            tokio::task::yield_now().await;
        }
    }

    /// Lets it look once.
    async fn look(&self) {
        self.time.advance_to(self.time.now().plus_ms(1_000));
        self.looked().await;
    }

    /// Lets it look so often that whatever stands still was taken, and would be told again.
    async fn settle(&self) {
        for _ in 0..4 {
            self.look().await;
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.watched.path().join(file)
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).unwrap();
    }

    /// What was told of a file since the last time.
    fn told(&self, file: &str) -> Vec<String> {
        self.lines.0.lock().extract_if(.., |line| line.contains(file)).collect()
    }

    async fn deployed(&self) -> Vec<Digest> {
        let rows = self.test.host.components(&Namespace::default()).await.unwrap();
        rows.into_iter().map(|row| row.digest).collect()
    }

    async fn restart(self) -> Self {
        let Self { data, watched, time, lines, test } = self;
        test.stop().await;
        let test = host(&data, &time).await;
        Self { data, watched, time, lines, test }
    }
}

async fn host(data: &TempDir, time: &VirtualTime) -> TestHost {
    let clock = Clock::from_source(time.clone());
    let engine = EngineSettings { component_bytes: 4 * 1024 * 1024, ..EngineSettings::default() };
    TestHost::open_at(data.path(), Registry::default(), &HostSettings::default(), engine, clock).await
}

/// The samples by another digest.
fn other_samples() -> Vec<u8> {
    let mut bytes = component("samples");
    bytes.extend_from_slice(b"\0\x06\x05other");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_and_what_is_dropped_is_deployed_and_told_once() {
    let bench = Bench::open().await;
    bench.write("once-a.wasm", &component("samples"));
    bench.watch().await;
    bench.settle().await;
    let told = bench.told("once-a.wasm");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("INFO message=deployed a component from the watched folder"), "{told:?}");
    let digest = bench.deployed().await[0];
    assert!(told[0].contains(&format!("digest={digest}")) && told[0].contains("echo (current)"), "{told:?}");
    bench.test.start("echo", "run", &json!(1)).await;
    assert_eq!(bench.test.end("run").await.status, RunStatus::Completed);

    // The same bytes twice are no new version; other bytes are one, and no route leads to them yet.
    bench.write("once-b.wasm", &component("samples"));
    bench.settle().await;
    let told = bench.told("once-b.wasm");
    assert!(told.len() == 1 && told[0].contains("was deployed before"), "{told:#?}");
    bench.write("once-c.wasm", &other_samples());
    bench.settle().await;
    let told = bench.told("once-c.wasm");
    assert!(told.len() == 1 && told[0].contains("echo (candidate)"), "{told:#?}");
    assert_eq!(bench.deployed().await.len(), 2);

    fs::remove_file(bench.path("once-a.wasm")).unwrap();
    bench.settle().await;
    assert_eq!(bench.deployed().await.len(), 2, "what is taken away stays deployed");
    assert_eq!(bench.told("once-a.wasm"), [""; 0]);
    bench.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_half_written_is_not_taken_and_a_bad_one_changes_nothing() {
    let bench = Bench::open().await;
    bench.watch().await;
    let whole = component("samples");
    for part in [1, 2, 3] {
        bench.write("half.wasm", &whole[..whole.len() / 4 * part]);
        bench.look().await;
    }
    assert_eq!((bench.told("half.wasm"), bench.deployed().await), (vec![], vec![]));
    // It stands still, and is no component.
    bench.settle().await;
    let told = bench.told("half.wasm");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("WARN message=a file of the watched folder was refused"), "{told:?}");
    assert!(told[0].contains("the component cannot be compiled"), "{told:?}");
    assert_eq!(bench.deployed().await, []);

    bench.write("half.wasm", b"no component");
    bench.settle().await;
    let told = bench.told("half.wasm");
    assert!(told.len() == 1 && told[0].contains("this is not a WebAssembly binary"), "{told:#?}");
    bench.write("half.wasm", &vec![0; 4 * 1024 * 1024 + 1]);
    bench.settle().await;
    let told = bench.told("half.wasm");
    assert!(told.len() == 1 && told[0].contains("at most 4194304 are allowed"), "{told:#?}");
    bench.write("half.wasm", &whole);
    bench.settle().await;
    let told = bench.told("half.wasm");
    assert!(told.len() == 1 && told[0].contains("deployed a component"), "{told:#?}");
    assert_eq!(bench.deployed().await.len(), 1);
    bench.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_out_of_the_folder_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("outside.wasm"), component("samples")).unwrap();
    let bench = Bench::open().await;
    std::os::unix::fs::symlink(outside.path().join("outside.wasm"), bench.path("link.wasm")).unwrap();
    bench.watch().await;
    bench.settle().await;
    let told = bench.told("link.wasm");
    assert_eq!(told.len(), 1, "it is tried again, but told once: {told:#?}");
    assert!(told[0].contains("cannot be taken now") && told[0].contains("cannot be read"), "{told:?}");
    assert_eq!(bench.deployed().await, []);
    // The same file in the link's place is another matter.
    fs::rename(outside.path().join("outside.wasm"), bench.path("link.wasm")).unwrap();
    bench.settle().await;
    assert_eq!(bench.deployed().await.len(), 1);
    bench.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_retired_stays_so_until_its_file_is_dropped_again() {
    let bench = Bench::open().await;
    bench.write("retired-a.wasm", &component("samples"));
    bench.watch().await;
    bench.settle().await;
    bench.write("retired-b.wasm", &other_samples());
    bench.settle().await;
    let namespace = Namespace::default();
    let versions = bench.test.host.versions(&namespace, "echo").await.unwrap();
    let other = versions.versions.iter().find(|version| version.row.digest != versions.routing.route.current);
    let other = other.unwrap().row.digest;
    bench.test.host.retire(&namespace, "echo", other).await.unwrap();

    let retired = async |bench: &Bench| {
        let versions = bench.test.host.versions(&namespace, "echo").await.unwrap().versions;
        let version = versions.into_iter().find(|version| version.row.digest == other).unwrap();
        version.row.retired_at.is_some()
    };
    let bench = bench.restart().await;
    bench.watch().await;
    bench.settle().await;
    assert!(retired(&bench).await, "a file that lies there asks for nothing");
    bench.write("retired-b.wasm", &other_samples());
    bench.settle().await;
    assert!(!retired(&bench).await, "a file that is dropped does");
    bench.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_gone_is_told_once_and_one_that_comes_instead_is_taken() {
    let bench = Bench::open().await;
    bench.watch().await;
    let before = bench.told("the folder of components cannot be read").len();
    fs::remove_dir(bench.watched.path()).unwrap();
    bench.settle().await;
    let told = bench.told("the folder of components cannot be read");
    assert_eq!((before, told.len()), (0, 1), "{told:#?}");
    assert!(told[0].starts_with("WARN ") && told[0].contains("it was removed"), "{told:?}");
    fs::create_dir(bench.watched.path()).unwrap();
    bench.write("instead.wasm", &component("samples"));
    bench.settle().await;
    assert_eq!(bench.deployed().await.len(), 1);
    bench.test.stop().await;
}
