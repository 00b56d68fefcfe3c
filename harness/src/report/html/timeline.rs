//! The operations that prove an anomaly, drawn by process over real time. Where nothing happens
//! for long the axis is broken, and the break says how long it is.

use checkers::{Event, F, Kind, Process, Value};
use maud::{Markup, html};

use super::evidence::Op;
use super::roles::{nice_step, r};
use super::series::label;
use crate::report::FaultRecord;
use crate::report::text::{clip, millis, plain, seconds};

const WIDTH: f64 = 1024.0;
const GUTTER: f64 = 96.0;
const PLOT: f64 = WIDTH - GUTTER - 8.0;
const ROW: f64 = 24.0;
const BAR: f64 = 14.0;
const TOP: f64 = 20.0;
const AXIS: f64 = 24.0;
const BREAK: f64 = 72.0;
const CHAR: f64 = 6.8;
const LABEL_CHARS: usize = 60;
const HOVER_CHARS: usize = 600;
const MINIMUM_BAR: f64 = 4.0;

/// A stretch of time that is drawn to scale.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    from: f64,
    to: f64,
    x: f64,
}

/// Real time to pixels: stretches to one common scale, with breaks between them.
#[derive(Debug)]
struct Scale {
    stretches: Vec<Stretch>,
    pixels_per_s: f64,
    gap: f64,
}

impl Scale {
    /// For activity in these intervals, in seconds.
    fn new(mut intervals: Vec<(f64, f64)>) -> Self {
        intervals.sort_by(|a, b| a.0.total_cmp(&b.0));
        let active: f64 = intervals.iter().map(|(from, to)| to - from).sum();
        let active = active.max(1e-4);
        let mut merged: Vec<(f64, f64)> = Vec::new();
        for (from, to) in intervals {
            match merged.last_mut() {
                // What is shorter than twice all activity together is worth its width.
                Some(last) if from - last.1 <= 2.0 * active => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        let drawn: f64 = merged.iter().map(|(from, to)| to - from).sum();
        // Room for labels right of the last bar of each stretch.
        let (before, after) = (drawn.max(1e-4) * 0.04, drawn.max(1e-4) * 0.30);
        let breaks = merged.len().saturating_sub(1) as f64;
        let gap = BREAK.min(PLOT * 0.4 / breaks.max(1.0));
        let total: f64 = merged.iter().map(|(f, t)| t - f + before + after).sum();
        let pixels_per_s = (PLOT - gap * breaks) / total.max(1e-9);
        let mut x = GUTTER;
        let stretches = merged
            .iter()
            .map(|(from, to)| {
                let stretch = Stretch {
                    from: from - before,
                    to: to + after,
                    x,
                };
                x += (stretch.to - stretch.from) * pixels_per_s + gap;
                stretch
            })
            .collect();
        Self {
            stretches,
            pixels_per_s,
            gap,
        }
    }

    fn end_of(&self, stretch: &Stretch) -> f64 {
        stretch.x + (stretch.to - stretch.from) * self.pixels_per_s
    }

    /// Where a time is; within a break, at its beginning.
    fn x(&self, s: f64) -> f64 {
        let stretch = self.stretches.iter().rfind(|t| t.from <= s);
        let Some(stretch) = stretch.or(self.stretches.first()) else {
            return GUTTER;
        };
        let x = stretch.x + (s - stretch.from) * self.pixels_per_s;
        x.clamp(stretch.x, self.end_of(stretch))
    }

    fn end(&self) -> f64 {
        self.stretches.last().map_or(GUTTER, |t| self.end_of(t))
    }
}

struct Bar<'a> {
    op: &'a Op,
    x: f64,
    width: f64,
    label: String,
    label_x: f64,
    anchor: &'static str,
    row: usize,
}

struct Lane<'a> {
    name: String,
    first_row: usize,
    rows: usize,
    bars: Vec<Bar<'a>>,
}

