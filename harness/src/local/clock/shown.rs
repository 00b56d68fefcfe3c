//! What a node shows of its clock, beside the clock of this machine: the proof that a clock is wrong
//! that somebody else has set.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use nemesis::ClockFault;
use tokio::time::{Instant, sleep};

use super::{RIGHT_NS, WATCH, look, ms};

/// A clock that runs fast or slow, or is set over and over, is watched for no longer.
const WATCH_AT_MOST: Duration = Duration::from_secs(4);
/// A clock that is nearer to the machine's counts as right: that one may itself be set meanwhile.
const NEAR_NS: u64 = 50_000_000;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Between which two numbers of nanoseconds a clock is ahead of this machine's: it was read some
/// time between asking and hearing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    least: i64,
    most: i64,
}

impl Ahead {
    /// Of a clock that is this machine's.
    pub const NOT: Self = Self { least: 0, most: 0 };

    /// By how much more than at an earlier reading.
    fn since(self, earlier: Self) -> Self {
        Self {
            least: self.least.saturating_sub(earlier.most),
            most: self.most.saturating_sub(earlier.least),
        }
    }

    fn is_near(self, ns: i64, within: u64) -> bool {
        let within = i64::try_from(within).unwrap_or(i64::MAX);
        self.least.saturating_sub(within) <= ns && ns <= self.most.saturating_add(within)
    }

    fn middle_ms(self) -> f64 {
        f64::midpoint(ms(self.least), ms(self.most))
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A node that says what its clock shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub http: &'a reqwest::Client,
    pub address: SocketAddr,
    /// For how long it is asked again if it does not answer.
    pub patience: Duration,
}

impl Shown<'_> {
    /// How far its clock is ahead.
    pub async fn ahead(self) -> Result<Ahead, String> {
        let until = Instant::now() + self.patience;
        loop {
            let before = now_ns();
            let said = look(self.http, self.address).await;
            let after = now_ns();
            let said = match said {
                Ok(said) => said.wall_ns,
                Err(_) if Instant::now() < until => {
                    sleep(PAUSE).await;
                    continue;
                }
                Err(why) => return Err(why),
            };
            let said = i64::try_from(said)
                .map_err(|_| "it shows a time after the year 2262".to_owned())?;
            return Ok(Ahead {
                least: said.saturating_sub(after),
                most: said.saturating_sub(before),
            });
        }
    }

    /// Sees that the clock is wrong as asked for. It was `before` when that was not begun yet, at
    /// `began`.
    ///
    /// # Errors
    /// What it shows instead.
    pub async fn is_wrong(
        self,
        fault: ClockFault,
        before: Ahead,
        began: Instant,
    ) -> Result<String, String> {
        match fault {
            ClockFault::Jump(by_ms) => {
                let by = self.ahead().await?.since(before);
                let text = format!("shows {:+.1} ms", by.middle_ms());
                let there = by.is_near(by_ms.saturating_mul(1_000_000), RIGHT_NS.unsigned_abs());
                // Where the reading is less exact than that, nothing was seen.
                let moved = !by.is_near(0, 0);
                if there && moved { Ok(text) } else { Err(text) }
            }
            ClockFault::Drift(ppm) => self.drifts(ppm, began).await,
            ClockFault::Strobe { by_ms, every_ms } => self.strobes(by_ms, every_ms, before).await,
        }
    }

    async fn drifts(self, ppm: i64, began: Instant) -> Result<String, String> {
        // The first reading notices the change.
        let first = self.ahead().await?;
        let since = Instant::now();
        loop {
            sleep(WATCH).await;
            let least = since.elapsed();
            let gained = self.ahead().await?.since(first);
            let text = format!(
                "gained {:+.1} ms in {:.0} ms; {ppm} ppm were asked",
                gained.middle_ms(),
                ms(nanos(since.elapsed()))
            );
            if !gained.is_near(0, 0) {
                let asked = |passed: Duration| {
                    i64::try_from(i128::from(nanos(passed)) * i128::from(ppm) / 1_000_000)
                        .unwrap_or(i64::MAX)
                };
                let (a, b) = (asked(least), asked(began.elapsed()));
                let near = gained.least <= a.max(b) && gained.most >= a.min(b);
                return if near { Ok(text) } else { Err(text) };
            }
            if since.elapsed() > WATCH_AT_MOST {
                return Err(format!("{text}: too little to be seen"));
            }
        }
    }

    async fn strobes(self, by_ms: i64, every_ms: u64, before: Ahead) -> Result<String, String> {
        let asked = by_ms.saturating_mul(1_000_000);
        let (mut there, mut back) = (0, 0);
        let enough = WATCH.max(Duration::from_millis(every_ms.saturating_mul(3)));
        // One that is not set back within that time cannot be seen back.
        let lasts = u128::from(every_ms) >= WATCH_AT_MOST.as_millis();
        let began = Instant::now();
        loop {
            let by = self.ahead().await?.since(before);
            let (is_there, is_back) = (
                by.is_near(asked, RIGHT_NS.unsigned_abs()),
                by.is_near(0, RIGHT_NS.unsigned_abs()),
            );
            there += u32::from(is_there && !is_back);
            back += u32::from(is_back && !is_there);
            let both = there > 0 && (back > 0 || lasts);
            let took = began.elapsed();
            if took >= WATCH_AT_MOST || (both && took >= enough) {
                let text = format!("was seen {there} times {by_ms:+} ms ahead, {back} times not");
                return if both { Ok(text) } else { Err(text) };
            }
            sleep(Duration::from_millis((every_ms / 4).clamp(1, 50))).await;
        }
    }

    /// Sees that the clock is what it was before the fault.
    ///
    /// # Errors
    /// What it shows instead.
    pub async fn is_right(self, fault: ClockFault, before: Ahead) -> Result<String, String> {
        let by_ms = match fault {
            ClockFault::Jump(by_ms) | ClockFault::Strobe { by_ms, .. } => by_ms,
            ClockFault::Drift(_) => i64::MAX,
        };
        let near = by_ms.unsigned_abs().saturating_mul(500_000);
        let now = self.ahead().await?.since(before);
        if now.is_near(0, near.min(NEAR_NS)) {
            Ok("is right".to_owned())
        } else {
            Err(format!("it is {:+.1} ms ahead", now.middle_ms()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_by_what_lies_between_asking_and_hearing() {
        let early = Ahead { least: 0, most: 10 };
        let late = Ahead {
            least: 95,
            most: 103,
        };
        let by = late.since(early);
        assert_eq!(
            by,
            Ahead {
                least: 85,
                most: 103
            }
        );
        assert_eq!(late.since(Ahead::NOT), late);
        assert!(by.is_near(100, 0) && by.is_near(80, 5));
        assert!(!by.is_near(80, 4) && !by.is_near(104, 0) && !by.is_near(0, 0));
    }
}
