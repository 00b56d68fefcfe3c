//! The layer against models of what a disk may have after a loss of power.

mod content;
mod mounted;
mod names;

use std::path::Path;

use super::volume::Volume;

fn volume(path: &Path) -> Volume {
    Volume::open(path.to_owned()).unwrap()
}
