//! Sequential specifications: what an object does when one operation comes after the other.
//!
//! Implement [`Specification`] to have histories of an object of your own judged:
//!
//! ```
//! use checkers::linearizable::engine::specification::{Call, Specification, decide};
//! use checkers::linearizable::{Decision, Limits};
//!
//! /// A register that remembers the largest number ever written.
//! struct Maximum;
//!
//! #[derive(Clone, PartialEq, Eq, Hash)]
//! enum Op {
//!     Write(u64),
//!     /// With what it returned.
//!     Read(u64),
//! }
//!
//! impl Specification for Maximum {
//!     type State = u64;
//!     type Op = Op;
//!
//!     fn initial(&self) -> u64 {
//!         0
//!     }
//!
//!     fn step(&self, state: &u64, op: &Op) -> Option<u64> {
//!         match op {
//!             Op::Write(number) => Some(*number.max(state)),
//!             Op::Read(shown) => (shown == state).then_some(*state),
//!         }
//!     }
//!
//!     // Hints are optional: without them the same is decided, later.
//!     fn is_read_only(&self, op: &Op) -> bool {
//!         matches!(op, Op::Read(_))
//!     }
//!
//!     fn commute(&self, a: &Op, b: &Op) -> bool {
//!         matches!((a, b), (Op::Write(_), Op::Write(_)))
//!     }
//! }
//!
//! let call = |begin, end, op| Call { begin, end, op };
//! let mut history = vec![
//!     call(0, Some(3), Op::Write(7)),
//!     call(1, None, Op::Write(9)), // nobody knows whether it took effect
//!     call(2, Some(5), Op::Read(9)),
//! ];
//! assert_eq!(decide(&Maximum, &history, &Limits::default()), Decision::Linearizable);
//!
//! history.push(call(6, Some(7), Op::Read(7)));
//! let Decision::NotLinearizable(why) = decide(&Maximum, &history, &Limits::default()) else {
//!     panic!("a maximum does not shrink");
//! };
//! assert_eq!(why.by, Some(7));
//! ```

use std::hash::Hash;

use super::{Decision, Limits};

/// What an object does, one operation after the other.
pub trait Specification {
    /// What the object holds. Cloned, compared and hashed often: make that cheap.
    type State: Clone + Eq + Hash;
    /// An operation with its arguments and, if it completed, with what it returned. Equal ones are
    /// exchangeable.
    type Op: Clone + Eq + Hash;

    /// What it holds at first.
    fn initial(&self) -> Self::State;

    /// What it holds after the operation; `None` if the operation cannot have happened there, or
    /// not have returned what it did. Of one that never completed nobody knows what it returned:
    /// what stands for that is up to `Op`.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;

    /// Whether the operation never changes the state. Such ones take effect as soon as they can, and
    /// say nothing if they never completed.
    fn is_read_only(&self, op: &Self::Op) -> bool {
        let _ = op;
        false
    }

    /// Whether the order of the two never matters: from every state, both orders are possible or
    /// neither is, and both lead to the same state.
    fn commute(&self, a: &Self::Op, b: &Self::Op) -> bool {
        let _ = (a, b);
        false
    }

    /// Whether `target` can never happen once `op` has happened in `state`, whatever comes between.
    fn rules_out(&self, state: &Self::State, op: &Self::Op, target: &Self::Op) -> bool {
        let _ = (state, op, target);
        false
    }

    /// Bytes that a state takes beyond its own size, about.
    fn bytes(&self, state: &Self::State) -> usize {
        let _ = state;
        0
    }
}

/// One operation of a history. Instants are positions in the history: no two are equal.
#[derive(Clone, Debug)]
pub struct Call<O> {
    /// When it was invoked.
    pub begin: u64,
    /// When it completed; `None` if never: it may have taken effect or not.
    pub end: Option<u64>,
    /// What it did.
    pub op: O,
}

/// Decides whether a history of a specification is linearizable.
pub fn decide<S: Specification>(
    specification: &S,
    history: &[Call<S::Op>],
    limits: &Limits,
) -> Decision {
    super::jit::decide_specified(specification, history, limits, None)
}
