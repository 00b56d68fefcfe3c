//! Replication modes by one word, as `--mode` takes them.

use reference_cluster::core::Config;
use reference_cluster::core::config::{Ack, Mode, Reads};
use reference_cluster::core::leaderless::{Leaderless, Versions};
use reference_cluster::core::multi_leader::Conflicts;

/// A mode by its word.
pub struct Word {
    /// As it is written; `semi-sync(k)` stands for any k.
    pub word: &'static str,
    /// One line for help and docs.
    pub description: &'static str,
    set: fn(&mut Config),
}

/// All modes, in the order of help and docs.
pub const WORDS: [Word; 15] = [
    Word {
        word: "async",
        description: "single leader; a write is acknowledged once the leader has it",
        set: |config| single_leader(config, Ack::Async),
    },
    Word {
        word: "semi-sync(k)",
        description: "single leader; a write is acknowledged once k followers have it, too",
        set: |config| single_leader(config, Ack::SemiSync(1)),
    },
    Word {
        word: "sync",
        description: "single leader; a write is acknowledged once every follower has it",
        set: |config| single_leader(config, Ack::Sync),
    },
    Word {
        word: "raft",
        description: "consensus; reads confirm the leader with a majority (ReadIndex)",
        set: |config| raft(config, Reads::ReadIndex),
    },
    Word {
        word: "raft-lease",
        description: "consensus; the leader answers reads alone while its lease lasts",
        set: |config| raft(config, Reads::Lease),
    },
    Word {
        word: "raft-local",
        description: "consensus; every replica answers reads from what it has",
        set: |config| raft(config, Reads::Local),
    },
    Word {
        word: "multi-leader-lww",
        description: "every node takes writes; of concurrent ones the last by the clock wins",
        set: |config| multi_leader(config, Conflicts::Lww),
    },
    Word {
        word: "multi-leader-siblings",
        description: "every node takes writes; concurrent ones are kept for a reader to resolve",
        set: |config| multi_leader(config, Conflicts::Siblings),
    },
    Word {
        word: "multi-leader-crdt",
        description: "every node takes writes; data types whose changes commute",
        set: |config| multi_leader(config, Conflicts::Crdt),
    },
    Word {
        word: "multi-leader-procedure",
        description: "every node takes writes; a script resolves conflicts",
        set: |config| multi_leader(config, Conflicts::Procedure),
    },
    Word {
        word: "multi-leader-synchronous",
        description: "every node takes writes; each waits until all others have it",
        set: |config| multi_leader(config, Conflicts::Synchronous),
    },
    Word {
        word: "multi-leader-home",
        description: "every node takes the writes of the keys whose home it is",
        set: |config| multi_leader(config, Conflicts::Home),
    },
    Word {
        word: "leaderless",
        description: "quorums with R + W > N; concurrent versions are kept as siblings",
        set: |config| leaderless(config, Versions::Dotted, false),
    },
    Word {
        word: "leaderless-lww",
        description: "quorums with R + W > N; of two versions the last by the clock wins",
        set: |config| leaderless(config, Versions::Lww, false),
    },
    Word {
        word: "leaderless-sloppy",
        description: "quorums of whichever nodes can be reached, with hinted handoff",
        set: |config| leaderless(config, Versions::Dotted, true),
    },
];

fn single_leader(config: &mut Config, ack: Ack) {
    config.mode = Mode::SingleLeader;
    config.ack = ack;
    if matches!(config.reads, Reads::ReadIndex | Reads::Lease | Reads::Local) {
        config.reads = Reads::Leader;
    }
}

fn raft(config: &mut Config, reads: Reads) {
    config.mode = Mode::Raft;
    config.reads = reads;
}

fn multi_leader(config: &mut Config, conflicts: Conflicts) {
    config.mode = Mode::MultiLeader;
    config.multi_leader.conflicts = conflicts;
}

fn leaderless(config: &mut Config, versions: Versions, sloppy: bool) {
    config.mode = Mode::Leaderless;
    config.leaderless = Leaderless {
        versions,
        sloppy,
        ..config.leaderless.clone()
    };
}

/// The mode of a configuration in one word.
pub fn name(config: &Config) -> String {
    match config.mode {
        Mode::SingleLeader => config.ack.to_string(),
        Mode::Raft => match config.reads {
            Reads::Lease => "raft-lease",
            Reads::Local => "raft-local",
            _ => "raft",
        }
        .to_owned(),
        Mode::MultiLeader => match config.multi_leader.conflicts {
            Conflicts::Lww => "multi-leader-lww",
            Conflicts::Siblings => "multi-leader-siblings",
            Conflicts::Crdt => "multi-leader-crdt",
            Conflicts::Procedure => "multi-leader-procedure",
            Conflicts::Synchronous => "multi-leader-synchronous",
            Conflicts::Home => "multi-leader-home",
        }
        .to_owned(),
        Mode::Leaderless => match (config.leaderless.sloppy, config.leaderless.versions) {
            (true, _) => "leaderless-sloppy",
            (false, Versions::Lww) => "leaderless-lww",
            (false, Versions::Dotted) => "leaderless",
        }
        .to_owned(),
    }
}

/// Sets the mode from one word; everything else that is configured stays.
///
/// # Errors
/// What was expected.
pub fn set(config: &mut Config, word: &str) -> Result<(), String> {
    let full = match word {
        "semi-sync" => "semi-sync(k)",
        "multi-leader" => "multi-leader-lww",
        "single-leader" => {
            config.mode = Mode::SingleLeader;
            return Ok(());
        }
        _ => word,
    };
    if let Some(known) = WORDS.iter().find(|known| known.word == full) {
        (known.set)(config);
        return Ok(());
    }
    let words: Vec<&str> = WORDS.iter().map(|known| known.word).collect();
    let ack = word
        .parse::<Ack>()
        .map_err(|_| format!("expected one of {}, not {word:?}", words.join(", ")))?;
    single_leader(config, ack);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_names_what_it_sets() {
        for word in &WORDS {
            let mut config = Config::default();
            set(&mut config, word.word).unwrap();
            assert_eq!(name(&config), word.word.replace("(k)", "(1)"));
        }
        let mut config = Config::default();
        set(&mut config, "semi-sync(3)").unwrap();
        assert_eq!(name(&config), "semi-sync(3)");
        for bad in ["paxos", "semi-sync(k", ""] {
            assert!(set(&mut config, bad).is_err(), "{bad}");
        }
    }
}
