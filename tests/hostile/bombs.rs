//! Components made by hand to be expensive: small files that would take a compiler long, or much memory,
//! and the words by which each one is refused.

use super::encode::{
    body, component, func_type, function, holding, leb, list, module, repeated, section, sized, sleb,
};

/// A component, and a part of the reason for which it is refused.
pub struct Bomb {
    pub name: &'static str,
    pub wasm: Vec<u8>,
    pub refused: &'static str,
}

/// All of them.
pub fn all() -> Vec<Bomb> {
    [of_code(), of_modules(), of_components()].into_iter().flatten().collect()
}

fn bomb(name: &'static str, wasm: Vec<u8>, refused: &'static str) -> Bomb {
    Bomb { name, wasm, refused }
}

/// Functions that are hard to compile.
fn of_code() -> Vec<Bomb> {
    vec![
        bomb(
            "huge function",
            holding(&function(1, &[0x20, 0, 0x1a].repeat(100_000))),
            " bytes; at most 262144",
        ),
        bomb("much code", copies(40, &body(1, &[0x20, 0, 0x1a].repeat(60_000))), "units of code"),
        bomb("functions", copies(1_000_000, &body(0, &[])), "core functions"),
        bomb("locals", holding(&function(50_000, &[])), "parameters and locals"),
        bomb(
            "nested blocks",
            holding(&function(0, &nested(&[0x02, 0x40], 20_000))),
            "blocks inside one another",
        ),
        bomb("nested loops", holding(&function(0, &nested(&[0x03, 0x40], 900))), "loops inside one another"),
        bomb("blocks", holding(&function(0, &[0x02, 0x40, 0x0b].repeat(20_000))), "blocks and branches"),
        bomb("branch tables", holding(&function(1, &branch_tables(100))), "blocks and branches"),
        bomb("entangled locals", holding(&function(300, &entangled(300))), "units of entangled locals"),
        bomb("entangled functions", copies(500, &body(100, &entangled(100))), "units of entangled locals"),
        bomb("wide calls", wide_calls(100, 5_000), "units of code"),
        bomb("wide types", wide_calls(1_000, 1), "parameters and results"),
        bomb(
            "indirect calls",
            copies(1, &body(0, &[0x41, 0, 0x11, 0, 0].repeat(20_000))),
            "blocks and branches",
        ),
        bomb("calls", copies(1, &body(0, &[0x10, 0].repeat(20_000))), "calls"),
        // No loop and no call: nothing that looks at the clock.
        bomb(
            "fills",
            copies(1, &body(0, &[0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 0x0b, 0].repeat(2_000))),
            "bulk instructions",
        ),
    ]
}

/// Core modules of too many parts.
fn of_modules() -> Vec<Bomb> {
    let memory = [vec![0], leb(256)].concat();
    let at = |offset: i64| [vec![0, 0x41], sleb(offset), vec![0x0b, 1, 7]].concat();
    let sparse = module(&[section(5, &list([&memory])), section(11, &list([at(0), at((250 << 16) - 1)]))]);
    let types = (0..10_000_u32).map(|number| {
        let parameter = |bit: u32| if number >> bit & 1 == 1 { [0x7f] } else { [0x7e] };
        [vec![0x60], list((0..20).map(parameter)), vec![0]].concat()
    });
    vec![
        bomb("modules", component(&vec![section(1, &module(&[])); 900]), "core modules"),
        bomb("types", holding(&[section(1, &list(types))]), "core types"),
        bomb("globals", holding(&[section(6, &repeated(&[0x7f, 0, 0x41, 0, 0x0b], 200_000))]), "globals"),
        bomb("tables", holding(&[section(4, &repeated(&[0x70, 0, 1], 1_000))]), "core tables"),
        bomb(
            "table",
            holding(&[section(4, &list([[vec![0x70, 0], leb(1 << 20)].concat()]))]),
            "table elements",
        ),
        bomb(
            "segment",
            holding(&[section(9, &list([[vec![1, 0], repeated(&[0], 200_000)].concat()]))]),
            "table elements",
        ),
        bomb("memories", component(&vec![section(1, &sparse); 90]), "core memories"),
        bomb("imports", holding(&[section(2, &repeated(b"\x01m\x01n\x02\0\0", 200_000))]), "core imports"),
    ]
}

