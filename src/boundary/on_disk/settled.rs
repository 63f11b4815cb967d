//! How far the records of a buffer are settled: what is kept beside them for the next run.
//!
//! The file is text, a key and a value a line, and ends with a checksum of all before it:
//! ```text
//! forebay-queue-settled 1
//! segment 1200
//! end 31337
//! next 1411
//! done 1413-1420 1425-1426
//! checksum 1234abcd
//! ```
//! Every record before `next` is settled; `end` is where that one starts in the file whose first
//! record is `segment`. The ranges of `done` are settled as well; their second number is the first
//! that is not. It is written beside its place and renamed: who reads it finds a whole one.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;

use super::error::DiskError;

const NAME: &str = "settled";
const LINE: &str = "forebay-queue-settled 1";

/// Where a record ends: what its reader needs to start again behind it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DiskPosition {
    /// The file, by the number of its first record.
    pub(super) segment: u64,
    /// The offset of the byte after the record.
    pub(super) end: u64,
    /// The number of the record.
    pub(super) number: u64,
    /// The number of the record after it.
    pub(super) next: u64,
}

impl std::fmt::Debug for DiskPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "record {} (which ends at byte {} of file {})",
            self.number, self.end, self.segment
        )
    }
}

/// Which records are settled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Settled {
    /// Everything up to there.
    pub(super) base: DiskPosition,
    /// And these above it, in order.
    pub(super) done: Vec<Range<u64>>,
}

impl Settled {
    /// Takes what is settled above the base: records by their positions, in order.
    pub(super) fn new(base: DiskPosition, above: &[DiskPosition]) -> Settled {
        let mut done: Vec<Range<u64>> = Vec::new();
        for position in above {
            match done.last_mut() {
                Some(range) if range.end == position.number => range.end = position.next,
                _ => done.push(position.number..position.next),
            }
        }
        Settled { base, done }
    }

    /// Whether that record is settled.
    pub(super) fn covers(&self, number: u64) -> bool {
        number < self.base.next || self.done.iter().any(|range| range.contains(&number))
    }

    /// How many records above the base are settled.
    pub(super) fn above(&self) -> u64 {
        self.done
            .iter()
            .map(|range| range.end.saturating_sub(range.start.max(self.base.next)))
            .sum()
    }

    /// The number after the last record that is known to have been there.
    pub(super) fn known(&self) -> u64 {
        let last = self.done.last().map_or(0, |range| range.end);
        self.base.next.max(last)
    }

    /// What an earlier run left, if it is there. The second value says whether it was torn: then it
    /// counts as not there, and all is handed over again.
    pub(super) fn read(directory: &Path) -> Result<(Option<Settled>, bool), DiskError> {
        let path = directory.join(NAME);
        match fs::read(&path) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let settled = Settled::parse(&text);
                let torn = settled.is_none();
                Ok((settled, torn))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((None, false)),
            Err(error) => Err(DiskError::io("read", &path)(error)),
        }
    }

    /// Replaces what was there; on the disk before that, if it is to be synced.
    pub(super) fn write(&self, directory: &Path, sync: bool) -> Result<(), DiskError> {
        let (path, new) = (directory.join(NAME), directory.join("settled.new"));
        File::create(&new)
            .and_then(|mut file| {
                file.write_all(self.print().as_bytes())?;
                if sync { file.sync_data() } else { Ok(()) }
            })
            .and_then(|()| fs::rename(&new, &path))
            .map_err(DiskError::io("write", &path))
    }

    fn print(&self) -> String {
        let DiskPosition {
            segment, end, next, ..
        } = self.base;
        let mut text = format!("{LINE}\nsegment {segment}\nend {end}\nnext {next}\ndone");
        for range in &self.done {
            let _ = write!(text, " {}-{}", range.start, range.end);
        }
        text.push('\n');
        let sum = crc32fast::hash(text.as_bytes());
        let _ = writeln!(text, "checksum {sum:08x}");
        text
    }

    fn parse(text: &str) -> Option<Settled> {
        let (body, sum) = text.rsplit_once("checksum ")?;
        let sum = u32::from_str_radix(sum.strip_suffix('\n')?, 16).ok()?;
        let mut lines = body.lines();
        if sum != crc32fast::hash(body.as_bytes()) || lines.next() != Some(LINE) {
            return None;
        }
        let mut value = |key: &str| lines.next()?.strip_prefix(key);
        let number = |text: &str| text.trim_start().parse::<u64>().ok();
        let (segment, end, next) = (
            number(value("segment")?)?,
            number(value("end")?)?,
            number(value("next")?)?,
        );
        let range = |text: &str| {
            let (from, to) = text.split_once('-')?;
            Some(number(from)?..number(to)?)
        };
        Some(Settled {
            base: DiskPosition {
                segment,
                end,
                number: next.saturating_sub(1),
                next,
            },
            done: value("done")?
                .split_ascii_whitespace()
                .map(range)
                .collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(number: u64) -> DiskPosition {
        DiskPosition {
            segment: 1000,
            end: number * 10,
            number,
            next: number + 1,
        }
    }

    #[test]
    fn what_is_settled_above_the_base_is_kept_as_ranges() {
        let settled = Settled::new(at(1000), &[at(1003), at(1004), at(1007)]);
        assert_eq!(settled.done, [1003..1005, 1007..1008]);
        assert_eq!((settled.above(), settled.known()), (3, 1008));
        let covered: Vec<u64> = (999..1010).filter(|n| settled.covers(*n)).collect();
        assert_eq!(covered, [999, 1000, 1003, 1004, 1007]);
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Settled::read(folder.path()).unwrap(), (None, false));
        for above in [vec![], vec![at(1003), at(1007)]] {
            let settled = Settled::new(at(1000), &above);
            settled.write(folder.path(), true).unwrap();
            assert_eq!(
                Settled::read(folder.path()).unwrap(),
                (Some(settled), false)
            );
        }
    }

    #[test]
    fn a_torn_one_is_told_and_counts_as_none() {
        let text = Settled::new(at(1000), &[at(1003)]).print();
        for end in 0..text.len() {
            assert_eq!(Settled::parse(&text[..end]), None, "{end} bytes");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), &text[..20]).unwrap();
        assert_eq!(Settled::read(folder.path()).unwrap(), (None, true));
    }
}
