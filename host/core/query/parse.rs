//! Reads a query: text, tokens, conditions. An error says where and what was expected there.

use std::str::FromStr as _;

use super::{Comparison, Condition, Direction, Field, Kind, Order, OrderBy, Query, Test, Value};
use crate::attributes;
use crate::ids::{Digest, RunId, Timestamp};
use crate::machine::RunStatus;

/// Bytes of a query.
pub const LONGEST: usize = 8 * 1024;
/// How deep parentheses and `not` may nest.
const DEEPEST: usize = 32;
/// Characters of a text that an error shows.
const LONGEST_SHOWN: usize = 40;
/// Values of a query in all.
const MOST_VALUES: usize = 200;

/// A text that is no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {reason}")]
pub struct QueryError {
    /// Where, in characters from 1.
    pub at: usize,
    /// What is wrong, and what was expected.
    pub reason: String,
}

impl Query {
    /// Reads a query. An empty text asks for all runs, the latest first.
    ///
    /// # Errors
    /// Where it is none, and why.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > LONGEST {
            let reason = format!("a query has at most {LONGEST} bytes");
            return Err(QueryError { at: 1, reason });
        }
        let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0, values: 0 };
        let condition = match parser.peek() {
            Token::End => None,
            token if token.is_word("order") => None,
            _ => Some(parser.condition()?),
        };
        let order = if parser.take_word("order") { parser.order()? } else { Order::default() };
        if *parser.peek() != Token::End {
            return parser.expected("`and`, `or`, `order by` or the end");
        }
        if order.by == OrderBy::CloseTime && !condition.as_ref().is_some_and(asks_for_closed) {
            // An open run would change its place when it closes.
            return parser.wrong(
                "the order of `close_time` is one of closed runs: ask for `close_time is not null and …`",
            );
        }
        Ok(Self { condition, order })
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A field, or a word of the language.
    Word(String),
    Text(String),
    Number(i64),
    Float(f64),
    Symbol(&'static str),
    End,
}

impl Token {
    fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn told(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Text(text) if text.chars().count() > LONGEST_SHOWN => {
                format!("the text \"{}…\"", text.chars().take(LONGEST_SHOWN).collect::<String>())
            }
            Self::Text(text) => format!("the text \"{text}\""),
            Self::Number(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number:?}"),
            Self::Symbol(symbol) => format!("`{symbol}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Longer ones first.
const SYMBOLS: [&str; 9] = ["!=", "<=", ">=", "=", "<", ">", "(", ")", ","];

/// The tokens of a text, each with its place.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, QueryError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let at = text[..text.len() - rest.len()].chars().count() + 1;
        let Some(first) = rest.chars().next() else {
            tokens.push((at, Token::End));
            return Ok(tokens);
        };
        let (token, length) = match first {
            '"' | '\'' => quoted(rest, first).ok_or_else(|| QueryError {
                at,
                reason: "the text that begins here has no end".to_owned(),
            })?,
            '-' | '0'..='9' => number(rest)
                .ok_or_else(|| QueryError { at, reason: "this is no number of 64 bits".to_owned() })?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
                (Token::Word(rest[..length].to_owned()), length)
            }
            _ => match SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
                Some(symbol) => (Token::Symbol(symbol), symbol.len()),
                None => {
                    return Err(QueryError { at, reason: format!("`{first}` means nothing here") });
                }
            },
        };
        tokens.push((at, token));
        rest = &rest[length..];
    }
}

/// A number and its length: a whole one of 64 bits, or one with a fraction or a power of ten.
fn number(rest: &str) -> Option<(Token, usize)> {
    let digits = |from: usize| {
        rest[from..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |length| from + length)
    };
    let whole = digits(usize::from(rest.starts_with('-')));
    let mut end = whole;
    if rest[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if rest[end..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[end + 1..].starts_with(['-', '+']));
        end = digits(end + 1 + sign);
    }
    if end == whole {
        return Some((Token::Number(rest[..end].parse().ok()?), end));
    }
    let number: f64 = rest[..end].parse().ok()?;
    number.is_finite().then_some((Token::Float(number), end))
}

