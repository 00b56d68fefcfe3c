//! Namespaces of Linux: one of this program's own, and one network for each node.
//!
//! All are anonymous: nothing but processes, sockets and file descriptors keeps them, so the kernel
//! removes interfaces, rules, queues and mounts with the last of these. No run can leave one behind,
//! and none can meet another's.
//!
//! An ordinary user gets them inside a user namespace, in which this program is root; its files
//! still belong to the user.
//!
//! **Invariant.** A [`Namespace`] is one that this program made, or that of a container
//! ([`Namespace::of_process`]): what takes one cannot touch the network of the machine.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

use super::Available;
use super::tool::{self, ToolError};

/// What a run needs to have for itself, beside its mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// A network, with nothing in it but loopback.
    pub network: bool,
}

/// Why a run can have no namespaces of its own.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// This machine cannot; what would help.
    #[error("{0}")]
    Unavailable(String),
    /// The kernel refuses.
    #[error(
        "this machine does not allow namespaces ({0}); run as root, or allow them with \
         sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000"
    )]
    Refused(Errno),
    /// The program is not alone any more.
    #[error("namespaces are entered before a program has {0} threads; this is a bug")]
    Threads(usize),
    /// Something else is in the way.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// The network cannot be set up.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

fn cannot(what: &'static str) -> impl FnOnce(io::Error) -> EnterError {
    move |source| EnterError::Io { what, source }
}

/// What this program has entered so far.
static ENTERED: Mutex<Option<Needs>> = Mutex::new(None);
/// Device and number of each network namespace that this program made.
static MADE: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// The network namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Gives this program mounts of its own, and a network if it is needed, for as long as it lives.
/// Call it from the only thread; a second call does nothing. Without the privilege for it the
/// program first becomes root of a user namespace.
///
/// # Errors
/// When the machine does not allow it, or there are other threads already.
pub fn enter(needs: Needs) -> Result<(), EnterError> {
    let mut entered = ENTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if entered.is_some_and(|has| has.network || !needs.network) {
        return Ok(());
    }
    let threads = fs::read_dir("/proc/self/task").map_err(cannot("count threads"))?;
    let threads = threads.count();
    if threads != 1 {
        return Err(EnterError::Threads(threads));
    }
    if needs.network {
        // Asked before anything has changed.
        tool::run("ip", &["-V"])?;
    }
    let mut wanted = CloneFlags::CLONE_NEWNS;
    wanted.set(CloneFlags::CLONE_NEWNET, needs.network);
    match unshare(wanted) {
        Ok(()) => {}
        Err(Errno::EPERM) => unshare_as_user(wanted)?,
        Err(errno) => return Err(EnterError::Refused(errno)),
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| cannot("keep mounts to itself")(errno.into()))?;
    if needs.network {
        remember(&File::open(OWN).map_err(cannot("look at its network"))?)
            .map_err(cannot("look at its network"))?;
        tool::run("ip", &["link", "set", "lo", "up"])?;
    }
    *entered = Some(needs);
    Ok(())
}

fn unshare_as_user(wanted: CloneFlags) -> Result<(), EnterError> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | wanted).map_err(EnterError::Refused)?;
    let map = || -> io::Result<()> {
        // A user without privileges may map only one group, and only if others cannot be dropped.
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))
    };
    map().map_err(cannot("become root of a user namespace"))
}

fn remember(namespace: &File) -> io::Result<()> {
    let data = namespace.metadata()?;
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.insert((data.dev(), data.ino()));
    Ok(())
}

/// Whether network namespaces can be made here, with a bridge and virtual interfaces.
///
/// # Errors
/// Why not, and what would help.
pub fn available() -> Available {
    static AVAILABLE: OnceLock<Available> = OnceLock::new();
    AVAILABLE
        .get_or_init(|| {
            tool::run("ip", &["-V"]).map_err(|error| error.to_string())?;
            try_inside(
                "ip link set lo up && ip link add quorate0 type bridge && \
                 ip link add quorate0n1 type veth peer name eth0",
            )
            .map_err(|why| {
                format!(
                    "network namespaces do not work ({why}); run as root, or allow them with \
                     sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000"
                )
            })
        })
        .clone()
}

/// Runs a script of the shell in a network namespace that ends with it; why it failed, if it did.
pub(super) fn try_inside(script: &str) -> Available {
    let script = format!("PATH=$PATH:/usr/sbin:/sbin; {script}");
    let own = ["-n", "-m", "--", "sh", "-c", &script];
    let of_user = ["-U", "-r", "-n", "-m", "--", "sh", "-c", &script];
    let refused = |error: &ToolError| matches!(error, ToolError::Failed { said, .. } if said.starts_with("unshare: "));
    let tried = match tool::run("unshare", &own) {
        Err(error) if refused(&error) => tool::run("unshare", &of_user),
        tried => tried,
    };
    match tried {
        Ok(_) => Ok(()),
        Err(ToolError::Failed { said, .. }) => Err(said),
        Err(missing) => Err(missing.to_string()),
    }
}

