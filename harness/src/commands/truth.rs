//! `quorate truth`: the truth table, printed or run.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cli::{TruthArgs, TruthOutput};
use crate::exit;
use crate::truth_table::{self, RowResult, render, rows};

/// Prints the table, a row's experiment, or what came of running rows. Exit code 1 if a row
/// behaves otherwise than expected.
///
/// # Errors
/// If a row that is asked for does not exist, or stdout is closed.
pub fn run(args: &TruthArgs) -> Result<u8> {
    let rows = truth_table::select(&args.rows)?;
    let mut out = std::io::stdout().lock();
    if args.print {
        for row in rows {
            write!(out, "{}", serde_yaml::to_string(&row.experiment()?)?)?;
        }
        return Ok(exit::VALID);
    }
    if !args.run {
        match args.output {
            TruthOutput::Md => write!(out, "{}", render::docs())?,
            TruthOutput::Table => write!(out, "{}", render::table(&rows))?,
            TruthOutput::Json => {
                for row in rows {
                    let demands: Vec<_> = row
                        .demands
                        .iter()
                        .map(|d| {
                            serde_json::json!({
                                "property": d.property.to_string(),
                                "expect": d.expect.to_string(),
                            })
                        })
                        .collect();
                    let line = serde_json::json!({
                        "id": row.id, "mode": row.mode, "fault": row.fault,
                        "expected": row.expected, "demands": demands,
                    });
                    writeln!(out, "{line}")?;
                }
            }
        }
        return Ok(exit::VALID);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(usize::from(args.jobs))
        .build()
        .context("cannot start threads")?;
    let started = Instant::now();
    let (mut good, mut virtual_s, mut seeds) = (0, 0.0, 0);
    let total = rows.len();
    for row in rows {
        let began = Instant::now();
        let result: RowResult = pool.install(|| truth_table::run(row, args.seeds.clone()))?;
        good += usize::from(result.as_expected());
        virtual_s += result.virtual_s;
        seeds += result.seeds;
        if args.output == TruthOutput::Json {
            writeln!(out, "{}", serde_json::to_string(&result)?)?;
        } else {
            write!(out, "{}", render::result(row, &result))?;
            writeln!(out, "    {:.1} s\n", began.elapsed().as_secs_f64())?;
        }
        out.flush()?;
    }
    let elapsed = started.elapsed().as_secs_f64();
    eprintln!(
        "{good} of {total} rows as expected ({} in the table); {seeds} runs, {virtual_s:.0} virtual s in {elapsed:.0} s",
        rows::all().count()
    );
    Ok(if good == total {
        exit::VALID
    } else {
        exit::INVALID
    })
}
