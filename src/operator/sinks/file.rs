//! A file that values are appended to.
//!
//! A thread of its own writes, one batch at a time; while it does, the next one gathers.
//!
//! # Invariants
//! - An element is delivered once its bytes were written, and synced where that was declared.
//! - In a file of lines each line is whole: what a killed run left of a line is cut off when the file
//!   is opened again, and files are rotated between records only.
//! - At most [`HOLDS`] elements are inside.
//!
//! # What it does not do
//! It does not escape: a value of a file of lines must not hold a line end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::mpsc;
use std::task::Poll;
use std::thread::JoinHandle;

use crate::chunk::{Chunk, Meta};
use crate::error::{Cause, Stop};
use crate::mark::Mark;
use crate::operator::{Context, Demand, Held, Sink, guard};
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;

/// The most elements it holds: gathering, and being written.
pub(crate) const HOLDS: usize = 2048;

/// When what was written is on the disk for sure. Written data outlives the process in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// When the system sees fit: a loss of power may take the last seconds.
    #[default]
    Written,
    /// Before an element is delivered: a sync a batch.
    Synced,
    /// At the end, and before a file is rotated away.
    SyncedAtEnd,
}

/// Which file to append to, and how. A path is a file of lines.
#[derive(Clone, Debug)]
#[must_use = "give it to `Flow::to_file`"]
pub struct OutFile {
    path: PathBuf,
    lines: bool,
    durability: Durability,
    rotate_at: u64,
}

impl OutFile {
    /// A file of lines: each value, and a line end.
    pub fn lines(path: impl Into<PathBuf>) -> OutFile {
        OutFile {
            path: path.into(),
            lines: true,
            durability: Durability::Written,
            rotate_at: u64::MAX,
        }
    }

    /// A file of bytes: the values, and nothing between them. What a killed run left is not repaired.
    pub fn bytes(path: impl Into<PathBuf>) -> OutFile {
        OutFile {
            lines: false,
            ..OutFile::lines(path)
        }
    }

    /// When what was written is on the disk. Default: [`Durability::Written`].
    pub fn durability(mut self, durability: Durability) -> OutFile {
        self.durability = durability;
        self
    }

    /// Before the file would be longer than that, it is renamed (to its name, a dot and the next
    /// number from 1) and a new one begun. One record may be longer, alone. Default: never.
    pub fn rotate_at(mut self, bytes: u64) -> OutFile {
        self.rotate_at = bytes.max(1);
        self
    }
}

impl<P: Into<PathBuf>> From<P> for OutFile {
    fn from(path: P) -> OutFile {
        OutFile::lines(path)
    }
}

/// The file cannot be opened, written or rotated.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Their bytes, line ends included.
    pub bytes: u64,
    /// How many times the file was rotated.
    pub rotations: u64,
    /// How many bytes of a torn last line were cut off at the start.
    pub repaired_bytes: u64,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
}

type Reply = Result<Written, FileError>;

/// The thread's side.
struct Writer {
    out: OutFile,
    file: Option<File>,
    len: u64,
    written: Written,
}

impl Writer {
    fn open(&mut self) -> io::Result<()> {
        if let Some(parent) = self.out.path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.out.path)?;
        let len = file.metadata()?.len();
        self.len = if self.out.lines {
            whole_lines(&mut file, len)?
        } else {
            len
        };
        if self.len < len {
            file.set_len(self.len)?;
            self.written.repaired_bytes += len - self.len;
        }
        file.seek(SeekFrom::Start(self.len))?;
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.take()
            && self.out.durability != Durability::Written
        {
            file.sync_data()?;
        }
        let mut number = self.written.rotations + 1;
        let name = |number: u64| {
            let mut name = self.out.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        while name(number).try_exists()? {
            number += 1;
        }
        fs::rename(&self.out.path, name(number))?;
        self.written.rotations += 1;
        self.open()
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        if self.file.is_none() {
            self.open()?;
        }
        let mut from = 0;
        let mut to = 0;
        for end in &batch.ends {
            let record = (end - to) as u64;
            let gathered = (to - from) as u64;
            if self.len + gathered > 0 && self.len + gathered + record > self.out.rotate_at {
                self.append(&batch.bytes[from..to])?;
                self.rotate()?;
                from = to;
            }
            to = *end;
        }
        self.append(&batch.bytes[from..to])?;
        self.written.records += batch.ends.len() as u64;
        self.written.bytes += batch.bytes.len() as u64;
        if self.out.durability == Durability::Synced {
            self.sync()?;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            self.len += bytes.len() as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    fn run(mut self, batches: &mpsc::Receiver<Batch>, replies: &tokio::sync::mpsc::Sender<Reply>) {
        let answer = |result: io::Result<()>, writer: &Writer| {
            let path = writer.out.path.clone();
            let failed = result.is_err();
            let reply = result.map(|()| writer.written);
            let reply = reply.map_err(|error| FileError { path, error });
            replies.blocking_send(reply).is_err() || failed
        };
        let opened = self.open();
        if answer(opened, &self) {
            return;
        }
        while let Ok(batch) = batches.recv() {
            let result = self.write(&batch);
            if answer(result, &self) {
                return;
            }
        }
        if self.out.durability != Durability::Written {
            let result = self.sync();
            answer(result, &self);
        }
    }
}

/// Where the last whole line ends.
fn whole_lines(file: &mut File, len: u64) -> io::Result<u64> {
    let mut end = len;
    let mut block = vec![0; 64 << 10];
    while end > 0 {
        let count = end.min(block.len() as u64);
        let part = &mut block[..count as usize];
        file.seek(SeekFrom::Start(end - count))?;
        file.read_exact(part)?;
        if let Some(place) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(end - count + place as u64 + 1);
        }
        end -= count;
    }
    Ok(0)
}

struct Thread {
    batches: Option<mpsc::SyncSender<Batch>>,
    replies: tokio::sync::mpsc::Receiver<Reply>,
    handle: JoinHandle<()>,
}

/// The island's side.
pub(crate) struct FileSink {
    out: OutFile,
    thread: Option<Thread>,
    gathering: Batch,
    gathered: Vec<Meta>,
    /// Being written.
    writing: Vec<Meta>,
    /// A reply is due.
    busy: bool,
    written: Written,
}

impl FileSink {
    pub(crate) fn new(out: OutFile) -> FileSink {
        FileSink {
            out,
            thread: None,
            gathering: Batch::default(),
            gathered: Vec::new(),
            writing: Vec::new(),
            busy: false,
            written: Written::default(),
        }
    }

