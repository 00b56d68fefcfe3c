//! The orders that do not come from the data: of each process, and of real time.

use rustc_hash::FxHashMap;

use super::encode::Txn;
use super::graph::{Builder, Kind};

/// Adds the order of each process: what it completed before what it invoked next. An auxiliary node
/// after each leads on to all that follow. The transactions come with their nodes, by invocation.
pub(crate) fn link_processes<'t>(
    builder: &mut Builder,
    txns: impl Iterator<Item = (u32, &'t Txn)>,
) {
    let mut last: FxHashMap<u32, u32> = FxHashMap::default();
    for (node, txn) in txns {
        let before = last.get(&txn.process).copied();
        if let Some(before) = before {
            builder.add(before, node, Kind::On);
        }
        if txn.completed.is_some() {
            let after = builder.auxiliary();
            if let Some(before) = before {
                builder.add(before, after, Kind::On);
            }
            builder.add(node, after, Kind::Process);
            last.insert(txn.process, after);
        }
    }
}

/// Adds the order of real time: what completed before what was invoked.
///
/// There are as many as pairs of transactions. Instead, an auxiliary node is added between
/// completions and the invocations that follow them; it leads on to these invocations and to the
/// next such node. So there are at most as many nodes as transactions, and three times as many
/// edges. The transactions come with their nodes, by invocation.
pub(crate) fn link_realtime<'t>(
    builder: &mut Builder,
    txns: impl Iterator<Item = (u32, &'t Txn)> + Clone,
) {
    let mut completions: Vec<(u32, u32)> = txns
        .clone()
        .filter_map(|(node, txn)| Some((txn.completed?, node)))
        .collect();
    completions.sort_unstable();
    let mut completions = completions.into_iter().peekable();
    let mut barrier: Option<u32> = None;
    for (node, txn) in txns {
        let mut next = None;
        while let Some((_, before)) = completions.next_if(|&(end, _)| end < txn.invoked) {
            let to = *next.get_or_insert_with(|| builder.auxiliary());
            builder.add(before, to, Kind::Realtime);
        }
        if let (Some(to), Some(earlier)) = (next, barrier) {
            builder.add(earlier, to, Kind::On);
        }
        barrier = next.or(barrier);
        if let Some(barrier) = barrier {
            builder.add(barrier, node, Kind::On);
        }
    }
}
