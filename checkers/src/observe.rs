//! What each key was asked and shown: operations sorted by key, and reads of everything spread
//! over the keys.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::{F, History, Items, Operation, Outcome, Value};

/// The kind of object that a key holds, told by the functions used on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Written by write and compare-and-set.
    Register,
    /// Written by append: reads return all elements in order.
    List,
    /// Written by add: reads return all elements in any order.
    Set,
    /// Written by insert: reads return all elements in an order that does not follow from when.
    Text,
    /// Written by put: reads return fields with their values, each field a register.
    Map,
    /// Changed by increment (or by add and decrement): reads return the sum.
    Counter,
    /// Acquired and released.
    Lock,
    /// Written by functions of more than one family: nothing can be said.
    Mixed,
    /// Only read.
    ReadOnly,
}

impl Family {
    fn with(self, f: &F) -> Self {
        let of = match f {
            F::Write | F::Cas => Self::Register,
            F::Append | F::Generate => Self::List,
            F::Add => Self::Set,
            F::Insert => Self::Text,
            F::Put => Self::Map,
            F::Increment => Self::Counter,
            f if is_decrement(f) => Self::Counter,
            F::Acquire | F::Release => Self::Lock,
            F::Read | F::Remove | F::Inspect | F::Other(_) => return self,
        };
        match self {
            Self::ReadOnly => of,
            same if same == of => same,
            // What is added to something that is incremented is an amount.
            Self::Set | Self::Counter if matches!(of, Self::Set | Self::Counter) => Self::Counter,
            _ => Self::Mixed,
        }
    }
}

/// Jepsen's other name for a negative increment.
fn is_decrement(f: &F) -> bool {
    matches!(f, F::Other(name) if &**name == "decrement")
}

/// Whether it changes a key.
pub(crate) fn changes(f: &F) -> bool {
    f.is_write() || is_decrement(f)
}

/// What is added to a counter: by `increment`, or by Jepsen's `add` and `decrement`.
pub(crate) fn amount(op: &Operation<'_>) -> Option<i128> {
    let amount = i128::from(op.argument().as_int()?);
    Some(if is_decrement(op.f()) {
        -amount
    } else {
        amount
    })
}

/// An ok read of one key: the operation (by position among the operations) and what it showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) op: usize,
    pub(crate) value: &'a Value,
}

/// Everything that happened to one key.
#[derive(Debug)]
pub(crate) struct KeyView<'a> {
    pub(crate) family: Family,
    /// Operations of any outcome that leave something behind, by invocation.
    pub(crate) writes: Vec<usize>,
    /// Operations of any outcome that take something away, by invocation.
    pub(crate) removes: Vec<usize>,
    /// Ok reads, by invocation.
    pub(crate) reads: Vec<View<'a>>,
}

/// The operations of a history, if the checkers know what all of them do.
///
/// A function that is not known, and may have taken effect, may have changed any key: nothing that
/// rests on the values of keys can be said of such a history. The error is the reason of the
/// verdict `unknown`.
pub(crate) fn known_operations(history: &History) -> Result<Vec<Operation<'_>>, String> {
    operations_of(history, is_known)
}

fn operations_of(
    history: &History,
    is_known: impl Fn(&F) -> bool,
) -> Result<Vec<Operation<'_>>, String> {
    let operations = history
        .operations()
        .map_err(|e| format!("malformed-history: {e}"))?;
    refuse_unknown(&operations, is_known)?;
    Ok(operations)
}

