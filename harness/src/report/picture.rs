//! The operations that prove an anomaly, drawn by process over real time: one bar an operation, from
//! its invocation to its completion; what never completed fades out. Arrows lead from a write to
//! what read it, and from an operation to those that began after its end. Other
//! operations on the same key stand faintly around. Faults are bands.
//!
//! The picture is an SVG element of the page: no script, no network, and the colours of the page.
//!
//! * [`scale`]: the axis of time.
//! * [`bands`]: when faults were active.
//! * [`edges`]: what read from what, and what came after what.
//! * [`words`]: the texts.

pub(crate) mod bands;
mod edges;
pub(in crate::report) mod scale;
mod words;

use checkers::{Event, F, Process};
use maud::{Markup, html};

use crate::report::text::{clip, plain};
use bands::Band;
use scale::{Scale, r, seconds_of};
use words::{hover, label_of, outcome};

const WIDTH: f64 = 1024.0;
const GUTTER: f64 = 96.0;
const PLOT: f64 = WIDTH - GUTTER - 8.0;
const ROW: f64 = 34.0;
const BAR: f64 = 14.0;
const TOP: f64 = 20.0;
const AXIS: f64 = 24.0;
const CHAR: f64 = 6.8;
const LABEL_CHARS: usize = 60;
const MINIMUM_BAR: f64 = 4.0;
/// Lanes of processes that have nothing to do with the anomaly.
const CONTEXT_LANES: usize = 3;
/// Slices of a bar that fades out.
const FADE: u32 = 14;

/// An operation as far as it was recorded.
#[derive(Clone, Debug)]
pub(in crate::report) struct Op {
    pub(in crate::report) invoke: Event,
    pub(in crate::report) complete: Option<Event>,
}

/// What a picture shows.
pub(in crate::report) struct Scene<'a> {
    /// The operations that prove the anomaly.
    pub(in crate::report) core: Vec<&'a Op>,
    /// Others around them.
    pub(in crate::report) context: Vec<&'a Op>,
    /// The faults of the run.
    pub(in crate::report) bands: &'a [Band],
    /// Time of the last event, ns.
    pub(in crate::report) end_ns: u64,
    /// Its text for those who do not see it.
    pub(in crate::report) sentence: &'a str,
}

struct Bar<'a> {
    op: &'a Op,
    x: f64,
    width: f64,
    /// Where it begins to fade, if it is open-ended.
    fades: Option<f64>,
    label: String,
    label_x: f64,
    anchor: &'static str,
    row: usize,
    is_core: bool,
}

impl Bar<'_> {
    /// The middle of its height.
    fn middle(&self) -> f64 {
        TOP + self.row as f64 * ROW + ROW / 2.0
    }

    fn end(&self) -> f64 {
        self.x + self.width
    }
}

struct Lane<'a> {
    name: String,
    first_row: usize,
    rows: usize,
    is_core: bool,
    bars: Vec<Bar<'a>>,
}

/// The picture.
pub(in crate::report) fn draw(scene: &Scene<'_>) -> Markup {
    // An operation that never completed goes on to the end; to scale, only its start is activity.
    let scale = Scale::new(scene.core.iter().map(|op| span(op)).collect());
    let lanes = lanes(scene, &scale);
    let rows: usize = lanes.iter().map(|l| l.rows).sum();
    let bottom = TOP + rows as f64 * ROW;
    let height = bottom + AXIS;
    let bars: Vec<&Bar<'_>> = lanes.iter().flat_map(|l| &l.bars).collect();
    let (core, context): (Vec<&Bar<'_>>, Vec<&Bar<'_>>) = bars.iter().partition(|b| b.is_core);
    html! {
        div.scroll {
            svg.evidence width=(WIDTH) height=(r(height)) viewBox=(format!("0 0 {WIDTH} {}", r(height)))
                role="img" aria-label=(scene.sentence) {
                @for lane in &lanes {
                    @let y = TOP + lane.first_row as f64 * ROW;
                    rect class="lane" x=(GUTTER) y=(r(y + 1.0)) width=(r(PLOT)) height=(r(lane.rows as f64 * ROW - 2.0)) {}
                    text class=(if lane.is_core { "who" } else { "soft" }) x="0" y=(r(y + ROW / 2.0 + 4.0)) { (lane.name) }
                }
                (bands::draw(&scale, scene.bands, seconds_of(scene.end_ns), bottom))
                (scale::axis(&scale, bottom))
                @for bar in context {
                    g.context { title { (hover(bar.op)) } (shape(bar)) }
                }
                (edges::draw(&core))
                @for bar in core {
                    g {
                        title { (hover(bar.op)) }
                        (shape(bar))
                        text.halo x=(r(bar.label_x)) y=(r(bar.middle() + 4.0)) text-anchor=(bar.anchor) { (bar.label) }
                    }
                }
            }
        }
    }
}

