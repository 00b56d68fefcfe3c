//! A reader of EDN values.
//!
//! Written here because the crate at hand (clojure-reader) sorts maps and sets, so that a history
//! would not come back as it was recorded, and gives no line for an error.

use super::fields::Fields;
use crate::format::names::Names;
use crate::{Details, Event, Items, Value};

/// Values nested deeper than this are refused: every level is a call, here and in the readers of
/// the other formats.
pub const DEPTH_MAX: usize = 30;

/// Why a text is not EDN.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad {
    /// From 1.
    pub line: u64,
    /// What was expected and what was found.
    pub message: String,
    /// Whether the text ended too early.
    pub incomplete: bool,
}

/// Reads values one after the other.
pub struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    names: Names,
}

impl<'a> Parser<'a> {
    /// At the start of a text.
    #[cfg(test)]
    pub fn new(text: &'a str) -> Self {
        Self::with(text, Names::default())
    }

    /// At the start of a text, with the names that were read before it.
    pub fn with(text: &'a str, names: Names) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            names,
        }
    }

    /// The names that were read.
    pub fn into_names(self) -> Names {
        self.names
    }

    /// The names that were read.
    pub fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    /// The next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Passes so many bytes of ASCII, or of whole characters.
    pub fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// The line of the next character, from 1.
    pub fn line(&self) -> u64 {
        self.line_at(self.at)
    }

    /// The line of a byte, from 1.
    pub fn line_at(&self, at: usize) -> u64 {
        let before = &self.text.as_bytes()[..at];
        memchr::memchr_iter(b'\n', before).count() as u64 + 1
    }

    /// Takes this byte of ASCII if it is the next one.
    pub fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Whether only space and comments are left.
    pub fn at_end(&mut self) -> Result<bool, Bad> {
        self.skip_space()?;
        Ok(self.peek().is_none())
    }

    /// The next byte, if there is one.
    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn bad<T>(&self, message: impl Into<String>) -> Result<T, Bad> {
        Err(Bad {
            line: self.line(),
            message: message.into(),
            incomplete: false,
        })
    }

    fn ended<T>(&self, within: &str) -> Result<T, Bad> {
        Err(Bad {
            line: self.line(),
            message: format!("the text ends within {within}"),
            incomplete: true,
        })
    }

    /// Skips space.
    pub fn skip_blank(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b',' | b'\t'..=b'\r' => self.at += 1,
                0x80.. => match self.rest().chars().next() {
                    Some(c) if c.is_whitespace() => self.at += c.len_utf8(),
                    _ => return,
                },
                _ => return,
            }
        }
    }

    /// Skips space, commas, comments, and discarded (`#_`) values.
    pub fn skip_space(&mut self) -> Result<(), Bad> {
        loop {
            self.skip_blank();
            match self.peek() {
                Some(b';') => {
                    let rest = &self.text.as_bytes()[self.at..];
                    self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                }
                Some(b'#') if self.rest().starts_with("#_") => {
                    self.at += 2;
                    self.value()?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// The text from the next byte on.
    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The next value.
    pub fn value(&mut self) -> Result<Value, Bad> {
        if self.depth == DEPTH_MAX {
            return self.bad(format!("nested deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        let value = self.shallow_value();
        self.depth -= 1;
        value
    }

    fn shallow_value(&mut self) -> Result<Value, Bad> {
        self.skip_space()?;
        match self.peek() {
            None => self.ended("a value"),
            Some(b'[') => Ok(Value::Vector(self.sequence(b']')?)),
            Some(b'(') => Ok(Value::List(self.sequence(b')')?)),
            Some(b'{') => Ok(Value::Map(self.pairs()?)),
            Some(b'"') => self.string(),
            Some(b'\\') => self.character(),
            Some(b'^') => {
                self.at += 1;
                self.value()?;
                self.value()
            }
            Some(b'#') => self.dispatched(),
            Some(c @ (b']' | b')' | b'}')) => {
                self.bad(format!("found `{}`, expected a value", char::from(c)))
            }
            Some(_) => {
                let token = self.token();
                if token.is_empty() {
                    let found = self.rest().chars().next().unwrap_or_default();
                    return self.bad(format!("found `{found}`, expected a value"));
                }
                classify(token, &mut self.names).or_else(|message| self.bad(message))
            }
        }
    }

    /// The elements up to this end, on the pile of the names.
    fn pile(&mut self, end: u8) -> Result<usize, Bad> {
        self.at += 1;
        let from = self.names.items.len();
        loop {
            self.skip_space()?;
            if self.take(end) {
                return Ok(from);
            }
            if self.peek().is_none() {
                return self.ended("a collection");
            }
            let value = self.value()?;
            self.names.items.push(value);
        }
    }

    fn sequence(&mut self, end: u8) -> Result<Items<Value>, Bad> {
        let from = self.pile(end)?;
        Ok(Items::exact(self.names.items.drain(from..)))
    }

    fn pairs(&mut self) -> Result<Items<(Value, Value)>, Bad> {
        let from = self.pile(b'}')?;
        let items = &self.names.items[from..];
        if items.len() % 2 == 1 {
            let key = items.last().map(ToString::to_string).unwrap_or_default();
            return self.bad(format!("the map has no value for {key}"));
        }
        let pairs = items.len() / 2;
        let mut items = self.names.items.drain(from..);
        let mut next = || items.next().unwrap_or_default();
        Ok(Items::exact((0..pairs).map(|_| (next(), next()))))
    }

    /// A token; empty if there is none.
    pub fn token(&mut self) -> &'a str {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut end = 0;
        while let Some(&byte) = bytes.get(end) {
            if byte < 0x80 {
                if !IN_TOKEN[usize::from(byte)] {
                    break;
                }
                end += 1;
                continue;
            }
            match rest[end..].chars().next() {
                Some(c) if in_token(c) => end += c.len_utf8(),
                _ => break,
            }
        }
        self.at += end;
        &rest[..end]
    }

    fn string(&mut self) -> Result<Value, Bad> {
        let rest = &self.rest()[1..];
        // Mostly there is no escape.
        if let Some(end) = memchr::memchr2(b'"', b'\\', rest.as_bytes())
            && rest.as_bytes()[end] == b'"'
        {
            self.at += end + 2;
            let text = self.names.text(&rest.as_bytes()[..end]);
            return Ok(Value::Str(text.unwrap_or_else(|| rest[..end].into())));
        }
        self.at += 1;
        let mut text = String::new();
        loop {
            let c = match self.next() {
                None => return self.ended("a string"),
                Some('"') => return Ok(Value::str(&text)),
                Some('\\') => match self.next() {
                    None => return self.ended("a string"),
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('b') => '\u{8}',
                    Some('f') => '\u{c}',
                    Some(c @ ('"' | '\\')) => c,
                    Some('u') => self.unicode()?,
                    Some(c) => return self.bad(format!("`\\{c}` is no escape in a string")),
                },
                Some(c) => c,
            };
            text.push(c);
        }
    }

    fn unicode(&mut self) -> Result<char, Bad> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(c) = self.next() else {
                return self.ended("a string");
            };
            let Some(digit) = c.to_digit(16) else {
                return self.bad(format!("`{c}` is no hexadecimal digit"));
            };
            code = code * 16 + digit;
        }
        char::from_u32(code).map_or_else(|| self.bad("`\\u` names no character"), Ok)
    }

    /// A character literal, kept as the symbol it is written as.
    fn character(&mut self) -> Result<Value, Bad> {
        let from = self.at;
        self.at += 1;
        if self.next().is_none() {
            return self.ended("a character");
        }
        self.token();
        Ok(Value::Symbol(self.text[from..self.at].into()))
    }

    fn dispatched(&mut self) -> Result<Value, Bad> {
        self.at += 1;
        match self.peek() {
            None => self.ended("a tagged value"),
            Some(b'{') => Ok(Value::Set(self.sequence(b'}')?)),
            Some(b'#') => {
                self.at += 1;
                match self.token() {
                    "Inf" => Ok(Value::Float(f64::INFINITY)),
                    "-Inf" => Ok(Value::Float(f64::NEG_INFINITY)),
                    "NaN" => Ok(Value::Float(f64::NAN)),
                    other => self.bad(format!("`##{other}` is no number")),
                }
            }
            Some(_) => {
                let tag = self.token();
                if tag.is_empty() {
                    return self.bad("`#` without a tag");
                }
                let value = self.value()?;
                Ok(untag(tag, value))
            }
        }
    }

    /// An operation whose map holds nothing unusual, at the next byte. `None` says nothing of
    /// whether it is right: it must be read as a value, and then says what is wrong.
    pub fn operation(&mut self) -> Option<Event> {
        let from = self.at;
        self.names.items.clear();
        self.depth = 1;
        let event = self.fields();
        self.depth = 0;
        if event.is_none() {
            self.at = from;
        }
        event
    }

    fn fields(&mut self) -> Option<Event> {
        if self.peek()? == b'#' {
            // Jepsen's own record: `#jepsen.history.Op{…}`.
            self.at += 1;
            let tag = self.token();
            if !tag.starts_with(char::is_alphabetic) || tag.starts_with("quorate/") {
                return None;
            }
            self.depth += 1;
        }
        if self.peek()? != b'{' {
            return None;
        }
        self.at += 1;
        let mut fields = Fields::new();
        loop {
            self.skip_blank();
            match self.peek()? {
                b'}' => {
                    self.at += 1;
                    return fields.finish(&mut self.names).ok();
                }
                b':' => {}
                _ => return None,
            }
            let from = self.at;
            let name = self.token().get(1..)?;
            match name {
                "" => return None,
                "node" | "role" | "epoch" | "error" if fields.has_no_details() => {
                    if self.ending(from, &mut fields).is_some() {
                        return fields.finish(&mut self.names).ok();
                    }
                    self.at = from + 1 + name.len();
                }
                _ => {}
            }
            let value = self.value().ok()?;
            fields.set(name, value, &mut self.names).ok()?;
        }
    }

    /// The rest of a line that ends an operation, from the first field that is none of the event's
    /// own: the same on many lines.
    fn ending(&mut self, from: usize, fields: &mut Fields) -> Option<()> {
        let rest = &self.text[from..];
        let length = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        let written = rest[..length].trim_ascii_end();
        if !written.ends_with('}') {
            return None;
        }
        self.names.ending(written.as_bytes(), fields.event(), || {
            let mut parser = Parser::with(written, Names::default());
            // As within a tagged map, so that it does not matter where it is found again.
            parser.depth = 2;
            parser.details()
        })?;
        self.at = from + written.len();
        Some(())
    }

    /// Fields up to the end of an operation and of the text, if all are details.
    fn details(&mut self) -> Option<Details> {
        let mut fields = Fields::new();
        loop {
            self.skip_blank();
            if self.take(b'}') {
                let whole = self.peek().is_none();
                return whole.then(|| fields.into_details());
            }
            let name = self.token().strip_prefix(':')?;
            if !matches!(name, "node" | "role" | "epoch" | "error") {
                return None;
            }
            let value = self.value().ok()?;
            fields.set(name, value, &mut self.names).ok()?;
        }
    }
}

const IN_TOKEN: [bool; 128] = {
    let mut table = [false; 128];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte as usize] = !matches!(
            byte,
            b',' | b';'
                | b'"'
                | b'('
                | b')'
                | b'['
                | b']'
                | b'{'
                | b'}'
                | b'\\'
                | b'^'
                | b'`'
                | b'~'
                | b'@'
        );
        byte += 1_u8;
    }
    table
};

/// What the writer had to wrap, because EDN has no notation for it.
fn untag(tag: &str, value: Value) -> Value {
    match (tag, &value) {
        ("quorate/keyword", Value::Str(name)) => Value::Keyword(name.clone()),
        ("quorate/symbol", Value::Str(name)) => Value::Symbol(name.clone()),
        ("quorate/tagged", Value::Vector(pair)) => match &**pair {
            [Value::Str(tag), inner] => Value::tagged(tag.clone(), inner.clone()),
            _ => Value::tagged(tag, value),
        },
        _ => Value::tagged(tag, value),
    }
}

/// Whether a character can be within a symbol, keyword, number or tag.
pub fn in_token(c: char) -> bool {
    match u8::try_from(c) {
        Ok(byte) if byte < 0x80 => IN_TOKEN[usize::from(byte)],
        _ => !(c.is_whitespace() || c.is_control()),
    }
}

/// A whole number of up to 18 digits, as most are.
fn small_number(token: &[u8]) -> Option<i64> {
    if token.is_empty() || token.len() > 18 {
        return None;
    }
    token.iter().try_fold(0_i64, |n, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| n * 10 + i64::from(digit))
    })
}

