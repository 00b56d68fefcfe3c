//! What a decision has cost so far, and the limits that it must not exceed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Limits;

/// What all keys of one check share.
#[derive(Debug)]
pub struct Totals {
    begun: Instant,
    /// Bytes in use now, by all searches together.
    bytes: AtomicU64,
    configurations: AtomicU64,
    stopped: AtomicBool,
}

#[expect(clippy::disallowed_methods, reason = "limits of time need a clock")]
fn now() -> Instant {
    Instant::now()
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            begun: now(),
            bytes: AtomicU64::new(0),
            configurations: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }
}

impl Totals {
    /// Makes every search end soon, undecided.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether the searches are to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Time of one key or (`true`) of all.
    Time(Duration, bool),
    /// Bytes of one key or (`true`) of all.
    Bytes(u64, bool),
    /// Configurations of one key or (`true`) of all.
    Configurations(u64, bool),
    /// Another key failed, and that is enough.
    Stopped,
}

impl Spent {
    /// `budget: 30 s`.
    pub fn reason(self) -> String {
        let of = |total: bool| if total { " in all" } else { "" };
        match self {
            Self::Time(limit, total) => format!("budget: {} s{}", limit.as_secs_f64(), of(total)),
            Self::Bytes(limit, total) if limit >> 20 == 0 => {
                format!("budget: {} KiB{}", limit >> 10, of(total))
            }
            Self::Bytes(limit, total) => format!("budget: {} MiB{}", limit >> 20, of(total)),
            Self::Configurations(limit, total) => {
                format!("budget: {limit} configurations{}", of(total))
            }
            Self::Stopped => "not judged: another key failed first".to_owned(),
        }
    }

    /// The option that moves the limit.
    pub fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::Time(_, false) => "more time for each key",
            Self::Time(_, true) => "more time in all",
            Self::Bytes(_, false) => "more memory for each key",
            Self::Bytes(_, true) => "more memory in all",
            Self::Configurations(_, false) => "more configurations for each key",
            Self::Configurations(_, true) => "more configurations in all",
            Self::Stopped => return None,
        })
    }
}

/// The clock is read and the totals are updated once in so many configurations.
const SLICE: u64 = 1024;

/// Counts what one search uses, and gives back its share of the totals when it ends.
pub struct Meter<'t> {
    limits: Limits,
    totals: Option<&'t Totals>,
    begun: Instant,
    configurations: u64,
    reported: u64,
    bytes: u64,
    next_look: u64,
}

/// A [`Meter`] of whatever lifetime.
pub(super) trait Spend {
    /// As [`Meter::spend`].
    fn spend(&mut self, configurations: u64, bytes: u64) -> Result<(), Spent>;
}

impl Spend for Meter<'_> {
    fn spend(&mut self, configurations: u64, bytes: u64) -> Result<(), Spent> {
        Meter::spend(self, configurations, bytes)
    }
}

impl<'t> Meter<'t> {
    /// Of one search. Without totals the limits in all do not count.
    pub fn new(limits: &Limits, totals: Option<&'t Totals>) -> Self {
        Self {
            limits: *limits,
            totals,
            begun: now(),
            configurations: 0,
            reported: 0,
            bytes: 0,
            next_look: 0,
        }
    }

    /// Counts configurations that were made, and bytes as they are in use now.
    ///
    /// # Errors
    ///
    /// The limit that was reached.
    pub fn spend(&mut self, configurations: u64, bytes: u64) -> Result<(), Spent> {
        self.configurations += configurations;
        if let Some(limit) = self.limits.per_key_configurations
            && self.configurations > limit
        {
            return Err(Spent::Configurations(limit, false));
        }
        if let Some(limit) = self.limits.per_key_bytes
            && bytes > limit
        {
            return Err(Spent::Bytes(limit, false));
        }
        let grown = bytes > self.bytes + (1 << 16);
        if self.configurations >= self.next_look || grown {
            self.next_look = self.configurations + SLICE;
            return self.look(bytes);
        }
        Ok(())
    }

    fn look(&mut self, bytes: u64) -> Result<(), Spent> {
        if let Some(limit) = self.limits.per_key
            && now().duration_since(self.begun) > limit
        {
            return Err(Spent::Time(limit, false));
        }
        let Some(totals) = self.totals else {
            self.bytes = bytes;
            return Ok(());
        };
        // Wraps round when less is in use than before, which the addition undoes.
        let change = bytes.wrapping_sub(self.bytes);
        let in_use = totals.bytes.fetch_add(change, Ordering::Relaxed);
        self.bytes = bytes;
        let in_use = in_use.wrapping_add(change);
        let made = self.configurations - self.reported;
        self.reported = self.configurations;
        let made = totals.configurations.fetch_add(made, Ordering::Relaxed) + made;
        if totals.is_stopped() {
            return Err(Spent::Stopped);
        }
        if let Some(limit) = self.limits.total
            && now().duration_since(totals.begun) > limit
        {
            return Err(Spent::Time(limit, true));
        }
        if let Some(limit) = self.limits.total_bytes
            && in_use > limit
        {
            return Err(Spent::Bytes(limit, true));
        }
        if let Some(limit) = self.limits.total_configurations
            && made > limit
        {
            return Err(Spent::Configurations(limit, true));
        }
        Ok(())
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        if let Some(totals) = self.totals {
            let made = self.configurations - self.reported;
            totals.configurations.fetch_add(made, Ordering::Relaxed);
            totals.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}
