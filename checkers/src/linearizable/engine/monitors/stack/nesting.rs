//! Whether lives can be chosen nested or disjoint: the recursion over components and bottoms whose
//! proof is in the [module above](super).

use super::super::shared::{Life, NEVER, cover};

/// A maximal set of values that together are inside without gap; by position, of instants (`from`,
/// `to`) and of values in the order of the ends of their pushes (`first`, `last`, exclusive).
struct Component {
    from: usize,
    to: usize,
    first: usize,
    last: usize,
}

struct Nesting {
    /// Those that are inside at some time for certain, by the ends of their pushes.
    values: Vec<Life>,
    /// When values come to be inside, and when they need not be any more.
    instants: Vec<u64>,
    /// By value: the position of the end of its push.
    starts: Vec<u32>,
    coverage: Coverage,
    /// Values whose push was not yet invoked when their component began: its invocation.
    waiting: MinTree,
    /// The others: the end of the pop, as far from the end of time.
    pushed: MinTree,
    /// Of a value that was taken out: some later one, perhaps out, too.
    later: Vec<u32>,
    open: Vec<Component>,
}

/// Values whose lives cross whatever is chosen, as few as easily found; `None` if there are none.
pub(super) fn crossing(values: &[Life]) -> Option<Vec<Life>> {
    let mut values: Vec<Life> = values
        .iter()
        .filter(|life| life.inside().is_some())
        .copied()
        .collect();
    values.sort_unstable_by_key(|life| life.put_end);
    let mut nesting = Nesting::new(values);
    nesting.split(0, nesting.instants.len());
    while let Some(component) = nesting.open.pop() {
        let Some(bottom) = nesting.bottom(&component) else {
            return Some(nesting.chain(&component));
        };
        nesting.take_out(bottom);
        nesting.split(component.from, component.to);
    }
    None
}

impl Nesting {
    fn new(values: Vec<Life>) -> Self {
        let mut instants: Vec<u64> = values
            .iter()
            .flat_map(|life| [life.put_end, life.take_call])
            .collect();
        instants.sort_unstable();
        instants.dedup();
        let at = |instant: u64| instants.partition_point(|other| *other < instant);
        let mut changes = vec![0_i32; instants.len() + 1];
        let mut starts = Vec::with_capacity(values.len());
        for life in &values {
            let start = at(life.put_end);
            starts.push(start as u32);
            changes[start] += 1;
            changes[at(life.take_call)] -= 1;
        }
        Self {
            coverage: Coverage::new(&changes),
            waiting: MinTree::new(values.iter().map(|life| life.put_call)),
            pushed: MinTree::new(values.iter().map(|_| NEVER)),
            later: (0..=values.len() as u32).collect(),
            open: Vec::new(),
            values,
            instants,
            starts,
        }
    }

    /// Finds the components in a range of instants.
    fn split(&mut self, from: usize, to: usize) {
        let mut reached = from;
        while reached < to {
            let first = self
                .starts
                .partition_point(|start| (*start as usize) < reached);
            let first = self.still_in(first);
            let Some(&start) = self.starts.get(first) else {
                return;
            };
            let from = start as usize;
            if from >= to {
                return;
            }
            let end = self.coverage.first_uncovered(from);
            let last = self.starts.partition_point(|start| (*start as usize) < end);
            self.open.push(Component {
                from,
                to: end,
                first,
                last,
            });
            reached = end;
        }
    }

    /// The first value from here on that was not taken out.
    fn still_in(&mut self, mut value: usize) -> usize {
        while self.later[value] as usize != value {
            let next = self.later[value] as usize;
            self.later[value] = self.later[next];
            value = next;
        }
        value
    }

    fn bottom(&mut self, component: &Component) -> Option<usize> {
        let (from, to) = (self.instants[component.from], self.instants[component.to]);
        let values = component.first..component.last;
        while let Some(value) = self.waiting.find_below(values.clone(), from) {
            self.waiting.set(value, NEVER);
            self.pushed.set(value, NEVER - self.values[value].take_end);
        }
        self.pushed.find_below(values, NEVER - to)
    }

    fn take_out(&mut self, value: usize) {
        self.pushed.set(value, NEVER);
        self.later[value] = value as u32 + 1;
        let at = |instant: u64| self.instants.partition_point(|other| *other < instant);
        let range = at(self.values[value].put_end)..at(self.values[value].take_call);
        self.coverage.uncover(range.start, range.end);
    }

