//! A TCP proxy for one link: forwards bytes, or holds, delays or throttles them.
//!
//! A cut link is a black hole. Connections stay open and new ones are accepted, but nothing goes
//! through, not even the end of a connection. When the link is healed what was held flows again,
//! as TCP's retransmission would make it; a new connection whose opener gave up during the cut is
//! forgotten, as an unanswered SYN would be.
//!
//! A delay is a property of the path, not of the sender: every chunk leaves `latency` after it
//! came in, however many are under way. Throttling models the serialisation delay of a link of
//! that rate: a chunk of n bytes occupies the link for n / rate.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nemesis::{Endpoint, Link};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// Read at once.
const CHUNK: usize = 16 * 1024;
/// Held at most per connection and direction; then reading stops, as a full TCP window would.
const WINDOW: usize = 256 * 1024;
/// Connecting on loopback takes this long only if the target's accept queue is full.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where a node listens now; `None` while it is down. Shared by all links that lead to it.
#[derive(Debug, Default)]
pub(super) struct Target(Mutex<Option<SocketAddr>>);

impl Target {
    pub fn get(&self) -> Option<SocketAddr> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, address: Option<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Impairment {
    /// Nothing goes through.
    pub cut: bool,
    /// Added to a round trip over the link.
    pub latency: Duration,
    /// How much more or less than that it is, at most the latency.
    pub jitter: Duration,
    /// At most this many bytes a second and direction.
    pub rate: Option<NonZeroU64>,
}

impl Impairment {
    /// Nothing goes through.
    pub const CUT: Self = Self {
        cut: true,
        latency: Duration::ZERO,
        jitter: Duration::ZERO,
        rate: None,
    };

    /// Both at once: the worse of each.
    fn and(self, other: Self) -> Self {
        Self {
            cut: self.cut || other.cut,
            latency: self.latency.max(other.latency),
            jitter: self.jitter.max(other.jitter),
            rate: match (self.rate, other.rate) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }
}

/// Which way bytes go on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// From the side that opened the connection.
    Request,
    /// Back to it.
    Answer,
}

/// One link. Dropping it closes its connections.
#[derive(Debug)]
pub(super) struct LinkProxy {
    address: SocketAddr,
    wire: Arc<Wire>,
    accepting: AbortHandle,
}

impl LinkProxy {
    /// Starts to listen on a free port of loopback and to forward to `target`. Must be called
    /// within a tokio runtime.
    pub async fn start(link: Link, target: Arc<Target>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let wire = Arc::new(Wire {
            link,
            target,
            state: watch::Sender::default(),
            holds: Mutex::default(),
            crossed: AtomicU64::new(0),
            busy_until: Default::default(),
            chance: Mutex::new(Pcg32::seed_from_u64(u64::from(address.port()))),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&wire))).abort_handle();
        Ok(Self {
            address,
            wire,
            accepting,
        })
    }

    /// Where the link's source connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the link leads to.
    pub fn target(&self) -> &Target {
        &self.wire.target
    }

    /// Adds an impairment in the name of a fault. Impairments of several faults add up to the
    /// worst of each kind.
    pub fn impair(&self, fault: u32, impairment: Impairment) {
        self.wire.change(|holds| {
            holds.insert(fault, impairment);
        });
    }

    /// Takes back what [`Self::impair`] added in the name of this fault, and nothing else.
    pub fn release(&self, fault: u32) {
        self.wire.change(|holds| {
            holds.remove(&fault);
        });
    }

    /// Whether it is impaired in the name of this fault.
    pub fn holds(&self, fault: u32) -> bool {
        let holds = self.wire.holds.lock();
        let holds = holds.unwrap_or_else(PoisonError::into_inner);
        holds.contains_key(&fault) && !self.accepting.is_finished()
    }

    /// What is wrong with the link now.
    pub fn state(&self) -> Impairment {
        *self.wire.state.borrow()
    }

    /// Bytes let through so far, both directions.
    pub fn crossed(&self) -> u64 {
        self.wire.crossed.load(Ordering::Relaxed)
    }
}

impl Drop for LinkProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What the connections of a link share.
#[derive(Debug)]
struct Wire {
    link: Link,
    target: Arc<Target>,
    state: watch::Sender<Impairment>,
    holds: Mutex<BTreeMap<u32, Impairment>>,
    crossed: AtomicU64,
    /// When the throttled link has sent all that it was given: requests, answers.
    busy_until: [Mutex<Option<Instant>>; 2],
    /// Of jitter.
    chance: Mutex<Pcg32>,
}

