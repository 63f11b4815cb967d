//! What is read: a file, once or several times, or standard input; its format shown by its first lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use forebay::error::RunError;
use forebay::source::{self, Line, Lines, State, TooLong};

use crate::cli::{OrdersOptions, unusable};
use crate::order::{BadOrder, Format, Look, Order, Shown};

/// What shows the format is among so many bytes; a first line that is longer is no header.
const OPENING_BYTES: u64 = 64 << 10;
/// The same for a compressed file.
const OPENING_LINES: usize = 256;
/// Files up to this size are counted beforehand, so that progress has an end.
const COUNTED_BYTES: u64 = 256 << 20;

/// An input that can be read.
pub(crate) struct Input {
    pub(crate) lines: Lines,
    pub(crate) decode: Decode,
    /// How many orders it has, if that was counted.
    pub(crate) total: Option<u64>,
}

/// How a line becomes an order.
#[derive(Clone, Debug)]
pub(crate) struct Decode {
    format: Format,
    /// Where the orders start, and how many bytes they have: for a file that is read again.
    body: Option<(u64, u64)>,
}

impl Decode {
    /// The order on a line; from the second pass over the file on, with the pass added to its id.
    pub(crate) fn decode(&self, line: &Line) -> Result<Order, BadOrder> {
        let whole = line.whole().map_err(|_| BadOrder::TooLong)?;
        let mut order = self.format.decode(whole)?;
        if let Some((start, len)) = self.body {
            let pass = line.offset.saturating_sub(start) / len.max(1) + 1;
            if pass > 1 {
                order.order_id = format!("{}.{pass}", order.order_id);
            }
        }
        Ok(order)
    }
}

impl Input {
    /// Opens what the options name.
    pub(crate) async fn open(options: &OrdersOptions) -> anyhow::Result<Input> {
        if options.input.as_os_str() != "-" {
            return Input::file(options).await;
        }
        if options.state.is_some() {
            return Err(unusable(
                "standard input cannot be resumed: leave --state out, or name a file",
            ));
        }
        if options.repeat > 1 {
            return Err(unusable(
                "standard input cannot be read again: leave --repeat out, or name a file",
            ));
        }
        // The picture is the same whatever comes, and whenever.
        let (opening, shown) = if options.print_topology.is_some() {
            opening(&mut io::empty(), &options.input)
        } else {
            let name = options.input.clone();
            tokio::task::spawn_blocking(move || opening(&mut io::stdin().lock(), &name)).await?
        }
        .map_err(|error| unusable(format!("standard input: {error}")))?;
        // The rest is read by the source; both go through the one buffer of standard input.
        let lines = Lines::read("standard input", Cursor::new(opening).chain(io::stdin()));
        let Shown { format, skip } = shown;
        Ok(Input {
            lines: settings(lines, skip),
            decode: Decode { format, body: None },
            total: None,
        })
    }

    async fn file(options: &OrdersOptions) -> anyhow::Result<Input> {
        let path = &options.input;
        let named = |error: io::Error| unusable(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(named)?;
        let meta = file.metadata().map_err(named)?;
        if meta.is_dir() {
            return Err(named(io::ErrorKind::IsADirectory.into()));
        }
        let gzip = path.extension().is_some_and(|extension| extension == "gz");
        if options.repeat > 1 && (gzip || !meta.is_file()) {
            return Err(unusable(format!(
                "{}: only a plain file can be read again",
                path.display()
            )));
        }
        let (skipped, shown, total) = if gzip {
            (0, shown_by_gzip(path).await?, None)
        } else if meta.is_file() {
            let mut reader = BufReader::new(file);
            let (opening, shown) = opening(&mut reader, path).map_err(named)?;
            let counted = meta.len() <= COUNTED_BYTES;
            let total = counted
                .then(|| count(&opening, reader))
                .transpose()
                .map_err(named)?;
            let lines = opening.split_inclusive(|byte| *byte == b'\n');
            let skipped = lines
                .take(shown.skip as usize)
                .map(|line| line.len() as u64);
            (skipped.sum(), shown, total)
        } else {
            return Err(unusable(format!(
                "{}: not a file; `--input -` reads a pipe",
                path.display()
            )));
        };
        let Shown { format, skip } = shown;
        let mut lines = Lines::file(path);
        let mut body = None;
        if gzip {
            lines = lines.gzip();
        }
        if options.repeat > 1 {
            let repeated = Repeat::open(path, skipped, options.repeat).map_err(named)?;
            body = Some((skipped, Repeat::body_len(path, skipped).map_err(named)?));
            lines = Lines::read(&path.to_string_lossy(), repeated);
        }
        if let Some(directory) = &options.state {
            lines = lines.state(directory);
        }
        let orders = |lines: u64| lines.saturating_sub(skip) * u64::from(options.repeat);
        Ok(Input {
            lines: settings(lines, skip),
            decode: Decode { format, body },
            total: total
                .map(orders)
                .map(|orders| orders.saturating_sub(settled(options, skip))),
        })
    }
}

/// How many orders an earlier run has settled. A state that is of no use is told by the run.
fn settled(options: &OrdersOptions, skip: u64) -> u64 {
    let state = options
        .state
        .as_ref()
        .and_then(|directory| State::read(directory).ok().flatten());
    state.map_or(0, |state| {
        let above: u32 = state.done.iter().map(|word| word.count_ones()).sum();
        state.base.line.saturating_sub(skip) + u64::from(above)
    })
}

/// What the first lines of a compressed file show.
async fn shown_by_gzip(path: &Path) -> anyhow::Result<Shown> {
    let lines = Lines::file(path)
        .gzip()
        .max_len(OPENING_BYTES as usize)
        .too_long(TooLong::Cut);
    let first = source::lines(lines)
        .take(OPENING_LINES)
        .map(|line| line.bytes)
        .collect()
        .await;
    let first = first.map_err(|error| match error {
        RunError::Stopped { cause, .. } => unusable(cause.to_string()),
        other => unusable(format!("{}: {other}", path.display())),
    })?;
    let mut look = Look::default();
    let shown = first.iter().find_map(|line| look.at(line));
    Ok(shown.unwrap_or_else(|| look.guess(path)))
}

fn settings(lines: Lines, skip: u64) -> Lines {
    lines.skip_lines(skip).too_long(TooLong::Cut)
}

/// Reads lines until one shows the format, or it is too much: what was read, and what it shows.
fn opening(reader: &mut impl BufRead, name: &Path) -> io::Result<(Vec<u8>, Shown)> {
    let mut reader = reader.take(OPENING_BYTES);
    let mut bytes = Vec::new();
    let mut look = Look::default();
    loop {
        let from = bytes.len();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Ok((bytes, look.guess(name)));
        }
        let line = &bytes[from..];
        if let Some(shown) = look.at(line.strip_suffix(b"\n").unwrap_or(line)) {
            return Ok((bytes, shown));
        }
    }
}

