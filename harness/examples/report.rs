//! Writes a store of made-up runs and prints the screen of one:
//! `cargo run -p quorate --example report [-- STORE]`.

#[path = "../src/report/fixture.rs"]
mod fixture;

use std::fs;
use std::path::PathBuf;

// The fixture takes its types from the module it stands in.
use quorate::report::{FaultRecord, Format, Summary, Tally, formats, html, screen, summary};

fn main() -> anyhow::Result<()> {
    let store = PathBuf::from(
        std::env::args()
            .nth(1)
            .unwrap_or_else(|| "store".to_owned()),
    );
    let history = fixture::history();
    let mut unknown = fixture::valid();
    unknown.name = String::from("etcd-upgrade");
    unknown.verdict = checkers::Verdict::Unknown("fault-not-effective: slow link".to_owned());
    unknown.exit_code = 2;
    let runs: [(&str, Summary); 3] = [
        ("20261121T224002Z", fixture::summary()),
        ("20261121T225310Z", fixture::valid()),
        ("20261121T230655Z", unknown),
    ];
    for (time, summary) in &runs {
        let directory = store.join(&summary.name).join(time);
        fs::create_dir_all(directory.join("nodes"))?;
        let page = html::render(summary, &history.events, fixture::EXPERIMENT);
        fs::write(directory.join("report.html"), page)?;
        fs::write(directory.join("experiment.yaml"), fixture::EXPERIMENT)?;
        fs::write(directory.join("nodes/n1.log"), "listening\n")?;
        for (file, format) in [("verdict.json", Format::Json), ("junit.xml", Format::Junit)] {
            let text = formats::render(summary, format, None, screen::Style::PLAIN)?;
            fs::write(directory.join(file), text)?;
        }
    }
    let (time, summary) = &runs[0];
    let directory = store.join(&summary.name).join(time);
    let style = screen::Style::of_stdout();
    print!("{}", screen::render(summary, Some(&directory), style));
    Ok(())
}
