//! Two versions of the store under test, for runs that go from one to the other: the faults
//! `upgrade` and `downgrade` of such a run take a node to the one and back to the other.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::experiment::On;

/// What a node says that cannot read what it finds or is sent: the proof of a change of version has
/// these words after the node's name.
pub const REFUSES: &str = "refuses";
/// What a node is that was started and never answered.
pub const NOT_UP: &str = "did not come up";
/// What a node did that nobody has killed, as [`crate::substrate::Happening::Broken`] says it.
pub const ENDED: &str = "ended although nobody killed it";

/// From which version to which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// The version that nodes begin with, and go back to.
    pub from: Version,
    /// The version that they are upgraded to.
    pub to: Version,
}

impl Versions {
    /// The version that nodes have after an upgrade, or after a downgrade.
    pub fn after(&self, upgrade: bool) -> &Version {
        if upgrade { &self.to } else { &self.from }
    }

    /// Whether both are the same: nodes are started again, and nothing changes.
    pub fn same(&self) -> bool {
        self.from == self.to
    }

    /// Refuses versions that cannot be started there.
    ///
    /// # Errors
    /// The field, and what was expected.
    pub fn validate(&self, on: On) -> Result<(), (&'static str, String)> {
        for (field, version) in [("from", &self.from), ("to", &self.to)] {
            version.validate(on).map_err(|why| (field, why))?;
        }
        Ok(())
    }
}

/// A program or an image, and the storage format that it is to write. Written `path`, `path@2`,
/// `image:tag@2`, or `@2` for this program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// The path of a program that takes the arguments of `quorate node`, or a container's image; none:
    /// the one that nodes are started from anyway.
    pub program: Option<String>,
    /// The storage format that it is told to write; none: what it is configured to.
    pub storage: Option<u16>,
}

impl Version {
    fn validate(&self, on: On) -> Result<(), String> {
        let Some(program) = &self.program else {
            return Ok(());
        };
        match on {
            On::Sim => Err(format!(
                "in simulation there are no programs, only storage formats: expected a format such as @2, not {self}"
            )),
            On::Local | On::Netns => executable(Path::new(program)),
            On::K8s => Ok(()),
            On::External => Err("nothing is done to a store that runs already".to_owned()),
        }
    }
}

/// Refuses what cannot be a program.
fn executable(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let wrong = |why: &str| {
        Err(format!(
            "expected the path of a program that runs as `quorate node`; {} {why}",
            path.display()
        ))
    };
    match std::fs::metadata(path) {
        Err(error) => wrong(&format!("cannot be read: {error}")),
        Ok(found) if !found.is_file() => wrong("is no file"),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => wrong("is not executable"),
        Ok(_) => Ok(()),
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected a program or image, with a storage format if need be, such as quorate@2, not {text:?}"
            )
        };
        // An image by its digest has an @, too: what follows it is no number.
        let (program, storage) = match text.rsplit_once('@') {
            Some((program, digits)) if digits.bytes().all(|c| c.is_ascii_digit()) => {
                let storage: u16 = digits.parse().map_err(|_| wrong())?;
                if !(1..=1_000).contains(&storage) {
                    return Err(format!(
                        "expected a storage format from 1 to 1000, not {storage}"
                    ));
                }
                (program, Some(storage))
            }
            _ => (text, None),
        };
        let program = (!program.is_empty()).then(|| program.to_owned());
        if program.is_none() && storage.is_none() {
            return Err(wrong());
        }
        Ok(Self { program, storage })
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program.as_deref().unwrap_or_default())?;
        match self.storage {
            Some(storage) => write!(f, "@{storage}"),
            None => Ok(()),
        }
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_program_a_format_or_both() {
        for (text, program, storage) in [
            ("quorate@2", Some("quorate"), Some(2)),
            ("@3", None, Some(3)),
            ("./b/quorate", Some("./b/quorate"), None),
            ("store:1.2@10", Some("store:1.2"), Some(10)),
            ("store@sha256:abc", Some("store@sha256:abc"), None),
            ("store@sha256:abc@2", Some("store@sha256:abc"), Some(2)),
        ] {
            let version: Version = text.parse().unwrap();
            assert_eq!(version.program.as_deref(), program, "{text}");
            assert_eq!(version.storage, storage, "{text}");
            assert_eq!(version.to_string(), text);
        }
        for bad in ["", "@", "q@0", "q@1001", "q@99999999"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_started_is_refused() {
        let of = |from: &str, to: &str| Versions {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        };
        assert_eq!(of("@1", "@2").validate(On::Sim), Ok(()));
        let (field, why) = of("@1", "quorate@2").validate(On::Sim).unwrap_err();
        assert_eq!(field, "to");
        assert!(why.contains("such as @2"), "{why}");
        let here = std::env::current_exe().unwrap();
        let here = here.to_str().unwrap();
        assert_eq!(of(here, here).validate(On::Local), Ok(()));
        for bad in ["/nonexistent/quorate", "/etc/passwd", "/etc"] {
            let (field, _) = of(bad, here).validate(On::Netns).unwrap_err();
            assert_eq!(field, "from", "{bad}");
        }
    }
}
