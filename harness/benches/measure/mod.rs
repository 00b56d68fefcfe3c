//! What benches read of this process: time on the processor and peak memory, from `/proc`.

use std::fs;
use std::time::{Duration, Instant};

/// A span of wall time, and of processor time of all threads that live at its end.
pub struct Span {
    started: Instant,
    cpu: Duration,
}

impl Span {
    /// Begins now; also forgets the peak of memory so far.
    pub fn begin() -> Self {
        // Writing 5 resets the peak (proc(5)). Where it is refused the peak is that of the process.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self {
            started: Instant::now(),
            cpu: cpu(),
        }
    }

    /// Wall time and processor time since the beginning, in seconds.
    pub fn end(&self) -> (f64, f64) {
        let wall = self.started.elapsed().as_secs_f64();
        (wall, cpu().saturating_sub(self.cpu).as_secs_f64())
    }
}

/// Processor time of all threads that live now.
fn cpu() -> Duration {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Duration::ZERO;
    };
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// The most memory the process had resident since [`Span::begin`], in MiB.
pub fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}