/// A text in quotes, and its length with them; a quote in it is written twice.
fn quoted(rest: &str, quote: char) -> Option<(Token, usize)> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != quote {
            text.push(character);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return Some((Token::Text(text), at + 1));
        }
    }
    None
}

struct Parser {
    /// The last one is [`Token::End`].
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
    values: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_there = self.peek().is_word(word);
        self.next += usize::from(is_there);
        is_there
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Symbol(found) if *found == symbol);
        self.next += usize::from(is_there);
        is_there
    }

    fn wrong<T>(&self, reason: impl Into<String>) -> Result<T, QueryError> {
        Err(QueryError { at: self.tokens[self.next].0, reason: reason.into() })
    }

    fn expected<T>(&self, what: &str) -> Result<T, QueryError> {
        self.wrong(format!("{what} is expected here, not {}", self.peek().told()))
    }

    fn condition(&mut self) -> Result<Condition, QueryError> {
        let mut any = vec![self.all()?];
        while self.take_word("or") {
            any.push(self.all()?);
        }
        Ok(one_or(any, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, QueryError> {
        let mut all = vec![self.single()?];
        while self.take_word("and") {
            all.push(self.single()?);
        }
        Ok(one_or(all, Condition::All))
    }

    fn single(&mut self) -> Result<Condition, QueryError> {
        if self.depth == DEEPEST {
            return self.wrong(format!("conditions nest at most {DEEPEST} deep"));
        }
        self.depth += 1;
        let single = if self.take_word("not") {
            Condition::Not(Box::new(self.single()?))
        } else if self.take_symbol("(") {
            let condition = self.condition()?;
            if !self.take_symbol(")") {
                return self.expected("`and`, `or` or `)`");
            }
            condition
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(single)
    }

    fn comparison(&mut self) -> Result<Condition, QueryError> {
        if let Some(name) = self.take_attribute() {
            return self.attribute(name);
        }
        let field = self.field()?;
        if self.take_word("is") {
            let is_negated = self.take_word("not");
            if !self.take_word("null") {
                return self.expected("`null`");
            }
            return Ok(negated_if(is_negated, Condition::IsNull(field)));
        }
        let is_negated = self.take_word("not");
        if self.take_word("in") {
            return Ok(negated_if(is_negated, Condition::In(field, self.list(field)?)));
        }
        if is_negated {
            return self.expected("`in`");
        }
        let at = self.next;
        let Some(comparison) = self.take_comparison() else {
            return self.expected("`=`, `!=`, `<`, `<=`, `>`, `>=`, `starts_with`, `in` or `is`");
        };
        let fits = match comparison {
            Comparison::Equal | Comparison::NotEqual => true,
            Comparison::StartsWith => field.kind() == Kind::Text,
            Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
                field.kind().is_ordered()
            }
        };
        if !fits {
            self.next = at;
            let others = if field.kind().is_ordered() {
                "`=`, `!=`, `<`, `<=`, `>`, `>=`, `in`"
            } else {
                "`=`, `!=`, `in`"
            };
            return self.wrong(format!("`{}` cannot be compared so, but by {others}", field.name()));
        }
        Ok(Condition::Compare(field, comparison, self.value(field)?))
    }

    /// The name of a search attribute, if one comes next.
    fn take_attribute(&mut self) -> Option<String> {
        let Token::Word(name) = self.peek() else { return None };
        let is_attribute =
            Field::from_name(name).is_none() && attributes::is_name(name) && !attributes::is_word(name);
        let name = is_attribute.then(|| name.clone())?;
        self.next += 1;
        Some(name)
    }

    fn attribute(&mut self, name: String) -> Result<Condition, QueryError> {
        if self.take_word("is") {
            let is_negated = self.take_word("not");
            if !self.take_word("null") {
                return self.expected("`null`");
            }
            return Ok(negated_if(is_negated, Condition::Attribute(name, Test::IsNull)));
        }
        let is_negated = self.take_word("not");
        if self.take_word("in") {
            let values = self.attribute_list()?;
            return Ok(negated_if(is_negated, Condition::Attribute(name, Test::In(values))));
        }
        if is_negated {
            return self.expected("`in`");
        }
        let at = self.next;
        let Some(comparison) = self.take_comparison() else {
            return self.expected("`=`, `!=`, `<`, `<=`, `>`, `>=`, `starts_with`, `in` or `is`");
        };
        let value = self.attribute_value()?;
        let fits = match comparison {
            Comparison::Equal | Comparison::NotEqual => true,
            Comparison::StartsWith => matches!(value, Value::Text(_)),
            Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
                !matches!(value, Value::Bool(_))
            }
        };
        if !fits {
            self.next = at;
            return self.wrong(format!("`{name}` cannot be compared with such a value so"));
        }
        Ok(Condition::Attribute(name, Test::Compare(comparison, value)))
    }

    fn attribute_list(&mut self) -> Result<Vec<Value>, QueryError> {
        if !self.take_symbol("(") {
            return self.expected("`(`");
        }
        let mut values = vec![self.attribute_value()?];
        while self.take_symbol(",") {
            let at = self.next;
            let value = self.attribute_value()?;
            if !is_comparable(&values[0], &value) {
                self.next = at;
                return self.wrong("the values of a list are of one type");
            }
            values.push(value);
        }
        if !self.take_symbol(")") {
            return self.expected("`,` or `)`");
        }
        Ok(values)
    }

    /// A value, of the type that it has itself.
    fn attribute_value(&mut self) -> Result<Value, QueryError> {
        self.count_value()?;
        let value = match self.peek() {
            Token::Text(text) => match attributes::time(text) {
                Some(_) if is_finer_than_ms(text) => {
                    return self.wrong("times have milliseconds here: three digits behind the point at most");
                }
                Some(time) => Value::Time(time),
                None => Value::Text(text.clone()),
            },
            Token::Number(number) => Value::Number(*number),
            Token::Float(number) => Value::Float(*number),
            token if token.is_word("true") => Value::Bool(true),
            token if token.is_word("false") => Value::Bool(false),
            Token::Word(_) | Token::Symbol(_) | Token::End => {
                return self.expected("a text in quotes, a number, true or false");
            }
        };
        self.take();
        Ok(value)
    }

    fn count_value(&mut self) -> Result<(), QueryError> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return self.wrong(format!("a query has at most {MOST_VALUES} values"));
        }
        Ok(())
    }

    fn field(&mut self) -> Result<Field, QueryError> {
        let Token::Word(name) = self.peek() else { return self.expected("a field") };
        match Field::from_name(name) {
            Some(field) => {
                self.next += 1;
                Ok(field)
            }
            None => self.wrong(format!(
                "there is no field `{name}`; there are {}",
                Field::ALL.map(Field::name).join(", ")
            )),
        }
    }

    fn take_comparison(&mut self) -> Option<Comparison> {
        let comparison = match self.peek() {
            Token::Symbol("=") => Comparison::Equal,
            Token::Symbol("!=") => Comparison::NotEqual,
            Token::Symbol("<") => Comparison::Less,
            Token::Symbol("<=") => Comparison::LessOrEqual,
            Token::Symbol(">") => Comparison::Greater,
            Token::Symbol(">=") => Comparison::GreaterOrEqual,
            token if token.is_word("starts_with") => Comparison::StartsWith,
            _ => return None,
        };
        self.next += 1;
        Some(comparison)
    }

    fn list(&mut self, field: Field) -> Result<Vec<Value>, QueryError> {
        if !self.take_symbol("(") {
            return self.expected("`(`");
        }
        let mut values = vec![self.value(field)?];
        while self.take_symbol(",") {
            values.push(self.value(field)?);
        }
        if !self.take_symbol(")") {
            return self.expected("`,` or `)`");
        }
        Ok(values)
    }

    /// A value of the field's kind.
    fn value(&mut self, field: Field) -> Result<Value, QueryError> {
        self.count_value()?;
        let kind = field.kind();
        let value = match (kind, self.peek()) {
            (Kind::Text, Token::Text(text)) => Some(Value::Text(text.clone())),
            (Kind::RunId, Token::Text(text)) => RunId::from_str(text).ok().map(Value::RunId),
            (Kind::Status, Token::Text(text)) => match RunStatus::from_name(text) {
                Some(status) => Some(Value::Status(status)),
                None => {
                    let names = RunStatus::ALL.map(RunStatus::name).join(", ");
                    return self.wrong(format!("there is no status \"{text}\"; there are {names}"));
                }
            },
            (Kind::Digest, Token::Text(text)) => Digest::from_str(text).ok().map(Value::Digest),
            (Kind::Time, Token::Text(text)) if is_finer_than_ms(text) => {
                return self.wrong("times have milliseconds here: three digits behind the point at most");
            }
            (Kind::Time, Token::Text(text)) => Timestamp::from_str(text).ok().map(Value::Time),
            (Kind::Number, Token::Number(number)) => Some(Value::Number(*number)),
            (Kind::Bool, token) if token.is_word("true") => Some(Value::Bool(true)),
            (Kind::Bool, token) if token.is_word("false") => Some(Value::Bool(false)),
            _ => None,
        };
        match value {
            Some(value) => {
                self.take();
                Ok(value)
            }
            None => self.expected(&format!("{} for `{}`", kind.told(), field.name())),
        }
    }

    fn order(&mut self) -> Result<Order, QueryError> {
        if !self.take_word("by") {
            return self.expected("`by`");
        }
        let at = self.next;
        let attribute = self.take_attribute();
        let (name, by) = match attribute {
            Some(name) => (name, None),
            None => self.field().map(|field| (field.name().to_owned(), field.order()))?,
        };
        let Some(by) = by else {
            self.next = at;
            let fields = Field::ALL.into_iter().filter(|field| field.order().is_some());
            let names: Vec<&str> = fields.map(Field::name).collect();
            return self
                .wrong(format!("runs cannot be ordered by `{name}`; they can by {}", names.join(", ")));
        };
        let direction = if self.take_word("desc") {
            Direction::Descending
        } else {
            self.take_word("asc");
            Direction::Ascending
        };
        Ok(Order { by, direction })
    }
}

