//! The logs: which message is at which offset, who sent it, and whether anybody polled it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::parse::{Message, Micro};
use super::{Findings, Outcome, Value};

const NONE: u32 = u32::MAX;

/// What is known of a message of a key. Operations by position among the operations.
struct Known<'a> {
    key: u32,
    value: &'a Value,
    /// The send that began first, of those that may have taken effect; if none may, one that failed.
    send: u32,
    /// Sends that may have taken effect.
    possible: u32,
    /// An acknowledged send, and at which offset.
    acknowledged: u32,
    acknowledged_at: Option<i64>,
    /// The poll of it that ended first.
    poll: u32,
    /// The offset where it is; the lowest, if there are several.
    offset: Option<i64>,
}

/// A message at an offset, by whom it is known.
#[derive(Clone, Copy)]
struct Entry {
    key: u32,
    offset: i64,
    message: u32,
    op: u32,
}

/// All logs of a history.
pub(super) struct Log<'a> {
    known: Vec<Known<'a>>,
    ids: FxHashMap<(u32, &'a Value), u32>,
    /// By key: all offsets, ascending.
    offsets: Vec<Vec<i64>>,
}

impl<'a> Log<'a> {
    pub(super) fn of(findings: &mut Findings<'_, 'a>) -> Self {
        let keys = findings.keys.names.len();
        let mut log = Self {
            known: Vec::new(),
            ids: FxHashMap::default(),
            offsets: vec![Vec::new(); keys],
        };
        let mut entries = log.gather(findings);
        entries.sort_by_key(|e| (e.key, e.offset, e.message, e.op));
        log.offsets(findings, &entries);
        entries.sort_by_key(|e| (e.message, e.offset, e.op));
        log.duplicates(findings, &entries);
        // By key: the highest offset polled, and by whom.
        let mut highest: Vec<Option<(i64, u32)>> = vec![None; keys];
        for message in &findings.messages {
            if let (Micro::Poll, Some(offset)) = (message.micro, log.offset(message)) {
                let highest = &mut highest[message.key as usize];
                *highest =
                    Some(highest.map_or((offset, message.op), |h| h.max((offset, message.op))));
            }
        }
        log.messages(findings, &highest);
        log
    }

    fn gather(&mut self, findings: &Findings<'_, 'a>) -> Vec<Entry> {
        let operations = findings.operations;
        let ended = |op: u32| {
            operations[op as usize]
                .completed_position
                .unwrap_or(usize::MAX)
        };
        let mut entries = Vec::new();
        for message in &findings.messages {
            let (op, key, value) = (message.op, message.key, message.value);
            let known = &mut self.known;
            let id = *self.ids.entry((key, value)).or_insert_with(|| {
                known.push(Known {
                    key,
                    value,
                    send: NONE,
                    possible: 0,
                    acknowledged: NONE,
                    acknowledged_at: None,
                    poll: NONE,
                    offset: None,
                });
                (known.len() - 1) as u32
            });
            let known = &mut self.known[id as usize];
            let outcome = operations[op as usize].outcome;
            match message.micro {
                Micro::Poll => {
                    if known.poll == NONE || ended(op) < ended(known.poll) {
                        known.poll = op;
                    }
                }
                Micro::Send if outcome == Outcome::Fail => {
                    if known.send == NONE {
                        known.send = op;
                    }
                }
                Micro::Send => {
                    if known.possible == 0 {
                        known.send = op;
                    }
                    known.possible += 1;
                    if outcome == Outcome::Ok {
                        known.acknowledged = op;
                        known.acknowledged_at = known.acknowledged_at.max(message.offset);
                    }
                }
            }
            let in_log = message.micro == Micro::Poll || outcome == Outcome::Ok;
            if let (true, Some(offset)) = (in_log, message.offset) {
                entries.push(Entry {
                    key,
                    offset,
                    message: id,
                    op,
                });
            }
        }
        entries
    }

    /// `entries` ascend by key, offset and message.
    fn offsets(&mut self, findings: &mut Findings<'_, 'a>, entries: &[Entry]) {
        for at in entries.chunk_by(|a, b| (a.key, a.offset) == (b.key, b.offset)) {
            let (first, last) = (at[0], at[at.len() - 1]);
            self.offsets[first.key as usize].push(first.offset);
            if first.message == last.message {
                continue;
            }
            let value = |e: Entry| self.known[e.message as usize].value;
            let (a, b, offset) = (value(first), value(last), first.offset);
            findings.add(
                "inconsistent-offsets",
                first.key,
                a,
                &[first.op, last.op],
                |key, told| {
                    format!(
                        "offset {offset} of {key} is {a} to the {} and {b} to the {}",
                        told[0], told[1]
                    )
                },
            );
        }
    }

