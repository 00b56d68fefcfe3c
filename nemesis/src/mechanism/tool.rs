//! Runs the administrator's programs.

use std::io::Write;
use std::process::{Command, Stdio};

/// A program that could not be run, or that failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not on this machine.
    #[error("{0} is not installed (apt install {1})")]
    Missing(&'static str, &'static str),
    /// It ended with an error.
    #[error("`{line}` failed: {said}")]
    Failed {
        /// How it was called.
        line: String,
        /// The first line that it wrote to standard error.
        said: String,
    },
}

/// The package that a program comes with, in Debian's words.
fn package(program: &str) -> &'static str {
    match program {
        "nft" => "nftables",
        "iptables" | "iptables-restore" => "iptables",
        "fusermount3" => "fuse3",
        "mkfs.ext4" => "e2fsprogs",
        "xfs_io" => "xfsprogs",
        "losetup" => "mount",
        "unshare" => "util-linux",
        _ => "iproute2",
    }
}

/// Runs a program to its end; what it wrote to standard output.
///
/// # Errors
/// If it is not installed, or ends with an error.
pub fn run(program: &'static str, arguments: &[&str]) -> Result<String, ToolError> {
    run_with_input(program, arguments, "")
}

/// The same with this on standard input, as for `nft -f -`.
///
/// # Errors
/// If it is not installed, or ends with an error.
pub fn run_with_input(
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<String, ToolError> {
    let failed = |said: &str| ToolError::Failed {
        line: format!("{program} {}", arguments.join(" ")),
        said: said.lines().next().unwrap_or("it said nothing").to_owned(),
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        // Administrators' programs are often not on the path of ordinary users.
        .env("PATH", search_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ToolError::Missing(program, package(program)),
        _ => failed(&error.to_string()),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why on standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(&error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(&String::from_utf8_lossy(&output.stderr)))
}

fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_told() {
        assert!(run("ip", &["link", "show", "lo"]).unwrap().contains("lo"));
        let error = run("ip", &["no-such-object"]).unwrap_err().to_string();
        assert!(error.starts_with("`ip no-such-object` failed: "), "{error}");
        let error = run("no-such-program", &[]).unwrap_err().to_string();
        assert!(error.contains("is not installed"), "{error}");
    }
}
