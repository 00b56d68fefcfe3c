//! `quorate keeper`: undoes what a run has done to this machine, once the run is gone. Started by
//! `quorate test`; see [`nemesis::mechanism::keeper`].

use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use nemesis::mechanism::keeper::{self, EXPIRED, EXPIRY, End};

use crate::exit;

/// `quorate keeper`.
#[derive(Debug, Args)]
pub struct KeeperArgs {
    /// The file that the leases are written down in, which is removed when all are undone.
    #[arg(long, value_name = "FILE")]
    pub leases: PathBuf,
}

/// Keeps leases until standard input ends.
///
/// # Errors
/// If there is nobody to keep them for.
pub fn run(args: &KeeperArgs) -> Result<u8> {
    keeper::leave_session().context("cannot leave the session; start it as `quorate test` does")?;
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    match keeper::serve(input, output, EXPIRY, Some(&args.leases))? {
        End::Closed => Ok(exit::VALID),
        End::Expired => Ok(EXPIRED),
    }
}
