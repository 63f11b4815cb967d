//! The files of a buffer: found at the start, appended to, given up.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::{Damage, DiskError};
use super::format::{self, FILE_HEAD};
use super::scanner::{Item, Scanner};
use super::settled::{DiskPosition, Settled};
use super::{Recovered, SyncPolicy};
use crate::sync::lock;

/// How long to wait for a run that was aborted to let go of the files: the system's call that runs.
const PATIENCE: Duration = Duration::from_secs(1);

/// A file of records.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// The number of its first record, or of the one that will be.
    pub(super) first: u64,
    /// The number after its last record.
    pub(super) next: u64,
    pub(super) path: Arc<Path>,
    /// Its length.
    pub(super) len: u64,
}

/// The directory of a buffer, for this run alone: the lock is given back with it, also by a crash.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: Arc<Path>,
    /// The settled position as it was saved last; locked while one is being saved.
    saved: Mutex<Settled>,
    _lock: File,
}

impl Place {
    pub(super) fn take(path: &Path) -> Result<Place, DiskError> {
        make(path)?;
        let name = path.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(DiskError::io("open", &name))?;
        let step = Duration::from_millis(2);
        let mut waited = Duration::ZERO;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if waited < PATIENCE => {
                    std::thread::sleep(step);
                    waited += step;
                }
                Err(TryLockError::WouldBlock) => {
                    let path = path.to_owned();
                    return Err(DiskError::InUse { path });
                }
                Err(TryLockError::Error(error)) => return Err(DiskError::io("lock", &name)(error)),
            }
        }
        Ok(Place {
            path: Arc::from(path),
            saved: Mutex::default(),
            _lock: lock,
        })
    }

    /// Saves how far all is settled, unless more was saved before.
    pub(super) fn save(&self, settled: &Settled, sync: bool) -> Result<(), DiskError> {
        let mut saved = lock(&self.saved);
        if settled.base.next < saved.base.next || settled == &*saved {
            return Ok(());
        }
        settled.write(&self.path, sync)?;
        if sync {
            self.sync()?;
        }
        saved.clone_from(settled);
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(DiskError::io("sync", &self.path))
    }

    /// The files of records, oldest first, by the numbers they are named after.
    fn list(&self) -> Result<Vec<(u64, PathBuf, u64)>, DiskError> {
        let read = || -> io::Result<Vec<_>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                let name = entry.file_name();
                let number = name
                    .to_str()
                    .and_then(|name| name.strip_suffix(".records"))
                    .and_then(|number| number.parse::<u64>().ok());
                if let Some(number) = number {
                    found.push((number, entry.path(), entry.metadata()?.len()));
                }
            }
            found.sort_unstable();
            Ok(found)
        };
        read().map_err(DiskError::io("read", &self.path))
    }

    /// The file whose first record has that number.
    pub(super) fn file(&self, first: u64) -> PathBuf {
        self.path.join(format!("{first:020}.records"))
    }
}

/// Makes a directory that outlives a loss of power, if it is not there.
fn make(path: &Path) -> Result<(), DiskError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .and_then(|()| {
            let above = path.parent().filter(|above| *above != Path::new(""));
            File::open(above.unwrap_or(Path::new(".")))?.sync_all()
        })
        .map_err(DiskError::io("make", path))
}

/// What lies in a directory.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) segments: Vec<Segment>,
    /// The number of the next record to be written.
    pub(super) next: u64,
    pub(super) settled: Settled,
    pub(super) recovered: Recovered,
}

