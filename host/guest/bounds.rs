//! Bounds on what a component is made of, checked before it is compiled.
//!
//! A few kilobytes can be made that take a compiler minutes or gigabytes, and a compilation cannot be
//! stopped. So this module reads a component once, in time linear in its size, and refuses what costs too
//! much. It judges cost only: whether the component is valid is the compiler's question, and a
//! reference to nothing costs nothing here. It never keeps anything of the component.
//!
//! Each limit says what the order component has (550 KB, the largest in the repository). What
//! validation bounds well by itself is left to it: the depth and the size of component types,
//! the exports of a module, instantiation arguments.

mod function;
#[cfg(test)]
mod tests;

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef,
    CompositeInnerType, ElementItems, Encoding, Instance, Parser, Payload, TypeRef,
};

use self::function::Work;
use super::inspect::InvalidComponent;

/// A limit, and the name of what it limits.
#[derive(Debug)]
struct Bound {
    what: &'static str,
    most: u64,
}

const fn bound(what: &'static str, most: u64) -> Bound {
    Bound { what, most }
}

/// Core modules. The order component has 3: the guest and the encoder's two shims.
const MODULES: Bound = bound("core modules", 100);
/// Components inside the component; the order component has 2.
const COMPONENTS: Bound = bound("nested components", 100);
/// Components inside one another; the order component has 2, itself included. Component types have a
/// bound of their own, in validation.
const DEPTH: Bound = bound("components inside one another", 16);
/// Items of all component instances, counted as often as they are instantiated: the compiler unrolls
/// them, and each level of nesting can double their number. The order component has 396. A
/// function that crosses between components counts as [`CROSSING`] items.
const ITEMS: Bound = bound("items in all component instances", 10_000);
/// What a lifted or lowered function counts as: each may need an adapter of compiled code.
const CROSSING: u64 = 10;
/// Bytes of component types; the order component has 6.5 KB. Validation bounds to what
/// they expand.
const TYPE_BYTES: Bound = bound("bytes of component types", 256 * 1024);
/// Types that may be inside one another in a type section: the compiler's reader calls itself for each, before
/// validation could count them, and 60,000 of them end the process with a full stack. Counted without reading them,
/// by the two bytes with which each begins, so a name may count too; validation allows 100 levels.
const NESTED_TYPES: Bound = bound("types that may be inside one another", 300);
/// Names that a component imports or exports, all levels together; the order component has 92. Each one may stand
/// in an error message.
const NAMES: Bound = bound("component imports and exports", 2_000);
/// Types of core functions; the order component has 81. For each one there is a trampoline: 100,000 of
/// them take 9 s and 800 MB.
const TYPES: Bound = bound("core types", 4_000);
/// Parameters, and results, of a core function type; the order component has 10 at most. Each call and each
/// block costs as many moves.
const ARITY: Bound = bound("parameters and results", 100);
/// Core functions, imported ones included; the order component has 1,136. Empty ones take 90 µs and 6 KB each.
const FUNCTIONS: Bound = bound("core functions", 20_000);
/// Core imports, exports, globals and segments; the order component has 53.
const ENTRIES: Bound = bound("core imports, exports, globals and segments", 100_000);
/// Core tables; the order component has 2.
const TABLES: Bound = bound("core tables", 100);
/// Elements that tables begin with, and elements of segments; the order component has 347. The compiler
/// lays each table out: 1,000,000 take 14 MB. An instance may have no more either.
const ELEMENTS: Bound = bound("core table elements", 100_000);
/// Core memories; the order component has 1. Each may have an image of 16 MiB laid out by two data
/// segments of a byte, and is copied once: 31 MB.
const MEMORIES: Bound = bound("core memories", 8);

/// How much of something there is, against its bound.
#[derive(Debug)]
struct Tally {
    bound: &'static Bound,
    count: u64,
}

impl Tally {
    const fn new(bound: &'static Bound) -> Self {
        Self { bound, count: 0 }
    }

    /// Counts more of it.
    fn add(&mut self, more: impl Into<u64>) -> Result<(), InvalidComponent> {
        self.count = self.count.saturating_add(more.into());
        self.bound.check(self.count, || "the component".to_owned())
    }
}

impl Bound {
    fn check(&self, count: u64, whole: impl FnOnce() -> String) -> Result<(), InvalidComponent> {
        if count <= self.most {
            return Ok(());
        }
        Err(InvalidComponent::TooComplex { whole: whole(), what: self.what, count, limit: self.most })
    }
}

/// Refuses a component whose compilation could take too long or too much memory.
pub(super) fn check_bounds(wasm: &[u8]) -> Result<(), InvalidComponent> {
    measure(wasm).map(|_| ())
}

/// Counts what a component is made of.
fn measure(wasm: &[u8]) -> Result<Counts, InvalidComponent> {
    let mut counts = Counts::new();
    let mut open: Vec<Level> = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(malformed)?;
        if let Payload::ComponentTypeSection(section) = &payload {
            check_nesting(wasm, &section.range())?;
        }
        counts.payload(&mut open, payload)?;
    }
    Ok(counts)
}

