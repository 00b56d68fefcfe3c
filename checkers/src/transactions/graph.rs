//! Dependency graphs of transactions, and their strongly connected components.
//!
//! The first nodes are transactions; those after them are auxiliary. An auxiliary node stands for
//! "everything that comes out of here": an edge of some kind leads into it, edges of kind
//! [`Kind::On`] lead from it on to transactions or to further auxiliary nodes, and the way from
//! transaction to transaction is *one* dependency of the kind that it began with. This keeps
//! relations of many to many linear: all readers of a version before all writers of later ones, all
//! transactions completed before all invoked later. Such a way may lead from a transaction to
//! itself, which means nothing: every use of a graph passes over it.
//!
//! Components are found by Tarjan's algorithm (*Depth-first search and linear graph algorithms*,
//! 1972) with an explicit stack, in O(nodes + edges).

/// How one transaction depends on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The second overwrote what the first wrote.
    Ww = 0,
    /// The second read what the first wrote.
    Wr = 1,
    /// The second overwrote what the first read.
    Rw = 2,
    /// The same process executed the first, then the second.
    Process = 3,
    /// The first completed before the second was invoked.
    Realtime = 4,
    /// From an auxiliary node on.
    On = 5,
}

const KINDS: [Kind; 8] = [
    Kind::Ww,
    Kind::Wr,
    Kind::Rw,
    Kind::Process,
    Kind::Realtime,
    Kind::On,
    Kind::On,
    Kind::On,
];

