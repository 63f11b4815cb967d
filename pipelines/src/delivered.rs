//! A sink of one's own: writes each delivered event as a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::task::Poll;

use bytes::Bytes;
use forebay::chunk::Chunk;
use forebay::error::Stop;
use forebay::operator::{Context, Demand, Sink};
use forebay::outcome::{Outcome, Reason};

/// Appends a line for each event. An event is delivered when the operating system has its line.
pub(crate) struct Delivered {
    file: File,
    lines: Vec<u8>,
    failed: Option<io::Error>,
}

impl Delivered {
    /// Opens a file to append to. A torn last line, left by a crash, is cut off: its event was not
    /// settled and comes again.
    pub(crate) fn open(path: &Path) -> io::Result<Delivered> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        let whole = whole_lines(&mut file)?;
        if whole < file.metadata()?.len() {
            file.set_len(whole)?;
        }
        Ok(Delivered {
            file,
            lines: Vec::new(),
            failed: None,
        })
    }
}

/// Up to where the file consists of whole lines, searched from its end.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(4096);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

impl Sink<Bytes> for Delivered {
    type Output = ();

    fn poll_ready(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        Poll::Ready(match self.failed.take() {
            Some(error) => Err(Stop::error(error)),
            None => Ok(Some(Demand::items(Chunk::<Bytes>::MAX))),
        })
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<Bytes>) {
        self.lines.clear();
        for event in chunk.values() {
            self.lines.extend_from_slice(event);
            self.lines.push(b'\n');
        }
        let outcome = match self.file.write_all(&self.lines) {
            Ok(()) => Outcome::Delivered,
            Err(error) => {
                self.failed = Some(error);
                Outcome::Failed(Reason::Error)
            }
        };
        cx.settle_chunk(chunk, outcome);
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(match self.failed.take() {
            Some(error) => Err(Stop::error(error)),
            None => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_torn_last_line_is_cut_off_and_events_follow() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("delivered");
        for torn in ["", "tor", &"x".repeat(9000)] {
            std::fs::write(&path, format!("one\n{torn}")).unwrap();
            let sink = Delivered::open(&path).unwrap();
            forebay::source::iter(["two", "three"].map(Bytes::from))
                .to(sink)
                .block_on()
                .unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        }
    }
}
