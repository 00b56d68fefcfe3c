//! `-o table|json|yaml|junit|md`.

use std::path::Path;

use super::{Summary, junit, markdown, screen};

/// How a result is written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The screen for people.
    #[default]
    Table,
    /// The content of `verdict.json`.
    Json,
    /// The same as YAML.
    Yaml,
    /// The content of `junit.xml`, for CI.
    Junit,
    /// Markdown, for an incident report or a pull request.
    Md,
}

/// Renders a run in a format. `directory` is the run directory, if one was written; `style`
/// matters to [`Format::Table`] only.
///
/// # Errors
/// If the summary cannot be written in that format.
pub fn render(
    summary: &Summary,
    format: Format,
    directory: Option<&Path>,
    style: screen::Style,
) -> anyhow::Result<String> {
    Ok(match format {
        Format::Table => screen::render(summary, directory, style),
        Format::Json => summary.to_json()?,
        // By way of JSON's data model: YAML's own notation for enums is not what readers expect.
        Format::Yaml => serde_yaml::to_string(&serde_json::to_value(summary)?)?,
        Format::Junit => junit::render(summary)?,
        Format::Md => markdown::render(summary, directory),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn json_and_yaml_read_back_as_they_were() {
        let summary = fixture::summary();
        let json = render(&summary, Format::Json, None, screen::Style::PLAIN).expect("json");
        assert!(json.starts_with("{\n  \"schema\": 1,"), "{}", &json[..80]);
        let back: Summary = serde_json::from_str(&json).expect("reads back");
        assert_eq!(back, summary);
        let yaml = render(&summary, Format::Yaml, None, screen::Style::PLAIN).expect("yaml");
        let back: Summary = serde_yaml::from_str(&yaml).expect("reads back");
        assert_eq!(back, summary);
    }

    #[test]
    fn an_unknown_verdict_keeps_its_reason() {
        let mut summary = fixture::valid();
        summary.verdict = checkers::Verdict::Unknown("fault-not-effective".into());
        let json = summary.to_json().expect("json");
        assert!(
            json.contains("\"reason\": \"fault-not-effective\""),
            "{json}"
        );
        let back: Summary = serde_json::from_str(&json).expect("reads back");
        assert_eq!(back, summary);
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let mut summary = fixture::valid();
        summary.schema = 99;
        let directory = std::env::temp_dir().join(format!("quorate-schema-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("temporary directory");
        let path = directory.join("verdict.json");
        std::fs::write(&path, summary.to_json().expect("json")).expect("written");
        let error = Summary::load(&path).expect_err("too new").to_string();
        assert!(error.contains("newer than 1"), "{error}");
        std::fs::write(&path, "{}").expect("written");
        assert!(Summary::load(&path).is_err());
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