/// A set of kinds of edges; always with [`Kind::On`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const fn of(kinds: &[Kind]) -> Self {
        let mut bits = 1 << Kind::On as u8;
        let mut i = 0;
        while i < kinds.len() {
            bits |= 1 << kinds[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    pub(crate) fn with(self, kind: Option<Kind>) -> Self {
        kind.map_or(self, |kind| Self(self.0 | 1 << kind as u8))
    }

    pub(crate) fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

/// Where an edge leads, and its kind, in 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge(u32);

impl Edge {
    pub(crate) fn new(to: u32, kind: Kind) -> Self {
        Self(to << 3 | kind as u32)
    }

    pub(crate) fn to(self) -> u32 {
        self.0 >> 3
    }

    pub(crate) fn kind(self) -> Kind {
        KINDS[(self.0 & 7) as usize]
    }
}

/// The largest number of nodes.
pub(crate) const NODES_MAX: usize = 1 << 29;

/// A graph while edges are added.
#[derive(Debug)]
pub(crate) struct Builder {
    txns: u32,
    nodes: u32,
    edges: Vec<(u32, Edge)>,
}

impl Builder {
    pub(crate) fn new(txns: u32) -> Self {
        Self {
            txns,
            nodes: txns,
            edges: Vec::new(),
        }
    }

    /// An auxiliary node.
    pub(crate) fn auxiliary(&mut self) -> u32 {
        self.nodes += 1;
        self.nodes - 1
    }

    /// A dependency. One of a transaction on itself is none.
    pub(crate) fn add(&mut self, from: u32, to: u32, kind: Kind) {
        if from != to {
            self.edges.push((from, Edge::new(to, kind)));
        }
    }

    /// Whether there are more nodes than a graph can hold.
    pub(crate) fn too_large(&self) -> bool {
        self.nodes as usize >= NODES_MAX || self.edges.len() >= u32::MAX as usize
    }

    /// The graph, by a counting sort of the edges.
    pub(crate) fn build(self) -> Graph {
        let mut offsets = vec![0u32; self.nodes as usize + 2];
        for (from, _) in &self.edges {
            offsets[*from as usize + 2] += 1;
        }
        for i in 2..offsets.len() {
            offsets[i] += offsets[i - 1];
        }
        let mut edges = vec![Edge::default(); self.edges.len()];
        for (from, edge) in self.edges {
            let at = &mut offsets[from as usize + 1];
            edges[*at as usize] = edge;
            *at += 1;
        }
        offsets.pop();
        Graph {
            txns: self.txns,
            offsets,
            edges,
        }
    }
}

/// A graph, by node the edges that lead from it.
#[derive(Debug)]
pub(crate) struct Graph {
    txns: u32,
    offsets: Vec<u32>,
    edges: Vec<Edge>,
}

impl Graph {
    /// How many nodes are transactions.
    pub(crate) fn txns(&self) -> u32 {
        self.txns
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> u32 {
        self.offsets.len() as u32 - 1
    }

    /// How many edges there are.
    pub(crate) fn size(&self) -> usize {
        self.edges.len()
    }

    /// The edges from a node.
    pub(crate) fn from(&self, node: u32) -> &[Edge] {
        let (start, end) = (self.offsets[node as usize], self.offsets[node as usize + 1]);
        &self.edges[start as usize..end as usize]
    }

    /// The components of the graph with edges of these kinds only.
    pub(crate) fn components(&self, kinds: Kinds) -> Components {
        let states = self.nodes();
        Components::find(
            self,
            states,
            |node| node,
            |_, edge| kinds.has(edge.kind()).then(|| edge.to()),
        )
    }

    /// The components of the graph whose walks never take two [`Kind::Rw`] in a row. A state is
    /// twice a node, and one more if it was reached by one.
    pub(crate) fn nonadjacent_components(&self, kinds: Kinds) -> Components {
        let states = 2 * self.nodes();
        Components::find(
            self,
            states,
            |state| state / 2,
            |state, edge| {
                nonadjacent_step(state & 1 != 0, edge.kind())
                    .filter(|_| kinds.has(edge.kind()))
                    .map(|after_rw| 2 * edge.to() + u32::from(after_rw))
            },
        )
    }
}

/// Whether the last dependency was [`Kind::Rw`] after one more edge; `None` if that were two in a
/// row.
pub(crate) fn nonadjacent_step(after_rw: bool, kind: Kind) -> Option<bool> {
    match kind {
        Kind::On => Some(after_rw),
        Kind::Rw => (!after_rw).then_some(true),
        _ => Some(false),
    }
}

/// Strongly connected components.
#[derive(Debug)]
pub(crate) struct Components {
    /// By state its component. Components are numbered in reverse topological order: an edge
    /// between two leads from the greater number to the smaller.
    of: Vec<u32>,
    /// By component, how many distinct transactions are in it; 2 stands for more, too.
    txns: Vec<u8>,
}

const UNSEEN: u32 = u32::MAX;

impl Components {
    fn find(
        graph: &Graph,
        states: u32,
        node: impl Fn(u32) -> u32,
        step: impl Fn(u32, Edge) -> Option<u32>,
    ) -> Self {
        // `low` holds the discovery number while a state is on the stack of Tarjan, and the
        // component afterwards, in `of`.
        let mut of = vec![UNSEEN; states as usize];
        let mut low = vec![UNSEEN; states as usize];
        let mut txns: Vec<u8> = Vec::new();
        let mut open: Vec<u32> = Vec::new();
        // State, its discovery number, and the next of its edges.
        let mut path: Vec<(u32, u32, u32)> = Vec::new();
        let mut discovered = 0;
        for root in 0..states {
            if low[root as usize] != UNSEEN {
                continue;
            }
            low[root as usize] = discovered;
            open.push(root);
            path.push((root, discovered, 0));
            discovered += 1;
            while let Some((state, number, cursor)) = path.last_mut() {
                let (state, number) = (*state, *number);
                let edges = graph.from(node(state));
                let mut deeper = None;
                while let Some(&edge) = edges.get(*cursor as usize) {
                    *cursor += 1;
                    let Some(next) = step(state, edge) else {
                        continue;
                    };
                    if low[next as usize] == UNSEEN {
                        deeper = Some(next);
                        break;
                    }
                    if of[next as usize] == UNSEEN {
                        low[state as usize] = low[state as usize].min(low[next as usize]);
                    }
                }
                if let Some(next) = deeper {
                    low[next as usize] = discovered;
                    open.push(next);
                    path.push((next, discovered, 0));
                    discovered += 1;
                    continue;
                }
                path.pop();
                let lowest = low[state as usize];
                if lowest == number {
                    let component = txns.len() as u32;
                    let mut first = UNSEEN;
                    let mut count = 0;
                    while let Some(member) = open.pop() {
                        of[member as usize] = component;
                        let at = node(member);
                        if at < graph.txns() && at != first {
                            count = (count + 1).min(2);
                            first = at;
                        }
                        if member == state {
                            break;
                        }
                    }
                    txns.push(count);
                }
                if let Some((parent, _, _)) = path.last() {
                    let parent = *parent as usize;
                    low[parent] = low[parent].min(lowest);
                }
            }
        }
        Self { of, txns }
    }

    /// The component of a state.
    pub(crate) fn of(&self, state: u32) -> u32 {
        self.of[state as usize]
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.txns.len()
    }

    /// Whether a component has two transactions, which then depend on each other.
    pub(crate) fn is_cyclic(&self, component: u32) -> bool {
        self.txns[component as usize] > 1
    }

    /// Whether any has.
    pub(crate) fn any_cyclic(&self) -> bool {
        self.txns.iter().any(|&n| n > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_and_rings_need_no_stack() {
        const N: u32 = 300_000;
        let build = |ring: bool| {
            let mut builder = Builder::new(N);
            for i in 1..N {
                builder.add(i - 1, i, Kind::Ww);
            }
            if ring {
                builder.add(N - 1, 0, Kind::Rw);
            }
            builder.build()
        };
        let (writes, all) = (Kinds::of(&[Kind::Ww]), Kinds::of(&[Kind::Ww, Kind::Rw]));
        let path = build(false).components(all);
        assert_eq!(path.count(), N as usize);
        assert!(!path.any_cyclic() && path.of(0) > path.of(N - 1));
        let ring = build(true);
        assert!(!ring.components(writes).any_cyclic());
        assert_eq!(ring.components(all).count(), 1);
        assert!(ring.components(all).is_cyclic(0));
        assert!(ring.nonadjacent_components(all).any_cyclic());
    }

    #[test]
    fn a_way_through_an_auxiliary_node_back_is_no_cycle() {
        let mut builder = Builder::new(2);
        let hub = builder.auxiliary();
        for txn in 0..2 {
            builder.add(hub, txn, Kind::On);
        }
        builder.add(0, hub, Kind::Rw);
        let all = Kinds::of(&[Kind::Rw]);
        assert!(!builder.build().components(all).any_cyclic());
    }

    #[test]
    fn no_two_anti_dependencies_in_a_row() {
        let ring = |kinds: &[Kind]| {
            let n = kinds.len() as u32;
            let mut builder = Builder::new(n);
            for (i, &kind) in (0..n).zip(kinds) {
                builder.add(i, (i + 1) % n, kind);
            }
            let all = Kinds::of(&[Kind::Ww, Kind::Wr, Kind::Rw]);
            builder.build().nonadjacent_components(all).any_cyclic()
        };
        assert!(ring(&[Kind::Rw, Kind::Wr]));
        assert!(ring(&[Kind::Rw, Kind::Ww, Kind::Rw, Kind::Wr]));
        assert!(!ring(&[Kind::Rw, Kind::Rw]));
        assert!(!ring(&[Kind::Rw, Kind::Ww, Kind::Rw]));
    }
}