    /// Values of a component that alone make up such a component: none of them can be its bottom
    /// either.
    fn chain(&self, component: &Component) -> Vec<Life> {
        let (from, to) = (self.instants[component.from], self.instants[component.to]);
        let left = component.first..component.last;
        let left = left.filter(|&value| self.later[value] as usize == value);
        let inside = left.filter_map(|value| {
            let life = self.values[value];
            life.inside().map(|(from, to)| (from, to, life))
        });
        cover(inside, from, to).unwrap_or_default()
    }
}

/// The smallest of a range of numbers.
struct MinTree {
    leaves: usize,
    nodes: Vec<u64>,
}

impl MinTree {
    fn new(numbers: impl ExactSizeIterator<Item = u64>) -> Self {
        let leaves = numbers.len().next_power_of_two();
        let mut nodes = vec![NEVER; 2 * leaves];
        for (node, number) in nodes[leaves..].iter_mut().zip(numbers) {
            *node = number;
        }
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node].min(nodes[2 * node + 1]);
        }
        Self { leaves, nodes }
    }

    fn set(&mut self, at: usize, number: u64) {
        let mut node = self.leaves + at;
        self.nodes[node] = number;
        while node > 1 {
            node /= 2;
            self.nodes[node] = self.nodes[2 * node].min(self.nodes[2 * node + 1]);
        }
    }

    /// One in the range that is less than the limit.
    fn find_below(&self, range: std::ops::Range<usize>, limit: u64) -> Option<usize> {
        let (mut from, mut to) = (self.leaves + range.start, self.leaves + range.end);
        while from < to {
            if from % 2 == 1 {
                if self.nodes[from] < limit {
                    return Some(self.descend(from, limit));
                }
                from += 1;
            }
            if to % 2 == 1 {
                to -= 1;
                if self.nodes[to] < limit {
                    return Some(self.descend(to, limit));
                }
            }
            from /= 2;
            to /= 2;
        }
        None
    }

    fn descend(&self, mut node: usize, limit: u64) -> usize {
        while node < self.leaves {
            node = 2 * node + usize::from(self.nodes[2 * node] >= limit);
        }
        node - self.leaves
    }
}

/// How many values are inside in each slot.
struct Coverage {
    leaves: usize,
    /// By node: the fewest in a slot below it, not counting what was taken off above it.
    fewest: Vec<i32>,
    /// By node: what was taken off everywhere below it.
    off: Vec<i32>,
}

impl Coverage {
    /// From the changes of the number at each instant; after the last one it is 0.
    fn new(changes: &[i32]) -> Self {
        let leaves = changes.len().next_power_of_two();
        let mut fewest = vec![0; 2 * leaves];
        let mut number = 0;
        for (node, change) in fewest[leaves..].iter_mut().zip(changes) {
            number += change;
            *node = number;
        }
        for node in (1..leaves).rev() {
            fewest[node] = fewest[2 * node].min(fewest[2 * node + 1]);
        }
        Self {
            leaves,
            off: vec![0; 2 * leaves],
            fewest,
        }
    }

    /// Takes one off each slot of the range.
    fn uncover(&mut self, from: usize, to: usize) {
        let (mut left, mut right) = (self.leaves + from, self.leaves + to);
        let (first, last) = (left, right.saturating_sub(1));
        while left < right {
            if left % 2 == 1 {
                self.take_off(left);
                left += 1;
            }
            if right % 2 == 1 {
                right -= 1;
                self.take_off(right);
            }
            left /= 2;
            right /= 2;
        }
        for mut node in [first, last] {
            while node > 1 {
                node /= 2;
                self.fewest[node] =
                    self.fewest[2 * node].min(self.fewest[2 * node + 1]) - self.off[node];
            }
        }
    }

    fn take_off(&mut self, node: usize) {
        self.fewest[node] -= 1;
        self.off[node] += 1;
    }

    /// The first slot from here on in which nothing is inside. The last one always is such a slot.
    fn first_uncovered(&self, from: usize) -> usize {
        let mut node = self.leaves + from;
        // What was taken off strictly above the node.
        let mut off: i32 = 0;
        let mut above = node;
        while above > 1 {
            above /= 2;
            off += self.off[above];
        }
        // Up and to the right, to a node that has one; then down to its first one.
        while self.fewest[node] - off > 0 {
            while node % 2 == 1 && node > 1 {
                node /= 2;
                off -= self.off[node];
            }
            if node <= 1 {
                return self.leaves - 1;
            }
            node += 1;
        }
        while node < self.leaves {
            off += self.off[node];
            node *= 2;
            if self.fewest[node] - off > 0 {
                node += 1;
            }
        }
        node - self.leaves
    }
}
