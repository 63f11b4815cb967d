//! Reads the records of one file, and finds its way past what is damaged.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::{Damage, DiskError};
use super::format::{FILE_HEAD, FILE_KIND, HEAD, Head, MAGIC};

/// So many bytes are read at once.
const BLOCK: usize = 64 << 10;
/// So many bytes of what is damaged are kept.
const KEPT: u64 = 64 << 10;

/// What lies next in a file.
#[derive(Debug)]
pub(super) enum Item {
    Record {
        offset: u64,
        end: u64,
        number: u64,
        body: Bytes,
    },
    Damaged {
        offset: u64,
        end: u64,
        what: Damage,
        /// Its first bytes.
        raw: Bytes,
        /// The number of the record that follows, if one does in this file.
        next: Option<u64>,
    },
    /// All was read, up to where it is known to reach.
    End,
}

pub(super) struct Scanner {
    file: File,
    path: PathBuf,
    /// Bytes of the file from `start` on.
    buffer: Vec<u8>,
    start: u64,
    /// How many of them are dealt with.
    done: usize,
    /// How far the file is known to hold records.
    limit: u64,
}

impl Scanner {
    /// Reads from that offset on.
    pub(super) fn open(path: &Path, offset: u64, limit: u64) -> Result<Scanner, DiskError> {
        let mut file = File::open(path).map_err(DiskError::io("open", path))?;
        file.seek(SeekFrom::Start(offset))
            .map_err(DiskError::io("read", path))?;
        Ok(Scanner {
            file,
            path: path.to_owned(),
            buffer: Vec::new(),
            start: offset,
            done: 0,
            limit,
        })
    }

    /// The file has grown since.
    pub(super) fn reach(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Where the next item starts.
    pub(super) fn offset(&self) -> u64 {
        self.start + self.done as u64
    }

    pub(super) fn next(&mut self) -> Result<Item, DiskError> {
        let offset = self.offset();
        if offset >= self.limit {
            return Ok(Item::End);
        }
        if offset == 0 {
            if self.file_head()? {
                self.done += FILE_HEAD.len();
                return self.next();
            }
            return self.resync(offset);
        }
        match self.head()? {
            Some(head) if offset + (HEAD + head.body) as u64 <= self.limit => {
                let whole = HEAD + head.body;
                self.need(whole)?;
                let record = self.rest().get(..whole).unwrap_or_default();
                let body = record.get(HEAD..).unwrap_or_default();
                let end = offset + whole as u64;
                let item = if head.fits(body) {
                    Item::Record {
                        offset,
                        end,
                        number: head.number,
                        body: Bytes::copy_from_slice(body),
                    }
                } else {
                    Item::Damaged {
                        offset,
                        end,
                        what: Damage::Checksum,
                        raw: Bytes::copy_from_slice(&record[..record.len().min(KEPT as usize)]),
                        next: Some(head.number + 1),
                    }
                };
                self.done += whole;
                Ok(item)
            }
            // A head without a record of that length is as good as none.
            _ => self.resync(offset),
        }
    }

    /// What was read and is not dealt with.
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.done..).unwrap_or_default()
    }

    /// Reads until so many bytes are at hand, or all that are known to be there.
    fn need(&mut self, count: usize) -> Result<(), DiskError> {
        if self.rest().len() >= count {
            return Ok(());
        }
        self.buffer.drain(..self.done);
        self.start += self.done as u64;
        self.done = 0;
        let read_to = self.start + self.buffer.len() as u64;
        let known = self.limit.saturating_sub(read_to);
        let wanted = (count - self.buffer.len()).max(BLOCK) as u64;
        (&mut self.file)
            .take(wanted.min(known))
            .read_to_end(&mut self.buffer)
            .map_err(DiskError::io("read", &self.path))?;
        Ok(())
    }

    fn head(&mut self) -> Result<Option<Head>, DiskError> {
        self.need(HEAD)?;
        Ok(Head::parse(self.rest()))
    }

    /// Whether the file starts as it should. One of another version is none to read.
    fn file_head(&mut self) -> Result<bool, DiskError> {
        self.need(FILE_HEAD.len())?;
        let rest = self.rest();
        if rest.starts_with(FILE_HEAD) {
            return Ok(true);
        }
        let found = rest.get(..FILE_HEAD.len()).unwrap_or_default();
        if found.starts_with(FILE_KIND) && found.ends_with(b"\n") {
            return Err(DiskError::Format {
                path: self.path.clone(),
                found: String::from_utf8_lossy(found).trim_end().to_owned(),
            });
        }
        Ok(false)
    }

    /// Looks for the next head.
    fn resync(&mut self, offset: u64) -> Result<Item, DiskError> {
        let mut raw = Vec::new();
        let mut pass = |scanner: &mut Scanner, count: usize| {
            let kept = (KEPT as usize).saturating_sub(raw.len()).min(count);
            raw.extend_from_slice(scanner.rest().get(..kept).unwrap_or_default());
            scanner.done += count;
        };
        pass(self, 1);
        let next = loop {
            self.need(HEAD)?;
            let rest = self.rest();
            if rest.len() < HEAD {
                let count = rest.len();
                pass(self, count);
                break None;
            }
            match rest.windows(MAGIC.len()).position(|bytes| bytes == MAGIC) {
                Some(0) => {
                    let end = |head: &Head| self.offset() + (HEAD + head.body) as u64;
                    match Head::parse(rest).filter(|head| end(head) <= self.limit) {
                        Some(head) => break Some(head.number),
                        None => pass(self, 1),
                    }
                }
                Some(place) => pass(self, place),
                // The first bytes of a head may be the last that were read.
                None => {
                    let count = rest.len() - (MAGIC.len() - 1);
                    pass(self, count);
                }
            }
        };
        Ok(Item::Damaged {
            offset,
            end: self.offset(),
            what: Damage::NoRecord,
            raw: Bytes::from(raw),
            next,
        })
    }
}
