//! What an operator asks of nodes, as the reference cluster understands it.

use nemesis::action::Request;
use reference_cluster::core::{Admin, NodeId};

/// The same request in the cluster's words.
pub fn admin(request: Request) -> Admin {
    match request {
        Request::TakeHome(of) => Admin::TakeHome(NodeId(of)),
        Request::Add(node) => Admin::AddMember(NodeId(node)),
        Request::Remove(node) => Admin::RemoveMember(NodeId(node)),
        Request::Transfer(to) => Admin::TransferLeadership(NodeId(to)),
        Request::Snapshot(_) => Admin::Snapshot,
    }
}