/// Looks at what an earlier run left, and cuts off what it had not finished writing.
pub(super) fn recover(place: &Place) -> Result<Found, DiskError> {
    let (settled, position_was_torn) = Settled::read(&place.path)?;
    let is_known = settled.is_some();
    let mut settled = settled.unwrap_or_default();
    let mut recovered = Recovered {
        position_was_torn,
        ..Recovered::default()
    };
    let listed = place.list()?;
    let mut segments: Vec<Segment> = Vec::new();
    for (index, (first, path, len)) in listed.iter().enumerate() {
        let after = listed.get(index + 1).map(|(next, ..)| *next);
        let (next, len) = match after {
            Some(next) => (next, *len),
            None => end_of(path, *first, *len, &mut recovered)?,
        };
        segments.push(Segment {
            first: *first,
            next,
            path: Arc::from(path.as_path()),
            len,
        });
    }
    if !is_known {
        settled.base.next = segments.first().map_or(0, |oldest| oldest.first);
    }
    // Numbers are used once, also those of records that were lost with the machine's power.
    let written = segments.last().map_or(0, |last| last.next);
    let next = written.max(settled.known());
    let found = settled.clone();
    settle_into(&segments, &mut settled);
    if settled != found {
        // Before anything is written where the position was.
        settled.write(&place.path, true)?;
    }
    while segments.len() > 1 && segments[0].next <= settled.base.next {
        let gone = segments.remove(0);
        fs::remove_file(&gone.path).map_err(DiskError::io("remove", &gone.path))?;
    }
    recovered.items = next.saturating_sub(settled.base.next + settled.above());
    recovered.bytes = segments.iter().map(|segment| segment.len).sum();
    recovered.files = segments.len();
    if let Some((path, offset)) = &recovered.cut_at {
        let (bytes, path) = (recovered.cut_bytes, path.display());
        tracing::warn!(%path, offset, bytes, "a record that was not finished was cut off");
    }
    if position_was_torn {
        let path = place.path.display();
        tracing::warn!(%path, "the settled position is torn: all records are handed over again");
    }
    Ok(Found {
        segments,
        next,
        settled,
        recovered,
    })
}

/// Has the base lie in a file that is there.
fn settle_into(segments: &[Segment], settled: &mut Settled) {
    let base = &mut settled.base;
    let (segment, end) = match segments
        .iter()
        .find(|segment| segment.first == base.segment)
    {
        Some(segment) => (segment.first, base.end.min(segment.len)),
        None => match segments.iter().find(|segment| segment.next > base.next) {
            Some(segment) => (segment.first, 0),
            None => segments
                .last()
                .map_or((base.segment, 0), |last| (last.first, last.len)),
        },
    };
    base.segment = segment;
    base.end = end;
}

/// The number after the last record of the newest file, and where that record ends; what follows it
/// is cut off.
fn end_of(
    path: &Path,
    first: u64,
    len: u64,
    recovered: &mut Recovered,
) -> Result<(u64, u64), DiskError> {
    let mut scanner = Scanner::open(path, 0, len)?;
    let mut next = first;
    let end = loop {
        match scanner.next()? {
            Item::Record { number, .. } => next = number + 1,
            Item::Damaged {
                next: Some(number), ..
            } => next = next.max(number),
            Item::Damaged { offset, .. } => break offset,
            Item::End => return Ok((next, len)),
        }
    };
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| {
        file.set_len(end)?;
        file.sync_data()
    })
    .map_err(DiskError::io("cut", path))?;
    recovered.cut_bytes += len - end;
    recovered.cut_at = Some((path.to_owned(), end));
    Ok((next, end))
}

/// What a writing came to.
#[derive(Debug, Default)]
pub(super) struct Wrote {
    /// All older files are gone.
    pub(super) anew: bool,
    /// Files that are new or have grown.
    pub(super) segments: Vec<Segment>,
    /// The number of the next record.
    pub(super) next: u64,
    /// Whether everything written so far is on the disk.
    pub(super) synced: bool,
}

/// What to write.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Vec<u8>>,
    /// Everything is settled, and there is no room: the files are given up for a new one first.
    pub(super) anew: Option<Settled>,
    /// Have all that was written on the disk.
    pub(super) sync: bool,
}

/// The newest file, open.
#[derive(Debug)]
struct Active {
    file: File,
    segment: Segment,
}

/// Appends to the newest file, on a thread that may block.
#[derive(Debug)]
pub(super) struct Files {
    place: Arc<Place>,
    active: Option<Active>,
    newest: Option<Segment>,
    next: u64,
    segment_bytes: u64,
    policy: SyncPolicy,
}

impl Files {
    pub(super) fn new(
        place: Arc<Place>,
        found: &Found,
        segment_bytes: u64,
        policy: SyncPolicy,
    ) -> Files {
        Files {
            place,
            active: None,
            newest: found.segments.last().cloned(),
            next: found.next,
            segment_bytes,
            policy,
        }
    }

