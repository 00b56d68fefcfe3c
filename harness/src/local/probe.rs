//! What a client of a node would see: one bare HTTP request, timed.
//!
//! Written on a plain socket rather than with an HTTP library, because a proof must tell silence
//! from a closed connection and must not be answered over a pooled one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::network::administrator_towards;
use crate::stores::recipe::Ready;

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// The status code, and how long it took from the first byte sent to the first received.
    Answered(u16, Duration),
    /// Nobody listens there.
    Refused,
    /// The connection was taken, then closed without an answer.
    Closed,
    /// No answer, but the connection stands (or is still being made).
    Silent,
}

/// Where a node of the reference store answers 200. One of another store answers something, too: a
/// request in HTTP/1.0 needs no `host`, at which Redis hangs up on what it takes for an attack.
pub(super) const HEALTH: &str = "/healthz";

/// Asks as the administrator: sends a request, made `padding` bytes longer by a header, and waits
/// `within` for the first bytes of an answer.
pub(super) async fn probe(address: SocketAddr, padding: usize, within: Duration) -> Probe {
    timeout(within, ask(address, HEALTH, padding))
        .await
        .unwrap_or(Probe::Silent)
}

/// The same of a node that may not answer what is no word of its own.
pub(super) async fn probe_as(
    ready: Ready,
    address: SocketAddr,
    padding: usize,
    within: Duration,
) -> Probe {
    let asked = async {
        match connect(address).await {
            Ok(stream) => ask_over(stream, address, ready, padding).await,
            Err(_) => Probe::Refused,
        }
    };
    timeout(within, asked).await.unwrap_or(Probe::Silent)
}

/// Whether a node serves.
pub(super) async fn is_ready(address: SocketAddr, ready: Ready, within: Duration) -> bool {
    let asked = async {
        match ready {
            Ready::Http(path) => matches!(ask(address, path, 0).await, Probe::Answered(200, _)),
            Ready::Line(line, wanted) => says(address, line, wanted).await.unwrap_or(false),
            Ready::Bytes(begins, wanted) => answers(address, begins, wanted).await.unwrap_or(false),
            Ready::Connects => connect(address).await.is_ok(),
        }
    };
    timeout(within, asked).await.unwrap_or(false)
}

async fn says(address: SocketAddr, line: &str, wanted: &str) -> io::Result<bool> {
    answers(address, format!("{line}\r\n").as_bytes(), wanted.as_bytes()).await
}

async fn answers(address: SocketAddr, asked: &[u8], wanted: &[u8]) -> io::Result<bool> {
    let mut stream = connect(address).await?;
    stream.write_all(asked).await?;
    let mut said = vec![0; wanted.len()];
    stream.read_exact(&mut said).await?;
    Ok(said == wanted)
}

/// A connection of the administrator, whom no fault disturbs.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let Some(administrator) = administrator_towards(address) else {
        return TcpStream::connect(address).await;
    };
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(administrator, 0))?;
    socket.connect(address).await
}

async fn ask(address: SocketAddr, path: &str, padding: usize) -> Probe {
    let Ok(stream) = connect(address).await else {
        return Probe::Refused;
    };
    send(stream, address, path, padding).await
}

/// Asks over a connection that has been made.
pub(super) async fn ask_over(
    stream: TcpStream,
    address: SocketAddr,
    ready: Ready,
    padding: usize,
) -> Probe {
    match ready {
        Ready::Bytes(begins, _) => send_bytes(stream, begins).await,
        _ => send(stream, address, HEALTH, padding).await,
    }
}

/// What comes back is an answer, whatever it says.
async fn send_bytes(mut stream: TcpStream, begins: &[u8]) -> Probe {
    let sent = Instant::now();
    if stream.write_all(begins).await.is_err() {
        return Probe::Closed;
    }
    match stream.read_u8().await {
        Ok(_) => Probe::Answered(0, sent.elapsed()),
        Err(_) => Probe::Closed,
    }
}

async fn send(mut stream: TcpStream, address: SocketAddr, path: &str, padding: usize) -> Probe {
    if stream.local_addr().ok() == Some(address) {
        // TCP's simultaneous open: the socket is connected to itself, so nobody listens.
        return Probe::Refused;
    }
    let padding = if padding == 0 {
        String::new()
    } else {
        format!("x-padding: {}\r\n", "x".repeat(padding))
    };
    let request = format!("GET {path} HTTP/1.0\r\nconnection: close\r\n{padding}\r\n");
    let sent = Instant::now();
    if stream.write_all(request.as_bytes()).await.is_err() {
        return Probe::Closed;
    }
    // A store that does not speak HTTP says so in its own words, be they fewer, and hangs up.
    let mut status = [0; 12];
    let (mut read, mut took, mut hung_up) = (0, None, false);
    while read < status.len() {
        match stream.read(&mut status[read..]).await {
            Ok(0) => {
                hung_up = true;
                break;
            }
            Err(error) => {
                hung_up = error.kind() == io::ErrorKind::ConnectionReset;
                break;
            }
            Ok(more) => read += more,
        }
        took = took.or(Some(sent.elapsed()));
    }
    let Some(took) = took else {
        // Some say nothing to what they do not take for a request, as ZooKeeper. Where no proxy
        // stands between, that is the node's own word.
        return if hung_up && administrator_towards(address).is_some() {
            Probe::Answered(0, sent.elapsed())
        } else {
            Probe::Closed
        };
    };
    let code = std::str::from_utf8(&status)
        .ok()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.get(2..))
        .and_then(|code| code.parse().ok());
    Probe::Answered(code.unwrap_or(0), took)
}