/// The picture; `sentence` is its text for those who do not see it.
pub(super) fn draw(ops: &[&Op], faults: &[FaultRecord], last_ns: u64, sentence: &str) -> Markup {
    let end_s = seconds_of(last_ns);
    // An operation that never completed goes on to the end; to scale, only its start is activity.
    let scale = Scale::new(
        ops.iter()
            .map(|op| {
                let from = seconds_of(op.invoke.time);
                let to = op.complete.as_ref().map_or(from, |e| seconds_of(e.time));
                (from, to.max(from))
            })
            .collect(),
    );
    let by_process = lanes(ops, &scale);
    let rows: usize = by_process.iter().map(|l| l.rows).sum();
    let bottom = TOP + rows as f64 * ROW;
    let height = bottom + AXIS;
    html! {
        div.scroll {
            svg width=(WIDTH) height=(r(height)) viewBox=(format!("0 0 {WIDTH} {}", r(height)))
                role="img" aria-label=(sentence) {
                @for lane in &by_process {
                    @let y = TOP + lane.first_row as f64 * ROW;
                    rect class="lane" x=(GUTTER) y=(r(y + 1.0)) width=(r(PLOT)) height=(r(lane.rows as f64 * ROW - 2.0)) {}
                    text x="0" y=(r(y + ROW / 2.0 + 4.0)) { (lane.name) }
                }
                (bands(&scale, faults, end_s, bottom))
                (axis(&scale, bottom))
                @for bar in by_process.iter().flat_map(|l| &l.bars) {
                    @let y = TOP + bar.row as f64 * ROW;
                    g {
                        title { (hover(bar.op)) }
                        rect class=(outcome(bar.op)) x=(r(bar.x)) y=(r(y + (ROW - BAR) / 2.0))
                            width=(r(bar.width)) height=(BAR) rx="2" {}
                        text x=(r(bar.label_x)) y=(r(y + ROW / 2.0 + 4.0)) text-anchor=(bar.anchor) { (bar.label) }
                    }
                }
            }
        }
    }
}

fn lanes<'a>(ops: &[&'a Op], scale: &Scale) -> Vec<Lane<'a>> {
    let mut processes: Vec<&Process> = ops.iter().map(|op| &op.invoke.process).collect();
    processes.sort();
    processes.dedup();
    let mut lanes = Vec::new();
    let mut row = 0;
    for process in processes {
        let mut ends: Vec<f64> = Vec::new();
        let mut bars = Vec::new();
        for op in ops.iter().filter(|op| op.invoke.process == *process) {
            let mut bar = place(op, scale);
            let length = bar.label.chars().count() as f64 * CHAR;
            let (left, right) = if bar.anchor == "end" {
                (bar.label_x - length, bar.x + bar.width)
            } else {
                (bar.x, bar.label_x + length)
            };
            let free = ends.iter().position(|end| *end < left);
            let line = free.unwrap_or(ends.len());
            if free.is_none() {
                ends.push(0.0);
            }
            ends[line] = right + 6.0;
            bar.row = row + line;
            bars.push(bar);
        }
        lanes.push(Lane {
            name: match process {
                Process::Client(n) => format!("process {n}"),
                Process::Nemesis => "nemesis".to_owned(),
                Process::Other(name) => clip(&plain(name), 13),
            },
            first_row: row,
            rows: ends.len(),
            bars,
        });
        row += ends.len();
    }
    lanes
}

/// A bar with its label to the right, or to the left where there is more room.
fn place<'a>(op: &'a Op, scale: &Scale) -> Bar<'a> {
    let x = scale.x(seconds_of(op.invoke.time));
    let end = op
        .complete
        .as_ref()
        .map_or_else(|| scale.end(), |e| scale.x(seconds_of(e.time)));
    let width = (end - x).max(MINIMUM_BAR);
    let label = clip(&label_of(op), LABEL_CHARS);
    let length = label.chars().count() as f64 * CHAR;
    let right = WIDTH - (x + width) - 6.0;
    let left = x - GUTTER - 6.0;
    let (label_x, anchor, room) = if length <= right || right >= left {
        (x + width + 5.0, "start", right)
    } else {
        (x - 5.0, "end", left)
    };
    // A bar as wide as the plot leaves no room beside it: then the label goes over it.
    let (label_x, anchor, room) = if room < length && width > room {
        (x + 5.0, "start", WIDTH - x - 6.0)
    } else {
        (label_x, anchor, room)
    };
    Bar {
        op,
        x,
        width,
        label: clip(&label, (room / CHAR).max(4.0) as usize),
        label_x,
        anchor,
        row: 0,
    }
}