    /// `entries` ascend by message and offset.
    fn duplicates(&mut self, findings: &mut Findings<'_, 'a>, entries: &[Entry]) {
        for of in entries.chunk_by(|a, b| a.message == b.message) {
            let known = &mut self.known[of[0].message as usize];
            known.offset = Some(of[0].offset);
            let offsets: Vec<&[Entry]> = of.chunk_by(|a, b| a.offset == b.offset).collect();
            if offsets.len() <= known.possible.max(1) as usize {
                continue;
            }
            let all: Vec<String> = offsets
                .iter()
                .take(10)
                .map(|at| at[0].offset.to_string())
                .collect();
            let ops: Vec<u32> = offsets.iter().take(10).map(|at| at[0].op).collect();
            let (value, count) = (known.value, offsets.len());
            findings.add("duplicate", known.key, value, &ops, |key, told| {
                format!(
                    "{value} is at {count} offsets of {key}: at {}, to the {}",
                    all.join(", "),
                    told.join(", the ")
                )
            });
        }
    }

    /// What was lost, and what should not have been polled.
    fn messages(&self, findings: &mut Findings<'_, 'a>, highest: &[Option<(i64, u32)>]) {
        let operations = findings.operations;
        let with_sends: FxHashSet<u32> = self
            .known
            .iter()
            .filter(|known| known.send != NONE)
            .map(|known| known.key)
            .collect();
        for known in &self.known {
            let (key, value, send, poll) = (known.key, known.value, known.send, known.poll);
            if poll == NONE {
                if known.acknowledged == NONE {
                    continue;
                }
                let above = highest[key as usize]
                    .filter(|h| known.acknowledged_at.is_some_and(|o| o <= h.0));
                let (Some((top, by)), Some(offset)) = (above, known.acknowledged_at) else {
                    findings.unseen += 1;
                    continue;
                };
                findings.add("lost", key, value, &[known.acknowledged, by], |key, told| {
                    format!(
                        "the {} was told that {value} is at offset {offset} of {key}, but nobody \
                         ever polled it, though the {} saw offset {top}",
                        told[0], told[1]
                    )
                });
            } else if send == NONE {
                if with_sends.contains(&key) {
                    findings.add("unexpected", key, value, &[poll], |key, told| {
                        format!("the {} saw {value} in {key}, but nobody sent it", told[0])
                    });
                }
            } else if known.possible == 0 {
                findings.add("aborted-read", key, value, &[send, poll], |key, told| {
                    format!(
                        "the {} saw {value} in {key}, sent only by the {}",
                        told[1], told[0]
                    )
                });
            } else {
                let began = operations[send as usize].invoked_position;
                if operations[poll as usize]
                    .completed_position
                    .is_some_and(|p| p < began)
                {
                    findings.add("unexpected", key, value, &[poll, send], |key, told| {
                        let (poll, send) = (&told[0], &told[1]);
                        format!(
                            "the {poll} saw {value} in {key} before the {send} began to send it"
                        )
                    });
                }
            }
        }
    }

    fn known(&self, message: &Message<'a>) -> Option<&Known<'a>> {
        let id = self.ids.get(&(message.key, message.value))?;
        self.known.get(*id as usize)
    }

    /// Where a message is: where it was said to be, or the one place known.
    pub(super) fn offset(&self, message: &Message<'a>) -> Option<i64> {
        message.offset.or_else(|| self.known(message)?.offset)
    }

    /// Whether nobody but this operation sent the message.
    pub(super) fn only_sent_by(&self, message: &Message<'a>) -> bool {
        let known = self.known(message);
        known.is_some_and(|known| known.possible == 1 && known.send == message.op)
    }

    /// An offset of the log between two.
    pub(super) fn between(&self, key: u32, from: i64, to: i64) -> Option<i64> {
        let offsets = self.offsets.get(key as usize)?;
        let next = offsets.partition_point(|&offset| offset <= from);
        offsets.get(next).copied().filter(|&offset| offset < to)
    }
}
