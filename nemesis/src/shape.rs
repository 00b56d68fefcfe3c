//! Which links a fault touches.
//!
//! The partition shapes are those of Jepsen (`jepsen.nemesis`, `jepsen.nemesis.combined`).

use crate::{Direction, Endpoint, Link, LinkSet, Node, Shape};

/// The directed links that a partition cuts, ascending.
///
/// `order` holds all nodes once; the shapes that divide all nodes read it as: the first half and
/// the second; the first half, the bridge, the second half; the ring. `target` counts for the
/// others.
pub fn cut_links(shape: Shape, order: &[Node], target: &[Node]) -> Vec<Link> {
    let place = |node: Node| order.iter().position(|&other| other == node).unwrap_or(0);
    let count = order.len();
    let is_target = |node: Node| target.contains(&node);
    match shape {
        Shape::Isolate => links_where(order, |a, b| is_target(a) != is_target(b)),
        Shape::Halves => {
            let first = |node| place(node) < first_side(count, target.len());
            links_where(order, |a, b| first(a) != first(b))
        }
        Shape::Bridge => {
            let bridge = count.saturating_sub(1) / 2;
            let side = |node| place(node).cmp(&bridge);
            links_where(order, |a, b| {
                side(a).is_ne() && side(b).is_ne() && side(a) != side(b)
            })
        }
        Shape::MajoritiesRing => {
            links_where(order, |a, b| !ring_neighbours(count, place(a), place(b)))
        }
        Shape::OneWay(Direction::Out) => {
            links_where(order, |from, to| is_target(from) && !is_target(to))
        }
        Shape::OneWay(Direction::In) => {
            links_where(order, |from, to| is_target(to) && !is_target(from))
        }
        Shape::Clients => client_links(target),
    }
}

/// The links that a slow-down of `target` touches, ascending. Those between nodes lead to and from
/// the first `nodes`, and among the target.
pub fn slow_links(set: LinkSet, nodes: Node, target: &[Node]) -> Vec<Link> {
    let others = target.iter().copied().filter(|&node| node > nodes);
    let all: Vec<Node> = (1..=nodes).chain(others).collect();
    let mut links = Vec::new();
    if matches!(set, LinkSet::Peers | LinkSet::All) {
        links = links_where(&all, |a, b| target.contains(&a) || target.contains(&b));
    }
    if matches!(set, LinkSet::Clients | LinkSet::All) {
        links.extend(client_links(target));
    }
    links.sort_unstable();
    links
}

/// Size of the first of two halves: the smaller one, unless more nodes than that are to be in it.
pub(crate) fn first_side(nodes: usize, targets: usize) -> usize {
    (nodes / 2).max(targets)
}

/// Whether two places in the ring see each other.
///
/// Every place sees as many others as make a majority with itself: its neighbours on both sides,
/// and the opposite place where that number is odd. Where a ring of an odd size would need an odd
/// number, each sees one more. Three nodes in a ring would all see each other, so there the ring
/// is open: the nodes see {1,2}, {1,2,3} and {2,3}.
fn ring_neighbours(count: usize, a: usize, b: usize) -> bool {
    let distance = a.abs_diff(b);
    if count == 3 {
        return distance <= 1;
    }
    let distance = distance.min(count - distance);
    let others = count / 2;
    let opposite = others % 2 == 1 && count.is_multiple_of(2);
    let reach = if opposite {
        others / 2
    } else {
        others.div_ceil(2)
    };
    distance <= reach || (opposite && distance == count / 2)
}

fn links_where(nodes: &[Node], cut: impl Fn(Node, Node) -> bool) -> Vec<Link> {
    let mut links = Vec::new();
    for &from in nodes {
        for &to in nodes {
            if from != to && cut(from, to) {
                links.push(Link {
                    from: Endpoint::Node(from),
                    to: Endpoint::Node(to),
                });
            }
        }
    }
    links.sort_unstable();
    links
}

