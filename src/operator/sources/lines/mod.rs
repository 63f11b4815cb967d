//! The lines of a file, of standard input or of any reader.
//!
//! A thread of its own reads, so that a slow disk or an idle terminal holds up no island. It hands
//! over blocks of whole lines through a channel of [`BLOCKS`] places; the bytes of a block are shared
//! by its lines.
//!
//! # Invariants
//! - The payloads of all origins, one after the other, are the input, byte for byte (but for lines
//!   that were cut: see [`TooLong::Cut`]).
//! - Every line has the next number; its position is where the next line starts.
//! - A resumed run starts at the saved base and hands over no line that was settled above it.
//!
//! # What it does not do
//! It neither decodes nor validates text: lines are bytes. It does not follow a file that grows.

mod reader;
mod saver;
mod state;

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::chunk::{Chunk, Element, Meta, Origin, Record};
use crate::error::{Cause, Stop};
use crate::operator::{Context, Control, Demand, Fill, Source};
use crate::position::Tracker;
use reader::{Block, Message, Start};
use saver::Saver;
use state::StateFile;
pub use state::{Identity, State, StateError};

/// Blocks of lines between the reading thread and the source.
const BLOCKS: usize = 4;

/// One line of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// Where it starts, in bytes of the (uncompressed) input.
    pub offset: u64,
    /// Its bytes without the line end (`\n` or `\r\n`).
    pub bytes: Bytes,
    /// How many bytes it has without the line end: more than `bytes` if it was cut.
    pub len: u64,
}

impl Line {
    /// Its bytes, unless it was cut.
    ///
    /// ```
    /// use forebay::source::{self, Lines, TooLong};
    ///
    /// let text = Lines::read("text", &b"short\nmuch too long\n"[..]).max_len(8).too_long(TooLong::Cut);
    /// let whole = source::lines(text).map(|line| line.whole().is_ok()).collect().block_on().unwrap();
    /// assert_eq!(whole, [true, false]);
    /// ```
    ///
    /// # Errors
    /// [`LineTooLong`], to be dead-lettered with the line's number, offset and first bytes.
    pub fn whole(&self) -> Result<&Bytes, LineTooLong> {
        let max = self.bytes.len() as u64;
        if self.len <= max {
            return Ok(&self.bytes);
        }
        Err(LineTooLong {
            line: self.number,
            offset: self.offset,
            max,
        })
    }
}

/// A line is longer than allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line} at byte {offset} is longer than {max} bytes")]
pub struct LineTooLong {
    /// Its number, from 1.
    pub line: u64,
    /// Where it starts.
    pub offset: u64,
    /// The longest line allowed, in bytes.
    pub max: u64,
}

/// What is done with a line that is longer than allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TooLong {
    /// The source stops with [`LineTooLong`].
    #[default]
    Stop,
    /// Its first bytes are handed over, and the rest is passed over: [`Line::whole`] tells.
    Cut,
}

/// What stopped the reading.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinesError {
    /// The input cannot be opened.
    #[error("{place} cannot be opened: {error}")]
    Open {
        /// The path.
        place: String,
        /// Why.
        error: std::io::Error,
    },
    /// The input cannot be read.
    #[error("{place} cannot be read at byte {offset}: {error}")]
    Read {
        /// The path.
        place: String,
        /// How far it was read.
        offset: u64,
        /// Why.
        error: std::io::Error,
    },
    /// A line is longer than allowed, and the source was told to stop then.
    #[error(transparent)]
    TooLong(#[from] LineTooLong),
    /// The state of an earlier run is of no use.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Where a line ends: what the source needs to start again behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct LinePosition {
    /// The number of the line; 0 before the first.
    pub line: u64,
    /// The offset of the byte after it.
    pub end: u64,
}

pub(super) enum Input {
    File(PathBuf),
    Stdin,
    Reader(Mutex<Option<Box<dyn Read + Send>>>),
}

