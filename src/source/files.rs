//! Sources that read files.

use crate::flow::Flow;
use crate::operator::sources::lines::{Line, Lines, LinesSource};

/// The lines of a file (a path), of standard input ([`Lines::stdin`]) or of any reader
/// ([`Lines::read`]), each with its number, its offset and its exact bytes.
///
/// With [`Lines::state`] a run that was killed is resumed: no line is lost, and at most a window of
/// them (declared by [`Flow::window`], 1024 by default) is read again besides those that were
/// settled after the last save.
///
/// - *emits when* a line was read and there is demand.
/// - *back-pressures when* there is no demand, or a whole window of lines is not settled yet; the
///   reading thread then waits.
/// - *completes when* the input ends; a last line without an end is a line.
/// - *cancels when* downstream cancels: the thread ends (one that waits for a terminal ends with its
///   next input).
/// - *settles when* its lines are settled downstream; the settled position follows, and is saved.
/// - *holds* nothing that was handed over; up to 5 blocks of 32 KiB and a line are read ahead.
/// - *costs* a thread; a line two shared slices of its block, and one allocation for its origin.
///
/// # Example
/// ```
/// use forebay::source::{self, Lines};
///
/// let text = Lines::read("a text", &b"one\r\ntwo"[..]);
/// let lines = source::lines(text).map(|line| (line.offset, line.bytes)).collect().block_on()?;
/// assert_eq!(lines, [(0, "one".into()), (5, "two".into())]);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn lines(lines: impl Into<Lines>) -> Flow<Line> {
    let lines = lines.into();
    let (refusal, keeps_origin) = (lines.refusal(), lines.keeps_origin());
    let mut flow =
        Flow::from_source("lines", LinesSource::new(lines)).amended(|spec| spec.threads = true);
    if keeps_origin {
        flow = flow.keeps_origin();
    }
    match refusal {
        Some(why) => flow.refused(why),
        None => flow,
    }
}
