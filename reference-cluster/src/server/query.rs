//! What a client may ask of one request beside the operation: the query of its URL.

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::core::{Op, Quorum, Request, VersionVector};

/// The parameters. All may be absent; any other is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Query {
    read: Option<Read>,
    #[serde(deserialize_with = "vector")]
    session: Option<VersionVector>,
    #[serde(deserialize_with = "vector")]
    context: Option<VersionVector>,
    n: Option<u16>,
    r: Option<u16>,
    w: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Read {
    /// From the asked node's own state.
    Local,
}

fn vector<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VersionVector>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let vector = VersionVector::from_str(&text).map_err(serde::de::Error::custom)?;
    Ok(Some(vector))
}

/// What is expected, for messages.
pub(super) const EXPECTED: &str =
    "read=local, session=n0:5, context=n1:3,n2:4, and n=, r=, w= with a number of replicas";

impl Query {
    /// The operation asked for in this way.
    pub fn request(self, op: Op) -> Request {
        Request {
            op,
            local: self.read == Some(Read::Local),
            session: self.session,
            context: self.context,
            quorum: Quorum {
                n: self.n,
                r: self.r,
                w: self.w,
            },
        }
    }
}
