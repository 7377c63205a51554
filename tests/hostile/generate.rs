//! Components that a generator breaks, from a seed: random bytes, real ones cut off or changed, modules that a
//! generator of WebAssembly made up.

use std::ops::Range;

use arbitrary::{Arbitrary, Unstructured};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::encode::{component, section};

/// Makes cases of a corpus of sound components.
pub struct Generator {
    random: ChaCha8Rng,
    corpus: Vec<Vec<u8>>,
}

impl Generator {
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), corpus }
    }

    /// The next case, and what kind it is.
    pub fn next(&mut self) -> (&'static str, Vec<u8>) {
        match self.below(7) {
            0 => ("random bytes", self.bytes(2_000)),
            1 => ("random bytes in a component", [b"\0asm\x0d\0\x01\0".to_vec(), self.bytes(2_000)].concat()),
            2 => ("cut off", self.cut_off()),
            3 => ("changed bytes", self.changed()),
            4 => ("sections moved", self.sections_moved()),
            5 => ("a mutated module", self.mutated_module()),
            _ => ("a made-up module", self.made_up_module()),
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random.next_u64() % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(limit)];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn sound(&mut self) -> Vec<u8> {
        let number = self.below(self.corpus.len());
        self.corpus[number].clone()
    }

    fn cut_off(&mut self) -> Vec<u8> {
        let mut wasm = self.sound();
        let length = self.below(wasm.len());
        wasm.truncate(length);
        wasm
    }

    fn changed(&mut self) -> Vec<u8> {
        let mut wasm = self.sound();
        for _ in 0..=self.below(6) {
            let at = self.below(wasm.len());
            let byte = self.random.next_u64() as u8;
            match self.below(4) {
                0 => wasm[at] ^= 1 << (byte % 8),
                1 => wasm[at] = byte,
                2 => wasm.insert(at, byte),
                _ => drop(wasm.remove(at)),
            }
        }
        wasm
    }

    /// A section left out, doubled, or put elsewhere.
    fn sections_moved(&mut self) -> Vec<u8> {
        let wasm = self.sound();
        let mut parts: Vec<&[u8]> = sections(&wasm).into_iter().map(|range| &wasm[range]).collect();
        let part = parts.remove(self.below(parts.len()));
        for _ in 0..self.below(3) {
            parts.insert(self.below(parts.len()), part);
        }
        [&wasm[..8], &parts.concat()].concat()
    }

    /// A component whose first core module was rewritten.
    fn mutated_module(&mut self) -> Vec<u8> {
        let wasm = self.sound();
        let found = sections(&wasm).into_iter().find(|range| wasm[range.start] == 1);
        let range = found.expect("a component has a core module");
        let content = content(&wasm, &range);
        let mut mutate = wasm_mutate::WasmMutate::default();
        mutate.seed(self.random.next_u64()).fuel(1_000);
        let mutated = mutate.run(&wasm[content]).ok().and_then(|mut mutations| mutations.next());
        match mutated {
            Some(Ok(module)) => [&wasm[..range.start], &section(1, &module), &wasm[range.end..]].concat(),
            // Nothing in it that it knows how to rewrite.
            Some(Err(_)) | None => wasm,
        }
    }

    fn made_up_module(&mut self) -> Vec<u8> {
        let bytes = self.bytes(20_000);
        match wasm_smith::Module::arbitrary(&mut Unstructured::new(&bytes)) {
            // In an instance, so that its start function runs where it has one and imports nothing.
            Ok(module) => component(&[section(1, &module.to_bytes()), section(2, &[1, 0, 0, 0])]),
            Err(_) => bytes,
        }
    }
}

/// The sections of a sound component, each with its header.
pub fn sections(wasm: &[u8]) -> Vec<Range<usize>> {
    let mut sections = Vec::new();
    let mut start = 8;
    while start < wasm.len() {
        let (size, length) = unsigned(&wasm[start + 1..]);
        let end = start + 1 + length + size;
        sections.push(start..end);
        start = end;
    }
    sections
}

/// What is in a section.
fn content(wasm: &[u8], section: &Range<usize>) -> Range<usize> {
    let (_, length) = unsigned(&wasm[section.start + 1..]);
    section.start + 1 + length..section.end
}

/// An unsigned LEB128 number, and its length.
fn unsigned(bytes: &[u8]) -> (usize, usize) {
    let length = 1 + bytes.iter().take_while(|byte| **byte & 0x80 != 0).count();
    let value = bytes[..length].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    (value, length)
}
