//! Writes the history while the run goes on, so that a killed harness leaves a readable prefix.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use checkers::Event;

/// Where the runner puts events.
pub trait Sink {
    /// Records one event. Errors are kept and reported by [`Sink::flush`], never lost.
    fn record(&mut self, event: Event);

    /// Makes what was recorded visible to readers of the file.
    ///
    /// # Errors
    /// The first error since the last flush.
    fn flush(&mut self) -> io::Result<()>;
}

/// Keeps the history in memory, for simulations that end in seconds.
impl Sink for Vec<Event> {
    fn record(&mut self, event: Event) {
        self.push(event);
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Streams JSON Lines to a file; memory does not grow with the run.
#[derive(Debug)]
pub struct FileSink<W: Write = BufWriter<File>> {
    out: W,
    line: Vec<u8>,
    error: Option<io::Error>,
}

impl FileSink {
    /// Creates the file.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::new(BufWriter::with_capacity(
            1 << 16,
            File::create(path)?,
        )))
    }
}

impl<W: Write> FileSink<W> {
    /// Streams to any writer.
    pub fn new(out: W) -> Self {
        Self {
            out,
            line: Vec::with_capacity(512),
            error: None,
        }
    }
}

impl<W: Write> Sink for FileSink<W> {
    fn record(&mut self, event: Event) {
        self.line.clear();
        checkers::format::jsonl::write_event(&mut self.line, &event);
        if let Err(error) = self.out.write_all(&self.line) {
            self.error.get_or_insert(error);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.error.take().map_or(Ok(()), Err)
    }
}
