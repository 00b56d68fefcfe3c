//! The run over time: a lane for each node and each client; what nodes were and held, what they
//! told each other, what clients did, and when faults were active.
//!
//! Time runs to the right but not to scale: a pause of a second is as wide as a few messages, or
//! nothing would be seen of either.

use std::collections::BTreeMap;

use checkers::{F, Kind, Process as Client, Value};
use maud::{Markup, html};
use nemesis::Node;
use reference_cluster::core::Role;

use super::telling::{at, fate};
use super::{Op, Story, contains};
use crate::report::text::{clip, plain};
use crate::shrink::recording::{Fate, Held, Told, Was};
use crate::sim::trace::Process;

const GUTTER: f64 = 74.0;
const RIGHT: f64 = 96.0;
/// The plot is between these wide.
const PLOT: (f64, f64) = (900.0, 1500.0);
const LANE: f64 = 76.0;
const STRIP: f64 = 18.0;
const CLIENT: f64 = 40.0;
const BAR: f64 = 13.0;
const FAULT_ROW: f64 = 16.0;
const AXIS: f64 = 26.0;
const CHAR: f64 = 6.8;
/// Rows of what a node held.
const HELD_ROWS: usize = 2;
const HELD_CHARS: usize = 30;

/// Time to pixels, by the moments at which something happens.
struct Warp {
    moments: Vec<(u64, f64)>,
}

impl Warp {
    fn new(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        times.dedup();
        let mut moments: Vec<(u64, f64)> = Vec::new();
        let mut x = 0.0;
        for at in times {
            if let Some((before, _)) = moments.last() {
                // Each doubling of a pause is worth the same.
                let pause = (at - before) as f64 / 1e5;
                x += 1.5 + 7.0 * (1.0 + pause).log2();
            }
            moments.push((at, x));
        }
        let factor = x.clamp(PLOT.0, PLOT.1) / x.max(1.0);
        for (_, x) in &mut moments {
            *x = GUTTER + *x * factor;
        }
        Self { moments }
    }

    fn x(&self, at: u64) -> f64 {
        let after = self.moments.partition_point(|(time, _)| *time <= at);
        match (
            after.checked_sub(1).map(|i| self.moments[i]),
            self.moments.get(after),
        ) {
            (Some((from, x)), Some((to, end))) => {
                let share = (at - from) as f64 / (to - from).max(1) as f64;
                x + share * (end - x)
            }
            (Some((_, x)), None) => x,
            (None, Some((_, x))) => *x,
            (None, None) => GUTTER,
        }
    }

    fn end(&self) -> f64 {
        self.moments.last().map_or(GUTTER, |(_, x)| *x)
    }
}

/// Where labels are, so that none is drawn over another: from where to where, at which height.
#[derive(Default)]
struct Labels(Vec<(f64, f64, f64)>);

/// Where along an arrow its label is tried.
const PLACES: [f64; 7] = [0.5, 0.35, 0.65, 0.25, 0.75, 0.15, 0.85];

impl Labels {
    /// Whether there is room, which is then taken.
    fn take(&mut self, x: f64, y: f64, chars: usize) -> bool {
        let end = x + chars as f64 * CHAR + 4.0;
        let free =
            |&(from, to, at): &(f64, f64, f64)| x > to || end < from || (y - at).abs() > 11.0;
        let room = self.0.iter().all(free);
        if room {
            self.0.push((x, end, y));
        }
        room
    }
}

struct Layout<'s> {
    story: &'s Story,
    warp: Warp,
    top: f64,
    clients: Vec<&'s Client>,
}

impl Layout<'_> {
    fn lane(&self, node: Node) -> f64 {
        self.top + f64::from(node - 1) * LANE
    }

    /// The middle of a node's strip, where messages start and end.
    fn middle(&self, node: Node) -> f64 {
        self.lane(node) + 6.0 + STRIP / 2.0
    }

    fn client(&self, process: &Client) -> f64 {
        let row = self.clients.iter().position(|p| *p == process).unwrap_or(0);
        self.lane(self.story.nodes + 1) + 8.0 + row as f64 * CLIENT
    }

    fn bottom(&self) -> f64 {
        self.lane(self.story.nodes + 1) + 8.0 + self.clients.len() as f64 * CLIENT
    }

    fn width(&self) -> f64 {
        self.warp.end() + RIGHT
    }
}

