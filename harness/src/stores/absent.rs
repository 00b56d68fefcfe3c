//! Stores whose clients this program was built without.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::UNKNOWN_MODE;
use super::{AnyClient, ClientError, Target};

/// The options of such a store: kept as they were written, so that its runs can be read, and good for
/// nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Absent(Value);

const NOT_BUILT: &str = "this quorate was built without its client: build it with `cargo build --release --features stores`";

impl Target for Absent {
    fn mode(&self) -> String {
        UNKNOWN_MODE.to_owned()
    }

    fn has(&self, _: &str) -> bool {
        true
    }

    fn client(&self, _: Option<PathBuf>, _: Duration) -> Result<AnyClient, ClientError> {
        Err(ClientError::Absent)
    }

    fn validate(&self) -> Result<(), String> {
        Err(NOT_BUILT.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_options_are_kept_and_no_run_begins() {
        let text = "password-env: SECRET\nsync: any-1\n";
        let absent: Absent = serde_yaml::from_str(text).unwrap();
        assert_eq!(serde_yaml::to_string(&absent).unwrap(), text);
        assert!(absent.validate().unwrap_err().contains("--features stores"));
        assert!(absent.client(None, Duration::from_secs(1)).is_err());
    }
}
