//! How faults are done to processes on Linux. Blocking calls, no runtime.
//!
//! Everything that is not pure lives here, behind the feature `mechanisms`. A mechanism can say
//! whether it works on this machine, and why not; it changes only what it made itself, names or
//! marks everything it makes so that it can be found again ([`MARK`]), and undoing is idempotent.
//!
//! * [`firewall`]: cuts, by nftables.
//! * [`namespace`]: mounts and a network of this program's own, and a network for each node.
//! * [`queue`]: packets lost, held back, overtaken or doubled, by NFQUEUE.
//! * [`shaper`]: the same by netem, or bandwidth alone by tbf.
//! * [`tool`]: runs `ip`, `nft`, `tc` and `iptables`.

#[allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "scripts for programs are short"
)]
pub mod firewall;
pub mod namespace;
#[allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "scripts for programs are short"
)]
pub mod queue;
#[allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "scripts for programs are short"
)]
pub mod shaper;
#[cfg(test)]
mod testing;
pub mod tool;

/// Begins the name of everything that is made on a machine: tables, control groups, interfaces.
pub const MARK: &str = "quorate";

/// Whether a mechanism works here; if not, why, with the way out, in a few words that complete
/// "not here: ".
pub type Available = Result<(), String>;