/// Whether the checkers know what all of the operations do; the reason if they do not.
pub(crate) fn all_known(operations: &[Operation<'_>]) -> Result<(), String> {
    refuse_unknown(operations, is_known)
}

fn is_known(f: &F) -> bool {
    !matches!(f, F::Other(_)) || is_decrement(f)
}

fn refuse_unknown(
    operations: &[Operation<'_>],
    is_known: impl Fn(&F) -> bool,
) -> Result<(), String> {
    for op in operations {
        if !is_known(op.f()) && possible(op) {
            let (name, index) = (op.f().name(), op.invoke.index);
            return Err(format!("unknown-function: `{name}` at event {index}"));
        }
    }
    Ok(())
}

static ABSENT: Value = Value::Nil;

/// Sorts reads and writes by key. An inspection is neither.
///
/// A key that is only added to, and whose reads return whole numbers, is a counter (Jepsen's
/// counters are added to like its sets).
///
/// A read without a key whose result is a map is a read of everything: it shows every key that is
/// written anywhere in the history, `nil` for those not in the map. If anything was written without
/// a key, it is a read of that: the map is its value.
pub(crate) fn by_key<'a>(operations: &[Operation<'a>]) -> BTreeMap<Option<&'a Value>, KeyView<'a>> {
    let mut found: Vec<(Option<&'a Value>, KeyView<'a>)> = Vec::new();
    let mut numbers: FxHashMap<Option<&'a Value>, usize> = FxHashMap::default();
    let mut of_everything = Vec::new();
    let one_object = operations
        .iter()
        .any(|op| changes(op.f()) && op.key().is_none() && possible(op));
    for (i, op) in operations.iter().enumerate() {
        if !(op.f() == &F::Read || changes(op.f())) {
            continue;
        }
        if let (F::Read, None, Some(Value::Map(pairs)), false) =
            (op.f(), op.key(), op.result(), one_object)
        {
            of_everything.push((i, pairs));
            continue;
        }
        let number = *numbers.entry(op.key()).or_insert_with_key(|key| {
            found.push((*key, KeyView::new()));
            found.len() - 1
        });
        let entry = &mut found[number].1;
        entry.family = entry.family.with(op.f());
        if op.f() == &F::Remove {
            entry.removes.push(i);
        } else if changes(op.f()) {
            entry.writes.push(i);
        } else if let Some(value) = op.result() {
            entry.reads.push(View { op: i, value });
        }
    }
    let mut keys: BTreeMap<_, _> = found.into_iter().collect();
    if !of_everything.is_empty() {
        spread(&mut keys, of_everything);
    }
    for view in keys.values_mut() {
        view.tell_counter();
    }
    keys
}

/// The fields of a map, as a value holds them.
type Pairs = Items<(Value, Value)>;

/// A read of everything is one of each key.
fn spread<'a>(
    keys: &mut BTreeMap<Option<&'a Value>, KeyView<'a>>,
    of_everything: Vec<(usize, &'a Pairs)>,
) {
    for (_, pairs) in &of_everything {
        for (key, _) in pairs.iter() {
            keys.entry(Some(key)).or_insert_with(KeyView::new);
        }
    }
    for (op, pairs) in of_everything {
        let shown: BTreeMap<&Value, &'a Value> = pairs.iter().map(|(k, v)| (k, v)).collect();
        for (key, entry) in keys.iter_mut() {
            let Some(key) = key else { continue };
            let value = shown.get(key).copied().unwrap_or(&ABSENT);
            entry.reads.push(View { op, value });
        }
    }
    for entry in keys.values_mut() {
        entry.reads.sort_by_key(|r| r.op);
    }
}

impl KeyView<'_> {
    fn new() -> Self {
        Self {
            family: Family::ReadOnly,
            writes: Vec::new(),
            removes: Vec::new(),
            reads: Vec::new(),
        }
    }

    fn tell_counter(&mut self) {
        let number = |read: &View<'_>| read.value.as_int().is_some();
        let none = |read: &View<'_>| read.value.is_nil();
        if self.family == Family::Set
            && self.reads.iter().any(number)
            && self.reads.iter().all(|read| number(read) || none(read))
        {
            self.family = Family::Counter;
        }
    }
}

/// The value that a write leaves if it takes effect: of a compare-and-set `[old new]` and of an
/// insertion `[after new]` the new, of a `put` the pair `[field value]`, and what was generated, if
/// an acknowledgement told. `None` of what leaves no value, or nobody knows which.
pub(crate) fn written<'a>(op: &Operation<'a>) -> Option<&'a Value> {
    match op.f() {
        F::Write | F::Append | F::Add => Some(op.argument()),
        F::Put => pair(op.argument()).map(|_| op.argument()),
        F::Cas | F::Insert => pair(op.argument()).map(|(_, new)| new),
        F::Generate => op.result(),
        _ => None,
    }
}

/// The two halves of a value `[a b]`.
pub(crate) fn pair(value: &Value) -> Option<(&Value, &Value)> {
    match value.items() {
        Some([a, b]) => Some((a, b)),
        _ => None,
    }
}

/// When what may take something away began and ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removals {
    /// Positions in the history, ascending.
    began: Vec<usize>,
    /// For each of them the last end of it and those before.
    last_end: Vec<usize>,
}

impl Removals {
    /// Adds an operation that began after those added before, if it may have taken effect.
    pub(crate) fn add(&mut self, op: &Operation<'_>) {
        if possible(op) {
            let before = self.last_end.last().copied().unwrap_or(0);
            let ended = op.completed_position.unwrap_or(usize::MAX);
            self.began.push(op.invoked_position);
            self.last_end.push(ended.max(before));
        }
    }

    /// From where on something may be taken away; `usize::MAX` if nothing ever is.
    pub(crate) fn from(&self) -> usize {
        self.began.first().copied().unwrap_or(usize::MAX)
    }

    /// Whether what a write left, that began at `began`, may have been taken away before `until`.
    pub(crate) fn may_take(&self, began: usize, until: usize) -> bool {
        let before = self.began.partition_point(|&b| b < until);
        before > 0 && self.last_end[before - 1] > began
    }
}

