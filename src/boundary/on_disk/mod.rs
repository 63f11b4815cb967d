//! A boundary that keeps its elements on disk: a bounded queue of checked records in files.
//!
//! The island before it ends in a sink that writes records; the one after it starts with a source
//! that reads them, and is tracked like any other: what is settled downstream is forgotten here, and
//! what is not comes again, in this run or the next. Upstream an element is delivered once its record
//! is kept as the [`SyncPolicy`] says.
//!
//! # Files
//! A directory holds `<number of the first record>.records`, each up to the declared size; the file
//! `settled`, which says how far all is settled; and `lock`. Each record has its number, its length,
//! the attributes of its element, and checksums of its head and its body.
//!
//! # Invariants
//! - An element is delivered upstream only when its record is written, and synced where that was
//!   declared; one that could not be written ends as failed, and no half of it stays.
//! - A record is handed on at least once, and never again once its being settled was saved. Order is
//!   kept.
//! - No more records than declared are there and not settled, and all files together are no longer
//!   than declared (one record may be, alone).
//! - A record that is damaged is never handed on as if it were whole, nor passed over in silence: its
//!   place is taken by a [`Stored`] that says so.
//!
//! # What it does not do
//! It does not encrypt or compress, and it is no archive: what is settled is given up file by file.

mod cursor;
mod error;
mod files;
mod format;
mod keeper;
mod place;
mod scanner;
mod settled;
mod shared;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod work;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;

use crate::control::Invalid;
use crate::sync::lock;
pub use error::{Damage, Damaged, DiskError};
use place::{Found, Place};
use shared::Shared;
pub(crate) use sink::{DiskSink, HOLDS};
pub(crate) use source::DiskSource;

/// When what was written is on the disk for sure.
///
/// | what happens | `Each` | `Every(span)` | `Os` |
/// | --- | --- | --- | --- |
/// | the process is killed or panics | nothing is lost | nothing is lost | nothing is lost |
/// | the machine loses its power | nothing is lost | what was delivered in the last `span`, and the time a sync takes | what the system had not written: commonly the last half minute |
///
/// "Lost" is meant of elements that were delivered upstream. What was not comes again from its source.
/// A loss by the latter two is found by the next run: as a file that is cut off, or as damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncPolicy {
    /// Elements are delivered when a sync (`fdatasync`) has put their records on the disk. Those that
    /// come while one is under way share the next.
    #[default]
    Each,
    /// Elements are delivered when their records are written; a sync follows so long afterwards at
    /// the latest (1 ms and more), and at the end.
    Every(Duration),
    /// Elements are delivered when their records are written. The system writes to the disk as it
    /// sees fit.
    Os,
}

impl SyncPolicy {
    pub(crate) fn words(self) -> String {
        match self {
            SyncPolicy::Each => "synced before delivery".to_owned(),
            SyncPolicy::Every(span) => format!("synced every {span:?}"),
            SyncPolicy::Os => "synced by the system".to_owned(),
        }
    }
}

/// A buffer in a directory, opened for one run: see
/// [`buffer_on_disk`](crate::flow::Flow::buffer_on_disk).
///
/// Default: 1,000,000 records, 1 GiB, files of an eighth of that but of 64 MiB at most,
/// [`SyncPolicy::Each`], back-pressure when it is full; on a drain all is handed on.
///
/// # Example
/// ```
/// use forebay::boundary::{DiskBuffer, SyncPolicy};
///
/// # let folder = tempfile::tempdir()?;
/// let buffer = DiskBuffer::open(folder.path().join("spill"))?
///     .items(100_000)
///     .bytes(256 << 20)
///     .sync(SyncPolicy::Each);
/// assert_eq!(buffer.recovered().items, 0, "it is new");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "give it to `Flow::buffer_on_disk`"]
pub struct DiskBuffer {
    place: Arc<Place>,
    found: Found,
    settings: Settings,
    view: DiskView,
}

