//! How much of a cluster a run may hurt.

use std::collections::BTreeSet;

use crate::Node;
use crate::selector::names;

/// How many nodes may be hurt at once, and which ones at all. The default is no limit.
///
/// A node is hurt by what takes it down, slows or damages it, and by what impairs its links. Of a
/// cut the nodes hurt are those named as its target, if every link cut has one of them at an end;
/// otherwise, as with a ring, all nodes that lose a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// So many at once, at most; any number if absent.
    pub hurt_at_most: Option<Node>,
    /// No others than these; all if absent.
    pub targets: Option<BTreeSet<Node>>,
}

impl Budget {
    /// Whether this node may be hurt at all.
    pub fn covers(&self, node: Node) -> bool {
        self.targets
            .as_ref()
            .is_none_or(|targets| targets.contains(&node))
    }

    /// Whether these nodes may be hurt while those of `standing` are.
    ///
    /// # Errors
    /// What is declared, and how it would be exceeded.
    pub fn permits(&self, hurt: &BTreeSet<Node>, standing: &BTreeSet<Node>) -> Result<(), String> {
        let strangers: Vec<Node> = hurt.iter().copied().filter(|&n| !self.covers(n)).collect();
        if !strangers.is_empty() {
            let declared: Vec<Node> = self.targets.iter().flatten().copied().collect();
            return Err(format!(
                "it would hurt {}, and the targets declared are {}",
                names(&strangers),
                names(&declared)
            ));
        }
        let Some(most) = self.hurt_at_most else {
            return Ok(());
        };
        let together: Vec<Node> = hurt.union(standing).copied().collect();
        if together.len() > usize::from(most) {
            return Err(format!(
                "{} would be hurt at once, and at most {most} may be",
                names(&together)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold() {
        let budget = Budget {
            hurt_at_most: Some(2),
            targets: Some([1, 2, 3].into()),
        };
        let set = |nodes: &[Node]| nodes.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(budget.permits(&set(&[1]), &set(&[2])), Ok(()));
        assert_eq!(budget.permits(&set(&[1, 2]), &set(&[2])), Ok(()));
        let error = budget.permits(&set(&[1]), &set(&[2, 3])).unwrap_err();
        assert_eq!(
            error,
            "n1, n2, n3 would be hurt at once, and at most 2 may be"
        );
        let error = budget.permits(&set(&[1, 4]), &set(&[])).unwrap_err();
        assert_eq!(
            error,
            "it would hurt n4, and the targets declared are n1, n2, n3"
        );
        assert_eq!(Budget::default().permits(&set(&[9]), &set(&[1, 2])), Ok(()));
    }
}