/// The picture.
pub(super) fn draw(story: &Story) -> Markup {
    let mut clients: Vec<&Client> = story.ops.iter().map(|op| &op.invoke.process).collect();
    clients.sort();
    clients.dedup();
    let layout = Layout {
        warp: Warp::new(moments(story)),
        top: story.faults.len().min(6) as f64 * FAULT_ROW + 8.0,
        clients,
        story,
    };
    let (width, bottom) = (layout.width(), layout.bottom());
    let height = bottom + AXIS;
    let mut labels = Labels::default();
    // First, for they are what it is about: other labels give way.
    let holdings = html! {
        @for node in 1..=story.nodes { (held(&layout, node, &mut labels)) }
    };
    html! {
        svg.evidence.story width=(r(width)) height=(r(height)) viewBox=(format!("0 0 {} {}", r(width), r(height)))
            role="img" aria-label=(super::paragraph(story)) xmlns="http://www.w3.org/2000/svg" {
            defs {
                pattern #paused width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect width="2" height="5" class="fail-fill" {}
                }
            }
            @for node in 1..=story.nodes {
                rect class="lane" x=(GUTTER) y=(r(layout.lane(node) + 2.0)) width=(r(width - GUTTER)) height=(LANE - 4.0) {}
                text class="who" x="4" y=(r(layout.middle(node) + 4.0)) { "n" (node) }
                @for (row, key) in story.keys.iter().take(HELD_ROWS).enumerate() {
                    text class="soft" x="4" y=(r(layout.lane(node) + 44.0 + row as f64 * 15.0)) { (clip(key, 9)) }
                }
            }
            @for process in &layout.clients {
                @let y = layout.client(process);
                rect class="lane" x=(GUTTER) y=(r(y + 1.0)) width=(r(width - GUTTER)) height=(CLIENT - 2.0) {}
                text class="who" x="4" y=(r(y + CLIENT - 12.0)) { (name(process)) }
            }
            (axis(&layout))
            (faults(&layout))
            @for node in 1..=story.nodes { (strip(&layout, node)) }
            @for told in &story.messages { (message(&layout, told, &mut labels)) }
            @for op in &story.ops { (call(&layout, op)) }
            (holdings)
            (bars(&layout))
        }
    }
}

/// Every time at which something that is drawn happens.
fn moments(story: &Story) -> Vec<u64> {
    let (from, to) = story.window;
    let mut all = vec![from, to];
    for op in &story.ops {
        all.extend([op.invoke.time, op.end()]);
        all.extend(op.at_node.map(|(_, at)| at));
    }
    for told in &story.messages {
        all.extend([told.sent, told.at]);
    }
    all.extend(story.recording.roles.iter().map(|was| was.at));
    for fault in &story.faults {
        all.push(fault.begun);
        all.extend(fault.healed);
    }
    for key in &story.keys {
        for node in 1..=story.nodes {
            all.extend(story.held(node, key).iter().map(|held| held.at));
        }
    }
    all.retain(|at| (from..=to).contains(at));
    all
}

fn axis(layout: &Layout<'_>) -> Markup {
    let bottom = layout.bottom();
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for (time, x) in &layout.warp.moments {
        let text = at(*time);
        let free = ticks
            .last()
            .map_or(GUTTER - 1.0, |(x, t)| x + t.len() as f64 * CHAR + 14.0);
        if *x >= free {
            // As exact as it takes to tell it from the one before.
            let exact = format!("{:.4} s", *time as f64 / 1e9);
            let same = ticks.last().is_some_and(|(_, before)| *before == text);
            ticks.push((*x, if same { exact } else { text }));
        }
    }
    html! {
        @for (x, text) in ticks {
            line class="gridline" x1=(r(x)) x2=(r(x)) y1=(r(layout.top)) y2=(r(bottom + 4.0)) {}
            text class="soft" x=(r(x)) y=(r(bottom + 17.0)) { (text) }
        }
    }
}

