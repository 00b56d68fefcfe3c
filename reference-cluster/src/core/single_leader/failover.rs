//! How a follower that suspects its leader brings about a new one.

use super::replica::{Following, Part, entry};
use super::{Leadership, Message, SingleLeader};
use crate::core::config::{Bug, Candidate, Config};
use crate::core::timing::MILLISECOND;
use crate::core::{Effect, NodeId, Position, Time, Trace};

/// Whom to promote of those who answered, by where their logs end. Never a partial replica.
pub(crate) fn choose(
    config: &Config,
    standings: impl Iterator<Item = (NodeId, Position)>,
) -> Option<NodeId> {
    let full = standings.filter(|(node, _)| !config.partial.contains_key(&node.0));
    // The smallest number among equals, so that several who ask agree.
    let best = match config.candidate {
        Candidate::MostUpToDate => {
            full.max_by_key(|(node, last)| (*last, std::cmp::Reverse(*node)))
        }
        Candidate::First => full.min_by_key(|(node, _)| *node),
    };
    best.map(|(node, _)| node)
}

/// How many of so many replicas are more than half.
pub(crate) fn majority(config: &Config, replicas: usize) -> usize {
    if config.has(Bug::MajorityOffByOne) {
        (replicas / 2).max(1)
    } else {
        replicas / 2 + 1
    }
}

/// A round of questions to all peers.
#[derive(Debug)]
pub(super) struct Inquiry {
    number: u64,
    /// When to conclude from the answers that have come.
    pub until: Time,
    /// When to give up, where a majority must answer: answers that take longer than a heartbeat
    /// would otherwise keep a cluster without a leader for ever.
    patience: Time,
    answers: Vec<(NodeId, Standing)>,
}

/// A peer's answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub leadership: Leadership,
    pub last: Position,
    pub leads: bool,
    pub hears: bool,
}

impl SingleLeader {
    /// Asks all peers how they stand.
    pub(super) fn inquire(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.draws += 1;
        let number = self.draws;
        self.refuse_waiting(effects);
        let until = now + self.config.heartbeat_ms * MILLISECOND;
        self.part = Part::Inquiring(Inquiry {
            number,
            until,
            patience: now + self.config.failover_timeout_ms * MILLISECOND,
            answers: Vec::new(),
        });
        self.trace_role(effects);
        for &peer in &self.peers {
            Self::send(peer, Message::Inquire { number }, effects);
        }
        if self.peers.is_empty() {
            self.conclude(now, effects);
        }
    }

    /// Whether this node has heard from its leader so lately that it does not doubt it.
    fn hears(&self, now: Time) -> bool {
        let lately = self.config.failover_timeout_ms * MILLISECOND / 2;
        match &self.part {
            Part::Follower(following) => following.heard.is_some_and(|heard| heard + lately > now),
            Part::Leader(_) => true,
            Part::Inquiring(_) | Part::Rising(_) => false,
        }
    }

    pub(super) fn on_inquire(
        &mut self,
        now: Time,
        from: NodeId,
        number: u64,
        effects: &mut Vec<Effect>,
    ) {
        let standing = Message::Standing {
            number,
            leadership: self.leadership,
            last: self.log.last(),
            leads: matches!(self.part, Part::Leader(_)),
            hears: self.hears(now),
        };
        Self::send(from, standing, effects);
    }

    pub(super) fn on_standing(
        &mut self,
        now: Time,
        from: NodeId,
        number: u64,
        standing: Standing,
        effects: &mut Vec<Effect>,
    ) {
        let (everybody, majority) = (self.peers.len(), self.majority());
        let Part::Inquiring(inquiry) = &mut self.part else {
            return;
        };
        if inquiry.number != number || inquiry.answers.iter().any(|(node, _)| *node == from) {
            return;
        }
        inquiry.answers.push((from, standing));
        let late = inquiry.until == inquiry.patience;
        let answers = inquiry.answers.len();
        if answers == everybody || late && answers + 1 >= majority {
            self.conclude(now, effects);
        }
    }

    /// Promotes the most up-to-date replica that answered, unless there is a live leader.
    pub(super) fn conclude(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Part::Inquiring(inquiry) = &mut self.part else {
            return;
        };
        let (until, patience) = (inquiry.until, inquiry.patience);
        let answers = std::mem::take(&mut inquiry.answers);

        let known = self.leadership;
        let live = answers
            .iter()
            .filter(|(_, standing)| standing.leads || standing.hears)
            .map(|(_, standing)| standing.leadership)
            .filter(|leadership| *leadership >= known && leadership.leader != self.id.0)
            .max();
        if let Some(leadership) = live {
            return self.follow(now, leadership, None, effects);
        }
        let enough =
            !self.config.failover_requires_majority || answers.len() + 1 >= self.majority();
        if !enough && until < patience {
            if let Part::Inquiring(inquiry) = &mut self.part {
                inquiry.answers = answers;
                inquiry.until = patience;
            }
            return;
        }
        if !enough {
            return self.stand_back(now, effects);
        }
        let theirs = answers
            .iter()
            .map(|(_, standing)| standing.leadership.epoch);
        let theirs = theirs.max().unwrap_or(0);
        let mut highest = known.epoch.max(self.led);
        if !self.config.has(Bug::EpochNotCompared) {
            highest = highest.max(theirs);
        }
        let standings = answers
            .iter()
            .map(|(node, standing)| (*node, standing.last))
            .chain([(self.id, self.log.last())]);
        match choose(&self.config, standings) {
            Some(node) if node == self.id => self.rise(now, highest, effects),
            Some(node) => {
                Self::send(node, Message::Promote { epoch: highest }, effects);
                self.stand_back(now, effects);
            }
            None => self.stand_back(now, effects),
        }
    }

    /// Goes on as a follower of nobody in particular, to ask again after a timeout.
    fn stand_back(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.part = Part::Follower(Following {
            heard: None,
            suspect_at: Time::MAX,
            verified: 0,
            owed: None,
        });
        let timeout = self.draw_timeout();
        self.suspect_at(now + timeout);
        self.trace_role(effects);
    }

    /// The monitor's order to lead, whatever this node hears from its leader.
    pub(super) fn on_ordered(&mut self, now: Time, epoch: u64, effects: &mut Vec<Effect>) {
        let leads = matches!(self.part, Part::Leader(_) | Part::Rising(_));
        if !leads && self.leadership.epoch <= epoch {
            self.rise(now, epoch.max(self.led), effects);
        }
    }

    pub(super) fn on_promote(&mut self, now: Time, epoch: u64, effects: &mut Vec<Effect>) {
        let leads = matches!(self.part, Part::Leader(_) | Part::Rising(_));
        if !leads && !self.hears(now) && self.leadership.epoch <= epoch {
            self.rise(now, epoch.max(self.led), effects);
        }
    }

    /// Begins a leadership above an epoch: makes it durable first, as the marker entry that
    /// begins it in the log.
    pub(super) fn rise(&mut self, now: Time, highest: u64, effects: &mut Vec<Effect>) {
        self.leadership = Leadership {
            epoch: highest + 1,
            leader: self.id.0,
        };
        self.led = self.leadership.epoch;
        self.refuse_waiting(effects);
        self.stopped = None;
        let previous = self.log.last();
        let position = self.leadership.at(previous.index + 1);
        effects.push(Effect::Trace(Trace::Created {
            position,
            previous,
            request: None,
        }));
        self.push(now, entry(position, None), effects);
        self.applied = position.index;
        let token = self.durability.force(effects);
        self.part = Part::Rising(token);
        self.trace_role(effects);
    }
}
