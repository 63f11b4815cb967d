//! What can go wrong when the host is looked at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file of the system that could not be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// It is there, but cannot be read, or it must be there and is not.
    #[error("{} cannot be read: {why}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why not.
        why: io::ErrorKind,
    },
    /// It does not say what it should.
    #[error("{} says {text:?}, where {expected} was expected", file.display())]
    Malformed {
        /// Which.
        file: PathBuf,
        /// What it says: the line, at most 100 characters of it.
        text: String,
        /// What it should say.
        expected: &'static str,
    },
    /// The thread that samples could not be started.
    #[error("no thread: {0}")]
    NoThread(io::ErrorKind),
}

impl HostError {
    pub(super) fn malformed(file: &Path, text: &str, expected: &'static str) -> HostError {
        HostError::Malformed {
            file: file.to_owned(),
            text: text.trim().chars().take(100).collect(),
            expected,
        }
    }
}

/// The text of a file; `None` if there is none.
pub(super) fn read(file: &Path) -> Result<Option<String>, HostError> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HostError::Unreadable {
            file: file.to_owned(),
            why: error.kind(),
        }),
    }
}

/// The text of a file that must be there.
pub(super) fn read_needed(file: &Path) -> Result<String, HostError> {
    read(file)?.ok_or_else(|| HostError::Unreadable {
        file: file.to_owned(),
        why: io::ErrorKind::NotFound,
    })
}

/// A number that is all a text says.
pub(super) fn number(file: &Path, text: &str) -> Result<u64, HostError> {
    text.trim()
        .parse()
        .map_err(|_| HostError::malformed(file, text, "a number"))
}

/// The number behind a key in a file of lines `key number`; `None` if the key is not there.
pub(super) fn keyed(file: &Path, text: &str, key: &str) -> Result<Option<u64>, HostError> {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some(key) {
            let value = words.next().and_then(|word| word.parse().ok());
            let malformed = || HostError::malformed(file, line, "a key and a number");
            return value.ok_or_else(malformed).map(Some);
        }
    }
    Ok(None)
}
