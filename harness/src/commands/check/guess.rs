//! What the clients of a recorded history did, told by the functions in it, and which checkers
//! judge that.

use checkers::{Event, F, Format, History, Kind as EventKind, Value};
use workloads::Kind;

/// Which checkers to run, and why these.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    /// Names of checkers.
    pub checks: Vec<String>,
    /// For the user, one remark a line.
    pub remarks: Vec<String>,
}

impl Choice {
    fn of(checks: &[&str], remarks: Vec<String>) -> Self {
        let checks = checks.iter().map(|&name| name.to_owned()).collect();
        Self { checks, remarks }
    }
}

/// Workloads that only other tools record, with their checkers.
const RECORDED: [(&str, &[&str]); 4] = [
    ("queue", &["queue"]),
    ("kafka", &["kafka"]),
    ("unique-ids", &["unique-ids"]),
    ("set-full", &["set-full"]),
];

/// The names that `--workload` takes.
pub fn workload_names() -> Vec<&'static str> {
    let own = Kind::ALL.into_iter().map(Kind::name);
    own.chain(RECORDED.map(|(name, _)| name)).collect()
}

/// The checkers of the workload of that name.
///
/// # Errors
/// A name that is no workload.
pub fn of_workload(name: &str, history: &History) -> Result<Choice, String> {
    if let Some((_, checks)) = RECORDED.iter().find(|(known, _)| *known == name) {
        return Ok(Choice::of(checks, Vec::new()));
    }
    let Ok(kind) = name.parse::<Kind>() else {
        return Err(format!(
            "--workload: `{name}` is no workload; expected one of {}",
            workload_names().join(", ")
        ));
    };
    let seen = Seen::of(history);
    let written = |e: &Event| functions(kind).contains(&e.f.name());
    let mut remarks = Vec::new();
    if let Some(other) = seen.own_workloads().first()
        && !history.events.iter().any(written)
    {
        let other = other.name();
        remarks.push(format!(
            "warning: the history looks like workload {other}, not {name}; the checkers of {name} \
             judge it"
        ));
    }
    Ok(Choice::of(kind.checkers(), remarks))
}

/// The checkers that have something to go by in a history.
///
/// # Errors
/// One line if the functions in it tell nothing, or contradict one another.
pub fn of_history(history: &History, format: Format) -> Result<Choice, String> {
    if format == Format::PorcupineKv {
        let remark = "model: a map of texts with get, put and append (Porcupine's)".to_owned();
        return Ok(Choice::of(&["linearizable"], vec![remark]));
    }
    let seen = Seen::of(history);
    let whole = seen.whole_history();
    let own = seen.own_workloads();
    match whole[..] {
        [] => {}
        [(name, checks, from)] if own.is_empty() && !seen.has_further() => {
            let remark = format!("workload: {name} (from {from} in the history)");
            return Ok(Choice::of(checks, vec![remark]));
        }
        _ => {
            let mut names: Vec<&str> = whole.iter().map(|(name, ..)| *name).collect();
            names.extend(own.iter().map(|kind| kind.name()));
            return Err(mixed(&names));
        }
    }
    seen.by_key(&own)
}

fn mixed(names: &[&str]) -> String {
    let names = match names {
        [] | [_] => "several workloads".to_owned(),
        several => format!("the workloads {}", several.join(", ")),
    };
    format!("the history mixes functions of {names}: say --workload or --checks")
}

/// The functions by which a workload writes.
fn functions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Register => &["write", "cas"],
        Kind::Set => &["add"],
        Kind::Append | Kind::Bootstrap | Kind::Upgrade => &["append"],
        Kind::Session => &["append", "write"],
        Kind::Conflict | Kind::Calendar => &["write"],
        Kind::Counter => &["increment"],
        Kind::Nondeterministic => &["generate"],
        Kind::Text => &["insert"],
        Kind::ListAppend | Kind::RwRegister => &["txn"],
        Kind::Bank => &["transfer"],
        Kind::Lock => &["acquire"],
    }
}

/// What occurs in a history.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says what it says")]
struct Seen {
    write: bool,
    append: bool,
    add: bool,
    insert: bool,
    put: bool,
    remove: bool,
    increment: bool,
    generate: bool,
    ids: bool,
    acquire: bool,
    inspect: bool,
    queue: bool,
    stack: bool,
    transfer: bool,
    log: bool,
    txn: bool,
    txn_append: bool,
    txn_write: bool,
    /// Reads that showed a number, and such that showed a collection.
    numbers: bool,
    collections: bool,
    siblings: bool,
}

