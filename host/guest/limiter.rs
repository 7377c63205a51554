//! What an instance may take of the machine. Passing a limit traps: a guest that could see a
//! refused allocation would behave differently under another setting, or on a fuller machine.

use wasmtime::ResourceLimiter;

use super::fault::Stop;

/// Elements of all tables of an instance. A Rust guest has one function table of some hundreds.
pub(super) const TABLE_ELEMENTS: usize = 100_000;
/// Core instances, memories and tables of an instance. A component of one core module has three
/// core instances (the module and wit-component's two shims), one memory and two tables.
pub(super) const PARTS: u32 = 32;

/// What one instance has taken so far.
#[derive(Debug)]
pub(super) struct Limiter {
    memory_limit: usize,
    memory: usize,
    table_elements: usize,
}

impl Limiter {
    pub(super) const fn new(memory_limit: usize) -> Self {
        Self { memory_limit, memory: 0, table_elements: 0 }
    }

    /// Bytes of linear memory.
    pub(super) const fn memory(&self) -> usize {
        self.memory
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Its own declared maximum is part of the component: every host refuses the same.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let memory = self.memory.saturating_add(desired.saturating_sub(current));
        if memory > self.memory_limit {
            return Err(Stop::limit(format!("guest memory limit of {} bytes", self.memory_limit)).into());
        }
        self.memory = memory;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Stop::limit(format!("the machine gives the guest no more memory: {error}")).into())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let elements = self.table_elements.saturating_add(desired.saturating_sub(current));
        if elements > TABLE_ELEMENTS {
            return Err(Stop::limit(format!("guest table limit of {TABLE_ELEMENTS} elements")).into());
        }
        self.table_elements = elements;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Stop::limit(format!("the machine gives the guest no more table space: {error}")).into())
    }

    fn instances(&self) -> usize {
        PARTS as usize
    }

    fn tables(&self) -> usize {
        PARTS as usize
    }

    fn memories(&self) -> usize {
        PARTS as usize
    }
}
