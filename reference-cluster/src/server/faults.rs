//! Faults that a node does to itself when told to, if it was started so: an end at a named point
//! of its code, and wrong clocks.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::driver::wall_clock;
use crate::core::Time;

const MILLION: i128 = 1_000_000;
/// The slowest that a clock can run, parts per million.
const SLOWEST_PPM: i64 = -999_999;

/// Where a node can be told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashPoint {
    /// A record is written, and its sync was not begun.
    BeforeFsync,
    /// A record is durable, and the replica was not told.
    BeforeApply,
    /// The replica was told that a record is durable, and nobody else: no reply, no message.
    BeforeReply,
}

impl CrashPoint {
    const ALL: [Self; 3] = [Self::BeforeFsync, Self::BeforeApply, Self::BeforeReply];

    /// As requests and the log have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeFsync => "before-fsync",
            Self::BeforeApply => "before-apply",
            Self::BeforeReply => "before-reply",
        }
    }
}

/// What begins the line of the log that a node writes before it ends at a point.
pub const ENDING_AT: &str = "ending as told at ";

/// The point at which this process is to end, if any.
#[derive(Debug, Default)]
pub(super) struct Trap(AtomicU8);

impl Trap {
    /// Sets or removes it.
    pub fn set(&self, point: Option<CrashPoint>) {
        let place = CrashPoint::ALL.iter().position(|p| Some(*p) == point);
        let number = place.map_or(0, |place| place as u8 + 1);
        self.0.store(number, Ordering::SeqCst);
    }

    /// Ends the process, as `SIGKILL` does, if this is the point.
    pub fn pass(&self, point: CrashPoint) {
        let set = usize::from(self.0.load(Ordering::SeqCst));
        let set = set
            .checked_sub(1)
            .and_then(|place| CrashPoint::ALL.get(place));
        if set != Some(&point) {
            return;
        }
        // Not by way of the log's settings: who told the node to end looks for this line.
        let _ = writeln!(io::stderr(), "{ENDING_AT}{}", point.name());
        while kill_process(getpid(), Signal::KILL).is_ok() {
            std::thread::park_timeout(Duration::from_secs(1));
        }
    }
}

/// How a node's clock can be made wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClockFault {
    /// The wall clock is set forward by so much, or back.
    Jump {
        /// Milliseconds.
        by_ms: i64,
    },
    /// Both clocks run so much faster than they would, or slower; instead of any drift before.
    Drift {
        /// Microseconds gained each second.
        ppm: i64,
    },
    /// The wall clock is set forward and back again, over and over.
    Strobe {
        /// Milliseconds.
        by_ms: i64,
        /// Milliseconds, from 1.
        every_ms: u64,
    },
    /// Both run as they should again, and the wall clock is set right. The monotonic one, which
    /// nobody can set, keeps what it has gained.
    Reset,
}

/// What a node says of its clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// What the wall clock shows, nanoseconds since 1970.
    pub wall_ns: u64,
    /// How much more that is than without any fault.
    pub wall_ahead_ns: i64,
    /// How much more the monotonic clock shows than without any fault.
    pub monotonic_ahead_ns: i64,
}

/// The clocks of a node: one that is monotonic, and the wall clock, which is the same but for
/// having been set. See [`Time`] for what goes by which.
#[derive(Debug)]
pub(super) struct Clock {
    /// When the node started, and what the wall clock showed then.
    started: Instant,
    anchor: Time,
    /// Since when it runs as fast as it does, and what it showed then.
    since: Instant,
    shown: Time,
    ppm: i64,
    /// How far the wall clock was set forward, nanoseconds.
    step: i64,
    strobe: Option<Strobe>,
}

#[derive(Debug)]
struct Strobe {
    by_ns: i64,
    every: Duration,
    next: Instant,
    forward: bool,
}

impl Clock {
    /// One that shows the wall clock's time.
    pub fn start() -> Self {
        let (anchor, started) = (wall_clock(), Instant::now());
        Self {
            started,
            anchor,
            since: started,
            shown: anchor,
            ppm: 0,
            step: 0,
            strobe: None,
        }
    }

    /// What the monotonic clock shows.
    pub fn now(&self) -> Time {
        self.at(Instant::now())
    }

    fn at(&self, instant: Instant) -> Time {
        let passed = instant.saturating_duration_since(self.since).as_nanos() as i128;
        let local = passed + passed * i128::from(self.ppm) / MILLION;
        self.shown.saturating_add(local as Time)
    }

    fn right(&self, instant: Instant) -> Time {
        let passed = instant.saturating_duration_since(self.started);
        self.anchor + passed.as_nanos() as Time
    }

    /// When the monotonic clock will show this.
    pub fn when(&self, time: Time) -> Instant {
        let ahead = i128::from(time.saturating_sub(self.shown));
        let scale = MILLION + i128::from(self.ppm);
        // Rounded up, so that it has come by then.
        let passed = (ahead * MILLION + scale - 1) / scale;
        self.since + Duration::from_nanos(passed as u64)
    }