/// What a token is: nil, a truth value, a number, a keyword, or a symbol. Numbers that a
/// [`Value`] cannot hold exactly (ratios, decimals, integers beyond 64 bits) stay symbols.
pub fn classify(token: &str, names: &mut Names) -> Result<Value, String> {
    if let Some(n) = small_number(token.as_bytes()) {
        return Ok(Value::Int(n));
    }
    match token {
        "nil" => return Ok(Value::Nil),
        "true" => return Ok(Value::Bool(true)),
        "false" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let mut text = |text: &str| names.text(text.as_bytes()).unwrap_or_else(|| text.into());
    if let Some(name) = token.strip_prefix(':') {
        if name.is_empty() {
            return Err("found `:` alone, expected a keyword or another value".to_owned());
        }
        return Ok(Value::Keyword(text(name)));
    }
    let digits = token.strip_prefix(['-', '+']).unwrap_or(token);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(Value::Symbol(text(token)));
    }
    let whole = token.strip_suffix('N').unwrap_or(token);
    if let Ok(n) = whole.parse() {
        return Ok(Value::Int(n));
    }
    let is_float = token.contains(['.', 'e', 'E']);
    if let (true, Ok(x)) = (is_float, token.parse()) {
        return Ok(Value::Float(x));
    }
    let exact = token.strip_suffix(['N', 'M']).unwrap_or(token);
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-./".contains(c);
    if exact.chars().all(plain) {
        return Ok(Value::Symbol(text(token)));
    }
    Err(format!("`{token}` is no number"))
}
