//! Registers one by one: a key that holds one, or each field of a map.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::observe::{self, Family, KeyView, Removals};
use crate::{Operation, Value};

/// Everything that happened to one register. Operations by position among the operations, values by
/// number.
pub(crate) struct Register<'a> {
    /// The field, of a map.
    pub(crate) field: Option<&'a Value>,
    /// The values written and shown, by number.
    pub(crate) values: Vec<&'a Value>,
    /// Operations of any outcome that write a value, by invocation, with the value.
    pub(crate) writes: Vec<(usize, u32)>,
    /// What each ok read showed.
    pub(crate) reads: Vec<(usize, Shows)>,
    /// What may have taken the value away.
    pub(crate) removals: Removals,
    shown: Vec<u32>,
}

/// What a read showed: nothing, one value, or the concurrent ones; see [`Register::shows`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shows {
    from: usize,
    to: usize,
}

/// Numbers for values.
#[derive(Default)]
struct Numbers<'a> {
    values: Vec<&'a Value>,
    ids: FxHashMap<&'a Value, u32>,
}

impl<'a> Numbers<'a> {
    fn of(&mut self, value: &'a Value) -> u32 {
        let values = &mut self.values;
        *self.ids.entry(value).or_insert_with(|| {
            values.push(value);
            (values.len() - 1) as u32
        })
    }
}

impl<'a> Register<'a> {
    /// Looks at each register of a key of family register or map; of other families at none.
    ///
    /// # Errors
    ///
    /// The reason why nothing can be said of the key: a malformed write, or a read of a map that
    /// shows no map.
    pub(crate) fn each(
        operations: &[Operation<'a>],
        view: &KeyView<'a>,
        look: impl FnMut(Self),
    ) -> Result<(), &'static str> {
        if u32::try_from(view.writes.len() + view.reads.len()).is_err() {
            return Err("too-many-operations");
        }
        let mut look = look;
        match view.family {
            Family::Register => look(Self::whole(operations, view)?),
            Family::Map => Self::fields(operations, view, look)?,
            _ => {}
        }
        Ok(())
    }

    /// The values that a read showed, by number.
    pub(crate) fn shows(&self, shows: Shows) -> &[u32] {
        &self.shown[shows.from..shows.to]
    }

    fn whole(operations: &[Operation<'a>], view: &KeyView<'a>) -> Result<Self, &'static str> {
        let mut numbers = Numbers::default();
        numbers.values.reserve(view.writes.len());
        numbers.ids.reserve(view.writes.len());
        let mut writes = Vec::with_capacity(view.writes.len());
        for &w in &view.writes {
            let value = observe::written(&operations[w]).ok_or("malformed-cas")?;
            writes.push((w, numbers.of(value)));
        }
        // What anybody asked to write comes first.
        let asked = numbers.values.len() as u32;
        let mut possible = vec![false; numbers.values.len()];
        for &(w, value) in &writes {
            possible[value as usize] |= observe::possible(&operations[w]);
        }
        let mut register = Self {
            field: None,
            values: Vec::new(),
            writes,
            reads: Vec::with_capacity(view.reads.len()),
            removals: removals(operations, view, None),
            shown: Vec::with_capacity(view.reads.len()),
        };
        for read in &view.reads {
            let from = register.shown.len();
            let written = |value: &Value| {
                let id = numbers.ids.get(value).filter(|&&id| id < asked);
                id.copied()
            };
            let blank = observe::is_blank(read.value)
                && !written(read.value).is_some_and(|id| possible[id as usize]);
            if !blank {
                let all = observe::siblings(read.value, |value| written(value).is_some());
                register
                    .shown
                    .extend(all.iter().map(|value| numbers.of(value)));
            }
            let to = register.shown.len();
            register.reads.push((read.op, Shows { from, to }));
        }
        register.values = numbers.values;
        Ok(register)
    }

    /// One after the other: all together may be much more than the reads they are made from.
    fn fields(
        operations: &[Operation<'a>],
        view: &KeyView<'a>,
        look: impl FnMut(Self),
    ) -> Result<(), &'static str> {
        let mut fields: BTreeMap<&'a Value, Vec<(usize, &'a Value)>> = BTreeMap::new();
        for &w in &view.writes {
            let pair = observe::pair(operations[w].argument());
            let (field, value) = pair.ok_or("malformed-put")?;
            fields.entry(field).or_default().push((w, value));
        }
        let mut reads = Vec::with_capacity(view.reads.len());
        for read in &view.reads {
            let mut shown: FxHashMap<&Value, Vec<&'a Value>> = FxHashMap::default();
            for (field, value) in observe::fields(read.value).ok_or("unreadable-read")? {
                // A field that nobody ever put is unexpected: a register of its own says so.
                fields.entry(field).or_default();
                shown.entry(field).or_default().push(value);
            }
            reads.push((read.op, shown));
        }
        let registers = fields.into_iter().map(|(field, writes)| {
            let mut numbers = Numbers::default();
            let writes = writes
                .into_iter()
                .map(|(w, value)| (w, numbers.of(value)))
                .collect();
            let mut register = Self {
                field: Some(field),
                values: Vec::new(),
                writes,
                reads: Vec::with_capacity(reads.len()),
                removals: removals(operations, view, Some(field)),
                shown: Vec::new(),
            };
            for (op, all) in &reads {
                let from = register.shown.len();
                let of_field = all.get(field).into_iter().flatten();
                register
                    .shown
                    .extend(of_field.map(|value| numbers.of(value)));
                let to = register.shown.len();
                register.reads.push((*op, Shows { from, to }));
            }
            register.values = numbers.values;
            register
        });
        registers.for_each(look);
        Ok(())
    }

    /// `key k`, or `field f of key k`.
    pub(crate) fn name(&self, key: Option<&Value>) -> String {
        match self.field {
            None => observe::key_name(key),
            Some(field) => format!("field {field} of {}", observe::key_name(key)),
        }
    }
}

/// What may have removed the key, or this field of it.
fn removals(operations: &[Operation<'_>], view: &KeyView<'_>, field: Option<&Value>) -> Removals {
    let mut removals = Removals::default();
    for op in view.removes.iter().map(|&r| &operations[r]) {
        if op.argument().is_nil() || field.is_none_or(|f| f == op.argument()) {
            removals.add(op);
        }
    }
    removals
}
