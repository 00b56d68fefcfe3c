//! How faults are done to processes on Linux. Blocking calls, no runtime.
//!
//! Everything that is not pure lives here, behind the feature `mechanisms`. A mechanism can say
//! whether it works on this machine, and why not; it changes only what it made itself, names or
//! marks everything it makes so that it can be found again ([`MARK`]), and undoing is idempotent.
//!
//! * [`disk`]: a layer over a directory that loses, tears and refuses what a disk can.
//! * [`namespace`]: mounts and a network of this program's own, and a network for each node.
//! * [`tool`]: runs `ip`, `nft`, `tc` and `iptables`.

pub mod disk;
pub mod namespace;
pub mod tool;

/// Begins the name of everything that is made on a machine: tables, control groups, interfaces.
pub const MARK: &str = "quorate";

/// Whether a mechanism works here; if not, why, with the way out, in a few words that complete
/// "not here: ".
pub type Available = Result<(), String>;
