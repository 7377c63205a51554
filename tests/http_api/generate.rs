//! Requests made from the description and a seed: valid ones, and valid ones with one thing wrong.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Map, Value, json};

use super::document::{Body, Document, Operation, strings};

/// Most values that are remembered for one name.
const REMEMBERED: usize = 40;
/// How deep values without a schema go.
const DEPTH: usize = 3;
/// Texts that programs stumble over.
const ODD_TEXTS: [&str; 16] = [
    "",
    " ",
    ".",
    "..",
    "a/b",
    "../../etc/passwd",
    "%",
    "%00",
    "null",
    "\u{0}",
    "a\nb",
    "\u{202e}txt",
    "💥",
    "'; --",
    "-1",
    "9223372036854775808",
];

/// A request, as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) operation: usize,
    pub(crate) method: String,
    /// Percent-encoded.
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) expects: Expects,
}

/// What its answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expects {
    /// An answer that the operation describes, and not that the host is busy.
    Described,
    /// A refusal that the operation describes.
    Refusal,
    /// A refusal with that status and code.
    Exactly(u16, &'static str),
    /// Any answer that is not a fault: another operation may have been met.
    Anything,
}

/// What is done to a valid request.
#[derive(Clone, Copy, Debug)]
enum Twist {
    None,
    Body,
    BrokenJson,
    ContentType,
    Query,
    UnknownQuery,
    Path,
    Method,
    Origin,
    Host,
}

/// Mostly none, so that requests get behind the checks.
const TWISTS: [Twist; 16] = [
    Twist::None,
    Twist::None,
    Twist::None,
    Twist::None,
    Twist::None,
    Twist::Body,
    Twist::Body,
    Twist::Body,
    Twist::BrokenJson,
    Twist::ContentType,
    Twist::Query,
    Twist::UnknownQuery,
    Twist::Path,
    Twist::Method,
    Twist::Origin,
    Twist::Host,
];

/// A source of requests.
pub(crate) struct Generator {
    random: ChaCha8Rng,
    /// Values by the name of the parameter or member that takes them.
    known: BTreeMap<String, Vec<Value>>,
}

impl Generator {
    /// The same seed and the same `learn`ed values give the same requests.
    pub(crate) fn new(seed: u64, known: Value) -> Self {
        let known = known.as_object().unwrap().iter();
        let known = known.map(|(name, values)| (name.clone(), values.as_array().unwrap().clone())).collect();
        Self { random: ChaCha8Rng::seed_from_u64(seed), known }
    }

