//! Values in the types of the API, and back.

use aws_sdk_dynamodb::types::AttributeValue;
use checkers::Value;

/// As the API writes it; `None` for what is not written here.
pub(super) fn from_value(value: &Value) -> Option<AttributeValue> {
    Some(match value {
        Value::Nil => AttributeValue::Null(true),
        Value::Bool(truth) => AttributeValue::Bool(*truth),
        Value::Int(number) => AttributeValue::N(number.to_string()),
        Value::Str(text) => AttributeValue::S(text.to_string()),
        other => {
            let items = other.items()?.iter().map(from_value);
            AttributeValue::L(items.collect::<Option<_>>()?)
        }
    })
}

/// As a history writes it; `None` for what was not written here.
pub(super) fn to_value(held: &AttributeValue) -> Option<Value> {
    let int = |text: &String| text.parse().ok().map(Value::Int);
    match held {
        AttributeValue::Null(_) => Some(Value::Nil),
        AttributeValue::Bool(truth) => Some(Value::Bool(*truth)),
        AttributeValue::N(number) => int(number),
        AttributeValue::S(text) => Some(Value::str(text)),
        AttributeValue::L(items) => items.iter().map(to_value).collect(),
        AttributeValue::Ns(numbers) => numbers.iter().map(int).collect(),
        AttributeValue::Ss(texts) => Some(texts.iter().map(|text| Value::str(text)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for text in ["null", "true", "-7", r#""x""#, r#"[1, "x", [null]]"#, "[]"] {
            let value: Value = serde_json::from_str(text).unwrap();
            let held = from_value(&value).unwrap();
            assert_eq!(to_value(&held), Some(value));
        }
        // A fraction would come back as another number.
        assert_eq!(from_value(&Value::Float(0.5)), None);
        assert_eq!(to_value(&AttributeValue::N("0.5".to_owned())), None);
        let set = AttributeValue::Ns(vec!["2".to_owned(), "1".to_owned()]);
        let shown: Value = [2, 1].map(Value::Int).into_iter().collect();
        assert_eq!(to_value(&set), Some(shown));
    }
}
