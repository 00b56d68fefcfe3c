//! The names in directories, against a model that replays what is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::super::volume::{ATTIC, Loss, ROOT, Tail};
use super::volume;

type Place = (u64, String);

#[derive(Clone, Debug)]
enum Step {
    Create(usize, usize),
    MakeDirectory(usize, usize),
    Link(usize, usize, usize, usize),
    Remove(usize, usize),
    RemoveDirectory(usize, usize),
    Rename(usize, usize, usize, usize),
    Sync(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (d, n) = (0..5usize, 0..3usize);
    prop_oneof![
        4 => (d.clone(), n.clone()).prop_map(|(d, n)| Step::Create(d, n)),
        2 => (d.clone(), n.clone()).prop_map(|(d, n)| Step::MakeDirectory(d, n)),
        1 => (d.clone(), n.clone(), d.clone(), n.clone()).prop_map(|(a, b, c, e)| Step::Link(a, b, c, e)),
        3 => (d.clone(), n.clone()).prop_map(|(d, n)| Step::Remove(d, n)),
        2 => (d.clone(), n.clone()).prop_map(|(d, n)| Step::RemoveDirectory(d, n)),
        5 => (d.clone(), n.clone(), d.clone(), n).prop_map(|(a, b, c, e)| Step::Rename(a, b, c, e)),
        2 => d.prop_map(Step::Sync),
    ]
}

/// What a step did to names: taken away, put there, and whole directories that are gone.
#[derive(Clone, Debug, Default)]
struct Done {
    taken: Vec<Place>,
    put: Option<(Place, u64)>,
    gone: Option<u64>,
    durable: bool,
}

impl Done {
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.taken.iter().chain(self.put.iter().map(|(at, _)| at))
    }
}

#[derive(Default)]
struct Model {
    /// What each number is: the content of a file, or nothing for a directory.
    things: BTreeMap<u64, Option<String>>,
    log: Vec<Done>,
}

impl Model {
    fn replay<'a>(log: impl Iterator<Item = &'a Done>) -> BTreeMap<Place, u64> {
        let mut names = BTreeMap::new();
        for done in log {
            for place in &done.taken {
                names.remove(place);
            }
            if let Some((place, number)) = &done.put {
                names.insert(place.clone(), *number);
            }
        }
        names
    }

    /// Everything done to a durable name, or before to a name that a durable change touched.
    fn sync(&mut self, directory: u64) {
        loop {
            let mut more = Vec::new();
            for (index, done) in self.log.iter().enumerate() {
                let later = &self.log[index + 1..];
                let needed = done.places().any(|place| {
                    place.0 == directory
                        || later
                            .iter()
                            .filter(|l| l.durable)
                            .any(|l| l.places().any(|p| p == place) || l.gone == Some(place.0))
                });
                if needed && !done.durable {
                    more.push(index);
                }
            }
            if more.is_empty() {
                return;
            }
            for index in more {
                self.log[index].durable = true;
            }
        }
    }

    /// Paths and contents of what can be reached.
    fn tree(&self, names: &BTreeMap<Place, u64>) -> BTreeMap<String, Option<String>> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![(ROOT, String::new())];
        while let Some((directory, path)) = waiting.pop() {
            for ((parent, name), number) in names {
                if *parent == directory {
                    let path = format!("{path}/{name}");
                    let thing = self.things[number].clone();
                    if thing.is_none() {
                        waiting.push((*number, path.clone()));
                    }
                    found.insert(path, thing);
                }
            }
        }
        found
    }
}

fn on_disk(root: &Path) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![(root.to_owned(), String::new())];
    while let Some((directory, path)) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == ATTIC {
                continue;
            }
            let path = format!("{path}/{}", entry.file_name().to_string_lossy());
            let content = if entry.file_type().unwrap().is_dir() {
                waiting.push((entry.path(), path.clone()));
                None
            } else {
                Some(fs::read_to_string(entry.path()).unwrap())
            };
            found.insert(path, content);
        }
    }
    found
}

