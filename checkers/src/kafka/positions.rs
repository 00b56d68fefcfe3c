//! How processes move through the logs.

use rustc_hash::{FxHashMap, FxHashSet};

use super::log::Log;
use super::parse::{Message, Micro};
use super::{Findings, Operation, Outcome, Process, Value, carries_messages};

/// Where a process is: by key the offset and the operation.
type Places = FxHashMap<u32, (i64, u32)>;

/// What a process has done.
#[derive(Default)]
struct Position {
    subscribed: bool,
    polled: Places,
    sent: Places,
}

/// Follows every process through its operations.
pub(super) fn follow<'a>(findings: &mut Findings<'_, 'a>, log: &Log<'a>) {
    let operations = findings.operations;
    let messages = std::mem::take(&mut findings.messages);
    let mut processes: FxHashMap<&Process, Position> = FxHashMap::default();
    let mut rest = &messages[..];
    for (i, op) in operations.iter().enumerate() {
        let name = op.f().name();
        if matches!(name, "assign" | "subscribe") {
            if op.outcome != Outcome::Fail {
                let position = processes.entry(op.process()).or_default();
                position.turn_to(findings, op, name == "subscribe");
            }
            continue;
        }
        let count = rest.iter().take_while(|m| m.op as usize == i).count();
        let (of_op, others) = rest.split_at(count);
        rest = others;
        if !carries_messages(op.f()) || op.outcome == Outcome::Fail {
            continue;
        }
        precommitted(findings, log, of_op);
        let position = processes.entry(op.process()).or_default();
        polls(findings, log, op, of_op, position);
        sends(findings, of_op, position);
        if op.outcome == Outcome::Info {
            processes.remove(op.process());
        }
    }
}

impl Position {
    /// Keeps the places of the keys that the process goes on with.
    fn turn_to(&mut self, findings: &mut Findings<'_, '_>, op: &Operation<'_>, subscribes: bool) {
        self.subscribed = subscribes;
        let keys = op.argument().items().unwrap_or(&[]);
        let keys: FxHashSet<u32> = keys.iter().map(|key| findings.keys.number(key)).collect();
        let from_beginning = extra(op, "seek-to-beginning?")
            .is_some_and(|value| !matches!(value, Value::Nil | Value::Bool(false)));
        self.polled
            .retain(|key, _| !from_beginning && op.is_ok() && keys.contains(key));
        self.sent.retain(|key, _| keys.contains(key));
    }
}

/// A field that has no meaning to other checkers.
fn extra<'a>(op: &Operation<'a>, name: &str) -> Option<&'a Value> {
    let events = [Some(op.invoke), op.complete];
    let mut fields = events.into_iter().flatten().flat_map(|event| &event.extra);
    fields
        .find(|(field, _)| &**field == name)
        .map(|(_, value)| value)
}

/// What a transaction polled though only itself had sent it.
fn precommitted<'a>(findings: &mut Findings<'_, 'a>, log: &Log<'a>, messages: &[Message<'a>]) {
    if !messages.iter().any(|m| m.micro == Micro::Send) {
        return;
    }
    for message in messages.iter().filter(|m| m.micro == Micro::Poll) {
        if log.only_sent_by(message) {
            let (key, value) = (message.key, message.value);
            findings.add(
                "precommitted-read",
                key,
                value,
                &[message.op],
                |key, told| {
                    format!(
                        "the {} polled {value} of {key}, which only itself sent",
                        told[0]
                    )
                },
            );
        }
    }
}

fn polls<'a>(
    findings: &mut Findings<'_, 'a>,
    log: &Log<'a>,
    op: &Operation<'_>,
    messages: &[Message<'a>],
    position: &mut Position,
) {
    let rebalanced = extra(op, "rebalance-log")
        .is_some_and(|log| !log.is_nil() && log.items().is_none_or(|events| !events.is_empty()));
    // By key: the last message of this operation.
    let mut here: Places = FxHashMap::default();
    for message in messages.iter().filter(|m| m.micro == Micro::Poll) {
        let Some(offset) = log.offset(message) else {
            continue;
        };
        let (key, internal) = (message.key, here.get(&message.key).copied());
        let before = internal.or_else(|| position.polled.get(&key).copied());
        here.insert(key, (offset, message.op));
        let Some((last, by)) = before.filter(|_| !rebalanced) else {
            continue;
        };
        let excused = internal.is_none() && position.subscribed;
        if offset <= last {
            if excused {
                findings.nonmonotonic_subscribed += 1;
                continue;
            }
            let class = match internal {
                Some(_) => "int-nonmonotonic-poll",
                None => "nonmonotonic-poll",
            };
            findings.add(class, key, message.value, &[by, message.op], |key, told| {
                format!(
                    "the {} polled offset {offset} of {key}, after the {} had polled offset {last}",
                    told[1], told[0]
                )
            });
        } else if let Some(skipped) = log.between(key, last, offset) {
            if excused {
                findings.skips_subscribed += 1;
                continue;
            }
            let class = match internal {
                Some(_) => "int-poll-skip",
                None => "poll-skip",
            };
            findings.add(class, key, message.value, &[by, message.op], |key, told| {
                format!(
                    "the {} polled offset {offset} of {key} next to offset {last} of the {}, but \
                     offset {skipped} is between",
                    told[1], told[0]
                )
            });
        }
    }
    if op.is_ok() {
        position.polled.extend(here);
    }
}

fn sends<'a>(findings: &mut Findings<'_, 'a>, messages: &[Message<'a>], position: &mut Position) {
    for message in messages.iter().filter(|m| m.micro == Micro::Send) {
        let Some(offset) = message.offset else {
            continue;
        };
        let before = position.sent.insert(message.key, (offset, message.op));
        let Some((last, by)) = before.filter(|(last, _)| offset <= *last) else {
            continue;
        };
        let class = if by == message.op {
            "int-nonmonotonic-send"
        } else {
            "nonmonotonic-send"
        };
        let value = message.value;
        findings.add(class, message.key, value, &[by, message.op], |key, told| {
            format!(
                "the {} was told offset {offset} of {key} for {value}, after the {} had been told \
                 offset {last}",
                told[1], told[0]
            )
        });
    }
}
