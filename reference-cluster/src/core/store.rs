//! The replicated state: keys that hold registers, lists or sets.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize};

use super::{Answer, Datum, Function, Op, Refusal, Scalar, StateDigest};

/// What all keys hold. Deterministic: the same operations in the same order give equal states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    keys: BTreeMap<Arc<str>, Datum>,
    counters: Counters,
}

/// What the functions of [`Op::Generate`] count. Not part of what the digest covers: a counter
/// that is ahead is a gap in numbers to come, not a difference in data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// The last number given to [`Function::AutoIncrement`].
    incremented: i64,
    /// How many rows [`Function::Trigger`] has written.
    pub triggered: u64,
}

impl Counters {
    /// Takes the next number, used or not.
    pub fn advance(&mut self) -> i64 {
        self.incremented = self.incremented.saturating_add(1);
        self.incremented
    }

    /// Brings the counters up to a value that somebody generated.
    fn note(&mut self, function: Function, value: &Scalar) {
        match (function, value) {
            (Function::AutoIncrement, Scalar::Int(n)) => {
                self.incremented = self.incremented.max(*n);
            }
            (Function::Trigger, Scalar::Text(text)) => {
                let count = text.rsplit(':').next().and_then(|count| count.parse().ok());
                self.triggered = self.triggered.max(count.unwrap_or(0));
            }
            _ => {}
        }
    }
}

impl Datum {
    /// `register`, `list`, …
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::Counter(_) => "counter",
            Self::Map(_) => "map",
            Self::Siblings(_) => "register with siblings",
        }
    }
}

impl Op {
    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Read(_) | Self::ReadAll | Self::Digest)
    }

    /// The key it is about, where it is about one.
    pub fn key(&self) -> Option<&Arc<str>> {
        match self {
            Self::ReadAll | Self::Digest | Self::Admin(_) => None,
            Self::Read(key)
            | Self::Write(key, _)
            | Self::Cas(key, _, _)
            | Self::Append(key, _)
            | Self::Add(key, _)
            | Self::Increment(key, _)
            | Self::Insert(key, _, _)
            | Self::Remove(key, _)
            | Self::Put(key, _, _)
            | Self::Delete(key)
            | Self::Generate(key, _)
            | Self::Generated(key, _, _) => Some(key),
        }
    }
}

