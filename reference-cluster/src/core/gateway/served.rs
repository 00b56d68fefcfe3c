//! What makes a replica of any mode serve auxiliary nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Message, REQUEST_BITS, forwarded_id};
use crate::core::{
    Effect, Event, Message as AnyMessage, NodeId, Position, Replica, Request, RequestId, Status,
    Time,
};

/// So many of the newest request numbers of each gateway are remembered.
const REMEMBERED_MAX: usize = 8_192;
/// Forwarded requests that may be unanswered; what comes beyond is dropped.
const UNDER_WAY_MAX: usize = 65_536;

/// A replica that also serves gateways and the monitor: carries out what they pass on, as if a
/// client had asked, and says how it stands.
///
/// A message that arrives twice is carried out once, and one that was meant for the process before
/// this one not at all: nobody could tell whether that one had carried it out. Both are as good as
/// lost, and nobody hears of it.
pub struct Served {
    replica: Box<dyn Replica>,
    /// When this process started; see [`Message`].
    life: Time,
    gateways: BTreeMap<NodeId, Taken>,
    /// Forwarded requests not yet answered, with the life of the gateway.
    under_way: BTreeMap<RequestId, Time>,
    /// What the replica wants done, before its answers to gateways are turned into messages.
    wanted: Vec<Effect>,
}

/// What was taken from a gateway in its present life.
#[derive(Default)]
struct Taken {
    life: Time,
    numbers: BTreeSet<u64>,
    /// Numbers below are taken for known.
    floor: u64,
}

impl Taken {
    /// Whether this is new.
    fn take(&mut self, life: Time, number: u64) -> bool {
        if life > self.life {
            *self = Self {
                life,
                ..Self::default()
            };
        }
        let new = life == self.life && number >= self.floor && self.numbers.insert(number);
        if self.numbers.len() > REMEMBERED_MAX
            && let Some(oldest) = self.numbers.pop_first()
        {
            self.floor = oldest + 1;
        }
        new
    }
}

impl Served {
    /// Wraps a replica of any mode that starts now. What it wanted done at its start needs no
    /// translation: it has answered nobody yet.
    pub fn new(replica: Box<dyn Replica>, now: Time) -> Self {
        Self {
            replica,
            life: now,
            gateways: BTreeMap::new(),
            under_way: BTreeMap::new(),
            wanted: Vec::new(),
        }
    }

    fn on_forward(
        &mut self,
        now: Time,
        gateway: NodeId,
        number: u64,
        life: Time,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let id = forwarded_id(gateway, number);
        // A gateway numbers anew when it starts again: its former life's request of the same
        // number may still be under way.
        let busy = self.under_way.len() >= UNDER_WAY_MAX || self.under_way.contains_key(&id);
        if busy || !self.gateways.entry(gateway).or_default().take(life, number) {
            return;
        }
        self.under_way.insert(id, life);
        self.pass(now, Event::Request(id, request), effects);
    }

    /// Has the replica handle an event, and sends its answers to gateways where they belong.
    fn pass(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        self.replica.handle(now, event, &mut self.wanted);
        for effect in self.wanted.drain(..) {
            match effect {
                Effect::Reply(id, reply) if id.0 >> REQUEST_BITS != 0 => {
                    let Some(life) = self.under_way.remove(&id) else {
                        continue;
                    };
                    let gateway = NodeId((id.0 >> REQUEST_BITS) as u16);
                    let answer = Message::Forwarded {
                        number: super::client_id(id).0,
                        life,
                        reply,
                    };
                    effects.push(Effect::Send(gateway, AnyMessage::Gateway(answer)));
                }
                other => effects.push(other),
            }
        }
    }
}

impl Replica for Served {
    fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Message(from, AnyMessage::Gateway(Message::Ask)) => {
                let (life, status) = (self.life, self.replica.status());
                let answer = Message::Stands { life, status };
                effects.push(Effect::Send(from, AnyMessage::Gateway(answer)));
            }
            Event::Message(
                from,
                AnyMessage::Gateway(Message::Forward {
                    number,
                    life,
                    to,
                    request,
                }),
            ) => {
                if to == self.life {
                    self.on_forward(now, from, number, life, request, effects);
                }
            }
            event => self.pass(now, event, effects),
        }
    }

    fn deadline(&self) -> Time {
        self.replica.deadline()
    }

    fn status(&self) -> Status {
        self.replica.status()
    }

    fn digest(&self) -> u64 {
        self.replica.digest()
    }

    fn log(&self, first: u64) -> Vec<Position> {
        self.replica.log(first)
    }

    fn holds(&self, key: &std::sync::Arc<str>) -> Option<crate::core::Datum> {
        self.replica.holds(key)
    }
}
