//! The one terminal screen at the end of a run: at most [`HEIGHT`] lines of [`WIDTH`] columns, fewer
//! on a narrower terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;

use checkers::{Anomaly, CheckResult, Verdict};
use serde_json::Value;

use super::Summary;
use super::figures::unavailable;
use super::findings::{described, findings, headline};
use super::text::{NO_BREAK, clip, millis, plain, plural, seconds, thousands, wrap};
use crate::store::MINIMAL;

/// No line is longer, in characters.
pub const WIDTH: usize = 100;
/// Narrower than this it cannot be: a narrower terminal wraps.
pub const LEAST_WIDTH: usize = 72;
/// No screen has more lines.
pub const HEIGHT: usize = 40;

const MARGIN: &str = "  ";
const LABEL: usize = 17;
const LOST_SHOWN: usize = 4;
const FAULTS_SHOWN: usize = 7;
const FINDINGS_LINES: usize = 18;

/// How the screen is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether with colours.
    pub colour: bool,
    /// How many columns to use, [`LEAST_WIDTH`] to [`WIDTH`].
    pub width: usize,
}

impl Style {
    /// No colours, full width: for files, pipes and tests.
    pub const PLAIN: Self = Self {
        colour: false,
        width: WIDTH,
    };

    /// What suits standard output: colours only on a terminal, and never where `NO_COLOR` is set to
    /// anything (<https://no-color.org>); as wide as the terminal is, within limits.
    pub fn of_stdout() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let stdout = std::io::stdout();
        Self {
            colour: stdout.is_terminal() && !forbidden,
            width: columns(&stdout).map_or(WIDTH, |c| c.clamp(LEAST_WIDTH, WIDTH)),
        }
    }
}

