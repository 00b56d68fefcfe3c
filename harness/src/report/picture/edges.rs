//! What read from what, and what came after what.
//!
//! An edge of real time leads from an operation to those that began after its end, save where a third lies
//! between them. It is a *missed* one if it leads from a write to a read that does not show it, though the
//! value shown, if any was, had been in place before: the reason why people look at the picture.

use checkers::{F, Kind, Value};
use maud::{Markup, html};

use super::scale::{r, seconds_of};
use super::{BAR, Bar, CHAR, Op};
use crate::report::text::millis;

/// More operations than this have no edges: they would hide all else.
const OPS_MAX: usize = 14;
const EDGES_MAX: usize = 24;
const HEAD: f64 = 5.0;

struct Edge {
    class: &'static str,
    from: usize,
    to: usize,
    title: String,
    label: Option<String>,
}

/// The edges between bars.
pub(super) fn draw(bars: &[&Bar<'_>]) -> Markup {
    let ops: Vec<&Op> = bars.iter().map(|bar| bar.op).collect();
    html! {
        @for edge in edges(&ops) {
            @let ends = (bars.get(edge.from), bars.get(edge.to));
            @if let (Some(from), Some(to)) = ends { (arrow(&edge, from, to)) }
        }
    }
}

fn edges(ops: &[&Op]) -> Vec<Edge> {
    if ops.len() > OPS_MAX {
        return Vec::new();
    }
    let mut edges = Vec::new();
    for (i, a) in ops.iter().enumerate() {
        for (j, b) in ops.iter().enumerate() {
            if i == j {
                continue;
            }
            if reads_from(b, a) {
                edges.push(Edge {
                    class: "from",
                    from: i,
                    to: j,
                    title: "read what was written".to_owned(),
                    label: None,
                });
                continue;
            }
            let between = |c: &&&Op| precedes(a, c) && precedes(c, b);
            let missed = is_missed(ops, a, b);
            let lane = a.invoke.process == b.invoke.process;
            if !precedes(a, b) || !missed && (lane || ops.iter().any(|c| between(&c))) {
                continue;
            }
            let ended = a.complete.as_ref().map_or(0, |e| e.time);
            let gap_ms = seconds_of(b.invoke.time.saturating_sub(ended)) * 1e3;
            edges.push(Edge {
                class: if missed { "missed" } else { "order" },
                from: i,
                to: j,
                title: format!("began {} after its end", millis(gap_ms)),
                label: (missed && gap_ms > 0.0).then(|| format!("{} later", millis(gap_ms))),
            });
        }
    }
    edges.sort_by_key(|edge| match edge.class {
        "missed" => 2,
        "from" => 1,
        _ => 0,
    });
    let more = edges.len().saturating_sub(EDGES_MAX);
    edges.drain(..more);
    edges
}

/// Whether `a` had ended before `b` began, by the order recorded.
fn precedes(a: &Op, b: &Op) -> bool {
    let known = |kind: Kind| matches!(kind, Kind::Ok | Kind::Fail);
    let end = a.complete.as_ref().filter(|e| known(e.kind));
    end.is_some_and(|e| e.index < b.invoke.index)
}

fn written(op: &Op) -> Option<&Value> {
    let failed = op.complete.as_ref().is_some_and(|e| e.kind == Kind::Fail);
    match op.invoke.f {
        _ if failed => None,
        F::Write | F::Append | F::Add | F::Increment => Some(&op.invoke.value),
        F::Cas | F::Insert => op.invoke.value.items()?.get(1),
        F::Generate => op.complete.as_ref().map(|e| &e.value),
        F::Other(ref name) if ["enqueue", "push", "send"].contains(&&**name) => {
            Some(&op.invoke.value)
        }
        _ => None,
    }
}

/// Whether elements add up, rather than replace each other.
fn collects(op: &Op) -> bool {
    matches!(op.invoke.f, F::Append | F::Add | F::Insert | F::Generate)
}

/// What an operation returned, of the key of a write.
fn shown<'a>(op: &'a Op, write: &Op) -> Option<&'a Value> {
    let done = op.complete.as_ref().filter(|e| e.kind == Kind::Ok)?;
    match (&op.invoke.f, &done.value) {
        (F::Cas, _) => op.invoke.value.items()?.first(),
        (F::Read | F::Other(_), Value::Map(pairs)) if op.invoke.key.is_none() => {
            let key = write.invoke.key.as_ref()?;
            pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v)
        }
        (F::Read | F::Other(_), value) if op.invoke.key == write.invoke.key => Some(value),
        _ => None,
    }
}

fn reads_from(op: &Op, write: &Op) -> bool {
    let (Some(value), Some(shown)) = (written(write), shown(op, write)) else {
        return false;
    };
    match shown.items() {
        Some(items) if collects(write) => items.contains(value),
        _ => shown == value,
    }
}

