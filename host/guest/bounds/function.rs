//! What the code of core functions costs to compile.
//!
//! Three things make a compiler slow: much code, many paths through one function, and many variables that
//! are alive over many paths. The first grows linearly, the others together with the square of a function's
//! size. Each has a measure here, with a limit for one function and one for all.

use wasmparser::{BlockType, FunctionBody, Operator};

use super::{Bound, ModuleLevel, Tally, bound, malformed};
use crate::guest::inspect::InvalidComponent;

/// Bytes of a function; the order component's largest has 33 KB.
const BODY: Bound = bound("bytes", 256 * 1024);
/// Parameters and locals of a function; the order component has 61 at most.
const LOCALS: Bound = bound("parameters and locals", 1_000);
/// Blocks inside one another; the order component has 89 at most, of a large `match`.
const DEPTH: Bound = bound("blocks inside one another", 1_000);
/// Loops inside one another; the order component has 3 at most. The compiler's time grows with the square.
const LOOPS: Bound = bound("loops inside one another", 32);
/// Blocks, branches and what is compiled to branches in a function; the order component has 800 at most.
/// The compiler's time grows with the square: 10,000 take 0.5 s.
const PATHS: Bound = bound("blocks and branches", 10_000);
/// The square of the locals times the paths of a function; the order component has 2.5 million at
/// most. A million takes up to 0.3 s and 20 MB.
const TANGLE: Bound = bound("units of entangled locals (locals² × blocks and branches)", 20_000_000);
/// The same for all functions; the order component has 5.7 million.
const ALL_TANGLE: Bound = bound("units of entangled locals (locals² × blocks and branches)", 60_000_000);
/// Calls in a function: code looks at the clock where a function or a turn of a loop begins, and each call of the host may take
/// milliseconds. The order component has 434 at most.
const CALLS: Bound = bound("calls", 5_000);
/// Instructions of a function that may touch all of its memory, for the same reason: 64 MiB take about 6 ms.
/// The order component has 62 at most.
const BULK: Bound = bound("bulk instructions", 1_000);
/// Instructions of all functions, each with its weight; the order component has 240,000.
const WORK: Bound = bound("units of code (weighed instructions)", 4_000_000);

/// What code is made of, over all functions.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) weight: Tally,
    pub(super) tangle: Tally,
}

/// One function.
#[derive(Default)]
struct Function {
    locals: u64,
    paths: u64,
    calls: u64,
    bulk: u64,
    loops: u64,
    weight: u64,
    /// For each open block whether it is a loop, and how many values a branch to it takes.
    blocks: Vec<(Kind, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Loop,
    Forward,
}

impl Work {
    pub(super) const fn new() -> Self {
        Self { weight: Tally::new(&WORK), tangle: Tally::new(&ALL_TANGLE) }
    }

    /// Counts a function's body.
    pub(super) fn add_function(
        &mut self,
        module: &ModuleLevel,
        index: usize,
        body: &FunctionBody<'_>,
    ) -> Result<(), InvalidComponent> {
        let named = || format!("core function {index}");
        BODY.check(super::length(body.range()), named)?;
        let (params, results) = module.arity_of_function(u32::try_from(index).unwrap_or(u32::MAX));
        let mut function = Function { locals: params.into(), ..Function::default() };
        for locals in body.get_locals_reader().map_err(malformed)? {
            let (count, _) = locals.map_err(malformed)?;
            function.locals += u64::from(count);
            LOCALS.check(function.locals, named)?;
        }
        function.blocks.push((Kind::Forward, results.into()));
        let mut operators = body.get_operators_reader().map_err(malformed)?;
        while !operators.eof() {
            function.read(module, &operators.read().map_err(malformed)?);
            DEPTH.check(function.blocks.len() as u64, named)?;
            LOOPS.check(function.loops, named)?;
            PATHS.check(function.paths, named)?;
            CALLS.check(function.calls, named)?;
            BULK.check(function.bulk, named)?;
            WORK.check(function.weight, named)?;
        }
        let tangle = function.locals.pow(2).saturating_mul(function.paths);
        TANGLE.check(tangle, named)?;
        self.tangle.add(tangle)?;
        self.weight.add(function.weight)
    }
}

impl Function {
    /// Counts an instruction.
    fn read(&mut self, module: &ModuleLevel, operator: &Operator<'_>) {
        self.weight += match operator {
            Operator::Block { blockty } | Operator::If { blockty } => {
                let (params, results) = self.arity(module, *blockty);
                self.open(Kind::Forward, results);
                2 + params + results
            }
            Operator::Loop { blockty } => {
                let (params, results) = self.arity(module, *blockty);
                self.loops += 1;
                self.open(Kind::Loop, params);
                10 + 3 * params + results
            }
            Operator::End => {
                if let Some((Kind::Loop, _)) = self.blocks.pop() {
                    self.loops -= 1;
                }
                1
            }
            Operator::Else => 1,
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                self.paths += 1;
                1 + self.taken(*relative_depth)
            }
            Operator::BrTable { targets } => {
                self.paths += 1;
                let values = self.taken(targets.default());
                let targets = u64::from(targets.len());
                // Many targets of few blocks are few paths.
                self.paths += targets.min(self.blocks.len() as u64);
                1 + (1 + targets).saturating_mul(1 + values)
            }
            Operator::Return => 1 + self.blocks.first().map_or(0, |(_, values)| *values),
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                self.calls += 1;
                let (params, results) = module.arity_of_function(*function_index);
                2 + moves(params, results)
            }
            Operator::CallIndirect { type_index, .. } | Operator::ReturnCallIndirect { type_index, .. } => {
                // An element that is not there yet, a null, another type: each is a path.
                self.calls += 1;
                self.paths += 4;
                let (params, results) = module.arity(*type_index);
                40 + moves(params, results)
            }
            Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryInit { .. }
            | Operator::MemoryGrow { .. }
            | Operator::TableCopy { .. }
            | Operator::TableFill { .. }
            | Operator::TableInit { .. }
            | Operator::TableGrow { .. } => {
                self.bulk += 1;
                self.paths += 1;
                10
            }
            Operator::TableGet { .. } | Operator::TableSet { .. } => {
                self.paths += 4;
                20
            }
            operator => weight(operator),
        };
    }

    /// Opens a block to which a branch takes that many values.
    fn open(&mut self, kind: Kind, values: u64) {
        self.paths += 1;
        self.blocks.push((kind, values));
    }

    /// The values that a branch takes.
    fn taken(&self, relative_depth: u32) -> u64 {
        let block = self.blocks.len().checked_sub(1 + relative_depth as usize);
        block.and_then(|block| self.blocks.get(block)).map_or(0, |(_, values)| *values)
    }

    /// Parameters and results of a block.
    fn arity(&self, module: &ModuleLevel, block: BlockType) -> (u64, u64) {
        match block {
            BlockType::Empty => (0, 0),
            BlockType::Type(_) => (0, 1),
            BlockType::FuncType(type_index) => {
                let (params, results) = module.arity(type_index);
                (params.into(), results.into())
            }
        }
    }
}

