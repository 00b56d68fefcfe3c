//! Which node acknowledged writes in which epoch, over time: split brain at a glance.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkers::{Event, Kind, Process, Verdict};
use maud::{Markup, html};

use super::buckets::Buckets;
use super::series::label;
use crate::report::Summary;
use crate::report::figures::write_windows;
use crate::report::picture::scale::{nice_step, r};
use crate::report::tally::Open;
use crate::report::text::seconds;

const WIDTH: f64 = 1040.0;
const GUTTER: f64 = 52.0;
const ROW: f64 = 30.0;
const FAULT_ROW: f64 = 18.0;
const AXIS: f64 = 22.0;
/// Colours of epochs, reused in turn.
const COLOURS: u64 = 6;
const CHAR: f64 = 6.8;

/// The writes that one node acknowledged in one epoch.
#[derive(Debug)]
struct Reign {
    acks: Buckets<u32>,
    /// The earliest end of an acknowledged write: from then on the node certainly took writes.
    first_end_ns: u64,
    /// The latest beginning of one: until then it certainly took writes.
    last_begin_ns: u64,
}

/// Collects acknowledgements while events stream by.
#[derive(Default)]
pub(super) struct Roles {
    open: Open<u64>,
    reigns: BTreeMap<(Arc<str>, u64), Reign>,
}

impl Roles {
    pub(super) fn record(&mut self, event: &Event) {
        if event.process == Process::Nemesis || !event.f.is_write() {
            return;
        }
        if event.kind == Kind::Invoke {
            self.open.invoke(&event.process, event.time);
            return;
        }
        let Some(began) = self.open.complete(&event.process) else {
            return;
        };
        let witnessed = event.epoch.is_some() || event.role.is_some();
        let (Kind::Ok, Some(node), true) = (event.kind, &event.node, witnessed) else {
            return;
        };
        // Where there is no leader, there are no epochs.
        let epoch = event.epoch.unwrap_or(0);
        let reign = self
            .reigns
            .entry((node.clone(), epoch))
            .or_insert_with(|| Reign {
                acks: Buckets::new(62_500_000, 480),
                first_end_ns: event.time,
                last_begin_ns: began,
            });
        reign.first_end_ns = reign.first_end_ns.min(event.time);
        reign.last_begin_ns = reign.last_begin_ns.max(began);
        *reign.acks.at(event.time) += 1;
    }

    /// Whether writes were acknowledged in epochs, as leaders do it.
    pub(super) fn have_epochs(&self) -> bool {
        self.reigns.keys().any(|(_, epoch)| *epoch > 0)
    }