impl Store {
    /// Carries out an operation, wholly or not at all.
    ///
    /// # Errors
    /// [`Refusal::CasMismatch`], [`Refusal::WrongKind`] or, for what is not a matter of the state
    /// alone, [`Refusal::Unsupported`]; the state is then unchanged.
    pub fn apply(&mut self, op: &Op) -> Result<Answer, Refusal> {
        match op {
            Op::Read(_) | Op::ReadAll | Op::Digest => return Ok(self.read(op)),
            Op::Write(key, value) => match self.keys.get_mut(key) {
                Some(Datum::Register(register)) => *register = value.clone(),
                Some(other) => return Err(Refusal::WrongKind(other.kind().into())),
                None => self.insert(key, Datum::Register(value.clone())),
            },
            Op::Cas(key, old, new) => match self.keys.get_mut(key) {
                Some(Datum::Register(register)) if register == old => *register = new.clone(),
                Some(Datum::Register(register)) => {
                    return Err(Refusal::CasMismatch {
                        actual: register.clone(),
                    });
                }
                Some(other) => return Err(Refusal::WrongKind(other.kind().into())),
                None if *old == Scalar::Nil => self.insert(key, Datum::Register(new.clone())),
                None => {
                    return Err(Refusal::CasMismatch {
                        actual: Scalar::Nil,
                    });
                }
            },
            Op::Append(key, value) => self.append(key, value)?,
            Op::Generated(key, function, value) => {
                self.counters.note(*function, value);
                self.append(key, value)?;
                return Ok(Answer::Generated(value.clone()));
            }
            Op::Add(key, value) => match self.keys.get_mut(key) {
                Some(Datum::Set(set)) => {
                    set.insert(value.clone());
                }
                Some(other) => return Err(Refusal::WrongKind(other.kind().into())),
                None => self.insert(key, Datum::Set([value.clone()].into())),
            },
            Op::Increment(key, amount) => match self.keys.get_mut(key) {
                Some(Datum::Counter(sum)) => *sum = sum.wrapping_add(*amount),
                Some(other) => return Err(Refusal::WrongKind(other.kind().into())),
                None => self.insert(key, Datum::Counter(*amount)),
            },
            Op::Insert(key, after, value) => match self.keys.get_mut(key) {
                Some(Datum::List(list)) => {
                    let place = match after {
                        Scalar::Nil => 0,
                        // What it was to follow may have been removed meanwhile: then the end.
                        _ => list
                            .iter()
                            .position(|element| element == after)
                            .map_or(list.len(), |place| place + 1),
                    };
                    list.insert(place, value.clone());
                }
                Some(other) => return Err(Refusal::WrongKind(other.kind().into())),
                None => self.insert(key, Datum::List(vec![value.clone()])),
            },
            Op::Remove(key, value) => match self.keys.get_mut(key) {
                Some(Datum::List(list)) => list.retain(|element| element != value),
                Some(Datum::Set(set)) => drop(set.remove(value)),
                Some(Datum::Map(map)) => drop(map.remove(value)),
                Some(other) => return Err(Refusal::WrongKind(other.kind().into())),
                None => {}
            },
            Op::Put(key, field, value) => match self.keys.get_mut(key) {
                Some(Datum::Map(map)) => drop(map.insert(field.clone(), value.clone())),
                Some(other) => return Err(Refusal::WrongKind(other.kind().into())),
                None => {
                    let map = [(field.clone(), value.clone())];
                    self.insert(key, Datum::Map(map.into()));
                }
            },
            Op::Delete(key) => drop(self.keys.remove(key)),
            Op::Generate(..) | Op::Admin(_) => {
                return Err(Refusal::Unsupported(
                    "this mode has no such operation".into(),
                ));
            }
        }
        Ok(Answer::Done)
    }

