//! What is shown on stderr while cells are run: a bar with the time left on a terminal, a line now
//! and then otherwise.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::definition::Place;
use crate::report::text::{plural, seconds};

/// How often plain lines are written.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Shows how far a comparison is.
pub struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    done: usize,
    next_plain: Instant,
}

impl Progress {
    /// For so many cells still to be run.
    pub fn new(total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24.cyan} {pos}/{len} cells, {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let started = Instant::now();
        Self {
            bar,
            total,
            started,
            state: Mutex::new(State {
                done: 0,
                next_plain: started + PLAIN_EVERY,
            }),
        }
    }

    /// A cell that shows its own progress begins.
    pub fn begins(&self, place: &Place) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!(
            "cell {} of {}: {} under {}, {}",
            state.done + 1,
            self.total,
            place.mode,
            place.fault,
            left(state.done, self.total, self.started.elapsed()),
        );
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// A cell is finished.
    pub fn finished(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += 1;
        let left = left(state.done, self.total, self.started.elapsed());
        if let Some(bar) = &self.bar {
            bar.set_position(state.done as u64);
            bar.set_message(left);
        } else if Instant::now() >= state.next_plain {
            state.next_plain = Instant::now() + PLAIN_EVERY;
            eprintln!("{} of {} cells, {left}", state.done, self.total);
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How long the rest takes if it goes on as it went, in words.
fn left(done: usize, total: usize, elapsed: Duration) -> String {
    if done == 0 {
        return format!("{} to go", plural(total as u64, "cell"));
    }
    let rest = elapsed.as_secs_f64() / done as f64 * total.saturating_sub(done) as f64;
    format!("{} left", seconds(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_was_done() {
        let minute = Duration::from_secs(60);
        assert_eq!(left(0, 40, minute), "40 cells to go");
        assert_eq!(left(10, 40, minute), "3 min 0 s left");
        assert_eq!(left(40, 40, minute), "0 ms left");
    }
}