/// How many columns a terminal has; `None` if it is none.
pub(crate) fn columns(terminal: &impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

impl Style {
    fn with(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn verdict(self, verdict: &Verdict, text: &str) -> String {
        let code = match verdict {
            Verdict::Valid => "1;32",
            Verdict::Invalid => "1;31",
            Verdict::Unknown(_) => "1;33",
        };
        self.with(code, text)
    }

    fn badge(self, verdict: &Verdict, text: &str) -> String {
        let code = match verdict {
            Verdict::Valid => "1;30;42",
            Verdict::Invalid => "1;97;41",
            Verdict::Unknown(_) => "1;30;43",
        };
        self.with(code, text)
    }
}

fn mark(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "✔",
        Verdict::Invalid => "✘",
        Verdict::Unknown(_) => "?",
    }
}

/// The screen, ending in a newline. `directory` is the run directory, if one was written.
pub fn render(summary: &Summary, directory: Option<&Path>, paint: Style) -> String {
    let mut lines = vec![String::new()];
    header(&mut lines, summary, paint);
    lines.push(String::new());
    checks(&mut lines, summary, paint);
    if !summary.faults.is_empty() {
        lines.push(String::new());
        faults(&mut lines, summary, paint);
    }
    lines.push(String::new());
    footer(&mut lines, summary, directory, paint);
    lines.push(String::new());
    lines.join("\n")
}

fn header(lines: &mut Vec<String>, summary: &Summary, paint: Style) {
    let verdict = &summary.verdict;
    let word = summary.verdict_word().to_uppercase();
    let badge = format!(" {} {word} ", mark(verdict));
    let indent = badge.chars().count() + 2;
    let room = paint.width - MARGIN.len() - indent;
    let mut said = wrap(&headline(summary), room);
    said.truncate(2);
    for (i, line) in said.iter().enumerate() {
        if i == 0 {
            lines.push(format!(
                "{MARGIN}{}  {}",
                paint.badge(verdict, &badge),
                paint.verdict(verdict, line)
            ));
        } else {
            lines.push(format!(
                "{MARGIN}{:indent$}{}",
                "",
                paint.verdict(verdict, line)
            ));
        }
    }
    // `10.3 s` stays on one line: words are parted only where parts are.
    let parts: Vec<_> = std::iter::once(plain(&summary.name))
        .chain(described(summary))
        .map(|part| part.replace(' ', NO_BREAK.encode_utf8(&mut [0; 2])))
        .collect();
    let what = parts.join(&format!("{NO_BREAK}· "));
    for line in wrap(&what, paint.width - MARGIN.len()).iter().take(2) {
        lines.push(format!(
            "{MARGIN}{}",
            paint.dim(&line.replace(NO_BREAK, " "))
        ));
    }
}

fn checks(lines: &mut Vec<String>, summary: &Summary, paint: Style) {
    let room = paint.width - MARGIN.len() - 2 - LABEL;
    let indent = MARGIN.len() + 2 + LABEL;
    let limit = lines.len() + FINDINGS_LINES;
    let all = findings(summary);
    for (i, finding) in all.iter().enumerate() {
        // One line stays for each finding still to come.
        let spare = limit.saturating_sub(lines.len() + all.len() - i);
        let verdict = &finding.result.verdict;
        let mut said = wrap(&finding.sentence, room);
        said.truncate(spare.min(1) + 1);
        for (n, line) in said.iter().enumerate() {
            if n == 0 {
                lines.push(format!(
                    "{MARGIN}{} {}{line}",
                    paint.verdict(verdict, mark(verdict)),
                    paint.bold(&format!("{:LABEL$}", clip(&finding.title, LABEL - 1))),
                ));
            } else {
                lines.push(format!("{:indent$}{line}", ""));
            }
        }
        let spare = spare.saturating_sub(said.len().saturating_sub(1));
        for line in examples(finding.result, room, spare) {
            lines.push(format!("{:indent$}{}", "", paint.dim(&line)));
        }
    }
}

/// The first few anomalies of a result, a line each, and how many more there are.
fn examples(result: &CheckResult, room: usize, spare: usize) -> Vec<String> {
    let wanted = match result.checker.as_str() {
        "lost-writes" => LOST_SHOWN,
        _ => 1,
    };
    let count = result.anomalies.len();
    if count == 0 || spare == 0 {
        return Vec::new();
    }
    let more = count > wanted.min(spare);
    let shown = if more && wanted > 1 {
        wanted.min(spare - 1)
    } else {
        wanted.min(spare)
    };
    let age = |a: &&Anomaly| a.figures.get("ms").and_then(Value::as_f64).unwrap_or(0.0);
    let (stale, others): (Vec<_>, Vec<_>) = result
        .anomalies
        .iter()
        .partition(|a| a.class == "stale-read");
    let worst = stale.into_iter().max_by(|a, b| age(a).total_cmp(&age(b)));
    // A key and its contents say more than digests that differ.
    let (digests, others): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|a| a.class == "diverged" && a.key.is_none());
    let mut lines: Vec<_> = worst
        .into_iter()
        .chain(others)
        .chain(digests)
        .take(shown)
        .map(|a| clip(&plain(&sentence(a)), room))
        .collect();
    if wanted > 1 && count > shown {
        lines.push(format!("… and {} more", thousands((count - shown) as u64)));
    }
    lines
}

