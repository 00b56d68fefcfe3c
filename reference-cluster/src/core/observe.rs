//! What an observer of the network can say of a message: its kind, and what it carries. For the
//! simulation's recordings; no replica looks at it.

use std::sync::Arc;

use ::raft::eraftpb::MessageType;

use super::gateway;
use super::leaderless::Message as Leaderless;
use super::multi_leader::{Message as MultiLeader, Payload};
use super::raft::Message as RaftMessage;
use super::single_leader::Message as SingleLeader;
use super::{Message, Op};

/// What a message is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// It keeps contact, or says what was said before.
    Routine,
    /// It carries data, or confirms that it arrived.
    Data,
    /// It decides who leads.
    Election,
}

/// What an observer sees of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// What it is called.
    pub kind: &'static str,
    /// What it is there for.
    pub purpose: Purpose,
    /// The first and last index of the log that it carries or confirms.
    pub entries: Option<(u64, u64)>,
    /// The keys that it carries something of.
    pub keys: Vec<Arc<str>>,
}

impl Glimpse {
    fn new(kind: &'static str, purpose: Purpose) -> Self {
        Self {
            kind,
            purpose,
            entries: None,
            keys: Vec::new(),
        }
    }

    fn up_to(mut self, index: u64) -> Self {
        self.entries = Some((index, index));
        self
    }

    fn of(mut self, key: &Arc<str>) -> Self {
        self.keys.push(key.clone());
        self
    }
}

/// What can be seen of a message.
pub fn glimpse(message: &Message) -> Glimpse {
    look(message, true)
}

/// What a message is called and what it is there for: the glimpse without looking into it.
pub fn kind(message: &Message) -> (&'static str, Purpose) {
    let glimpse = look(message, false);
    (glimpse.kind, glimpse.purpose)
}

fn look(message: &Message, inside: bool) -> Glimpse {
    match message {
        Message::SingleLeader(message) => single_leader(message, inside),
        Message::Raft(message) => raft(message, inside),
        Message::MultiLeader(message) => multi_leader(message, inside),
        Message::Leaderless(message) => leaderless(message, inside),
        Message::Gateway(message) => gateway(message),
    }
}

/// The keys, if somebody wants to know.
fn keys(inside: bool, keys: impl Iterator<Item = Arc<str>>) -> Vec<Arc<str>> {
    if inside { keys.collect() } else { Vec::new() }
}

fn single_leader(message: &SingleLeader, inside: bool) -> Glimpse {
    use Purpose::{Data, Election, Routine};
    match message {
        SingleLeader::Append { entries, .. } => match (entries.first(), entries.last()) {
            (Some(first), Some(last)) => Glimpse {
                kind: "append",
                purpose: Data,
                entries: Some((first.position.index, last.position.index)),
                keys: keys(
                    inside,
                    entries
                        .iter()
                        .filter_map(|entry| entry.op.as_ref().and_then(Op::key).cloned()),
                ),
            },
            _ => Glimpse::new("heartbeat", Routine),
        },
        SingleLeader::Matched { matched, .. } => Glimpse::new("matched", Routine).up_to(*matched),
        SingleLeader::Mismatched { hint, .. } => Glimpse::new("mismatched", Data).up_to(hint.index),
        SingleLeader::Install { snapshot, .. } => {
            Glimpse::new("snapshot", Data).up_to(snapshot.position.index)
        }
        SingleLeader::Unreadable { .. } => Glimpse::new("unreadable", Data),
        SingleLeader::TakeOver { .. } => Glimpse::new("take-over", Election),
        SingleLeader::Superseded(_) => Glimpse::new("superseded", Election),
        SingleLeader::Inquire { .. } => Glimpse::new("inquire", Election),
        SingleLeader::Standing { .. } => Glimpse::new("standing", Election),
        SingleLeader::Promote { .. } => Glimpse::new("promote", Election),
    }
}

