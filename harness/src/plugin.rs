//! The name `kubectl-quorate`: what kubectl runs for `kubectl quorate …`.
//!
//! `kubectl quorate status` is `quorate k8s status`. What is no command of `quorate k8s` is one of
//! `quorate`, so `kubectl quorate test --on k8s` works, too.

use std::ffi::OsString;
use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;

/// The program's name as a plugin of kubectl.
const PLUGIN: &str = "kubectl-quorate";

/// The words of the command line, with `k8s` put in where the plugin's user need not say it.
pub fn words(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let called = words.first().map(Path::new).and_then(Path::file_name);
    if called.is_none_or(|name| name != PLUGIN) {
        return words;
    }
    let of_quorate = Cli::command();
    let of_k8s = of_quorate.find_subcommand("k8s");
    let names = |word: &OsString| {
        let known = |command: &clap::Command| {
            word.to_str()
                .is_some_and(|word| command.find_subcommand(word).is_some())
        };
        of_k8s.is_some_and(known) || !known(&of_quorate)
    };
    // Without a word, or with a flag, help is that of the plugin's own commands.
    if words.get(1).is_none_or(names) {
        words.insert(1, "k8s".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> String {
        let words = words(line.split(' ').map(OsString::from));
        let words: Vec<String> = words
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn the_plugin_is_the_commands_for_kubernetes() {
        for (called, is) in [
            ("kubectl-quorate status", "kubectl-quorate k8s status"),
            (
                "/usr/bin/kubectl-quorate up --mode raft",
                "/usr/bin/kubectl-quorate k8s up --mode raft",
            ),
            ("kubectl-quorate", "kubectl-quorate k8s"),
            ("kubectl-quorate --help", "kubectl-quorate k8s --help"),
            (
                "kubectl-quorate test --on k8s",
                "kubectl-quorate test --on k8s",
            ),
            ("kubectl-quorate clean", "kubectl-quorate clean"),
            ("quorate status", "quorate status"),
            ("quorate k8s status", "quorate k8s status"),
        ] {
            assert_eq!(read(called), is);
        }
    }
}
