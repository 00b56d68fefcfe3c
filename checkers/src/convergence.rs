//! Whether all replicas that should hold the same do hold the same.
//!
//! Convergence is what is left of consistency once clients, faults and time are taken out: after
//! healing and quiescence every replica has the same state (the *eventual consistency* of Terry et
//! al., *Managing Update Conflicts in Bayou*, SOSP 1995; *strong convergence* in Shapiro et al.,
//! *Conflict-free Replicated Data Types*, SSS 2011).
//!
//! It is judged from operations of function `inspect` alone, each of which asks one replica (the
//! event's `node`) for what it holds. Without a key the answer is a map of the `digest` of its
//! whole state, its `scope` (the prefix of the keys that it holds; empty or absent: all; `range …`:
//! those that no prefix tells, as of a ring of hashes) and, if it `stopped` replicating, why. With a
//! key the answer is the content of that key. Of each replica the last inspection counts, and of
//! each of its keys.
//!
//! * `diverged`: two replicas of one scope have different digests, or two replicas that both hold
//!   a key hold different content of it. One anomaly a scope, and one for each of the first
//!   [`KEYS_NAMED_MAX`] keys (figures `diverged_scopes`, `diverged_keys`: all of them). Replicas of
//!   different scopes are compared by keys only.
//! * `replication-stopped`: a replica says that it stopped replicating.
//!
//! Both make a history invalid. An inspection that the replica refused as unsupported says nothing.
//! A replica that was asked for its digest and did not answer is `unknown(no-answer)`, one that has
//! nothing in common with the others `unknown(not-compared)`; neither masks a violation by others.

use std::collections::{BTreeMap, BTreeSet};

use crate::verdict::conclude;
use crate::{Anomaly, CheckResult, Checker, F, History, Operation, Value, observe};

/// Keys that get an anomaly of their own.
pub const KEYS_NAMED_MAX: usize = 20;

/// How the scope of a replica begins that holds the keys it answers for, and refuses others.
const RANGE: &str = "range ";

/// Characters of a content that a sentence shows.
const CONTENT_SHOWN_MAX: usize = 60;

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Convergence;

impl Checker for Convergence {
    fn name(&self) -> &'static str {
        "convergence"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match history.operations() {
            Ok(operations) => operations,
            Err(e) => return CheckResult::unknown(self.name(), format!("malformed-history: {e}")),
        };
        let inspected = Inspected::of(&operations);
        let mut anomalies = inspected.stopped(&operations);
        let stopped = anomalies.len();
        let mut compared: BTreeSet<&str> = BTreeSet::new();
        let by_scope = inspected.by_digest(&operations, &mut compared);
        let scopes = by_scope.len();
        anomalies.extend(by_scope);
        let (keys, by_key) = inspected.by_key(&operations, &mut compared);
        anomalies.extend(by_key);

        let mut reasons = Vec::new();
        if !inspected.silent.is_empty() {
            reasons.push(format!("no-answer: {}", list(&inspected.silent)));
        }
        let alone: Vec<&str> = inspected
            .replicas
            .keys()
            .copied()
            .filter(|node| !compared.contains(node))
            .collect();
        if !alone.is_empty() && !compared.is_empty() {
            reasons.push(format!("not-compared: {}", list(&alone)));
        }
        let verdict = conclude(!anomalies.is_empty(), compared.len() as u64, reasons);
        let mut result = CheckResult::new(self.name(), verdict);
        result.judged = compared.len() as u64;
        result.figure("replicas", inspected.replicas.len());
        result.figure("replicas_silent", inspected.silent.len());
        result.figure("keys_compared", inspected.keys.len());
        result.figure("diverged_scopes", scopes);
        result.figure("diverged_keys", keys);
        result.figure("stopped", stopped);
        result.anomalies = anomalies;
        result
    }
}

/// What one replica said of its whole state.
struct Replica<'a> {
    /// The inspection, by position among the operations.
    op: usize,
    digest: &'a Value,
    scope: String,
    stopped: Option<&'a Value>,
}

