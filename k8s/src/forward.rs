//! The way of clients to a pod.
//!
//! From outside the cluster it is a port on loopback, through the API server, as `kubectl
//! port-forward` makes one. From a pod of the cluster it is the pod's own address, which is asked
//! for again and again, as a successor of the pod has another.
//!
//! Through the API server each connection is a stream of its own through API server and kubelet to the container's
//! loopback, so it reaches a pod that the network between pods does not, and takes no part in what
//! faults do to that network. It is opened by the pod's name: after the pod has been replaced, new
//! connections reach its successor.
//!
//! A connection is taken before it is known whether the pod will take it, too. One that leads
//! nowhere is closed; whoever has sent a request over it cannot know that it arrived nowhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Portforwarder};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::Error;
use crate::cluster::Cluster;

/// Between two looks at a pod's address.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A way to a pod, until it is dropped.
#[derive(Debug)]
pub struct Forward {
    address: Arc<Mutex<SocketAddr>>,
    /// What keeps the way open.
    task: JoinHandle<()>,
}

impl Forward {
    /// A way to this port of the pod: its own address if this process runs in the cluster, too, else
    /// a free port of loopback.
    ///
    /// # Errors
    /// If no port can be had, or the pod has no address.
    pub async fn start(
        cluster: &Cluster,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<Self, Error> {
        if cluster.inside {
            Self::direct(cluster, namespace, pod, port).await
        } else {
            Self::through_server(cluster, namespace, pod, port).await
        }
    }

    async fn direct(
        cluster: &Cluster,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<Self, Error> {
        let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
        let found = pods
            .get(pod)
            .await
            .map_err(|error| Error::of(format!("looking at {pod}"), &error))?;
        let ip = address_of(&found).ok_or_else(|| Error::Refused {
            doing: format!("looking for the address of {pod}"),
            message: "it has none".to_owned(),
        })?;
        let address = Arc::new(Mutex::new(SocketAddr::new(ip, port)));
        let (known, pod) = (Arc::clone(&address), pod.to_owned());
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                // While there is no pod, or the API server is away, the address stays what it was:
                // nobody else is asked meanwhile.
                if let Ok(Some(found)) = pods.get_opt(&pod).await
                    && let Some(ip) = address_of(&found)
                {
                    *known.lock().unwrap_or_else(PoisonError::into_inner) =
                        SocketAddr::new(ip, port);
                }
            }
        });
        Ok(Self { address, task })
    }

    async fn through_server(
        cluster: &Cluster,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<Self, Error> {
        let listening = |source| Error::Io {
            doing: "listening on loopback".to_owned(),
            source,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
        let pod = pod.to_owned();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((client, _)) => {
                            connections.spawn(forward(client, pods.clone(), pod.clone(), port));
                        }
                        Err(error) => tracing::debug!(%error, pod, "a connection was not taken"),
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        let address = Arc::new(Mutex::new(address));
        Ok(Self { address, task })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // The connections are tasks of this one's set, and end with it.
        self.task.abort();
    }
}

fn address_of(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

async fn forward(mut client: TcpStream, pods: Api<Pod>, pod: String, port: u16) {
    // Requests are small and somebody waits for the answer.
    let _ = client.set_nodelay(true);
    let mut forwarder = match pods.portforward(&pod, &[port]).await {
        Ok(forwarder) => forwarder,
        Err(error) => {
            tracing::debug!(%error, pod, "no way to the pod");
            return;
        }
    };
    let Some(mut stream) = forwarder.take_stream(port) else {
        return;
    };
    let refused = refusal(&mut forwarder, port);
    tokio::select! {
        ended = copy_bidirectional(&mut client, &mut stream) => {
            if let Err(error) = ended {
                tracing::trace!(%error, pod, "a connection broke");
            }
        }
        why = refused => tracing::debug!(why, pod, "the pod does not take a connection"),
    }
    forwarder.abort();
}

/// Ends when the kubelet says that the pod does not take the connection.
async fn refusal(forwarder: &mut Portforwarder, port: u16) -> String {
    if let Some(error) = forwarder.take_error(port)
        && let Some(why) = error.await
    {
        return why;
    }
    std::future::pending().await
}

/// What a store is asked to find out whether its process is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing: that it takes a connection, and keeps it, has to do.
    Connect,
    /// These bytes, after which it says something.
    Ask(Vec<u8>),
}

impl Greeting {
    /// A request for this path; any answer does.
    pub fn http(path: &str) -> Self {
        Self::Ask(format!("GET {path} HTTP/1.1\r\nhost: node\r\n\r\n").into_bytes())
    }

    /// A line; any answer does.
    pub fn line(line: &str) -> Self {
        Self::Ask(format!("{line}\r\n").into_bytes())
    }
}

/// How long a pod may take to refuse a connection.
const REFUSED_WITHIN: Duration = Duration::from_millis(500);

/// A connection to the process that is in the pod now. It ends when that process does.
pub struct Witness {
    forwarder: Portforwarder,
    stream: tokio::io::DuplexStream,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness").finish_non_exhaustive()
    }
}

impl Witness {
    /// Connects, and has the process answer once.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn of(
        cluster: &Cluster,
        namespace: &str,
        pod: &str,
        port: u16,
        greeting: &Greeting,
    ) -> Result<Self, String> {
        let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
        let mut forwarder = pods
            .portforward(pod, &[port])
            .await
            .map_err(|error| crate::error::causes(&error))?;
        let mut stream = forwarder.take_stream(port).ok_or("no stream was opened")?;
        match greeting {
            Greeting::Connect => {
                let mut first = [0; 1];
                tokio::select! {
                    why = refusal(&mut forwarder, port) => return Err(why),
                    // A store may speak first; one that closes the connection is not there.
                    read = stream.read(&mut first) => match read {
                        Ok(1..) => {}
                        Ok(0) => return Err("it closed the connection".to_owned()),
                        Err(error) => return Err(error.to_string()),
                    },
                    () = tokio::time::sleep(REFUSED_WITHIN) => {}
                }
            }
            Greeting::Ask(request) => {
                let asked = async {
                    stream.write_all(request).await?;
                    stream.read_exact(&mut [0; 1]).await
                };
                tokio::select! {
                    why = refusal(&mut forwarder, port) => return Err(why),
                    answered = asked => answered.map_err(|error| error.to_string())?,
                };
            }
        }
        Ok(Self { forwarder, stream })
    }

    /// Whether the connection stands, as far as is known yet.
    pub async fn stands(&mut self) -> bool {
        let mut said = [0; 1024];
        loop {
            match tokio::time::timeout(Duration::ZERO, self.stream.read(&mut said)).await {
                Err(_) => return true,
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return false,
            }
        }
    }

    /// Waits until the connection ends, which it does with the process.
    pub async fn ended(mut self) {
        let mut rest = [0; 1024];
        while let Ok(1..) = self.stream.read(&mut rest).await {}
        self.forwarder.abort();
    }
}
