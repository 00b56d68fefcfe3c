//! The values that operations carry: JSON's, and the further ones of Clojure's EDN.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod shared;

pub use shared::{Items, Text};

/// A value in a history: 16 bytes. Cloning is cheap: text and collections are shared.
///
/// Floats compare and hash by their bits, so that a value always equals itself.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Absent: EDN `nil`, JSON `null`.
    #[default]
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction, or a whole one beyond 64 bits.
    Float(f64),
    /// Text.
    Str(Text),
    /// An EDN keyword, without its colon.
    Keyword(Text),
    /// An EDN symbol.
    Symbol(Text),
    /// An ordered collection: EDN vector, JSON array.
    Vector(Items<Value>),
    /// An EDN list.
    List(Items<Value>),
    /// Pairs in the order written: EDN map, JSON object (keys are `Str`).
    Map(Items<(Value, Value)>),
    /// An EDN set, in the order written.
    Set(Items<Value>),
    /// An EDN tagged element.
    Tagged(Arc<(Text, Value)>),
}

impl Value {
    /// Text.
    pub fn str(text: &str) -> Self {
        Self::Str(text.into())
    }

    /// An EDN tagged element.
    pub fn tagged(tag: impl Into<Text>, value: Self) -> Self {
        Self::Tagged(Arc::new((tag.into(), value)))
    }

    /// The elements of a vector, list or set.
    pub fn items(&self) -> Option<&[Self]> {
        match self {
            Self::Vector(items) | Self::List(items) | Self::Set(items) => Some(items),
            _ => None,
        }
    }

    /// The number, if it is a whole one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// Whether it is `Nil`.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Nil => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Float(_) => 3,
            Self::Str(_) => 4,
            Self::Keyword(_) => 5,
            Self::Symbol(_) => 6,
            Self::Vector(_) => 7,
            Self::List(_) => 8,
            Self::Map(_) => 9,
            Self::Set(_) => 10,
            Self::Tagged(_) => 11,
        }
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Self {
        Self::Vector(items.into_iter().collect())
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Nil, Self::Nil) => Ordering::Equal,
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Str(a), Self::Str(b))
            | (Self::Keyword(a), Self::Keyword(b))
            | (Self::Symbol(a), Self::Symbol(b)) => a.cmp(b),
            (Self::Vector(a), Self::Vector(b))
            | (Self::List(a), Self::List(b))
            | (Self::Set(a), Self::Set(b)) => a.cmp(b),
            (Self::Map(a), Self::Map(b)) => a.cmp(b),
            (Self::Tagged(a), Self::Tagged(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Self::Nil => {}
            Self::Bool(b) => b.hash(state),
            Self::Int(n) => n.hash(state),
            Self::Float(x) => x.to_bits().hash(state),
            Self::Str(s) | Self::Keyword(s) | Self::Symbol(s) => s.hash(state),
            Self::Vector(items) | Self::List(items) | Self::Set(items) => items.hash(state),
            Self::Map(pairs) => pairs.hash(state),
            Self::Tagged(tagged) => tagged.hash(state),
        }
    }
}

/// As a reader would expect to see it: JSON's notation, and EDN's for what JSON lacks.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn join(f: &mut fmt::Formatter<'_>, items: &[Value]) -> fmt::Result {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    f.write_str(" ")?;
                }
                write!(f, "{item}")?;
            }
            Ok(())
        }
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Str(s) | Self::Symbol(s) => f.write_str(s),
            Self::Keyword(s) => write!(f, ":{s}"),
            Self::Vector(items) => {
                f.write_str("[")?;
                join(f, items)?;
                f.write_str("]")
            }
            Self::List(items) => {
                f.write_str("(")?;
                join(f, items)?;
                f.write_str(")")
            }
            Self::Set(items) => {
                f.write_str("#{")?;
                join(f, items)?;
                f.write_str("}")
            }
            Self::Map(pairs) => {
                f.write_str("{")?;
                for (i, (k, v)) in pairs.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{k} {v}")?;
                }
                f.write_str("}")
            }
            Self::Tagged(tagged) => write!(f, "#{} {}", tagged.0, tagged.1),
        }
    }
}

/// JSON where JSON has the notion. What only EDN has becomes an object of one field whose name
/// starts with `$`: `$keyword`, `$symbol`, `$list`, `$set`, `$map` (pairs), `$tagged`, `$float`.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn wrap<S: Serializer, T: Serialize + ?Sized>(
            serializer: S,
            name: &'static str,
            value: &T,
        ) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(name, value)?;
            map.end()
        }
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::Float(x) if x.is_finite() => serializer.serialize_f64(*x),
            Self::Float(x) => wrap(serializer, "$float", &x.to_string()),
            Self::Str(s) => serializer.serialize_str(s),
            Self::Keyword(s) => wrap(serializer, "$keyword", s),
            Self::Symbol(s) => wrap(serializer, "$symbol", s),
            Self::Vector(items) => items.serialize(serializer),
            Self::List(items) => wrap(serializer, "$list", items),
            Self::Set(items) => wrap(serializer, "$set", items),
            Self::Map(pairs) => {
                let plain = pairs
                    .iter()
                    .all(|(k, _)| matches!(k, Self::Str(s) if !s.starts_with('$')));
                if !plain {
                    return wrap(serializer, "$map", pairs);
                }
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (k, v) in pairs.iter() {
                    map.serialize_entry(k, v)?;
                }
                map.end()
            }
            Self::Tagged(tagged) => wrap(serializer, "$tagged", &**tagged),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(i64::try_from(n).map_or(Value::Float(n as f64), Value::Int))
    }

    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        Ok(Value::Float(x))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::str(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Vector(items.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if pairs.is_empty() && name.starts_with('$') {
                let value = match name.as_str() {
                    "$keyword" => Value::Keyword(map.next_value()?),
                    "$symbol" => Value::Symbol(map.next_value()?),
                    "$list" => Value::List(map.next_value()?),
                    "$set" => Value::Set(map.next_value()?),
                    "$map" => Value::Map(map.next_value()?),
                    "$tagged" => Value::Tagged(Arc::new(map.next_value()?)),
                    "$float" => {
                        let text: String = map.next_value()?;
                        Value::Float(text.parse().map_err(de::Error::custom)?)
                    }
                    _ => {
                        pairs.push((Value::str(&name), map.next_value()?));
                        continue;
                    }
                };
                if map.next_key::<de::IgnoredAny>()?.is_some() {
                    return Err(de::Error::custom(format!(
                        "an object with {name} has one field"
                    )));
                }
                return Ok(value);
            }
            pairs.push((Value::str(&name), map.next_value()?));
        }
        Ok(Value::Map(pairs.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_small() {
        assert_eq!(size_of::<Value>(), 16);
        assert_eq!(size_of::<Option<Value>>(), 16);
    }
}