/// A component or core module that is being read.
enum Level {
    Component(ComponentLevel),
    Module(ModuleLevel),
}

/// What is known of a component that is being read.
#[derive(Default)]
struct ComponentLevel {
    /// What each component in its index space costs to instantiate, in [`ITEMS`].
    components: Vec<u64>,
    /// What it costs itself.
    items: u64,
}

/// What is known of a core module that is being read.
#[derive(Default)]
struct ModuleLevel {
    /// Parameters and results of each type.
    types: Vec<(u32, u32)>,
    /// The type of each function; the imported ones come first.
    functions: Vec<u32>,
    imported: usize,
    /// Bodies that were read.
    bodies: usize,
}

impl ModuleLevel {
    /// Parameters and results of a type.
    fn arity(&self, type_index: u32) -> (u32, u32) {
        self.types.get(type_index as usize).copied().unwrap_or_default()
    }

    /// Parameters and results of a function.
    fn arity_of_function(&self, function: u32) -> (u32, u32) {
        self.functions.get(function as usize).map_or((0, 0), |type_index| self.arity(*type_index))
    }
}

/// Everything that is counted over the whole component.
#[derive(Debug)]
struct Counts {
    modules: Tally,
    components: Tally,
    items: Tally,
    type_bytes: Tally,
    names: Tally,
    types: Tally,
    functions: Tally,
    entries: Tally,
    tables: Tally,
    elements: Tally,
    memories: Tally,
    work: Work,
}

impl Counts {
    const fn new() -> Self {
        Self {
            modules: Tally::new(&MODULES),
            components: Tally::new(&COMPONENTS),
            items: Tally::new(&ITEMS),
            type_bytes: Tally::new(&TYPE_BYTES),
            names: Tally::new(&NAMES),
            types: Tally::new(&TYPES),
            functions: Tally::new(&FUNCTIONS),
            entries: Tally::new(&ENTRIES),
            tables: Tally::new(&TABLES),
            elements: Tally::new(&ELEMENTS),
            memories: Tally::new(&MEMORIES),
            work: Work::new(),
        }
    }

    /// Everything that has a bound over the whole component.
    #[cfg(test)]
    fn tallies(&self) -> [&Tally; 13] {
        [
            &self.modules,
            &self.components,
            &self.items,
            &self.type_bytes,
            &self.names,
            &self.types,
            &self.functions,
            &self.entries,
            &self.tables,
            &self.elements,
            &self.memories,
            &self.work.weight,
            &self.work.tangle,
        ]
    }

    /// Reads a payload; `open` are the components and modules around it.
    fn payload(&mut self, open: &mut Vec<Level>, payload: Payload<'_>) -> Result<(), InvalidComponent> {
        match payload {
            Payload::Version { encoding, .. } => {
                open.push(match encoding {
                    Encoding::Module => Level::Module(ModuleLevel::default()),
                    Encoding::Component => Level::Component(ComponentLevel::default()),
                });
                return DEPTH.check(open.len() as u64, || "the component".to_owned());
            }
            Payload::ModuleSection { .. } => return self.modules.add(1_u8),
            Payload::ComponentSection { .. } => return self.components.add(1_u8),
            Payload::End(_) => return self.end(open),
            _ => {}
        }
        match open.last_mut() {
            Some(Level::Module(module)) => self.of_module(module, payload),
            Some(Level::Component(_)) => self.of_component(open, payload),
            None => Ok(()),
        }
    }

    /// A component's cost is known at its end.
    fn end(&mut self, open: &mut Vec<Level>) -> Result<(), InvalidComponent> {
        let Some(Level::Component(ended)) = open.pop() else {
            return Ok(());
        };
        if let Some(Level::Component(around)) = open.last_mut() {
            around.components.push(ended.items.saturating_add(1));
            return Ok(());
        }
        self.items.add(ended.items)
    }