    /// What an operation makes of a key that holds this.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub(crate) fn apply_to(datum: Option<Datum>, op: &Op) -> Result<Option<Datum>, Refusal> {
        let Some(key) = op.key() else {
            return Ok(datum);
        };
        let keys = datum
            .map(|datum| (key.clone(), datum))
            .into_iter()
            .collect();
        let mut store = Self {
            keys,
            ..Self::default()
        };
        store.apply(op)?;
        Ok(store.keys.remove(key))
    }

    /// What a read sees; [`Answer::Done`] for an operation that is no read.
    pub fn read(&self, op: &Op) -> Answer {
        match op {
            Op::Read(key) => Answer::Value(self.keys.get(key).cloned()),
            Op::ReadAll => Answer::All(
                self.keys
                    .iter()
                    .map(|(key, datum)| (key.clone(), datum.clone()))
                    .collect(),
            ),
            Op::Digest => Answer::Digest(StateDigest {
                digest: self.digest(),
                scope: "".into(),
                stopped: None,
            }),
            _ => Answer::Done,
        }
    }

    /// Forgets one key, chosen by a number; what a snapshot with a hole lacks
    /// ([`SnapshotWithHole`](super::config::Bug::SnapshotWithHole)).
    pub fn punch(&mut self, which: u64) {
        let count = self.keys.len().max(1) as u64;
        if let Some(key) = self.keys.keys().nth((which % count) as usize).cloned() {
            self.keys.remove(&key);
        }
    }

    /// A number that differs, but for chance, where the state differs. Does not depend on the
    /// order in which keys or set elements came. O(state).
    pub fn digest(&self) -> u64 {
        let mut hasher = FxHasher::default();
        for (key, datum) in &self.keys {
            key.hash(&mut hasher);
            datum.hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What generating functions count at this replica.
    pub(crate) fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// The part of the state whose keys begin so.
    pub(crate) fn part(&self, prefix: &str) -> Self {
        let within = self.keys.iter().filter(|(key, _)| key.starts_with(prefix));
        Self {
            keys: within.map(|(k, v)| (k.clone(), v.clone())).collect(),
            counters: self.counters.clone(),
        }
    }

    /// Forgets the last key, for [`super::config::Bug::SnapshotWithHole`].
    pub(crate) fn punch_hole(&mut self) {
        self.keys.pop_last();
    }

    fn append(&mut self, key: &Arc<str>, value: &Scalar) -> Result<(), Refusal> {
        match self.keys.get_mut(key) {
            Some(Datum::List(list)) => list.push(value.clone()),
            Some(other) => return Err(Refusal::WrongKind(other.kind().into())),
            None => self.insert(key, Datum::List(vec![value.clone()])),
        }
        Ok(())
    }

    fn insert(&mut self, key: &Arc<str>, datum: Datum) {
        self.keys.insert(key.clone(), datum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(n: i64) -> Scalar {
        Scalar::Int(n)
    }

    #[test]
    fn each_kind_keeps_to_itself() {
        let mut store = Store::default();
        let (r, l, s): (Arc<str>, Arc<str>, Arc<str>) = ("r".into(), "l".into(), "s".into());
        assert_eq!(store.apply(&Op::Read(r.clone())), Ok(Answer::Value(None)));
        store.apply(&Op::Write(r.clone(), int(1))).unwrap();
        store.apply(&Op::Append(l.clone(), int(2))).unwrap();
        store.apply(&Op::Append(l.clone(), int(2))).unwrap();
        store.apply(&Op::Add(s.clone(), int(3))).unwrap();
        store.apply(&Op::Add(s.clone(), int(3))).unwrap();
        assert_eq!(
            store.read(&Op::ReadAll),
            Answer::All(vec![
                (l.clone(), Datum::List(vec![int(2), int(2)])),
                (r.clone(), Datum::Register(int(1))),
                (s.clone(), Datum::Set([int(3)].into())),
            ])
        );
        let before = store.clone();
        for (op, kind) in [
            (Op::Write(l.clone(), int(9)), "list"),
            (Op::Cas(s.clone(), Scalar::Nil, int(9)), "set"),
            (Op::Append(r.clone(), int(9)), "register"),
            (Op::Add(l, int(9)), "list"),
        ] {
            assert_eq!(store.apply(&op), Err(Refusal::WrongKind(kind.into())));
        }
        assert_eq!(store, before);
    }

    #[test]
    fn cas_compares_with_nil_where_nothing_was_written() {
        let mut store = Store::default();
        let key: Arc<str> = "k".into();
        let cas = |old, new| Op::Cas(key.clone(), old, new);
        assert_eq!(
            store.apply(&cas(int(1), int(2))),
            Err(Refusal::CasMismatch {
                actual: Scalar::Nil
            })
        );
        assert_eq!(store.apply(&cas(Scalar::Nil, int(2))), Ok(Answer::Done));
        assert_eq!(store.apply(&cas(int(2), int(3))), Ok(Answer::Done));
        assert_eq!(
            store.apply(&cas(int(2), int(4))),
            Err(Refusal::CasMismatch { actual: int(3) })
        );
    }

    #[test]
    fn digest_depends_on_content_alone() {
        let op = |n: i64| Op::Write(format!("k{n}").into(), int(n));
        let (mut a, mut b) = (Store::default(), Store::default());
        for n in 0..50 {
            a.apply(&op(n)).unwrap();
            b.apply(&op(49 - n)).unwrap();
        }
        assert_eq!(a.digest(), b.digest());
        b.apply(&Op::Write("k7".into(), int(8))).unwrap();
        assert_ne!(a.digest(), b.digest());
    }
}
