//! The cluster: where it is, what it knows, what this account may do there.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use kube::{Client, Config};

use crate::Error;
use crate::error::{causes, is_missing};
use crate::names::{ALLOWED, FAULTS};
use crate::rights::Right;

/// How long the API server may take to take a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What differs between versions of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Minor version: 20 is Kubernetes 1.20.
    pub minor: u32,
    /// The API version of PodDisruptionBudgets.
    pub disruption_budget: &'static str,
    /// The API version of evictions.
    pub eviction: &'static str,
}

impl Features {
    /// Of a server that gives its minor version as this (providers add a `+`).
    pub fn of_minor(minor: &str) -> Self {
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        let minor = digits.parse().unwrap_or(u32::MAX);
        Self {
            minor,
            // policy/v1 came with 1.21; v1beta1 went with 1.25.
            disruption_budget: if minor < 21 {
                "policy/v1beta1"
            } else {
                "policy/v1"
            },
            // policy/v1 came with 1.22; v1beta1 went with 1.25.
            eviction: if minor < 22 {
                "policy/v1beta1"
            } else {
                "policy/v1"
            },
        }
    }
}

/// A cluster that answers. Cloning is cheap.
#[derive(Clone)]
pub struct Cluster {
    /// Speaks to the API server.
    pub client: Client,
    /// Where it is.
    pub url: String,
    /// Its version as it gives it, e.g. `v1.20.2`.
    pub version: String,
    /// What it knows.
    pub features: Features,
    /// Whether this process runs in a pod of it.
    pub inside: bool,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({} at {})", self.version, self.url)
    }
}

impl Cluster {
    /// The cluster that `KUBECONFIG` or `~/.kube/config` names, else the one this process runs in.
    ///
    /// # Errors
    /// If there is none, or it does not answer.
    pub async fn connect() -> Result<Self, Error> {
        let mut config = Config::infer()
            .await
            .map_err(|error| Error::NoCluster(causes(&error)))?;
        let own = Config::incluster().ok();
        let inside = own.is_some_and(|own| own.cluster_url == config.cluster_url);
        config.connect_timeout = Some(CONNECT_WITHIN);
        let cluster = Self::with(config).await?;
        Ok(Self { inside, ..cluster })
    }

    /// The cluster of this configuration.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn with(mut config: Config) -> Result<Self, Error> {
        // More than one provider of cryptography may be linked; the first to be installed stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = config.cluster_url.to_string();
        let unreachable = |error: &kube::Error| Error::Unreachable {
            url: url.trim_end_matches('/').to_owned(),
            why: causes(error),
        };
        // The client itself would ask up to fifteen times, and wait for as long as the server says:
        // minutes for an eviction that a disruption budget forbids. Who can wait here knows how long.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| unreachable(&error))?;
        let version = client
            .apiserver_version()
            .await
            .map_err(|error| unreachable(&error))?;
        Ok(Self {
            client,
            features: Features::of_minor(&version.minor),
            version: version.git_version,
            url,
            inside: false,
        })
    }

    /// Refuses unless faults are allowed in this namespace.
    ///
    /// # Errors
    /// If it is missing, has not opted in, or belongs to the cluster itself.
    pub async fn allowed(&self, namespace: &str) -> Result<Namespace, Error> {
        if is_system(namespace) {
            return Err(Error::System(namespace.to_owned()));
        }
        let found = Api::<Namespace>::all(self.client.clone())
            .get(namespace)
            .await
            .map_err(|error| match &error {
                error if is_missing(error) => Error::NoNamespace(namespace.to_owned()),
                kube::Error::Api(status) if status.code == 403 => Error::Forbidden {
                    missing: "get namespaces".to_owned(),
                    namespace: namespace.to_owned(),
                },
                error => Error::of(format!("looking at namespace {namespace}"), error),
            })?;
        if opted_in(&found) {
            Ok(found)
        } else {
            Err(Error::NotAllowed(namespace.to_owned()))
        }
    }

    /// Refuses unless this account has all these rights in the namespace.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with all that are missing.
    pub async fn may(&self, namespace: &str, rights: &[Right]) -> Result<(), Error> {
        let reviews = Api::<SelfSubjectAccessReview>::all(self.client.clone());
        let mut missing = Vec::new();
        for &(verb, group, resource, subresource) in rights {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(ResourceAttributes {
                        // Nodes are in no namespace: a role within one gives no right to them.
                        namespace: some(namespace).filter(|_| resource != "nodes"),
                        verb: some(verb),
                        group: some(group),
                        resource: some(resource),
                        subresource: some(subresource),
                        ..ResourceAttributes::default()
                    }),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let answer = reviews
                .create(&PostParams::default(), &review)
                .await
                .map_err(|error| Error::of("asking what this account may do", &error))?;
            if !answer.status.is_some_and(|status| status.allowed) {
                let within = if subresource.is_empty() { "" } else { "/" };
                missing.push(format!("{verb} {resource}{within}{subresource}"));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::Forbidden {
            missing: missing.join(", "),
            namespace: namespace.to_owned(),
        })
    }
}

/// Whether a namespace is the cluster's own, or everybody's.
pub fn is_system(namespace: &str) -> bool {
    namespace == "default" || namespace.starts_with("kube-")
}

/// Whether a namespace carries the label that allows faults.
pub fn opted_in(namespace: &Namespace) -> bool {
    let labels = namespace.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(FAULTS))
        .is_some_and(|value| value == ALLOWED)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn old_servers_get_the_old_budget() {
        let budget = |minor| Features::of_minor(minor).disruption_budget;
        assert_eq!(budget("20"), "policy/v1beta1");
        assert_eq!(budget("20+"), "policy/v1beta1");
        assert_eq!(budget("21"), "policy/v1");
        assert_eq!(budget("37+"), "policy/v1");
        // A version that nobody has heard of is new rather than old.
        assert_eq!(budget("x"), "policy/v1");
        assert_eq!(Features::of_minor("21").eviction, "policy/v1beta1");
        assert_eq!(Features::of_minor("22").eviction, "policy/v1");
    }

    #[test]
    fn only_the_exact_label_allows_faults() {
        let with = |labels: &[(&str, &str)]| {
            let mut namespace = Namespace::default();
            let labels = labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            namespace.metadata.labels = Some(labels.collect::<BTreeMap<_, _>>());
            opted_in(&namespace)
        };
        assert!(with(&[(FAULTS, "allowed")]));
        for not in [
            &[][..],
            &[(FAULTS, "no")],
            &[(FAULTS, "")],
            &[("faults", "allowed")],
        ] {
            assert!(!with(not), "{not:?}");
        }
        assert!(!opted_in(&Namespace::default()));
    }

    #[test]
    fn the_clusters_own_namespaces_are_never_touched() {
        for own in ["kube-system", "kube-public", "kube-node-lease", "default"] {
            assert!(is_system(own), "{own}");
        }
        assert!(!is_system("quorate"));
    }
}
