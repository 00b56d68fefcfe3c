//! One fault on the pods of one node: done, proven, looked after, undone. Blocking calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::locate::{Container, Tree};
use super::protocol::{Order, Release, Report, State, Target, What};
use super::undo::{Journal, Record, Undo};
use super::{clock, container, impair, links};

/// Between two looks at something that takes a moment.
const PAUSE: Duration = Duration::from_millis(50);

/// What the faults of one node share.
#[derive(Debug)]
pub(super) struct Bench {
    pub tree: Tree,
    pub journal: Journal,
    /// What undoes the faults that stand, by the uid of their Lease.
    standing: Mutex<BTreeMap<String, Vec<Undo>>>,
    pub networks: impair::Networks,
}

impl Bench {
    pub fn new(tree: Tree, journal: Journal) -> Self {
        Self {
            tree,
            journal,
            standing: Mutex::default(),
            networks: impair::Networks::default(),
        }
    }

    fn standing(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Undo>>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another fault than this one needs something undone that matches.
    pub fn another(&self, uid: &str, matches: impl Fn(&Undo) -> bool) -> bool {
        let standing = self.standing();
        let mut others = standing.iter().filter(|(other, _)| *other != uid);
        others.any(|(_, undo)| undo.iter().any(&matches))
    }
}

/// A pod of this node, as its status was when the order came.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub target: Target,
    /// The container's id, as the runtime gives it.
    pub id: String,
    /// Where its data is, as the container sees it.
    pub data: PathBuf,
}

impl Local {
    pub fn groups(&self, tree: &Tree) -> Result<Container, String> {
        tree.container(&self.target.uid, &self.id)
            .map_err(|why| format!("n{}: {why}", self.target.node))
    }
}

#[derive(Debug)]
pub(super) struct Fault {
    /// Of the Lease.
    pub uid: String,
    /// Tells its rules from those of other faults.
    pub number: u32,
    pub order: Order,
    /// The pods of the order that are on this node.
    pub locals: Vec<Local>,
    pub record: Record,
    pub held: impair::Held,
    /// What it has made wrong of clocks.
    pub clocks: Vec<clock::Held>,
    pub begun: Instant,
}

impl Fault {
    pub fn new(uid: &str, namespace: &str, lease: &str, order: Order, locals: Vec<Local>) -> Self {
        // The first of a random uid; two faults of one pod would have to share it.
        let number = uid
            .get(..8)
            .and_then(|head| u32::from_str_radix(head, 16).ok());
        Self {
            uid: uid.to_owned(),
            number: number.unwrap_or_default(),
            order,
            locals,
            record: Record {
                namespace: namespace.to_owned(),
                lease: lease.to_owned(),
                undo: Vec::new(),
            },
            held: impair::Held::default(),
            clocks: Vec::new(),
            begun: Instant::now(),
        }
    }

    /// Writes down what will undo what is done next.
    pub fn will_undo(&mut self, bench: &Bench, undo: Undo) -> Result<(), String> {
        self.record.undo.push(undo);
        let written = bench.journal.write(&self.uid, &self.record);
        written.map_err(|error| format!("cannot be written down, so it is not done: {error}"))?;
        let undo = self.record.undo.clone();
        bench.standing().insert(self.uid.clone(), undo);
        Ok(())
    }

    /// Does it and proves it, or gives up when `stop` is set.
    pub fn inject(&mut self, bench: &Bench, stop: &AtomicBool) -> Report {
        let done = match self.order.what {
            What::Check => container::check(bench, self),
            What::CheckClock => clock::check(bench, self),
            What::Kill => container::kill(bench, self),
            What::Pause => container::pause(bench, self),
            What::Cpu(percent) => container::limit_cpu(bench, self, percent),
            What::Memory(mib) => container::limit_memory(bench, self, mib),
            What::ThrottleDisk(kib_s) => container::throttle_disk(bench, self, kib_s),
            What::Clock(how) => clock::disturb(bench, self, how.into()),
            What::Cut => links::cut(bench, self, stop),
            What::Impair(how) => impair::impair(bench, self, how.into(), stop),
        };
        match done {
            Ok(text) => Report::new(State::Seen, text),
            Err(why) => Report::new(State::NotSeen, why),
        }
    }

    /// Why it does not stand any more, if so.
    pub fn faded(&self, bench: &Bench) -> Option<String> {
        match self.order.what {
            What::Check | What::CheckClock | What::Kill => None,
            What::Clock(_) => clock::faded(bench, self),
            What::Cut | What::Impair(_) => links::faded(bench, self),
            _ => container::faded(self),
        }
    }

    /// Undoes it, and proves that; to be called again until it says `healed`.
    pub fn heal(&mut self, bench: &Bench, release: Option<Release>) -> Report {
        let undone = match self.order.what {
            What::Cut | What::Impair(_) => links::heal(bench, self, release),
            What::Clock(_) => clock::heal(bench, self),
            _ => container::heal(bench, self),
        };
        let forgotten = undone.and_then(|text| {
            bench.standing().remove(&self.uid);
            let forgotten = bench.journal.forget(&self.uid);
            forgotten.map(|()| text).map_err(|error| error.to_string())
        });
        match forgotten {
            Ok(text) => Report::new(State::Healed, text),
            Err(why) => Report::new(State::NotHealed, why),
        }
    }
}

/// Looks until something is seen; the last reason why not when the time is up or `stop` is set.
pub(super) fn until<T>(
    within: Duration,
    stop: &AtomicBool,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Err(_) if Instant::now() < deadline && !stop.load(Ordering::SeqCst) => {
                thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// `1 process`, `2 processes`.
pub(super) fn processes(count: usize) -> String {
    match count {
        1 => "1 process".to_owned(),
        count => format!("{count} processes"),
    }
}

#[cfg(test)]
mod tests {
    use nemesis::mechanism::cgroup::{Group, Version};

    use super::*;

    #[test]
    fn looking_ends_with_success_or_stop_or_time() {
        let (go, stop) = (AtomicBool::new(false), AtomicBool::new(true));
        let mut looks = 0;
        let seen = until(Duration::from_secs(60), &go, || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                Err("not yet".to_owned())
            }
        });
        assert_eq!(seen, Ok(3));
        let never = || Err::<(), _>("never".to_owned());
        assert!(until(Duration::from_secs(60), &stop, never).is_err());
        assert!(until(Duration::ZERO, &go, never).is_err());
    }

    #[test]
    fn nothing_is_done_that_could_not_be_written_down_and_others_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path().join("state")).unwrap();
        let bench = Bench::new(Tree::at("/nowhere"), journal);
        let thaw = || {
            Undo::Thaw(Group {
                version: Version::V1,
                path: "/nowhere/g".into(),
            })
        };
        let order = Order {
            version: super::super::protocol::VERSION,
            what: What::Pause,
            pods: Vec::new(),
            links: Vec::new(),
            port: 1,
            via: None,
        };
        let fault = |uid| Fault::new(uid, "shop", "l", order.clone(), Vec::new());
        let mut first = fault("00000001-a");
        first.will_undo(&bench, thaw()).unwrap();
        assert_eq!(first.number, 1);
        assert!(bench.another("00000002-b", |undo| *undo == thaw()));
        assert!(!bench.another(&first.uid, |undo| *undo == thaw()));
        // The folder is gone, as on a full or broken disk.
        std::fs::remove_dir_all(dir.path().join("state")).unwrap();
        assert!(fault("00000002-b").will_undo(&bench, thaw()).is_err());
    }
}