/// `append k7 41 → n3 e2`, `read k7 → [1 2 41] n3 e2`.
fn label_of(op: &Op) -> String {
    let invoke = &op.invoke;
    let mut text = invoke.f.name().to_owned();
    if let Some(key) = &invoke.key {
        text = format!("{text} {key}");
    }
    if !invoke.value.is_nil() && invoke.f != F::Read {
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

fn outcome(op: &Op) -> &'static str {
    match op.complete.as_ref().map(|e| e.kind) {
        Some(Kind::Ok) => "ok",
        Some(Kind::Fail) => "fail",
        _ => "info",
    }
}

fn hover(op: &Op) -> String {
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

fn bands(scale: &Scale, faults: &[FaultRecord], end_s: f64, bottom: f64) -> Markup {
    let mut label_end = 0.0;
    let mut bands = Vec::new();
    for fault in faults {
        let healed = fault.healed_at_s.unwrap_or(end_s);
        let mut named = false;
        for stretch in &scale.stretches {
            let from = fault.injected_at_s.max(stretch.from);
            let to = healed.min(stretch.to);
            if from >= to {
                continue;
            }
            let (x, right) = (scale.x(from), scale.x(to));
            let name = label(fault);
            let length = name.chars().count() as f64 * CHAR;
            let show = !named && x >= label_end && x + length < WIDTH;
            if show {
                named = true;
                label_end = x + length + 8.0;
            }
            bands.push((x, right - x, name, show));
        }
    }
    html! {
        @for (x, width, name, show) in bands {
            g {
                title { (name) }
                rect class="band" x=(r(x)) y=(r(TOP)) width=(r(width.max(1.0))) height=(r(bottom - TOP)) {}
                @if show { text class="fault-text" x=(r(x + 2.0)) y="13" { (name) } }
            }
        }
    }
}

fn axis(scale: &Scale, bottom: f64) -> Markup {
    let span = |t: &Stretch| t.to - t.from;
    let longest = scale.stretches.iter().map(span).fold(0.0, f64::max);
    let step = nice_step((longest / 6.0).max(110.0 / scale.pixels_per_s));
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    html! {
        @for (i, stretch) in scale.stretches.iter().enumerate() {
            @let end = scale.end_of(stretch);
            @let ticks = ticks(stretch, step);
            @for tick in &ticks {
                @let x = scale.x(*tick);
                line class="gridline" x1=(r(x)) x2=(r(x)) y1=(r(TOP)) y2=(r(bottom + 4.0)) {}
                // A number stays clear of the break's own text.
                @if x + 30.0 < end && (i == 0 || x - 30.0 > stretch.x) {
                    text class="soft" x=(r(x)) y=(r(bottom + 17.0)) text-anchor="middle" { (format!("{tick:.decimals$} s")) }
                }
            }
            @if let Some(next) = scale.stretches.get(i + 1) {
                rect class="break" x=(r(end)) y=(r(TOP)) width=(r(scale.gap)) height=(r(bottom - TOP)) {}
                @if scale.gap > 60.0 {
                    text class="soft" x=(r(end + scale.gap / 2.0)) y=(r(bottom + 17.0)) text-anchor="middle" {
                        (format!("⋯ {} ⋯", seconds(next.from - stretch.to)))
                    }
                }
            }
        }
    }
}

/// Round times within a stretch; its middle where none falls into it.
fn ticks(stretch: &Stretch, step: f64) -> Vec<f64> {
    let mut ticks = Vec::new();
    let mut n = (stretch.from / step).ceil().max(0.0);
    while n * step < stretch.to && ticks.len() < 20 {
        ticks.push(n * step);
        n += 1.0;
    }
    if ticks.is_empty() {
        ticks.push(f64::midpoint(stretch.from, stretch.to));
    }
    ticks
}

fn seconds_of(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::fixture;
    use crate::report::html::evidence::Evidence;

    proptest! {
        #[test]
        fn time_never_runs_backwards(
            starts in prop::collection::vec((0.0..1e4_f64, 0.0..2.0_f64), 1..24),
        ) {
            let intervals: Vec<_> = starts.iter().map(|(from, d)| (*from, from + d)).collect();
            let scale = Scale::new(intervals.clone());
            let mut times: Vec<f64> = intervals.iter().flat_map(|(a, b)| [*a, *b]).collect();
            times.sort_by(f64::total_cmp);
            let places: Vec<f64> = times.iter().map(|t| scale.x(*t)).collect();
            prop_assert!(places.is_sorted(), "{places:?}");
            prop_assert!(places.iter().all(|x| (GUTTER - 0.1..=WIDTH).contains(x)));
        }
    }

    #[test]
    fn labels_say_what_was_asked_and_who_answered() {
        let history = fixture::history();
        let summary = fixture::summary();
        let mut evidence = Evidence::choose(&summary);
        history.events.iter().for_each(|e| evidence.record(e));
        let anomaly = evidence.groups[0].shown[0];
        let (ops, _) = evidence.of(anomaly);
        let text = label_of(ops[0]);
        assert!(
            text.starts_with("append k") && text.ends_with("→ n1 e1"),
            "{text}"
        );
        let read = label_of(ops[1]);
        assert!(read.contains("more, ") && read.ends_with("n3 e3"), "{read}");
        let svg = draw(&ops, &summary.faults, evidence.end_ns(), &anomaly.summary).into_string();
        assert!(svg.contains("isolate leader n1"), "{svg}");
        assert!(svg.contains("⋯"), "{svg}");
    }
}
