//! What a run leaves behind for the next: the settled base, the lines settled above it, the time.
//!
//! The file is text, a key and a value a line, and ends with a checksum of all before it:
//! ```text
//! forebay-lines 1
//! input-bytes 1873000
//! prefix-bytes 4096
//! prefix-hash 9ae16a3b2f90404f
//! base-line 1200
//! base-end 31337
//! saved-at-unix-ns 1700000000000000000
//! done 000000000000000b
//! checksum 1234567890abcdef
//! ```
//! It is written beside its place, flushed to the disk, and renamed: whoever reads it finds a whole
//! one, old or new.

use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use super::LinePosition;

const NAME: &str = "lines.state";
const HEAD: &str = "forebay-lines 1";
/// So many bytes of the input's start tell it from another input.
const PREFIX: u64 = 4096;

/// Which input a state belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// Its length in bytes when the run started. A longer one is taken for the same, grown.
    pub bytes: u64,
    /// How many of its first bytes were hashed.
    pub prefix_bytes: u64,
    /// Their hash.
    pub prefix_hash: u64,
}

/// The start of an input.
pub(super) struct Prefix {
    bytes: u64,
    start: Vec<u8>,
}

impl Prefix {
    pub(super) fn of(path: &Path) -> io::Result<Prefix> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut start = Vec::new();
        file.take(PREFIX).read_to_end(&mut start)?;
        Ok(Prefix { bytes, start })
    }

    fn identity(&self) -> Identity {
        Identity {
            bytes: self.bytes,
            prefix_bytes: self.start.len() as u64,
            prefix_hash: hash(&self.start),
        }
    }

    /// Why this is not the input of that identity, if it is not.
    fn differs(&self, from: &Identity) -> Option<String> {
        if self.bytes < from.bytes {
            return Some(format!(
                "the input had {} bytes and has {}",
                from.bytes, self.bytes
            ));
        }
        match self.start.get(..from.prefix_bytes as usize) {
            Some(start) if hash(start) == from.prefix_hash => None,
            _ => Some("the input starts with other bytes".to_owned()),
        }
    }
}

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// How far the lines of an input are settled, as a run saved it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Every line up to here is settled.
    pub base: LinePosition,
    /// Which lines above it are settled as well: line `base.line + 1` in the lowest bit of the first
    /// word.
    pub done: Vec<u64>,
    /// When it was true, by the wall clock.
    pub saved_at_unix_ns: u64,
    /// Whose lines.
    pub input: Identity,
}

impl State {
    /// Whether that line was settled above the base. A line up to the base is not asked for.
    #[must_use]
    pub fn is_done(&self, line: u64) -> bool {
        let Some(above) = line.checked_sub(self.base.line + 1) else {
            return false;
        };
        let word = usize::try_from(above / 64)
            .ok()
            .and_then(|index| self.done.get(index));
        word.is_some_and(|word| word & (1 << (above % 64)) != 0)
    }

    /// The state kept in a directory; none if there is none. For who looks on: it takes no lock.
    ///
    /// # Errors
    /// [`StateError::Torn`] if it is not whole.
    pub fn read(directory: impl AsRef<Path>) -> Result<Option<State>, StateError> {
        let path = directory.as_ref().join(NAME);
        match fs::read_to_string(&path) {
            Ok(text) => match State::parse(&text) {
                Ok(state) => Ok(Some(state)),
                Err(what) => Err(StateError::Torn { path, what }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(StateError::Torn {
                path,
                what: "it is not text".to_owned(),
            }),
            Err(error) => Err(StateError::Io { path, error }),
        }
    }

    fn print(&self) -> String {
        let mut text = format!(
            "{HEAD}\ninput-bytes {}\nprefix-bytes {}\nprefix-hash {:016x}\nbase-line {}\n\
             base-end {}\nsaved-at-unix-ns {}\ndone",
            self.input.bytes,
            self.input.prefix_bytes,
            self.input.prefix_hash,
            self.base.line,
            self.base.end,
            self.saved_at_unix_ns,
        );
        for word in &self.done {
            let _ = write!(text, " {word:016x}");
        }
        text.push('\n');
        let sum = hash(text.as_bytes());
        let _ = writeln!(text, "checksum {sum:016x}");
        text
    }

    fn parse(text: &str) -> Result<State, String> {
        let (body, sum) = text.rsplit_once("checksum ").ok_or("it has no checksum")?;
        let sum = sum.strip_suffix('\n').ok_or("its last line is cut off")?;
        if u64::from_str_radix(sum, 16) != Ok(hash(body.as_bytes())) {
            return Err("its checksum is wrong".to_owned());
        }
        let mut lines = body.lines();
        if lines.next() != Some(HEAD) {
            return Err(format!("it does not start with `{HEAD}`"));
        }
        let mut value = |key: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(key));
            line.map(str::trim_start)
                .ok_or_else(|| format!("it has no `{key}`"))
        };
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|error| format!("{text}: {error}"))
        };
        let hex =
            |text: &str| u64::from_str_radix(text, 16).map_err(|error| format!("{text}: {error}"));
        Ok(State {
            input: Identity {
                bytes: number(value("input-bytes")?)?,
                prefix_bytes: number(value("prefix-bytes")?)?,
                prefix_hash: hex(value("prefix-hash")?)?,
            },
            base: LinePosition {
                line: number(value("base-line")?)?,
                end: number(value("base-end")?)?,
            },
            saved_at_unix_ns: number(value("saved-at-unix-ns")?)?,
            done: value("done")?
                .split_ascii_whitespace()
                .map(hex)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Why the state of an earlier run is of no use, or cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not whole, or something else wrote it.
    #[error("{} is no state of a run: {what}; remove it to start from the first line", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It was saved for another input.
    #[error("{} belongs to another input: {why}; give that, or another directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How they differ.
        why: String,
    },
    /// Another run keeps its state there.
    #[error("{} is in use by another run", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The input has changed where the state ends.
    #[error(
        "no line ends at byte {offset} any more: the input has changed since the state was saved"
    )]
    Moved {
        /// Where a line ended.
        offset: u64,
    },
    /// The source was declared `untracked`: nobody knows what is settled.
    #[error("an untracked source has no state: leave `.untracked()` or `.state(..)` out")]
    Untracked,
    /// Only files can be read from the middle.
    #[error("only a file can be resumed")]
    NotAFile,
}