impl<'a> Replica<'a> {
    fn read(op: usize, answer: &'a Value) -> Option<Self> {
        let digest = field(answer, "digest")?;
        let scope = field(answer, "scope").map_or_else(String::new, text);
        let stopped = field(answer, "stopped");
        Some(Self {
            op,
            digest,
            scope,
            stopped,
        })
    }

    /// Whether a key that it answered for is its own.
    fn holds(&self, key: &Value) -> bool {
        self.scope.starts_with(RANGE) || text(key).starts_with(&self.scope)
    }
}

/// A key's content by replica: what it is, and the inspection that says so.
type Contents<'a> = BTreeMap<&'a str, (&'a Value, usize)>;

/// The last word of every replica.
struct Inspected<'a> {
    replicas: BTreeMap<&'a str, Replica<'a>>,
    keys: BTreeMap<&'a Value, Contents<'a>>,
    /// Asked for their digest, without an answer.
    silent: Vec<&'a str>,
}

impl<'a> Inspected<'a> {
    fn of(operations: &[Operation<'a>]) -> Self {
        let mut last: BTreeMap<(&'a str, Option<&'a Value>), usize> = BTreeMap::new();
        for (i, op) in operations.iter().enumerate() {
            let asked = op.invoke.node.as_ref().or_else(|| op.node());
            if let (F::Inspect, Some(node)) = (op.f(), asked)
                && !refused(op)
            {
                last.insert((&**node, op.key()), i);
            }
        }
        let mut found = Self {
            replicas: BTreeMap::new(),
            keys: BTreeMap::new(),
            silent: Vec::new(),
        };
        for ((node, key), op) in last {
            match (key, operations[op].result()) {
                (None, answer) => match answer.and_then(|a| Replica::read(op, a)) {
                    Some(replica) => _ = found.replicas.insert(node, replica),
                    None => found.silent.push(node),
                },
                (Some(key), Some(content)) => {
                    let contents = found.keys.entry(key).or_default();
                    contents.insert(node, (content, op));
                }
                (Some(_), None) => {}
            }
        }
        let replicas = &found.replicas;
        for (key, contents) in &mut found.keys {
            contents.retain(|node, _| replicas.get(node).is_none_or(|r| r.holds(key)));
        }
        found.keys.retain(|_, contents| contents.len() > 1);
        found
    }

    fn stopped(&self, operations: &[Operation<'_>]) -> Vec<Anomaly> {
        let told = |(node, replica): (&&str, &Replica<'a>)| {
            let why = text(replica.stopped?);
            let mut figures = serde_json::Map::new();
            figures.insert("node".to_owned(), (*node).into());
            figures.insert("why".to_owned(), why.clone().into());
            Some(Anomaly {
                class: "replication-stopped".to_owned(),
                key: None,
                summary: format!("{node} stopped replicating: {why}"),
                ops: vec![operations[replica.op].invoke.index],
                figures,
            })
        };
        self.replicas.iter().filter_map(told).collect()
    }

    /// One anomaly for each scope whose replicas have different digests.
    fn by_digest(
        &self,
        operations: &[Operation<'_>],
        compared: &mut BTreeSet<&'a str>,
    ) -> Vec<Anomaly> {
        let mut scopes: BTreeMap<&str, Vec<&'a str>> = BTreeMap::new();
        for (node, replica) in &self.replicas {
            scopes.entry(&replica.scope).or_default().push(node);
        }
        let mut anomalies = Vec::new();
        for (scope, nodes) in scopes.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
            compared.extend(&nodes);
            let holdings: Contents<'_> = nodes
                .iter()
                .map(|node| (*node, (self.replicas[node].digest, self.replicas[node].op)))
                .collect();
            let what = match scope {
                "" => "the replicas".to_owned(),
                prefix => format!("the replicas of keys that start with {prefix}"),
            };
            anomalies.extend(diverged(operations, None, &what, &holdings));
        }
        anomalies
    }

    /// How many keys diverged, and an anomaly for the first of them.
    fn by_key(
        &self,
        operations: &[Operation<'_>],
        compared: &mut BTreeSet<&'a str>,
    ) -> (usize, Vec<Anomaly>) {
        let (mut count, mut anomalies) = (0, Vec::new());
        for (key, contents) in &self.keys {
            compared.extend(contents.keys());
            let name = observe::key_name(Some(key));
            if let Some(anomaly) = diverged(operations, Some(key), &name, contents) {
                count += 1;
                if count <= KEYS_NAMED_MAX {
                    anomalies.push(anomaly);
                }
            }
        }
        (count, anomalies)
    }
}

/// The anomaly, if not all hold the same.
fn diverged(
    operations: &[Operation<'_>],
    key: Option<&Value>,
    what: &str,
    holdings: &Contents<'_>,
) -> Option<Anomaly> {
    let mut holders: BTreeMap<&Value, Vec<&str>> = BTreeMap::new();
    for (node, (content, _)) in holdings {
        holders.entry(content).or_default().push(node);
    }
    if holders.len() < 2 {
        return None;
    }
    let mut groups: Vec<(&Value, Vec<&str>)> = holders.into_iter().collect();
    groups.sort_by(|a, b| a.1.cmp(&b.1));
    let contents: Vec<&Value> = groups.iter().map(|(content, _)| *content).collect();
    let said: Vec<String> = difference(&contents)
        .into_iter()
        .zip(&groups)
        .map(|(what, (_, nodes))| {
            let holds = if nodes.len() == 1 { "holds" } else { "hold" };
            format!("{} {holds} {what}", list(nodes))
        })
        .collect();
    let digest = if key.is_none() { " by digest" } else { "" };
    let mut ops: Vec<u64> = holdings
        .values()
        .map(|(_, op)| operations[*op].invoke.index)
        .collect();
    ops.sort_unstable();
    let mut figures = serde_json::Map::new();
    let by_node = holdings
        .iter()
        .map(|(node, (content, _))| ((*node).to_owned(), clip(&content.to_string()).into()));
    figures.insert(
        "holdings".to_owned(),
        serde_json::Value::Object(by_node.collect()),
    );
    figures.insert("versions".to_owned(), groups.len().into());
    Some(Anomaly {
        class: "diverged".to_owned(),
        key: key.cloned(),
        summary: format!("{what} did not converge{digest}: {}", said.join("; ")),
        ops,
        figures,
    })
}

/// Each content in words: what it is, or, of long collections, what each of them lacks.
fn difference(contents: &[&Value]) -> Vec<String> {
    let whole: Vec<String> = contents.iter().map(ToString::to_string).collect();
    let items: Option<Vec<&[Value]>> = contents.iter().map(|c| observe::elements(c)).collect();
    let long = whole.iter().any(|text| text.len() > CONTENT_SHOWN_MAX);
    let (Some(items), true) = (items, long) else {
        return whole.iter().map(|text| clip(text)).collect();
    };
    let sets: Vec<BTreeSet<&Value>> = items.iter().map(|items| items.iter().collect()).collect();
    let all: BTreeSet<&Value> = sets.iter().flatten().copied().collect();
    // One that has everything differs only in order from others that do.
    let complete = sets.iter().filter(|own| own.len() == all.len()).count();
    let told = |own: &BTreeSet<&Value>| {
        let lacking: Vec<String> = all.difference(own).map(ToString::to_string).collect();
        match (lacking.is_empty(), complete) {
            (true, 1) => format!("all {} elements", all.len()),
            (true, _) => format!("all {} elements, in an order of its own", all.len()),
            (false, _) => format!(
                "{} of {} elements, without {}",
                own.len(),
                all.len(),
                clip(&lacking.join(", "))
            ),
        }
    };
    sets.iter().map(told).collect()
}

/// Whether the replica said that it cannot be inspected so.
fn refused(op: &Operation<'_>) -> bool {
    let said = |e: &crate::Event| e.error.as_ref().is_some_and(|e| e.contains("unsupported"));
    op.outcome == crate::Outcome::Fail && op.complete.is_some_and(said)
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(pairs) = map else { return None };
    let (_, value) = pairs
        .iter()
        .find(|(key, _)| matches!(key, Value::Str(k) | Value::Keyword(k) if &**k == name))?;
    (!value.is_nil()).then_some(value)
}

fn text(value: &Value) -> String {
    value.to_string()
}

/// `n1, n2 and n3`.
fn list(nodes: &[&str]) -> String {
    match nodes {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => nodes.concat(),
    }
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(CONTENT_SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
