//! Which format a history is in, by its start.

use super::{Format, jepsen_log};

/// What the start of a history looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// A format.
    Format(Format),
    /// One of two, which mean different things.
    Either(Format, Format),
    /// Nothing but space so far.
    Empty,
    /// None that is known.
    Unknown,
}

/// Recognises the format by the start of a history.
pub fn detect(start: &[u8]) -> Guess {
    let text = String::from_utf8_lossy(start);
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(';'));
    let Some(first) = lines.next() else {
        let empty = text.trim().is_empty();
        return if empty { Guess::Empty } else { Guess::Unknown };
    };
    if let Some(object) = first.strip_prefix('{') {
        let object = object.trim_start();
        let spread = object.is_empty() && lines.clone().next().is_some_and(|l| l.starts_with('"'));
        if spread || object.starts_with('"') {
            return Guess::Format(Format::Jsonl);
        }
        if !(object.is_empty() || object.starts_with([':', '#', '}'])) {
            return Guess::Unknown;
        }
        return edn_or_porcupine(first, lines);
    }
    if jepsen_log::is_operation(first) {
        return Guess::Format(Format::JepsenLog);
    }
    let array = text.trim_start().strip_prefix('[').map(str::trim_start);
    let object = array.and_then(|rest| rest.strip_prefix('{'));
    if object.is_some_and(|rest| rest.trim_start().starts_with(['"', '}'])) {
        return Guess::Format(Format::Json);
    }
    let map = |text: &str| {
        let text = text.trim_start_matches(['[', '(', ' ', ',', '\t', '\r', '\n']);
        text.is_empty() || text.starts_with(['{', '#', ';', ')', ']'])
    };
    if first.starts_with(['(', '[', '#']) && map(text.trim_start()) {
        return Guess::Format(Format::Edn);
    }
    let log = |line: &str| line.contains(jepsen_log::LOGGER);
    if log(first) || lines.any(log) {
        return Guess::Format(Format::JepsenLog);
    }
    Guess::Unknown
}

/// Maps with a field `:key`, without an index: Porcupine's functions tell them apart, save
/// `:append`, which is of both.
fn edn_or_porcupine<'a>(first: &'a str, rest: impl Iterator<Item = &'a str>) -> Guess {
    let mut appends = false;
    for line in std::iter::once(first).chain(rest) {
        if line.contains(":index") || line.contains(":time") || !line.contains(":key \"") {
            return Guess::Format(Format::Edn);
        }
        if line.contains(":f :get,") || line.contains(":f :put,") {
            return Guess::Format(Format::PorcupineKv);
        }
        appends |= line.contains(":f :append,");
        if !appends {
            return Guess::Format(Format::Edn);
        }
    }
    if appends {
        Guess::Either(Format::PorcupineKv, Format::Edn)
    } else {
        Guess::Format(Format::Edn)
    }
}
