//! Two networks with a cable between them, for the tests of mechanisms.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::tool;

/// The address of `there`, and of `here`.
pub(super) const THERE: Ipv4Addr = Ipv4Addr::new(10, 64, 255, 1);
pub(super) const HERE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);

pub(super) struct Cable {
    pub there: Arc<Namespace>,
    pub here: Arc<Namespace>,
}

impl Cable {
    /// `None`, with a word on standard error, where this machine does not allow it.
    pub fn new() -> Option<Self> {
        let (there, here) = match (Namespace::create(), Namespace::create()) {
            (Ok(there), Ok(here)) => (Arc::new(there), Arc::new(here)),
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("not tested: this machine allows no network namespaces: {error}");
                return None;
            }
        };
        let script = format!(
            "link add name quorate0n1 type veth peer name eth0 netns {}\n\
             addr add {THERE}/16 dev quorate0n1\nlink set dev quorate0n1 up\n",
            here.path()
        );
        let ip = |script: &str| tool::run_with_input("ip", &["-batch", "-"], script).unwrap();
        there.run(|| ip(&script)).unwrap();
        let script = format!("addr add {HERE}/16 dev eth0\nlink set dev eth0 up\n");
        here.run(|| ip(&script)).unwrap();
        Some(Self { there, here })
    }

    /// A socket on each side: there, here.
    pub fn sockets(&self) -> (UdpSocket, UdpSocket) {
        let bind = |namespace: &Namespace, address: Ipv4Addr| {
            let socket = namespace.run(|| UdpSocket::bind((address, 0))).unwrap();
            socket.unwrap()
        };
        let (there, here) = (bind(&self.there, THERE), bind(&self.here, HERE));
        there.connect(here.local_addr().unwrap()).unwrap();
        here.connect(there.local_addr().unwrap()).unwrap();
        (there, here)
    }
}

/// Sends so many datagrams, a millisecond apart, and says which came, when they were sent, and how
/// long they took, in the order of arrival, until nothing came for `patience`.
pub(super) fn fly(
    from: &UdpSocket,
    to: &UdpSocket,
    count: u32,
    patience: Duration,
) -> Vec<(u32, Duration)> {
    let mut sent = BTreeMap::new();
    to.set_read_timeout(Some(patience)).unwrap();
    let mut came = Vec::new();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut came = Vec::new();
            let mut bytes = [0; 64];
            while let Ok(length) = to.recv(&mut bytes) {
                assert_eq!(length, 64);
                let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                came.push((number, Instant::now()));
            }
            came
        });
        for number in 0..count {
            let mut bytes = [0; 64];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            sent.insert(number, Instant::now());
            // The sender is told when its own rules drop it.
            let _ = from.send(&bytes);
            std::thread::sleep(Duration::from_millis(1));
        }
        came = receiver.join().unwrap();
    });
    let took = |(number, at): (u32, Instant)| (number, at - sent[&number]);
    came.into_iter().map(took).collect()
}
