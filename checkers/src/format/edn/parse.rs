//! A reader of EDN values.
//!
//! Written here because the crate at hand (clojure-reader) sorts maps and sets, so that a history
//! would not come back as it was recorded, and gives no line for an error.

use std::iter::Peekable;
use std::str::CharIndices;

use crate::Value;

/// Values nested deeper than this are refused: every level is a call, here and in the readers of
/// the other formats.
pub const DEPTH_MAX: usize = 30;

/// Why a text is not EDN.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad {
    /// From 1.
    pub line: u64,
    /// The line where that began which is not whole: a collection, a string.
    pub began: u64,
    /// What was expected and what was found.
    pub message: String,
    /// Whether the text ended too early.
    pub incomplete: bool,
}

/// Reads values one after the other.
pub struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    line: u64,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// At the start of a text.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            chars: text.char_indices().peekable(),
            line: 1,
            depth: 0,
        }
    }

    /// The line of the next character, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Takes this character if it is the next one after space and comments.
    pub fn take(&mut self, wanted: char) -> Result<bool, Bad> {
        self.skip_space()?;
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        Ok(found)
    }

    /// Whether only space and comments are left.
    pub fn at_end(&mut self) -> Result<bool, Bad> {
        self.skip_space()?;
        Ok(self.peek().is_none())
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn next(&mut self) -> Option<char> {
        let (_, c) = self.chars.next()?;
        self.line += u64::from(c == '\n');
        Some(c)
    }

    fn bad<T>(&self, message: impl Into<String>) -> Result<T, Bad> {
        Err(Bad {
            line: self.line,
            began: self.line,
            message: message.into(),
            incomplete: false,
        })
    }

    fn ended<T>(&self, within: &str) -> Result<T, Bad> {
        Err(Bad {
            line: self.line,
            began: self.line,
            message: format!("the text ends within {within}"),
            incomplete: true,
        })
    }

    /// Skips space, commas, comments, and discarded (`#_`) values.
    fn skip_space(&mut self) -> Result<(), Bad> {
        loop {
            match self.peek() {
                Some(c) if c.is_whitespace() || c == ',' => {
                    self.next();
                }
                Some(';') => while !matches!(self.next(), None | Some('\n')) {},
                Some('#') if self.rest().starts_with("#_") => {
                    self.next();
                    self.next();
                    self.value()?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn rest(&mut self) -> &'a str {
        let from = self.chars.peek().map_or(self.text.len(), |(i, _)| *i);
        &self.text[from..]
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
            Some('[') => Ok(Value::Vector(self.sequence(']')?.into())),
            Some('(') => Ok(Value::List(self.sequence(')')?.into())),
            Some('{') => Ok(Value::Map(self.pairs()?.into())),
            Some('"') => self.string(),
            Some('\\') => self.character(),
            Some('^') => {
                self.next();
                self.value()?;
                self.value()
            }
            Some('#') => self.dispatched(),
            Some(c @ (']' | ')' | '}')) => self.bad(format!("found `{c}`, expected a value")),
            Some(_) => {
                let token = self.token();
                if token.is_empty() {
                    let found = self.peek().unwrap_or_default();
                    return self.bad(format!("found `{found}`, expected a value"));
                }
                classify(token).map_or_else(|message| self.bad(message), Ok)
            }
        }
    }

    fn sequence(&mut self, end: char) -> Result<Vec<Value>, Bad> {
        self.next();
        let mut items = Vec::new();
        loop {
            if self.take(end)? {
                return Ok(items);
            }
            if self.peek().is_none() {
                return self.ended("a collection");
            }
            items.push(self.value()?);
        }
    }

    fn pairs(&mut self) -> Result<Vec<(Value, Value)>, Bad> {
        let mut items = self.sequence('}')?.into_iter();
        let mut pairs = Vec::with_capacity(items.len() / 2);
        while let Some(key) = items.next() {
            let Some(value) = items.next() else {
                return self.bad(format!("the map has no value for {key}"));
            };
            pairs.push((key, value));
        }
        Ok(pairs)
    }

    fn token(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !in_token(c)).unwrap_or(rest.len());
        for _ in rest[..end].chars() {
            self.next();
        }
        &rest[..end]
    }

    fn string(&mut self) -> Result<Value, Bad> {
        self.next();
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
        let from = self.rest();
        self.next();
        if self.next().is_none() {
            return self.ended("a character");
        }
        self.token();
        let length = from.len() - self.rest().len();
        Ok(Value::Symbol(from[..length].into()))
    }

    fn dispatched(&mut self) -> Result<Value, Bad> {
        self.next();
        match self.peek() {
            None => self.ended("a tagged value"),
            Some('{') => Ok(Value::Set(self.sequence('}')?.into())),
            Some('#') => {
                self.next();
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
}

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
    !(c.is_whitespace() || c.is_control() || ",;\"()[]{}\\^`~@".contains(c))
}

/// What a token is: nil, a truth value, a number, a keyword, or a symbol. Numbers that a
/// [`Value`] cannot hold exactly (ratios, decimals, integers beyond 64 bits) stay symbols.
pub fn classify(token: &str) -> Result<Value, String> {
    match token {
        "nil" => return Ok(Value::Nil),
        "true" => return Ok(Value::Bool(true)),
        "false" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if let Some(name) = token.strip_prefix(':') {
        if name.is_empty() {
            return Err("found `:` alone, expected a keyword or another value".to_owned());
        }
        return Ok(Value::Keyword(name.into()));
    }
    let digits = token.strip_prefix(['-', '+']).unwrap_or(token);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(Value::Symbol(token.into()));
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
        return Ok(Value::Symbol(token.into()));
    }
    Err(format!("`{token}` is no number"))
}