/// Which lines to read, and how. A path is the lines of that file.
#[must_use = "give it to `source::lines`"]
pub struct Lines {
    pub(super) input: Arc<Input>,
    pub(super) place: Arc<str>,
    pub(super) gzip: bool,
    max_len: usize,
    too_long: TooLong,
    skip_lines: u64,
    origin: bool,
    state: Option<PathBuf>,
    save_every: Duration,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Lines {
    fn new(place: &str, input: Input) -> Lines {
        Lines {
            input: Arc::new(input),
            place: Arc::from(place),
            gzip: false,
            max_len: 1 << 20,
            too_long: TooLong::Stop,
            skip_lines: 0,
            origin: true,
            state: None,
            save_every: Duration::from_millis(50),
        }
    }

    /// The lines of a file.
    pub fn file(path: impl Into<PathBuf>) -> Lines {
        let path = path.into();
        let place = path.to_string_lossy().into_owned();
        Lines::new(&place, Input::File(path))
    }

    /// The lines of standard input. The thread that waits for input ends when the next comes, or
    /// with the process: nothing can interrupt it.
    pub fn stdin() -> Lines {
        Lines::new("stdin", Input::Stdin)
    }

    /// The lines of any reader, named `place` in origins and errors.
    pub fn read(place: &str, reader: impl Read + Send + 'static) -> Lines {
        Lines::new(place, Input::Reader(Mutex::new(Some(Box::new(reader)))))
    }

    /// The input is compressed with gzip, in one member or several. Offsets are those of the
    /// uncompressed text; a resumed run reads from the start and passes over what is settled.
    #[cfg(feature = "gzip")]
    pub fn gzip(mut self) -> Lines {
        self.gzip = true;
        self
    }

    /// The longest line allowed, in bytes without its end. Default: 1 MiB. At least 1.
    pub fn max_len(mut self, bytes: usize) -> Lines {
        self.max_len = bytes.max(1);
        self
    }

    /// What is done with a longer line. Default: [`TooLong::Stop`].
    pub fn too_long(mut self, answer: TooLong) -> Lines {
        self.too_long = answer;
        self
    }

    /// Passes over that many lines at the start, such as a header: they are no elements. They keep
    /// their numbers and offsets, and count as `resumed` in the account. Default: 0.
    ///
    /// ```
    /// use forebay::source::{self, Lines};
    ///
    /// let text = Lines::read("table", &b"name\nAnn\nBob\n"[..]).skip_lines(1);
    /// let names = source::lines(text).map(|line| (line.number, line.bytes)).collect().block_on()?;
    /// assert_eq!(names, [(2, "Ann".into()), (3, "Bob".into())]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn skip_lines(mut self, lines: u64) -> Lines {
        self.skip_lines = lines;
        self
    }

    /// Leaves out the origin of each line (its exact bytes, place, offset and number): one
    /// allocation a line less, and dead letters have no bytes then.
    pub fn without_origin(mut self) -> Lines {
        self.origin = false;
        self
    }

    /// Keeps in that directory how far the lines are settled ([`State`]), and starts there. The
    /// directory is made if it is not there. For files alone: a run from other inputs is refused.
    ///
    /// A state that cannot be saved stops the run, also when its last line has been read and settled:
    /// a run that ended well can be resumed.
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Lines {
        self.state = Some(directory.into());
        self
    }

    /// How long after one saving has begun the next one does. Default: 50 ms; at most 100 ms. On a
    /// disk that takes longer than that they follow one another at once.
    pub fn save_every(mut self, span: Duration) -> Lines {
        self.save_every = span.clamp(Duration::from_millis(1), Duration::from_millis(100));
        self
    }

    pub(crate) fn keeps_origin(&self) -> bool {
        self.origin
    }

