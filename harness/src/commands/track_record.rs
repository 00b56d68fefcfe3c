//! `quorate track-record`: what runs have shown in other makers' stores.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::cli::TrackRecordArgs;
use crate::exit;
use crate::track_record::{self, Records, Row, render};

/// Prints the table, or a row's experiment, or runs rows and keeps what came of them.
///
/// # Errors
/// If a file is not what it should be, there is no such row, or a run could not be made.
pub fn run(args: &TrackRecordArgs) -> Result<u8> {
    let all = track_record::rows(&args.file)?;
    for name in &args.rows {
        let known = all.iter().any(|row| row.name == *name);
        ensure!(known, "there is no row {name} in {}", args.file.display());
    }
    let chosen = |row: &&Row| args.rows.is_empty() || args.rows.contains(&row.name);
    let mut out = std::io::stdout().lock();
    if args.print {
        for row in all.iter().filter(chosen) {
            write!(out, "{}", serde_yaml::to_string(&row.experiment)?)?;
        }
        return Ok(exit::VALID);
    }
    let mut records = track_record::records(&args.file)?;
    records.retain(|name, _| all.iter().any(|row| row.name == *name));
    if args.run {
        for row in all.iter().filter(chosen) {
            let record = row.run(&args.store, |seed| {
                eprintln!("{}: seed {seed} of {}", row.name, row.seeds);
            })?;
            records.insert(row.name.clone(), record);
            // What was run is kept, whatever comes of the next.
            keep(&args.file, &records)?;
        }
    }
    let file = args.file.display().to_string();
    write!(out, "{}", render::page(&all, &records, &file))?;
    Ok(exit::VALID)
}

fn keep(rows: &Path, records: &Records) -> Result<()> {
    let file = track_record::records_file(rows);
    let text = serde_json::to_string_pretty(records)? + "\n";
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}
