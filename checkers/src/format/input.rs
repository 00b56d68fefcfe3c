//! The bytes of a history: from anywhere, compressed or not, piece by piece.

use std::io::{self, BufReader, Read};

use super::ReadError;

/// The longest line or form. What is longer is not an event but a mistake, or a bomb.
pub const EVENT_BYTES_MAX: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// First bytes of what is not text, and what to do about it.
const REFUSED: [(&[u8], &str); 4] = [
    (
        b"JEPSEN\0\0",
        "a store file of Jepsen, which only Jepsen reads; give the history.edn or history.txt \
         beside it",
    ),
    (
        b"\xfd7zXZ\0",
        "compressed with xz; only zstd and gzip are read",
    ),
    (
        b"\x04\x22\x4d\x18",
        "compressed with lz4; only zstd and gzip are read",
    ),
    (b"PK\x03\x04", "a zip archive; give the history in it"),
];

/// The same of what might be a damaged text, and is read as one if its format is named.
const REFUSED_UNNAMED: [(&[u8], &str); 3] = [
    (b"BZh", "compressed with bzip2; only zstd and gzip are read"),
    (b"\xff\xfe", "text in UTF-16; expected UTF-8"),
    (b"\xfe\xff", "text in UTF-16; expected UTF-8"),
];

const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
const GZIP: &[u8] = b"\x1f\x8b";

/// A stream of plain bytes.
pub struct Input<'a> {
    bytes: Box<dyn Read + 'a>,
    /// Read ahead of those.
    start: Vec<u8>,
    ended: bool,
    torn: bool,
    failed: Option<io::Error>,
}

impl<'a> Input<'a> {
    /// Recognises compression by the first bytes. `named`: whether the format is.
    pub fn open(bytes: impl Read + 'a, file: &str, named: bool) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io {
            file: file.to_owned(),
            source,
        };
        let mut raw = Self::plain(Box::new(bytes));
        let start = raw.peek(8);
        let unnamed = REFUSED_UNNAMED.iter().filter(|_| !named);
        let mut refused = REFUSED.iter().chain(unnamed);
        if let Some((_, what)) = refused.find(|(magic, _)| start.starts_with(magic)) {
            return Err(ReadError::Unsupported {
                file: file.to_owned(),
                what: (*what).to_owned(),
            });
        }
        let compression = [ZSTD, GZIP].into_iter().find(|m| start.starts_with(m));
        let mut input = match compression {
            None => raw,
            Some(ZSTD) => {
                let decoder = zstd::stream::read::Decoder::new(raw).map_err(io)?;
                Self::plain(Box::new(decoder))
            }
            Some(_) => {
                let raw = BufReader::with_capacity(128 << 10, raw);
                Self::plain(Box::new(flate2::bufread::MultiGzDecoder::new(raw)))
            }
        };
        if input.peek(BYTE_ORDER_MARK.len()) == BYTE_ORDER_MARK {
            input.start.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(input)
    }

    fn plain(bytes: Box<dyn Read + 'a>) -> Self {
        Self {
            bytes,
            start: Vec::new(),
            ended: false,
            torn: false,
            failed: None,
        }
    }

    /// The next bytes, which stay; fewer than wanted only at the end.
    pub fn peek(&mut self, wanted: usize) -> &[u8] {
        let mut start = std::mem::take(&mut self.start);
        let missing = wanted.saturating_sub(start.len());
        self.read_on(&mut start, missing);
        self.start = start;
        &self.start[..wanted.min(self.start.len())]
    }

    /// Appends up to so many bytes, fewer only at the end. Whether more may follow.
    pub fn fill(&mut self, buffer: &mut Vec<u8>, wanted: usize) -> io::Result<bool> {
        let ahead = wanted.min(self.start.len());
        buffer.extend(self.start.drain(..ahead));
        self.read_on(buffer, wanted - ahead);
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        Ok(!self.ended || !self.start.is_empty())
    }

    fn read_on(&mut self, buffer: &mut Vec<u8>, wanted: usize) {
        let mut filled = buffer.len();
        let full = filled + wanted;
        buffer.resize(full, 0);
        while filled < full && !self.ended {
            match self.bytes.read(&mut buffer[filled..full]) {
                Ok(0) => self.ended = true,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.ended = true;
                    self.torn = e.kind() == io::ErrorKind::UnexpectedEof;
                    self.failed = (!self.torn).then_some(e);
                }
            }
        }
        buffer.truncate(filled);
    }

    /// Whether a compressed stream ended too early.
    pub fn is_torn(&self) -> bool {
        self.torn
    }
}

/// What a decoder reads, which has its own buffer.
impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start.is_empty() && !self.ended {
            return self.bytes.read(buffer);
        }
        let n = buffer.len().min(self.start.len());
        buffer[..n].copy_from_slice(&self.start[..n]);
        self.start.drain(..n);
        Ok(n)
    }
}
