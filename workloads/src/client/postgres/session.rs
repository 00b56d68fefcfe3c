//! Who connects, and what the session is like.

use std::fmt::{self, Write};

use tokio_postgres::Config;

/// Who connects to which database, and what is asked of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// Its password, if it needs one.
    pub password: Option<String>,
    /// The level of isolation of transactions and single statements; the server's if none.
    pub isolation: Option<Isolation>,
    /// What a commit waits for; as the server is configured if none.
    pub commit: Option<Commit>,
    /// Who is read.
    pub reads: Reads,
}

impl fmt::Debug for Session {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("user", &self.user)
            .field("database", &self.database)
            .field("isolation", &self.isolation)
            .field("commit", &self.commit)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

/// A level of isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Each statement sees what was committed before it began.
    ReadCommitted,
    /// All statements see what was committed before the first: a snapshot.
    RepeatableRead,
    /// As if one transaction came after the other.
    Serializable,
}

impl Isolation {
    /// As SQL has it.
    pub fn sql(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }
}

/// `synchronous_commit`: what a commit waits for, where there are synchronous standbys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commit {
    /// The own disk alone.
    Local,
    /// Standbys have it in memory.
    RemoteWrite,
    /// Standbys have it on disk.
    On,
    /// Standbys show it.
    RemoteApply,
}

impl Commit {
    /// As the server's configuration has it.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::RemoteWrite => "remote_write",
            Self::On => "on",
            Self::RemoteApply => "remote_apply",
        }
    }
}

/// Who answers reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// Who takes itself for the primary.
    #[default]
    Primary,
    /// Standbys, too.
    Any,
}

impl Session {
    /// How to connect to `host:port`; `None` if it is no such thing.
    pub(super) fn config(&self, address: &str) -> Option<Config> {
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut config = Config::new();
        config
            .host(host)
            .port(port.parse().ok()?)
            .user(&self.user)
            .dbname(&self.database)
            .application_name("quorate");
        if let Some(password) = &self.password {
            config.password(password);
        }
        Some(config)
    }

    /// The statements that begin a session. Limits of time are the client's own.
    pub(super) fn settings(&self) -> String {
        let mut settings = "SET statement_timeout = 0; SET lock_timeout = 0; \
             SET idle_in_transaction_session_timeout = 0"
            .to_owned();
        if let Some(isolation) = self.isolation {
            let isolation = isolation.sql();
            // Writing into a text does not fail.
            let _ = write!(
                settings,
                "; SET default_transaction_isolation = '{isolation}'"
            );
        }
        if let Some(commit) = self.commit {
            let _ = write!(settings, "; SET synchronous_commit = '{}'", commit.sql());
        }
        settings
    }

    /// What begins a transaction. One that is to be of the primary may write, which standbys refuse.
    pub(super) fn begin(&self) -> String {
        let level = self
            .isolation
            .map(|isolation| format!(" ISOLATION LEVEL {}", isolation.sql()));
        let level = level.unwrap_or_default();
        let writes = match self.reads {
            Reads::Primary => " READ WRITE",
            Reads::Any => "",
        };
        format!("BEGIN{level}{writes}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            user: "postgres".to_owned(),
            database: "postgres".to_owned(),
            password: None,
            isolation: Some(Isolation::RepeatableRead),
            commit: Some(Commit::RemoteApply),
            reads: Reads::Primary,
        }
    }

    #[test]
    fn a_session_is_told_what_it_is_to_be_like() {
        let settings = session().settings();
        for part in [
            "SET statement_timeout = 0",
            "SET default_transaction_isolation = 'repeatable read'",
            "SET synchronous_commit = 'remote_apply'",
        ] {
            assert!(settings.contains(part), "{settings}");
        }
        assert_eq!(
            session().begin(),
            "BEGIN ISOLATION LEVEL repeatable read READ WRITE"
        );
        let plain = Session {
            isolation: None,
            commit: None,
            reads: Reads::Any,
            ..session()
        };
        assert_eq!(plain.begin(), "BEGIN");
        assert!(!plain.settings().contains("synchronous_commit"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let session = Session {
            password: Some("secret".to_owned()),
            ..session()
        };
        assert!(!format!("{session:?}").contains("secret"));
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let config = session().config("[::1]:5432").unwrap();
        assert_eq!(config.get_ports(), [5432]);
        let host = tokio_postgres::config::Host::Tcp("::1".to_owned());
        assert_eq!(config.get_hosts(), [host]);
        assert!(session().config("127.0.0.1").is_none());
        assert!(session().config("127.0.0.1:http").is_none());
    }
}
