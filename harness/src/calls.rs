//! Operations under way on real clients: each a task of its own, whose end is posted to the queue
//! of happenings.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use nemesis::Node;
use tokio::runtime::Handle;
use workloads::client::At;
use workloads::{Client, Invocation};

use crate::substrate::Happening;

/// Threads of a runtime that carries calls.
pub const WORKERS: usize = 2;

/// Sends operations through a client on a runtime.
#[derive(Clone, Debug)]
pub struct Calls<C> {
    client: Arc<C>,
    runtime: Handle,
    happenings: Sender<Happening>,
}

impl<C: Client + 'static> Calls<C> {
    /// Completions go to `happenings`.
    pub fn new(client: C, runtime: Handle, happenings: Sender<Happening>) -> Self {
        Self {
            client: Arc::new(client),
            runtime,
            happenings,
        }
    }

    /// What it sends them through.
    pub fn client(&self) -> &C {
        &self.client
    }

    /// Sends one operation on behalf of a client thread to the node that listens there. Returns at
    /// once; how it ended comes as [`Happening::Completed`].
    pub fn start(&self, thread: u32, node: Node, address: Arc<str>, invocation: Invocation) {
        let client = Arc::clone(&self.client);
        let happenings = self.happenings.clone();
        self.runtime.spawn(async move {
            let at = At {
                thread,
                node,
                address: &address,
            };
            let completion = client.invoke(at, &invocation).await;
            // The runner may be gone already.
            let _ = happenings.send(Happening::Completed { thread, completion });
        });
    }
}
