//! The thread that reads: blocks of whole lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::state::{Prefix, State, StateError, StateFile};
use super::{Input, LinePosition, LineTooLong, LinesError, TooLong};

/// A block is handed over at this size, or when its reader has nothing more at hand.
const BLOCK_BYTES: usize = 32 << 10;

pub(super) enum Message {
    /// The state of an earlier run, before the first block of a source that keeps one.
    Resumed(StateFile, State),
    Block(Block),
    End,
    Failed(LinesError),
}

pub(super) enum Start {
    At(LinePosition),
    /// Where the state in that directory says.
    Resume(PathBuf),
}

/// One line of a block.
#[derive(Clone)]
pub(super) struct Span {
    pub(super) number: u64,
    pub(super) offset: u64,
    /// The offset of the byte after it.
    pub(super) end: u64,
    /// Its bytes in the block, with its end and without.
    pub(super) raw: Range<usize>,
    pub(super) text: Range<usize>,
    /// Its length without its end, though it be cut.
    pub(super) len: u64,
}

pub(super) struct Block {
    pub(super) bytes: Bytes,
    lines: std::iter::Peekable<std::vec::IntoIter<Span>>,
}

impl Block {
    pub(super) fn peek(&mut self) -> Option<Span> {
        self.lines.peek().cloned()
    }

    pub(super) fn pass(&mut self) {
        self.lines.next();
    }
}

pub(super) struct Task {
    pub(super) input: Arc<Input>,
    pub(super) place: Arc<str>,
    pub(super) gzip: bool,
    pub(super) max_len: usize,
    pub(super) too_long: TooLong,
    pub(super) start: Start,
    pub(super) messages: mpsc::Sender<Message>,
}

/// The source wants no more.
struct Gone;

impl Task {
    pub(super) fn run(mut self) {
        let last = match self.read() {
            Ok(Ok(())) => Message::End,
            Ok(Err(Gone)) => return,
            Err(error) => Message::Failed(error),
        };
        let _ = self.messages.blocking_send(last);
    }

    fn read(&mut self) -> Result<Result<(), Gone>, LinesError> {
        let start = match std::mem::replace(&mut self.start, Start::At(LinePosition::default())) {
            Start::At(start) => start,
            Start::Resume(directory) => {
                let Input::File(path) = &*self.input else {
                    return Err(StateError::NotAFile.into());
                };
                let prefix = Prefix::of(path).map_err(|error| self.open_error(error))?;
                let mut file = StateFile::open(&directory, prefix)?;
                let state = file.load()?.unwrap_or_default();
                let base = state.base;
                if self
                    .messages
                    .blocking_send(Message::Resumed(file, state))
                    .is_err()
                {
                    return Ok(Err(Gone));
                }
                base
            }
        };
        let reader = self.open(start)?;
        self.read_lines(reader, start)
    }

    fn open_error(&self, error: io::Error) -> LinesError {
        LinesError::Open {
            place: self.place.to_string(),
            error,
        }
    }

    fn open(&self, start: LinePosition) -> Result<BufReader<Box<dyn Read>>, LinesError> {
        let reader: Box<dyn Read> = match &*self.input {
            Input::File(path) => {
                let mut file = File::open(path).map_err(|error| self.open_error(error))?;
                if !self.gzip && start.end > 0 {
                    // A line that was the last and has grown since is another line now.
                    let mut before = [0];
                    file.seek(SeekFrom::Start(start.end - 1))
                        .and_then(|_| file.read_exact(&mut before))
                        .map_err(|error| self.read_error(start.end, error))?;
                    let length = file.metadata().map_or(0, |about| about.len());
                    if before != *b"\n" && length > start.end {
                        return Err(StateError::Moved { offset: start.end }.into());
                    }
                }
                Box::new(file)
            }
            Input::Stdin => Box::new(io::stdin()),
            Input::Reader(reader) => match reader.lock() {
                Ok(mut reader) => reader.take().unwrap_or_else(|| Box::new(io::empty())),
                Err(_) => Box::new(io::empty()),
            },
        };
        if !self.gzip {
            return Ok(BufReader::with_capacity(BLOCK_BYTES, reader));
        }
        let mut reader = BufReader::with_capacity(BLOCK_BYTES, gunzip(reader));
        let passed = io::copy(&mut reader.by_ref().take(start.end), &mut io::sink())
            .map_err(|error| self.read_error(0, error))?;
        if passed < start.end {
            return Err(StateError::Moved { offset: start.end }.into());
        }
        Ok(reader)
    }

    fn read_error(&self, offset: u64, error: io::Error) -> LinesError {
        LinesError::Read {
            place: self.place.to_string(),
            offset,
            error,
        }
    }