/// When an operation was active, in seconds.
fn span(op: &Op) -> (f64, f64) {
    let from = seconds_of(op.invoke.time);
    let to = op.complete.as_ref().map_or(from, |e| seconds_of(e.time));
    (from, to.max(from))
}

fn shape(bar: &Bar<'_>) -> Markup {
    let (y, outcome) = (bar.middle() - BAR / 2.0, outcome(bar.op));
    let reads = matches!(bar.op.invoke.f, F::Read | F::Inspect);
    let class = format!("{outcome}{}", if reads { " reads" } else { "" });
    html! {
        @match bar.fades {
            None => {
                rect class=(class) x=(r(bar.x)) y=(r(y)) width=(r(bar.width)) height=(BAR) rx="2" {}
            }
            Some(from) => {
                @if from > bar.x {
                    rect class="open" x=(r(bar.x)) y=(r(y)) width=(r(from - bar.x)) height=(BAR) {}
                }
                @let slice = (bar.end() - from) / f64::from(FADE);
                @for i in 0..FADE {
                    @let faint = 1.0 - f64::from(i) / f64::from(FADE);
                    rect class="open" opacity=(format!("{:.2}", faint * faint)) x=(r(from + f64::from(i) * slice)) y=(r(y))
                        width=(r(slice)) height=(BAR) {}
                }
            }
        }
    }
}

fn lanes<'a>(scene: &Scene<'a>, scale: &Scale) -> Vec<Lane<'a>> {
    let processes_of = |ops: &[&'a Op]| -> Vec<&'a Process> {
        let mut processes: Vec<&Process> = ops.iter().map(|op| &op.invoke.process).collect();
        processes.sort();
        processes.dedup();
        processes
    };
    let of_core = processes_of(&scene.core);
    let visible = |op: &&&'a Op| {
        let (from, to) = span(op);
        scale.stretches.iter().any(|s| from < s.to && to > s.from)
    };
    let context: Vec<&'a Op> = scene.context.iter().filter(visible).copied().collect();
    let mut others = processes_of(&context);
    others.retain(|p| !of_core.contains(p));
    others.truncate(CONTEXT_LANES);
    let mut processes = [of_core.clone(), others].concat();
    processes.sort();
    let mut lanes = Vec::new();
    let mut row = 0;
    for process in processes {
        let mut ends: Vec<f64> = Vec::new();
        let mut bars = Vec::new();
        for op in scene.core.iter().filter(|op| op.invoke.process == *process) {
            let mut bar = place(op, scale);
            let length = bar.label.chars().count() as f64 * CHAR;
            let (left, right) = if bar.anchor == "end" {
                (bar.label_x - length, bar.end())
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
        let rows = ends.len().max(1);
        for op in context.iter().filter(|op| op.invoke.process == *process) {
            bars.extend(faint(op, scale, row));
        }
        lanes.push(Lane {
            name: match process {
                Process::Client(n) => format!("process {n}"),
                Process::Nemesis => "nemesis".to_owned(),
                Process::Other(name) => clip(&plain(name), 13),
            },
            first_row: row,
            rows,
            is_core: of_core.contains(&process),
            bars,
        });
        row += rows;
    }
    lanes
}

/// A bar without a label, cut to what is drawn of the time.
fn faint<'a>(op: &'a Op, scale: &Scale, row: usize) -> Option<Bar<'a>> {
    let (from, to) = span(op);
    let inside = |t: &&scale::Stretch| from < t.to && to > t.from;
    let stretch = scale.stretches.iter().find(inside)?;
    let (x, end) = (scale.x(from.max(stretch.from)), scale.x(to.min(stretch.to)));
    Some(Bar {
        op,
        x,
        width: (end - x).max(MINIMUM_BAR / 2.0),
        fades: None,
        label: String::new(),
        label_x: x,
        anchor: "start",
        row,
        is_core: false,
    })
}

/// A bar with its label to the right, or to the left where there is more room.
fn place<'a>(op: &'a Op, scale: &Scale) -> Bar<'a> {
    let (from, to) = span(op);
    let x = scale.x(from);
    let open = outcome(op) == "info";
    let known = scale.x(to);
    let end = if open { scale.end() } else { known };
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
        fades: open.then_some(known),
        label: clip(&label, (room / CHAR).max(4.0) as usize),
        label_x,
        anchor,
        row: 0,
        is_core: true,
    }
}

#[cfg(test)]
mod tests;
