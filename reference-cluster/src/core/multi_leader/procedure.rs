//! Conflicts resolved by a script of the user's, in a sandbox: [Rhai](https://rhai.rs).
//!
//! `merge(ours, theirs)` gets two values of a key that were written concurrently, the one of this
//! node and the one that arrived, and returns the one to keep: an integer, a string, or `()` for
//! nothing. It is called by every node for itself, in the order in which changes come to it: all
//! end up with the same only if it is commutative, associative and idempotent, like a maximum.
//! `fn merge(ours, theirs) { ours }` is not, and its replicas diverge.
//!
//! The script sees its arguments and nothing else: no clock, no file, no floating point. If it
//! fails, takes more steps than it may, or returns something else, the larger value is kept, in
//! the order numbers before texts.

use std::fmt;
use std::sync::Arc;

use rhai::{AST, Dynamic, Engine, Scope};
use serde::{Deserialize, Serialize};

use super::origin::{Origin, Vector};
use crate::core::{Op, Refusal, Scalar};

/// Longest text, in bytes, that a script may make: as long as the longest value by default.
const TEXT_MAX: usize = 262_144;
/// How deep its calls may be.
const CALLS_MAX: usize = 32;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Which writes it comes from: version vectors tell concurrent values from newer ones (Parker
    /// et al. 1983).
    pub versions: Vector,
    /// The value.
    pub value: Scalar,
}

/// A script that was compiled.
pub struct Procedure {
    engine: Engine,
    script: AST,
}

impl fmt::Debug for Procedure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Procedure").finish_non_exhaustive()
    }
}

fn into_dynamic(value: &Scalar) -> Dynamic {
    match value {
        Scalar::Nil => Dynamic::UNIT,
        Scalar::Int(number) => Dynamic::from_int(*number),
        Scalar::Text(text) => text.as_ref().into(),
    }
}

fn of_dynamic(value: Dynamic) -> Option<Scalar> {
    if value.is_unit() {
        return Some(Scalar::Nil);
    }
    if let Ok(number) = value.as_int() {
        return Some(Scalar::Int(number));
    }
    let text = value.into_immutable_string().ok()?;
    Some(Scalar::Text(Arc::from(text.as_str())))
}

impl Procedure {
    /// Compiles a script.
    ///
    /// # Errors
    /// What the compiler says, or that there is no `merge` with two parameters.
    pub fn compile(source: &str, steps: u64) -> Result<Self, String> {
        let mut engine = Engine::new();
        engine.set_max_operations(steps);
        engine.set_max_call_levels(CALLS_MAX);
        engine.set_max_string_size(TEXT_MAX);
        engine.set_max_map_size(100);
        engine.set_max_variables(1_000);
        engine.set_max_functions(100);
        engine.set_max_expr_depths(64, 32);
        engine.disable_symbol("eval");
        engine.on_print(|_| {});
        engine.on_debug(|_, _, _| {});
        let script = engine.compile(source).map_err(|error| error.to_string())?;
        let merge = script
            .iter_functions()
            .any(|function| function.name == "merge" && function.params.len() == 2);
        if !merge {
            return Err("expected a function merge(ours, theirs), and found none".to_owned());
        }
        Ok(Self { engine, script })
    }

    /// What the script makes of two values; none if it fails.
    fn call(&self, ours: &Scalar, theirs: &Scalar) -> Option<Scalar> {
        let arguments = (into_dynamic(ours), into_dynamic(theirs));
        let result =
            self.engine
                .call_fn::<Dynamic>(&mut Scope::new(), &self.script, "merge", arguments);
        of_dynamic(result.ok()?)
    }

    /// Takes the newer of two values, or what the script makes of concurrent ones. Whether the
    /// script did what it should.
    pub(super) fn merge(&self, ours: &mut Cell, theirs: &Cell) -> bool {
        if ours.versions.covers(&theirs.versions) {
            return true;
        }
        if theirs.versions.covers(&ours.versions) {
            *ours = theirs.clone();
            return true;
        }
        let merged = self.call(&ours.value, &theirs.value);
        let done = merged.is_some();
        ours.value = merged.unwrap_or_else(|| ours.value.clone().max(theirs.value.clone()));
        ours.versions.merge(&theirs.versions);
        done
    }
}

/// The change that an operation makes: a value that is newer than the one there is.
///
/// # Errors
/// [`Refusal::CasMismatch`], or [`Refusal::Unsupported`] for what is not about a single value.
pub(super) fn change(cell: Option<&Cell>, op: &Op, origin: Origin) -> Result<Cell, Refusal> {
    let held = cell.map_or(Scalar::Nil, |cell| cell.value.clone());
    let value = match op {
        Op::Write(_, value) => value.clone(),
        Op::Cas(_, old, new) if *old == held => new.clone(),
        Op::Cas(..) => return Err(Refusal::CasMismatch { actual: held }),
        Op::Delete(_) => Scalar::Nil,
        _ => {
            return Err(Refusal::Unsupported(
                "a procedure merges single values: there are only reads, writes, compare-and-set \
                 and deletions"
                    .into(),
            ));
        }
    };
    let mut versions = cell.map(|cell| cell.versions.clone()).unwrap_or_default();
    versions.see(origin, versions.get(origin).saturating_add(1));
    Ok(Cell { versions, value })
}