/// The nodes that a fault is on, by name.
fn targets(story: &Story, names: &[String]) -> Vec<Node> {
    let number = |name: &String| name.strip_prefix('n').and_then(|n| n.parse().ok());
    let nodes = names.iter().filter_map(number);
    nodes
        .filter(|node| (1..=story.nodes).contains(node))
        .collect()
}

fn faults(layout: &Layout<'_>) -> Markup {
    let story = layout.story;
    let shown = story.faults.iter().take(6).enumerate();
    html! {
        @for (row, fault) in shown {
            @let healed = fault.healed.unwrap_or(story.window.1);
            @let (from, to) = (layout.warp.x(fault.begun), layout.warp.x(healed));
            @let y = row as f64 * FAULT_ROW;
            @let until = fault.healed.map_or_else(|| "the end".to_owned(), at);
            g {
                title { (fault.what) ": " (at(fault.begun)) " to " (until) }
                rect class="fault-bar" x=(r(from)) y=(r(y + 13.0)) width=(r((to - from).max(2.0))) height="2.5" {}
                text class="fault-text" x=(r(from)) y=(r(y + 10.0)) { (clip(&plain(&fault.what), 60)) }
                @for node in targets(story, &fault.targets) {
                    rect class="struck" x=(r(from)) y=(r(layout.lane(node) + 2.0)) width=(r((to - from).max(2.0))) height=(LANE - 4.0) {}
                }
            }
        }
    }
}

/// What a node was over time.
fn strip(layout: &Layout<'_>, node: Node) -> Markup {
    let story = layout.story;
    let (from, to) = story.window;
    let mut spans: Vec<(u64, Was)> = Vec::new();
    spans.extend(story.recording.was(node, from).map(|was| (from, was)));
    let inside = story.recording.roles.iter();
    let inside = inside.filter(|was| was.node == node && was.at > from && was.at <= to);
    spans.extend(inside.map(|was| (was.at, *was)));
    let y = layout.lane(node) + 6.0;
    html! {
        @for (i, (begun, was)) in spans.iter().enumerate() {
            @let ended = spans.get(i + 1).map_or(to, |(at, _)| *at);
            @let (x, end) = (layout.warp.x(*begun), layout.warp.x(ended));
            @let end = if ended == to { layout.width() - 2.0 } else { end };
            @let (class, words) = look(was);
            @let room = ((end - x - 8.0) / CHAR).max(0.0) as usize;
            g {
                title { "n" (node) " " (words) ": from " (at(was.at)) }
                @if was.process == Process::Down {
                    line class="axis" x1=(r(x)) x2=(r(end)) y1=(r(y + STRIP / 2.0)) y2=(r(y + STRIP / 2.0)) stroke-dasharray="3 3" {}
                } @else {
                    rect class=(class) x=(r(x)) y=(r(y)) width=(r((end - x).max(1.5))) height=(STRIP) rx="2" {}
                }
                @if was.process == Process::Paused {
                    rect fill="url(#paused)" x=(r(x)) y=(r(y)) width=(r((end - x).max(1.5))) height=(STRIP) {}
                }
                @if room >= words.chars().count() {
                    @let solid = class.starts_with('e') && !class.contains("follows");
                    text class=(if solid { "on-epoch" } else { "halo-lane" }) x=(r(x + 5.0)) y=(r(y + 13.0)) { (words) }
                }
            }
        }
    }
}

/// Class and words of what a node was.
fn look(was: &Was) -> (String, String) {
    let Some((role, epoch)) = was.role.filter(|_| was.process != Process::Down) else {
        return (String::new(), "down".to_owned());
    };
    let name = match epoch {
        0 => role.name().to_owned(),
        _ => format!("{} e{epoch}", role.name()),
    };
    let name = match was.process {
        Process::Paused => format!("{name}, paused"),
        _ => name,
    };
    let class = match role {
        Role::Leader => format!("e{}", epoch % 6),
        _ => format!("e{} follows", epoch % 6),
    };
    (class, name)
}

