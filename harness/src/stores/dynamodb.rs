//! The DynamoDB API: AWS's, or one that speaks the same. It is never started here: its endpoint is
//! named with `--nodes`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use workloads::client::dynamodb::{DynamoDbClient, Keys, Settings};

use super::{AnyClient, ClientError, Target};

/// What it can be asked for.
const OPERATIONS: [&str; 8] = [
    "read",
    "write",
    "cas",
    "append",
    "add",
    "increment",
    "txn",
    "transfer",
];

/// The DynamoDB API, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Dynamodb {
    /// What reads promise.
    pub reads: Reads,
    /// The table: its partition key is the text `k`, and it has no sort key.
    pub table: String,
    /// Make the table if it is not there, billed by request.
    pub create: bool,
    /// The region that requests are signed for.
    pub region: String,
    /// Speak TLS; by keys of one's own and nothing else.
    pub tls: bool,
}

/// What reads of the DynamoDB API promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// What was written lately may be missing.
    Eventual,
    /// All that was acknowledged before is there.
    #[default]
    Strong,
}

impl Default for Dynamodb {
    fn default() -> Self {
        Self {
            reads: Reads::default(),
            table: "quorate".to_owned(),
            create: false,
            region: "us-east-1".to_owned(),
            tls: false,
        }
    }
}

impl Dynamodb {
    /// What the client goes by. `variable` looks up an environment variable: AWS's own names.
    ///
    /// # Errors
    /// If an endpoint over TLS is to be asked without keys.
    pub fn settings(
        &self,
        timeout: Duration,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, String> {
        let id = variable("AWS_ACCESS_KEY_ID");
        let keys = match id.zip(variable("AWS_SECRET_ACCESS_KEY")) {
            Some((id, secret)) => Keys {
                id,
                secret,
                token: variable("AWS_SESSION_TOKEN"),
            },
            // Stores at hand want a signature, and take anybody's.
            None if !self.tls => Keys {
                id: "quorate".to_owned(),
                secret: "quorate".to_owned(),
                token: None,
            },
            None => {
                let message = "an endpoint over TLS wants keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
                return Err(message.to_owned());
            }
        };
        Ok(Settings {
            timeout,
            consistent: self.reads == Reads::Strong,
            table: self.table.clone(),
            create: self.create,
            region: self.region.clone(),
            tls: self.tls,
            keys,
        })
    }
}

impl Target for Dynamodb {
    fn mode(&self) -> String {
        let reads = match self.reads {
            Reads::Eventual => "eventually",
            Reads::Strong => "strongly",
        };
        format!("{reads} consistent reads")
    }

    fn has(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn client(&self, _: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        let settings = self.settings(timeout, |name| std::env::var(name).ok());
        let client = DynamoDbClient::new(settings.map_err(ClientError::Dynamodb)?);
        Ok(AnyClient::Dynamodb(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dynamodb: &Dynamodb, known: &[(&str, &str)]) -> Result<Settings, String> {
        dynamodb.settings(Duration::from_secs(1), |name| {
            let found = known.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn keys_are_those_of_the_environment_and_needed_over_tls() {
        let plain = Dynamodb::default();
        assert_eq!(settings(&plain, &[]).unwrap().keys.id, "quorate");
        let own = [
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SESSION_TOKEN", "t"),
        ];
        for tls in [false, true] {
            let store = Dynamodb {
                tls,
                ..plain.clone()
            };
            let keys = settings(&store, &own).unwrap().keys;
            assert_eq!(
                (
                    keys.id.as_str(),
                    keys.secret.as_str(),
                    keys.token.as_deref()
                ),
                ("a", "s", Some("t"))
            );
        }
        let tls = Dynamodb { tls: true, ..plain };
        let said = settings(&tls, &own[..1]).map(drop).unwrap_err();
        assert!(said.contains("AWS_SECRET_ACCESS_KEY"), "{said}");
    }

    #[test]
    fn reads_are_consistent_unless_less_is_asked_for() {
        assert!(settings(&Dynamodb::default(), &[]).unwrap().consistent);
        let eventual = Dynamodb {
            reads: Reads::Eventual,
            ..Dynamodb::default()
        };
        assert!(!settings(&eventual, &[]).unwrap().consistent);
        assert_eq!(eventual.mode(), "eventually consistent reads");
    }
}