/// The place of a state, locked for one run.
#[derive(Debug)]
pub(super) struct StateFile {
    directory: PathBuf,
    prefix: Identity,
    found: Result<Option<State>, StateError>,
    /// Held as long as the run may save: the lock is given back with it, also by a crash.
    _lock: File,
}

impl StateFile {
    /// Takes the directory for this run, and makes it if need be.
    pub(super) fn open(directory: &Path, prefix: Prefix) -> Result<StateFile, StateError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| StateError::Io { path, error }
        };
        fs::create_dir_all(directory).map_err(at(directory))?;
        let path = directory.join("lines.lock");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::InUse {
                    path: directory.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(StateError::Io { path, error }),
        }
        let found = match State::read(directory) {
            Ok(Some(state)) => match prefix.differs(&state.input) {
                Some(why) => Err(StateError::Foreign {
                    path: directory.join(NAME),
                    why,
                }),
                None => Ok(Some(state)),
            },
            other => other,
        };
        Ok(StateFile {
            directory: directory.to_owned(),
            prefix: prefix.identity(),
            found,
            _lock: lock,
        })
    }

    /// What an earlier run saved.
    pub(super) fn load(&mut self) -> Result<Option<State>, StateError> {
        std::mem::replace(&mut self.found, Ok(None))
    }

    /// Saves: after this, who reads finds this state or a later one, whatever happens.
    pub(super) fn save(&self, mut state: State) -> Result<(), StateError> {
        state.input = self.prefix;
        let (path, new) = (
            self.directory.join(NAME),
            self.directory.join("lines.state.new"),
        );
        let written = File::create(&new)
            .and_then(|mut file| {
                file.write_all(state.print().as_bytes())?;
                file.sync_data()
            })
            .and_then(|()| fs::rename(&new, &path))
            // The rename itself is on the disk once the directory is.
            .and_then(|()| File::open(&self.directory)?.sync_all());
        written.map_err(|error| StateError::Io { path, error })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            base: LinePosition { line: 7, end: 99 },
            done: vec![0b101, 1 << 63],
            saved_at_unix_ns: 12,
            input: Identity {
                bytes: 1000,
                prefix_bytes: 10,
                prefix_hash: 0xabc,
            },
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        assert_eq!(State::parse(&state().print()), Ok(state()));
        let empty = State::default();
        assert_eq!(State::parse(&empty.print()), Ok(empty));
    }

    #[test]
    fn a_state_cut_off_or_changed_anywhere_is_refused() {
        let text = state().print();
        for cut in 0..text.len() {
            assert!(State::parse(&text[..cut]).is_err(), "cut at {cut}");
        }
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert_ne!(State::parse(&changed), Ok(state()), "changed at {place}");
            }
        }
    }

    #[test]
    fn bits_are_those_of_the_lines_above_the_base() {
        let state = state();
        let done: Vec<u64> = (0..300).filter(|line| state.is_done(*line)).collect();
        assert_eq!(done, [8, 10, 7 + 128]);
    }
}
