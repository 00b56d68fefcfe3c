//! In which form the log is shipped, and who can read it.
//!
//! * `statement`: calls of functions are shipped, and each replica evaluates them anew. (`MySQL`
//!   sends the clock's time, the seed of `RAND()` and the next auto-increment number along, which
//!   hides the problem for these; it remains for `SYSDATE()`, `UUID()` and triggers. See its
//!   manual, "Replication and `AUTO_INCREMENT`". Here nothing is sent along.) The leader's
//!   auto-increment counter advances for failed operations too, which followers do not learn of.
//! * `wal`: the leader's storage format, which only a replica of the same version can read: one of
//!   another version stops, and goes on when a leader of its own version ships to it
//!   (`PostgreSQL`'s streaming replication).
//! * `logical`: what was generated, readable by every version.
//!
//! All other operations are deterministic: executing them and applying the rows that they change
//! is the same, and they are shipped as they are.
//!
//! What a replica evaluates is in its own journal, in every form of stream: it does not change
//! when the replica starts again.

use std::sync::Arc;

use super::{Entry, Message, SingleLeader, Snapshot};
use crate::core::config::{Bug, Stream};
use crate::core::generate::{Source, evaluate};
use crate::core::timing::wall;
use crate::core::{Effect, NodeId, Op, Time, Trace};

impl SingleLeader {
    /// Turns calls of functions into what they give at this node.
    pub(super) fn evaluate(&mut self, now: Time, op: Op) -> Op {
        self.draws += 1;
        let source = Source {
            node: self.id,
            seed: self.seed,
            now: wall(now, self.step),
            draw: self.draws,
        };
        evaluate(op, &source, &mut self.store)
    }

    /// A received entry as this replica keeps it.
    pub(super) fn received(&mut self, now: Time, entry: &Arc<Entry>) -> Arc<Entry> {
        match &entry.op {
            Some(op @ Op::Generate(..)) => {
                let op = Some(self.evaluate(now, op.clone()));
                let position = entry.position;
                Arc::new(Entry { position, op })
            }
            _ => entry.clone(),
        }
    }

    /// Whether a node can read what a leader of this version ships. Stops it if it cannot.
    pub(super) fn can_read(&mut self, version: u16, effects: &mut Vec<Effect>) -> bool {
        let own = self.config.storage_version;
        if self.config.stream != Stream::Wal || version == own {
            if self.stopped.take().is_some() {
                effects.push(Effect::Trace(Trace::Remark("replicates again")));
            }
            return true;
        }
        if self.stopped.is_none() {
            let why: Arc<str> = format!(
                "the leader ships storage format {version}, this node reads {own} only: upgrade \
                 it, or replicate by a logical stream"
            )
            .into();
            self.stopped = Some(why.clone());
            effects.push(Effect::Trace(Trace::Stopped(why)));
        }
        false
    }

    /// Tells the leader that this node is there, though it cannot read what is shipped.
    pub(super) fn refuse_stream(&self, to: NodeId, effects: &mut Vec<Effect>) {
        let leadership = self.leadership;
        Self::send(to, Message::Unreadable { leadership }, effects);
    }

    /// The prefix of the keys that a node holds; none: all.
    pub(super) fn scope_of(&self, node: NodeId) -> Option<&str> {
        self.config.partial.get(&node.0).map(String::as_str)
    }

    /// Entries as they are shipped to a node.
    pub(super) fn shipped(&self, to: NodeId, entries: Arc<[Arc<Entry>]>) -> Arc<[Arc<Entry>]> {
        let scope = self.scope_of(to);
        let by_statement = self.config.stream == Stream::Statement;
        if scope.is_none() && !by_statement {
            return entries;
        }
        let outside = |op: &Op| match (scope, op.key()) {
            (Some(prefix), Some(key)) => !key.starts_with(prefix),
            _ => false,
        };
        let form = |entry: &Arc<Entry>| {
            let op = match &entry.op {
                Some(op) if outside(op) => None,
                Some(Op::Generated(key, function, _)) if by_statement => {
                    Some(Op::Generate(key.clone(), *function))
                }
                _ => return entry.clone(),
            };
            let position = entry.position;
            Arc::new(Entry { position, op })
        };
        entries.iter().map(form).collect()
    }

    /// The state at the base of the log as it is shipped to a node.
    pub(super) fn shipped_snapshot(&self, to: NodeId) -> Snapshot {
        let mut snapshot = self.log.snapshot();
        if let Some(prefix) = self.scope_of(to) {
            snapshot.store = snapshot.store.part(prefix);
        }
        if self.config.has(Bug::SnapshotWithHole) {
            snapshot.store.punch_hole();
        }
        snapshot
    }
}
