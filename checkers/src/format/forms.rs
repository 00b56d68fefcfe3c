//! Operations written as maps, one after the other, read a window of text at a time.

use super::edn::parse::{Bad, Parser};
use super::input::Input;
use super::names::Names;
use super::window::Window;
use super::{ReadError, Reader, Warning};
use crate::Event;

/// How the operations follow each other. A copy is kept to go back to when the window ends within
/// an operation.
pub trait Syntax: Copy {
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
}

impl<'a, S: Syntax> Forms<'a, S> {
    pub fn new(input: Input<'a>, file: &str, syntax: S) -> Self {
        Self {
            window: Window::new(input, file),
            read: 0,
            syntax,
            names: Names::default(),
        }
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
        } = self;
        window.advance(*read)?;
        let text = window.text();
        let mut parser = Parser::with(text, std::mem::take(names));
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
