//! What can go wrong, each in one sentence with the way out.

use std::time::Duration;

use crate::names::{ALLOWED, FAULTS};

/// Why something could not be done on a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No configuration was found.
    #[error(
        "there is no Kubernetes cluster to talk to ({0}); let KUBECONFIG name the configuration of one, e.g. what `kind get kubeconfig` prints"
    )]
    NoCluster(String),
    /// The API server does not answer.
    #[error(
        "the API server {url} does not answer ({why}); is the cluster running, and is it the one that KUBECONFIG should name?"
    )]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        why: String,
    },
    /// This account lacks rights.
    #[error(
        "this account may not {missing} in namespace {namespace}; nothing was done; docs/kubernetes.md has the role that it needs"
    )]
    Forbidden {
        /// Verbs and resources.
        missing: String,
        /// Where.
        namespace: String,
    },
    /// The namespace does not exist.
    #[error("there is no namespace {0}; `quorate k8s up --namespace {0}` makes it")]
    NoNamespace(String),
    /// The namespace has not opted in.
    #[error(
        "namespace {0} does not allow faults; if everything in it may be hurt, say `kubectl label namespace {0} {FAULTS}={ALLOWED}`"
    )]
    NotAllowed(String),
    /// A namespace that is never touched.
    #[error("namespace {0} belongs to the cluster itself; choose one of the store's own")]
    System(String),
    /// A Kubernetes node that carries the control plane.
    #[error("{0} hosts the control plane, which is not drained; nothing was done to it")]
    ControlPlane(String),
    /// A Kubernetes node that somebody else has cordoned.
    #[error("{0} is cordoned already, and not by this run; nothing was done to it")]
    Cordoned(String),
    /// A StatefulSet that somebody else has changed.
    #[error(
        "StatefulSet {set} was made smaller by {by} already; `quorate clean --on k8s --run {by}` undoes that"
    )]
    Scaled {
        /// Which.
        set: String,
        /// The other run.
        by: String,
    },
    /// A name that Kubernetes would refuse.
    #[error(
        "`{0}` is no name for a store: expected at most 40 of a-z, 0-9 and `-`, starting with a letter and not ending in `-`"
    )]
    Name(String),
    /// The store has no pods.
    #[error(
        "there is no store {name} in namespace {namespace}; `quorate k8s up --namespace {namespace}` starts one"
    )]
    NoStore {
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
    },
    /// There is another store of this name.
    #[error(
        "the store {name} in namespace {namespace} is there already, in {found}, which cannot change while it runs; `quorate k8s down --namespace {namespace} --name {name}` removes it"
    )]
    Other {
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
        /// What it is.
        found: String,
    },
    /// An image cannot be had.
    #[error(
        "{pod} cannot have the image {image} ({why}); load it into every node (`kind load docker-image`), or name one that can be pulled with --image"
    )]
    Image {
        /// Which pod.
        pod: String,
        /// Which image.
        image: String,
        /// The kubelet's reason.
        why: String,
    },
    /// The namespace has no room for the pods.
    #[error(
        "the pods of {name} are more than namespace {namespace} may have ({why}); raise its quota, or say fewer --nodes"
    )]
    Quota {
        /// The store.
        name: String,
        /// Where.
        namespace: String,
        /// What the controller says.
        why: String,
    },
    /// A volume did not come.
    #[error("the volume claim {claim} is still pending after {} s ({why}); name a storage class that provides volumes with --storage-class, or do without with --storage empty-dir", .after.as_secs())]
    Volume {
        /// Which claim.
        claim: String,
        /// How long it was waited for.
        after: Duration,
        /// What the cluster says.
        why: String,
    },
    /// A node ends again and again.
    #[error("{pod} ends as soon as it is started ({why}); the end of its log:\n{log}")]
    Crashing {
        /// Which pod.
        pod: String,
        /// How.
        why: String,
        /// Its last lines.
        log: String,
    },
    /// Not all are ready.
    #[error("{ready} of {wanted} pods of {name} are ready after {} s: {why}", .after.as_secs())]
    NotReady {
        /// The store.
        name: String,
        /// How many are.
        ready: usize,
        /// How many should be.
        wanted: usize,
        /// How long it was waited for.
        after: Duration,
        /// What holds the others up.
        why: String,
    },
    /// The store that is to be tested is another one.
    #[error(
        "{selector} in namespace {namespace} selects {found}; expected {wanted} ready pods of one StatefulSet (--nodes says how many)"
    )]
    NotStanding {
        /// What selects its pods.
        selector: String,
        /// Where.
        namespace: String,
        /// What it selects.
        found: String,
        /// How many it should be.
        wanted: usize,
    },
    /// A selector that does not mean one StatefulSet.
    #[error(
        "{selector} in namespace {namespace} selects pods of {found} StatefulSets; expected those of one"
    )]
    NotOneSet {
        /// What selects pods.
        selector: String,
        /// Where.
        namespace: String,
        /// How many StatefulSets these belong to.
        found: usize,
    },
    /// A StatefulSet that cannot run a second time.
    #[error("StatefulSet {set} cannot be copied: {why}; nothing was done")]
    NotCopied {
        /// Which.
        set: String,
        /// Why not.
        why: String,
    },
    /// Nodes that have the clock of their machine.
    #[error(
        "the clocks of StatefulSet {set} are those of its Kubernetes nodes; {way_out}; nothing was done"
    )]
    NoClock {
        /// Which.
        set: String,
        /// What to add to it.
        way_out: String,
    },
    /// No agent can do it.
    #[error("{0}")]
    NoAgent(String),
    /// Something does not go away.
    #[error("{what} is still there after {} s; `kubectl describe` says what holds it", .after.as_secs())]
    StillThere {
        /// What.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server refused something.
    #[error("{doing}: the API server says: {message}")]
    Refused {
        /// What was tried.
        doing: String,
        /// Its words.
        message: String,
    },
    /// A local port, a file.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// From the client's error while doing something.
    pub(crate) fn of(doing: impl Into<String>, error: &kube::Error) -> Self {
        let doing = doing.into();
        match error {
            kube::Error::Api(status) => Self::Refused {
                doing,
                message: status.message.clone(),
            },
            other => Self::Refused {
                doing,
                message: causes(other),
            },
        }
    }
}

/// Whether the server says that there is no such object.
pub(crate) fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// The innermost cause, which is the one that says something.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
