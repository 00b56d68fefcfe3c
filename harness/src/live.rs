//! What is shown on stderr while a run goes on: a live panel of two lines on a terminal, plain lines
//! otherwise. A harness in a pod says the same as JSON in its log, and whoever follows that log shows it.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::report::screen;
use crate::report::text::{clip, plain};
use crate::runner::{Counts, Observer, Phase, Snapshot};

/// How often plain lines are written, nanoseconds of the run's clock.
const PLAIN_EVERY: u64 = 5_000_000_000;

/// What a line begins with that is meant for whoever follows the log of a pod.
const RELAYED: &str = "quorate-live ";
/// How often such lines are written, nanoseconds of the run's clock.
const RELAY_EVERY: u64 = 500_000_000;

/// What is relayed: a step, or a [`Snapshot`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Relayed {
    Step(String),
    Run {
        now: u64,
        ends: u64,
        phase: Phase,
        counts: Counts,
        leader: Option<u16>,
        faults: Vec<String>,
    },
}

impl Relayed {
    fn write(&self) {
        if let Ok(json) = serde_json::to_string(self) {
            eprintln!("{RELAYED}{json}");
        }
    }
}

/// Shows the progress of one run.
pub struct Live {
    bar: Option<ProgressBar>,
    relayed: bool,
    next_plain: u64,
    last: (u64, Counts),
    rate: f64,
    phase: Option<Phase>,
    faults: Vec<String>,
    one_leader: bool,
}

impl Live {
    /// Shows a live line if stderr is a terminal, plain lines otherwise; the leader in them if the
    /// mode has one.
    pub fn new(one_leader: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner:.cyan} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        Self {
            bar,
            relayed: false,
            next_plain: 0,
            last: (0, Counts::default()),
            rate: 0.0,
            phase: None,
            faults: Vec::new(),
            one_leader,
        }
    }

    /// Writes to stderr what [`Self::relay`] shows elsewhere.
    pub fn relayed(one_leader: bool) -> Self {
        Self {
            bar: None,
            relayed: true,
            ..Self::new(one_leader)
        }
    }

    /// Whether a line is one that [`Self::relayed`] has written.
    pub fn is_relayed(line: &str) -> bool {
        line.starts_with(RELAYED)
    }

    /// Shows a line of the log of a pod: as a progress if it is one, else as it is.
    pub fn relay(&mut self, line: &str) {
        let relayed = line
            .strip_prefix(RELAYED)
            .and_then(|json| serde_json::from_str(json).ok());
        match relayed {
            Some(Relayed::Step(text)) => self.step(&text),
            Some(Relayed::Run {
                now,
                ends,
                phase,
                counts,
                leader,
                faults,
            }) => self.observe(&Snapshot {
                now,
                ends,
                phase,
                counts,
                leader,
                faults: &faults,
            }),
            None => match &self.bar {
                Some(bar) => bar.suspend(|| eprintln!("{line}")),
                None => eprintln!("{line}"),
            },
        }
    }

    /// Shows what is being done when no run is under way.
    pub fn step(&mut self, text: &str) {
        if self.relayed {
            return Relayed::Step(text.to_owned()).write();
        }
        match &self.bar {
            Some(bar) => {
                bar.set_message(text.to_owned());
                bar.tick();
            }
            None => eprintln!("{text}"),
        }
    }

    /// Takes the live line away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The figures, and the faults now active.
    fn lines(&self, s: &Snapshot<'_>) -> [String; 2] {
        let left = s.ends.saturating_sub(s.now) / 1_000_000_000;
        let what = match s.phase {
            Phase::Main if s.ends == u64::MAX => "schedule under way".to_owned(),
            Phase::Main => format!("{left:>3} s left"),
            Phase::Healing => "healing".to_owned(),
            Phase::Recovering => "recovering".to_owned(),
            Phase::Final => "final reads".to_owned(),
            Phase::Inspecting => "asking every replica what it holds".to_owned(),
        };
        let Counts { ok, fail, info } = s.counts;
        let leader = match (self.one_leader, s.phase, s.leader) {
            (true, _, Some(node)) => format!(" | leader n{node}"),
            (true, Phase::Main, None) if s.now > 0 => " | leader none".to_owned(),
            // There is none, or nobody has been asked yet.
            _ => String::new(),
        };
        let faults = if s.faults.is_empty() {
            "none".to_owned()
        } else {
            s.faults.join("; ")
        };
        [
            format!(
                "{what} | {:.0} ops/s | ok {ok} fail {fail} info {info}{leader}",
                self.rate
            ),
            format!("faults: {faults}"),
        ]
    }
}

