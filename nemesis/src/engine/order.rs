//! What a substrate is told to do, checked against what the run declared.

use std::collections::BTreeSet;

use super::resolve::{commanded, down, links_of};
use crate::Budget;
use crate::action::{Action, Endpoint, Node};

/// An action that the run may carry out.
///
/// Only the check of this module makes one, from the [`Budget`] and all that is hurt already: a
/// substrate that acts on orders alone can hurt neither more nodes at once than declared nor others.
/// It cannot be copied, so that none outlives its check.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    action: Action,
    via: Option<String>,
    hurt: BTreeSet<Node>,
}

impl Order {
    /// The action.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// By which mechanism, where the schedule demands one.
    pub fn via(&self) -> Option<&str> {
        self.via.as_deref()
    }

    /// The nodes that it hurts.
    pub fn hurt(&self) -> &BTreeSet<Node> {
        &self.hurt
    }

    /// An order for this action on this target, if the budget permits it beside those that are
    /// hurt already.
    pub(super) fn check(
        action: &Action,
        target: &[Node],
        via: Option<&str>,
        budget: &Budget,
        standing: &BTreeSet<Node>,
    ) -> Result<Self, String> {
        let hurt = hurt(action, target);
        budget.permits(&hurt, standing)?;
        Ok(Self {
            action: action.clone(),
            via: via.map(str::to_owned),
            hurt,
        })
    }
}

/// The nodes that an action hurts. It is the action that decides: the target says no more than on
/// which side of a cut the harm is, and only if every link has one of them at an end.
pub(super) fn hurt(action: &Action, target: &[Node]) -> BTreeSet<Node> {
    let mut hurt: BTreeSet<Node> = down(action).iter().copied().collect();
    hurt.extend(commanded(action));
    let links = links_of(action);
    let ends = |end| match end {
        Endpoint::Node(node) => Some(node),
        Endpoint::Clients => None,
    };
    let on_target = |end: Endpoint| ends(end).is_some_and(|node| target.contains(&node));
    if links
        .iter()
        .all(|link| on_target(link.from) || on_target(link.to))
    {
        let touched = links.iter().flat_map(|link| [link.from, link.to]);
        hurt.extend(touched.filter(|&end| on_target(end)).filter_map(ends));
    } else {
        let touched = links.iter().flat_map(|link| [link.from, link.to]);
        hurt.extend(touched.filter_map(ends));
    }
    hurt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::cut_links;
    use crate::{Command, Direction, Shape};

    #[test]
    fn who_is_hurt_follows_from_the_action() {
        let order = [1, 2, 3, 4, 5];
        let cut = |shape, target: &[Node]| {
            let action = Action::Cut(cut_links(shape, &order, target));
            hurt(&action, target).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(cut(Shape::Isolate, &[2]), [2]);
        assert_eq!(cut(Shape::OneWay(Direction::In), &[2, 4]), [2, 4]);
        assert_eq!(cut(Shape::Clients, &[3]), [3]);
        assert_eq!(cut(Shape::Halves, &[1, 2]), [1, 2]);
        assert_eq!(cut(Shape::Bridge, &[3]), [1, 2, 4, 5]);
        assert_eq!(cut(Shape::MajoritiesRing, &[]), [1, 2, 3, 4, 5]);
        // A target that does not explain the links is not believed.
        let elsewhere = Action::Cut(cut_links(Shape::Isolate, &order, &[2]));
        assert_eq!(hurt(&elsewhere, &[4]).len(), 5);
        let replace = Action::Admin(1, Command::ReplaceMember(3, 4));
        assert_eq!(hurt(&replace, &[3]).into_iter().collect::<Vec<_>>(), [3, 4]);
        assert_eq!(hurt(&Action::Kill(vec![2, 5]), &[]).len(), 2);
    }
}