/// Whether `read` began after `write` had ended, and shows that it was not there.
fn is_missed(ops: &[&Op], write: &Op, read: &Op) -> bool {
    let acknowledged = write.complete.as_ref().is_some_and(|e| e.kind == Kind::Ok);
    let result = match (&read.invoke.f, written(write)) {
        (F::Read, Some(value)) => shown(read, write).map(|shown| (value, shown)),
        _ => None,
    };
    let Some((value, shown)) = result else {
        return false;
    };
    if !acknowledged || !precedes(write, read) {
        return false;
    }
    if collects(write) {
        return shown
            .items()
            .map_or(shown.is_nil(), |items| !items.contains(value));
    }
    let replaces = matches!(write.invoke.f, F::Write | F::Cas);
    // What was read had been in place before the write began: written, or read by another.
    let before = |op: &&&Op| {
        let same = written(op) == Some(shown)
            || op.invoke.f == F::Read && self::shown(op, write) == Some(shown);
        same && precedes(op, write)
    };
    replaces && shown != value && (shown.is_nil() || ops.iter().any(|op| before(&op)))
}

fn arrow(edge: &Edge, from: &Bar<'_>, to: &Bar<'_>) -> Markup {
    let (y1, y2) = (from.middle(), to.middle());
    // Of a write that was under way when it was read, the middle.
    let start = if from.end() <= to.x {
        from.end()
    } else {
        f64::midpoint(from.x, from.end().min(to.end()))
    };
    let lane = (y1 - y2).abs() < 1.0;
    let (bend, path) = if lane {
        let top = y1 - BAR / 2.0;
        let bend = top - 9.0;
        (
            bend + 2.0,
            format!(
                "M{} {} C{} {} {} {} {} {}",
                r(start - 1.0),
                r(top),
                r(start + 6.0),
                r(bend),
                r(to.x - 6.0),
                r(bend),
                r(to.x + 1.0),
                r(top)
            ),
        )
    } else {
        let down = if y2 > y1 { 1.0 } else { -1.0 };
        let (y1, y2) = (y1 + down * BAR / 2.0, y2 - down * (BAR / 2.0 + 1.0));
        let reach = (y2 - y1) * 0.6;
        (
            f64::midpoint(y1, y2),
            format!(
                "M{} {} C{} {} {} {} {} {}",
                r(start),
                r(y1),
                r(start),
                r(y1 + reach),
                r(to.x + 1.0),
                r(y2 - reach),
                r(to.x + 1.0),
                r(y2)
            ),
        )
    };
    let (tip_x, tip_y) = if lane {
        (to.x + 1.0, y2 - BAR / 2.0)
    } else if y2 > y1 {
        (to.x + 1.0, y2 - BAR / 2.0 - 1.0)
    } else {
        (to.x + 1.0, y2 + BAR / 2.0 + 1.0)
    };
    let back = if y2 > y1 || lane {
        tip_y - HEAD
    } else {
        tip_y + HEAD
    };
    let head = format!(
        "M{} {} L{} {} L{} {} Z",
        r(tip_x),
        r(tip_y),
        r(tip_x - 3.0),
        r(back),
        r(tip_x + 3.0),
        r(back)
    );
    html! {
        g class=(format!("edge {}", edge.class)) {
            title { (edge.title) }
            path.line d=(path) {}
            path.head d=(head) {}
            @if let Some(label) = &edge.label {
                @let room = label.chars().count() as f64 * CHAR;
                @let middle = f64::midpoint(start, to.x).max(super::GUTTER + room / 2.0);
                text.halo x=(r(middle)) y=(r(bend - 3.0)) text-anchor="middle" { (label) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use checkers::{Event, Process};

    use super::*;

    fn op(at: u64, process: u64, f: &F, argument: Value, result: Value) -> Op {
        let event = |index, kind, value| {
            let mut event = Event::new(
                index,
                index * 1_000_000,
                Process::Client(process),
                kind,
                f.clone(),
                value,
            );
            event.key = Some(Value::str("k"));
            event
        };
        Op {
            invoke: event(at, Kind::Invoke, argument),
            complete: Some(event(at + 1, Kind::Ok, result)),
        }
    }

    fn drawn(ops: &[Op]) -> Vec<(&'static str, usize, usize)> {
        let ops: Vec<&Op> = ops.iter().collect();
        let mut found: Vec<_> = edges(&ops)
            .iter()
            .map(|e| (e.class, e.from, e.to))
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn a_stale_read_misses_the_write_before_it() {
        let ops = [
            op(0, 1, &F::Write, Value::Int(1), Value::Int(1)),
            op(2, 1, &F::Write, Value::Int(2), Value::Int(2)),
            op(4, 2, &F::Read, Value::Nil, Value::Int(1)),
        ];
        assert_eq!(drawn(&ops), [("from", 0, 2), ("missed", 1, 2)]);
        let fresh = [
            ops[0].clone(),
            ops[1].clone(),
            op(4, 2, &F::Read, Value::Nil, Value::Int(2)),
        ];
        assert_eq!(drawn(&fresh), [("from", 1, 2)]);
    }

    #[test]
    fn a_list_misses_an_element() {
        let list = |items: &[i64]| -> Value { items.iter().copied().map(Value::Int).collect() };
        let ops = [
            op(0, 1, &F::Append, Value::Int(1), Value::Int(1)),
            op(2, 2, &F::Append, Value::Int(2), Value::Int(2)),
            op(4, 3, &F::Read, Value::Nil, list(&[2])),
        ];
        let expected = [("from", 1, 2), ("missed", 0, 2), ("order", 0, 1)];
        assert_eq!(drawn(&ops), expected);
    }
}
