//! An operator's commands in the simulation: asked of the node that should know, again and at others
//! until they are answered. The operator's path is not part of the network under test.

use std::collections::VecDeque;

use nemesis::action::Request;
use nemesis::{Node, Proof};
use reference_cluster::core::{self, Event, NodeId, Op, Refusal, Reply, RequestId, Role};

use super::{Happening, Happens, SimSubstrate};
use crate::admin::admin;

/// Requests from this number on are an operator's.
pub(super) const OPERATORS: u64 = 1 << 63;
/// Between two looks at how it goes, nanoseconds.
const LOOK: u64 = 50_000_000;
/// A request is sent again when it was not answered for this long, nanoseconds.
const PATIENCE: u64 = 1_000_000_000;
/// When it has failed, nanoseconds after it began.
const WITHIN: u64 = 5_000_000_000;

/// What is still to be asked for, for one fault.
pub(super) struct Errand {
    /// Whom to ask.
    asked: Node,
    todo: VecDeque<Request>,
    done: Vec<String>,
    /// The request under way, and since when.
    open: Option<(u64, u64)>,
    deadline: u64,
    /// What came of the last attempt.
    last: String,
    /// Asking again is of no use.
    hopeless: bool,
}

impl SimSubstrate {
    /// Begins to ask for these things, one after the other.
    pub(super) fn errand(&mut self, fault: u32, asked: Node, todo: Vec<Request>) -> Errand {
        self.queue.push(self.now, Happens::Errand { fault });
        Errand {
            asked,
            todo: todo.into(),
            done: Vec::new(),
            open: None,
            deadline: self.now + WITHIN,
            last: "it was not answered".to_owned(),
            hopeless: false,
        }
    }

    /// Goes on with what is to be asked for, and judges it at the end.
    pub(super) fn run_errand(&mut self, fault: u32) {
        let Some(active) = self.faults.get_mut(&fault) else {
            return;
        };
        let healing = active.healing;
        let Some(mut errand) = active.errand.take() else {
            return;
        };
        let proof = self.further(&mut errand);
        if let Some(active) = self.faults.get_mut(&fault) {
            active.errand = proof.is_none().then_some(errand);
        }
        match proof {
            None => self.queue.push(self.now + LOOK, Happens::Errand { fault }),
            Some(proof) if healing => {
                self.faults.remove(&fault);
                self.ready.push_back(Happening::Healed { id: fault, proof });
            }
            Some(proof) => self
                .ready
                .push_back(Happening::Injected { id: fault, proof }),
        }
    }

    fn further(&mut self, errand: &mut Errand) -> Option<Proof> {
        if let Some(Request::Transfer(to)) = errand.todo.front()
            && self.leads(*to)
        {
            errand.pop();
        }
        let Some(&request) = errand.todo.front() else {
            return Some(Proof::Seen(if errand.done.is_empty() {
                "nothing to undo: it stays as it is".to_owned()
            } else {
                errand.done.join("; ")
            }));
        };
        if errand.hopeless || self.now >= errand.deadline {
            return Some(Proof::NotSeen(std::mem::take(&mut errand.last)));
        }
        if errand
            .open
            .is_none_or(|(_, since)| self.now >= since + PATIENCE)
        {
            let down = self.nodes[usize::from(errand.asked) - 1].replica.is_none();
            if down || errand.open.is_some() {
                errand.asked = self.next_to_ask(errand);
            }
            self.errands += 1;
            let call = OPERATORS | self.errands;
            errand.open = Some((call, self.now));
            let request = core::Request::new(Op::Admin(admin(request)));
            // The answer may come at once: where it finds the errand, see `errand_answered`.
            self.asking = Some(call);
            self.deliver(errand.asked, Event::Request(RequestId(call), request));
            self.asking = None;
            if let Some(reply) = self.answered.take() {
                self.take_in(errand, &reply);
            }
        }
        None
    }

    /// An operator's request was answered.
    pub(super) fn errand_answered(&mut self, call: u64, reply: &Reply) {
        if self.asking == Some(call) {
            self.answered = Some(reply.clone());
            return;
        }
        let under_way = |active: &super::faults::Active| {
            let errand = active.errand.as_ref()?;
            errand.open.filter(|(open, _)| *open == call)
        };
        let fault = self
            .faults
            .iter()
            .find_map(|(id, active)| under_way(active).map(|_| *id));
        if let Some(active) = fault.and_then(|id| self.faults.get_mut(&id))
            && let Some(mut errand) = active.errand.take()
        {
            self.take_in(&mut errand, reply);
            if let Some(active) = fault.and_then(|id| self.faults.get_mut(&id)) {
                active.errand = Some(errand);
            }
        }
    }

    fn take_in(&self, errand: &mut Errand, reply: &Reply) {
        match &reply.result {
            // Handing over has only begun; that it is over is seen elsewhere.
            Ok(_) if matches!(errand.todo.front(), Some(Request::Transfer(_))) => {
                errand.last = format!("n{} hands over, but not yet", errand.asked);
                return;
            }
            Ok(_) => errand.pop(),
            Err(refusal) => {
                errand.last = format!("n{} says: {refusal}", errand.asked);
                match refusal {
                    Refusal::Unsupported(_) => errand.hopeless = true,
                    Refusal::NotLeader { leader } => {
                        let leader = leader.map(|NodeId(leader)| leader);
                        errand.asked = leader.unwrap_or_else(|| self.next_to_ask(errand));
                    }
                    _ => {}
                }
            }
        }
        errand.open = None;
    }

    fn leads(&self, node: Node) -> bool {
        let replica = &self.nodes[usize::from(node) - 1].replica;
        replica
            .as_ref()
            .is_some_and(|replica| replica.status().role == Role::Leader)
            && self.view().leader() == Some(node)
    }

    /// The leader, or else the node after the one asked last; but who is to take keys in is asked
    /// itself.
    fn next_to_ask(&self, errand: &Errand) -> Node {
        if let Some(Request::TakeHome(_) | Request::Snapshot(_)) = errand.todo.front() {
            return errand.asked;
        }
        let leader = self.view().leader();
        leader.unwrap_or(errand.asked % self.nodes.len() as Node + 1)
    }
}

impl Errand {
    fn pop(&mut self) {
        if let Some(request) = self.todo.pop_front() {
            self.done.push(request.to_string());
        }
        self.open = None;
    }
}