    fn start(&mut self) -> Result<(), Stop> {
        let (batches, to_write) = mpsc::sync_channel(1);
        let (replying, replies) = tokio::sync::mpsc::channel(2);
        let writer = Writer {
            out: self.out.clone(),
            file: None,
            len: 0,
            written: Written::default(),
        };
        let handle = std::thread::Builder::new()
            .name("forebay-file".to_owned())
            .spawn(move || writer.run(&to_write, &replying))
            .map_err(Stop::error)?;
        // Its first reply says that the file is open.
        self.busy = true;
        self.thread = Some(Thread {
            batches: Some(batches),
            replies,
            handle,
        });
        Ok(())
    }

    /// Takes replies, and hands what has gathered to the thread. Ready when nothing is under way.
    fn drive(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        if self.thread.is_none() {
            self.start()?;
        }
        loop {
            let Some(thread) = &mut self.thread else {
                return Poll::Ready(Ok(()));
            };
            if self.busy {
                match std::task::ready!(thread.replies.poll_recv(cx.task())) {
                    Some(Ok(written)) => {
                        self.busy = false;
                        self.written = written;
                        for meta in self.writing.drain(..) {
                            cx.settle(meta, Outcome::Delivered);
                        }
                    }
                    Some(Err(error)) => {
                        self.settle_all(cx, Outcome::Failed(Reason::Error));
                        return Poll::Ready(Err(Stop::error(error)));
                    }
                    None => {
                        self.settle_all(cx, Outcome::Failed(Reason::Error));
                        return Poll::Ready(Err(Stop::cause(Cause::Broken)));
                    }
                }
            }
            if self.gathered.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let batch = std::mem::take(&mut self.gathering);
            if let Some(batches) = &thread.batches {
                // There is a place: the thread has answered for all before. If it is gone, its last
                // reply or the end of replies says why.
                let _ = batches.try_send(batch);
            }
            self.writing = std::mem::take(&mut self.gathered);
            self.busy = true;
        }
    }

    /// Drops what has gathered of a source that goes back: it comes again. What the thread has got
    /// is written.
    fn drop_gathered(&mut self, cx: &mut Context<'_, '_>, source: SourceId) {
        let before = std::mem::take(&mut self.gathering);
        let mut from = 0;
        for (meta, end) in std::mem::take(&mut self.gathered)
            .into_iter()
            .zip(before.ends)
        {
            if meta.receipt.is_of(source) {
                cx.settle(meta, Outcome::Cancelled(Reason::Rewound));
            } else {
                let Batch { bytes, ends } = &mut self.gathering;
                bytes.extend_from_slice(&before.bytes[from..end]);
                ends.push(bytes.len());
                self.gathered.push(meta);
            }
            from = end;
        }
    }

    fn settle_all(&mut self, cx: &mut Context<'_, '_>, outcome: Outcome) {
        for meta in self.writing.drain(..).chain(self.gathered.drain(..)) {
            cx.settle(meta, outcome);
        }
        self.gathering = Batch::default();
    }
}

impl<T: AsRef<[u8]> + Send> Sink<T> for FileSink {
    type Output = Written;

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        if let Poll::Ready(Err(stop)) = self.drive(cx) {
            return Poll::Ready(Err(stop));
        }
        let room = (HOLDS / 2).saturating_sub(self.gathered.len());
        if room == 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(Some(Demand::items(room))))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        for element in chunk.drain() {
            let before = self.gathering.bytes.len();
            let Batch { bytes, ends } = &mut self.gathering;
            if guard(|| bytes.extend_from_slice(element.value.as_ref())).is_err() {
                bytes.truncate(before);
                cx.settle(element.meta, Outcome::Failed(Reason::Panicked));
                continue;
            }
            if self.out.lines {
                bytes.push(b'\n');
            }
            ends.push(bytes.len());
            self.gathered.push(element.meta);
        }
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        if let Mark::Rewind(source, _) = mark {
            self.drop_gathered(cx, *source);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Written, Stop>> {
        if self
            .thread
            .as_ref()
            .is_none_or(|thread| thread.batches.is_some())
        {
            std::task::ready!(self.drive(cx))?;
        }
        let Some(thread) = &mut self.thread else {
            return Poll::Ready(Ok(self.written));
        };
        thread.batches = None;
        while let Some(reply) = std::task::ready!(thread.replies.poll_recv(cx.task())) {
            self.written = reply.map_err(Stop::error)?;
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.handle.join();
        }
        Poll::Ready(Ok(self.written))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&Stop>) {
        let outcome = cx.leftover();
        self.settle_all(cx, outcome);
        if let Some(thread) = &mut self.thread {
            thread.batches = None;
        }
    }

    fn held(&self) -> Held {
        Held::items(self.writing.len() + self.gathered.len())
    }
}