/// Components of too many parts.
fn of_components() -> Vec<Bomb> {
    let mut deep = component(&[]);
    for _ in 0..500 {
        deep = component(&[section(4, &deep)]);
    }
    let mut nested_types = vec![0x42, 0];
    for _ in 0..5_000 {
        nested_types = [&[0x42, 1, 1][..], &nested_types].concat();
    }
    let mut doubled = vec![vec![0x6f, 2, 0x73, 0x73]];
    for number in 0..40 {
        doubled.push([vec![0x6f, 2], leb(number), leb(number)].concat());
    }
    let names =
        (0..20_000).map(|number| [vec![0], sized(format!("f{number}").as_bytes()), vec![1, 0]].concat());
    let plain = section(7, &list([[0x40, 0, 1, 0]]));
    vec![
        bomb("nested components", deep, "components inside one another"),
        bomb("components", component(&vec![section(4, &component(&[])); 900]), "nested components"),
        bomb("instances", unrolled(40), "items in all component instances"),
        bomb(
            "aliases",
            component(&[section(7, &list([[0x73]])), section(6, &repeated(&[3, 2, 0, 0], 300_000))]),
            "items in all component instances",
        ),
        bomb(
            "lowered functions",
            component(&[section(8, &repeated(&[1, 0, 0, 0], 5_000))]),
            "items in all component instances",
        ),
        bomb(
            "component types",
            component(&[section(7, &repeated(&[0x6f, 1, 0x73], 300_000))]),
            "bytes of component types",
        ),
        bomb(
            "nested types",
            component(&[section(7, &list([nested_types]))]),
            "types that may be inside one another",
        ),
        bomb("doubled types", component(&[section(7, &list(doubled))]), "cannot be compiled"),
        bomb("names", component(&[plain, section(10, &list(names))]), "component imports and exports"),
    ]
}

/// The same function many times, in a module that has a table and a memory.
fn copies(times: usize, body: &[u8]) -> Vec<u8> {
    holding(&[
        section(1, &list([func_type(0, 0)])),
        section(3, &repeated(&[0], times)),
        section(4, &list([[0x70, 0, 1]])),
        section(5, &list([[0, 1]])),
        section(10, &repeated(body, times)),
    ])
}

fn nested(open: &[u8], times: usize) -> Vec<u8> {
    [open.repeat(times), vec![0x0b; times]].concat()
}

/// Tables of a thousand targets, in a hundred blocks.
fn branch_tables(times: usize) -> Vec<u8> {
    let targets: Vec<u8> = (0..=1_000).map(|target| (target % 100) as u8).collect();
    let table = [&[0x02, 0x40, 0x20, 0, 0x0e][..], &leb(1_000), &targets, &[0x0b]].concat();
    [[0x02, 0x40].repeat(100), table.repeat(times), vec![0x0b; 100]].concat()
}

/// As many locals as branches, one inside the other, and each local alive over all of them.
fn entangled(size: u64) -> Vec<u8> {
    let set = |local: u64| [vec![0x41, 1, 0x21], leb(local)].concat();
    let get = |local: u64| [vec![0x20], leb(local), vec![0x1a]].concat();
    [
        (0..size).flat_map(set).collect(),
        [0x20, 0, 0x04, 0x40].repeat(size as usize),
        (0..size).flat_map(set).collect(),
        vec![0x0b; size as usize],
        (0..size).flat_map(get).collect::<Vec<u8>>(),
    ]
    .concat()
}

/// Calls that hand over as many values as they get back.
fn wide_calls(values: usize, calls: usize) -> Vec<u8> {
    let caller = [[0x41, 0].repeat(values), [0x10, 0].repeat(calls), vec![0x1a; values]].concat();
    holding(&[
        section(1, &list([func_type(values, values), func_type(0, 0)])),
        section(3, &list([[0], [1]])),
        section(10, &list([body(0, &[0]), body(0, &caller)])),
    ])
}

/// Components each of which instantiates the one before twice.
fn unrolled(levels: u64) -> Vec<u8> {
    let twice = |level: u64| {
        let before = section(6, &list([[vec![4, 2, 1], leb(level)].concat()]));
        section(4, &component(&[before, section(5, &list([[0, 0, 0], [0, 0, 0]]))]))
    };
    let mut sections = vec![section(4, &component(&[]))];
    sections.extend((0..levels).map(twice));
    sections.push(section(5, &list([[vec![0], leb(levels), vec![0]].concat()])));
    component(&sections)
}
