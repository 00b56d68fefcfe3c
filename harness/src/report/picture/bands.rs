//! When faults were active: from the records of a run, or from what the nemesis of a recorded
//! history says.

use checkers::{Event, Kind, Value};
use maud::{Markup, html};

use super::scale::{Scale, r, seconds_of};
use super::{CHAR, TOP, WIDTH};
use crate::report::FaultRecord;
use crate::report::text::{clip, plain};

const NAME_CHARS: usize = 40;
/// So many faults of a recorded history are kept.
const BANDS_MAX: usize = 1_000;

/// A fault.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::report) struct Band {
    name: String,
    from_s: f64,
    /// None: until the end.
    to_s: Option<f64>,
}

impl Band {
    /// The faults of a run.
    pub(in crate::report) fn of_run(faults: &[FaultRecord]) -> Vec<Self> {
        let band = |fault: &FaultRecord| Self {
            name: format!("{} {}", fault.name, fault.targets.join(" "))
                .trim_end()
                .to_owned(),
            from_s: fault.injected_at_s,
            to_s: fault.healed_at_s,
        };
        faults.iter().map(band).collect()
    }
}

/// Reads the events of a nemesis: `inject` and `heal` of Quorate, and the pairs that Jepsen's
/// packages use (`start-…` and `stop-…`, `start` and `stop`, `kill` and `start`, `pause` and `resume`).
#[derive(Default)]
pub(in crate::report) struct Bands {
    found: Vec<Band>,
    /// What ends it, and which it is.
    open: Vec<(String, usize)>,
}

impl Bands {
    /// Takes in an event of the nemesis.
    pub(in crate::report) fn record(&mut self, event: &Event) {
        let name = event.f.name();
        let at = seconds_of(event.time);
        let (id, what) = match (name, &event.value) {
            ("inject" | "heal", Value::Map(pairs)) => {
                let field = |field: &str| {
                    let found = pairs.iter().find(|(k, _)| k.to_string() == field);
                    found.map(|(_, v)| v.to_string())
                };
                (
                    format!("heal {}", field("id").unwrap_or_default()),
                    field("what"),
                )
            }
            _ => (name.to_owned(), None),
        };
        if name != "inject"
            && let Some(at_open) = self.open.iter().position(|(end, _)| *end == id)
        {
            let (_, band) = self.open[at_open];
            self.found[band].to_s = Some(at);
            if event.kind != Kind::Invoke {
                self.open.swap_remove(at_open);
            }
            return;
        }
        let (end, what) = match name {
            "inject" => (id, what.unwrap_or_else(|| "fault".to_owned())),
            "start" => ("stop".to_owned(), "fault".to_owned()),
            "kill" => ("start".to_owned(), "kill".to_owned()),
            "pause" => ("resume".to_owned(), "pause".to_owned()),
            other => match other.strip_prefix("start-") {
                Some(what) => (format!("stop-{what}"), what.to_owned()),
                None => return,
            },
        };
        let again = self.open.iter().any(|(open, _)| *open == end);
        if !again && self.found.len() < BANDS_MAX {
            self.open.push((end, self.found.len()));
            self.found.push(Band {
                name: clip(&plain(&what), NAME_CHARS),
                from_s: at,
                to_s: None,
            });
        }
    }

    /// The faults found.
    pub(in crate::report) fn found(self) -> Vec<Band> {
        self.found
    }
}

pub(super) fn draw(scale: &Scale, faults: &[Band], end_s: f64, bottom: f64) -> Markup {
    let mut label_end = 0.0;
    let mut bands = Vec::new();
    for fault in faults {
        let healed = fault.to_s.unwrap_or(end_s);
        let mut named = false;
        for stretch in &scale.stretches {
            let from = fault.from_s.max(stretch.from);
            let to = healed.min(stretch.to);
            if from >= to {
                continue;
            }
            let (x, right) = (scale.x(from), scale.x(to));
            let length = fault.name.chars().count() as f64 * CHAR;
            let show = !named && x >= label_end && x + length < WIDTH;
            if show {
                named = true;
                label_end = x + length + 8.0;
            }
            bands.push((x, right - x, &fault.name, show));
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

#[cfg(test)]
mod tests {
    use checkers::{F, Process};

    use super::*;

    fn bands(events: &[(u64, Kind, &str, Value)]) -> Vec<(String, f64, Option<f64>)> {
        let mut bands = Bands::default();
        for (at, kind, f, value) in events {
            let (f, at) = (F::from_name(f), at * 1_000_000_000);
            bands.record(&Event::new(
                0,
                at,
                Process::Nemesis,
                *kind,
                f,
                value.clone(),
            ));
        }
        let found = bands.found().into_iter();
        found.map(|b| (b.name, b.from_s, b.to_s)).collect()
    }

    #[test]
    fn the_nemesis_of_a_recorded_history_tells_its_faults() {
        let fault = |id| {
            let pairs = [("id", Value::Int(id)), ("what", Value::str("kill n1"))];
            let pairs = pairs.map(|(k, v)| (Value::str(k), v));
            Value::Map(pairs.into())
        };
        let nil = || Value::Nil;
        let found = bands(&[
            (1, Kind::Info, "inject", fault(0)),
            (2, Kind::Info, "inject", fault(1)),
            (3, Kind::Info, "heal", fault(0)),
        ]);
        let name = "kill n1".to_owned();
        assert_eq!(found, [(name.clone(), 1.0, Some(3.0)), (name, 2.0, None)]);
        let found = bands(&[
            (1, Kind::Invoke, "start-partition", nil()),
            (2, Kind::Info, "start-partition", nil()),
            (5, Kind::Invoke, "stop-partition", nil()),
            (6, Kind::Info, "stop-partition", nil()),
            (7, Kind::Info, "phase", nil()),
        ]);
        assert_eq!(found, [("partition".to_owned(), 1.0, Some(6.0))]);
    }
}
