//! The text of a history, a piece at a time.

use super::input::{EVENT_BYTES_MAX, Input};
use super::{ReadError, Warning};

/// Small in tests, so that every history has many.
const WINDOW_BYTES: usize = if cfg!(test) { 1024 } else { 2 << 20 };

/// A piece of text that grows at its end and shrinks at its start.
pub struct Window<'a> {
    input: Input<'a>,
    file: String,
    bytes: Vec<u8>,
    /// Up to here the bytes are whole characters.
    whole: usize,
    /// Lines before the window.
    lines: u64,
    more: bool,
    /// Why the text ends here, if it is not because the file does.
    broken: Option<ReadError>,
}

impl<'a> Window<'a> {
    pub fn new(input: Input<'a>, file: &str) -> Self {
        Self {
            input,
            file: file.to_owned(),
            bytes: Vec::new(),
            whole: 0,
            lines: 0,
            more: true,
            broken: None,
        }
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// The text at hand.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.whole]).unwrap_or_default()
    }

    /// Whether more text may follow.
    pub fn more(&self) -> bool {
        self.more
    }

    /// The line of this line of the window, both from 1.
    pub fn line(&self, of_window: u64) -> u64 {
        self.lines + of_window
    }

    /// Drops the text before this position, which was read, and reads on. What is left is what
    /// cannot be understood without its end: there is at least as much new text, so that the time
    /// is linear in the length of the file.
    pub fn advance(&mut self, read: usize) -> Result<(), ReadError> {
        let newlines = memchr::memchr_iter(b'\n', &self.bytes[..read]).count();
        self.lines += newlines as u64;
        self.bytes.drain(..read);
        self.whole -= read;
        if self.bytes.len() >= EVENT_BYTES_MAX {
            let message = format!(
                "longer than {} MiB, expected an operation",
                EVENT_BYTES_MAX >> 20
            );
            return Err(ReadError::corrupt(&self.file, self.line(1), None, &message));
        }
        let wanted = WINDOW_BYTES.max(self.bytes.len());
        match self.input.fill(&mut self.bytes, wanted) {
            Ok(more) => self.more = more,
            Err(source) => {
                self.more = false;
                let file = self.file.clone();
                self.broken = Some(ReadError::Io { file, source });
            }
        }
        let from = self.whole;
        if let Err(e) = std::str::from_utf8(&self.bytes[from..]) {
            self.whole = from + e.valid_up_to();
            if e.error_len().is_some() {
                self.not_utf8();
            }
        } else {
            self.whole = self.bytes.len();
        }
        Ok(())
    }

    /// The text ends before the line that is none.
    fn not_utf8(&mut self) {
        self.more = false;
        let before = &self.bytes[..self.whole];
        let line = memchr::memchr_iter(b'\n', before).count() as u64 + 1;
        let message = "found bytes that are not UTF-8, expected text";
        let error = ReadError::corrupt(&self.file, self.line(line), None, message);
        self.broken.get_or_insert(error);
        self.whole = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    }

    /// At the end of the text: why it ends there.
    pub fn end(&mut self, warnings: &mut Vec<Warning>) -> Result<(), ReadError> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        if self.input.is_torn() {
            let newlines = memchr::memchr_iter(b'\n', &self.bytes[..self.whole]).count();
            let line = self.line(newlines as u64);
            warnings.push(Warning::TornCompression { line });
        }
        Ok(())
    }

    /// Whether the text ends before the file does, because of an error.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }
}
