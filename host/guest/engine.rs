//! The engine: one wasmtime configuration, one linker, one tick for all components of a host.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use everfold_core::fold::GuestFault;
use parking_lot::{Mutex, MutexGuard};
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, PoolingAllocationConfig, WasmBacktraceDetails, WasmFeatures};

use super::bindings::WorkflowComponent;
use super::cache::CodeCache;
use super::component::LoadedComponent;
use super::inspect::InvalidComponent;
use super::limiter::{PARTS, TABLE_ELEMENTS};
use super::state::GuestState;
use super::ticker::Ticker;

/// Frames of a guest's backtrace. A panic's own machinery takes about ten of them.
const BACKTRACE_FRAMES: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");

/// Where instances get their memory from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Mapped for each instance and unmapped behind it: no memory is set aside.
    OnDemand,
    /// From slots that are set aside once and used again, so that most of an instance's pages are there
    /// already and no mapping changes. Reserves 4 GiB of address space (not of memory) for each slot.
    Pooled {
        /// Instances at once; a further one is refused ([`NoInstance::Full`]).
        instances: u32,
    },
}

/// Why there is no instance.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoInstance {
    /// Every slot is in use: nothing is known about the code.
    #[error("all {0} instances that the host may have at once are in use")]
    Full(u32),
    /// The start of the guest trapped or passed a limit.
    #[error(transparent)]
    Fault(#[from] GuestFault),
}

/// Bytes of wasmtime's own bookkeeping for one instance.
const INSTANCE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a free slot's memory, and of its tables, that stay where they are if they were written. An order's run writes
/// far less.
const KEPT_MEMORY_BYTES: usize = 2 * 1024 * 1024;
const KEPT_TABLE_BYTES: usize = 16 * 1024;

/// What a guest may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Where instances get their memory from.
    pub allocation: Allocation,
    /// Bytes of an instance's linear memories together. Growing past them traps.
    pub memory_bytes: usize,
    /// Wall time of one activation, of `describe`, and of an instance's start.
    pub activation_time: Duration,
    /// Bytes of a component.
    pub component_bytes: usize,
    /// Bytes of the native stack that a guest's calls may take. A thread that runs guests needs
    /// this and half a megabyte more; Rust's and tokio's threads have 2 MiB.
    pub stack_bytes: usize,
    /// Bytes that one call may hand over to the host. Above the payload limit, so that a payload
    /// that is too large is named as that.
    pub call_bytes: usize,
    /// Bytes that all commands of one activation may have together.
    pub activation_bytes: usize,
}

impl Default for EngineSettings {
    /// DESIGN.md section 6; instances are made on demand.
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            allocation: Allocation::OnDemand,
            memory_bytes: 64 * MIB,
            activation_time: Duration::from_secs(1),
            component_bytes: 16 * MIB,
            stack_bytes: MIB / 2,
            call_bytes: 16 * MIB,
            activation_bytes: 64 * MIB,
        }
    }
}

/// An engine that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refuses the settings.
    #[error("the guest engine cannot be set up: {0}")]
    Settings(String),
    /// The ticking thread did not start.
    #[error("the guest engine's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Compiles components and gives their instances what they share. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    settings: EngineSettings,
    wasmtime: wasmtime::Engine,
    linker: Linker<GuestState>,
    code_cache: Option<CodeCache>,
    /// Held while a component is compiled.
    compiling: Mutex<()>,
    /// Lives as long as any component or instance: each holds the engine.
    _ticker: Ticker,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine; with a `code_cache` it compiles each component once.
    ///
    /// # Errors
    /// When wasmtime refuses the settings, or no thread can be started.
    pub fn new(settings: EngineSettings, code_cache: Option<CodeCache>) -> Result<Self, EngineError> {
        let refused = |error: wasmtime::Error| EngineError::Settings(format!("{error:#}"));
        let wasmtime = wasmtime::Engine::new(&config(&settings)).map_err(refused)?;
        let mut linker = Linker::new(&wasmtime);
        WorkflowComponent::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state).map_err(refused)?;
        let ticker = Ticker::start(wasmtime.clone())?;
        let compiling = Mutex::default();
        let inner = Inner { settings, wasmtime, linker, code_cache, compiling, _ticker: ticker };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The limits in force.
    #[must_use]
    pub fn settings(&self) -> &EngineSettings {
        &self.inner.settings
    }

    /// Checks a component, compiles it (or takes its code from the cache), and asks it what it
    /// offers. Takes the processor for as long as compilation does: call it where blocking is
    /// allowed.
    ///
    /// # Errors
    /// Why the bytes are no component that can be deployed.
    pub fn load(&self, wasm: &[u8]) -> Result<LoadedComponent, InvalidComponent> {
        LoadedComponent::load(self, wasm)
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    pub(super) fn linker(&self) -> &Linker<GuestState> {
        &self.inner.linker
    }

    /// Waits until nothing is compiled, and keeps it so.
    pub(super) fn compiling(&self) -> MutexGuard<'_, ()> {
        self.inner.compiling.lock()
    }

    pub(super) fn code_cache(&self) -> Option<&CodeCache> {
        self.inner.code_cache.as_ref()
    }
}

/// The configuration: whatever could make two runs of the same code differ is off or fixed, and
/// everything that a guest takes is bounded.
fn config(settings: &EngineSettings) -> Config {
    let mut config = Config::new();
    if let Allocation::Pooled { instances } = settings.allocation {
        config.allocation_strategy(pool(settings, instances));
    }
    config
        // Exports are synchronous: no fibers, no concurrency inside a component.
        .concurrency_support(false)
        // Results of floating-point operations are the same on every processor.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_features(WasmFeatures::THREADS | WasmFeatures::SHARED_EVERYTHING_THREADS, false)
        .shared_memory(false)
        // No garbage collector, whose timing could be observed, and nothing that needs one.
        .gc_support(false)
        .wasm_features(
            WasmFeatures::GC
                | WasmFeatures::FUNCTION_REFERENCES
                | WasmFeatures::EXCEPTIONS
                | WasmFeatures::LEGACY_EXCEPTIONS
                | WasmFeatures::STACK_SWITCHING,
            false,
        )
        // 32-bit memories of 64 KiB pages: guarded by address space, without bounds checks.
        .wasm_features(WasmFeatures::MEMORY64 | WasmFeatures::CUSTOM_PAGE_SIZES, false)
        .max_wasm_stack(settings.stack_bytes)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES))
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config
}

/// A pool whose limits are those of [`Limiter`](super::limiter::Limiter), so that what fits the one fits the
/// other. A component of one core module takes three core instances, one memory and two tables.
fn pool(settings: &EngineSettings, instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(4))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(3))
        .max_memories_per_module(PARTS)
        .max_tables_per_module(PARTS)
        .max_memory_size(settings.memory_bytes)
        .table_elements(TABLE_ELEMENTS)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_component_instance_size(INSTANCE_BYTES)
        // What an instance wrote is put back page by page, and the pages stay for the next one. The kernel
        // tells which pages those are, where it can; elsewhere all that is kept is put back.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(KEPT_MEMORY_BYTES)
        .table_keep_resident(KEPT_TABLE_BYTES);
    pool
}