    /// Why this cannot run, if it cannot.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        let file = matches!(*self.input, Input::File(_));
        (self.state.is_some() && !file)
            .then_some("only a file can be resumed: leave `.state(..)` out, or read a file")
    }
}

impl From<&str> for Lines {
    fn from(path: &str) -> Lines {
        Lines::file(path)
    }
}

impl From<String> for Lines {
    fn from(path: String) -> Lines {
        Lines::file(path)
    }
}

impl From<&std::path::Path> for Lines {
    fn from(path: &std::path::Path) -> Lines {
        Lines::file(path)
    }
}

impl From<PathBuf> for Lines {
    fn from(path: PathBuf) -> Lines {
        Lines::file(path)
    }
}

/// The source.
pub(crate) struct LinesSource {
    lines: Lines,
    reader: Option<Reader>,
    block: Option<Block>,
    /// The lines settled in an earlier run: above its base, a bit each.
    state: State,
    tracker: Option<Tracker<LinePosition>>,
    /// Dropped at the end of the source: the saver then saves until all is settled, and ends.
    saving: Option<oneshot::Sender<()>>,
}

struct Reader {
    messages: mpsc::Receiver<Message>,
    thread: JoinHandle<()>,
}

impl LinesSource {
    pub(crate) fn new(lines: Lines) -> LinesSource {
        LinesSource {
            lines,
            reader: None,
            block: None,
            state: State::default(),
            tracker: None,
            saving: None,
        }
    }

    /// Starts the reading thread.
    fn open(&mut self, start: Start) -> Result<&mut Reader, Stop> {
        let (sender, messages) = mpsc::channel(BLOCKS);
        let task = reader::Task {
            input: Arc::clone(&self.lines.input),
            place: Arc::clone(&self.lines.place),
            gzip: self.lines.gzip,
            max_len: self.lines.max_len,
            too_long: self.lines.too_long,
            start,
            messages: sender,
        };
        let thread = std::thread::Builder::new()
            .name("forebay-lines".to_owned())
            .spawn(move || task.run())
            .map_err(Stop::error)?;
        Ok(self.reader.insert(Reader { messages, thread }))
    }