fn message(layout: &Layout<'_>, told: &Told, labels: &mut Labels) -> Markup {
    let (x1, y1) = (layout.warp.x(told.sent), layout.middle(told.from));
    let (x2, y2) = (
        layout.warp.x(told.at.max(told.sent)),
        layout.middle(told.to),
    );
    let down = if y2 > y1 { 1.0 } else { -1.0 };
    let (y1, y2) = (y1 + down * STRIP / 2.0, y2 - down * STRIP / 2.0);
    // What never arrived ends half way.
    let arrives = told.fate == Fate::Arrived;
    let (x2, y2) = if arrives {
        (x2, y2)
    } else {
        let x2 = if told.fate == Fate::Nobody {
            x2
        } else {
            x1 + 10.0
        };
        let reach = (y2 - y1).abs().min(30.0);
        (x1.midpoint(x2).max(x1 + 5.0), y1 + down * reach)
    };
    let class = match (told.fate, told.purpose) {
        (Fate::Arrived, reference_cluster::core::observe::Purpose::Election) => "edge vote",
        (Fate::Arrived, reference_cluster::core::observe::Purpose::Routine) => "edge confirm",
        (Fate::Arrived, _) => "edge from",
        _ => "edge missed",
    };
    let chars = told.kind.chars().count();
    let place = if arrives {
        let along = |share: f64| (x1 + share * (x2 - x1) + 5.0, y1 + share * (y2 - y1) + 3.0);
        let strips = 1..=layout.story.nodes;
        let clear = |y: f64| {
            strips
                .clone()
                .all(|n| (layout.middle(n) + 4.0 - y).abs() > STRIP / 2.0 + 6.0)
        };
        let mut places = PLACES.map(along).into_iter().filter(|(_, y)| clear(*y));
        places.find(|(x, y)| labels.take(*x, *y, chars))
    } else {
        let place = (x2 + 7.0, y2 + 4.0);
        labels.take(place.0, place.1, chars).then_some(place)
    };
    let angle = (y2 - y1).atan2(x2 - x1);
    let (cos, sin) = (angle.cos(), angle.sin());
    let tip = |back: f64, side: f64| (x2 - cos * back - sin * side, y2 - sin * back + cos * side);
    let ((ax, ay), (bx, by)) = (tip(7.0, 3.0), tip(7.0, -3.0));
    html! {
        g class=(class) {
            title { (words(told)) }
            path.line d=(format!("M{} {} L{} {}", r(x1), r(y1), r(x2), r(y2))) {}
            @if arrives {
                path.head d=(format!("M{} {} L{} {} L{} {} Z", r(x2), r(y2), r(ax), r(ay), r(bx), r(by))) {}
            } @else {
                path.line d=(format!("M{} {} l8 8 m-8 0 l8 -8", r(x2 - 4.0), r(y2 - 4.0))) stroke-dasharray="none" {}
            }
            @if let Some((x, y)) = place { text class="halo-lane" x=(r(x)) y=(r(y)) { (told.kind) } }
        }
    }
}

/// All that is known of a message.
fn words(told: &Told) -> String {
    let entries = match told.entries {
        Some((first, last)) if first == last => format!(" {first}"),
        Some((first, last)) => format!(" {first} to {last}"),
        None => String::new(),
    };
    let when = match told.fate {
        Fate::Arrived => format!("arrived {:.6} s", told.at as f64 / 1e9),
        other => fate(other).to_owned(),
    };
    format!(
        "n{} → n{}: {}{entries}\nsent {:.6} s, {when}",
        told.from,
        told.to,
        told.kind,
        told.sent as f64 / 1e9
    )
}