/// How a buffer on disk is declared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    items: u64,
    bytes: u64,
    segment_bytes: Option<u64>,
    policy: SyncPolicy,
    refuses: bool,
    keeps_on_drain: bool,
}

/// What an earlier run left in a buffer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Records that are there and not settled.
    pub items: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files of records.
    pub files: usize,
    /// Bytes of records that a crash left unfinished, and that were cut off: they were never
    /// delivered, unless power was lost under a policy that allows for it.
    pub cut_bytes: u64,
    /// Where.
    pub cut_at: Option<(PathBuf, u64)>,
    /// The settled position was torn: all records that are there come again.
    pub position_was_torn: bool,
}

impl DiskBuffer {
    /// Opens the buffer in that directory, and makes it if it is not there. What a crash left
    /// unfinished is cut off.
    ///
    /// It reads the newest file, and waits up to a second for a run that was just aborted to let go:
    /// in asynchronous code call it where blocking is allowed.
    ///
    /// # Errors
    /// [`DiskError::InUse`] if another run has it; else that of the system, with the file.
    pub fn open(path: impl AsRef<Path>) -> Result<DiskBuffer, DiskError> {
        let place = Place::take(path.as_ref())?;
        let found = place::recover(&place)?;
        Ok(DiskBuffer {
            place: Arc::new(place),
            found,
            settings: Settings {
                items: 1_000_000,
                bytes: 1 << 30,
                segment_bytes: None,
                policy: SyncPolicy::default(),
                refuses: false,
                keeps_on_drain: false,
            },
            view: DiskView::default(),
        })
    }

    /// At most that many records that are not settled, from 1: those that were handed on included, so
    /// more than what follows gathers or has in flight.
    pub fn items(mut self, items: u64) -> DiskBuffer {
        self.settings.items = items;
        self
    }

    /// At most that many bytes of files, from 1. One record may exceed them, alone. A file is given
    /// up when all of it is settled.
    pub fn bytes(mut self, bytes: u64) -> DiskBuffer {
        self.settings.bytes = bytes;
        self
    }

    /// A new file is begun before one is longer than that: from 1, and at most the
    /// [`bytes`](DiskBuffer::bytes). One record may exceed it, alone.
    pub fn segment_bytes(mut self, bytes: u64) -> DiskBuffer {
        self.settings.segment_bytes = Some(bytes);
        self
    }

    /// When what was written is on the disk for sure.
    pub fn sync(mut self, policy: SyncPolicy) -> DiskBuffer {
        self.settings.policy = match policy {
            SyncPolicy::Every(span) => SyncPolicy::Every(span.max(Duration::from_millis(1))),
            other => other,
        };
        self
    }

    /// When it is full, elements are refused: shed (no room). Default: back-pressure.
    pub fn refuse_when_full(mut self) -> DiskBuffer {
        self.settings.refuses = true;
        self
    }

    /// On a drain, what is on disk stays there for the next run. Default: it is handed on.
    pub fn keep_on_drain(mut self) -> DiskBuffer {
        self.settings.keeps_on_drain = true;
        self
    }

    /// What an earlier run left.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.found.recovered
    }

    /// To look at the buffer while it runs.
    #[must_use]
    pub fn view(&self) -> DiskView {
        self.view.clone()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// Both sides of the buffer.
    pub(crate) fn into_sides<T, E>(self, encode: E) -> (DiskSink<T, E>, DiskSource) {
        let settings = self.settings;
        let settled = self.found.settled.clone();
        let files = files::Files::new(
            Arc::clone(&self.place),
            &self.found,
            settings.segment_bytes(),
            settings.policy,
        );
        let shared = Arc::new(Shared::new(self.place, self.found));
        *lock(&self.view.0) = Arc::downgrade(&shared);
        (
            DiskSink::new(Arc::clone(&shared), settings, files, encode),
            DiskSource::new(shared, settings, settled),
        )
    }
}

