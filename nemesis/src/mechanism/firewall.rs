//! Cuts by nftables: a table of our own in the network of a node drops what comes from some
//! addresses. Dropped, not rejected: connections that stand fall silent, and nobody is told.
//!
//! Each rule names its fault and its link in a comment, and counts what it drops; healing removes
//! the rules of one fault and nothing else.

use std::io;
use std::net::IpAddr;
use std::sync::OnceLock;

use serde_json::Value;

use super::namespace::{Namespace, try_inside};
use super::{Available, MARK, tool};

/// After the queue of [`super::queue`] (priority −150), so that a packet that was held back is cut
/// too when its time has come; and after whatever rules a store may have made.
const PRIORITY: i32 = 10;
/// In the comment of a rule, behind the mark: the number of the fault and the link follow.
const FAULT: &str = "fault";

/// What one node is not to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// From whom.
    pub from: IpAddr,
    /// Whether answers to them are dropped too.
    pub answers_too: bool,
    /// The name of the link, without blanks and quotes.
    pub link: String,
}

/// A rule that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The fault that it belongs to.
    pub fault: u32,
    /// The name of its link.
    pub link: String,
    /// How many packets it has dropped so far.
    pub dropped: u64,
    chain: String,
    handle: u64,
}

/// Whether nftables drops packets here, also for an ordinary user.
///
/// # Errors
/// Why not.
pub fn available() -> Available {
    static AVAILABLE: OnceLock<Available> = OnceLock::new();
    AVAILABLE.get_or_init(look).clone()
}

fn look() -> Available {
    tool::run("nft", &["--version"]).map_err(|error| error.to_string())?;
    try_inside(
        "nft add table inet quorate && \
        nft 'add chain inet quorate input { type filter hook input priority 10; }' && \
        nft add rule inet quorate input ip saddr 10.64.0.1 counter drop comment '\"quorate fault 1 n1>n2\"'",
    )
}

/// Begins to drop, in the name of a fault, all at once. Rules that it has already are replaced.
///
/// # Errors
/// If nftables is missing or refuses; nothing is dropped then.
pub fn cut(namespace: &Namespace, fault: u32, cuts: &[Cut]) -> io::Result<()> {
    release(namespace, fault)?;
    let mut script = format!("add table inet {MARK}\n");
    for chain in ["input", "output"] {
        script += &format!(
            "add chain inet {MARK} {chain} {{ type filter hook {chain} priority {PRIORITY}; }}\n"
        );
    }
    for Cut {
        from,
        answers_too,
        link,
    } in cuts
    {
        let family = if from.is_ipv4() { "ip" } else { "ip6" };
        let mut rule = |chain, side| {
            script += &format!(
                "add rule inet {MARK} {chain} {family} {side} {from} counter drop \
                 comment \"{MARK} {FAULT} {fault} {link}\"\n"
            );
        };
        rule("input", "saddr");
        if *answers_too {
            rule("output", "daddr");
        }
    }
    apply(namespace, &script)
}

/// Removes the rules of a fault, if there are any; how many there were.
///
/// # Errors
/// If nftables is missing or refuses.
pub fn release(namespace: &Namespace, fault: u32) -> io::Result<usize> {
    let mut ours = rules(namespace)?;
    ours.retain(|rule| rule.fault == fault);
    let script: String = ours
        .iter()
        .map(|Rule { chain, handle, .. }| {
            format!("delete rule inet {MARK} {chain} handle {handle}\n")
        })
        .collect();
    if !ours.is_empty() {
        apply(namespace, &script)?;
    }
    Ok(ours.len())
}

/// Removes our table if it has no rules left; whether there was one to remove.
///
/// # Errors
/// If nftables is missing or refuses.
pub fn tidy(namespace: &Namespace) -> io::Result<bool> {
    let listed = namespace.run(|| tool::run("nft", &["-j", "list", "ruleset", "inet"]))?;
    let listed: Value = serde_json::from_str(&listed.map_err(io::Error::other)?)?;
    let objects = listed["nftables"].as_array().into_iter().flatten();
    let (mut tables, mut rules) = (0, 0);
    for object in objects {
        tables += usize::from(object["table"]["name"] == MARK);
        rules += usize::from(object["rule"]["table"] == MARK);
    }
    if tables == 0 || rules > 0 {
        return Ok(false);
    }
    apply(namespace, &format!("delete table inet {MARK}\n")).map(|()| true)
}

