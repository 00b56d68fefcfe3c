//! Estimates with their intervals, a line a mode, faults below each other; an SVG for each measure.

use maud::{Markup, html};

use super::measure::{Estimate, Unit};
use super::words::{estimated, interval, said, value};
use crate::report::text::clip;

/// One line of a plot.
pub struct Line<'a> {
    /// The mode.
    pub label: &'a str,
    /// Which colour: the mode's place.
    pub colour: usize,
    /// The dot and the bar around it.
    pub estimate: Estimate,
    /// A ring: the worst that was seen.
    pub worst: Option<Estimate>,
}

const WIDTH: f64 = 530.0;
const LEFT: f64 = 168.0;
const RIGHT: f64 = 78.0;
const ROW: f64 = 19.0;
const COLOURS: usize = 6;

/// From numbers to places on the plot.
struct Axis {
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Axis {
    fn of(unit: Unit, values: &[f64]) -> Self {
        let greatest = values.iter().copied().fold(0.0, f64::max);
        let positive = values.iter().copied().filter(|v| *v > 0.0);
        let least = positive.fold(f64::INFINITY, f64::min);
        let time = matches!(unit, Unit::Seconds | Unit::Milliseconds);
        if time && least.is_finite() && greatest / least > 40.0 {
            return Self {
                logarithmic: true,
                from: 10_f64.powf(least.log10().floor()),
                to: 10_f64.powf(greatest.log10().ceil()),
            };
        }
        let to = match unit {
            // A share near its whole or its end is still seen as a part of it.
            Unit::Share if greatest > 0.5 => 1.0,
            _ if greatest > 0.0 => greatest,
            _ => 1.0,
        };
        Self {
            logarithmic: false,
            from: 0.0,
            to,
        }
    }

    fn x(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.from).log10() - self.from.log10())
                / (self.to.log10() - self.from.log10())
        } else {
            (value - self.from) / (self.to - self.from)
        };
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = (self.to.log10() - self.from.log10()).round() as i32;
            let every = (decades / 4).max(1);
            return (0..=decades)
                .step_by(every as usize)
                .map(|decade| self.from * 10_f64.powi(decade))
                .collect();
        }
        let rough = (self.to - self.from) / 4.0;
        let size = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * size)
            .into_iter()
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(rough);
        (0..=5)
            // Without what binary fractions leave: 0.3, not 0.30000000000000004.
            .map(|i| (f64::from(i) * step * 1e9).round() / 1e9)
            .take_while(|tick| *tick <= self.to * 1.001)
            .collect()
    }
}

/// Draws a measure: of each fault its lines. `None` if nothing of it was measured.
pub fn draw(title: &str, unit: Unit, groups: &[(&str, Vec<Line<'_>>)]) -> Option<Markup> {
    let lines = || groups.iter().flat_map(|(_, lines)| lines);
    let numbers: Vec<f64> = lines()
        .flat_map(|line| {
            let worst = line.worst.and_then(|w| w.value);
            [
                line.estimate.value,
                line.estimate.low,
                line.estimate.high,
                worst,
            ]
        })
        .flatten()
        .collect();
    lines().find(|line| line.estimate.value.is_some() || line.estimate.never)?;
    let axis = Axis::of(unit, &numbers);
    let rows = groups.len() + lines().count();
    let bottom = ROW * rows as f64 + 4.0;
    let mut row = 0.0;
    let mut next = || {
        row += 1.0;
        ROW * row - ROW / 2.0 + 2.0
    };
    Some(html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", bottom + 18.0)) role="img" aria-label=(title) {
            @for tick in axis.ticks() {
                @let x = axis.x(tick);
                line.gridline x1=(x) y1="2" x2=(x) y2=(bottom) {}
                text.soft x=(x) y=(bottom + 13.0) text-anchor="middle" { (said(unit, tick)) }
            }
            @for (group, lines) in groups {
                @let y = next();
                text.group x="0" y=(y + 4.0) { (group) }
                @for line in lines {
                    (draw_line(line, unit, &axis, next()))
                }
            }
        }
    })
}

fn draw_line(line: &Line<'_>, unit: Unit, axis: &Axis, y: f64) -> Markup {
    let colour = format!("color:var(--e{})", line.colour % COLOURS);
    let estimate = &line.estimate;
    let worst = line.worst.and_then(|w| w.value);
    html! {
        g style=(colour) {
            title {
                (line.label) ": " (estimated(unit, estimate))
                @if let Some(worst) = worst { ", worst " (said(unit, worst)) }
            }
            text x="12" y=(y + 4.0) { (clip(line.label, 23)) }
            @if let Some(ends) = estimate.interval() {
                line stroke="currentColor" stroke-width="5" stroke-opacity=".32" stroke-linecap="round"
                    x1=(axis.x(ends.low)) x2=(axis.x(ends.high)) y1=(y) y2=(y) {}
            }
            @if let Some(worst) = worst {
                circle fill="none" stroke="currentColor" stroke-width="1.5" cx=(axis.x(worst)) cy=(y) r="3.5" {}
            }
            @if let Some(dot) = estimate.value {
                circle fill="currentColor" cx=(axis.x(dot)) cy=(y) r="4.5" {}
            }
            text.soft x=(WIDTH) y=(y + 4.0) text-anchor="end" { (value(unit, estimate)) }
            @if let Some(interval) = interval(unit, estimate) { desc { (interval) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: f64) -> Estimate {
        Estimate {
            value: Some(value),
            low: Some(value * 0.9),
            high: Some(value * 1.1),
            n: 20,
            never: false,
        }
    }

    fn line(estimate: Estimate) -> Line<'static> {
        Line {
            label: "raft",
            colour: 0,
            estimate,
            worst: None,
        }
    }

    #[test]
    fn nothing_measured_is_no_plot() {
        let lines = vec![line(Estimate::default())];
        assert!(draw("x", Unit::Share, &[("kill", lines)]).is_none());
    }

    #[test]
    fn values_far_apart_in_time_are_both_seen() {
        let axis = Axis::of(Unit::Seconds, &[0.002, 3.0]);
        assert!(axis.logarithmic);
        assert!(axis.x(0.002) > LEFT && axis.x(3.0) < WIDTH - RIGHT);
        assert!(axis.x(0.0) >= LEFT, "no time at all is at the edge");
        let near = Axis::of(Unit::Seconds, &[1.0, 3.0]);
        assert!(!near.logarithmic && near.x(0.0) <= LEFT);
    }

    #[test]
    fn ticks_lie_on_the_axis() {
        for greatest in [0.003, 0.7, 1.0, 42.0, 1_999.0] {
            let axis = Axis::of(Unit::OperationsPerSecond, &[greatest]);
            let ticks = axis.ticks();
            assert!((3..=6).contains(&ticks.len()), "{greatest}: {ticks:?}");
            assert!(ticks.iter().all(|t| *t <= greatest * 1.01));
        }
        let shares = Axis::of(Unit::Share, &[0.39]).ticks();
        assert_eq!(shares, [0.0, 0.1, 0.2, 0.3]);
        let svg = draw("x", Unit::Seconds, &[("kill", vec![line(at(1.2))])]).unwrap();
        assert!(svg.into_string().contains("1.20 s"));
    }
}
