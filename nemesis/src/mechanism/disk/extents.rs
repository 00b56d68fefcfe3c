//! Pieces of a file by their place, none overlapping another.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes at offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extents(BTreeMap<u64, Vec<u8>>);

impl Extents {
    /// Adds bytes where there are none yet; what is there already stays.
    pub fn insert_under(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let mut gaps = Vec::new();
        let mut at = offset;
        for (&start, there) in self.0.range(..end) {
            let stop = start + there.len() as u64;
            if stop <= at {
                continue;
            }
            if start > at {
                gaps.push(at..start);
            }
            at = at.max(stop);
        }
        if at < end {
            gaps.push(at..end);
        }
        for gap in gaps {
            let piece = &bytes[(gap.start - offset) as usize..(gap.end - offset) as usize];
            self.0.insert(gap.start, piece.to_vec());
        }
    }

    /// All pieces, by offset.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.0
            .iter()
            .map(|(&offset, bytes)| (offset, bytes.as_slice()))
    }

    /// Copies what lies in a range into a buffer that stands for it.
    pub fn overlay(&self, range: &Range<u64>, buffer: &mut [u8]) {
        for (offset, bytes) in self.iter() {
            let start = offset.max(range.start);
            let end = (offset + bytes.len() as u64).min(range.end);
            if start < end {
                buffer[(start - range.start) as usize..(end - range.start) as usize]
                    .copy_from_slice(&bytes[(start - offset) as usize..(end - offset) as usize]);
            }
        }
    }

    /// How many bytes it holds.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_gaps_are_filled() {
        let mut extents = Extents::default();
        extents.insert_under(4, b"bb");
        extents.insert_under(8, b"dd");
        extents.insert_under(2, b"aaXXccXXee");
        let mut buffer = *b"..............";
        extents.overlay(&(0..14), &mut buffer);
        assert_eq!(&buffer, b"..aabbccddee..");
        assert_eq!(extents.bytes(), 10);
        let mut part = *b"...";
        extents.overlay(&(5..8), &mut part);
        assert_eq!(&part, b"bcc");
    }
}