fn client_links(target: &[Node]) -> Vec<Link> {
    let mut links: Vec<Link> = target
        .iter()
        .map(|&node| Link {
            from: Endpoint::Clients,
            to: Endpoint::Node(node),
        })
        .collect();
    links.sort_unstable();
    links
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Cut links among five nodes in their natural order, as pairs; clients are 0.
    fn cut(shape: Shape, target: &[Node]) -> Vec<(Node, Node)> {
        let number = |end| match end {
            Endpoint::Node(n) => n,
            Endpoint::Clients => 0,
        };
        cut_links(shape, &[1, 2, 3, 4, 5], target)
            .into_iter()
            .map(|link| (number(link.from), number(link.to)))
            .collect()
    }

    fn both_ways(pairs: &[(Node, Node)]) -> Vec<(Node, Node)> {
        let mut all: Vec<_> = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn every_shape_cuts_exactly_what_it_says() {
        type Row = (Shape, &'static [Node], Vec<(Node, Node)>);
        let table: [Row; 10] = [
            (
                Shape::Isolate,
                &[2],
                both_ways(&[(2, 1), (2, 3), (2, 4), (2, 5)]),
            ),
            (
                Shape::Isolate,
                &[2, 3],
                both_ways(&[(2, 1), (2, 4), (2, 5), (3, 1), (3, 4), (3, 5)]),
            ),
            (
                Shape::Halves,
                &[1],
                both_ways(&[(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)]),
            ),
            (
                Shape::Halves,
                &[1, 2, 3],
                both_ways(&[(1, 4), (1, 5), (2, 4), (2, 5), (3, 4), (3, 5)]),
            ),
            (
                Shape::Bridge,
                &[3],
                both_ways(&[(1, 4), (1, 5), (2, 4), (2, 5)]),
            ),
            (
                Shape::MajoritiesRing,
                &[],
                both_ways(&[(1, 3), (1, 4), (2, 4), (2, 5), (3, 5)]),
            ),
            (
                Shape::OneWay(Direction::Out),
                &[4],
                vec![(4, 1), (4, 2), (4, 3), (4, 5)],
            ),
            (
                Shape::OneWay(Direction::In),
                &[4],
                vec![(1, 4), (2, 4), (3, 4), (5, 4)],
            ),
            (
                Shape::OneWay(Direction::In),
                &[4, 5],
                vec![(1, 4), (1, 5), (2, 4), (2, 5), (3, 4), (3, 5)],
            ),
            (Shape::Clients, &[2, 5], vec![(0, 2), (0, 5)]),
        ];
        for (shape, target, expected) in table {
            assert_eq!(cut(shape, target), expected, "{shape:?} {target:?}");
        }
    }

    #[test]
    fn in_a_majorities_ring_each_sees_a_majority_and_no_two_the_same() {
        for nodes in 3..=25_u16 {
            // An order that is not the natural one.
            let order: Vec<Node> = (1..=nodes).rev().collect();
            let links: BTreeSet<Link> = cut_links(Shape::MajoritiesRing, &order, &[])
                .into_iter()
                .collect();
            assert!(!links.is_empty(), "{nodes} nodes: nothing is cut");
            let sees = |node: Node| -> BTreeSet<Node> {
                let reaches = |a: Node, b: Node| {
                    !links.contains(&Link {
                        from: Endpoint::Node(a),
                        to: Endpoint::Node(b),
                    })
                };
                let other = (1..=nodes).filter(|&o| reaches(node, o) && reaches(o, node));
                other.collect()
            };
            let views: BTreeSet<BTreeSet<Node>> = (1..=nodes).map(sees).collect();
            assert_eq!(
                views.len(),
                usize::from(nodes),
                "{nodes} nodes: two see the same"
            );
            for view in views {
                assert!(
                    view.len() > usize::from(nodes) / 2,
                    "{nodes} nodes: {view:?}"
                );
            }
        }
    }

    #[test]
    fn slow_links_are_those_of_the_target() {
        let show = |set| -> Vec<String> {
            slow_links(set, 3, &[2])
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(show(LinkSet::Peers), ["n1→n2", "n2→n1", "n2→n3", "n3→n2"]);
        assert_eq!(show(LinkSet::Clients), ["clients→n2"]);
        assert_eq!(
            show(LinkSet::All),
            ["n1→n2", "n2→n1", "n2→n3", "n3→n2", "clients→n2"]
        );
    }
}
