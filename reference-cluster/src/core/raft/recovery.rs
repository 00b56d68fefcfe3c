//! What a node does when somebody has lost what it had acknowledged, and the planted mistakes by
//! which that happens.

use raft::Storage as _;
use raft::eraftpb::{Message as Wire, MessageType};

use super::replica::{Raft, engine};
use super::storage::Log;
use crate::core::Effect;
use crate::core::config::{Bug, Config};

/// How many entries are dropped from the end of the log where that mistake is planted.
const DROPPED: u64 = 8;

impl Log {
    /// Does to what was recovered what planted mistakes do.
    pub fn spoil(&mut self, config: &Config) {
        self.hole = config.has(Bug::SnapshotWithHole);
        if config.has(Bug::LogTruncatedBelowCommit) {
            let last = self.last().saturating_sub(DROPPED);
            self.truncate(last.max(self.base()));
        }
        if config.has(Bug::VoteForgotten) {
            // What is left is what the log itself tells: its terms.
            self.hard.term = self.position(self.last()).epoch;
            self.hard.vote = 0;
        }
    }
}

impl Raft {
    /// The first index at which a message tells otherwise than what is committed here. That can
    /// only come of a loss of what some node had acknowledged; the engine would panic on it.
    pub(super) fn contradiction(&self, message: &Wire) -> Option<u64> {
        let log = &self.engine.raft.raft_log;
        // What a deposed leader still sends contradicts nothing: it is of an older term, and the
        // engine ignores it.
        let counts = message.msg_type == MessageType::MsgAppend
            && message.term >= self.engine.raft.term
            && message.index < log.committed
            && log
                .term(message.index)
                .is_ok_and(|term| term == message.log_term);
        let mut entries = message.entries.iter().filter(|_| counts);
        entries
            .find(|entry| {
                // Of what is compacted nothing can be told.
                (log.store.first_index().unwrap_or(0)..=log.committed).contains(&entry.index)
                    && log.term(entry.index).is_ok_and(|term| term != entry.term)
            })
            .map(|entry| entry.index)
    }

    /// Whether a node that finds such a loss follows its leader rather than halt: with a mistake
    /// planted, of which it would hide the effect.
    pub(super) fn goes_on(&self) -> bool {
        !self.config.bugs.is_empty()
    }

    /// Forgets the log from an index on, however committed, and all that was built on it.
    pub(super) fn start_over(&mut self, from: u64, effects: &mut Vec<Effect>) {
        let empty = Log::new(std::iter::empty());
        let mut log = std::mem::replace(self.engine.mut_store(), empty);
        log.hard.term = self.engine.raft.term;
        log.hard.vote = self.engine.raft.vote;
        let thrown = log.truncate(from.saturating_sub(1));
        let keep = log.position(log.last());
        (self.store, self.applied) = (log.base_store().clone(), log.base());
        (self.members_at, self.base_wanted) = (self.applied, 0);
        self.unsynced.clear();
        self.syncing = None;
        self.engine = engine(self.id, &self.config, self.election_ticks(), log);
        self.pin();
        self.replace(effects);
        self.report_discarded(keep, &thrown, effects);
    }

    /// Looks, as the leader, for a follower that has less than it had acknowledged: its disk was
    /// replaced. The engine would wait for what the follower never asks for.
    pub(super) fn notice_loss(&mut self, message: &Wire) {
        if !self.leads() || message.term != self.engine.raft.term {
            return;
        }
        let Some(progress) = self.engine.raft.mut_prs().get_mut(message.from) else {
            return;
        };
        let has_less = match message.msg_type {
            MessageType::MsgAppendResponse => {
                message.reject && message.reject_hint < progress.matched
            }
            // One that has any of the log learns of a commit with the very heartbeat.
            MessageType::MsgHeartbeatResponse => message.commit == 0 && progress.matched > 0,
            _ => false,
        };
        if has_less {
            // A message that came late may say so too: then some entries are sent again.
            progress.matched = 0;
            progress.become_probe();
            // From a snapshot under way it would go on after that; it is not under way any more.
            progress.become_probe();
        }
    }
}