/// Whether only closed runs match.
fn asks_for_closed(condition: &Condition) -> bool {
    match condition {
        Condition::Compare(field, ..) | Condition::In(field, _) => *field == Field::CloseTime,
        Condition::Not(inner) => matches!(**inner, Condition::IsNull(Field::CloseTime)),
        Condition::All(all) => all.iter().any(asks_for_closed),
        Condition::Any(any) => any.iter().all(asks_for_closed),
        Condition::IsNull(_) | Condition::Attribute(..) => false,
    }
}

/// Whether two values of a search attribute are of one type.
const fn is_comparable(one: &Value, other: &Value) -> bool {
    match one {
        Value::Text(_) => matches!(other, Value::Text(_)),
        Value::Number(_) | Value::Float(_) => matches!(other, Value::Number(_) | Value::Float(_)),
        Value::Bool(_) => matches!(other, Value::Bool(_)),
        Value::Time(_) => matches!(other, Value::Time(_)),
        Value::RunId(_) | Value::Status(_) | Value::Digest(_) => false,
    }
}

/// Whether a time has more than three digits behind the point that say something.
fn is_finer_than_ms(text: &str) -> bool {
    let fraction = text.split_once(['.', ',']).map_or("", |(_, rest)| rest);
    let digits = fraction.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.bytes().skip(3).any(|digit| digit != b'0')
}

