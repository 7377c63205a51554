//! WebAssembly's binary format, written by hand: what is wrong on purpose cannot be made with an
//! encoder that knows better.

/// An unsigned LEB128 number.
pub fn leb(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A signed LEB128 number.
pub fn sleb(mut value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if (value == 0 && low & 0x40 == 0) || (value == -1 && low & 0x40 != 0) {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Bytes behind their length.
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [&leb(bytes.len() as u64)[..], bytes].concat()
}

/// The same item many times, behind its number.
pub fn repeated(item: &[u8], times: usize) -> Vec<u8> {
    [leb(times as u64), item.repeat(times)].concat()
}

/// Items behind their number.
pub fn list<I: AsRef<[u8]>>(items: impl IntoIterator<Item = I>) -> Vec<u8> {
    let mut count = 0;
    let mut bytes = Vec::new();
    for item in items {
        count += 1;
        bytes.extend_from_slice(item.as_ref());
    }
    [leb(count), bytes].concat()
}

/// A section.
pub fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &sized(content)].concat()
}

/// A core module of sections.
pub fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat()
}

/// A component of sections.
pub fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0".to_vec(), sections.concat()].concat()
}

/// A component that holds one core module of these sections.
pub fn holding(sections: &[Vec<u8>]) -> Vec<u8> {
    component(&[section(1, &module(sections))])
}

/// A core function type: the number of its i32 parameters and results.
pub fn func_type(params: usize, results: usize) -> Vec<u8> {
    [vec![0x60], repeated(&[0x7f], params), repeated(&[0x7f], results)].concat()
}

/// A function's body with that number of i32 locals.
pub fn body(locals: u32, code: &[u8]) -> Vec<u8> {
    let locals = if locals == 0 { vec![0] } else { [vec![1], leb(locals.into()), vec![0x7f]].concat() };
    sized(&[&locals, code, &[0x0b]].concat())
}

/// The sections of a module with one function `() -> ()`.
pub fn function(locals: u32, code: &[u8]) -> Vec<Vec<u8>> {
    vec![
        section(1, &list([func_type(0, 0)])),
        section(3, &list([[0]])),
        section(10, &list([body(locals, code)])),
    ]
}
