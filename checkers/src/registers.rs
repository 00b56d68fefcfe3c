//! Registers one by one: a key that holds one, or each field of a map.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::observe::{self, Family, KeyView, Removals};
use crate::{Operation, Value};

/// Everything that happened to one register. Operations by position among the operations.
pub(crate) struct Register<'a> {
    /// The field, of a map.
    pub(crate) field: Option<&'a Value>,
    /// Operations of any outcome that write a value, by invocation, with the value.
    pub(crate) writes: Vec<(usize, &'a Value)>,
    /// What each ok read showed: nothing, one value, or the concurrent ones.
    pub(crate) reads: Vec<(usize, Vec<&'a Value>)>,
    /// What may have taken the value away.
    pub(crate) removals: Removals,
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
        let mut look = look;
        match view.family {
            Family::Register => look(Self::whole(operations, view)?),
            Family::Map => Self::fields(operations, view, look)?,
            _ => {}
        }
        Ok(())
    }

    fn whole(operations: &[Operation<'a>], view: &KeyView<'a>) -> Result<Self, &'static str> {
        let mut writes = Vec::with_capacity(view.writes.len());
        for &w in &view.writes {
            writes.push((w, observe::written(&operations[w]).ok_or("malformed-cas")?));
        }
        let asked: FxHashSet<&Value> = writes.iter().map(|(_, value)| *value).collect();
        let may = |(w, _): &&(usize, &'a Value)| observe::possible(&operations[*w]);
        let written: FxHashSet<&Value> = writes.iter().filter(may).map(|(_, v)| *v).collect();
        let shown = |value: &'a Value| -> Vec<&'a Value> {
            if observe::is_blank(value) && !written.contains(value) {
                return Vec::new();
            }
            let all = observe::siblings(value, |value| asked.contains(value));
            all.iter().collect()
        };
        Ok(Self {
            field: None,
            reads: view.reads.iter().map(|r| (r.op, shown(r.value))).collect(),
            writes,
            removals: removals(operations, view, None),
        })
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
            let of_field = |all: &FxHashMap<&Value, Vec<&'a Value>>| {
                all.get(field).cloned().unwrap_or_default()
            };
            Self {
                field: Some(field),
                writes,
                reads: reads.iter().map(|(op, all)| (*op, of_field(all))).collect(),
                removals: removals(operations, view, Some(field)),
            }
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