    pub(super) fn write(&mut self, batch: Batch) -> Result<Wrote, DiskError> {
        let mut wrote = Wrote::default();
        if let Some(settled) = &batch.anew {
            self.begin_anew(settled)?;
            wrote.anew = true;
        }
        let mut pending = Vec::new();
        for mut record in batch.records {
            let segment_bytes = self.segment_bytes;
            let active = self.active()?;
            let len = active.segment.len + pending.len() as u64;
            let is_empty = len <= FILE_HEAD.len() as u64;
            if !is_empty && len + record.len() as u64 > segment_bytes {
                self.append(&mut pending, &mut wrote)?;
                self.roll()?;
            }
            format::seal(&mut record, self.next);
            self.next += 1;
            pending.append(&mut record);
        }
        self.append(&mut pending, &mut wrote)?;
        if batch.sync
            && let Some(active) = &self.active
        {
            let Active { file, segment } = active;
            file.sync_data()
                .map_err(DiskError::io("sync", &segment.path))?;
            wrote.synced = true;
        }
        wrote.next = self.next;
        Ok(wrote)
    }

    fn active(&mut self) -> Result<&mut Active, DiskError> {
        let active = match (self.active.take(), &self.newest) {
            (Some(active), _) => active,
            (None, Some(newest)) => {
                let file = OpenOptions::new()
                    .write(true)
                    .open(&newest.path)
                    .and_then(|mut file| {
                        // Its head may have been cut off with all that followed.
                        if newest.len < FILE_HEAD.len() as u64 {
                            file.write_all(FILE_HEAD)?;
                        }
                        file.seek(SeekFrom::End(0))?;
                        Ok(file)
                    })
                    .map_err(DiskError::io("open", &newest.path))?;
                let mut segment = newest.clone();
                segment.len = segment.len.max(FILE_HEAD.len() as u64);
                Active { file, segment }
            }
            (None, None) => self.begin()?,
        };
        Ok(self.active.insert(active))
    }

    /// Puts another file in the place of the newest: one that cannot be written, say.
    #[cfg(test)]
    pub(super) fn break_for_test(&mut self, file: File) {
        if let Some(active) = &mut self.active {
            active.file = file;
        }
    }

    /// Makes a file for the records from the next on.
    fn begin(&self) -> Result<Active, DiskError> {
        let path = self.place.file(self.next);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(FILE_HEAD)?;
                Ok(file)
            })
            .map_err(DiskError::io("make", &path))?;
        if self.policy != SyncPolicy::Os {
            self.place.sync()?;
        }
        Ok(Active {
            file,
            segment: Segment {
                first: self.next,
                next: self.next,
                path: Arc::from(path),
                len: FILE_HEAD.len() as u64,
            },
        })
    }

    /// Gives up all files for a new one. That nothing in them is wanted any more is saved before.
    fn begin_anew(&mut self, settled: &Settled) -> Result<(), DiskError> {
        self.place.save(settled, self.policy != SyncPolicy::Os)?;
        if self
            .newest
            .as_ref()
            .is_none_or(|newest| newest.first < self.next)
        {
            let made = self.begin()?;
            self.newest = Some(made.segment.clone());
            self.active = Some(made);
        }
        for (first, path, _) in self.place.list()? {
            if first < self.next {
                fs::remove_file(&path).map_err(DiskError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Goes on with a new file.
    fn roll(&mut self) -> Result<(), DiskError> {
        if let Some(Active { file, segment }) = self.active.take()
            && self.policy != SyncPolicy::Os
        {
            file.sync_data()
                .map_err(DiskError::io("sync", &segment.path))?;
        }
        self.active = Some(self.begin()?);
        Ok(())
    }

    fn append(&mut self, pending: &mut Vec<u8>, wrote: &mut Wrote) -> Result<(), DiskError> {
        let next = self.next;
        let Some(Active { file, segment }) = &mut self.active else {
            return Ok(());
        };
        if let Err(error) = file.write_all(pending) {
            // None of it counts as kept, so no half of a record must stay. What cannot be cut off
            // now is when the buffer is opened again.
            let _ = file.set_len(segment.len);
            return Err(DiskError::io("write", &segment.path)(error));
        }
        segment.len += pending.len() as u64;
        segment.next = next;
        pending.clear();
        wrote.segments.push(segment.clone());
        self.newest = Some(segment.clone());
        Ok(())
    }
}

/// A part of the records of a file.
#[derive(Debug)]
pub(super) enum Entry {
    Record {
        position: DiskPosition,
        offset: u64,
        body: bytes::Bytes,
    },
    Damaged {
        position: DiskPosition,
        offset: u64,
        what: Damage,
        raw: bytes::Bytes,
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
                        let raw = bytes::Bytes::new();
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