    /// Times in seconds in which two nodes certainly took writes, each between two of the other's.
    fn overlaps(&self) -> Vec<(f64, f64)> {
        let reigns: Vec<_> = self.reigns.iter().collect();
        let mut overlaps = Vec::new();
        if !self.have_epochs() {
            return overlaps;
        }
        for (i, ((node, _), a)) in reigns.iter().enumerate() {
            for ((other, _), b) in &reigns[i + 1..] {
                let from = a.first_end_ns.max(b.first_end_ns);
                let to = a.last_begin_ns.min(b.last_begin_ns);
                if node != other && from < to {
                    overlaps.push((from as f64 / 1e9, to as f64 / 1e9));
                }
            }
        }
        overlaps.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut merged: Vec<(f64, f64)> = Vec::new();
        for (from, to) in overlaps {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        merged
    }

    /// The picture; none if no answer carried a witness.
    pub(super) fn draw(&self, summary: &Summary, end_s: f64) -> Option<Markup> {
        if self.reigns.is_empty() || end_s <= 0.0 {
            return None;
        }
        let mut nodes: Vec<&str> = summary.nodes.iter().map(String::as_str).collect();
        for (node, _) in self.reigns.keys() {
            if !nodes.contains(&&**node) {
                nodes.push(node);
            }
        }
        let x = |s: f64| GUTTER + (WIDTH - GUTTER - 8.0) * (s / end_s).clamp(0.0, 1.0);
        let (fault_rows, fault_bars) = fault_bars(summary, end_s, &x);
        let top = fault_rows as f64 * FAULT_ROW + 8.0;
        let outages = write_windows(summary);
        let outage_row = top + nodes.len() as f64 * ROW;
        let bottom = outage_row + if outages.is_empty() { 0.0 } else { ROW };
        let height = bottom + AXIS;
        // By design in modes with several leaders: only the checker knows whether it is a fault.
        let wrong = summary
            .result("split-brain")
            .is_some_and(|r| r.verdict == Verdict::Invalid);
        let overlaps = if wrong { self.overlaps() } else { Vec::new() };
        let row_of = |node: &str| {
            let row = nodes.iter().position(|n| *n == node)?;
            Some(top + row as f64 * ROW)
        };
        Some(html! {
            svg width=(WIDTH) height=(height) viewBox=(format!("0 0 {WIDTH} {height}")) role="img"
                aria-label="Which node acknowledged writes in which epoch, over time" {
                @for bar in &fault_bars {
                    g {
                        title { (bar.hover) }
                        rect class=(if bar.seen { "fault-bar" } else { "fault-bar unseen" })
                            x=(r(bar.x)) y=(r(bar.y + 12.0)) width=(r(bar.width)) height="3" {}
                        text class="fault-text" x=(r(bar.text_x)) y=(r(bar.y + 9.0)) { (bar.label) }
                    }
                }
                @for (i, node) in nodes.iter().enumerate() {
                    @let y = top + i as f64 * ROW;
                    rect class="lane" x=(GUTTER) y=(r(y + 2.0)) width=(r(WIDTH - GUTTER - 8.0)) height=(ROW - 4.0) {}
                    text x="4" y=(r(y + ROW / 2.0 + 4.0)) { (node) }
                }
                @for fault in &summary.faults {
                    @for y in fault.targets.iter().filter_map(|t| row_of(t)) {
                        @let from = x(fault.injected_at_s);
                        @let to = x(fault.healed_at_s.unwrap_or(end_s));
                        rect class="struck" x=(r(from)) y=(r(y + 2.0)) width=(r((to - from).max(1.0))) height=(ROW - 4.0) {
                            title { (label(fault)) }
                        }
                    }
                }
                @for ((node, epoch), reign) in &self.reigns {
                    @if let Some(y) = row_of(node) {
                        (draw_reign(node, *epoch, reign, y, &x))
                    }
                }
                @for (i, (from, to)) in overlaps.iter().enumerate() {
                    rect class="both" x=(r(x(*from))) y=(r(top - 1.0)) width=(r((x(*to) - x(*from)).max(2.0)))
                        height=(r(outage_row - top + 2.0)) rx="3" {
                        title { (format!("two nodes acknowledged writes: {from:.3} s to {to:.3} s")) }
                    }
                    @if i == 0 {
                        text class="both-text" x=(r(x(*from) + 6.0)) y=(r(outage_row - 8.0)) {
                            (format!("split brain {:.2} s", to - from))
                        }
                    }
                }
                @if !outages.is_empty() {
                    text class="soft" x="4" y=(r(outage_row + ROW / 2.0 + 4.0)) { "none" }
                }
                @for (from, to) in &outages {
                    g {
                        title { (format!("no write was acknowledged: {from:.3} s to {to:.3} s")) }
                        rect class="outage" x=(r(x(*from))) y=(r(outage_row + 9.0)) width=(r((x(*to) - x(*from)).max(2.0)))
                            height=(ROW - 18.0) rx="2" {}
                        text class="soft" x=(r(x(*to) + 5.0)) y=(r(outage_row + ROW / 2.0 + 4.0)) { (seconds(to - from)) }
                    }
                }
                (axis(end_s, bottom, &x))
            }
        })
    }
}

fn draw_reign(node: &str, epoch: u64, reign: &Reign, y: f64, x: &impl Fn(f64) -> f64) -> Markup {
    let width = reign.acks.width_s();
    let mut runs: Vec<(usize, usize, u32)> = Vec::new();
    for (i, count) in reign.acks.slices().iter().enumerate() {
        if *count == 0 {
            continue;
        }
        match runs.last_mut() {
            // One empty slice is not yet a pause.
            Some((_, end, sum)) if i <= *end + 1 => {
                *end = i + 1;
                *sum += count;
            }
            _ => runs.push((i, i + 1, *count)),
        }
    }
    let name = match epoch {
        0 => String::new(),
        _ => format!("epoch {epoch}"),
    };
    let during = match epoch {
        0 => String::new(),
        _ => format!(" in {name}"),
    };
    html! {
        @for (from, to, count) in runs {
            @let (from_s, to_s) = (from as f64 * width, to as f64 * width);
            @let (left, right) = (x(from_s), x(to_s));
            g {
                title { (format!("{node} acknowledged {count} writes{during}, {from_s:.2} s to {to_s:.2} s")) }
                rect class=(format!("e{}", epoch % COLOURS)) x=(r(left)) y=(r(y + 6.0))
                    width=(r((right - left).max(1.5))) height=(ROW - 12.0) rx="2" {}
                @if !name.is_empty() && right - left > name.len() as f64 * CHAR + 8.0 {
                    text class="on-epoch" x=(r(left + 5.0)) y=(r(y + ROW / 2.0 + 4.0)) { (name) }
                }
            }
        }
    }
}

struct FaultBar {
    x: f64,
    y: f64,
    width: f64,
    text_x: f64,
    label: String,
    hover: String,
    seen: bool,
}

/// The faults above the strips, on as many rows as their names need, at most four.
fn fault_bars(summary: &Summary, end_s: f64, x: &impl Fn(f64) -> f64) -> (usize, Vec<FaultBar>) {
    let mut taken: Vec<f64> = Vec::new();
    let mut bars = Vec::new();
    for fault in &summary.faults {
        let (from, to) = (
            x(fault.injected_at_s),
            x(fault.healed_at_s.unwrap_or(end_s)),
        );
        let label = label(fault);
        let name_width = label.chars().count() as f64 * CHAR;
        let name_x = from.min(WIDTH - name_width - 8.0).max(GUTTER);
        let row = match taken.iter().position(|end| *end <= name_x.min(from)) {
            Some(row) => row,
            None if taken.len() < 4 => {
                taken.push(0.0);
                taken.len() - 1
            }
            None => continue,
        };
        taken[row] = to.max(name_x + name_width) + 6.0;
        bars.push(FaultBar {
            x: from,
            y: row as f64 * FAULT_ROW,
            width: (to - from).max(2.0),
            text_x: name_x,
            hover: format!("{label}: {}", fault.proof),
            label,
            seen: fault.seen,
        });
    }
    (taken.len(), bars)
}

fn axis(end_s: f64, y: f64, x: &impl Fn(f64) -> f64) -> Markup {
    let step = nice_step(end_s / 8.0);
    let ticks = (end_s / step).floor() as u32;
    html! {
        @for i in 0..=ticks {
            @let s = f64::from(i) * step;
            line class="axis" x1=(r(x(s))) x2=(r(x(s))) y1=(r(y)) y2=(r(y + 5.0)) {}
            text class="soft" x=(r(x(s))) y=(r(y + 17.0)) text-anchor=(if i == 0 { "start" } else if x(s) + 20.0 > WIDTH { "end" } else { "middle" }) {
                (format!("{} s", (s * 1e6).round() / 1e6))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn roles() -> Roles {
        let mut roles = Roles::default();
        fixture::history()
            .events
            .iter()
            .for_each(|e| roles.record(e));
        roles
    }

    #[test]
    fn overlap_is_where_both_took_writes() {
        let overlaps = roles().overlaps();
        assert_eq!(overlaps.len(), 1, "{overlaps:?}");
        let (from, to) = overlaps[0];
        assert!(
            (6.7..7.2).contains(&from) && (11.5..12.1).contains(&to),
            "{overlaps:?}"
        );
    }

    #[test]
    fn overlap_is_marked_only_where_the_checker_says_so() {
        let summary = fixture::summary();
        let drawn = roles()
            .draw(&summary, 30.0)
            .expect("witnesses")
            .into_string();
        assert!(drawn.contains("split brain 5."), "{drawn}");
        let drawn = roles()
            .draw(&fixture::valid(), 30.0)
            .expect("witnesses")
            .into_string();
        assert!(!drawn.contains("split brain"));
        assert!(Roles::default().draw(&summary, 30.0).is_none());
    }

    #[test]
    fn steps_are_round() {
        assert!((nice_step(3.75) - 5.0).abs() < 1e-9);
        assert!((nice_step(0.012) - 0.02).abs() < 1e-9);
        assert!((nice_step(7.0) - 10.0).abs() < 1e-9);
    }
}
