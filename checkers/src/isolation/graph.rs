//! Cycles of the commit order that would be needed.

use std::collections::VecDeque;

use super::execution::{Execution, Grouped};

/// Session order, reads-from and further pairs, as a graph of transactions.
pub(crate) struct Graph<'e> {
    execution: &'e Execution,
    readers: Grouped,
    after: Grouped,
}

impl<'e> Graph<'e> {
    /// `pairs`: what is before what, besides session order and reads-from.
    pub(crate) fn new(execution: &'e Execution, pairs: &[(u32, u32)]) -> Self {
        let txns = execution.txns();
        let reads =
            || (0..txns).flat_map(|t| execution.sources(t).iter().map(move |&source| (source, t)));
        Self {
            execution,
            readers: Grouped::new(txns as usize, reads),
            after: Grouped::new(txns as usize, || pairs.iter().copied()),
        }
    }

    /// The `n`th transaction that is directly after this one.
    fn successor(&self, txn: u32, n: usize) -> Option<u32> {
        let readers = self.readers.of(txn);
        if let Some(&reader) = readers.get(n) {
            return Some(reader);
        }
        let after = self.after.of(txn);
        let n = n - readers.len();
        match after.get(n) {
            Some(&t) => Some(t),
            None if n == after.len() => self.execution.next(txn),
            None => None,
        }
    }

    /// A transaction directly after this one that is on a cycle with it.
    pub(crate) fn first_within(&self, components: &Components, txn: u32) -> Option<u32> {
        (0..)
            .map_while(|n| self.successor(txn, n))
            .find(|&next| components.same(txn, next))
    }

    /// The strongly connected components (Tarjan, 1972), without recursion.
    pub(crate) fn components(&self) -> Components {
        const UNSEEN: u32 = u32::MAX;
        let txns = self.execution.txns();
        let mut component = vec![UNSEEN; txns as usize];
        // The number of a transaction in the order of the search, and the smallest reached from it.
        let mut low = vec![UNSEEN; txns as usize];
        let mut open: Vec<u32> = Vec::new();
        let mut path: Vec<(u32, u32, u32)> = Vec::new();
        let mut seen = 0;
        let mut sizes: Vec<u32> = Vec::new();
        for root in 0..txns {
            if low[root as usize] != UNSEEN {
                continue;
            }
            low[root as usize] = seen;
            path.push((root, seen, 0));
            open.push(root);
            seen += 1;
            while let Some((txn, number, at)) = path.last_mut() {
                let (txn, number) = (*txn, *number);
                if let Some(next) = self.successor(txn, *at as usize) {
                    *at += 1;
                    if low[next as usize] == UNSEEN {
                        low[next as usize] = seen;
                        path.push((next, seen, 0));
                        open.push(next);
                        seen += 1;
                    } else if component[next as usize] == UNSEEN {
                        low[txn as usize] = low[txn as usize].min(low[next as usize]);
                    }
                    continue;
                }
                path.pop();
                if let Some(&(parent, ..)) = path.last() {
                    low[parent as usize] = low[parent as usize].min(low[txn as usize]);
                }
                if low[txn as usize] == number {
                    let mut size = 0;
                    while let Some(member) = open.pop() {
                        component[member as usize] = sizes.len() as u32;
                        size += 1;
                        if member == txn {
                            break;
                        }
                    }
                    sizes.push(size);
                }
            }
        }
        Components { component, sizes }
    }

    /// A shortest way from one transaction to another within their component: all on it, both ends
    /// included. `budget` is lessened by the pairs looked at; `None` when it is used up.
    pub(crate) fn way(
        &self,
        components: &Components,
        from: u32,
        to: u32,
        budget: &mut u64,
    ) -> Option<Vec<u32>> {
        let mut came_from: rustc_hash::FxHashMap<u32, u32> = rustc_hash::FxHashMap::default();
        let mut queue = VecDeque::from([from]);
        came_from.insert(from, from);
        while let Some(txn) = queue.pop_front() {
            if txn == to {
                let mut way = vec![to];
                let mut at = to;
                while at != from {
                    at = *came_from.get(&at)?;
                    way.push(at);
                }
                way.reverse();
                return Some(way);
            }
            let mut n = 0;
            while let Some(next) = self.successor(txn, n) {
                n += 1;
                *budget = budget.checked_sub(1)?;
                if components.same(txn, next) && !came_from.contains_key(&next) {
                    came_from.insert(next, txn);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

/// Which transactions are on cycles together.
pub(crate) struct Components {
    component: Vec<u32>,
    sizes: Vec<u32>,
}

impl Components {
    /// Whether there is any cycle. (No transaction is before itself directly.)
    pub(crate) fn cyclic(&self) -> bool {
        self.sizes.iter().any(|&size| size > 1)
    }

    /// Whether two transactions are on a cycle together.
    pub(crate) fn same(&self, a: u32, b: u32) -> bool {
        self.component[a as usize] == self.component[b as usize]
    }

    /// One transaction of each component with a cycle.
    pub(crate) fn of_cycles(&self) -> Vec<u32> {
        let mut taken = vec![false; self.sizes.len()];
        let members = (0..self.component.len() as u32).filter(|&t| {
            let component = self.component[t as usize] as usize;
            let first = !taken[component];
            taken[component] = true;
            first && self.sizes[component] > 1
        });
        members.collect()
    }
}
