//! The end of the process with that of its owner, however that ends.

use std::io::{self, Read};
use std::thread;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::sync::oneshot;

/// Has the kernel kill this process when the thread that started it ends.
pub(super) fn die_with_parent() -> io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have ended before the kernel was told.
    if getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::other("the parent process ended during start-up"))
    }
}

/// Resolves when stdin reaches its end.
pub(super) fn stdin_end() -> io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    // Not a task: nothing can interrupt a read of stdin, and the process must not wait for it.
    thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut buffer = [0; 64];
        let mut stdin = io::stdin();
        while let Ok(1..) = stdin.read(&mut buffer) {}
        let _ = ended.send(());
    })?;
    Ok(end)
}
