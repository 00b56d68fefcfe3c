//! The fields of an operation map, in EDN and in JSON arrays.

use std::sync::Arc;

use crate::format::error::excerpt;
use crate::format::names::Names;
use crate::format::settle::MISSING;
use crate::{Details, Event, F, Kind, Process, Text, Value};

/// Extra fields with this prefix hold what a field of an event was in EDN, when it was not text.
pub const AS_WRITTEN: &str = "edn:";

/// An event whose fields are being read. What has no index or time has [`MISSING`] ones.
pub struct Fields {
    event: Event,
    process: bool,
    kind: bool,
    f: bool,
}

/// A field that cannot be: its value, and what was expected.
pub type Misfit = (Value, &'static str);

impl Fields {
    pub fn new() -> Self {
        let (process, kind) = (Process::Nemesis, Kind::Info);
        Self {
            event: Event::new(MISSING, MISSING, process, kind, F::Read, Value::Nil),
            process: false,
            kind: false,
            f: false,
        }
    }

    /// Whether no field that is not the event's own was taken.
    pub fn has_no_details(&self) -> bool {
        self.event.details().is_none()
    }

    /// The event as far as it is known.
    pub fn event(&mut self) -> &mut Event {
        &mut self.event
    }

    /// Its details alone.
    pub fn into_details(self) -> Details {
        (*self.event).clone()
    }

    /// Takes a field.
    pub fn set(&mut self, name: &str, value: Value, names: &mut Names) -> Result<(), Misfit> {
        const NATURAL: &str = "a whole number from 0";
        const KIND: &str = "invoke, ok, fail or info";
        let natural = |value: Value| {
            let n = value.as_int().and_then(|n| u64::try_from(n).ok());
            n.ok_or((value, NATURAL))
        };
        let event = &mut self.event;
        match name {
            "index" | "time" | "epoch" if value.is_nil() => {}
            "index" => event.index = natural(value)?,
            "time" => event.time = natural(value)?,
            "epoch" => event.epoch = Some(natural(value)?),
            "process" => {
                event.process = match value {
                    Value::Int(_) => Process::Client(natural(value)?),
                    Value::Keyword(name) | Value::Str(name) if name == "nemesis" => {
                        Process::Nemesis
                    }
                    Value::Keyword(name) | Value::Str(name) => Process::Other(name),
                    _ => return Err((value, "a number or a name")),
                };
                self.process = true;
            }
            "type" => {
                let Some(kind) = text(&value).and_then(|name| Kind::from_name(name)) else {
                    return Err((value, KIND));
                };
                event.kind = kind;
                self.kind = true;
            }
            "f" => {
                let Some(name) = text(&value) else {
                    return Err((value, "a name"));
                };
                let known = F::known(name.as_bytes());
                event.f = known.unwrap_or_else(|| F::Other(name.clone()));
                self.f = true;
            }
            "value" => event.value = value,
            "key" => event.key = Some(value),
            "node" | "role" | "error" => {
                let text = self.as_text(name, value, names);
                match name {
                    "node" => self.event.node = text,
                    "role" => self.event.role = text,
                    _ => self.event.error = text,
                }
            }
            _ => event.extra.push((names.field(name), value)),
        }
        Ok(())
    }

    /// A field that is text here but may be any value in EDN: what it was is kept beside it.
    fn as_text(&mut self, name: &str, value: Value, names: &mut Names) -> Option<Arc<str>> {
        match value {
            Value::Nil => None,
            Value::Str(text) => Some(text.into()),
            other => {
                let text = Arc::from(other.to_string());
                let name = names.field(&format!("{AS_WRITTEN}{name}"));
                self.event.extra.push((name, other));
                Some(text)
            }
        }
    }

    /// The event, if it has what it needs; else what is missing.
    pub fn finish(self, names: &mut Names) -> Result<Event, &'static str> {
        let mut event = self.event;
        if !self.process {
            return Err("process");
        }
        if !self.kind {
            return Err("type");
        }
        if !self.f {
            // Elle's examples.
            event.f = names.text(b"txn").map_or(F::Read, F::Other);
        }
        names.share_details(&mut event);
        Ok(event)
    }
}

/// The event that a map says; else the field that cannot be, and why.
pub fn event(value: &Value, names: &mut Names) -> Result<Event, (Option<String>, String)> {
    let Value::Map(pairs) = value else {
        let message = format!("found {}, expected an operation: a map", excerpt(value));
        return Err((None, message));
    };
    let mut fields = Fields::new();
    for (name, value) in pairs.iter() {
        let Some(name) = text(name) else {
            let message = format!("found {}, expected the name of a field", excerpt(name));
            return Err((None, message));
        };
        fields
            .set(name, value.clone(), names)
            .map_err(|(value, expected)| {
                let message = format!("found {}, expected {expected}", excerpt(&value));
                (Some(name.as_str().to_owned()), message)
            })?;
    }
    let missing = |name: &str| (None, format!("the field `:{name}` is missing"));
    fields.finish(names).map_err(missing)
}

fn text(value: &Value) -> Option<&Text> {
    match value {
        Value::Keyword(name) | Value::Str(name) => Some(name),
        _ => None,
    }
}
