//! From a container to its control groups and processes.
//!
//! Kubelets name the group of a pod after its uid: `kubepods/burstable/pod<uid>/<container>` with
//! the driver cgroupfs, `kubepods-burstable-pod<uid with _>.slice/cri-containerd-<container>.scope`
//! with systemd. Whatever lies around these (a lab, a nested kubelet as in kind), the uid is in the
//! name of one directory and the container's id in the name of one below it. So they are looked
//! for by these names in the host's tree, in every hierarchy.

use std::fs;
use std::path::{Path, PathBuf};

use nemesis::mechanism::cgroup::{Controller, Group, Version};

/// How deep below its root a hierarchy is looked through: a nested kubelet with systemd takes 8.
const DEPTH: usize = 12;

/// What version 1 calls the controller of disks.
const DISK: &str = "blkio";

/// The host's control groups, as they are mounted here.
#[derive(Clone, Debug)]
pub struct Tree(PathBuf);

/// The control groups of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// For freezing, and for knowing its processes.
    pub freezer: Group,
    /// For processor time; none where the host has no such controller.
    pub cpu: Option<Group>,
    /// For memory.
    pub memory: Option<Group>,
    /// For the bandwidth of disks.
    pub disk: Option<Group>,
}

impl Tree {
    /// The tree that is mounted there.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Where a controller's groups are, and of which version they are.
    fn hierarchy(&self, name: &str) -> Option<(Version, PathBuf)> {
        if self.0.join("cgroup.controllers").exists() {
            return Some((Version::V2, self.0.clone()));
        }
        [
            name.to_owned(),
            format!("{name},cpuacct"),
            format!("cpuacct,{name}"),
        ]
        .into_iter()
        .map(|name| self.0.join(name))
        .find(|path| path.is_dir())
        .map(|path| (Version::V1, path))
    }

    fn group(&self, controller: &str, uid: &str, id: &str) -> Option<Group> {
        let (version, root) = self.hierarchy(controller)?;
        let pod = find(&root, &names_of(uid), DEPTH)?;
        let path = find(&pod, &[id.to_owned()], 2)?;
        Some(Group { version, path })
    }

    /// The groups of a container. `id` is as the pod's status has it, `containerd://…`.
    ///
    /// # Errors
    /// If it has none: it is not running.
    pub fn container(&self, uid: &str, id: &str) -> Result<Container, String> {
        let id = id.rsplit('/').next().unwrap_or(id);
        // Whatever is shorter is no id, and would be found in other names.
        if id.len() < 12 || uid.len() < 32 {
            return Err("the container has no id".to_owned());
        }
        let freezer = self
            .group(Controller::Freezer.name(), uid, id)
            .filter(Group::exists)
            .ok_or_else(|| {
                format!(
                    "no control group of the container was found below {}",
                    self.0.display()
                )
            })?;
        Ok(Container {
            freezer,
            cpu: self.group(Controller::Cpu.name(), uid, id),
            memory: self.group(Controller::Memory.name(), uid, id),
            disk: self.group(DISK, uid, id).filter(Group::limits_disks),
        })
    }

    /// All processes of a pod, of whichever container: that of its sandbox too, which keeps its
    /// network.
    pub fn processes(&self, uid: &str) -> Vec<u32> {
        let Some((version, root)) = self.hierarchy(Controller::Freezer.name()) else {
            return Vec::new();
        };
        let Some(pod) = find(&root, &names_of(uid), DEPTH) else {
            return Vec::new();
        };
        let mut open = vec![pod];
        let mut found = Vec::new();
        while let Some(path) = open.pop() {
            open.extend(directories(&path));
            let group = Group { version, path };
            found.extend(group.processes().unwrap_or_default());
        }
        found
    }
}

/// How the directory of a pod may contain its uid.
fn names_of(uid: &str) -> [String; 2] {
    [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))]
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Whether this is part of the name, and not of a longer word in it.
fn names(name: &str, wanted: &str) -> bool {
    let inside = |c: char| c.is_ascii_hexdigit();
    name.match_indices(wanted).any(|(at, _)| {
        let (before, after) = (&name[..at], &name[at + wanted.len()..]);
        !before.ends_with(inside) && !after.starts_with(inside)
    })
}

/// The nearest directory below `root` that is named after one of these.
fn find(root: &Path, wanted: &[String], depth: usize) -> Option<PathBuf> {
    let mut level = vec![root.to_owned()];
    for _ in 0..depth {
        level = level.iter().flat_map(|path| directories(path)).collect();
        let named = |path: &&PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| wanted.iter().any(|wanted| names(name, wanted)))
        };
        if let Some(found) = level.iter().find(named) {
            return Some(found.clone());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f5c1a2e-7d7b-4a55-9d0a-3f1f4c3b2a10";
    const ID: &str = "8e2f6d1c0b9a8e2f6d1c0b9a8e2f6d1c0b9a8e2f6d1c0b9a8e2f6d1c0b9a8e2f";

    fn make(root: &Path, group: &str, pids: &str) {
        let path = root.join(group);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cgroup.procs"), pids).unwrap();
    }

    fn found(root: &Path) -> Result<Container, String> {
        Tree::at(root).container(UID, &format!("containerd://{ID}"))
    }

    #[test]
    fn version_1_with_cgroupfs_also_deep_in_a_lab() {
        let dir = tempfile::tempdir().unwrap();
        for controller in ["freezer", "cpu,cpuacct", "memory"] {
            let root = dir.path().join(controller);
            let pod = format!("klab/n1/kubepods/burstable/pod{UID}");
            make(&root, &format!("{pod}/{ID}"), "7\n8\n");
            make(&root, &format!("{pod}/sandbox"), "6\n");
            // Names that only begin with the uid or the id.
            make(&root, &format!("kubepods/pod{UID}0/{ID}"), "9\n");
            make(&root, &format!("{pod}/{ID}0"), "9\n");
        }
        let container = found(dir.path()).unwrap();
        assert_eq!(container.freezer.processes().unwrap(), [7, 8]);
        assert_eq!(container.freezer.version, Version::V1);
        assert!(
            container
                .cpu
                .unwrap()
                .path
                .starts_with(dir.path().join("cpu,cpuacct/klab"))
        );
        let mut all = Tree::at(dir.path()).processes(UID);
        all.sort_unstable();
        assert_eq!(all, [6, 7, 8, 9]);
    }

    #[test]
    fn version_2_with_systemd() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        let slice = format!(
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
             kubelet-kubepods-burstable-pod{}.slice",
            UID.replace('-', "_")
        );
        make(
            dir.path(),
            &format!("{slice}/cri-containerd-{ID}.scope"),
            "5\n",
        );
        let container = found(dir.path()).unwrap();
        assert_eq!(container.freezer.version, Version::V2);
        assert_eq!(container.cpu.as_ref(), Some(&container.freezer));
        assert_eq!(Tree::at(dir.path()).processes(UID), [5]);
    }

    #[test]
    fn what_does_not_run_or_has_no_id_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        make(
            &dir.path().join("freezer"),
            &format!("kubepods/pod{UID}/other"),
            "",
        );
        assert!(found(dir.path()).is_err());
        let tree = Tree::at(dir.path());
        assert!(tree.container(UID, "containerd://").is_err());
        assert!(tree.container("", ID).is_err());
    }
}
