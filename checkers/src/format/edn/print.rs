//! A writer of EDN values.

use std::fmt::Write;

use crate::Value;

use crate::format::names::Names;

use super::parse::{classify, in_token};

/// Appends a value. What EDN has no notation for is wrapped in a tag `#quorate/…`.
pub fn value(out: &mut String, value: &Value) {
    match value {
        Value::Float(x) if x.is_nan() => out.push_str("##NaN"),
        Value::Float(x) if x.is_infinite() => {
            out.push_str(if *x > 0.0 { "##Inf" } else { "##-Inf" });
        }
        Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            let _ = write!(out, "{value}");
        }
        Value::Str(text) => string(out, text),
        Value::Keyword(name) if is_keyword(name) => {
            out.push(':');
            out.push_str(name);
        }
        Value::Keyword(name) => wrapped(out, "keyword", name),
        Value::Symbol(name) if is_symbol(name) => out.push_str(name),
        Value::Symbol(name) => wrapped(out, "symbol", name),
        Value::Vector(items) => sequence(out, "[", items, "]"),
        Value::List(items) => sequence(out, "(", items, ")"),
        Value::Set(items) => sequence(out, "#{", items, "}"),
        Value::Map(pairs) => {
            out.push('{');
            for (i, (key, item)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                self::value(out, key);
                out.push(' ');
                self::value(out, item);
            }
            out.push('}');
        }
        Value::Tagged(tagged) if is_tag(&tagged.0) => {
            out.push('#');
            out.push_str(&tagged.0);
            out.push(' ');
            self::value(out, &tagged.1);
        }
        Value::Tagged(tagged) => {
            let (tag, inner) = &**tagged;
            out.push_str("#quorate/tagged [");
            string(out, tag);
            out.push(' ');
            self::value(out, inner);
            out.push(']');
        }
    }
}

/// A name as a keyword, or as a string if no keyword can be written so.
pub fn name(out: &mut String, name: &str) {
    if is_keyword(name) {
        out.push(':');
        out.push_str(name);
    } else {
        string(out, name);
    }
}

fn sequence(out: &mut String, open: &str, items: &[Value], close: &str) {
    out.push_str(open);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        value(out, item);
    }
    out.push_str(close);
}

fn wrapped(out: &mut String, kind: &str, name: &str) {
    out.push_str("#quorate/");
    out.push_str(kind);
    out.push(' ');
    string(out, name);
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn is_keyword(name: &str) -> bool {
    !name.is_empty() && name.chars().all(in_token)
}

fn is_symbol(name: &str) -> bool {
    let token = !name.is_empty() && !name.starts_with('#') && name.chars().all(in_token);
    let character = name.strip_prefix('\\').is_some_and(|rest| {
        let mut rest = rest.chars();
        rest.next().is_some_and(|c| !c.is_whitespace()) && rest.all(in_token)
    });
    character || token && matches!(classify(name, &mut Names::default()), Ok(Value::Symbol(_)))
}

fn is_tag(tag: &str) -> bool {
    tag.starts_with(|c: char| c.is_alphabetic() || c == ':')
        && tag.chars().all(in_token)
        && !tag.starts_with("quorate/")
}
