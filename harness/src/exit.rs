//! Exit codes, the contract with scripts and CI.

use checkers::Verdict;

/// Everything that was judged holds.
pub const VALID: u8 = 0;
/// Something was violated.
pub const INVALID: u8 = 1;
/// Nobody can say.
pub const UNKNOWN: u8 = 2;
/// Bad arguments, a bad experiment file or an unreadable history.
pub const USAGE: u8 = 254;
/// The harness or the target failed to start, or crashed.
pub const CRASHED: u8 = 255;
/// Interrupted, after healing.
pub const INTERRUPTED: u8 = 130;

/// An error with its causes in one sentence; a cause that was said already is not said again.
pub fn said(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The exit code of a verdict.
pub fn of(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Valid => VALID,
        Verdict::Invalid => INVALID,
        Verdict::Unknown(_) => UNKNOWN,
    }
}

/// The code of several runs together. A failure is never masked: invalid counts most, then a
/// crash, then an interruption, then unknown.
pub fn worse(a: u8, b: u8) -> u8 {
    let rank = |code| match code {
        INVALID => 5,
        CRASHED => 4,
        USAGE => 3,
        INTERRUPTED => 2,
        UNKNOWN => 1,
        _ => 0,
    };
    if rank(b) > rank(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let full = std::io::Error::other("disk full");
        let error = anyhow::Error::new(full).context("cannot write x: disk full");
        assert_eq!(
            said(&error.context("no run")),
            "no run: cannot write x: disk full"
        );
    }

    #[test]
    fn nothing_masks_a_failure() {
        for other in [VALID, UNKNOWN, USAGE, CRASHED, INTERRUPTED] {
            assert_eq!(worse(other, INVALID), INVALID);
            assert_eq!(worse(INVALID, other), INVALID);
        }
        assert_eq!(worse(UNKNOWN, VALID), UNKNOWN);
        assert_eq!(worse(UNKNOWN, CRASHED), CRASHED);
    }
}
