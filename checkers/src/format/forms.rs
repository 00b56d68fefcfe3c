//! Operations written as maps, one after the other, read a window of text at a time.

use super::edn::parse::{Bad, Parser};
use super::input::Input;
use super::names::Names;
use super::window::Window;
use super::{ReadError, Reader, Warning};
use crate::Event;

const PIECE_BYTES: usize = if cfg!(test) { 200 } else { 128 << 10 };

/// How the operations follow each other. A copy is kept to go back to when the window ends within
/// an operation.
pub trait Syntax: Copy + Send {
    /// Where an operation may begin after this byte, if it is known what may; nowhere by default.
    fn begins(&self, _text: &str, _from: usize) -> Option<usize> {
        None
    }

    /// Whether the next thing may be an operation, whatever came before it.
    fn is_between(&self) -> bool {
        false
    }

    /// Skips what means nothing wherever the window ends.
    fn skip(parser: &mut Parser<'_>);

    /// The next operation; `None` at the end.
    fn next(&mut self, parser: &mut Parser<'_>) -> Result<Option<Event>, Wrong>;
}

/// What is wrong, and where that begins which is wrong.
pub struct Wrong {
    pub began: usize,
    pub field: Option<String>,
    pub bad: Bad,
}

impl Wrong {
    pub fn at(began: usize, bad: Bad) -> Self {
        Self {
            began,
            field: None,
            bad,
        }
    }
}

/// Reads operations of a syntax.
pub struct Forms<'a, S> {
    window: Window<'a>,
    /// How much of the window was read.
    read: usize,
    syntax: S,
    names: Names,
    /// Of the pieces that are read side by side.
    pieces: Vec<Piece>,
}

/// A part of a window.
#[derive(Default)]
struct Piece {
    from: usize,
    to: usize,
    events: Vec<Event>,
    names: Names,
    /// Whether it holds whole operations and nothing else.
    whole: bool,
}

impl<'a, S: Syntax> Forms<'a, S> {
    pub fn new(input: Input<'a>, file: &str, syntax: S) -> Self {
        Self {
            window: Window::new(input, file),
            read: 0,
            syntax,
            names: Names::default(),
            pieces: Vec::new(),
        }
    }
}

/// Reads the pieces of a text on all cores, where it is cut before what looks like an operation.
/// Returns how much was read.
///
/// A cut may be wrong: within a text, or a comment. But a piece that holds whole operations and
/// nothing else from a right cut on ends in a right one, as it would not have been read otherwise
/// from the start of the text; and the first cut is right. What comes after a piece that does not
/// is left alone.
fn side_by_side<S: Syntax>(
    text: &str,
    syntax: S,
    pieces: &mut Vec<Piece>,
    events: &mut Vec<Event>,
) -> usize {
    if !syntax.is_between() {
        return 0;
    }
    let mut cuts = vec![0];
    while let Some(&last) = cuts.last()
        && let Some(cut) = syntax.begins(text, last + PIECE_BYTES)
    {
        cuts.push(cut);
    }
    if cuts.len() < 3 {
        return 0;
    }
    pieces.resize_with(cuts.len() - 1, Piece::default);
    for (piece, ends) in pieces.iter_mut().zip(cuts.windows(2)) {
        (piece.from, piece.to) = (ends[0], ends[1]);
    }
    rayon::in_place_scope(|scope| {
        for piece in &mut *pieces {
            scope.spawn(move |_| piece.read(&text[piece.from..piece.to], syntax));
        }
    });
    let mut read = 0;
    for piece in pieces.iter_mut().take_while(|piece| piece.whole) {
        events.append(&mut piece.events);
        read = piece.to;
    }
    read
}

impl Piece {
    fn read<S: Syntax>(&mut self, text: &str, mut syntax: S) {
        self.events.clear();
        self.whole = false;
        let mut parser = Parser::with(text, std::mem::take(&mut self.names));
        loop {
            S::skip(&mut parser);
            if parser.peek().is_none() {
                self.whole = syntax.is_between();
                break;
            }
            match syntax.next(&mut parser) {
                Ok(Some(event)) => self.events.push(event),
                Ok(None) | Err(_) => break,
            }
        }
        self.names = parser.into_names();
    }
}

impl<S: Syntax> Reader for Forms<'_, S> {
    fn batch(
        &mut self,
        events: &mut Vec<Event>,
        warnings: &mut Vec<Warning>,
    ) -> Result<bool, ReadError> {
        let Self {
            window,
            read,
            syntax,
            names,
            pieces,
        } = self;
        window.advance(*read)?;
        let text = window.text();
        let ahead = side_by_side(text, *syntax, pieces, events);
        let mut parser = Parser::with(text, std::mem::take(names));
        parser.advance(ahead);
        let wrong = loop {
            S::skip(&mut parser);
            *read = parser.position();
            let before = *syntax;
            let next = syntax.next(&mut parser);
            if window.more() && !matches!(next, Ok(Some(_))) && parser.peek().is_none() {
                // With more text it may mean something else.
                *syntax = before;
                *names = parser.into_names();
                return Ok(true);
            }
            match next {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break None,
                Err(wrong) => break Some(wrong),
            }
        };
        if let Some(Wrong { began, field, bad }) = wrong {
            // Only an operation that begins on the last line is torn. One that begins before it and
            // is not whole has lost its end: what follows may be many operations, which nobody may
            // miss silently.
            let line = if bad.incomplete {
                parser.line_at(began)
            } else {
                bad.line
            };
            let line = window.line(line);
            let torn = bad.incomplete && !text[began..].trim_end().contains('\n');
            if !torn {
                let file = window.file();
                return Err(ReadError::corrupt(file, line, field, &bad.message));
            }
            if !window.is_broken() {
                warnings.push(Warning::TornLastLine { line });
            }
        }
        window.end(warnings).map(|()| false)
    }
}
