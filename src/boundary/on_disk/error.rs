//! What can go wrong with a buffer on disk, and what is wrong with a record.

use std::io;
use std::path::{Path, PathBuf};

/// The files of a buffer are of no use, or cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The system refused: the disk is full, a permission is missing, a file is gone.
    #[error("cannot {doing} {}: {error}", path.display())]
    Io {
        /// What was tried: `open`, `read`, `write`, `sync`, ..
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another run, of this process or another one, has the buffer open.
    #[error("{} is in use by another run", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file was written by another version of this library.
    #[error("{} is in a format that is not known here: {found:?}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it starts with.
        found: String,
    },
    /// The records are handed over by a source that was declared `untracked`: nobody would know
    /// which of them may be forgotten.
    #[error("a buffer on disk cannot be untracked: leave `.untracked()` out")]
    Untracked,
}

impl DiskError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
        let path = path.to_owned();
        move |error| DiskError::Io { doing, path, error }
    }
}

/// What is wrong with bytes of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Damage {
    /// The checksum of a record is not that of its bytes.
    Checksum,
    /// No record starts there.
    NoRecord,
    /// A record is whole, and not what this library writes.
    Content,
    /// Records that were there are not there any more.
    Missing,
}

/// Records that were acknowledged and cannot be handed on.
///
/// The run that finds them hands on one [`Stored`](super::Stored) in their place, and goes on with
/// the next record that is whole.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} at byte {offset}: {} ({records} records lost in {bytes} bytes)", file.display(), self.words())]
pub struct Damaged {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How many bytes were passed over.
    pub bytes: u64,
    /// How many records they were, as the numbers of the others tell.
    pub records: u64,
    /// What is wrong.
    pub what: Damage,
}

impl Damaged {
    fn words(&self) -> &'static str {
        match self.what {
            Damage::Checksum => "the checksum of a record is wrong",
            Damage::NoRecord => "no record starts there",
            Damage::Content => "a record has unknown content",
            Damage::Missing => "records are missing",
        }
    }
}
