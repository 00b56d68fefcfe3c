//! `quorate doctor`: which faults can be done here, by what, and why not the others.

use std::io::Write;

use anyhow::Result;
use nemesis::mechanism::namespace;

use crate::cli::DoctorArgs;
use crate::doctor::{diagnose, render};
use crate::exit;
use crate::experiment::{ExperimentError, On};
use crate::report::Format;
use crate::report::screen::Style;
use crate::stores::Store;

/// Prints the diagnosis; 2 if a fault that was demanded cannot be done where it was demanded.
///
/// # Errors
/// If stdout is closed, or the form of output is none of these.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    if let Some(target) = &args.target {
        return store(target);
    }
    if args.on == Some(On::K8s) {
        let message = "--on k8s: the diagnosis is of this machine; docs/kubernetes.md lists what can be done to pods";
        return Err(ExperimentError(message.to_owned()).into());
    }
    let diagnosis = diagnose();
    let text = match args.output {
        Format::Table => render::table(&diagnosis, Style::of_stdout()),
        Format::Json => serde_json::to_string_pretty(&diagnosis)? + "\n",
        Format::Yaml => serde_yaml::to_string(&serde_json::to_value(&diagnosis)?)?,
        Format::Md => render::markdown(&diagnosis),
        Format::Junit => {
            let message =
                "-o junit: a diagnosis has no test cases; expected table, json, yaml or md";
            return Err(ExperimentError(message.to_owned()).into());
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    let mut code = exit::VALID;
    for kind in &args.require {
        let here = diagnosis.faults.iter().find(|fault| fault.fault == *kind);
        let on = here.into_iter().flat_map(|fault| &fault.on);
        for on in on.filter(|on| args.on.is_none_or(|wanted| wanted == on.substrate)) {
            if let Some(reason) = &on.reason {
                eprintln!(
                    "{} cannot be done on {}: {reason}",
                    kind.name(),
                    on.substrate
                );
                code = exit::UNKNOWN;
            }
        }
    }
    Ok(code)
}

/// Whether a store can be started here; 2 if not.
fn store(target: &str) -> Result<u8> {
    let store =
        Store::from_flag(target).map_err(|why| ExperimentError(format!("--target: {why}")))?;
    let Some(recipe) = store.as_ref().and_then(|store| store.target().recipe()) else {
        println!("{target}: there is nothing to install");
        return Ok(exit::VALID);
    };
    match (recipe.find(), namespace::available()) {
        (Ok(program), Ok(())) => {
            let version = recipe.version().unwrap_or_else(|| "unknown".to_owned());
            println!("{}: {version}, {}", recipe.name, program.display());
            println!("try: quorate test --on netns --target {target} --nodes 3");
            Ok(exit::VALID)
        }
        (Err(why), _) | (_, Err(why)) => {
            println!("{why}");
            Ok(exit::UNKNOWN)
        }
    }
}