/// What a call's values cost: the first ones are in registers, the others go over the stack, and what was there
/// before them must go elsewhere.
fn moves(params: u32, results: u32) -> u64 {
    const IN_REGISTERS: u64 = 16;
    const ON_THE_STACK: u64 = 20;
    let values = u64::from(params) + u64::from(results);
    2 * values.min(IN_REGISTERS) + ON_THE_STACK * values.saturating_sub(IN_REGISTERS)
}

/// What an instruction costs that takes one path: those that integer code is made of are cheap; what is
/// not named here (floating-point operations with canonical NaNs, vectors) may become dozens of instructions.
const fn weight(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::Nop
        | Operator::Drop
        | Operator::Unreachable
        | Operator::LocalGet { .. }
        | Operator::LocalSet { .. }
        | Operator::LocalTee { .. }
        | Operator::GlobalGet { .. }
        | Operator::GlobalSet { .. }
        | Operator::I32Const { .. }
        | Operator::I64Const { .. }
        | Operator::F32Const { .. }
        | Operator::F64Const { .. }
        | Operator::Select
        | Operator::I32Eqz
        | Operator::I32Eq
        | Operator::I32Ne
        | Operator::I32LtS
        | Operator::I32LtU
        | Operator::I32GtS
        | Operator::I32GtU
        | Operator::I32LeS
        | Operator::I32LeU
        | Operator::I32GeS
        | Operator::I32GeU
        | Operator::I32Add
        | Operator::I32Sub
        | Operator::I32Mul
        | Operator::I32And
        | Operator::I32Or
        | Operator::I32Xor
        | Operator::I32Shl
        | Operator::I32ShrS
        | Operator::I32ShrU
        | Operator::I64Eqz
        | Operator::I64Eq
        | Operator::I64Ne
        | Operator::I64LtS
        | Operator::I64LtU
        | Operator::I64GtS
        | Operator::I64GtU
        | Operator::I64LeS
        | Operator::I64LeU
        | Operator::I64GeS
        | Operator::I64GeU
        | Operator::I64Add
        | Operator::I64Sub
        | Operator::I64Mul
        | Operator::I64And
        | Operator::I64Or
        | Operator::I64Xor
        | Operator::I64Shl
        | Operator::I64ShrS
        | Operator::I64ShrU
        | Operator::I32WrapI64
        | Operator::I64ExtendI32S
        | Operator::I64ExtendI32U => 1,
        Operator::I32Load { .. }
        | Operator::I32Load8S { .. }
        | Operator::I32Load8U { .. }
        | Operator::I32Load16S { .. }
        | Operator::I32Load16U { .. }
        | Operator::I64Load { .. }
        | Operator::I64Load8S { .. }
        | Operator::I64Load8U { .. }
        | Operator::I64Load16S { .. }
        | Operator::I64Load16U { .. }
        | Operator::I64Load32S { .. }
        | Operator::I64Load32U { .. }
        | Operator::I32Store { .. }
        | Operator::I32Store8 { .. }
        | Operator::I32Store16 { .. }
        | Operator::I64Store { .. }
        | Operator::I64Store8 { .. }
        | Operator::I64Store16 { .. }
        | Operator::I64Store32 { .. } => 2,
        _ => 10,
    }
}
