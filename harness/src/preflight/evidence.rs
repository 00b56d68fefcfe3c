//! What the history of a roll shows of the two versions: which nodes ran which at what time, what was
//! acknowledged then, and which version has shown it later.

use std::collections::{BTreeSet, HashMap};

use checkers::{Event, F, History, Kind, Value};
use nemesis::Node;
use nemesis::selector::parse_node;
use serde::{Deserialize, Serialize};

/// A part of a roll in which no node changed its version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which nodes ran what, in words.
    pub what: String,
    /// The nodes that ran the version upgraded to.
    pub upgraded: Vec<Node>,
    /// Whether these are none or all of them.
    pub uniform: bool,
    /// When it began, in seconds of the run.
    pub from_s: f64,
    /// When it ended.
    pub to_s: f64,
    /// Writes acknowledged in it.
    pub writes: u64,
    /// How many of these a node of the version upgraded from has shown in a later part.
    pub read_by_from: u64,
    /// How many of these a node of the version upgraded to has shown in a later part.
    pub read_by_to: u64,
    /// Nodes that said that they had stopped replicating.
    pub stopped: Vec<String>,
}

/// What a history shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// One after the other.
    pub parts: Vec<Part>,
    /// How many changes of version were seen.
    pub changes: u32,
    /// Whether writes replace each other: then most are gone before the next part begins.
    pub overwritten: bool,
}

/// An acknowledged write.
#[derive(Default)]
struct Written {
    part: usize,
    shown_by: [bool; 2],
}

struct Reader {
    nodes: u16,
    evidence: Evidence,
    /// Nodes that are being changed: what they answer is of no version.
    changing: BTreeSet<Node>,
    upgraded: BTreeSet<Node>,
    /// By key, and by value where a read shows it.
    written: HashMap<Value, HashMap<Option<Value>, Vec<Written>>>,
}

/// Reads a history of a roll of so many replicas.
pub fn read(history: &History, nodes: u16) -> Evidence {
    let mut reader = Reader {
        nodes,
        evidence: Evidence::default(),
        changing: BTreeSet::new(),
        upgraded: BTreeSet::new(),
        written: HashMap::new(),
    };
    reader.begin(0, None);
    for event in &history.events {
        reader.take(event);
    }
    let end = history.events.last().map_or(0, |event| event.time);
    reader.finish(end)
}

impl Reader {
    fn begin(&mut self, now: u64, name: Option<&str>) {
        let at = now as f64 / 1e9;
        let mut stopped = Vec::new();
        if let Some(last) = self.evidence.parts.last_mut() {
            last.to_s = at;
            if last
                .upgraded
                .iter()
                .copied()
                .eq(self.upgraded.iter().copied())
            {
                stopped.clone_from(&last.stopped);
            }
        }
        let upgraded: Vec<Node> = self.upgraded.iter().copied().collect();
        let others = (1..=self.nodes).filter(|node| !self.upgraded.contains(node));
        let names = |nodes: &mut dyn Iterator<Item = Node>| {
            let names: Vec<_> = nodes.map(|node| format!("n{node}")).collect();
            names.join(", ")
        };
        let uniform = upgraded.is_empty() || upgraded.len() == usize::from(self.nodes);
        let what = match (upgraded.is_empty(), uniform) {
            (true, _) => "all old".to_owned(),
            (false, true) => "all new".to_owned(),
            (false, false) => format!(
                "{} new; {} old",
                names(&mut upgraded.iter().copied()),
                names(&mut others.into_iter())
            ),
        };
        self.evidence.parts.push(Part {
            what: name.map_or(what.clone(), |name| format!("{what}, {name}")),
            upgraded,
            uniform,
            from_s: at,
            to_s: at,
            stopped,
            ..Part::default()
        });
    }

    fn take(&mut self, event: &Event) {
        if event.process.is_nemesis() {
            return self.remark(event);
        }
        if event.kind != Kind::Ok {
            return;
        }
        let Some(key) = &event.key else { return };
        if event.f == F::Read {
            self.shown(event, key);
        } else if event.f.is_write() {
            let part = self.evidence.parts.len() - 1;
            self.evidence.overwritten |= matches!(event.f, F::Write | F::Cas);
            self.evidence.parts[part].writes += 1;
            let of_key = self.written.entry(key.clone()).or_default();
            let writes = of_key.entry(traced(event)).or_default();
            writes.push(Written {
                part,
                ..Written::default()
            });
        }
    }