impl fmt::Debug for DiskBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskBuffer")
            .field("path", &self.place.path)
            .field("settings", &self.settings)
            .field("recovered", &self.found.recovered)
            .finish_non_exhaustive()
    }
}

impl Settings {
    fn segment_bytes(&self) -> u64 {
        let eighth = (self.bytes / 8).clamp(64 << 10, 64 << 20);
        self.segment_bytes.unwrap_or(eighth.min(self.bytes))
    }

    /// Whether all settings are in range.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        Invalid::unless(self.items > 0, "items", self.items, "1 and more")?;
        Invalid::unless(self.bytes > 0, "bytes", self.bytes, "1 and more")?;
        let segment = self.segment_bytes();
        let fits = (1..=self.bytes).contains(&segment);
        Invalid::unless(fits, "segment_bytes", segment, "1 to `bytes`")
    }

    pub(crate) fn max_items(&self) -> u64 {
        self.items
    }

    pub(crate) fn max_bytes(&self) -> u64 {
        self.bytes
    }

    /// What is printed of it.
    pub(crate) fn note(&self) -> String {
        let full = if self.refuses { ", refuses" } else { "" };
        format!(
            "on disk, {} records, {}{full}",
            self.items,
            self.policy.words()
        )
    }

    /// How it may lose elements for good, if it may.
    pub(crate) fn loses(&self) -> Option<&'static str> {
        if self.refuses {
            Some("refuses elements when it is full: leave `.refuse_when_full()` out")
        } else if self.policy == SyncPolicy::Each {
            None
        } else {
            Some("delivers elements before they are on the disk: use `SyncPolicy::Each`")
        }
    }
}

/// A record as it was read from a buffer on disk, or what is left of damaged ones.
///
/// Class, deadline, origin, weight, trace and the time it was taken in are those of the element that
/// was written.
///
/// # Example
/// ```
/// use forebay::boundary::Stored;
/// use forebay::error::BoxError;
///
/// fn decode(stored: &Stored) -> Result<u64, BoxError> {
///     Ok(std::str::from_utf8(stored.whole()?)?.parse()?)
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    number: u64,
    bytes: Bytes,
    damaged: Option<Damaged>,
}

impl Stored {
    /// The bytes of the value, as they were encoded.
    ///
    /// # Errors
    /// [`Damaged`]: this stands for records that cannot be read any more.
    pub fn whole(&self) -> Result<&Bytes, Damaged> {
        match &self.damaged {
            None => Ok(&self.bytes),
            Some(damaged) => Err(damaged.clone()),
        }
    }

    /// The bytes of the value; of damaged records the first 64 KiB as they lie in the file, heads
    /// included: for dead letters.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.bytes
    }

    /// The number of the record: how many were written to this buffer before it, in all runs.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// How a buffer on disk stands. What it counts it counts from the start of this run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskSnapshot {
    /// Records that are there and not settled.
    pub items: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files of records.
    pub files: usize,
    /// The most records there were.
    pub peak_items: u64,
    /// The most bytes there were.
    pub peak_bytes: u64,
    /// Records that were written.
    pub written: u64,
    /// Elements for which there was no room.
    pub refused: u64,
    /// How many times the disk was waited for.
    pub syncs: u64,
    /// Damaged places that were come upon.
    pub damages: u64,
    /// Their bytes.
    pub damaged_bytes: u64,
    /// Records that were lost there.
    pub lost_records: u64,
}

/// Looks at a buffer on disk while it runs, from anywhere.
#[derive(Clone, Default)]
pub struct DiskView(Arc<Mutex<Weak<Shared>>>);

impl DiskView {
    /// How it stands; `None` before the pipeline is declared and after the run.
    #[must_use]
    pub fn snapshot(&self) -> Option<DiskSnapshot> {
        let shared = lock(&self.0).upgrade()?;
        Some(shared.snapshot())
    }
}

impl fmt::Debug for DiskView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DiskView").field(&self.snapshot()).finish()
    }
}