/// Two lines that fit a terminal of so many columns, behind a spinner: a line that wraps flickers.
fn panel([figures, faults]: &[String; 2], columns: usize) -> String {
    let room = columns.saturating_sub(3).max(1);
    format!(
        "{}\n  {}",
        clip(&plain(figures), room),
        clip(&plain(faults), room)
    )
}

impl Observer for Live {
    fn observe(&mut self, snapshot: &Snapshot<'_>) {
        let changed = self.phase != Some(snapshot.phase) || self.faults != snapshot.faults;
        if self.relayed {
            if changed || snapshot.now >= self.next_plain {
                self.phase = Some(snapshot.phase);
                self.faults = snapshot.faults.to_vec();
                self.next_plain = snapshot.now + RELAY_EVERY;
                let Snapshot {
                    now,
                    ends,
                    phase,
                    counts,
                    leader,
                    faults,
                } = *snapshot;
                let faults = faults.to_vec();
                Relayed::Run {
                    now,
                    ends,
                    phase,
                    counts,
                    leader,
                    faults,
                }
                .write();
            }
            return;
        }
        let total = |c: &Counts| c.ok + c.fail + c.info;
        let (then, before) = self.last;
        let elapsed = snapshot.now.saturating_sub(then);
        // Over a second at least; at the start over what there is.
        if elapsed >= 1_000_000_000 || (then == 0 && elapsed > 0) {
            let done = total(&snapshot.counts).saturating_sub(total(&before));
            self.rate = done as f64 * 1e9 / elapsed as f64;
        }
        if elapsed >= 1_000_000_000 {
            self.last = (snapshot.now, snapshot.counts);
        }
        if let Some(bar) = &self.bar {
            let columns = screen::columns(&std::io::stderr()).unwrap_or(80);
            bar.set_message(panel(&self.lines(snapshot), columns));
            bar.tick();
            return;
        }
        if changed || snapshot.now >= self.next_plain {
            self.phase = Some(snapshot.phase);
            self.faults = snapshot.faults.to_vec();
            self.next_plain = snapshot.now + PLAIN_EVERY;
            eprintln!(
                "[{:>5.1} s] {}",
                snapshot.now as f64 / 1e9,
                self.lines(snapshot).join(" | ")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_panel_shows_everything_and_never_wraps() {
        let mut live = Live {
            bar: None,
            relayed: false,
            next_plain: 0,
            last: (0, Counts::default()),
            rate: 197.4,
            phase: None,
            faults: Vec::new(),
            one_leader: true,
        };
        let faults = ["kill n1 (leader)".to_owned(), "slow n3: ".repeat(30)];
        let snapshot = Snapshot {
            now: 5_000_000_000,
            ends: 25_000_000_000,
            phase: Phase::Main,
            counts: Counts {
                ok: 1050,
                fail: 263,
                info: 1,
            },
            leader: Some(2),
            faults: &faults,
        };
        let lines = live.lines(&snapshot);
        assert_eq!(
            lines[0],
            " 20 s left | 197 ops/s | ok 1050 fail 263 info 1 | leader n2"
        );
        assert!(lines[1].starts_with("faults: kill n1 (leader); slow n3"));
        for columns in [40, 80, 120] {
            let panel = panel(&lines, columns);
            assert_eq!(panel.lines().count(), 2);
            assert!(
                panel.lines().all(|l| l.chars().count() < columns),
                "{panel}"
            );
        }
        assert!(panel(&lines, 80).contains("leader n2"));
        live.one_leader = false;
        let figures = &live.lines(&snapshot)[0];
        assert!(!figures.contains("leader"), "{figures}");
    }
}