    fn remark(&mut self, event: &Event) {
        match event.f.name() {
            "phase" if event.value == Value::str("final") => {
                self.begin(event.time, Some("last reads"));
            }
            "stopped" => {
                let names = event.value.items().unwrap_or_default();
                let names = names.iter().filter_map(|name| match name {
                    Value::Str(name) => Some(name.to_string()),
                    _ => None,
                });
                let part = self.evidence.parts.last_mut().expect("there is one");
                for name in names {
                    if !part.stopped.contains(&name) {
                        part.stopped.push(name);
                    }
                }
            }
            what @ ("begin" | "inject") => self.change(event, what == "inject"),
            _ => {}
        }
    }

    /// A node is about to change its version, or has done so or failed to.
    fn change(&mut self, event: &Event, over: bool) {
        let upgrade = match field(&event.value, "fault") {
            Some(Value::Str(name)) if &**name == "upgrade" => true,
            Some(Value::Str(name)) if &**name == "downgrade" => false,
            _ => return,
        };
        let targets = field(&event.value, "target").and_then(Value::items);
        let nodes: Vec<Node> = targets
            .unwrap_or_default()
            .iter()
            .filter_map(|name| match name {
                Value::Str(name) => parse_node(name),
                _ => None,
            })
            .collect();
        if !over {
            self.changing.extend(nodes);
            return;
        }
        if field(&event.value, "seen") != Some(&Value::Bool(true)) {
            // Which version it has nobody knows.
            return;
        }
        for node in nodes {
            self.changing.remove(&node);
            if upgrade {
                self.upgraded.insert(node);
            } else {
                self.upgraded.remove(&node);
            }
        }
        self.evidence.changes += 1;
        self.begin(event.time, None);
    }

    fn shown(&mut self, event: &Event, key: &Value) {
        let node = event.details().and_then(|details| details.node.as_deref());
        let Some(node) = node.and_then(parse_node) else {
            return;
        };
        if self.changing.contains(&node) {
            return;
        }
        let by = usize::from(self.upgraded.contains(&node));
        let now = self.evidence.parts.len() - 1;
        let Some(written) = self.written.get_mut(key) else {
            return;
        };
        let mut mark = |value: Option<&Value>| {
            let writes = written.get_mut(&value.cloned());
            for write in writes.into_iter().flatten().filter(|w| w.part < now) {
                write.shown_by[by] = true;
            }
        };
        mark(None);
        match event.value.items() {
            Some(items) => items.iter().for_each(|item| mark(Some(item))),
            None => mark(Some(&event.value)),
        }
    }

    fn finish(mut self, end: u64) -> Evidence {
        if let Some(last) = self.evidence.parts.last_mut() {
            last.to_s = end as f64 / 1e9;
        }
        let parts = &mut self.evidence.parts;
        for write in self.written.values().flat_map(HashMap::values).flatten() {
            let part = &mut parts[write.part];
            part.read_by_from += u64::from(write.shown_by[0]);
            part.read_by_to += u64::from(write.shown_by[1]);
        }
        self.evidence
    }
}

/// What a later read shows of a write; none where it shows no single write, as a counter does: then
/// any read of the key counts.
fn traced(event: &Event) -> Option<Value> {
    match event.f {
        F::Append | F::Write | F::Add | F::Generate => Some(event.value.clone()),
        _ => None,
    }
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(pairs) = value else {
        return None;
    };
    let named = |(key, _): &&(Value, Value)| matches!(key, Value::Str(key) if &**key == name);
    pairs.iter().find(named).map(|(_, value)| value)
}

