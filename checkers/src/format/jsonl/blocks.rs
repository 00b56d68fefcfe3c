//! Lines read in blocks, and the blocks parsed on all cores while the next ones are read.

use memchr::{memchr, memrchr};

use super::parse::{self, Bad};
use super::scan::Scan;
use crate::Event;
use crate::format::input::{EVENT_BYTES_MAX, Input};
use crate::format::names::Names;
use crate::format::{ReadError, Reader, Warning};

/// Small in tests, so that every history has many.
const BLOCK_BYTES: usize = if cfg!(test) { 512 } else { 256 << 10 };
/// Parsed together.
const BLOCKS: usize = if cfg!(test) { 3 } else { 16 };

/// Reads events line by line.
pub struct Lines<'a> {
    file: String,
    feed: Feed<'a>,
    /// Read, to be parsed next.
    read: Vec<Block>,
    /// To be read into.
    spare: Vec<Block>,
    /// Lines of the blocks that were handed out.
    passed: u64,
    /// Index of the last event that was handed out.
    previous: Option<u64>,
}

/// Where the blocks come from.
struct Feed<'a> {
    input: Input<'a>,
    /// The beginning of a line whose end is not read yet.
    carry: Vec<u8>,
    ended: bool,
    failed: Option<std::io::Error>,
}

/// Some whole lines, and their events.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    /// Whether its only line is longer than any event.
    too_long: bool,
    events: Vec<Event>,
    names: Names,
    lines: u64,
    /// The lines without an event, from 1.
    blank: Vec<u64>,
    bad: Option<(u64, Bad)>,
    torn: Option<u64>,
}

impl<'a> Lines<'a> {
    pub fn new(input: Input<'a>, file: &str) -> Self {
        let feed = Feed {
            input,
            carry: Vec::new(),
            ended: false,
            failed: None,
        };
        let mut lines = Self {
            file: file.to_owned(),
            feed,
            read: Vec::new(),
            spare: Vec::new(),
            passed: 0,
            previous: None,
        };
        lines.feed.read_blocks(&mut lines.read);
        lines
    }

    /// Hands out the events of a block, whose indexes must increase.
    fn hand_out(
        &mut self,
        mut block: Block,
        events: &mut Vec<Event>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Block, ReadError> {
        for (n, event) in block.events.iter().enumerate() {
            if let Some(previous) = self.previous.replace(event.index)
                && event.index <= previous
            {
                let bad = Bad::order(event.index, previous);
                let line = self.passed + block.line_of(n);
                events.extend(block.events.drain(..n));
                return Err(ReadError::corrupt(
                    &self.file,
                    line,
                    bad.field,
                    &bad.message,
                ));
            }
        }
        events.append(&mut block.events);
        if let Some((line, bad)) = block.bad.take() {
            let line = self.passed + line;
            return Err(ReadError::corrupt(
                &self.file,
                line,
                bad.field,
                &bad.message,
            ));
        }
        if let Some(line) = block.torn {
            let line = self.passed + line;
            warnings.push(Warning::TornLastLine { line });
        }
        self.passed += block.lines;
        Ok(block)
    }
}

impl Reader for Lines<'_> {
    fn batch(
        &mut self,
        events: &mut Vec<Event>,
        warnings: &mut Vec<Warning>,
    ) -> Result<bool, ReadError> {
        let Self {
            feed, read, spare, ..
        } = self;
        match &mut read[..] {
            // Not worth a second thread.
            [block] => {
                block.parse();
                spare.clear();
            }
            blocks => rayon::in_place_scope(|scope| {
                for block in blocks {
                    scope.spawn(|_| block.parse());
                }
                feed.read_blocks(spare);
            }),
        }
        for block in std::mem::take(&mut self.read) {
            let block = self.hand_out(block, events, warnings)?;
            self.read.push(block);
        }
        std::mem::swap(&mut self.read, &mut self.spare);
        if !self.read.is_empty() {
            return Ok(true);
        }
        if let Some(source) = self.feed.failed.take() {
            let file = self.file.clone();
            return Err(ReadError::Io { file, source });
        }
        if self.feed.input.is_torn() {
            let line = self.passed;
            warnings.push(Warning::TornCompression { line });
        }
        Ok(false)
    }
}

impl Feed<'_> {
    /// Reads the next blocks; none at the end.
    fn read_blocks(&mut self, blocks: &mut Vec<Block>) {
        for n in 0..BLOCKS {
            if self.ended {
                blocks.truncate(n);
                return;
            }
            if blocks.len() == n {
                blocks.push(Block::default());
            }
            self.read_block(&mut blocks[n]);
        }
    }

    fn read_block(&mut self, block: &mut Block) {
        let bytes = &mut block.bytes;
        bytes.clear();
        bytes.append(&mut self.carry);
        loop {
            let searched = bytes.len();
            match self.input.fill(bytes, BLOCK_BYTES.max(searched)) {
                Ok(more) => self.ended = !more,
                Err(error) => {
                    self.failed = Some(error);
                    self.ended = true;
                }
            }
            let newline = memrchr(b'\n', &bytes[searched..]);
            let whole = newline.map_or(0, |at| searched + at + 1);
            if self.ended {
                // What broke off within a line is not an event, whatever it looks like.
                if self.failed.is_some() || self.input.is_torn() {
                    bytes.truncate(whole);
                }
                return;
            }
            if whole > 0 {
                self.carry.extend_from_slice(&bytes[whole..]);
                bytes.truncate(whole);
                return;
            }
            if bytes.len() >= EVENT_BYTES_MAX {
                bytes.clear();
                block.too_long = true;
                self.ended = true;
                return;
            }
        }
    }
}

impl Block {
    fn parse(&mut self) {
        self.events.clear();
        self.blank.clear();
        (self.lines, self.torn) = (0, None);
        let mut rest = &self.bytes[..];
        while !rest.is_empty() {
            self.lines += 1;
            if let Some(after) = rest.strip_prefix(b"\n") {
                self.blank.push(self.lines);
                rest = after;
                continue;
            }
            let mut scan = Scan::new(rest);
            if let Some(event) = scan.event(&mut self.names) {
                self.events.push(event);
                rest = &rest[scan.position()..];
                continue;
            }
            let newline = memchr(b'\n', rest);
            let (line, after) = match newline {
                Some(at) => (&rest[..at], &rest[at + 1..]),
                None => (rest, &rest[rest.len()..]),
            };
            rest = after;
            let line = line.trim_ascii();
            if line.is_empty() {
                self.blank.push(self.lines);
                continue;
            }
            match parse::event(line, &mut self.names) {
                Ok(event) => self.events.push(event),
                Err(bad) if newline.is_none() && bad.incomplete => self.torn = Some(self.lines),
                Err(bad) => {
                    self.bad = Some((self.lines, bad));
                    return;
                }
            }
        }
        if self.too_long {
            self.bad = Some((1, Bad::too_long()));
        }
    }

    /// The line of the n-th event, from 1.
    fn line_of(&self, n: usize) -> u64 {
        let mut line = n as u64 + 1;
        for &blank in &self.blank {
            if blank > line {
                break;
            }
            line += 1;
        }
        line
    }
}
