//! Cordons the hosts of nodes and evicts the pods of the store there, as `kubectl drain` does; the
//! pods of others on these hosts are left alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s::hosts;
use nemesis::{Node, Proof};

use super::super::substrate::Inner;
use super::pods::{self, How};
use super::{found, patiently};

/// All nodes of the store on the same hosts are meant, or it is refused: the budget was asked about
/// those alone.
pub(super) async fn inject(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Proof {
    match cordon(inner, nodes).await {
        Ok(hosts) => match pods::end(inner, id, nodes, How::Evict, "its host takes no other").await
        {
            Proof::Seen(how) => Proof::Seen(format!("{} cordoned; {how}", hosts.join(", "))),
            not @ Proof::NotSeen(_) => not,
        },
        Err(why) => Proof::NotSeen(why),
    }
}

async fn cordon(inner: &Inner, nodes: &[Node]) -> Result<Vec<String>, String> {
    let members = found(inner).await.map_err(|error| error.to_string())?;
    let of = |node: &Node| {
        let member = members.iter().find(|member| member.node == *node);
        let host = member.and_then(|member| member.on.clone());
        host.ok_or_else(|| format!("n{node} runs on no Kubernetes node"))
    };
    let hosts: BTreeSet<String> = nodes.iter().map(of).collect::<Result<_, _>>()?;
    let more = members.iter().find(|member| {
        member.on.as_ref().is_some_and(|on| hosts.contains(on)) && !nodes.contains(&member.node)
    });
    if let Some(more) = more {
        return Err(format!(
            "n{} is on {} by now, too, and was not to be hurt",
            more.node,
            more.on.as_deref().unwrap_or_default()
        ));
    }
    // All are looked at before the first is changed.
    let known = hosts::all(&inner.cluster)
        .await
        .map_err(|e| e.to_string())?;
    for host in &known {
        let name = host.metadata.name.clone().unwrap_or_default();
        if hosts.contains(&name) && hosts::is_control_plane(host) {
            return Err(k8s::Error::ControlPlane(name).to_string());
        }
    }
    let owner = hosts::owner(&inner.namespace, &inner.run);
    for host in &hosts {
        hosts::cordon(&inner.cluster, host, &owner)
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(hosts.into_iter().collect())
}

/// Gives the hosts back, and waits until the nodes are ready in other pods, wherever.
pub(super) async fn heal(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Proof {
    let owner = hosts::owner(&inner.namespace, &inner.run);
    let freed = patiently(|| async {
        let mut freed = Vec::new();
        for (host, by) in hosts::cordoned(&inner.cluster).await? {
            if by == owner && hosts::uncordon(&inner.cluster, &host, &owner).await? {
                freed.push(host);
            }
        }
        Ok(freed)
    });
    let freed = match freed.await {
        Ok(freed) if freed.is_empty() => "no host was cordoned".to_owned(),
        Ok(freed) => format!("{} takes pods again", freed.join(", ")),
        Err(why) => return Proof::NotSeen(why),
    };
    match pods::back(inner, id, nodes).await {
        Proof::Seen(how) => Proof::Seen(format!("{freed}; {how}")),
        not @ Proof::NotSeen(_) => not,
    }
}
