//! `quorate museum`: known mistakes, planted and looked for.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde_json::json;

use crate::cli::{MuseumArgs, SimOutput};
use crate::exit;
use crate::museum::{self, Exhibit, Visit};

/// Runs the exhibits and prints, for each, whether the mistake was found, how soon, and whether
/// anything was found without it. Exit code 1 if one was missed or a sound store called broken.
///
/// # Errors
/// If a mistake that is asked for does not exist, or stdout is closed.
pub fn run(args: &MuseumArgs) -> Result<u8> {
    let exhibits = museum::select(&args.bugs)?;
    let mut out = std::io::stdout().lock();
    if args.print {
        for exhibit in exhibits {
            write!(
                out,
                "{}",
                serde_yaml::to_string(&exhibit.experiment(true)?)?
            )?;
        }
        return Ok(exit::VALID);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(usize::from(args.jobs))
        .build()
        .context("cannot start threads")?;
    let visit = |exhibit: &&Exhibit| -> Result<(Visit, f64)> {
        let began = Instant::now();
        let visit = exhibit.visit(args.seeds.clone(), args.controls)?;
        Ok((visit, began.elapsed().as_secs_f64()))
    };
    let visits: Vec<(Visit, f64)> =
        pool.install(|| exhibits.par_iter().map(visit).collect::<Result<_>>())?;
    if args.output == SimOutput::Table {
        writeln!(
            out,
            "{:<28}{:<13}{:<15}{:>6}{:>12}{:>9}  without it",
            "mistake", "", "checker", "seed", "virtual s", "wall s"
        )?;
    }
    for ((visit, wall_s), exhibit) in visits.iter().zip(&exhibits) {
        if args.output == SimOutput::Json {
            let mut line = serde_json::to_value(visit)?;
            line["wall_s"] = json!(wall_s);
            writeln!(out, "{line}")?;
            continue;
        }
        let found = if visit.seed.is_some() {
            "found"
        } else {
            "NOT FOUND"
        };
        let seed = visit.seed.map_or("–".to_owned(), |seed| seed.to_string());
        let clean = match &visit.first_false_alarm {
            None => format!("clean in {}", visit.controls),
            Some(what) => format!("FALSE ALARM in {}: {what}", visit.false_alarms),
        };
        writeln!(
            out,
            "{:<28}{found:<13}{:<15}{seed:>6}{:>12.2}{wall_s:>9.2}  {clean}",
            exhibit.name(),
            visit.checker,
            visit.virtual_s,
        )?;
    }
    let good = visits.iter().filter(|(visit, _)| visit.good()).count();
    let found = visits
        .iter()
        .filter(|(visit, _)| visit.seed.is_some())
        .count();
    eprintln!("{found} of {} mistakes found", visits.len());
    Ok(if good == visits.len() {
        exit::VALID
    } else {
        exit::INVALID
    })
}
