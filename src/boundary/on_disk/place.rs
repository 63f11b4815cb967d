//! The directory of a buffer, and what an earlier run left there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Recovered;
use super::error::DiskError;
use super::scanner::{Item, Scanner};
use super::settled::Settled;
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

    pub(super) fn sync(&self) -> Result<(), DiskError> {
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(DiskError::io("sync", &self.path))
    }

    /// The files of records, oldest first, by the numbers they are named after.
    pub(super) fn list(&self) -> Result<Vec<(u64, PathBuf, u64)>, DiskError> {
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