    /// Reads a section of the component on top of `open`.
    fn of_component(&mut self, open: &mut [Level], payload: Payload<'_>) -> Result<(), InvalidComponent> {
        let mut items = 0_u64;
        let mut components = Vec::new();
        match payload {
            Payload::ComponentTypeSection(section) => self.type_bytes.add(length(section.range()))?,
            Payload::CoreTypeSection(section) => self.type_bytes.add(length(section.range()))?,
            Payload::ComponentImportSection(section) => {
                self.names.add(section.count())?;
                items = section.count().into();
                for import in section {
                    if matches!(import.map_err(malformed)?.ty, ComponentTypeRef::Component(_)) {
                        components.push(ITEMS.most);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                self.names.add(section.count())?;
                items = section.count().into();
                for export in section {
                    let export = export.map_err(malformed)?;
                    if export.kind == ComponentExternalKind::Component {
                        components.push(ITEMS.most);
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                items = u64::from(section.count()).saturating_mul(CROSSING);
            }
            Payload::ComponentAliasSection(section) => {
                items = section.count().into();
                ITEMS.check(items, || "the component".to_owned())?;
                for alias in section {
                    components.extend(aliased(open, &alias.map_err(malformed)?));
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    items = items.saturating_add(match instance.map_err(malformed)? {
                        Instance::Instantiate { args, .. } => 1 + args.len() as u64,
                        Instance::FromExports(exports) => 1 + exports.len() as u64,
                    });
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    items = items.saturating_add(match instance.map_err(malformed)? {
                        ComponentInstance::Instantiate { component_index, args } => {
                            1 + args.len() as u64 + cost(open, component_index)
                        }
                        ComponentInstance::FromExports(exports) => 1 + exports.len() as u64,
                    });
                }
            }
            _ => {}
        }
        let Some(Level::Component(component)) = open.last_mut() else {
            return Ok(());
        };
        component.components.append(&mut components);
        component.items = component.items.saturating_add(items);
        ITEMS.check(component.items, || "the component".to_owned())
    }

    /// Reads a section of a core module.
    fn of_module(&mut self, module: &mut ModuleLevel, payload: Payload<'_>) -> Result<(), InvalidComponent> {
        match payload {
            Payload::TypeSection(section) => {
                self.types.add(section.count())?;
                for group in section {
                    for sub in group.map_err(malformed)?.into_types() {
                        module.types.push(arity(&sub.composite_type.inner)?);
                    }
                }
            }
            Payload::ImportSection(section) => {
                self.entries.add(section.count())?;
                for import in section.into_imports() {
                    match import.map_err(malformed)?.ty {
                        TypeRef::Func(type_index) | TypeRef::FuncExact(type_index) => {
                            self.functions.add(1_u8)?;
                            module.functions.push(type_index);
                        }
                        TypeRef::Table(_) | TypeRef::Memory(_) | TypeRef::Global(_) | TypeRef::Tag(_) => {}
                    }
                }
                module.imported = module.functions.len();
            }
            Payload::FunctionSection(section) => {
                self.functions.add(section.count())?;
                for type_index in section {
                    module.functions.push(type_index.map_err(malformed)?);
                }
            }
            Payload::TableSection(section) => {
                self.tables.add(section.count())?;
                for table in section {
                    self.elements.add(table.map_err(malformed)?.ty.initial)?;
                }
            }
            Payload::MemorySection(section) => self.memories.add(section.count())?,
            Payload::GlobalSection(section) => self.entries.add(section.count())?,
            Payload::ExportSection(section) => self.entries.add(section.count())?,
            Payload::DataSection(section) => self.entries.add(section.count())?,
            Payload::ElementSection(section) => {
                self.entries.add(section.count())?;
                for segment in section {
                    self.elements.add(match segment.map_err(malformed)?.items {
                        ElementItems::Functions(functions) => functions.count(),
                        ElementItems::Expressions(_, expressions) => expressions.count(),
                    })?;
                }
            }
            Payload::CodeSectionEntry(body) => {
                let index = module.imported + module.bodies;
                module.bodies += 1;
                self.work.add_function(module, index, &body)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The cost of the components that an alias puts into the index space of the component on top.
fn aliased(open: &[Level], alias: &ComponentAlias<'_>) -> Option<u64> {
    match alias {
        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => Some(ITEMS.most),
        ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
            let around = open.len().checked_sub(1)?.checked_sub(*count as usize)?;
            Some(cost(open.get(..=around)?, *index))
        }
        ComponentAlias::InstanceExport { .. }
        | ComponentAlias::CoreInstanceExport { .. }
        | ComponentAlias::Outer { .. } => None,
    }
}

/// What a component costs that the component on top of `open` knows by an index. One that came from
/// elsewhere (imported, or exported by an instance) could be anything; no encoder makes such.
fn cost(open: &[Level], index: u32) -> u64 {
    match open.last() {
        Some(Level::Component(component)) => {
            component.components.get(index as usize).copied().unwrap_or_default()
        }
        Some(Level::Module(_)) | None => 0,
    }
}

/// Parameters and results of a core type.
fn arity(composite: &CompositeInnerType) -> Result<(u32, u32), InvalidComponent> {
    let CompositeInnerType::Func(function) = composite else {
        return Ok((0, 0));
    };
    let count = |values: usize| -> Result<u32, InvalidComponent> {
        let count = u32::try_from(values).unwrap_or(u32::MAX);
        ARITY.check(count.into(), || "a core function type".to_owned())?;
        Ok(count)
    };
    Ok((count(function.params().len())?, count(function.results().len())?))
}

/// Checks how deep the types of a section can be inside one another, without following them.
fn check_nesting(wasm: &[u8], section: &std::ops::Range<u64>) -> Result<(), InvalidComponent> {
    /// Begins the declaration of a type in another one; then what begins a component's and an instance's type.
    const DECLARED: u8 = 0x01;
    const COMPONENT: u8 = 0x41;
    const INSTANCE: u8 = 0x42;
    let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    let bytes = wasm.get(place(section.start)..place(section.end)).unwrap_or(wasm);
    let nested = bytes.windows(2).filter(|pair| matches!(pair, [DECLARED, COMPONENT | INSTANCE])).count();
    NESTED_TYPES.check(nested as u64, || "a section of the component".to_owned())
}

fn length(range: std::ops::Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

fn malformed(error: wasmparser::Error) -> InvalidComponent {
    InvalidComponent::Malformed(error.to_string())
}