impl Wire {
    fn change(&self, change: impl FnOnce(&mut BTreeMap<u32, Impairment>)) {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut holds);
        let worst = holds
            .values()
            .copied()
            .fold(Impairment::default(), Impairment::and);
        self.state.send_replace(worst);
    }

    /// A link between replicas is directed: what goes back over its connections is only the
    /// transport's acknowledgement of a one-way message, and is not slowed. A link of clients
    /// carries requests and answers, and each way takes half of the round trip.
    fn is_two_way(&self) -> bool {
        self.link.from == Endpoint::Clients
    }

    fn delay(&self, impairment: Impairment, direction: Direction) -> Duration {
        self.share(impairment.latency, direction)
    }

    /// The part of something added to a round trip that one direction takes.
    fn share(&self, whole: Duration, direction: Direction) -> Duration {
        match (self.is_two_way(), direction) {
            (true, _) => whole / 2,
            (false, Direction::Request) => whole,
            (false, Direction::Answer) => Duration::ZERO,
        }
    }

    fn rate(&self, impairment: Impairment, direction: Direction) -> Option<NonZeroU64> {
        let applies = self.is_two_way() || direction == Direction::Request;
        impairment.rate.filter(|_| applies)
    }

    /// When a chunk that arrived now is due at the other end.
    fn due(&self, impairment: Impairment, direction: Direction, bytes: usize) -> Instant {
        let now = Instant::now();
        let sent = match self.rate(impairment, direction) {
            None => now,
            Some(rate) => {
                let mut busy = self.busy_until[direction as usize]
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let start = busy.map_or(now, |until| until.max(now));
                let takes = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
                *busy.insert(start + takes)
            }
        };
        let jitter = self.share(impairment.jitter, direction);
        let shift = {
            let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
            jitter.mul_f64(chance.random_range(0.0..=2.0))
        };
        // Bytes of a connection stay in order: one that is due early waits for those before it.
        (sent + self.delay(impairment, direction) + shift)
            .checked_sub(jitter)
            .unwrap_or(sent)
            .max(sent)
    }

    fn is_free(&self, impairment: Impairment, direction: Direction) -> bool {
        !impairment.cut
            && self.delay(impairment, direction).is_zero()
            && self.rate(impairment, direction).is_none()
    }
}

async fn accept(listener: TcpListener, wire: Arc<Wire>) {
    // Owns the connections: they end when the link does.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let wire = Arc::clone(&wire);
                    connections.spawn(async move {
                        // Either side's error ends the connection, which is how the other learns.
                        let _ = serve(stream, &wire).await;
                    });
                }
                // Out of file descriptors, or the peer was gone before it was accepted.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut source: TcpStream, wire: &Wire) -> io::Result<()> {
    source.set_nodelay(true)?;
    let mut state = wire.state.subscribe();
    let mut early = Vec::new();
    while state.borrow_and_update().cut {
        let mut chunk = [0; 1024];
        tokio::select! {
            changed = state.changed() => changed.map_err(io::Error::other)?,
            read = source.read(&mut chunk), if early.len() < WINDOW => match read? {
                0 => return Ok(()),
                n => early.extend_from_slice(&chunk[..n]),
            },
        }
    }
    let Some(address) = wire.target.get() else {
        return Ok(());
    };
    let mut target = timeout(CONNECT_WITHIN, TcpStream::connect(address)).await??;
    if target.local_addr()? == address {
        // Nobody listens there, and TCP's simultaneous open has connected the socket to itself.
        return Ok(());
    }
    target.set_nodelay(true)?;
    let (source_read, source_write) = source.split();
    let (target_read, target_write) = target.split();
    tokio::try_join!(
        pump(source_read, target_write, wire, Direction::Request, early),
        pump(
            target_read,
            source_write,
            wire,
            Direction::Answer,
            Vec::new()
        ),
    )?;
    Ok(())
}

/// Moves bytes one way until the reader ends, then ends the writer. What was written before a cut
/// is with the kernel and arrives; a cut holds everything else, the end included.
async fn pump(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    wire: &Wire,
    direction: Direction,
    early: Vec<u8>,
) -> io::Result<()> {
    let mut state = wire.state.subscribe();
    let mut chunk = vec![0; CHUNK];
    let mut held: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut held_bytes = early.len();
    let mut end: Option<io::Result<()>> = None;
    if !early.is_empty() {
        let due = wire.due(*state.borrow(), direction, early.len());
        held.push_back((due, early));
    }
    loop {
        let now = *state.borrow_and_update();
        if held.is_empty()
            && !now.cut
            && let Some(end) = end
        {
            end?;
            return writer.shutdown().await;
        }
        let due = match held.front() {
            _ if now.cut => None,
            // The fault that delayed it is over: what it delayed need not wait any longer.
            Some(_) if wire.is_free(now, direction) => Some(Instant::now()),
            Some((due, _)) => Some(*due),
            None => None,
        };
        // Small chunks on a slow link, so that bytes trickle rather than burst.
        let at_once = wire.rate(now, direction).map_or(CHUNK, |rate| {
            usize::try_from(rate.get() / 20)
                .unwrap_or(CHUNK)
                .clamp(256, CHUNK)
        });
        tokio::select! {
            changed = state.changed() => changed.map_err(io::Error::other)?,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some((_, bytes)) = held.pop_front() {
                    held_bytes -= bytes.len();
                    writer.write_all(&bytes).await?;
                    wire.crossed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
            }
            read = reader.read(&mut chunk[..at_once]), if end.is_none() && held_bytes < WINDOW => {
                let now = *state.borrow();
                match read {
                    Ok(0) => end = Some(Ok(())),
                    Err(error) => end = Some(Err(error)),
                    Ok(n) if held.is_empty() && wire.is_free(now, direction) => {
                        writer.write_all(&chunk[..n]).await?;
                        wire.crossed.fetch_add(n as u64, Ordering::Relaxed);
                    }
                    Ok(n) => {
                        held.push_back((wire.due(now, direction, n), chunk[..n].to_vec()));
                        held_bytes += n;
                    }
                }
            }
        }
    }
}