/// The way of an operation to the node and back.
fn call(layout: &Layout<'_>, op: &Op) -> Markup {
    let Some((node, served)) = op.at_node else {
        return html! {};
    };
    if !(1..=layout.story.nodes).contains(&node) {
        return html! {};
    }
    let bar = layout.client(&op.invoke.process) + CLIENT - BAR - 8.0;
    let y = layout.middle(node) + STRIP / 2.0;
    let x = layout.warp.x(served);
    let begun = layout.warp.x(op.invoke.time);
    let ended = op.complete.as_ref().filter(|done| done.kind == Kind::Ok);
    let faint = if op.proves {
        "edge call"
    } else {
        "edge call context"
    };
    html! {
        g class=(faint) {
            path.line d=(format!("M{} {} L{} {}", r(begun), r(bar), r(x), r(y))) {}
            circle class="head" cx=(r(x)) cy=(r(y)) r="2.5" {}
            @if let Some(done) = ended {
                path.line d=(format!("M{} {} L{} {}", r(x), r(y), r(layout.warp.x(done.time)), r(bar))) {}
            }
        }
    }
}

/// What a node held, at each change.
fn held(layout: &Layout<'_>, node: Node, labels: &mut Labels) -> Markup {
    let story = layout.story;
    let mut drawn: Vec<(f64, f64, &'static str, String, String)> = Vec::new();
    for (row, key) in story.keys.iter().take(HELD_ROWS).enumerate() {
        let rows = if story.keys.len() == 1 { HELD_ROWS } else { 1 };
        let y = layout.lane(node) + 44.0 + row as f64 * 15.0;
        let mut free = [GUTTER; HELD_ROWS];
        let mut had: Option<&Held> = None;
        let changes = story.held(node, key);
        if changes
            .first()
            .is_none_or(|first| first.at > story.window.0)
        {
            let hover = format!("n{node} holds nothing of {key}");
            let nothing = "nothing".to_owned();
            labels.take(GUTTER, y, nothing.len());
            free[0] = GUTTER + 7.0 * CHAR + 10.0;
            drawn.push((GUTTER, y, "soft", nothing, hover));
        }
        for held in changes {
            let at_x = layout.warp.x(held.at.max(story.window.0));
            let has = |h: &Held, w: &Value| h.value.as_ref().is_some_and(|v| contains(v, w));
            let gained = story
                .written
                .iter()
                .any(|w| has(held, w) && had.is_none_or(|before| !has(before, w)));
            let lost = story
                .written
                .iter()
                .any(|w| had.is_some_and(|before| has(before, w)) && !has(held, w));
            let runs = story
                .recording
                .was(node, held.at)
                .is_some_and(|was| was.process != Process::Down);
            had = Some(held);
            if !runs {
                continue;
            }
            let text = shown(held.value.as_ref());
            let class = match (gained, lost) {
                (_, true) => "fault-text",
                (true, _) => "gained",
                _ => "soft",
            };
            let chars = text.chars().count() as f64 * CHAR + 10.0;
            let line = (0..rows).find(|line| free[*line] <= at_x);
            let hover = format!(
                "n{node} holds {key} = {} from {:.6} s",
                held.value
                    .as_ref()
                    .map_or("nothing".to_owned(), |v| clip(&v.to_string(), 400)),
                held.at as f64 / 1e9
            );
            let text = if line.is_some() { text } else { String::new() };
            let line = line.unwrap_or(0);
            let y = y + line as f64 * 15.0;
            if !text.is_empty() {
                free[line] = at_x + chars;
                labels.take(at_x, y, text.chars().count());
            }
            drawn.push((at_x, y, class, text, hover));
        }
    }
    let strip = layout.lane(node) + 6.0 + STRIP;
    html! {
        @for (x, y, class, text, hover) in drawn {
            g {
                title { (hover) }
                line class="holds" x1=(r(x)) x2=(r(x)) y1=(r(strip)) y2=(r(if text.is_empty() { strip + 6.0 } else { y })) {}
                text class=(class) x=(r(x + 3.0)) y=(r(y)) { (text) }
            }
        }
    }
}

/// A value in a few characters: of a long list its end, where the news is.
fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "nothing".to_owned();
    };
    let text = plain(&value.to_string());
    match value.items() {
        Some(items) if text.chars().count() > HELD_CHARS => {
            let last: Vec<String> = items
                .iter()
                .rev()
                .take(4)
                .map(ToString::to_string)
                .collect();
            let last: Vec<String> = last.into_iter().rev().collect();
            clip(&format!("[… {}]", last.join(" ")), HELD_CHARS)
        }
        _ => clip(&text, HELD_CHARS),
    }
}