/// An anomaly in a few words where its figures allow it; else its own sentence.
fn sentence(anomaly: &Anomaly) -> String {
    let words = match anomaly.class.as_str() {
        "lost" => lost(anomaly),
        "stale-read" => stale(anomaly),
        "split-brain" => split_brain(anomaly),
        "replication-stopped" => stopped(anomaly),
        _ => None,
    };
    words.unwrap_or_else(|| anomaly.summary.clone())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn lost(anomaly: &Anomaly) -> Option<String> {
    let figure = |name: &str| anomaly.figures.get(name).and_then(text);
    let at = anomaly.figures.get("acknowledged_at_seconds")?.as_f64()?;
    let epoch = figure("epoch")
        .map(|e| format!(" (epoch {e})"))
        .unwrap_or_default();
    Some(format!(
        "{} to {}, acknowledged by {}{epoch} at {at:.3} s",
        figure("value")?,
        anomaly.key.as_ref()?,
        figure("node")?
    ))
}

fn stale(anomaly: &Anomaly) -> Option<String> {
    let versions = anomaly.figures.get("versions")?.as_u64()?;
    let ms = anomaly.figures.get("ms")?.as_f64()?;
    let node = anomaly.figures.get("node").and_then(text)?;
    Some(format!(
        "worst: {} read from {node} {} and {} behind",
        anomaly.key.as_ref()?,
        plural(versions, "version"),
        millis(ms)
    ))
}

fn stopped(anomaly: &Anomaly) -> Option<String> {
    let figure = |name: &str| anomaly.figures.get(name).and_then(text);
    Some(format!("{}: {}", figure("node")?, figure("why")?))
}

fn split_brain(anomaly: &Anomaly) -> Option<String> {
    let side = |name: &str| {
        let side = anomaly.figures.get(name)?;
        let (node, epoch) = (text(&side["node"])?, text(&side["epoch"])?);
        Some((
            format!("{node} (epoch {epoch})"),
            side["discarded"].as_u64()?,
        ))
    };
    let ((old, lost), (new, _)) = (side("superseded")?, side("by")?);
    let for_s = seconds(anomaly.figures.get("seconds")?.as_f64()?);
    Some(format!(
        "{old} went on for {for_s} beside {new}; {lost} of its writes discarded"
    ))
}

fn faults(lines: &mut Vec<String>, summary: &Summary, paint: Style) {
    let faults = &summary.faults;
    let cut = |text: &str, width| format!("{:width$}", clip(&plain(text), width - 1));
    // What the other columns leave.
    let room = paint.width - MARGIN.len() - 54;
    lines.push(format!(
        "{MARGIN}{}",
        paint.bold(&format!(
            "{:<16}{:<11}{:>7}  {:<room$}{:>18}",
            "Fault", "Target", "At", "Proven", "Writes unavailable"
        ))
    ));
    let shown = if faults.len() > FAULTS_SHOWN {
        FAULTS_SHOWN - 1
    } else {
        faults.len()
    };
    for fault in &faults[..shown] {
        let proven = if fault.seen {
            format!("✔ {}", fault.proof)
        } else {
            format!("NO: {}", fault.proof)
        };
        let proven = cut(&proven, room);
        let proven = if fault.seen {
            proven
        } else {
            paint.with("33", &proven)
        };
        lines.push(format!(
            "{MARGIN}{}{}{:>5.1} s  {proven}{:>18}",
            cut(&fault.name, 16),
            cut(&fault.targets.join(" "), 11),
            fault.injected_at_s,
            unavailable(summary, fault),
        ));
    }
    if faults.len() > shown {
        let rest = format!(
            "… and {}",
            plural((faults.len() - shown) as u64, "more fault")
        );
        lines.push(format!("{MARGIN}{}", paint.dim(&rest)));
    }
}

fn footer(lines: &mut Vec<String>, summary: &Summary, directory: Option<&Path>, paint: Style) {
    let ops = &summary.ops.all;
    let mut text = format!(
        "{} ok · {} failed · {} unknown",
        thousands(ops.ok),
        thousands(ops.fail),
        thousands(ops.info)
    );
    // Logs without times span no time that a rate could be of.
    if summary.duration_s > 0.1 {
        let rate = (ops.total as f64 / summary.duration_s).round() as u64;
        let _ = write!(text, " · {}/s", thousands(rate));
    }
    let mut row = |label: &str, text: &str| {
        lines.push(format!(
            "{MARGIN}{}{text}",
            paint.bold(&format!("{label:<12}"))
        ));
    };
    row("Operations", &clip(&text, paint.width - 14));
    if let Some(latency) = summary.latency_ms {
        let text = format!(
            "median {} · p99 {} · worst {}",
            millis(latency.p50),
            millis(latency.p99),
            millis(latency.max)
        );
        row("Latency", &text);
    }
    if let Some(directory) = directory {
        // A path is for copying: never clipped, though it may be longer than the screen is wide.
        row(
            "Report",
            &directory.join("report.html").display().to_string(),
        );
        let minimal = directory.join(MINIMAL);
        if minimal.exists() {
            row("Fails again", &minimal.display().to_string());
        }
    }
    let mut label = "Repeat";
    for line in continued(&plain(&summary.reproduce), paint.width - 14) {
        row(label, &line);
        label = "";
    }
}

/// A command on several lines that can still be pasted.
fn continued(command: &str, width: usize) -> Vec<String> {
    if command.chars().count() <= width {
        return vec![command.to_owned()];
    }
    let mut lines = vec![String::new()];
    let mut quoted = false;
    for word in command.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        let inside = quoted;
        quoted ^= word.matches('\'').count() % 2 == 1;
        if inside {
            // A line cannot be broken within quotes.
            line.push(' ');
            line.push_str(word);
            continue;
        }
        if !line.is_empty() && line.chars().count() + word.chars().count() + 3 > width {
            line.push_str(" \\");
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    const COLOURED: Style = Style {
        colour: true,
        width: WIDTH,
    };

    fn assert_fits(screen: &str) {
        assert!(screen.lines().count() <= HEIGHT, "{screen}");
        for line in screen.lines() {
            assert!(line.chars().count() <= WIDTH, "too wide: {line}");
        }
    }

    #[test]
    fn an_invalid_run_leads_with_what_was_lost() {
        let summary = fixture::summary();
        let directory = Path::new("store/async-failover/20261121T224002Z");
        let screen = render(&summary, Some(directory), Style::PLAIN);
        assert_fits(&screen);
        let mut lines = screen.lines().filter(|l| !l.is_empty());
        let first = lines.next().expect("a first line");
        assert!(
            first.contains("✘ INVALID") && first.contains("lost"),
            "{first}"
        );
        for part in [
            "can be read nowhere",
            "acknowledged by n1",
            "behind by median 14 versions / 31.2 ms",
            "two leaders acknowledged writes at once for 5.19 s",
            "kill leader     n2          18.0 s",
            "2.20 s",
            "NO: round trip",
            "store/async-failover/20261121T224002Z/report.html",
            "quorate test --mode async",
        ] {
            assert!(screen.contains(part), "{part} is missing in\n{screen}");
        }
        assert!(!screen.contains('\u{1b}'));
    }

    #[test]
    fn a_narrow_terminal_gets_no_longer_lines() {
        let mut summary = fixture::summary();
        summary.reproduce = "quorate test a/b.yaml --schedule a/c.yaml ".repeat(3);
        for width in [LEAST_WIDTH, 80, 99] {
            let style = Style {
                colour: false,
                width,
            };
            let screen = render(&summary, Some(Path::new("store/x/latest")), style);
            for line in screen.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
            assert!(screen.contains("Writes unavailable"), "{screen}");
        }
    }

    #[test]
    fn a_command_is_never_broken_within_quotes() {
        let lines = continued("quorate test 'a b/c d/e f.yaml' --schedule 'g h'", 20);
        assert_eq!(
            lines,
            ["quorate test 'a b/c d/e f.yaml' \\", "--schedule 'g h'"]
        );
    }

    #[test]
    fn a_valid_run_says_so() {
        let screen = render(&fixture::valid(), None, Style::PLAIN);
        assert_fits(&screen);
        assert!(screen.contains("✔ VALID"), "{screen}");
        assert!(screen.contains("none of"), "{screen}");
        assert!(!screen.contains('✘'), "{screen}");
    }

    #[test]
    fn colour_changes_no_text() {
        let summary = fixture::summary();
        let coloured = render(&summary, None, COLOURED);
        assert!(coloured.contains("\u{1b}[1;97;41m"));
        let mut text = String::new();
        let mut parts = coloured.split('\u{1b}');
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            text.push_str(part.split_once('m').expect("a style ends in m").1);
        }
        assert_eq!(text, render(&summary, None, Style::PLAIN));
    }

    #[test]
    fn a_crowded_run_still_fits() {
        let mut summary = fixture::summary();
        let result = summary.results[0].clone();
        summary.results.extend(vec![result; 5]);
        let fault = summary.faults[0].clone();
        summary.faults.extend(vec![fault; 40]);
        summary.name = "very-long-name-".repeat(20);
        summary.reproduce = "quorate test --nemesis kill,pause,isolate ".repeat(6);
        summary.results[0].anomalies[0].figures.clear();
        summary.results[0].anomalies[0].summary = "\u{1b}[2J long ".repeat(40);
        assert_fits(&render(&summary, None, Style::PLAIN));
    }

    #[test]
    fn a_run_without_anything_has_a_screen() {
        let mut summary = fixture::valid();
        summary.verdict = Verdict::Unknown("nothing-to-judge".into());
        summary.results.clear();
        summary.faults.clear();
        summary.latency_ms = None;
        summary.duration_s = 0.0;
        let screen = render(&summary, None, Style::PLAIN);
        assert!(screen.contains("? UNKNOWN"), "{screen}");
        assert!(screen.contains("nothing-to-judge"), "{screen}");
    }
}