fn run(steps: &[Step], tail: Tail) -> Result<(), TestCaseError> {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let folder = tempfile::tempdir().unwrap();
    let mut volume = volume(folder.path());
    let mut model = Model::default();
    let mut directories = vec![ROOT];
    for (index, step) in steps.iter().enumerate() {
        let directory = |i: usize| directories[i % directories.len()];
        let before = Model::replay(model.log.iter());
        let mut done = Done::default();
        match *step {
            Step::Create(d, n) => {
                let at = directory(d);
                if let Ok(number) = volume.create(at, OsStr::new(NAMES[n]), 0o644) {
                    let content = format!("content {index}");
                    volume.write(number, 0, content.as_bytes()).unwrap();
                    volume.synced(number, volume.now());
                    model.things.insert(number, Some(content));
                    done.put = Some(((at, NAMES[n].to_owned()), number));
                }
            }
            Step::MakeDirectory(d, n) => {
                let at = directory(d);
                if let Ok(number) = volume.make_directory(at, OsStr::new(NAMES[n]), 0o755) {
                    model.things.insert(number, None);
                    done.put = Some(((at, NAMES[n].to_owned()), number));
                    directories.push(number);
                }
            }
            Step::Link(d, n, e, m) => {
                let (from, to) = (directory(d), directory(e));
                let number = before.get(&(from, NAMES[n].to_owned())).copied();
                let file = number.filter(|number| model.things[number].is_some());
                if let Some(number) = file
                    && volume.link(number, to, OsStr::new(NAMES[m])).is_ok()
                {
                    done.put = Some(((to, NAMES[m].to_owned()), number));
                }
            }
            Step::Remove(d, n) => {
                let at = directory(d);
                if volume.remove(at, OsStr::new(NAMES[n]), false).is_ok() {
                    done.taken = vec![(at, NAMES[n].to_owned())];
                }
            }
            Step::RemoveDirectory(d, n) => {
                let at = directory(d);
                if volume.remove(at, OsStr::new(NAMES[n]), true).is_ok() {
                    let place = (at, NAMES[n].to_owned());
                    done.gone = before.get(&place).copied();
                    done.taken = vec![place];
                }
            }
            Step::Rename(d, n, e, m) => {
                let (from, to) = (directory(d), directory(e));
                let number = before.get(&(from, NAMES[n].to_owned()));
                if from != to && number.is_some_and(|number| model.things[number].is_none()) {
                    // See "What is not done" in the module.
                    continue;
                }
                let renamed = volume.rename(
                    (from, OsStr::new(NAMES[n])),
                    (to, OsStr::new(NAMES[m])),
                    true,
                );
                let (from, to) = ((from, NAMES[n].to_owned()), (to, NAMES[m].to_owned()));
                let (number, replaced) = (before.get(&from), before.get(&to));
                if renamed.is_ok() && number != replaced {
                    done.gone = replaced.copied();
                    done.taken = vec![from];
                    done.put = Some((to, *number.unwrap()));
                }
            }
            Step::Sync(d) => {
                let at = directory(d);
                volume.directory_synced(at, volume.now()).unwrap();
                model.sync(at);
            }
        }
        if let Some(gone) = done.gone {
            directories.retain(|d| *d != gone);
        }
        if done.places().next().is_some() {
            model.log.push(done);
        }
        let now = model.tree(&Model::replay(model.log.iter()));
        prop_assert_eq!(on_disk(folder.path()), now, "after step {}", index);
    }
    let volatile: Vec<usize> = (0..model.log.len())
        .filter(|&index| !model.log[index].durable)
        .collect();
    let loss = volume.power_loss(tail).unwrap();
    let left = on_disk(folder.path());
    // The oldest `kept` of those that were not durable survived.
    let kept = volatile.len() - loss.names;
    let survivors: BTreeSet<usize> = volatile[..kept].iter().copied().collect();
    let log = model.log.iter().enumerate();
    let survived = log.filter(|(index, done)| done.durable || survivors.contains(index));
    let expected = model.tree(&Model::replay(survived.map(|(_, done)| done)));
    prop_assert_eq!(left, expected);
    if tail == Tail::None {
        prop_assert_eq!(kept, 0);
    }
    prop_assert!(!folder.path().join(ATTIC).exists());
    prop_assert_eq!(volume.power_loss(Tail::None).unwrap(), Loss::default());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn names_that_are_not_durable_are_undone(steps in prop::collection::vec(step(), 1..40)) {
        run(&steps, Tail::None)?;
    }

    #[test]
    fn or_the_newest_of_them(steps in prop::collection::vec(step(), 1..40), seed: u64) {
        run(&steps, Tail::Random(seed))?;
    }
}

#[test]
fn a_file_replaced_by_rename_comes_back_with_its_durable_content() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("journal"), "old").unwrap();
    let mut volume = volume(folder.path());
    let old = volume.lookup(ROOT, OsStr::new("journal")).unwrap();
    volume.write(old, 3, b" and more").unwrap();
    let new = volume
        .create(ROOT, OsStr::new("journal.new"), 0o644)
        .unwrap();
    volume.write(new, 0, b"new").unwrap();
    volume.synced(new, volume.now());
    let (from, to) = (OsStr::new("journal.new"), OsStr::new("journal"));
    volume.rename((ROOT, from), (ROOT, to), true).unwrap();
    assert_eq!(fs::read(folder.path().join("journal")).unwrap(), b"new");
    let loss = volume.power_loss(Tail::None).unwrap();
    assert_eq!((loss.names, loss.files, loss.bytes), (2, 1, 9));
    assert_eq!(fs::read(folder.path().join("journal")).unwrap(), b"old");
    assert!(!folder.path().join("journal.new").exists());
}