    /// The next block. Ready with none at the end.
    fn poll_block(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Block>, Stop>> {
        loop {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                None => {
                    let start = match &self.lines.state {
                        Some(_) if self.tracker.is_none() => {
                            return Poll::Ready(Err(Stop::error(StateError::Untracked)));
                        }
                        Some(directory) => Start::Resume(directory.clone()),
                        None => Start::At(self.state.base),
                    };
                    self.open(start)?
                }
            };
            match reader.messages.poll_recv(cx.task()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Message::Resumed(file, state))) => {
                    self.state = state;
                    self.save(cx, file);
                }
                Poll::Ready(Some(Message::Block(block))) => return Poll::Ready(Ok(Some(block))),
                Poll::Ready(Some(Message::End)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(Message::Failed(error))) => {
                    return Poll::Ready(Err(Stop::error(error)));
                }
                Poll::Ready(None) => return Poll::Ready(Err(Stop::cause(Cause::Broken))),
            }
        }
    }

    /// Has the state saved from now on, whether or not elements flow.
    fn save(&mut self, cx: &Context<'_, '_>, file: StateFile) {
        let Some(tracker) = self.tracker.clone() else {
            return;
        };
        let (alive, ended) = oneshot::channel();
        self.saving = Some(alive);
        let saver = Saver::new(file, tracker, &self.state, cx.stop_run());
        cx.spawn("save the state", saver.run(self.lines.save_every, ended));
    }

    /// Hands over lines of a block within the demand; says whether to go on with the next block.
    fn hand_over(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Line>,
        positions: &mut Vec<LinePosition>,
        want: Demand,
    ) -> Option<Fill> {
        let block = self.block.as_mut()?;
        let mut bytes = out.bytes();
        let credit = self.tracker.as_ref().map_or(usize::MAX, Tracker::credit);
        let mut room = want.items.min(credit);
        while let Some(line) = block.peek() {
            if line.number <= self.lines.skip_lines || self.state.is_done(line.number) {
                let Some(tracker) = &self.tracker else {
                    block.pass();
                    continue;
                };
                // What was skipped must be numbered before what follows it.
                if !out.is_empty() {
                    return Some(Fill::More);
                }
                if tracker.poll_credit(cx.task()).is_pending() {
                    return Some(Fill::Pending);
                }
                tracker.skip([LinePosition {
                    line: line.number,
                    end: line.end,
                }]);
                room = room.min(tracker.credit());
                block.pass();
                continue;
            }
            let weight = line.end - line.offset;
            if out.len() >= room || (!out.is_empty() && bytes + weight > want.bytes) {
                if !out.is_empty() {
                    return Some(Fill::More);
                }
                // What was skipped took the places of the window.
                let credit = self.tracker.as_ref()?.poll_credit(cx.task());
                let Poll::Ready(credit) = credit else {
                    return Some(Fill::Pending);
                };
                room = want.items.min(credit);
                continue;
            }
            bytes += weight;
            positions.push(LinePosition {
                line: line.number,
                end: line.end,
            });
            let origin = self.lines.origin.then(|| {
                Origin::from(Record {
                    payload: Some(block.bytes.slice(line.raw.clone())),
                    place: Arc::clone(&self.lines.place),
                    offset: line.offset,
                    line: Some(line.number),
                    ..Record::default()
                })
            });
            let value = Line {
                number: line.number,
                offset: line.offset,
                bytes: block.bytes.slice(line.text.clone()),
                len: line.len,
            };
            out.push(Element {
                value,
                meta: Meta {
                    bytes: weight,
                    origin,
                    ..Meta::default()
                },
            });
            block.pass();
        }
        self.block = None;
        None
    }

    fn close(&mut self) {
        self.saving = None;
        self.block = None;
        if let Some(reader) = &mut self.reader {
            reader.messages.close();
        }
    }
}

impl Source<Line> for LinesSource {
    type Position = LinePosition;

    fn start(&mut self, tracker: &Tracker<LinePosition>) {
        self.tracker = Some(tracker.clone());
    }

    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Line>,
        positions: &mut Vec<LinePosition>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        loop {
            if let Some(fill) = self.hand_over(cx, out, positions, want) {
                return Ok(fill);
            }
            if out.len() >= want.items {
                return Ok(Fill::More);
            }
            match self.poll_block(cx) {
                Poll::Pending => return Ok(Fill::Pending),
                Poll::Ready(Ok(Some(block))) => self.block = Some(block),
                Poll::Ready(Ok(None)) => return Ok(Fill::Done),
                Poll::Ready(Err(stop)) => return Err(stop),
            }
        }
    }

    fn rewinds(&self) -> bool {
        matches!(*self.lines.input, Input::File(_))
    }

    fn rewind(&mut self, _: &mut Context<'_, '_>, to: Option<&LinePosition>) -> Result<(), Stop> {
        if !self.rewinds() {
            let why = "only lines of a file can be read again: use Answer::Stop";
            return Err(Stop::cause(Cause::Contract(why)));
        }
        let start = to.copied().unwrap_or(self.state.base);
        self.block = None;
        self.open(Start::At(start)).map(|_| ())
    }

    fn control(&mut self, _: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            self.close();
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.close();
        let Some(reader) = &mut self.reader else {
            return Poll::Ready(Ok(()));
        };
        // A thread that waits for a terminal or a socket cannot be told to stop.
        if matches!(*self.lines.input, Input::File(_)) {
            while let Some(message) = std::task::ready!(reader.messages.poll_recv(cx.task())) {
                drop(message);
            }
            if let Some(reader) = self.reader.take() {
                let _ = reader.thread.join();
            }
        }
        Poll::Ready(Ok(()))
    }
}