/// All our rules, of all faults.
///
/// # Errors
/// If nftables is missing or refuses.
pub fn rules(namespace: &Namespace) -> io::Result<Vec<Rule>> {
    let listed = namespace.run(|| tool::run("nft", &["-j", "-a", "list", "ruleset", "inet"]))?;
    let listed = listed.map_err(io::Error::other)?;
    let listed: Value = serde_json::from_str(&listed)?;
    let objects = listed["nftables"].as_array();
    Ok(objects
        .into_iter()
        .flatten()
        .filter_map(|object| rule(&object["rule"]))
        .collect())
}

fn apply(namespace: &Namespace, script: &str) -> io::Result<()> {
    let applied = namespace.run(|| tool::run_with_input("nft", &["-f", "-"], script))?;
    applied.map(|_| ()).map_err(io::Error::other)
}

/// A rule as nftables lists it, if it is one of ours.
fn rule(listed: &Value) -> Option<Rule> {
    if listed["table"] != MARK {
        return None;
    }
    let mut words = listed["comment"].as_str()?.split(' ');
    if (words.next()?, words.next()?) != (MARK, FAULT) {
        return None;
    }
    let counters = listed["expr"].as_array()?.iter();
    Some(Rule {
        fault: words.next()?.parse().ok()?,
        link: words.next()?.to_owned(),
        dropped: counters
            .filter_map(|expression| expression["counter"]["packets"].as_u64())
            .sum(),
        chain: listed["chain"].as_str()?.to_owned(),
        handle: listed["handle"].as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mechanism::testing::{Cable, THERE, fly};

    const QUIET: Duration = Duration::from_millis(200);

    fn cut_of(link: &str, answers_too: bool) -> Cut {
        Cut {
            from: THERE.into(),
            answers_too,
            link: link.to_owned(),
        }
    }

    #[test]
    fn a_cut_is_one_way_counted_and_undone_alone() {
        if let Err(why) = available() {
            return eprintln!("not tested: {why}");
        }
        let Some(cable) = Cable::new() else { return };
        let (there, here) = cable.sockets();
        let passes = || {
            (
                fly(&there, &here, 3, QUIET).len(),
                fly(&here, &there, 3, QUIET).len(),
            )
        };
        assert_eq!(rules(&cable.here).unwrap(), []);
        assert_eq!(release(&cable.here, 1).unwrap(), 0);
        assert_eq!(passes(), (3, 3));

        // Somebody else's rule, in a table of theirs, and in ours.
        let theirs = "add table inet theirs\n\
             add chain inet theirs c\nadd rule inet theirs c counter\n\
             add table inet quorate\nadd chain inet quorate c\n\
             add rule inet quorate c counter comment \"not ours\"\n";
        apply(&cable.here, theirs).unwrap();
        for _ in 0..2 {
            cut(&cable.here, 1, &[cut_of("n2>n1", false)]).unwrap();
        }
        let ours = rules(&cable.here).unwrap();
        assert_eq!(ours.len(), 1, "{ours:?}");
        assert_eq!(passes(), (0, 3));
        let ours = rules(&cable.here).unwrap();
        assert_eq!((ours[0].fault, ours[0].dropped), (1, 3));

        // A fault whose number begins like another's.
        cut(&cable.here, 11, &[cut_of("clients>n1", true)]).unwrap();
        assert_eq!(release(&cable.here, 1).unwrap(), 1);
        assert_eq!(passes(), (0, 0));
        assert_eq!(release(&cable.here, 11).unwrap(), 2);
        assert_eq!(passes(), (3, 3));
        let listed = cable.here.run(|| tool::run("nft", &["list", "ruleset"]));
        let listed = listed.unwrap().unwrap();
        assert!(
            listed.contains("not ours") && listed.contains("theirs"),
            "{listed}"
        );
        assert!(!listed.contains("fault"), "{listed}");

        // A table that somebody else has put a rule into stays; an empty one goes.
        assert!(!tidy(&cable.here).unwrap());
        apply(&cable.here, "flush chain inet quorate c\n").unwrap();
        assert!(tidy(&cable.here).unwrap());
        assert!(!tidy(&cable.here).unwrap());
        let listed = cable.here.run(|| tool::run("nft", &["list", "ruleset"]));
        let listed = listed.unwrap().unwrap();
        assert!(
            listed.contains("theirs") && !listed.contains("quorate"),
            "{listed}"
        );
    }
}
