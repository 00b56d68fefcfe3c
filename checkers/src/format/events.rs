//! Histories as streams of events.

use std::fs::File;
use std::io;
use std::path::Path;

use super::detect::{Guess, detect};
use super::edn::Maps;
use super::forms::Forms;
use super::input::Input;
use super::jepsen_log::Log;
use super::json::Array;
use super::jsonl::Lines;
use super::settle::{self, Numbering, Numbers};
use super::{Format, ReadError, ReadOptions, Reader, Warning, porcupine_kv};
use crate::Event;

/// The format is recognised by so much of the start.
const START_BYTES: usize = 16 << 10;

/// The events of a history one by one, in the order recorded: for checkers that need not keep them.
///
/// What only a whole history tells is not known: in formats whose events need not have indexes,
/// indexes are positions; and values are taken for tuples of jepsen.independent only with
/// [`ReadOptions::independent`].
///
/// ```
/// use checkers::format::{Events, ReadOptions};
///
/// let text = "{:process 0, :type :invoke, :f :read, :value nil}\n\
///             {:process 0, :type :ok, :f :read, :value 7}\n";
/// let events = Events::new(text.as_bytes(), "an example", None, &ReadOptions::default())?;
/// for event in events {
///     println!("{}", event?.value);
/// }
/// # Ok::<(), checkers::format::ReadError>(())
/// ```
pub struct Events<'a> {
    source: Source<'a>,
    batch: std::vec::IntoIter<Event>,
    ended: bool,
    failed: Option<ReadError>,
}

impl<'a> Events<'a> {
    /// Those of a stream of bytes, compressed with zstd or gzip or not. `file` is its name in
    /// errors.
    ///
    /// # Errors
    ///
    /// [`ReadError`] says why it is not the start of a history.
    pub fn new(
        input: impl io::Read + 'a,
        file: &str,
        format: Option<Format>,
        options: &ReadOptions,
    ) -> Result<Self, ReadError> {
        Ok(Self {
            source: Source::open(input, file, format, options, false)?,
            batch: Vec::new().into_iter(),
            ended: false,
            failed: None,
        })
    }

    /// Those of a file.
    ///
    /// # Errors
    ///
    /// As [`Events::new`], and if the file cannot be opened.
    pub fn of_path(
        path: &Path,
        format: Option<Format>,
        options: &ReadOptions,
    ) -> Result<Self, ReadError> {
        let file = path.display().to_string();
        let input = File::open(path).map_err(|source| ReadError::Io {
            file: file.clone(),
            source,
        })?;
        Self::new(input, &file, format, options)
    }

    /// The format they are in.
    pub fn format(&self) -> Format {
        self.source.format
    }

    /// What was odd. Complete only at the end.
    pub fn warnings(&self) -> &[Warning] {
        &self.source.warnings
    }

    /// With [`ReadOptions::partial`], at the end: why the history ends before the file does.
    pub fn cut(&self) -> Option<&ReadError> {
        self.source.cut.as_ref()
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.batch.next() {
                return Some(Ok(event));
            }
            if self.ended {
                return self.failed.take().map(Err);
            }
            let mut events = Vec::new();
            match self.source.batch(&mut events) {
                Ok(more) => self.ended = !more,
                Err(error) => {
                    self.ended = true;
                    self.failed = Some(error);
                }
            }
            self.batch = events.into_iter();
        }
    }
}

/// Where the events of a history come from.
pub(super) struct Source<'a> {
    pub format: Format,
    pub warnings: Vec<Warning>,
    pub cut: Option<ReadError>,
    reader: Box<dyn Reader + 'a>,
    numbering: Option<Numbering>,
    partial: bool,
    /// Whether all events are kept in one place.
    whole: bool,
    /// Whether values of clients are tuples, where that is not found out in the end.
    tuples: bool,
}

impl<'a> Source<'a> {
    pub fn open(
        input: impl io::Read + 'a,
        file: &str,
        format: Option<Format>,
        options: &ReadOptions,
        whole: bool,
    ) -> Result<Self, ReadError> {
        let mut input = Input::open(input, file, format.is_some())?;
        let format = match format {
            Some(format) => format,
            None => recognise(&mut input, file)?,
        };
        let optional = if whole {
            Numbers::Optional
        } else {
            Numbers::Positions
        };
        let maps = Maps::default();
        let (reader, numbers): (Box<dyn Reader + 'a>, Numbers) = match format {
            Format::Jsonl => (Box::new(Lines::new(input, file)), Numbers::Recorded),
            Format::Json => (
                Box::new(Forms::new(input, file, Array::default())),
                optional,
            ),
            Format::Edn | Format::PorcupineKv => {
                (Box::new(Forms::new(input, file, maps)), optional)
            }
            Format::JepsenLog => (Box::new(Log::new(input, file)), Numbers::None),
        };
        Ok(Self {
            format,
            warnings: Vec::new(),
            cut: None,
            reader,
            numbering: Some(Numbering::new(numbers)),
            partial: options.partial,
            whole,
            tuples: !whole && format != Format::Jsonl && options.independent == Some(true),
        })
    }

    /// Appends events; whether there may be more.
    pub fn batch(&mut self, events: &mut Vec<Event>) -> Result<bool, ReadError> {
        let from = events.len();
        let result = self.reader.batch(events, &mut self.warnings);
        if let Some(numbering) = &mut self.numbering {
            numbering.settle(events, from);
        }
        let new = &mut events[from..];
        if self.format == Format::PorcupineKv {
            porcupine_kv::translate(new);
        }
        if self.tuples {
            settle::split_tuples(new);
        }
        if !self.whole {
            settle::no_nil_keys(new);
        }
        let more = match result {
            Ok(more) => more,
            Err(error) if self.partial => {
                self.cut = Some(error);
                false
            }
            Err(error) => return Err(error),
        };
        if !more && let Some(numbering) = self.numbering.take() {
            numbering.finish(events, &mut self.warnings);
        }
        Ok(more)
    }
}

fn recognise(input: &mut Input<'_>, file: &str) -> Result<Format, ReadError> {
    let file = || file.to_owned();
    let start = input.peek(START_BYTES);
    match detect(start) {
        Guess::Format(format) => Ok(format),
        // A run that was killed at once leaves an empty file.
        Guess::Empty => Ok(Format::Jsonl),
        Guess::Either(one, other) => Err(ReadError::Ambiguous {
            file: file(),
            what: format!("it may be `{}` or `{}`", one.name(), other.name()),
        }),
        Guess::Unknown => Err(ReadError::UnknownFormat { file: file() }),
    }
}
