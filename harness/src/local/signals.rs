//! Ctrl-C and `SIGTERM`: the first asks the run to stop, the second ends it.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::{io, thread};

use tokio::signal::unix::{SignalKind, signal};

/// What a run wants done. Called from the thread that receives signals.
pub(crate) struct Handler {
    /// On the first signal.
    pub interrupt: Box<dyn Fn() + Send>,
    /// On the second, right before the process exits.
    pub abandon: Box<dyn Fn() + Send>,
}

struct Registered {
    id: u64,
    asked: bool,
    handler: Handler,
}

static HANDLERS: Mutex<(u64, Vec<Registered>)> = Mutex::new((0, Vec::new()));
static LISTENING: OnceLock<()> = OnceLock::new();

/// Exit code of an interrupted run.
const INTERRUPTED: i32 = 130;

/// A registered handler; dropping it removes the handler.
#[derive(Debug)]
pub(crate) struct Registration(u64);

impl Drop for Registration {
    fn drop(&mut self) {
        let mut handlers = HANDLERS.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.1.retain(|registered| registered.id != self.0);
    }
}

/// Has this handler called. A process's disposition of a signal cannot be given back once taken,
/// so one thread listens for as long as the process lives, and when no handler is registered (the
/// report is being written, say) a signal ends the process as it would by default.
pub(crate) fn register(handler: Handler) -> io::Result<Registration> {
    let id = {
        let mut handlers = HANDLERS.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.0 += 1;
        let id = handlers.0;
        handlers.1.push(Registered {
            id,
            asked: false,
            handler,
        });
        id
    };
    let registration = Registration(id);
    if LISTENING.get().is_none() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (mut interrupt, mut terminate) = {
            let _guard = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            )
        };
        if LISTENING.set(()).is_ok() {
            thread::Builder::new()
                .name("signals".to_owned())
                .spawn(move || {
                    runtime.block_on(async {
                        loop {
                            tokio::select! {
                                _ = interrupt.recv() => {}
                                _ = terminate.recv() => {}
                            }
                            received();
                        }
                    });
                })?;
        }
    }
    Ok(registration)
}

fn received() {
    let mut handlers = HANDLERS.lock().unwrap_or_else(PoisonError::into_inner);
    if handlers.1.iter().all(|registered| registered.asked) {
        for registered in &handlers.1 {
            (registered.handler.abandon)();
        }
        std::process::exit(INTERRUPTED);
    }
    for registered in &mut handlers.1 {
        if !registered.asked {
            registered.asked = true;
            (registered.handler.interrupt)();
        }
    }
}
