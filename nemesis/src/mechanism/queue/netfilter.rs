//! The kernel's side of NFQUEUE: what `libnetfilter_queue` says over netlink, as much as is needed
//! (`include/uapi/linux/netfilter/nfnetlink_queue.h`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// Netlink's headers: its own, and netfilter's.
const HEADERS: usize = 16 + 4;
/// `NFNL_SUBSYS_QUEUE << 8`.
const QUEUE: u16 = 3 << 8;
/// `NFQNL_MSG_*`.
const PACKET: u16 = QUEUE;
const VERDICT: u16 = QUEUE | 1;
const CONFIG: u16 = QUEUE | 2;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLM_F_REQUEST`, `NLM_F_ACK`.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// `NFQA_CFG_*`.
const CFG_CMD: u16 = 1;
const CFG_PARAMS: u16 = 2;
const CFG_QUEUE_MAXLEN: u16 = 3;
const CFG_MASK: u16 = 4;
const CFG_FLAGS: u16 = 5;
/// `NFQNL_CFG_CMD_BIND`, for `PF_INET`.
const BIND: [u8; 4] = [1, 0, 0, 2];
/// `NFQNL_COPY_PACKET`, up to 64 KiB of each.
const COPY_ALL: [u8; 5] = [0, 0, 0xff, 0xff, 2];
/// `NFQA_CFG_F_FAIL_OPEN`: what does not fit into the queue passes.
const FAIL_OPEN: u32 = 1;
/// `NFQA_*`.
const PACKET_HDR: u16 = 1;
const VERDICT_HDR: u16 = 2;
const PAYLOAD: u16 = 10;
/// `NF_INET_LOCAL_OUT`.
const LOCAL_OUT: u8 = 3;
/// Packets that can be held back at once.
const PACKETS_MAX: u32 = 1 << 16;
/// Bytes of packets on their way here.
const BUFFER: usize = 8 << 20;
/// The longest packet, with its attributes.
const MESSAGE_MAX: usize = (1 << 16) + 1024;

/// What is to become of a packet: `NF_DROP`, `NF_ACCEPT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// A packet that waits in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub id: u32,
    /// Whether it is about to leave, rather than to be delivered.
    pub outgoing: bool,
    /// From its IP header on.
    pub bytes: Vec<u8>,
}

/// A queue in the network of the thread that opened it.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    number: u16,
    buffer: Vec<u8>,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Connection {
    /// # Errors
    /// Without the privilege, or if another program has the queue of this number.
    pub fn open(number: u16) -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        // As large as the machine lets us have it: what does not fit passes untouched.
        if set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
            set_socket_recv_buffer_size(&socket, BUFFER)?;
        }
        let mut connection = Self {
            socket,
            number,
            buffer: vec![0; MESSAGE_MAX],
        };
        connection.configure(&[(CFG_CMD, &BIND)])?;
        connection.configure(&[(CFG_PARAMS, &COPY_ALL)])?;
        connection.configure(&[(CFG_QUEUE_MAXLEN, &PACKETS_MAX.to_be_bytes())])?;
        let fail_open = FAIL_OPEN.to_be_bytes();
        connection.configure(&[(CFG_FLAGS, &fail_open), (CFG_MASK, &fail_open)])?;
        Ok(connection)
    }

    fn configure(&mut self, attributes: &[(u16, &[u8])]) -> io::Result<()> {
        let message = message(CONFIG, REQUEST | ACK, self.number, attributes);
        send(&self.socket, &message, SendFlags::empty())?;
        loop {
            let (_, length) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            // Packets may come before the answer once the queue is bound; they are lost here, as if
            // the queue had not been there yet, because nothing is asked of them yet.
            if let Some(errno) = answer(&self.buffer[..length.min(MESSAGE_MAX)]) {
                return match errno {
                    0 => Ok(()),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                };
            }
        }
    }

    /// The packets that have come since, without waiting; none if there are none. The second is
    /// whether some had to pass because too many came at once.
    pub fn receive(&mut self) -> io::Result<(Vec<Packet>, bool)> {
        match recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, length)) => Ok((packets(&self.buffer[..length.min(MESSAGE_MAX)]), false)),
            Err(Errno::AGAIN | Errno::INTR) => Ok((Vec::new(), false)),
            Err(Errno::NOBUFS) => Ok((Vec::new(), true)),
            Err(errno) => Err(errno.into()),
        }
    }

    pub fn decide(&self, id: u32, verdict: Verdict) -> io::Result<()> {
        let mut header = [0; 8];
        header[..4].copy_from_slice(&(verdict as u32).to_be_bytes());
        header[4..].copy_from_slice(&id.to_be_bytes());
        let message = message(VERDICT, REQUEST, self.number, &[(VERDICT_HDR, &header)]);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn message(kind: u16, flags: u16, queue: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; HEADERS];
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[18..20].copy_from_slice(&queue.to_be_bytes());
    for (kind, value) in attributes {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(aligned(bytes.len()), 0);
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Netlink messages one after the other: their kinds, and what follows their own header.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(number(bytes, 0)?) as usize;
        let kind = u16::from_ne_bytes(number(bytes, 4)?);
        let body = bytes.get(16..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// What the kernel said to a request: 0, or an error number.
fn answer(bytes: &[u8]) -> Option<i32> {
    let (_, body) = messages(bytes).find(|(kind, _)| *kind == ERROR)?;
    Some(-i32::from_ne_bytes(number(body, 0)?))
}

fn packets(bytes: &[u8]) -> Vec<Packet> {
    messages(bytes)
        .filter(|(kind, _)| *kind == PACKET)
        .filter_map(|(_, body)| packet(body.get(4..)?))
        .collect()
}

/// From the attributes of a message.
fn packet(mut attributes: &[u8]) -> Option<Packet> {
    let (mut header, mut payload) = (None, None);
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes(number(attributes, 0)?));
        // The two upper bits are flags.
        let kind = u16::from_ne_bytes(number(attributes, 2)?) & 0x3fff;
        let value = attributes.get(4..length)?;
        match kind {
            PACKET_HDR => header = Some(value),
            PAYLOAD => payload = Some(value),
            _ => {}
        }
        attributes = attributes.get(aligned(length)..).unwrap_or_default();
    }
    let header = header?;
    Some(Packet {
        id: u32::from_be_bytes(number(header, 0)?),
        outgoing: *header.get(6)? == LOCAL_OUT,
        bytes: payload?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_and_rubbish_is_not() {
        let header = [0, 0, 0, 9, 8, 0, LOCAL_OUT];
        let bytes = message(PACKET, 0, 3, &[(PACKET_HDR, &header), (PAYLOAD, b"abc")]);
        let wanted = Packet {
            id: 9,
            outgoing: true,
            bytes: b"abc".to_vec(),
        };
        assert_eq!(packets(&bytes), std::slice::from_ref(&wanted));
        let two = [bytes.clone(), bytes.clone()].concat();
        assert_eq!(packets(&two), [wanted.clone(), wanted]);
        assert_eq!(packets(&message(CONFIG, 0, 3, &[])), []);
        // Whatever is cut off, nothing is made up.
        for end in 0..bytes.len() {
            assert_eq!(packets(&bytes[..end]), [], "{end}");
        }
        assert_eq!(packets(&[0; 64]), []);
    }

    #[test]
    fn an_answer_is_an_error_number() {
        let mut bytes = message(ERROR, 0, 0, &[]);
        bytes[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(answer(&bytes), Some(1));
        assert_eq!(answer(&message(PACKET, 0, 0, &[])), None);
    }
}
