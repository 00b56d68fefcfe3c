//! The thread that writes the journal.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::faults::{CrashPoint, Trap};
use super::journal::{Journal, JournalError, encode};
use super::metrics::Metrics;
use crate::core::DiskOp;

/// Bytes gathered before they are written, if no sync is wanted earlier.
const GATHERED_BYTES_MAX: usize = 4 << 20;

/// What [`spawn`] gives: where operations go in, where tokens come out, and a failure at most once.
pub(super) type Disk = (
    Sender<DiskOp>,
    mpsc::UnboundedReceiver<u64>,
    oneshot::Receiver<JournalError>,
);

/// Starts the thread. It ends when the sender of operations is gone.
pub(super) fn spawn(
    journal: Journal,
    metrics: Arc<Metrics>,
    trap: Arc<Trap>,
) -> Result<Disk, JournalError> {
    let (operations, wanted) = channel();
    let (done, synced) = mpsc::unbounded_channel();
    let (failing, failed) = oneshot::channel();
    // A thread rather than a task: it spends its life waiting for the disk.
    thread::Builder::new()
        .name("journal".into())
        .spawn(move || {
            if let Err(error) = work(journal, &wanted, &done, &metrics, &trap) {
                let _ = failing.send(error);
            }
        })
        .map_err(|source| JournalError::Io {
            what: "start a thread for",
            path: "the journal".into(),
            source,
        })?;
    Ok((operations, synced, failed))
}

/// Does what is wanted, in order; whatever is already waiting is done with one sync.
fn work(
    mut journal: Journal,
    wanted: &Receiver<DiskOp>,
    done: &mpsc::UnboundedSender<u64>,
    metrics: &Metrics,
    trap: &Trap,
) -> Result<(), JournalError> {
    let (mut bytes, mut tokens) = (Vec::new(), Vec::new());
    while let Ok(first) = wanted.recv() {
        let mut next = Some(first);
        while let Some(operation) = next {
            match operation {
                DiskOp::Append(record) => encode(&record, &mut bytes),
                DiskOp::Sync(token) => tokens.push(token),
                DiskOp::Replace(records, token) => {
                    // They hold all that was to be written before.
                    bytes.clear();
                    trap.pass(CrashPoint::BeforeFsync);
                    journal.replace(&records)?;
                    tokens.push(token);
                }
            }
            next = (bytes.len() < GATHERED_BYTES_MAX)
                .then(|| wanted.try_recv().ok())
                .flatten();
        }
        if !bytes.is_empty() {
            journal.append(&bytes)?;
            bytes.clear();
        }
        if !tokens.is_empty() {
            let begun = Instant::now();
            trap.pass(CrashPoint::BeforeFsync);
            journal.sync()?;
            metrics.fsync_seconds.observe(begun.elapsed().as_secs_f64());
            for token in tokens.drain(..) {
                // Nobody to tell if the replica is gone.
                let _ = done.send(token);
            }
        }
    }
    Ok(())
}
