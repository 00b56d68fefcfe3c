//! Calls of clients: on their way to a node, at it, and answered.

use checkers::Outcome;
use nemesis::{Endpoint, Link};
use reference_cluster::core::{Event, Reply, Request, RequestId};
use workloads::{Completion, Invocation};

use super::{Happens, SimSubstrate, translate};
use crate::substrate::Happening;

/// The open call of a thread.
pub(super) struct Open {
    pub(super) call: u64,
    pub(super) node: u16,
    pub(super) arrived: bool,
    pub(super) invocation: Invocation,
}

impl SimSubstrate {
    /// Sends an answer on its way to a client.
    pub(super) fn answer(&mut self, thread: u32, call: u64, node: u16, completion: Completion) {
        let link = Link {
            from: Endpoint::Clients,
            to: Endpoint::Node(node),
        };
        if let Some(at) = self.network.stream(self.now, link, 200, &mut self.rng) {
            let completion = Box::new(completion);
            self.queue.push(
                at,
                Happens::Answer {
                    thread,
                    call,
                    completion,
                },
            );
        }
    }

    pub(super) fn reply(&mut self, node: u16, call: u64, reply: &Reply) {
        let truth = &mut self.truth.calls[call as usize];
        if reply.result.is_ok() {
            // Not the node asked, where a gateway passed the request on.
            truth.node = reply.node.0;
            truth.served = Some(reply.position);
            truth.served_at = Some(self.now);
            truth.epoch = Some(reply.epoch);
        }
        let thread = self.threads[call as usize];
        if let Some(open) = &self.open[thread as usize]
            && open.call == call
        {
            let completion = translate::completion(&open.invocation, reply, &self.names);
            self.answer(thread, call, node, completion);
        }
    }

    pub(super) fn arrive(&mut self, thread: u32, call: u64, request: Request) {
        let Some(open) = self.open[thread as usize]
            .as_mut()
            .filter(|o| o.call == call)
        else {
            return;
        };
        let node = open.node;
        if self.nodes[usize::from(node) - 1].replica.is_none() {
            let invocation = open.invocation.clone();
            let refused = translate::unanswered(&invocation, Outcome::Fail, "connection-refused");
            self.answer(thread, call, node, refused);
            return;
        }
        open.arrived = true;
        self.deliver(node, Event::Request(RequestId(call), request));
    }

    pub(super) fn complete(&mut self, thread: u32, call: u64, completion: Completion) {
        let open = &mut self.open[thread as usize];
        if open.as_ref().is_some_and(|o| o.call == call) {
            *open = None;
            let truth = &mut self.truth.calls[call as usize];
            truth.completed = Some(self.now);
            truth.acknowledged = completion.outcome == Outcome::Ok;
            self.ready
                .push_back(Happening::Completed { thread, completion });
        }
    }
}
