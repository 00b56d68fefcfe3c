//! Real time to pixels: stretches to one common scale, with breaks where nothing happens for long.

use maud::{Markup, html};

use super::{GUTTER, PLOT, TOP};
use crate::report::text::seconds;

const BREAK: f64 = 72.0;

/// A stretch of time that is drawn to scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stretch {
    pub(super) from: f64,
    pub(super) to: f64,
    x: f64,
}

/// Real time to pixels: stretches to one common scale, with breaks between them.
#[derive(Debug)]
pub(super) struct Scale {
    pub(super) stretches: Vec<Stretch>,
    pixels_per_s: f64,
    gap: f64,
}

impl Scale {
    /// For activity in these intervals, in seconds.
    pub(super) fn new(mut intervals: Vec<(f64, f64)>) -> Self {
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
    pub(super) fn x(&self, s: f64) -> f64 {
        let stretch = self.stretches.iter().rfind(|t| t.from <= s);
        let Some(stretch) = stretch.or(self.stretches.first()) else {
            return GUTTER;
        };
        let x = stretch.x + (s - stretch.from) * self.pixels_per_s;
        x.clamp(stretch.x, self.end_of(stretch))
    }

    pub(super) fn end(&self) -> f64 {
        self.stretches.last().map_or(GUTTER, |t| self.end_of(t))
    }
}

/// The times below the rows, and the breaks.
pub(super) fn axis(scale: &Scale, bottom: f64) -> Markup {
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

/// The smallest of 1, 2 or 5 times a power of ten that is at least this.
pub(in crate::report) fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|m| m * power)
        .find(|step| *step >= least * 0.999)
        .unwrap_or(10.0 * power)
}

/// A tenth of a pixel is enough.
pub(in crate::report) fn r(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

/// Nanoseconds as seconds.
pub(super) fn seconds_of(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::WIDTH;
    use super::*;

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
}
