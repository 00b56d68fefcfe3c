//! What an operation sent and polled.

use super::{Operation, Outcome, Value};

/// Sent or polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Micro {
    Send,
    Poll,
}

/// One message sent or polled by an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// The operation, by position among the operations.
    pub(super) op: u32,
    pub(super) key: u32,
    pub(super) micro: Micro,
    pub(super) offset: Option<i64>,
    pub(super) value: &'a Value,
}

/// Appends all messages of an operation, in its order. Of an operation that is not acknowledged,
/// only what it is known to have polled; of one that failed, only what it tried to send. `None` if
/// it is malformed.
pub(super) fn messages<'a>(
    op: &Operation<'a>,
    i: usize,
    mut number: impl FnMut(&Value) -> u32,
    messages: &mut Vec<Message<'a>>,
) -> Option<()> {
    let op_number = u32::try_from(i).ok()?;
    let asked = op.argument().items()?;
    let completed = op.complete.map(|event| &event.value);
    let answered = match completed.and_then(Value::items) {
        Some(answered) if op.outcome != Outcome::Fail => answered,
        _ if op.is_ok() => return None,
        _ => asked,
    };
    for (n, micro) in answered.iter().enumerate() {
        let parts = micro.items()?;
        let (name, rest) = parts.split_first()?;
        match (text(name)?, rest) {
            ("send", [key, sent]) => {
                let asked = asked.get(n).and_then(Value::items);
                let (offset, value) = acknowledged(sent, asked.and_then(|parts| parts.get(2)));
                messages.push(Message {
                    op: op_number,
                    key: number(key),
                    micro: Micro::Send,
                    offset,
                    value,
                });
            }
            ("poll", [] | [Value::Nil]) => {}
            ("poll", [Value::Map(logs)]) if op.outcome != Outcome::Fail => {
                for (key, pairs) in logs.iter() {
                    let key = number(key);
                    for pair in pairs.items()? {
                        let [offset, value] = pair.items()? else {
                            return None;
                        };
                        messages.push(Message {
                            op: op_number,
                            key,
                            micro: Micro::Poll,
                            offset: whole(offset)?,
                            value,
                        });
                    }
                }
            }
            ("poll", [_]) if op.outcome == Outcome::Fail => {}
            // Micro-operations of other workloads.
            _ => return None,
        }
    }
    Some(())
}

/// A message as its completion tells it: `[offset v]`, or the bare message that was asked for.
fn acknowledged<'a>(sent: &'a Value, asked: Option<&'a Value>) -> (Option<i64>, &'a Value) {
    if asked == Some(sent) && asked.is_none_or(|asked| asked.items().is_none()) {
        return (None, sent);
    }
    match sent.items() {
        Some([offset, value]) if asked.is_none_or(|asked| asked == value) => {
            (whole(offset).flatten(), value)
        }
        _ => (None, sent),
    }
}

/// A whole number, or none; the outer `None` of anything else.
#[expect(clippy::option_option, reason = "absent is not malformed")]
fn whole(offset: &Value) -> Option<Option<i64>> {
    match offset {
        Value::Nil => Some(None),
        Value::Int(n) => Some(Some(*n)),
        _ => None,
    }
}

fn text(name: &Value) -> Option<&str> {
    match name {
        Value::Str(s) | Value::Keyword(s) | Value::Symbol(s) => Some(s),
        _ => None,
    }
}
