//! The files of a buffer as they are written: the newest is appended to, and a new one begun when it
//! is full.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use super::SyncPolicy;
use super::error::DiskError;
use super::format::{self, FILE_HEAD};
use super::place::{Found, Place, Segment};
use super::settled::Settled;

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