/// The fields of a map as a read showed it: an object, or an array of `[field value]`.
pub(crate) fn fields(value: &Value) -> Option<Vec<(&Value, &Value)>> {
    match value {
        Value::Map(pairs) => Some(pairs.iter().map(|(field, value)| (field, value)).collect()),
        other => elements(other)?.iter().map(pair).collect(),
    }
}

/// The values that a write replaces: those its client had read. `None` of a blind write, which
/// replaces whatever it finds.
pub(crate) fn seen<'a>(op: &Operation<'a>) -> Option<&'a [Value]> {
    let (_, seen) = op.invoke.extra.iter().find(|(name, _)| &**name == "seen")?;
    Some(match seen {
        Value::Nil => &[],
        one => one.items().unwrap_or(std::slice::from_ref(one)),
    })
}

/// The values that a read of a register shows: none if it was never written, one, or all the
/// concurrent ones of a store that keeps siblings. `written`: whether anybody wrote a value. An
/// array that was written is one value, and so is one of which nothing was.
pub(crate) fn siblings(value: &Value, written: impl Fn(&Value) -> bool) -> &[Value] {
    let one = std::slice::from_ref(value);
    match value.items() {
        Some(items) if !written(value) && items.iter().any(written) => items,
        _ if value.is_nil() => &[],
        _ => one,
    }
}

/// The elements of a collection as a read showed it; a key that was never written reads as nil.
pub(crate) fn elements(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Nil => Some(&[]),
        other => other.items(),
    }
}

/// How many values two lists have in common from the first on.
pub(crate) fn common_beginning(a: &[Value], b: &[Value]) -> usize {
    let shorter = a.len().min(b.len());
    if std::ptr::eq(a.as_ptr(), b.as_ptr()) {
        return shorter;
    }
    let differs = a.iter().zip(b).position(|(a, b)| a != b);
    differs.unwrap_or(shorter)
}

/// Whether stores show a key like this that was never written: nil, an empty collection or text.
/// (Only what nobody wrote: an empty text may also be the value of a register.)
pub(crate) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Nil => true,
        Value::Str(text) => text.is_empty(),
        Value::Map(pairs) => pairs.is_empty(),
        other => other.items().is_some_and(<[Value]>::is_empty),
    }
}

/// How a key is called in a sentence.
pub(crate) fn key_name(key: Option<&Value>) -> String {
    key.map_or_else(|| "the object".to_owned(), |k| format!("key {k}"))
}

/// A number of any size as a figure: as text if JSON's numbers do not hold it.
pub(crate) fn number(n: i128) -> serde_json::Value {
    i64::try_from(n).map_or_else(|_| n.to_string().into(), Into::into)
}

/// Whether the operation may have taken effect.
pub(crate) fn possible(op: &Operation<'_>) -> bool {
    op.outcome != Outcome::Fail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, ints};
    use crate::{CheckResult, Kind, Verdict, by_name};

    fn verdicts(script: &Script) -> Vec<Verdict> {
        let check =
            |name: &&str| -> CheckResult { by_name(name).unwrap().check(&script.history()) };
        let names = ["linearizable", "lost-writes", "stale-reads"];
        names
            .iter()
            .map(check)
            .map(|result| result.verdict)
            .collect()
    }

    #[test]
    fn a_key_that_was_never_written_may_read_as_anything_empty() {
        for empty in [Value::Nil, ints(&[]), Value::str(""), Value::Map([].into())] {
            let mut s = Script::new();
            s.key("quiet").op(1, Kind::Ok, F::Read, empty.clone());
            s.key("k")
                .op(1, Kind::Ok, F::Read, empty)
                .op(1, Kind::Ok, F::Write, 1)
                .op(1, Kind::Ok, F::Read, 1);
            assert_eq!(verdicts(&s), vec![Verdict::Valid; 3]);
        }
    }

    #[test]
    fn an_empty_value_that_was_written_is_a_value() {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Write, "")
            .op(1, Kind::Ok, F::Read, "");
        assert_eq!(verdicts(&s), vec![Verdict::Valid; 3]);
        s.op(1, Kind::Ok, F::Write, 2).op(1, Kind::Ok, F::Read, "");
        assert_eq!(verdicts(&s)[..2], vec![Verdict::Invalid; 2]);
    }

    #[test]
    fn a_map_is_the_value_of_an_object_without_key_that_was_written() {
        let map = Value::Map([(Value::str("a"), Value::Int(1))].into());
        let mut s = Script::new();
        s.op(1, Kind::Ok, F::Write, map.clone())
            .op(1, Kind::Ok, F::Read, map);
        assert_eq!(verdicts(&s), vec![Verdict::Valid; 3]);
    }
}
