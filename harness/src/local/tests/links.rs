//! One proxied link to an echoing server.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use nemesis::{Endpoint, Link};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::local::proxy::{Impairment, LinkProxy, Target};

const REPLICAS: Link = Link {
    from: Endpoint::Node(1),
    to: Endpoint::Node(2),
};
const CLIENTS: Link = Link {
    from: Endpoint::Clients,
    to: Endpoint::Node(2),
};
/// Long enough that what was sent would have come back.
const QUIET: Duration = Duration::from_millis(150);

fn slow(latency_ms: u64) -> Impairment {
    Impairment {
        latency: Duration::from_millis(latency_ms),
        ..Impairment::default()
    }
}

/// Sends back what it gets, and tells the first bytes of each connection.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (first, firsts) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let first = first.clone();
            tokio::spawn(async move {
                let mut chunk = vec![0; 1024];
                let mut begun = false;
                while let Ok(n @ 1..) = stream.read(&mut chunk).await {
                    if !std::mem::replace(&mut begun, true) {
                        first.send(chunk[..n].to_vec()).unwrap();
                    }
                    if stream.write_all(&chunk[..n]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, firsts)
}

async fn link(link: Link) -> (LinkProxy, mpsc::UnboundedReceiver<Vec<u8>>) {
    let (address, firsts) = echo().await;
    let target = Arc::new(Target::default());
    target.set(Some(address));
    (LinkProxy::start(link, target).await.unwrap(), firsts)
}

async fn open(proxy: &LinkProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    let read = timeout(Duration::from_secs(20), stream.read_exact(&mut got)).await;
    read.expect("no answer in time").unwrap();
    assert_eq!(got, bytes);
}

async fn expect_silence(stream: &mut TcpStream) {
    let read = timeout(QUIET, stream.read(&mut [0; 64])).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn bytes_go_through_and_the_end_does_too() {
    let (proxy, _firsts) = link(REPLICAS).await;
    let mut stream = open(&proxy).await;
    let long = vec![7; 300_000];
    let (mut read, mut write) = stream.split();
    let send = async {
        write.write_all(&long).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let ((), received) = tokio::join!(send, read.read_to_end(&mut got));
    assert_eq!(received.unwrap(), long.len());
    assert_eq!(got, long);
    assert_eq!(proxy.crossed(), 2 * long.len() as u64);
}

#[tokio::test]
async fn a_cut_holds_what_is_sent_and_healing_delivers_it() {
    let (proxy, _firsts) = link(CLIENTS).await;
    let mut old = open(&proxy).await;
    old.write_all(b"before").await.unwrap();
    expect(&mut old, b"before").await;
    let crossed = proxy.crossed();

    proxy.impair(1, Impairment::CUT);
    proxy.impair(2, Impairment::CUT);
    old.write_all(b"during").await.unwrap();
    old.shutdown().await.unwrap();
    let mut new = open(&proxy).await;
    new.write_all(b"new").await.unwrap();
    expect_silence(&mut old).await;
    expect_silence(&mut new).await;
    assert_eq!(proxy.crossed(), crossed);

    proxy.release(1);
    expect_silence(&mut old).await;
    assert_eq!(proxy.crossed(), crossed);

    proxy.release(2);
    proxy.release(2);
    expect(&mut old, b"during").await;
    expect(&mut new, b"new").await;
    assert_eq!(old.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_given_up_during_the_cut_never_arrives() {
    let (proxy, mut firsts) = link(REPLICAS).await;
    proxy.impair(1, Impairment::CUT);
    let mut abandoned = open(&proxy).await;
    abandoned.write_all(b"abandoned").await.unwrap();
    // The proxy closes its side once it has seen that the other has gone.
    abandoned.shutdown().await.unwrap();
    assert_eq!(abandoned.read(&mut [0; 1]).await.unwrap(), 0);
    let mut patient = open(&proxy).await;
    patient.write_all(b"patient").await.unwrap();
    proxy.release(1);
    expect(&mut patient, b"patient").await;
    assert_eq!(firsts.recv().await.unwrap(), b"patient");
    assert!(firsts.try_recv().is_err());
}

#[tokio::test]
async fn a_round_trip_takes_at_least_the_latency_on_both_kinds_of_link() {
    for kind in [REPLICAS, CLIENTS] {
        let (proxy, _firsts) = link(kind).await;
        let mut stream = open(&proxy).await;
        proxy.impair(1, slow(80));
        proxy.impair(2, slow(20));
        let sent = Instant::now();
        stream.write_all(b"ping").await.unwrap();
        expect(&mut stream, b"ping").await;
        assert!(
            sent.elapsed() >= Duration::from_millis(80),
            "{kind}: {:?}",
            sent.elapsed()
        );
    }
}

#[tokio::test]
async fn a_delay_does_not_add_up_over_chunks_and_ends_with_the_fault() {
    let (proxy, _firsts) = link(REPLICAS).await;
    proxy.impair(1, slow(400));
    let mut stream = open(&proxy).await;
    let sent = Instant::now();
    for _ in 0..20 {
        stream.write_all(b"chunk").await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    expect(&mut stream, &b"chunk".repeat(20)).await;
    // One after the other would be 8 s.
    assert!(
        sent.elapsed() < Duration::from_secs(4),
        "{:?}",
        sent.elapsed()
    );

    proxy.release(1);
    proxy.impair(2, slow(3_600_000));
    stream.write_all(b"last").await.unwrap();
    expect_silence(&mut stream).await;
    proxy.release(2);
    expect(&mut stream, b"last").await;
}

#[tokio::test]
async fn a_throttled_link_carries_no_more_than_its_rate() {
    let (proxy, _firsts) = link(REPLICAS).await;
    proxy.impair(
        1,
        Impairment {
            rate: NonZeroU64::new(256 * 1024),
            ..Impairment::default()
        },
    );
    // Two connections share the link.
    let mut streams = [open(&proxy).await, open(&proxy).await];
    let bytes = vec![1; 32 * 1024];
    let sent = Instant::now();
    let [a, b] = &mut streams;
    for stream in [&mut *a, &mut *b] {
        stream.write_all(&bytes).await.unwrap();
    }
    expect(a, &bytes).await;
    expect(b, &bytes).await;
    assert!(
        sent.elapsed() >= Duration::from_millis(250),
        "{:?}",
        sent.elapsed()
    );
}

#[tokio::test]
async fn a_link_to_nobody_closes_connections_and_follows_a_new_address() {
    let (proxy, _firsts) = link(REPLICAS).await;
    let (elsewhere, mut firsts) = echo().await;
    proxy.target().set(None);
    let mut stream = open(&proxy).await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    proxy.target().set(Some(elsewhere));
    let mut stream = open(&proxy).await;
    stream.write_all(b"hello").await.unwrap();
    expect(&mut stream, b"hello").await;
    assert_eq!(firsts.recv().await.unwrap(), b"hello");
}