    fn read_lines(
        &self,
        reader: BufReader<Box<dyn Read>>,
        start: LinePosition,
    ) -> Result<Result<(), Gone>, LinesError> {
        let mut splitter = Splitter {
            reader,
            at: start,
            max_len: self.max_len,
            cut: self.too_long == TooLong::Cut,
            bytes: Vec::with_capacity(BLOCK_BYTES + (BLOCK_BYTES >> 3)),
            lines: Vec::new(),
        };
        loop {
            let next = splitter.next();
            let more = matches!(next, Ok(true));
            if more && !splitter.is_block() {
                continue;
            }
            // What came before an error goes first.
            if let Some(block) = splitter.take()
                && self.messages.blocking_send(Message::Block(block)).is_err()
            {
                return Ok(Err(Gone));
            }
            match next {
                Ok(true) => {}
                Ok(false) => return Ok(Ok(())),
                Err(Broken::TooLong(error)) => return Err(error.into()),
                Err(Broken::Read(error)) => return Err(self.read_error(splitter.at.end, error)),
            }
        }
    }
}

#[cfg(feature = "gzip")]
fn gunzip(reader: Box<dyn Read>) -> Box<dyn Read> {
    Box::new(flate2::read::MultiGzDecoder::new(reader))
}

/// Nothing can ask for it without the feature.
#[cfg(not(feature = "gzip"))]
fn gunzip(reader: Box<dyn Read>) -> Box<dyn Read> {
    reader
}

enum Broken {
    TooLong(LineTooLong),
    Read(io::Error),
}

/// Cuts what a reader gives into lines.
struct Splitter {
    reader: BufReader<Box<dyn Read>>,
    at: LinePosition,
    max_len: usize,
    cut: bool,
    bytes: Vec<u8>,
    lines: Vec<Span>,
}

impl Splitter {
    /// Adds a line to the block; false at the end of the input.
    fn next(&mut self) -> Result<bool, Broken> {
        let from = self.bytes.len();
        // A line end may follow what is allowed.
        let longest = (self.max_len as u64).saturating_add(2);
        let mut limited = (&mut self.reader).take(longest);
        let read = match limited.read_until(b'\n', &mut self.bytes) {
            Ok(read) => read,
            Err(error) => {
                self.bytes.truncate(from);
                return Err(Broken::Read(error));
            }
        };
        if read == 0 {
            return Ok(false);
        }
        let mut raw = read as u64;
        let line = &self.bytes[from..];
        let mut len = line.len() as u64 - line_end(line);
        if len > self.max_len as u64 {
            let too_long = LineTooLong {
                line: self.at.line + 1,
                offset: self.at.end,
                max: self.max_len as u64,
            };
            if !self.cut {
                self.bytes.truncate(from);
                return Err(Broken::TooLong(too_long));
            }
            if !line.ends_with(b"\n") {
                let (passed, end) = self.pass_over()?;
                raw += passed;
                len = raw - end;
            }
            self.bytes.truncate(from + self.max_len);
        }
        let kept = self.bytes.len();
        let text = from..kept.min(from + len as usize);
        let offset = self.at.end;
        self.at = LinePosition {
            line: self.at.line + 1,
            end: offset + raw,
        };
        self.lines.push(Span {
            number: self.at.line,
            offset,
            end: self.at.end,
            raw: from..kept,
            text,
            len,
        });
        Ok(true)
    }

    /// Reads to the end of a line without keeping it: how many bytes it had still, and how many of
    /// them are its end. The last byte kept may be the `\r` of that end.
    fn pass_over(&mut self) -> Result<(u64, u64), Broken> {
        let mut passed = 0;
        let mut last = self.bytes.last().copied();
        loop {
            let found = match self.reader.fill_buf() {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Broken::Read(error)),
            };
            if found.is_empty() {
                return Ok((passed, 0));
            }
            if let Some(place) = found.iter().position(|byte| *byte == b'\n') {
                let before = place
                    .checked_sub(1)
                    .and_then(|place| found.get(place))
                    .copied();
                let carriage = before.or(last) == Some(b'\r');
                self.reader.consume(place + 1);
                return Ok((passed + place as u64 + 1, 1 + u64::from(carriage)));
            }
            last = found.last().copied();
            let count = found.len();
            passed += count as u64;
            self.reader.consume(count);
        }
    }

    /// Whether what was read should be handed over: enough, or the reader would have to wait for
    /// more.
    fn is_block(&self) -> bool {
        self.bytes.len() >= BLOCK_BYTES || self.reader.buffer().is_empty()
    }

    fn take(&mut self) -> Option<Block> {
        if self.lines.is_empty() {
            return None;
        }
        let capacity = BLOCK_BYTES + (BLOCK_BYTES >> 3);
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(capacity));
        let lines = std::mem::take(&mut self.lines);
        Some(Block {
            bytes: Bytes::from(bytes),
            lines: lines.into_iter().peekable(),
        })
    }
}

fn line_end(line: &[u8]) -> u64 {
    if line.ends_with(b"\r\n") {
        2
    } else {
        u64::from(line.ends_with(b"\n"))
    }
}