fn one_or(mut conditions: Vec<Condition>, many: fn(Vec<Condition>) -> Condition) -> Condition {
    match conditions.pop() {
        Some(only) if conditions.is_empty() => only,
        last => {
            conditions.extend(last);
            many(conditions)
        }
    }
}

fn negated_if(is_negated: bool, condition: Condition) -> Condition {
    if is_negated { Condition::Not(Box::new(condition)) } else { condition }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Query {
        Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        match Query::parse(text) {
            Err(error) => error.to_string(),
            Ok(query) => panic!("{text}: {query:?}"),
        }
    }

    fn text(field: Field, comparison: Comparison, value: &str) -> Condition {
        Condition::Compare(field, comparison, Value::Text(value.to_owned()))
    }

    #[test]
    fn and_binds_closer_than_or_and_not_closest() {
        let query = parsed(
            r#"workflow_type = "a" or NOT workflow_id = 'b' AND workflow_id starts_with "c" order by start_time desc"#,
        );
        let expected = Condition::Any(vec![
            text(Field::WorkflowType, Comparison::Equal, "a"),
            Condition::All(vec![
                Condition::Not(Box::new(text(Field::WorkflowId, Comparison::Equal, "b"))),
                text(Field::WorkflowId, Comparison::StartsWith, "c"),
            ]),
        ]);
        assert_eq!(query.condition, Some(expected));
        assert_eq!(query.order, Order { by: OrderBy::StartTime, direction: Direction::Descending });
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let run_id = RunId([7; 16]);
        let digest = Digest([9; 32]);
        let cases = [
            (format!("run_id = \"{run_id}\""), Field::RunId, Value::RunId(run_id)),
            ("status = \"timed_out\"".to_owned(), Field::Status, Value::Status(RunStatus::TimedOut)),
            (format!("digest = \"{digest}\""), Field::Digest, Value::Digest(digest)),
            (
                "close_time = '1970-01-01T00:00:01Z'".to_owned(),
                Field::CloseTime,
                Value::Time(Timestamp(1_000)),
            ),
            ("history_length = -3".to_owned(), Field::HistoryLength, Value::Number(-3)),
            ("blocked = TRUE".to_owned(), Field::Blocked, Value::Bool(true)),
            (
                "workflow_id = 'it''s \"ä\"'".to_owned(),
                Field::WorkflowId,
                Value::Text("it's \"ä\"".to_owned()),
            ),
        ];
        for (query, field, value) in cases {
            let expected = Condition::Compare(field, Comparison::Equal, value);
            assert_eq!(parsed(&query).condition, Some(expected), "{query}");
        }
        let statuses = [RunStatus::Failed, RunStatus::Canceled].map(Value::Status);
        let listed = Condition::In(Field::Status, statuses.to_vec());
        assert_eq!(parsed("status in ('failed', 'canceled')").condition, Some(listed.clone()));
        let negated = Condition::Not(Box::new(listed));
        assert_eq!(parsed("(status not in ('failed','canceled'))").condition, Some(negated));
        let open = Condition::IsNull(Field::CloseTime);
        assert_eq!(parsed("close_time is null").condition, Some(open));
    }

    #[test]
    fn what_is_no_field_is_a_search_attribute_of_its_values_type() {
        let cases = [
            ("customer_id = 100", Comparison::Equal, Value::Number(100)),
            ("customer_id >= -2.5e3", Comparison::GreaterOrEqual, Value::Float(-2_500.0)),
            ("customer_id starts_with 'a'", Comparison::StartsWith, Value::Text("a".to_owned())),
            ("customer_id != TRUE", Comparison::NotEqual, Value::Bool(true)),
            ("customer_id < '1970-01-01T00:00:01Z'", Comparison::Less, Value::Time(Timestamp(1_000))),
            ("customer_id > '1970'", Comparison::Greater, Value::Text("1970".to_owned())),
        ];
        let attribute = |test| Condition::Attribute("customer_id".to_owned(), test);
        for (query, comparison, value) in cases {
            let expected = attribute(Test::Compare(comparison, value));
            assert_eq!(parsed(query).condition, Some(expected), "{query}");
        }
        let listed = attribute(Test::In(vec![Value::Number(1), Value::Float(2.5)]));
        assert_eq!(parsed("customer_id in (1, 2.5)").condition, Some(listed.clone()));
        let negated = Condition::Not(Box::new(listed));
        assert_eq!(parsed("customer_id NOT IN (1, 2.5)").condition, Some(negated));
        assert_eq!(parsed("customer_id is null").condition, Some(attribute(Test::IsNull)));
    }

    #[test]
    fn nothing_asks_for_everything() {
        assert_eq!(parsed(" "), Query::default());
        let order = Order { by: OrderBy::WorkflowId, direction: Direction::Ascending };
        assert_eq!(parsed("order by workflow_id"), Query { condition: None, order });
    }

    #[test]
    fn what_is_no_query_is_refused_with_its_place() {
        let cases = [
            ("and = 1", "at character 1: there is no field `and`; there are workflow_type,"),
            ("customer = paid", "at character 12: a text in quotes, a number, true or false is expected"),
            ("customer like 'a'", "at character 10: `=`, `!=`, `<`,"),
            ("tags in ('a', 1)", "at character 15: the values of a list are of one type"),
            ("paid < true", "at character 6: `paid` cannot be compared with such a value so"),
            ("total starts_with 1", "at character 7: `total` cannot be compared with such a value so"),
            ("due > '2026-01-01T00:00:00.1234Z'", "at character 7: times have milliseconds here"),
            ("total > 1.5.2", "at character 12: `.` means nothing here"),
            ("total > -", "at character 9: this is no number of 64 bits"),
            ("total > 1e999", "at character 9: this is no number of 64 bits"),
            ("order by customer_id", "at character 10: runs cannot be ordered by `customer_id`;"),
            (
                "status = running",
                "at character 10: a status in quotes for `status` is expected here, not `running`",
            ),
            (
                "status = 'done'",
                "at character 10: there is no status \"done\"; there are running, completed,",
            ),
            ("status < 'failed'", "at character 8: `status` cannot be compared so, but by `=`, `!=`, `in`"),
            ("order by close_time", "at character 20: the order of `close_time` is one of closed runs"),
            ("blocked = true or close_time is not null order by close_time", "at character 61: the order of"),
            ("start_time > '2026-01-01T00:00:00.1234Z'", "at character 14: times have milliseconds here"),
            ("run_id starts_with '0'", "at character 8: `run_id` cannot be compared so"),
            ("start_time > 'yesterday'", "at character 14: a time in quotes,"),
            (
                "history_length > 1.5",
                "at character 18: a whole number for `history_length` is expected here, not the number 1.5",
            ),
            ("history_length = 99999999999999999999", "at character 18: this is no number of 64 bits"),
            ("workflow_id = 'x", "at character 15: the text that begins here has no end"),
            ("workflow_id 'x'", "at character 13: `=`, `!=`,"),
            ("workflow_id not 'x'", "at character 17: `in` is expected here"),
            (
                "blocked = true blocked = false",
                "at character 16: `and`, `or`, `order by` or the end is expected",
            ),
            ("(blocked = true", "at character 16: `and`, `or` or `)` is expected here, not the end"),
            ("status in ()", "at character 12: a status in quotes"),
            ("order by status", "at character 10: runs cannot be ordered by `status`;"),
            ("order start_time", "at character 7: `by` is expected here"),
            ("ä = 1", "at character 1: `ä` means nothing here"),
            ("'ä' = 1", "at character 1: a field is expected here"),
        ];
        for (query, expected) in cases {
            let error = refused(query);
            assert!(error.starts_with(expected), "{query}: {error}");
        }
    }

    #[test]
    fn a_query_is_bounded() {
        let deep = format!("{}blocked = true{}", "(".repeat(100), ")".repeat(100));
        assert!(refused(&deep).contains("at most 32 deep"));
        let nots = format!("{}blocked = true", "not ".repeat(100));
        assert!(refused(&nots).contains("at most 32 deep"));
        let wide = format!("history_length in ({}0)", "1,".repeat(300));
        assert!(refused(&wide).contains("at most 200 values"));
        assert!(refused(&" ".repeat(LONGEST + 1)).contains("at most 8192 bytes"));
        let parsed = parsed(&format!("{}blocked = true{}", "(".repeat(31), ")".repeat(31)));
        assert!(parsed.condition.is_some());
    }
}
