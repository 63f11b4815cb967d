//! The files of a buffer as they are read: records by their numbers, and what is missing between.

use bytes::Bytes;

use super::error::{Damage, DiskError};
use super::place::Segment;
use super::scanner::{Item, Scanner};
use super::settled::DiskPosition;

/// A part of the records of a file.
#[derive(Debug)]
pub(super) enum Entry {
    Record {
        position: DiskPosition,
        offset: u64,
        body: Bytes,
    },
    Damaged {
        position: DiskPosition,
        offset: u64,
        what: Damage,
        raw: Bytes,
    },
}

impl Entry {
    pub(super) fn position(&self) -> DiskPosition {
        match self {
            Entry::Record { position, .. } | Entry::Damaged { position, .. } => *position,
        }
    }
}

/// Reads the records of one file after the other.
pub(super) struct Cursor {
    scanner: Scanner,
    /// As far as it may be read.
    segment: Segment,
    /// The number that the next record should have.
    expected: u64,
}

impl Cursor {
    /// Reads a file from that offset on; the record there should have that number.
    pub(super) fn open(segment: Segment, offset: u64, expected: u64) -> Result<Cursor, DiskError> {
        Ok(Cursor {
            scanner: Scanner::open(&segment.path, offset, segment.len)?,
            segment,
            expected,
        })
    }

    /// How far it has read.
    pub(super) fn position(&self) -> DiskPosition {
        DiskPosition {
            segment: self.segment.first,
            end: self.scanner.offset(),
            number: self.expected.saturating_sub(1),
            next: self.expected,
        }
    }

    /// The file has grown.
    pub(super) fn reach(&mut self, segment: Segment) {
        self.scanner.reach(segment.len);
        self.segment = segment;
    }

    /// Reads up to so many records and about so many bytes.
    pub(super) fn read(&mut self, records: usize, bytes: u64) -> Result<Vec<Entry>, DiskError> {
        let (mut entries, from) = (Vec::new(), self.scanner.offset());
        while entries.len() < records && self.scanner.offset() - from < bytes {
            match self.scanner.next()? {
                Item::End => break,
                Item::Record {
                    offset,
                    end,
                    number,
                    body,
                } => {
                    if number > self.expected {
                        let raw = Bytes::new();
                        let position = self.pass(offset, number);
                        entries.push(Entry::Damaged {
                            position,
                            offset,
                            what: Damage::Missing,
                            raw,
                        });
                    }
                    self.expected = number;
                    let position = self.pass(end, number + 1);
                    entries.push(Entry::Record {
                        position,
                        offset,
                        body,
                    });
                }
                Item::Damaged {
                    offset,
                    end,
                    what,
                    raw,
                    next,
                } => {
                    let next = next.unwrap_or(self.segment.next);
                    let position = self.pass(end, next.max(self.expected));
                    entries.push(Entry::Damaged {
                        position,
                        offset,
                        what,
                        raw,
                    });
                }
            }
        }
        Ok(entries)
    }

    fn pass(&mut self, end: u64, next: u64) -> DiskPosition {
        let position = DiskPosition {
            segment: self.segment.first,
            end,
            number: self.expected,
            next,
        };
        self.expected = next;
        position
    }
}