/// A workload over a whole history: its name, its checkers, and what tells it.
type Whole = (&'static str, &'static [&'static str], &'static str);

impl Seen {
    fn of(history: &History) -> Self {
        let mut seen = Self::default();
        let clients = history.events.iter().filter(|e| !e.process.is_nemesis());
        for event in clients {
            seen.add(event);
        }
        seen
    }

    fn add(&mut self, event: &Event) {
        match &event.f {
            F::Read => {
                if event.kind == EventKind::Ok {
                    self.numbers |= event.value.as_int().is_some();
                    self.collections |= event.value.items().is_some();
                }
            }
            F::Write | F::Cas => {
                self.write = true;
                self.siblings |= event.extra.iter().any(|(name, _)| &**name == "seen");
            }
            F::Append => self.append = true,
            F::Add => self.add = true,
            F::Insert => self.insert = true,
            F::Put => self.put = true,
            F::Remove => self.remove = true,
            F::Increment => self.increment = true,
            F::Generate if event.kind == EventKind::Invoke => {
                let asked = event.key.is_some() || !event.value.is_nil();
                self.generate |= asked;
                self.ids |= !asked;
            }
            F::Generate => {}
            F::Acquire | F::Release => self.acquire = true,
            F::Inspect => self.inspect = true,
            F::Other(name) => self.add_other(name, &event.value),
        }
    }

    fn add_other(&mut self, name: &str, value: &Value) {
        match name {
            "enqueue" | "dequeue" | "drain" => self.queue = true,
            "push" | "pop" => self.stack = true,
            "transfer" => self.transfer = true,
            "decrement" => self.increment = true,
            "send" | "poll" | "subscribe" | "assign" => self.log = true,
            "txn" => {
                self.txn = true;
                for micro in value.items().into_iter().flatten() {
                    let first = micro.items().and_then(<[Value]>::first);
                    if let Some(Value::Keyword(f) | Value::Str(f) | Value::Symbol(f)) = first {
                        self.txn_append |= &**f == "append";
                        self.txn_write |= matches!(&**f, "w" | "write");
                        self.log |= matches!(&**f, "send" | "poll");
                    }
                }
            }
            _ => {}
        }
    }

    fn whole_history(&self) -> Vec<Whole> {
        let txn = self.txn && !self.log;
        let all: [(bool, Whole); 6] = [
            (
                txn && self.txn_append,
                ("list-append", &["list-append"], "`append` in transactions"),
            ),
            (
                txn && (self.txn_write || !self.txn_append),
                (
                    "rw-register",
                    &["rw-register"],
                    "`w` and `r` in transactions",
                ),
            ),
            (self.log, ("kafka", &["kafka"], "`send` and `poll`")),
            (self.transfer, ("bank", &["bank"], "`transfer`")),
            (self.queue, ("queue", &["queue"], "`enqueue` and `dequeue`")),
            (
                self.ids,
                ("unique-ids", &["unique-ids"], "`generate` without argument"),
            ),
        ];
        let present = all.into_iter().filter(|(present, _)| *present);
        present.map(|(_, whole)| whole).collect()
    }

    /// Whether `add` adds to numbers, not to sets.
    fn counts(&self) -> bool {
        self.add && self.numbers && !self.collections
    }

    /// The workloads of one function whose writes are there.
    fn own_workloads(&self) -> Vec<Kind> {
        let all = [
            (Kind::Register, self.write),
            (Kind::Set, self.add && self.collections),
            (Kind::Append, self.append),
            (Kind::Counter, self.counts()),
        ];
        let present = all.into_iter().filter(|(_, present)| *present);
        present.map(|(kind, _)| kind).collect()
    }

    /// Functions beyond those of the workloads of one function.
    fn has_further(&self) -> bool {
        self.increment
            || self.insert
            || self.remove
            || self.put
            || self.generate
            || self.acquire
            || self.stack
    }

    /// The checkers of objects that are told apart by key.
    fn by_key(&self, own: &[Kind]) -> Result<Choice, String> {
        let mut remarks = Vec::new();
        let mut names: Vec<&str> = match own {
            [kind] => {
                remarks.push(Self::named(*kind));
                kind.checkers().to_vec()
            }
            [] if self.acquire && !self.others_than_locks() => {
                remarks
                    .push("model: lock (from `acquire` and `release` in the history)".to_owned());
                vec!["mutual-exclusion", "linearizable"]
            }
            [] if self.stack => {
                remarks.push("model: stack (from `push` and `pop` in the history)".to_owned());
                vec!["linearizable"]
            }
            [] if self.has_further() || self.inspect => {
                vec!["lost-writes", "stale-reads", "split-brain", "availability"]
            }
            [] if self.add => {
                return Err(
                    "the history adds but never reads, so that nobody can tell sets from counters: \
                     say --workload set or --workload counter"
                        .into(),
                );
            }
            [] => {
                return Err(
                    "the history has no function that writes: say --workload or --checks".into(),
                );
            }
            several => {
                let names: Vec<&str> = several.iter().map(|kind| kind.name()).collect();
                return Err(mixed(&names));
            }
        };
        if !own.is_empty() && self.has_further() {
            // Objects of several kinds: each checker judges the keys it knows.
            names.retain(|name| *name != "linearizable");
        }
        let told_apart = self.write
            || self.append
            || self.add && !self.counts()
            || self.insert
            || self.put
            || self.generate;
        for (name, applies) in [
            ("set-full", own == [Kind::Set]),
            ("sessions", told_apart),
            ("siblings", self.siblings),
            ("counter", self.increment || self.counts()),
            ("mutual-exclusion", self.acquire),
            ("convergence", self.inspect),
        ] {
            if applies && !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(Choice::of(&names, remarks))
    }

    fn others_than_locks(&self) -> bool {
        self.increment || self.insert || self.remove || self.put || self.generate || self.stack
    }

    fn named(kind: Kind) -> String {
        let name = kind.name();
        let (model, from) = match kind {
            Kind::Register => ("register", "`write` and `cas`"),
            Kind::Set => ("set", "`add` and reads of collections"),
            Kind::Append => ("list", "`append`"),
            _ => ("counter", "`add` and reads of numbers"),
        };
        format!("workload: {name}, model: {model} (from {from} in the history)")
    }
}

#[cfg(test)]
mod tests {
    use checkers::format::{ReadOptions, read_bytes};

    use super::*;

    fn chosen(edn: &str) -> Result<Vec<String>, String> {
        let read = read_bytes(edn.as_bytes(), Some(Format::Edn), &ReadOptions::default());
        let read = read.unwrap();
        of_history(&read.history, read.format).map(|choice| choice.checks)
    }

    fn ops(ops: &[(&str, &str, &str)]) -> String {
        ops.iter().fold(String::new(), |text, (f, asked, got)| {
            let line =
                |kind, value| format!("{{:process 0, :type {kind}, :f :{f}, :value {value}}}\n");
            text + line(":invoke", asked).as_str() + line(":ok", got).as_str()
        })
    }

    #[test]
    fn each_kind_of_history_gets_its_checkers() {
        for (history, first) in [
            (
                ops(&[("txn", "[[:append 1 2]]", "[[:append 1 2]]")]),
                "list-append",
            ),
            (ops(&[("txn", "[[:w 1 2]]", "[[:w 1 2]]")]), "rw-register"),
            (
                ops(&[("txn", "[[:r 1 nil]]", "[[:r 1 nil]]")]),
                "rw-register",
            ),
            (
                ops(&[("txn", "[[:send 1 2]]", "[[:send 1 [0 2]]]")]),
                "kafka",
            ),
            (ops(&[("poll", "nil", "[[:poll {}]]")]), "kafka"),
            (
                ops(&[
                    ("transfer", "{:from 0, :to 1, :amount 2}", "{}"),
                    ("read", "nil", "{0 1, 1 2}"),
                ]),
                "bank",
            ),
            (
                ops(&[("enqueue", "1", "1"), ("drain", "nil", "[1]")]),
                "queue",
            ),
            (ops(&[("generate", "nil", "17")]), "unique-ids"),
            (ops(&[("add", "1", "1"), ("read", "nil", "1")]), "counter"),
            (
                ops(&[("add", "1", "1"), ("read", "nil", "#{1}")]),
                "lost-writes",
            ),
            (
                ops(&[("write", "1", "1"), ("cas", "[1 2]", "[1 2]")]),
                "linearizable",
            ),
            (ops(&[("acquire", "nil", "nil")]), "mutual-exclusion"),
            (
                ops(&[("push", "1", "1"), ("pop", "nil", "1")]),
                "linearizable",
            ),
        ] {
            assert_eq!(chosen(&history).unwrap()[0], first, "{history}");
        }
        assert!(
            chosen(&ops(&[("add", "1", "1"), ("read", "nil", "[1]")]))
                .unwrap()
                .contains(&"set-full".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_told_is_refused_in_one_line() {
        for (history, says) in [
            (
                ops(&[("write", "1", "1"), ("append", "1", "1")]),
                "workloads register, append",
            ),
            (
                ops(&[("txn", "[[:w 1 2] [:append 2 3]]", "[]")]),
                "workloads list-append, rw-register",
            ),
            (
                ops(&[("transfer", "{}", "{}"), ("write", "1", "1")]),
                "workloads bank, register",
            ),
            (
                ops(&[("enqueue", "1", "1"), ("acquire", "1", "1")]),
                "several workloads",
            ),
            (ops(&[("add", "1", "1")]), "never reads"),
            (ops(&[("read", "nil", "1")]), "no function that writes"),
            (
                ops(&[("frobnicate", "nil", "1")]),
                "no function that writes",
            ),
        ] {
            let refusal = chosen(&history).unwrap_err();
            assert!(
                refusal.contains(says) && !refusal.contains('\n'),
                "{refusal}"
            );
        }
    }

    #[test]
    fn every_workload_has_checkers() {
        for name in workload_names() {
            let choice = of_workload(name, &History::default()).unwrap();
            assert!(!choice.checks.is_empty(), "{name}");
            for check in choice.checks {
                assert!(checkers::by_name(&check).is_some(), "{check} of {name}");
            }
        }
        assert!(of_workload("frobnicate", &History::default()).is_err());
    }
}
