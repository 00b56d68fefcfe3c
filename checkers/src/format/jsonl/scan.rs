//! The frequent shapes of JSON, read without a general parser.
//!
//! What is read here is read exactly as by [`super::parse`], which is held against it by a property
//! test. Anything else (escapes, text beyond ASCII, fractions, numbers near the limits, fields that
//! are not known or given twice) is left to it: `None` says nothing of whether a line is right.

use memchr::memchr;

use crate::format::names::Names;
use crate::{Details, Event, F, Items, Kind, Process, Value};

/// Collections nested deeper than this are left to the general parser.
const DEPTH_MAX: usize = 8;

/// A place in some JSON.
pub struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    /// At the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.at
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// `:` or `,` and such, with space around it.
    fn mark(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        let found = self.take(byte);
        self.skip_space();
        found.then_some(())
    }

    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        let found = self.bytes[self.at..].starts_with(literal);
        self.at += if found { literal.len() } else { 0 };
        found.then_some(())
    }

    /// A whole number of up to 18 digits, without a sign.
    fn natural(&mut self) -> Option<u64> {
        let from = self.at;
        let mut n = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            if self.at - from == 18 {
                return None;
            }
            n = n * 10 + u64::from(digit - b'0');
            self.at += 1;
        }
        let leading_zero = self.at - from > 1 && self.bytes[from] == b'0';
        let fraction = matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        (self.at > from && !leading_zero && !fraction).then_some(n)
    }

    fn integer(&mut self) -> Option<i64> {
        if !self.take(b'-') {
            return self.natural().map(|n| n as i64);
        }
        // `-0` is a fraction.
        let n = self.natural().filter(|n| *n > 0)?;
        Some(-(n as i64))
    }

    /// A string of plain ASCII, without its quotes.
    fn plain(&mut self) -> Option<&'a [u8]> {
        if !self.take(b'"') {
            return None;
        }
        let from = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' | 0..0x20 | 0x80.. => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(&self.bytes[from..self.at - 1])
    }

    /// A value.
    pub fn value(&mut self, names: &mut Names) -> Option<Value> {
        names.items.clear();
        names.pairs.clear();
        self.nested(names, DEPTH_MAX)
    }

    fn nested(&mut self, names: &mut Names, depth: usize) -> Option<Value> {
        match self.peek()? {
            b'0'..=b'9' | b'-' => self.integer().map(Value::Int),
            b'n' => self.literal(b"null").map(|()| Value::Nil),
            b't' => self.literal(b"true").map(|()| Value::Bool(true)),
            b'f' => self.literal(b"false").map(|()| Value::Bool(false)),
            b'"' => {
                let text = self.plain()?;
                names.text(text).map(Value::Str)
            }
            b'[' if depth > 0 => self.array(names, depth),
            b'{' if depth > 0 => self.object(names, depth),
            _ => None,
        }
    }

    fn array(&mut self, names: &mut Names, depth: usize) -> Option<Value> {
        self.mark(b'[')?;
        let from = names.items.len();
        if !self.take(b']') {
            loop {
                let item = self.nested(names, depth - 1)?;
                names.items.push(item);
                self.skip_space();
                if self.take(b']') {
                    break;
                }
                self.mark(b',')?;
            }
        }
        Some(Value::Vector(Items::exact(names.items.drain(from..))))
    }

    fn object(&mut self, names: &mut Names, depth: usize) -> Option<Value> {
        self.mark(b'{')?;
        let from = names.pairs.len();
        if !self.take(b'}') {
            loop {
                // A name with `$` says what JSON has no notation for.
                let name = self.plain().filter(|name| !name.starts_with(b"$"))?;
                let name = names.text(name).map(Value::Str)?;
                self.mark(b':')?;
                let value = self.nested(names, depth - 1)?;
                names.pairs.push((name, value));
                self.skip_space();
                if self.take(b'}') {
                    break;
                }
                self.mark(b',')?;
            }
        }
        Some(Value::Map(Items::exact(names.pairs.drain(from..))))
    }

    /// An event and the end of its line.
    pub fn event(&mut self, names: &mut Names) -> Option<Event> {
        self.canonical(names).or_else(|| {
            self.at = 0;
            self.fields(names)
        })
    }

    /// An event as Quorate writes it.
    fn canonical(&mut self, names: &mut Names) -> Option<Event> {
        self.literal(b"{\"index\":")?;
        let index = self.natural()?;
        self.literal(b",\"time\":")?;
        let time = self.natural()?;
        self.literal(b",\"process\":")?;
        let process = self.process(names)?;
        self.literal(b",\"type\":\"")?;
        let kind = [Kind::Invoke, Kind::Ok, Kind::Info, Kind::Fail]
            .into_iter()
            .find(|kind| self.literal(kind.name().as_bytes()).is_some())?;
        self.literal(b"\",\"f\":")?;
        let f = function(self.plain()?, names)?;
        let mut event = Event::new(index, time, process, kind, f, Value::Nil);
        if self.literal(b",\"key\":").is_some() {
            event.key = Some(self.value(names)?).filter(|key| !key.is_nil());
        }
        self.literal(b",\"value\":")?;
        event.value = self.value(names)?;
        if self.take(b'}') {
            self.line_end()?;
        } else {
            self.literal(b",")?;
            self.ending(&mut event, names)?;
        }
        Some(event)
    }

    fn fields(&mut self, names: &mut Names) -> Option<Event> {
        let mut event = Event::new(0, 0, Process::Nemesis, Kind::Info, F::Read, Value::Nil);
        let mut given = 0_u8;
        self.mark(b'{')?;
        loop {
            let from = self.at;
            let field = match self.plain()? {
                b"index" => INDEX,
                b"time" => TIME,
                b"process" => PROCESS,
                b"type" => TYPE,
                b"f" => FUNCTION,
                b"key" => KEY,
                b"value" => VALUE,
                b"node" | b"role" | b"epoch" | b"error" => {
                    self.at = from;
                    self.ending(&mut event, names)?;
                    break;
                }
                _ => return None,
            };
            if given & field != 0 {
                return None;
            }
            given |= field;
            self.mark(b':')?;
            match field {
                INDEX => event.index = self.natural()?,
                TIME => event.time = self.natural()?,
                PROCESS => event.process = self.process(names)?,
                TYPE => {
                    let name = std::str::from_utf8(self.plain()?).ok()?;
                    event.kind = Kind::from_name(name)?;
                }
                FUNCTION => event.f = function(self.plain()?, names)?,
                KEY => event.key = Some(self.value(names)?).filter(|key| !key.is_nil()),
                _ => event.value = self.value(names)?,
            }
            self.skip_space();
            if self.take(b'}') {
                self.line_end()?;
                break;
            }
            self.mark(b',')?;
        }
        (given & REQUIRED == REQUIRED).then_some(event)
    }

    fn process(&mut self, names: &mut Names) -> Option<Process> {
        if self.peek()? != b'"' {
            return self.natural().map(Process::Client);
        }
        match self.plain()? {
            b"nemesis" => Some(Process::Nemesis),
            name => names.text(name).map(Process::Other),
        }
    }

    /// The rest of a line, from the first field that is none of the event's own: the same on many
    /// lines.
    fn ending(&mut self, event: &mut Event, names: &mut Names) -> Option<()> {
        let rest = &self.bytes[self.at..];
        let length = memchr(b'\n', rest).unwrap_or(rest.len());
        let written = rest[..length].trim_ascii_end();
        names.ending(written, event, || Scan::new(written).details())?;
        self.at += (length + 1).min(rest.len());
        Some(())
    }

    fn details(&mut self) -> Option<Details> {
        let mut details = Details::default();
        let mut given = 0_u8;
        loop {
            let field = match self.plain()? {
                b"node" => 1,
                b"role" => 2,
                b"error" => 4,
                b"epoch" => 8,
                _ => return None,
            };
            if given & field != 0 {
                return None;
            }
            given |= field;
            self.mark(b':')?;
            if self.literal(b"null").is_none() {
                if field == 8 {
                    details.epoch = Some(self.natural()?);
                } else {
                    let text = std::str::from_utf8(self.plain()?).ok()?;
                    let text = Some(text.into());
                    match field {
                        1 => details.node = text,
                        2 => details.role = text,
                        _ => details.error = text,
                    }
                }
            }
            self.skip_space();
            if self.take(b'}') {
                return (self.at == self.bytes.len()).then_some(details);
            }
            self.mark(b',')?;
        }
    }

    fn line_end(&mut self) -> Option<()> {
        while let Some(b' ' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
        (self.take(b'\n') || self.at == self.bytes.len()).then_some(())
    }
}

const INDEX: u8 = 1;
const TIME: u8 = 2;
const PROCESS: u8 = 4;
const TYPE: u8 = 8;
const FUNCTION: u8 = 16;
const KEY: u8 = 32;
const VALUE: u8 = 64;
const REQUIRED: u8 = INDEX | TIME | PROCESS | TYPE | FUNCTION;

fn function(name: &[u8], names: &mut Names) -> Option<F> {
    match F::known(name) {
        Some(f) => Some(f),
        None => names.text(name).map(F::Other),
    }
}