    /// Makes it wrong, or right.
    pub fn disturb(&mut self, fault: ClockFault, now: Instant) {
        match fault {
            ClockFault::Jump { by_ms } => {
                self.step = self.step.saturating_add(ns(by_ms));
            }
            ClockFault::Drift { ppm } => self.run(now, ppm),
            ClockFault::Strobe { by_ms, every_ms } => {
                self.strobe = Some(Strobe {
                    by_ns: ns(by_ms),
                    every: Duration::from_millis(every_ms.max(1)),
                    next: now,
                    forward: false,
                });
                self.beat(now);
            }
            ClockFault::Reset => {
                self.run(now, 0);
                self.strobe = None;
                let wrong = i128::from(self.right(now)) - i128::from(self.at(now));
                self.step = i64::try_from(wrong).unwrap_or(0);
            }
        }
    }

    fn run(&mut self, now: Instant, ppm: i64) {
        self.shown = self.at(now);
        self.since = now;
        self.ppm = ppm.max(SLOWEST_PPM);
    }

    /// How far the wall clock was set forward, nanoseconds.
    pub fn step(&self) -> i64 {
        self.step
    }

    /// When it is set again, if it is.
    pub fn next_beat(&self) -> Option<Instant> {
        self.strobe.as_ref().map(|strobe| strobe.next)
    }

    /// Sets it forward or back, if it is time to.
    pub fn beat(&mut self, now: Instant) {
        if let Some(strobe) = self.strobe.as_mut()
            && now >= strobe.next
        {
            strobe.forward = !strobe.forward;
            strobe.next += strobe.every;
            let by = if strobe.forward {
                strobe.by_ns
            } else {
                -strobe.by_ns
            };
            self.step = self.step.saturating_add(by);
        }
    }

    /// What it shows, and how wrong that is.
    pub fn reading(&self, now: Instant) -> Clocks {
        let (local, right) = (i128::from(self.at(now)), i128::from(self.right(now)));
        let wall = local + i128::from(self.step);
        let ahead = |shown: i128| i64::try_from(shown - right).unwrap_or(i64::MAX);
        Clocks {
            wall_ns: u64::try_from(wall).unwrap_or(0),
            wall_ahead_ns: ahead(wall),
            monotonic_ahead_ns: ahead(local),
        }
    }
}

fn ns(ms: i64) -> i64 {
    ms.saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_clock_that_is_set_is_monotonic_all_the_same() {
        let mut clock = Clock::start();
        let (before, now) = (clock.now(), Instant::now());
        clock.disturb(ClockFault::Jump { by_ms: -60_000 }, now);
        assert!(clock.now() >= before);
        let said = clock.reading(now + SECOND);
        assert_eq!(said.wall_ahead_ns, -60_000_000_000);
        assert_eq!(said.monotonic_ahead_ns, 0);
        clock.disturb(ClockFault::Reset, now + SECOND);
        assert_eq!(clock.reading(now + SECOND).wall_ahead_ns, 0);
    }

    #[test]
    fn a_clock_that_drifts_takes_both_and_only_the_wall_clock_is_set_right() {
        for ppm in [500_000, -500_000, -2_000_000] {
            let mut clock = Clock::start();
            let begun = clock.started + SECOND;
            clock.disturb(ClockFault::Drift { ppm }, begun);
            let due = clock.when(clock.at(begun) + 3_000_000);
            let now = begun + 2 * SECOND;
            let gained = clock.reading(now).monotonic_ahead_ns;
            assert_eq!(gained, 2_000 * ppm.max(SLOWEST_PPM), "{ppm}");
            assert_eq!(clock.reading(now).wall_ahead_ns, gained);
            // What it waits for comes sooner or later with it.
            assert_eq!(clock.at(due), clock.at(begun) + 3_000_000);
            assert_eq!(due < now, ppm > SLOWEST_PPM);
            clock.disturb(ClockFault::Reset, now);
            let later = clock.reading(now + SECOND);
            assert_eq!(later.wall_ahead_ns, 0);
            assert_eq!(later.monotonic_ahead_ns, gained);
        }
    }

    #[test]
    fn a_strobe_goes_there_and_back() {
        let mut clock = Clock::start();
        let mut now = clock.started;
        let strobe = ClockFault::Strobe {
            by_ms: 500,
            every_ms: 10,
        };
        clock.disturb(strobe, now);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(clock.reading(now).wall_ahead_ns / 1_000_000);
            now += Duration::from_millis(10);
            clock.beat(now);
        }
        assert_eq!(seen, [500, 0, 500, 0]);
        clock.disturb(ClockFault::Reset, now);
        assert_eq!(clock.next_beat(), None);
        assert_eq!(clock.reading(now).wall_ahead_ns, 0);
    }
}
