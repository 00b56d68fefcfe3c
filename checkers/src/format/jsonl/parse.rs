//! One line of JSON to one event.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use crate::format::error::excerpt;
use crate::format::input::EVENT_BYTES_MAX;
use crate::format::names::Names;
use crate::{Details, Event, F, Kind, Process, Value};

/// Why a line is not an event.
pub struct Bad {
    /// The field that is wrong.
    pub field: Option<String>,
    /// What was expected and what was found.
    pub message: String,
    /// Whether more input could have made it right.
    pub incomplete: bool,
}

impl Bad {
    /// Indexes must increase.
    pub fn order(index: u64, previous: u64) -> Self {
        Self {
            field: Some("index".to_owned()),
            message: format!("{index} does not follow {previous}: indexes must increase"),
            incomplete: false,
        }
    }

    /// There is a limit to the length of a line.
    pub fn too_long() -> Self {
        let mib = EVENT_BYTES_MAX >> 20;
        Self {
            field: None,
            message: format!("longer than {mib} MiB, expected an event"),
            incomplete: false,
        }
    }
}

/// Parses one line.
pub fn event(line: &[u8], names: &mut Names) -> Result<Event, Bad> {
    let at_field = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let parsed = Line {
        at_field: &at_field,
    }
    .deserialize(&mut deserializer)
    .and_then(|event| deserializer.end().map(|()| event));
    let mut event = parsed.map_err(|e| Bad {
        field: at_field.take(),
        message: describe(&e),
        // A line cut within a multi-byte character is not valid UTF-8 any more.
        incomplete: e.is_eof() || std::str::from_utf8(line).is_err_and(|e| e.error_len().is_none()),
    })?;
    if let Some(Value::Str(key)) = &mut event.key
        && let Some(known) = names.text(key.as_bytes())
    {
        *key = known;
    }
    names.share_details(&mut event);
    Ok(event)
}

/// The message of `serde_json` with the column only: it sees one line at a time.
pub fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let column = error.column();
    let message = text.split(" at line ").next().unwrap_or(&text);
    if column == 0 {
        return message.to_owned();
    }
    format!("{message} (column {column})")
}

struct Line<'a> {
    at_field: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Line<'_> {
    type Value = Event;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Event, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Line<'_> {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event: a JSON object with index, time, process, type and f")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let (mut index, mut time, mut process, mut kind, mut f) = (None, None, None, None, None);
        let (mut key, mut value, mut node, mut role) = (None, None, None, None);
        let (mut epoch, mut error) = (None, None);
        let mut extra = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            *self.at_field.borrow_mut() = Some(name.clone());
            match name.as_str() {
                "index" => once(&mut index, map.next_value()?)?,
                "time" => once(&mut time, map.next_value()?)?,
                "process" => once(&mut process, to_process(map.next_value()?)?)?,
                "type" => once(&mut kind, to_kind(&map.next_value::<String>()?)?)?,
                "f" => once(&mut f, F::from_name(&map.next_value::<String>()?))?,
                "key" => once(&mut key, map.next_value()?)?,
                "value" => once(&mut value, map.next_value()?)?,
                "node" => once(&mut node, map.next_value::<Option<Arc<str>>>()?)?,
                "role" => once(&mut role, map.next_value::<Option<Arc<str>>>()?)?,
                "epoch" => once(&mut epoch, map.next_value::<Option<u64>>()?)?,
                "error" => once(&mut error, map.next_value::<Option<Arc<str>>>()?)?,
                _ => extra.push((Arc::from(name.as_str()), map.next_value()?)),
            }
        }
        *self.at_field.borrow_mut() = None;
        let missing = |name: &str| A::Error::custom(format!("the field `{name}` is missing"));
        let mut event = Event::new(
            index.ok_or_else(|| missing("index"))?,
            time.ok_or_else(|| missing("time"))?,
            process.ok_or_else(|| missing("process"))?,
            kind.ok_or_else(|| missing("type"))?,
            f.ok_or_else(|| missing("f"))?,
            value.unwrap_or_default(),
        );
        event.key = key.filter(|key: &Value| !key.is_nil());
        event.set_details(Details {
            node: node.flatten(),
            role: role.flatten(),
            epoch: epoch.flatten(),
            error: error.flatten(),
            extra,
        });
        Ok(event)
    }
}

fn once<T, E: Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
    if slot.replace(value).is_some() {
        return Err(E::custom("given twice"));
    }
    Ok(())
}

fn to_process<E: Error>(value: Value) -> Result<Process, E> {
    match value {
        Value::Int(n) => u64::try_from(n).map(Process::Client).map_err(|_| {
            E::custom(format!(
                "{n} is negative, expected a process number or name"
            ))
        }),
        Value::Str(name) if &*name == "nemesis" => Ok(Process::Nemesis),
        Value::Str(name) => Ok(Process::Other(name)),
        other => Err(E::custom(format!(
            "found {}, expected a process number, \"nemesis\" or another name",
            excerpt(&other)
        ))),
    }
}

fn to_kind<E: Error>(name: &str) -> Result<Kind, E> {
    Kind::from_name(name).ok_or_else(|| {
        E::custom(format!(
            "found \"{}\", expected invoke, ok, fail or info",
            excerpt(&name)
        ))
    })
}
