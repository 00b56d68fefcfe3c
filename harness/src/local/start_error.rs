//! Why a cluster could not be started.

use std::path::PathBuf;
use std::{fmt, io};

use nemesis::Node;

use crate::versions::NOT_UP;

/// Why a cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory, a port or a thread could not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What went wrong.
        source: io::Error,
    },
    /// A node did not come up.
    #[error(transparent)]
    NotReady(#[from] NotReady),
}

/// For `map_err`: what was being done when it went wrong.
pub(super) fn io_error(what: impl fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    let what = what.to_string();
    |source| StartError::Io { what, source }
}

/// A node that did not come up.
#[derive(Debug, thiserror::Error)]
#[error("n{node} {NOT_UP}: {why}; the end of {}:\n{tail}", .log.display())]
pub struct NotReady {
    /// Which.
    pub node: Node,
    /// What happened instead.
    pub why: String,
    /// Its log.
    pub log: PathBuf,
    /// The last lines of it.
    pub tail: String,
}
