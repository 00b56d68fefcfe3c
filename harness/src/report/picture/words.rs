//! An operation in a few words, and in all.

use checkers::{Event, F, Kind, Value};

use super::Op;
use super::scale::seconds_of;
use crate::report::text::{clip, millis, plain};

const HOVER_CHARS: usize = 600;

/// `append k7 41 → n3 e2`, `read k7 → [1 2 41] n3 e2`.
pub(super) fn label_of(op: &Op) -> String {
    let invoke = &op.invoke;
    let mut text = invoke.f.name().to_owned();
    let done = op.complete.as_ref().filter(|done| done.kind == Kind::Ok);
    let shown = done.map_or(&invoke.value, |done| &done.value);
    let micro = transaction(&invoke.f, shown);
    if let Some(key) = &invoke.key {
        text = format!("{text} {key}");
    }
    if let Some(micro) = &micro {
        text = format!("{text} {micro}");
    } else if !invoke.value.is_nil() && invoke.f != F::Read {
        text = format!("{text} {}", brief(&invoke.value));
    }
    text += " →";
    if let Some(done) = &op.complete {
        text += match done.kind {
            Kind::Fail => " failed",
            Kind::Info => " unknown",
            Kind::Ok | Kind::Invoke => "",
        };
        if done.kind == Kind::Ok && invoke.f == F::Read {
            text = format!("{text} {}", brief(&done.value));
        }
    } else {
        text += " no answer";
    }
    let last = op.complete.as_ref().unwrap_or(invoke);
    if let Some(node) = last.node.as_ref().or(invoke.node.as_ref()) {
        text = format!("{text} {node}");
    }
    if let Some(epoch) = last.epoch {
        text = format!("{text} e{epoch}");
    }
    plain(&text)
}

/// A transaction in a few characters, its reads with what they showed: `append 3 1, r 0 [5 6]`.
fn transaction(f: &F, value: &Value) -> Option<String> {
    if f.name() != "txn" {
        return None;
    }
    let micro = value.items()?.iter().map(|micro| {
        let words: Vec<_> = micro.items()?.iter().map(brief).collect();
        Some(words.join(" "))
    });
    Some(micro.collect::<Option<Vec<_>>>()?.join(", "))
}

/// A value in a few characters; of a long collection, its end, where the news is.
fn brief(value: &Value) -> String {
    const LAST: usize = 5;
    match value.items() {
        Some(items) if items.len() > LAST => {
            let tail: Vec<_> = items[items.len() - LAST..]
                .iter()
                .map(ToString::to_string)
                .collect();
            format!("[{} more, {}]", items.len() - LAST, tail.join(" "))
        }
        _ => value.to_string(),
    }
}

/// The class of its bar.
pub(super) fn outcome(op: &Op) -> &'static str {
    match op.complete.as_ref().map(|e| e.kind) {
        Some(Kind::Ok) => "ok",
        Some(Kind::Fail) => "fail",
        _ => "info",
    }
}

/// All that is known of it.
pub(super) fn hover(op: &Op) -> String {
    let from = seconds_of(op.invoke.time);
    let mut text = format!("op {} · {}", op.invoke.index, argument(&op.invoke));
    match &op.complete {
        Some(done) => {
            let to = seconds_of(done.time);
            let ended = match done.kind {
                Kind::Ok => "ok",
                Kind::Fail => "failed",
                Kind::Info | Kind::Invoke => "unknown",
            };
            text += &[
                format!("\n{ended}: {}", done.value),
                format!("\n{from:.6} s to {to:.6} s ({})", millis((to - from) * 1e3)),
            ]
            .concat();
            if let Some(node) = &done.node {
                let role = done.role.as_deref().unwrap_or("role unknown");
                let epoch = done
                    .epoch
                    .map_or_else(|| "epoch unknown".to_owned(), |e| format!("epoch {e}"));
                text = format!("{text}\nanswered by {node} ({role}, {epoch})");
            }
            if let Some(error) = &done.error {
                text = format!("{text}\n{error}");
            }
        }
        None => text = format!("{text}\nfrom {from:.6} s; no completion was recorded"),
    }
    clip(&text, HOVER_CHARS)
}

fn argument(invoke: &Event) -> String {
    let mut text = invoke.f.name().to_owned();
    if let Some(key) = &invoke.key {
        text = format!("{text} {key}");
    }
    if !invoke.value.is_nil() {
        text = format!("{text} {}", invoke.value);
    }
    text
}
