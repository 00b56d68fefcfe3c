//! The event queue of the simulation: by time, then by order of scheduling.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Bits of a key that name a slot of the slab: so many events may be in the future at a time.
const SLOT_BITS: u32 = 24;
/// Bits of a key that number events in the order scheduled.
const ORDER_BITS: u32 = 64 - SLOT_BITS;

/// A priority queue of future events. Payloads sit in a slab, so that the heap moves small keys:
/// time, order of scheduling and slot in one number.
#[derive(Debug)]
pub struct Queue<T> {
    heap: BinaryHeap<Reverse<u128>>,
    slab: Vec<Option<T>>,
    free: Vec<u32>,
    scheduled: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            slab: Vec::new(),
            free: Vec::new(),
            scheduled: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Schedules an event. O(log n).
    ///
    /// # Panics
    /// After 2^40 events in all, or with 2^24 in the future.
    pub fn push(&mut self, at: u64, event: T) {
        let slot = if let Some(slot) = self.free.pop() {
            self.slab[slot as usize] = Some(event);
            slot
        } else {
            self.slab.push(Some(event));
            (self.slab.len() - 1) as u32
        };
        assert!(self.scheduled >> ORDER_BITS == 0 && slot >> SLOT_BITS == 0);
        let order = (self.scheduled << SLOT_BITS) | u64::from(slot);
        let key = (u128::from(at) << 64) | u128::from(order);
        self.heap.push(Reverse(key));
        self.scheduled += 1;
    }

    /// When the next event is due.
    pub fn peek(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(key)| (*key >> 64) as u64)
    }

    /// Takes the next event out.
    pub fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse(key) = self.heap.pop()?;
        let slot = key as u32 & ((1 << SLOT_BITS) - 1);
        self.free.push(slot);
        let event = self.slab[slot as usize].take()?;
        Some(((key >> 64) as u64, event))
    }

    /// How many events were ever scheduled.
    pub fn scheduled(&self) -> u64 {
        self.scheduled
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn equal_times_come_out_in_the_order_scheduled() {
        let mut queue = Queue::default();
        for (at, name) in [(5, 'b'), (1, 'a'), (5, 'c'), (5, 'd')] {
            queue.push(at, name);
        }
        let order: String = std::iter::from_fn(|| queue.pop().map(|(_, c)| c)).collect();
        assert_eq!(order, "abcd");
    }
}
