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

/// Whether a node serves.
pub(super) async fn is_ready(address: SocketAddr, ready: Ready, within: Duration) -> bool {
    let asked = async {
        match ready {
            Ready::Http(path) => matches!(ask(address, path, 0).await, Probe::Answered(200, _)),
            Ready::Line(line, wanted) => says(address, line, wanted).await.unwrap_or(false),
            Ready::Connects => connect(address).await.is_ok(),
        }
    };
    timeout(within, asked).await.unwrap_or(false)
}

async fn says(address: SocketAddr, line: &str, wanted: &str) -> io::Result<bool> {
    let mut stream = connect(address).await?;
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    let mut said = vec![0; wanted.len()];
    stream.read_exact(&mut said).await?;
    Ok(said == wanted.as_bytes())
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
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
pub(super) async fn ask_over(stream: TcpStream, address: SocketAddr, padding: usize) -> Probe {
    send(stream, address, HEALTH, padding).await
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
    let mut status = [0; 12];
    match stream.read_exact(&mut status).await {
        Ok(_) => {
            let took = sent.elapsed();
            let code = std::str::from_utf8(&status)
                .ok()
                .and_then(|line| line.strip_prefix("HTTP/1."))
                .and_then(|line| line.get(2..))
                .and_then(|code| code.parse().ok());
            Probe::Answered(code.unwrap_or(0), took)
        }
        // Stores that do not take this for a request hang up, as ZooKeeper does. Where no proxy stands
        // between, that is the node's own word.
        Err(error) if administrator_towards(address).is_some() && is_hang_up(&error) => {
            Probe::Answered(0, sent.elapsed())
        }
        Err(_) => Probe::Closed,
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}
