//! `junit.xml`: a suite a run, a case a checker.
//!
//! `invalid` is a failure. `unknown` is an **error**, not a skip: a CI job must not be green when
//! nobody can say whether the store kept its word. Where the run as a whole is worse than every
//! checker (a fault that was not proven, an interruption), a further case `exit` says so.

use std::fmt::Write as _;
use std::time::Duration;

use checkers::{CheckResult, Verdict};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::Summary;
use super::findings::{findings, headline};

/// More sentences than this are counted, not written.
const SENTENCES: usize = 100;

/// The XML text.
pub(super) fn render(summary: &Summary) -> anyhow::Result<String> {
    let class = format!("quorate.{}", summary.name);
    let mut suite = TestSuite::new(class.clone());
    suite.set_time(Duration::try_from_secs_f64(summary.duration_s).unwrap_or_default());
    for (name, value) in [
        ("seed", summary.seed.to_string()),
        ("mode", summary.mode.clone()),
        ("target", summary.target.clone()),
        ("substrate", summary.substrate.clone()),
        ("workload", summary.workload.clone()),
        ("started", summary.started.clone()),
        ("reproduce", summary.reproduce.clone()),
        ("version", summary.version.clone()),
    ] {
        suite.add_property((name, value.as_str()));
    }
    for finding in findings(summary) {
        let status = status(
            &finding.result.verdict,
            &finding.sentence,
            &sentences(finding.result),
        );
        let mut case = TestCase::new(finding.result.checker.as_str(), status);
        case.set_classname(class.as_str());
        suite.add_test_case(case);
    }
    let checkers = summary
        .results
        .iter()
        .fold(Verdict::Valid, |all, r| all.merge(r.verdict.clone()));
    if rank(&summary.verdict) > rank(&checkers) || (summary.exit_code != 0 && rank(&checkers) == 0)
    {
        let verdict = if summary.verdict == Verdict::Valid {
            Verdict::Unknown(format!("exit code {}", summary.exit_code))
        } else {
            summary.verdict.clone()
        };
        let mut case = TestCase::new("exit", status(&verdict, &headline(summary), ""));
        case.set_classname(class.as_str());
        suite.add_test_case(case);
    }
    let mut report = Report::new("quorate");
    report.add_test_suite(suite);
    Ok(report.to_string()?)
}

fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Valid => 0,
        Verdict::Unknown(_) => 1,
        Verdict::Invalid => 2,
    }
}

fn status(verdict: &Verdict, sentence: &str, details: &str) -> TestCaseStatus {
    let (kind, name, message) = match verdict {
        Verdict::Valid => return TestCaseStatus::success(),
        Verdict::Invalid => (NonSuccessKind::Failure, "invalid", sentence),
        Verdict::Unknown(reason) => (NonSuccessKind::Error, "unknown", reason.as_str()),
    };
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message).set_type(name);
    if !details.is_empty() {
        status.set_description(details);
    }
    status
}

fn sentences(result: &CheckResult) -> String {
    let mut text = String::new();
    for anomaly in result.anomalies.iter().take(SENTENCES) {
        let _ = writeln!(text, "[{}] {}", anomaly.class, anomaly.summary);
    }
    if let Some(more) = result
        .anomalies
        .len()
        .checked_sub(SENTENCES)
        .filter(|n| *n > 0)
    {
        let _ = writeln!(text, "… and {more} more in verdict.json");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_case_a_checker() {
        let summary = fixture::summary();
        let xml = render(&summary).expect("xml");
        assert!(xml.contains(r#"tests="5""#), "{xml}");
        assert!(xml.contains(r#"failures="3""#), "{xml}");
        assert!(xml.contains(r#"errors="1""#), "{xml}");
        assert!(xml.contains("[lost] append"), "{xml}");
        assert!(xml.contains("more in verdict.json"), "{xml}");
    }

    #[test]
    fn an_unknown_run_is_never_green() {
        let mut summary = fixture::valid();
        assert!(render(&summary).expect("xml").contains(r#"errors="0""#));
        summary.verdict = Verdict::Unknown("fault-not-effective: <n1> & \u{1b}".into());
        let xml = render(&summary).expect("xml");
        assert!(xml.contains(r#"errors="1""#), "{xml}");
        assert!(
            xml.contains("fault-not-effective: &lt;n1&gt; &amp;"),
            "{xml}"
        );
        summary.verdict = Verdict::Valid;
        summary.exit_code = 130;
        assert!(render(&summary).expect("xml").contains(r#"errors="1""#));
    }
}