/// What clients did.
fn bars(layout: &Layout<'_>) -> Markup {
    let mut free: BTreeMap<&Client, f64> = BTreeMap::new();
    html! {
        @for op in &layout.story.ops {
            @let (x, end) = (layout.warp.x(op.invoke.time), layout.warp.x(op.end()));
            @let y = layout.client(&op.invoke.process);
            @let text = clip(&label(op), 44);
            @let from = free.entry(&op.invoke.process).or_insert(GUTTER);
            @let room = *from <= x;
            @if room { ({ *from = x + text.chars().count() as f64 * CHAR + 8.0; "" }) }
            g class=(if op.proves { "" } else { "context" }) {
                title { (label(op)) "\n" (at(op.invoke.time)) " to " (at(op.end())) }
                rect class=(class(op)) x=(r(x)) y=(r(y + CLIENT - BAR - 8.0)) width=(r((end - x).max(4.0))) height=(BAR) rx="2" {}
                @if room { text class=(if op.proves { "who halo-lane" } else { "halo-lane" }) x=(r(x)) y=(r(y + 14.0)) { (text) } }
            }
        }
    }
}

fn class(op: &Op) -> String {
    let outcome = match op.complete.as_ref().map(|done| done.kind) {
        Some(Kind::Ok) => "ok",
        Some(Kind::Fail) => "fail",
        _ => "info",
    };
    let reads = matches!(op.invoke.f, F::Read | F::Inspect);
    format!("{outcome}{}", if reads { " reads" } else { "" })
}

/// `append 41 → ok n1 e1`, `read → [1 2] n3`.
fn label(op: &Op) -> String {
    let invoke = &op.invoke;
    let mut text = invoke.f.name().to_owned();
    if !invoke.value.is_nil() && invoke.f != F::Read {
        text = format!("{text} {}", shown(Some(&invoke.value)));
    }
    let done = op.complete.as_ref();
    text += match done.map(|done| done.kind) {
        Some(Kind::Ok) => " →",
        Some(Kind::Fail) => " → refused",
        _ => " → unknown",
    };
    let ok = done.filter(|done| done.kind == Kind::Ok);
    if let Some(done) = ok {
        if matches!(invoke.f, F::Read | F::Inspect) {
            text = format!("{text} {}", shown(Some(&done.value)));
        } else {
            text += " ok";
        }
    }
    if let Some(node) = done
        .and_then(|done| done.node.as_ref())
        .or(invoke.node.as_ref())
    {
        text = format!("{text} {node}");
    }
    plain(&text)
}

fn name(process: &Client) -> String {
    match process {
        Client::Client(n) => format!("client {n}"),
        Client::Nemesis => "nemesis".to_owned(),
        Client::Other(name) => clip(&plain(name), 10),
    }
}

/// A tenth of a pixel is enough.
fn r(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::{Labels, Warp};

    #[test]
    fn time_never_runs_backwards_and_a_second_is_not_a_thousand_milliseconds_wide() {
        let ms = 1_000_000;
        let warp = Warp::new(vec![0, ms, 2 * ms, 1002 * ms, 1003 * ms]);
        let x: Vec<f64> = (0..=1003).map(|at| warp.x(at * ms)).collect();
        assert!(x.is_sorted(), "{x:?}");
        let (step, second) = (x[1] - x[0], x[1002] - x[2]);
        assert!(second > step && second < 10.0 * step, "{step} {second}");
    }

    #[test]
    fn no_label_is_drawn_over_another() {
        let mut labels = Labels::default();
        assert!(labels.take(100.0, 50.0, 10));
        assert!(!labels.take(120.0, 55.0, 10));
        assert!(labels.take(120.0, 70.0, 10));
        assert!(labels.take(200.0, 50.0, 10));
    }
}
