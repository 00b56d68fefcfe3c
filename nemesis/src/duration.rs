//! Durations as people write them: `300ms`, `5s`, `1.5s`, `2m`, `1m 30s`.
//!
//! For a field of a YAML or JSON document: `#[serde(with = "nemesis::duration")]`, or
//! `#[serde(with = "nemesis::duration::option")]` for one that may be absent.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no duration; expected a number with a unit, such as 300ms, 5s or 2m")]
pub struct DurationError {
    /// What was written.
    pub text: String,
}

/// Reads `300ms`, `5s`, `1.5s`, `2m`, `1m 30s`; `0` alone needs no unit.
///
/// # Errors
/// [`DurationError`] for anything else, a number without a unit included.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    humantime::parse_duration(text.trim()).map_err(|_| DurationError {
        text: text.to_owned(),
    })
}

/// Writes it so that [`parse`] reads the same duration, to the nanosecond.
pub fn format(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A duration in nanoseconds; those beyond 584 years are cut off there.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes a duration field.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration field.
///
/// # Errors
/// If the field is no duration; a bare number other than 0 is none.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationVisitor)
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with a unit, such as 300ms, 5s or 2m")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
        if number == 0 {
            return Ok(Duration::ZERO);
        }
        Err(E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }
}

/// The same for a field that may be absent; give it `#[serde(default)]` too.
pub mod option {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// Writes the duration, if there is one.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the duration of a field that is present.
    ///
    /// # Errors
    /// If it is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("300ms", 300),
            ("5s", 5_000),
            ("1.5s", 1_500),
            ("2m", 120_000),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "5 parsecs", "5s,"] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().contains("300ms"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn round_trip_to_the_nanosecond(nanos in 0_u64..(1 << 60)) {
            let duration = Duration::from_nanos(nanos);
            proptest::prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