impl Evidence {
    /// Writes of one part that a version should have shown, had it read what the other wrote, and
    /// did not: the part, and whether it is the version upgraded to. A version is asked for only
    /// where all nodes ran it in a later part; where writes replace each other only of parts with one
    /// version, whose last writes the next part finds.
    pub fn unread(&self) -> Vec<(&Part, bool)> {
        let mut unread = Vec::new();
        for (i, part) in self.parts.iter().enumerate() {
            let later = &self.parts[i + 1..];
            if part.writes == 0 || self.overwritten && !part.uniform {
                continue;
            }
            let asked = |to: bool| {
                let ran = |p: &&Part| p.uniform && p.upgraded.is_empty() != to;
                later.iter().any(|p| ran(&p))
            };
            if asked(false) && part.read_by_from == 0 {
                unread.push((part, false));
            }
            if asked(true) && part.read_by_to == 0 {
                unread.push((part, true));
            }
        }
        unread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history of two nodes, one event a line.
    fn history(lines: &[&str]) -> History {
        let mut text = String::new();
        for (index, line) in lines.iter().enumerate() {
            let time = index as u64 * 1_000_000_000;
            text += &format!("{{\"index\":{index},\"time\":{time},{line}}}\n");
        }
        let options = checkers::format::ReadOptions::default();
        checkers::format::jsonl::read(&mut text.as_bytes(), "test", &options)
            .unwrap()
            .history
    }

    fn change(kind: &str, node: u16) -> [String; 2] {
        ["begin", "inject"].map(|what| {
            format!(
                r#""process":"nemesis","type":"info","f":"{what}","value":{{"fault":"{kind}","target":["n{node}"],"seen":true}}"#
            )
        })
    }

    fn ok(f: &str, value: &str, node: u16) -> [String; 2] {
        ["invoke", "ok"].map(|kind| {
            format!(
                r#""process":0,"type":"{kind}","f":"{f}","key":"k","value":{value},"node":"n{node}""#
            )
        })
    }

    fn evidence(groups: &[[String; 2]]) -> Evidence {
        let lines: Vec<&str> = groups.iter().flatten().map(String::as_str).collect();
        read(&history(&lines), 2)
    }

    #[test]
    fn parts_follow_the_versions_and_know_who_read_what() {
        let evidence = evidence(&[
            ok("append", "1", 1),
            change("upgrade", 2),
            ok("read", "[1]", 2),
            ok("append", "2", 2),
            change("upgrade", 1),
            change("downgrade", 2),
            ok("read", "[1,2]", 2),
            change("downgrade", 1),
        ]);
        assert_eq!(evidence.changes, 4);
        let what: Vec<_> = evidence.parts.iter().map(|p| p.what.as_str()).collect();
        assert_eq!(
            what,
            [
                "all old",
                "n2 new; n1 old",
                "all new",
                "n1 new; n2 old",
                "all old"
            ]
        );
        let read = |i: usize| {
            let part = &evidence.parts[i];
            (part.writes, part.read_by_from, part.read_by_to)
        };
        assert_eq!(read(0), (1, 1, 1));
        assert_eq!(read(1), (1, 1, 0));
        assert_eq!(read(2), (0, 0, 0));
        let unread: Vec<_> = evidence
            .unread()
            .iter()
            .map(|(part, to)| (part.what.clone(), *to))
            .collect();
        assert_eq!(unread, [("n2 new; n1 old".to_owned(), true)]);
    }

    #[test]
    fn a_read_in_the_same_part_or_by_a_changing_node_says_nothing() {
        let [begin, inject] = change("upgrade", 2);
        let evidence = evidence(&[
            ok("append", "1", 1),
            ok("read", "[1]", 1),
            [begin, ok("read", "[1]", 2)[0].clone()],
            [ok("read", "[1]", 2)[1].clone(), inject],
        ]);
        assert_eq!(evidence.parts[0].writes, 1);
        assert_eq!(evidence.parts[0].read_by_from, 0);
        assert_eq!(evidence.parts[0].read_by_to, 0);
    }

    #[test]
    fn a_change_that_was_not_seen_is_none() {
        let [begin, inject] = change("upgrade", 2);
        let evidence = evidence(&[[begin, inject.replace("true", "false")]]);
        assert_eq!(evidence.changes, 0);
        assert_eq!(evidence.parts.len(), 1);
    }

    #[test]
    fn of_writes_that_replace_each_other_only_the_last_can_be_read_later() {
        let evidence = evidence(&[
            ok("write", "1", 1),
            change("upgrade", 2),
            ok("write", "2", 1),
            ok("write", "3", 1),
            change("upgrade", 1),
            ok("read", "3", 2),
        ]);
        let unread: Vec<_> = evidence.unread().iter().map(|(p, _)| &p.what).collect();
        assert_eq!(unread, ["all old"], "{:?}", evidence.parts);
    }

    #[test]
    fn a_counter_is_read_by_any_read_of_its_key() {
        let evidence = evidence(&[
            ok("increment", "1", 1),
            change("upgrade", 2),
            ok("read", "7", 2),
        ]);
        assert_eq!(evidence.parts[0].read_by_to, 1);
    }

    #[test]
    fn who_stopped_is_said_of_the_part() {
        let stopped = |names: &str| {
            format!(r#""process":"nemesis","type":"info","f":"stopped","value":[{names}]"#)
        };
        let evidence = evidence(&[
            change("upgrade", 2),
            [stopped(r#""n2""#), stopped("")],
            change("upgrade", 1),
        ]);
        assert_eq!(evidence.parts[1].stopped, ["n2"]);
        assert!(evidence.parts[2].stopped.is_empty());
    }
}