/// How many lines there are: what was read, and the rest.
fn count(first: &[u8], mut rest: impl BufRead) -> io::Result<u64> {
    let mut lines = 0;
    let mut last = b'\n';
    let mut tally = |bytes: &[u8]| {
        for &byte in bytes {
            lines += u64::from(byte == b'\n');
        }
        last = bytes.last().copied().unwrap_or(last);
    };
    tally(first);
    loop {
        let bytes = rest.fill_buf()?;
        let len = bytes.len();
        if len == 0 {
            break;
        }
        tally(bytes);
        rest.consume(len);
    }
    Ok(lines + u64::from(last != b'\n'))
}

/// Reads a file several times, its header the first time alone; a line break ends each pass but the
/// last.
struct Repeat {
    file: File,
    /// Where the passes after the first start.
    start: u64,
    /// How many passes follow.
    left: u32,
    in_line: bool,
}

impl Repeat {
    fn open(path: &Path, start: u64, passes: u32) -> io::Result<Repeat> {
        Ok(Repeat {
            file: File::open(path)?,
            start,
            left: passes.saturating_sub(1),
            in_line: false,
        })
    }

    /// How many bytes a pass has, its header left out and the line break that is added included.
    fn body_len(path: &Path, start: u64) -> io::Result<u64> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut last = [b'\n'];
        if len > 0 {
            file.seek(SeekFrom::Start(len - 1))?;
            file.read_exact(&mut last)?;
        }
        Ok(len.saturating_sub(start) + u64::from(last != *b"\n"))
    }
}

impl Read for Repeat {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.file.read(buf)?;
            if let Some(last) = buf[..read].last() {
                self.in_line = *last != b'\n';
                return Ok(read);
            }
            if self.left == 0 || buf.is_empty() {
                return Ok(0);
            }
            if std::mem::take(&mut self.in_line) {
                buf[0] = b'\n';
                return Ok(1);
            }
            self.left -= 1;
            self.file.seek(SeekFrom::Start(self.start))?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_that_is_read_again_has_one_header_and_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for (text, expected, body_len) in [
            ("h\n1\n2", "h\n1\n2\n1\n2\n1\n2", 4),
            ("h\n1\n", "h\n1\n1\n1\n", 2),
        ] {
            std::fs::write(&path, text).unwrap();
            let mut all = String::new();
            Repeat::open(&path, 2, 3)
                .unwrap()
                .read_to_string(&mut all)
                .unwrap();
            assert_eq!(all, expected);
            assert_eq!(Repeat::body_len(&path, 2).unwrap(), body_len);
        }
    }

    #[test]
    fn lines_are_counted_with_and_without_a_last_break() {
        for (text, lines) in [("", 0), ("a", 1), ("a\n", 1), ("a\nb", 2), ("a\nb\n", 2)] {
            let mut reader = text.as_bytes();
            let (first, _) = opening(&mut reader, Path::new("-")).unwrap();
            assert_eq!(count(&first, reader).unwrap(), lines, "{text:?}");
        }
    }
}
