//! What really goes over a directed link: datagrams from one end to the other, each known by its
//! number, timed by one clock. Both sockets are this program's, each opened in the network of its
//! end, so that a proof rests neither on the nodes' processes nor on the way back.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nemesis::mechanism::namespace::Namespace;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Of the datagrams that belong together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Volley {
    /// How many.
    pub count: u16,
    /// Bytes of each, headers included.
    pub bytes: usize,
    /// From one to the next.
    pub gap: Duration,
    /// How long is waited after the last one.
    pub patience: Duration,
}

/// Bytes of the headers of IP and UDP.
const HEADERS: usize = 28;

/// After all have come once.
const TWICE_WITHIN: Duration = Duration::from_millis(10);

/// What became of a volley.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    pub sent: usize,
    /// How long each took that arrived, in the order of arrival, without those that came again.
    pub took: Vec<Duration>,
    /// Those that came again.
    pub twice: usize,
    /// Those that a later one overtook.
    pub overtaken: usize,
    /// From the first one sent to the last arrival.
    pub all: Duration,
}

impl Arrivals {
    /// Those of another volley too.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.took.extend(&other.took);
        self.twice += other.twice;
        self.overtaken += other.overtaken;
    }

    pub fn lost(&self) -> usize {
        self.sent - self.took.len()
    }

    pub fn fastest(&self) -> Option<Duration> {
        self.took.iter().min().copied()
    }

    /// Half of them took longer.
    pub fn median(&self) -> Option<Duration> {
        let mut took = self.took.clone();
        took.sort_unstable();
        took.get(took.len() / 2).copied()
    }

    pub fn slowest(&self) -> Option<Duration> {
        self.took.iter().max().copied()
    }
}

/// One end of a link.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub namespace: Arc<Namespace>,
    pub address: IpAddr,
}

impl End {
    /// A socket in the network of this end.
    fn datagrams(&self) -> io::Result<UdpSocket> {
        let address = SocketAddr::new(self.address, 0);
        let socket = self
            .namespace
            .run(|| std::net::UdpSocket::bind(address))??;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }

    /// Connects from this end. `None` if there was no answer at all.
    pub async fn connect(
        &self,
        to: SocketAddr,
        within: Duration,
    ) -> io::Result<Option<io::Result<TcpStream>>> {
        let socket = self.namespace.run(TcpSocket::new_v4)??;
        socket.bind(SocketAddr::new(self.address, 0))?;
        Ok(tokio::time::timeout(within, socket.connect(to)).await.ok())
    }
}

/// Sends a volley over the link from one end to another.
pub(super) async fn fly(from: &End, to: &End, volley: Volley) -> io::Result<Arrivals> {
    let (sender, receiver) = (from.datagrams()?, to.datagrams()?);
    sender.connect(receiver.local_addr()?).await?;
    receiver.connect(sender.local_addr()?).await?;
    let begun = Instant::now();
    let send = async {
        let mut sent = Vec::new();
        let mut datagram = vec![0; volley.bytes.saturating_sub(HEADERS).max(2)];
        for number in 0..volley.count {
            sleep_until(begun + volley.gap * u32::from(number)).await;
            datagram[..2].copy_from_slice(&number.to_be_bytes());
            sent.push(Instant::now());
            // What the sender's own network refuses is lost on the way, like the rest.
            let _ = sender.send(&datagram).await;
        }
        sent
    };
    let receive = async {
        let until = begun + volley.gap * u32::from(volley.count) + volley.patience;
        let mut came = Vec::new();
        let mut missing: BTreeSet<u16> = (0..volley.count).collect();
        let mut datagram = vec![0; 2];
        let mut until = until;
        while let Ok(received) = timeout_at(until, receiver.recv(&mut datagram)).await {
            let at = Instant::now();
            if received.is_ok_and(|bytes| bytes == 2) {
                let number = u16::from_be_bytes([datagram[0], datagram[1]]);
                came.push((number, at));
                if missing.remove(&number) && missing.is_empty() {
                    // All are here; one that comes twice is not far behind.
                    until = until.min(at + TWICE_WITHIN);
                }
            }
        }
        came
    };
    let (sent, came) = tokio::join!(send, receive);
    let mut arrivals = Arrivals {
        sent: sent.len(),
        ..Arrivals::default()
    };
    let mut seen = vec![false; sent.len()];
    let mut newest = 0;
    for (number, at) in came {
        let i = usize::from(number);
        if std::mem::replace(&mut seen[i], true) {
            arrivals.twice += 1;
            continue;
        }
        arrivals.took.push(at.saturating_duration_since(sent[i]));
        arrivals.overtaken += usize::from(number < newest);
        newest = newest.max(number);
        arrivals.all = at - begun;
    }
    Ok(arrivals)
}
