//! How faults are done to processes on Linux. Blocking calls, no runtime.
//!
//! Everything that is not pure lives here, behind the feature `mechanisms`. A mechanism can say
//! whether it works on this machine, and why not; it changes only what it made itself, names or
//! marks everything it makes so that it can be found again ([`MARK`]), and undoing is idempotent.
//!
//! * [`namespace`]: mounts and a network of this program's own, and a network for each node.
//! * [`firewall`]: cuts, by nftables. [`shaper`]: delays, losses and limits, by what the kernel has;
//!   [`queue`]: where it has no netem.
//! * [`cgroup`]: control groups, which freeze, slow down and squeeze processes.
//! * [`process`]: processes by identity, never by a bare pid.
//! * [`disk`]: a layer between a store and its disk. [`clock`]: wrong clocks for programs that know
//!   nothing of it.
//! * [`lease`]: faults as what undoes them; [`keeper`]: the process that undoes them when their owner
//!   is gone.
//! * [`tool`]: runs `ip`, `nft`, `tc` and `iptables`.

pub mod cgroup;
pub mod clock;
pub mod disk;
pub mod firewall;
pub mod keeper;
pub mod lease;
pub mod namespace;
pub mod process;
pub mod queue;
pub mod shaper;
#[cfg(test)]
mod testing;
pub mod tool;

/// Begins the name of everything that is made on a machine: tables, control groups, interfaces.
pub const MARK: &str = "quorate";

/// Whether a mechanism works here; if not, why, with the way out, in a few words that complete
/// "not here: ".
pub type Available = Result<(), String>;