fn raft(message: &RaftMessage, inside: bool) -> Glimpse {
    use Purpose::{Data, Election, Routine};
    let RaftMessage::Engine(wire) = message else {
        return Glimpse::new("not-a-member", Election);
    };
    let message = &wire.0;
    match message.get_msg_type() {
        MessageType::MsgAppend => {
            let entries = message.get_entries();
            match (entries.first(), entries.last()) {
                (Some(first), Some(last)) => Glimpse {
                    kind: "append",
                    purpose: Data,
                    entries: Some((first.index, last.index)),
                    keys: keys(
                        inside,
                        entries.iter().filter_map(|entry| {
                            let op: Option<Op> = postcard::from_bytes(&entry.data).ok();
                            op.as_ref().and_then(Op::key).cloned()
                        }),
                    ),
                },
                _ => Glimpse::new("commit", Routine).up_to(message.commit),
            }
        }
        MessageType::MsgAppendResponse if message.reject => {
            Glimpse::new("append-rejected", Data).up_to(message.reject_hint)
        }
        MessageType::MsgAppendResponse => Glimpse::new("appended", Routine).up_to(message.index),
        MessageType::MsgSnapshot => {
            let index = message.get_snapshot().get_metadata().index;
            Glimpse::new("snapshot", Data).up_to(index)
        }
        MessageType::MsgRequestPreVote => Glimpse::new("pre-vote?", Election),
        MessageType::MsgRequestPreVoteResponse => Glimpse::new("pre-vote", Election),
        MessageType::MsgRequestVote => Glimpse::new("vote?", Election),
        MessageType::MsgRequestVoteResponse if message.reject => {
            Glimpse::new("vote-refused", Election)
        }
        MessageType::MsgRequestVoteResponse => Glimpse::new("vote", Election),
        MessageType::MsgTimeoutNow => Glimpse::new("take-over", Election),
        MessageType::MsgReadIndex => Glimpse::new("read-index?", Data),
        MessageType::MsgReadIndexResp => Glimpse::new("read-index", Data),
        MessageType::MsgHeartbeat => Glimpse::new("heartbeat", Routine),
        MessageType::MsgHeartbeatResponse => Glimpse::new("heartbeat-answer", Routine),
        _ => Glimpse::new("other", Routine),
    }
}

fn multi_leader(message: &MultiLeader, inside: bool) -> Glimpse {
    use Purpose::{Data, Routine};
    match message {
        MultiLeader::Have { .. } => Glimpse::new("have", Routine),
        MultiLeader::Changes(changes) => Glimpse {
            keys: keys(
                inside,
                changes.iter().filter_map(|change| match &change.payload {
                    Payload::Cell(key, _) => Some(key.clone()),
                    Payload::Home(..) => None,
                }),
            ),
            ..Glimpse::new("changes", Data)
        },
        MultiLeader::State(state) => Glimpse {
            keys: keys(inside, state.cells.iter().map(|(key, _)| key.clone())),
            ..Glimpse::new("state", Data)
        },
        MultiLeader::Synchronous(message) => Glimpse::new("agree", Data).of(&message.key),
    }
}

fn leaderless(message: &Leaderless, inside: bool) -> Glimpse {
    use Purpose::{Data, Routine};
    match message {
        Leaderless::Put { key, repair, .. } => {
            Glimpse::new(if *repair { "repair" } else { "put" }, Data).of(key)
        }
        Leaderless::Ack { .. } => Glimpse::new("ack", Routine),
        Leaderless::Mint { key, .. } => Glimpse::new("mint", Data).of(key),
        Leaderless::Minted { .. } => Glimpse::new("minted", Routine),
        Leaderless::Get { key, .. } => Glimpse::new("get", Data).of(key),
        Leaderless::Got { .. } => Glimpse::new("got", Routine),
        Leaderless::Ping => Glimpse::new("ping", Routine),
        Leaderless::Pong => Glimpse::new("pong", Routine),
        Leaderless::Handoff { key, .. } => Glimpse::new("hint", Data).of(key),
        Leaderless::HandedOff { key, .. } => Glimpse::new("hint-held", Data).of(key),
        Leaderless::Roots { .. } => Glimpse::new("roots", Routine),
        Leaderless::Compared { .. } => Glimpse::new("compared", Routine),
        Leaderless::Hashes { .. } => Glimpse::new("hashes", Routine),
        Leaderless::Listing { .. } => Glimpse::new("listing", Routine),
        Leaderless::Exchange { entries, .. } => Glimpse {
            keys: keys(inside, entries.iter().map(|(key, _)| key.clone())),
            ..Glimpse::new("exchange", Data)
        },
        Leaderless::Cover { key, .. } => Glimpse::new("cover", Data).of(key),
        Leaderless::Covered { key, .. } => Glimpse::new("covered", Data).of(key),
        Leaderless::Forget { key, .. } => Glimpse::new("forget", Data).of(key),
    }
}

fn gateway(message: &gateway::Message) -> Glimpse {
    use Purpose::{Data, Election, Routine};
    match message {
        gateway::Message::Forward { request, .. } => {
            let glimpse = Glimpse::new("forward", Data);
            match request.op.key() {
                Some(key) => glimpse.of(key),
                None => glimpse,
            }
        }
        gateway::Message::Forwarded { .. } => Glimpse::new("forwarded", Routine),
        gateway::Message::Ask => Glimpse::new("ask", Routine),
        gateway::Message::Stands { .. } => Glimpse::new("stands", Routine),
        gateway::Message::Probe(_) => Glimpse::new("probe", Routine),
        gateway::Message::Probed(_) => Glimpse::new("probed", Routine),
        gateway::Message::Promote { .. } => Glimpse::new("promote", Election),
    }
}
