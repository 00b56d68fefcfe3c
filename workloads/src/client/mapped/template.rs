//! Texts with placeholders.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use checkers::Value;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// How a value is put into a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Its text, with everything but letters and digits encoded.
    Encoded,
    /// As JSON.
    Json,
    /// Its bare text.
    Text,
    /// That, in Base64.
    Base64,
}

/// A text with placeholders, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Hole(&'static str, Form),
}

const NAMES: [&str; 4] = ["key", "value", "old", "new"];

impl Template {
    /// A brace that does not begin a placeholder, as in JSON, stands for itself: a placeholder is
    /// letters, with a colon and letters after them if need be, between braces.
    pub fn parse(text: &str, usual: Form, allowed: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, from) = rest.split_at(open);
            literal.push_str(before);
            let inner = from[1..].split_once('}').map(|(inner, _)| inner);
            let is_hole = |inner: &&str| {
                !inner.is_empty()
                    && inner
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':')
            };
            let Some(inner) = inner.filter(is_hole) else {
                literal.push('{');
                rest = &from[1..];
                continue;
            };
            let (name, form) = inner.split_once(':').unwrap_or((inner, ""));
            let known = NAMES.into_iter().find(|known| *known == name);
            let name = known.filter(|name| allowed.contains(name)).ok_or_else(|| {
                let names: Vec<_> = allowed.iter().map(|name| format!("{{{name}}}")).collect();
                format!(
                    "there is no {{{inner}}} here; there are {}",
                    names.join(", ")
                )
            })?;
            let form = match form {
                "" => usual,
                "json" => Form::Json,
                "text" => Form::Text,
                "base64" => Form::Base64,
                _ => {
                    return Err(format!(
                        "there is no {{{inner}}}; there are {{{name}:json}}, {{{name}:text}} and {{{name}:base64}}"
                    ));
                }
            };
            parts.push(Part::Literal(std::mem::take(&mut literal)));
            parts.push(Part::Hole(name, form));
            rest = &from[inner.len() + 2..];
        }
        literal.push_str(rest);
        parts.push(Part::Literal(literal));
        Ok(Self(parts))
    }

    /// The text with these values; or what is missing, as an error's code.
    pub fn fill(&self, values: &[(&'static str, &Value)]) -> Result<String, &'static str> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Hole(name, form) => {
                    let value = values.iter().find(|(known, _)| known == name);
                    let (_, value) = value.ok_or("no-key")?;
                    text.push_str(&written(value, *form)?);
                }
            }
        }
        Ok(text)
    }
}

fn written(value: &Value, form: Form) -> Result<String, &'static str> {
    let json = || serde_json::to_string(value).map_err(|_| "bad-argument");
    let bare = || match value {
        Value::Str(text) => Ok(text.to_string()),
        _ => json(),
    };
    Ok(match form {
        Form::Json => json()?,
        Form::Text => bare()?,
        Form::Encoded => utf8_percent_encode(&bare()?, NON_ALPHANUMERIC).to_string(),
        Form::Base64 => STANDARD.encode(bare()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, form: Form) -> String {
        let template = Template::parse(text, form, &["key", "old", "new"]).unwrap();
        let (key, old, new) = (Value::str("a/b c"), Value::Int(5), Value::str("x\"y"));
        template
            .fill(&[("key", &key), ("old", &old), ("new", &new)])
            .unwrap()
    }

    #[test]
    fn placeholders_are_filled_in_each_form_and_other_braces_stay() {
        assert_eq!(
            filled("/kv/{key}?v={old}", Form::Encoded),
            "/kv/a%2Fb%20c?v=5"
        );
        assert_eq!(
            filled(
                r#"{"a":{"k":{key}},"o":{old},"n":{new}, "e":{}}"#,
                Form::Json
            ),
            r#"{"a":{"k":"a/b c"},"o":5,"n":"x\"y", "e":{}}"#
        );
        assert_eq!(filled("{new:text} {old:text}", Form::Json), "x\"y 5");
        assert_eq!(filled(r#""{old:base64}""#, Form::Json), "\"NQ==\"");
    }

    #[test]
    fn what_there_is_not_is_refused_with_what_there_is() {
        let parse = |text| Template::parse(text, Form::Json, &["key", "value"]).unwrap_err();
        assert!(
            parse("{old}").contains("{key}, {value}"),
            "{}",
            parse("{old}")
        );
        assert!(parse("{key:hex}").contains("{key:base64}"));
        let template = Template::parse("{key}", Form::Json, &["key"]).unwrap();
        assert_eq!(template.fill(&[]), Err("no-key"));
    }
}