    /// Remembers what an answer names: later requests are about it.
    pub(crate) fn learn(&mut self, answer: &Value) {
        match answer {
            Value::Object(members) => {
                for (name, value) in members {
                    let name = if name == "next_page_token" { "page_token" } else { name };
                    let is_name =
                        name.ends_with("_id") || name == "page_token" || name == "digest" || name == "token";
                    if is_name && value.is_string() {
                        let place = self.random.next_u64() as usize % REMEMBERED;
                        let values = self.known.entry(name.to_owned()).or_default();
                        match values.get_mut(place) {
                            Some(old) => *old = value.clone(),
                            None => values.push(value.clone()),
                        }
                    }
                    self.learn(value);
                }
            }
            Value::Array(items) => items.iter().take(3).for_each(|item| self.learn(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The next request.
    pub(crate) fn request(&mut self, document: &Document, operations: &[Operation]) -> Request {
        let index = self.below(operations.len());
        let twist = *self.one_of(&TWISTS);
        self.twisted(document, index, &operations[index], twist)
    }

    /// A valid request of one operation.
    pub(crate) fn plain(&mut self, document: &Document, operations: &[Operation], index: usize) -> Request {
        self.twisted(document, index, &operations[index], Twist::None)
    }

    fn twisted(&mut self, document: &Document, index: usize, operation: &Operation, twist: Twist) -> Request {
        let mut expects = Expects::Described;
        let mut path = operation.path.clone();
        let mut query = Vec::new();
        for parameter in &operation.parameters {
            let value = self.named(document, &parameter.name, &parameter.schema);
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if parameter.place == "path" {
                let odd = matches!(twist, Twist::Path);
                let segment = if odd { self.odd_segment() } else { encoded(&text) };
                if odd {
                    expects = Expects::Anything;
                }
                path = path.replace(&format!("{{{}}}", parameter.name), &segment);
            } else if parameter.place == "query" && (parameter.is_required || self.chance(4)) {
                // A list stands there once for each item.
                let texts = match value.as_array() {
                    Some(items) => {
                        items.iter().map(|item| item.as_str().unwrap_or_default().to_owned()).collect()
                    }
                    None => vec![text],
                };
                query.extend(texts.into_iter().map(|text| (parameter.name.clone(), text)));
            }
        }
        let mut method = operation.method.clone();
        let mut headers = Vec::new();
        let mut body = Vec::new();
        if let Some(described) = &operation.body
            && (described.is_required || self.chance(2))
        {
            headers.push(("content-type", described.media_type.clone()));
            body = self.body(document, described);
        }
        match twist {
            Twist::None | Twist::Path => {}
            Twist::Body => {
                if let Some(described) = operation.body.as_ref().filter(|body| body.is_json()) {
                    let value = self.value(document, &described.schema, DEPTH);
                    let value = self.spoilt(value);
                    headers = vec![("content-type", described.media_type.clone())];
                    body = value.to_string().into_bytes();
                    if document.fits(&described.schema, &value).is_err() {
                        expects = Expects::Refusal;
                    }
                }
            }
            Twist::BrokenJson => {
                if let Some(described) = operation.body.as_ref().filter(|body| body.is_json()) {
                    headers = vec![("content-type", described.media_type.clone())];
                    body = self.broken_json();
                    if described.is_required || !body.is_empty() {
                        expects = Expects::Refusal;
                    }
                }
            }
            Twist::ContentType => {
                if operation.method != "GET" {
                    let types =
                        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "🤷", ""];
                    headers = vec![("content-type", (*self.one_of(&types)).to_owned())];
                    body = b"{}".to_vec();
                    expects = Expects::Exactly(415, "unsupported_media_type");
                }
            }
            Twist::Query => {
                let parameters = operation.parameters.iter().filter(|parameter| parameter.place == "query");
                let parameters: Vec<_> = parameters.collect();
                if !parameters.is_empty() {
                    let parameter = *self.one_of(&parameters);
                    let text = self.odd_text();
                    query.retain(|(name, _)| *name != parameter.name);
                    // Texts are read as the type that is asked for.
                    let value = match document.resolve(&parameter.schema)["type"].as_str() {
                        Some("integer" | "number" | "boolean") => {
                            serde_json::from_str(&text).unwrap_or_else(|_| json!(text))
                        }
                        Some("array") => json!([text]),
                        _ => json!(text),
                    };
                    if document.fits(&parameter.schema, &value).is_err() {
                        expects = Expects::Refusal;
                    }
                    query.push((parameter.name.clone(), text));
                }
            }
            Twist::UnknownQuery => query.push((self.odd_text(), self.odd_text())),
            Twist::Method => {
                method =
                    (*self.one_of(&["PUT", "DELETE", "PATCH", "POST", "GET", "BREW", "OPTIONS"])).to_owned();
                expects = Expects::Anything;
            }
            Twist::Origin => {
                let origins = ["http://evil.example", "null", "https://localhost.evil.example", "file://"];
                headers.push(("origin", (*self.one_of(&origins)).to_owned()));
                expects = Expects::Exactly(403, "forbidden_origin");
            }
            Twist::Host => {
                let hosts =
                    ["evil.example", "evil.example:80", "localhost", "127.0.0.1.evil.example", "[::2]:1"];
                headers.push(("host", (*self.one_of(&hosts)).to_owned()));
                expects = Expects::Exactly(403, "forbidden_host");
            }
        }
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let target = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        Request { operation: index, method, target, headers, body, expects }
    }

    fn body(&mut self, document: &Document, body: &Body) -> Vec<u8> {
        if !body.is_json() {
            let length = self.below(200);
            return (0..length).map(|_| self.random.next_u32() as u8).collect();
        }
        self.value(document, &body.schema, DEPTH).to_string().into_bytes()
    }

    /// A value for a member or parameter: mostly one that means something.
    fn named(&mut self, document: &Document, name: &str, schema: &Value) -> Value {
        if self.chance(9)
            && let Some(known) = self.known.get(name).filter(|known| !known.is_empty()).cloned()
        {
            return self.one_of(&known).clone();
        }
        self.value(document, schema, DEPTH)
    }

    /// A value that fits a schema.
    fn value(&mut self, document: &Document, schema: &Value, depth: usize) -> Value {
        let schema = document.resolve(schema).clone();
        for choice in ["oneOf", "anyOf"] {
            if let Some(parts) = schema[choice].as_array() {
                let part = self.one_of(parts).clone();
                return self.value(document, &part, depth);
            }
        }
        if let Some(values) = schema["enum"].as_array() {
            return self.one_of(values).clone();
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts = parts.iter().map(|part| self.value(document, part, depth));
            let members = parts.filter_map(|part| part.as_object().cloned()).flatten();
            return Value::Object(members.collect());
        }
        let types = match &schema["type"] {
            Value::String(only) => vec![only.clone()],
            many => strings(many).into_iter().map(str::to_owned).collect(),
        };
        if types.is_empty() {
            return self.anything(depth);
        }
        match self.one_of(&types).as_str() {
            "string" => json!(self.text(&schema)),
            "integer" | "number" => self.number(&schema),
            "boolean" => json!(self.chance(5)),
            "array" => {
                let least = schema["minItems"].as_u64().unwrap_or(0) as usize;
                let count = least + self.below(3);
                (0..count).map(|_| self.value(document, &schema["items"], depth)).collect()
            }
            "object" => self.object(document, &schema, depth),
            _ => Value::Null,
        }
    }

    fn object(&mut self, document: &Document, schema: &Value, depth: usize) -> Value {
        let required = strings(&schema["required"]);
        let mut object = Map::new();
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            if required.contains(&name.as_str()) || self.chance(5) {
                object.insert(name.clone(), self.named(document, name, member));
            }
        }
        if schema["additionalProperties"].is_object() && depth > 0 && self.chance(3) {
            let value = self.value(document, &schema["additionalProperties"], depth - 1);
            object.insert(self.odd_text(), value);
        }
        Value::Object(object)
    }

    fn text(&mut self, schema: &Value) -> String {
        match schema["format"].as_str() {
            Some("uuid") => {
                let high = self.random.next_u64();
                return format!("019aa0c0-{:04x}-7000-8000-{:012x}", high >> 48, high & 0xFFFF_FFFF_FFFF);
            }
            Some("date-time") => {
                let times = ["2026-01-01T00:00:00Z", "1969-12-31T23:59:59.999+02:00", "9999-12-30T22:00:00Z"];
                return (*self.one_of(&times)).to_owned();
            }
            _ => {}
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            // The only patterns of fixed length are those of digests.
            let length = if pattern.contains("{64}") { 64 } else { 2 };
            return (0..length)
                .map(|_| *self.one_of(&['A', 'D', 'E', 'F', 'B']))
                .collect::<String>()
                .to_lowercase();
        }
        let least = schema["minLength"].as_u64().unwrap_or(0) as usize;
        let most = schema["maxLength"].as_u64().unwrap_or(64) as usize;
        let length = (least + self.below(12)).min(most);
        (0..length).map(|_| *self.one_of(&['a', 'Z', '7', '-', '_', 'ä', ' ', '…'])).collect()
    }

    fn number(&mut self, schema: &Value) -> Value {
        let least = schema["minimum"].as_i64().unwrap_or(0);
        let most = schema["maximum"].as_i64().unwrap_or(i64::MAX);
        let near = least.saturating_add(self.below(20) as i64).min(most);
        // The ends of the range are where sums overflow.
        match self.below(8) {
            0 if schema["format"] != "int32" => json!(most),
            1 => json!(least),
            _ => json!(near),
        }
    }

    fn anything(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => json!(self.chance(5)),
            2 => json!(self.random.next_u64()),
            3 => json!(-1.5e300),
            4 => json!(self.odd_text()),
            5 => (0..self.below(4)).map(|_| self.anything(depth - 1)).collect(),
            _ => (0..self.below(4)).map(|_| (self.odd_text(), self.anything(depth - 1))).collect(),
        }
    }

    /// The same value with one thing changed, mostly for the worse.
    fn spoilt(&mut self, value: Value) -> Value {
        let Value::Object(mut object) = value else { return self.anything(DEPTH) };
        let names: Vec<String> = object.keys().cloned().collect();
        let choice = self.below(8);
        if names.is_empty() || choice == 0 {
            object.insert(self.odd_text(), self.anything(1));
        } else if choice == 1 {
            return self.anything(DEPTH);
        } else {
            let name = self.one_of(&names).clone();
            let member = match choice {
                2 => {
                    object.remove(&name);
                    return Value::Object(object);
                }
                3 => json!(self.long_text()),
                4 => [json!(i64::MAX), json!(i64::MIN), json!(u64::MAX), json!(0)][self.below(4)].clone(),
                5 => match object[&name].clone() {
                    member @ Value::Object(_) => self.spoilt(member),
                    Value::Array(items) if !items.is_empty() => {
                        let item = self.one_of(&items).clone();
                        json!([self.spoilt(item)])
                    }
                    _ => json!(self.odd_text()),
                },
                _ => self.anything(2),
            };
            object.insert(name, member);
        }
        Value::Object(object)
    }

    fn broken_json(&mut self) -> Vec<u8> {
        let texts: [&[u8]; 8] = [
            b"",
            b"{",
            b"{\"a\":1}{",
            b"\xff\xfe",
            b"{\"a\":1e999999}x",
            b"[[[[[[[[",
            b"{'a': 1}",
            b"\"\\ud800\"",
        ];
        if self.chance(1) {
            return b"[".repeat(100_000);
        }
        self.one_of(&texts).to_vec()
    }

    fn odd_segment(&mut self) -> String {
        let segments =
            ["%00", "%ff%fe", "%2e%2e", "a%2Fb", "%25", "%F0%9F%92%A5", "..%2f..%2f", "+", "%0d%0aX:%20y"];
        if self.chance(3) { encoded(&self.odd_text()) } else { (*self.one_of(&segments)).to_owned() }
    }

    fn odd_text(&mut self) -> String {
        if self.chance(1) { self.long_text() } else { (*self.one_of(&ODD_TEXTS)).to_owned() }
    }

    fn long_text(&mut self) -> String {
        "ü".repeat([500, 501, 1_001][self.below(3)])
    }

    /// Whether it is so: in `tenths` of ten cases.
    fn chance(&mut self, tenths: usize) -> bool {
        self.below(10) < tenths
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random.next_u64() % limit as u64) as usize
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Percent-encoded, all but letters and digits.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}
