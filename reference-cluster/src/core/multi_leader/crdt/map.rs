//! An observed-remove map of last-writer-wins registers: a field is there as long as a write of it
//! is there that no remover has seen; of several concurrent ones the latest shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::register::Register;
use crate::core::Scalar;
use crate::core::multi_leader::causal::{Causal, Context};
use crate::core::multi_leader::clock::Stamp;
use crate::core::multi_leader::origin::Dot;

/// Writes by the event that made them.
pub type Map = Causal<Field>;

/// One write of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Which.
    pub name: Scalar,
    /// What it was set to.
    pub register: Register,
}

fn writes(map: &Map, name: &Scalar) -> Vec<Dot> {
    let each = map.live.iter().filter(|(_, field)| field.name == *name);
    each.map(|(dot, _)| *dot).collect()
}

/// The change that sets a field.
pub(super) fn put(map: &Map, stamp: Stamp, name: &Scalar, value: &Scalar) -> Map {
    let value = value.clone();
    let field = Field {
        name: name.clone(),
        register: Register { stamp, value },
    };
    map.write(stamp.origin, field, writes(map, name), Context::default())
}

/// The change that takes a field out.
pub(super) fn remove(map: &Map, name: &Scalar) -> Map {
    Map::remove(writes(map, name))
}

/// What a reader sees.
pub(super) fn value(map: &Map) -> BTreeMap<Scalar, Scalar> {
    let mut latest: BTreeMap<&Scalar, &Register> = BTreeMap::new();
    for field in map.live.values() {
        let shown = latest.entry(&field.name).or_insert(&field.register);
        if field.register.stamp > shown.stamp {
            *shown = &field.register;
        }
    }
    let each = latest.into_iter();
    each.map(|(name, register)| (name.clone(), register.value.clone()))
        .collect()
}