/// A network namespace that this program made. It lasts until this value is dropped and nothing is
/// left in it.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl Namespace {
    /// Makes one, with nothing in it but loopback, which is up.
    ///
    /// # Errors
    /// Without the privilege; see [`enter`].
    pub fn create() -> io::Result<Self> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let handle = File::open(OWN)?;
            remember(&handle)?;
            tool::run("ip", &["link", "set", "lo", "up"]).map_err(io::Error::other)?;
            Ok(Self(handle.into()))
        })?
    }

    /// The one that the calling thread is in.
    ///
    /// # Errors
    /// If this program did not make it: it is the machine's.
    pub fn current() -> io::Result<Self> {
        let handle = File::open(OWN)?;
        let data = handle.metadata()?;
        let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if made.contains(&(data.dev(), data.ino())) {
            return Ok(Self(handle.into()));
        }
        Err(io::Error::other(
            "this is the network of the machine, which is left alone",
        ))
    }

    /// The one that a process is in: a container's, seen from the pid namespace of its machine.
    ///
    /// # Errors
    /// If the process is gone; if it is in the network of the machine (that of process 1), or in
    /// this program's own: these are left alone.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let handle = File::open(format!("/proc/{pid}/ns/net"))?;
        let found = handle.metadata()?;
        for other in [OWN, "/proc/1/ns/net"] {
            let other = File::open(other)?.metadata()?;
            if (other.dev(), other.ino()) == (found.dev(), found.ino()) {
                return Err(io::Error::other(format!(
                    "process {pid} is in the network of the machine, which is left alone"
                )));
            }
        }
        Ok(Self(handle.into()))
    }

    /// Device and number: the same for every handle of one network, and no other's while one is
    /// held.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let found = File::from(self.0.try_clone()?).metadata()?;
        Ok((found.dev(), found.ino()))
    }

    /// Moves the calling thread here; what it starts, and the sockets it opens, belong here too.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn enter_thread(&self) -> io::Result<()> {
        Ok(setns(&self.0, CloneFlags::CLONE_NEWNET)?)
    }

    /// Does something here, on a thread of its own. A socket that is opened stays here.
    ///
    /// # Errors
    /// If there can be no such thread. What is done may have errors of its own.
    pub fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_thread(|| {
            self.enter_thread()?;
            Ok(what())
        })?
    }

    /// What other programs know it by, as `ip link set … netns` wants it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// Namespaces are a matter of threads: one that ends takes nothing along.
fn on_thread<T: Send>(what: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, what)?;
        thread
            .join()
            .map_err(|_| io::Error::other("the thread in the namespace has panicked"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_of_the_machine_is_left_alone() {
        let error = Namespace::current().unwrap_err().to_string();
        assert!(error.contains("the network of the machine"), "{error}");
        let Ok(made) = Namespace::create() else {
            return eprintln!("not tested: this machine allows no network namespaces");
        };
        let links = made.run(|| {
            Namespace::current().unwrap();
            tool::run("ip", &["-o", "link"]).unwrap()
        });
        let links = links.unwrap();
        assert!(links.contains("lo:") && !links.contains("eth0:"), "{links}");
        // The thread that was there has ended; this one never was.
        assert!(Namespace::current().is_err());
    }

    #[test]
    fn the_network_of_a_process_is_had_unless_it_is_the_machines() {
        let own = Namespace::of_process(std::process::id()).unwrap_err();
        assert!(own.to_string().contains("left alone"), "{own}");
        if File::open("/proc/1/ns/net").is_err() {
            // Then no network can be told from the machine's, and none is had.
            return eprintln!("not tested: process 1 may not be looked at");
        }
        let Ok(made) = Namespace::create() else {
            return eprintln!("not tested: network namespaces cannot be made");
        };
        let sleeper = made.run(|| std::process::Command::new("sleep").arg("60").spawn());
        let mut sleeper = sleeper.unwrap().unwrap();
        let found = Namespace::of_process(sleeper.id()).unwrap();
        assert_eq!(found.identity().unwrap(), made.identity().unwrap());
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn a_program_of_many_threads_cannot_enter() {
        // The test runner has threads.
        let error = enter(Needs { network: true }).unwrap_err().to_string();
        assert!(error.contains("threads"), "{error}");
    }
}
