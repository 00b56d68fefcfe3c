//! Labels, annotations and ports: what everything else is found by.

/// The program as a field manager of server-side apply, and as `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "quorate";
/// What the objects of a store are: `app.kubernetes.io/name`.
pub const APP: &str = "quorate-store";
/// The label with [`APP`].
pub const APP_LABEL: &str = "app.kubernetes.io/name";
/// The label with the store's name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The label with [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The label of a namespace whose pods may be hurt; its value must be [`ALLOWED`].
pub const FAULTS: &str = "quorate.dev/faults";
/// See [`FAULTS`].
pub const ALLOWED: &str = "allowed";
/// The label with a node's role, `leader` or `follower`.
pub const ROLE: &str = "quorate.dev/role";
/// The label of what one run has made for itself, with the run's id.
pub const RUN: &str = "quorate.dev/run";
/// The label of the namespace of a copy, with the namespace of the original.
pub const COPY_OF: &str = "quorate.dev/copy-of";
/// The annotation of a Kubernetes node that a run has cordoned, with the run's namespace and id.
pub const CORDONED: &str = "quorate.dev/cordoned-by";
/// The annotation of a StatefulSet that a run has made smaller, with the run's id and the number of
/// pods that it had.
pub const SCALED: &str = "quorate.dev/scaled";
/// What a run adds to the selector of a Service so that no pod matches it; its value is the run's id.
pub const NO_ENDPOINTS: &str = "quorate.dev/no-endpoints";
/// The annotation with the replication mode.
pub const MODE: &str = "quorate.dev/mode";
/// The annotation of a namespace with the image that was last brought up in it.
pub const IMAGE: &str = "quorate.dev/image";
/// The annotation of pods with a hash of their configuration, so that a new one restarts them.
pub const CONFIG_HASH: &str = "quorate.dev/config-hash";
/// Where nodes listen, for clients and peers.
pub const PORT: u16 = 7100;
/// The namespace taken when none is named.
pub const NAMESPACE: &str = "quorate";
/// The store's name when none is given.
pub const NAME: &str = "quorate";
/// What the agents' objects are called, and their [`APP_LABEL`].
pub const AGENT: &str = "quorate-agent";
/// The namespace of the agents.
pub const AGENT_NAMESPACE: &str = "quorate-agent";
/// The container that is the node.
pub const CONTAINER: &str = "node";

/// Whether a run is this one, or one that it is made of: those of the comparison `run-1` are `run-1-0`
/// and so on.
pub fn is_of(part: &str, run: &str) -> bool {
    let rest = part.strip_prefix(run);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The selector of everything that belongs to the store of this name.
pub fn selector(name: &str) -> String {
    format!("{APP_LABEL}={APP},{INSTANCE}={name}")
}
