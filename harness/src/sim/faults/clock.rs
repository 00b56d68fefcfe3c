//! Wrong clocks. Setting one moves the wall clock alone; one that runs fast or slow takes the
//! monotonic one with it. Healing has both run as before and sets the wall clock right; the
//! monotonic one, which nobody can set, keeps what it has gained.

use nemesis::{ClockFault, Node};
use reference_cluster::core::{Event, Time};

use super::super::nodes::SimNode;
use super::super::{Happens, SimSubstrate};
use super::{Active, Before, MS, nodes};

/// A clock counts as right that is wrong by no more than this, nanoseconds.
const RIGHT: i128 = MS as i128;

impl SimNode {
    /// What its clocks show: the monotonic one, and the wall clock.
    pub(super) fn clocks(&self, now: u64) -> (u64, i128) {
        let monotonic = self.clock.local(now);
        (monotonic, i128::from(monotonic) + i128::from(self.step))
    }
}

impl SimSubstrate {
    pub(super) fn disturb_clocks(
        &mut self,
        id: u32,
        active: &mut Active,
        nodes: &[Node],
        fault: ClockFault,
    ) {
        match fault {
            ClockFault::Jump(by_ms) => nodes.iter().for_each(|n| self.set_by(*n, by_ms)),
            ClockFault::Drift(ppm) => nodes.iter().for_each(|n| self.run_faster(*n, ppm)),
            ClockFault::Strobe { .. } => self.next_strobe(id, active, nodes, fault),
        }
    }

    /// Sets clocks forward, or back again.
    pub(super) fn next_strobe(
        &mut self,
        id: u32,
        active: &mut Active,
        nodes: &[Node],
        fault: ClockFault,
    ) {
        let ClockFault::Strobe { by_ms, every_ms } = fault else {
            return;
        };
        if active.on {
            let asked = i128::from(by_ms) * i128::from(MS);
            let shows = nodes.iter().zip(&active.before).all(|(node, before)| {
                let this = &self.nodes[usize::from(*node) - 1];
                (self.gained(this, before).1 - asked).abs() <= asked.abs() / 50 + RIGHT
            });
            active.effective += u32::from(shows);
        }
        active.on = !active.on;
        active.times += 1;
        let by_ms = if active.on { by_ms } else { -by_ms };
        for n in nodes {
            self.set_by(*n, by_ms);
        }
        let at = self.now + every_ms.max(1) * MS;
        self.queue.push(at, Happens::Beat { fault: id });
    }

    pub(super) fn set_clocks_right(&mut self, active: &Active, nodes: &[Node], fault: ClockFault) {
        let now = self.now;
        for (node, before) in nodes.iter().zip(&active.before) {
            if let ClockFault::Drift(_) = fault {
                let drift = self.node(*node).clock.drift_ppm();
                self.run_faster(*node, before.drift_ppm - drift);
            }
            let this = self.node(*node);
            let right = i128::from(this.right.local(now)) - i128::from(this.clock.local(now));
            this.step = i64::try_from(right).unwrap_or(0);
            let step = this.step;
            self.deliver(*node, Event::Stepped(step));
        }
    }

    fn set_by(&mut self, node: Node, by_ms: i64) {
        let this = self.node(node);
        this.step = this
            .step
            .saturating_add(by_ms.saturating_mul(MS.cast_signed()));
        let step = this.step;
        self.deliver(node, Event::Stepped(step));
    }

    fn run_faster(&mut self, node: Node, ppm: i64) {
        let now = self.now;
        let this = self.node(node);
        this.clock = this.clock.faster(now, ppm);
        // What it waits for comes at another time now.
        this.wake = Time::MAX;
        self.carry_out(node);
    }

    pub(super) fn judge_clocks(&self, active: &Active, fault: ClockFault) -> (bool, String) {
        let nodes = nodes(&active.action);
        let all = nodes.len();
        for (node, before) in nodes.iter().zip(&active.before) {
            if self.nodes[usize::from(*node) - 1].handled == before.handled {
                return (false, format!("n{node} has not looked at its clock"));
            }
        }
        if active.healing {
            let right = |node: &&Node| {
                let this = &self.nodes[usize::from(**node) - 1];
                let (_, wall) = this.clocks(self.now);
                let error = wall - i128::from(this.right.local(self.now));
                error.abs() <= RIGHT && this.clock.drift_ppm() == this.right.drift_ppm()
            };
            let right = nodes.iter().filter(right).count();
            return (right == all, format!("{right} of {all} clocks are right"));
        }
        let gains = nodes.iter().zip(&active.before).map(|(node, before)| {
            let this = &self.nodes[usize::from(*node) - 1];
            self.gained(this, before)
        });
        let gains: Vec<(i128, i128)> = gains.collect();
        let ms = |ns: i128| ns as f64 / 1e6;
        // Of what several show, the least that is beyond doubt.
        let least = |which: fn(&(i128, i128)) -> i128| {
            gains.iter().map(which).min_by_key(|gain| gain.abs())
        };
        let (monotonic, wall) = (least(|gain| gain.0), least(|gain| gain.1));
        let (Some(monotonic), Some(wall)) = (monotonic, wall) else {
            return (false, "no node is meant".to_owned());
        };
        let near = |gain: i128, asked: i128| (gain - asked).abs() <= asked.abs() / 50 + RIGHT;
        let asked = |by_ms: i64| i128::from(by_ms) * i128::from(MS);
        match fault {
            ClockFault::Jump(by_ms) => (
                by_ms != 0 && gains.iter().all(|gain| near(gain.1, asked(by_ms))),
                format!("the wall clock shows {:+.1} ms of what it did", ms(wall)),
            ),
            ClockFault::Drift(ppm) => {
                let span = active.before.first().map_or(0, |b| self.now - b.at);
                let asked = i128::from(span) * i128::from(ppm) / 1_000_000;
                let near = |gain: i128| (gain - asked).abs() <= asked.abs() / 50 + 2;
                (
                    ppm != 0 && gains.iter().all(|gain| near(gain.0)),
                    format!(
                        "the clock gained {:+.4} ms in {:.0} ms; {ppm} ppm were asked",
                        ms(monotonic),
                        span as f64 / 1e6
                    ),
                )
            }
            ClockFault::Strobe { by_ms, every_ms } => {
                let now = asked(if active.on { by_ms } else { 0 });
                let wrong = active.effective + u32::from(active.on);
                (
                    by_ms != 0 && wrong > 0 && gains.iter().all(|gain| near(gain.1, now)),
                    format!(
                        "the wall clock was seen to be wrong by {by_ms} ms {wrong} times, and right \
                         between, every {every_ms} ms"
                    ),
                )
            }
        }
    }

    /// What the clocks of a node show more than they would had they gone on as before.
    fn gained(&self, node: &SimNode, before: &Before) -> (i128, i128) {
        let span = i128::from(self.now - before.at);
        let span = span + span * i128::from(before.drift_ppm) / 1_000_000;
        let (monotonic, wall) = node.clocks(self.now);
        (
            i128::from(monotonic) - i128::from(before.clocks.0) - span,
            wall - before.clocks.1 - span,
        )
    }
}
