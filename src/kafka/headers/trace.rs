//! The trace context of the W3C (level 1): which trace a record belongs to, and which span wrote it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use crate::chunk::TraceContext;
use crate::random::Seeded;

pub(super) const PARENT: &str = "traceparent";
pub(super) const STATE: &str = "tracestate";

/// Members that a `tracestate` may have.
const MEMBERS: usize = 32;

/// Which trace something belongs to, and which span handed it on.
///
/// It is written as `traceparent` has it: version 00, trace, span, flags.
///
/// # Example
/// ```
/// use forebay::kafka::Trace;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let trace = Trace::parse(text)?;
/// assert!(trace.is_sampled());
/// assert_eq!(trace.to_string(), text);
/// assert_eq!(trace.child(1).trace_id, trace.trace_id);
/// # Ok::<(), forebay::kafka::MalformedTrace>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span that handed it on; never 0.
    pub span_id: u64,
    /// The flags; bit 0 says that the trace is recorded.
    pub flags: u8,
    /// What systems on the way added: `tracestate`, as it came.
    pub state: Option<String>,
}

/// A `traceparent` that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no traceparent: {why}")]
pub struct MalformedTrace {
    /// What it says, as far as it is text, its first 64 characters.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Trace {
    /// Reads a `traceparent`. Of versions to come the parts that are known are read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(parent: impl AsRef<[u8]>) -> Result<Trace, MalformedTrace> {
        let parent = parent.as_ref();
        read(parent).map_err(|why| MalformedTrace {
            text: String::from_utf8_lossy(parent).chars().take(64).collect(),
            why,
        })
    }

    /// The same trace as a span of that number hands it on: what a record made of another is written with.
    /// A 0, which no span may have, counts as 1.
    #[must_use]
    pub fn child(&self, span_id: u64) -> Trace {
        Trace {
            span_id: span_id.max(1),
            ..self.clone()
        }
    }

    /// Whether whoever began it records it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trace {
            trace_id,
            span_id,
            flags,
            ..
        } = self;
        // Of a later version only what version 00 knows is handed on.
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

impl From<&Trace> for TraceContext {
    fn from(trace: &Trace) -> TraceContext {
        TraceContext {
            trace_id: trace.trace_id,
            span_id: trace.span_id,
            links: Vec::new(),
        }
    }
}

fn read(text: &[u8]) -> Result<Trace, &'static str> {
    let (known, more) = text.split_at_checked(55).ok_or("it is too short")?;
    let mut parts = known.split(|byte| *byte == b'-');
    let mut part = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits);
        part.and_then(hexadecimal)
    };
    let version = part(2).ok_or("its version is not two hexadecimal digits in lower case")?;
    let trace_id = part(32).ok_or("its trace is not 32 hexadecimal digits in lower case")?;
    let span_id = part(16).ok_or("its span is not 16 hexadecimal digits in lower case")?;
    let flags = part(2).ok_or("its flags are not two hexadecimal digits in lower case")?;
    match (version, more.first()) {
        (0xff, _) => return Err("there is no version ff"),
        (0, Some(_)) => return Err("it is too long"),
        (_, Some(byte)) if *byte != b'-' => return Err("its flags are too long"),
        _ => {}
    }
    if trace_id == 0 || span_id == 0 {
        return Err("no trace and no span is all zeroes");
    }
    Ok(Trace {
        trace_id,
        span_id: span_id as u64,
        flags: flags as u8,
        state: None,
    })
}

/// A number in lower case, as the standard has it.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    let mut number = 0;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        number = number << 4 | u128::from(value);
    }
    Some(number)
}

/// The trace that headers name.
pub(super) fn of<'a>(
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<Option<Trace>, MalformedTrace> {
    let (mut parent, mut states) = (None, Vec::new());
    for (name, value) in headers {
        if name == PARENT.as_bytes() {
            parent = value;
        } else if name == STATE.as_bytes() {
            states.extend(value);
        }
    }
    let Some(parent) = parent else {
        return Ok(None);
    };
    let mut trace = Trace::parse(parent)?;
    // Several are one list.
    let state = std::str::from_utf8(&states.join(&b","[..])).map(str::to_owned);
    trace.state = state.ok().filter(|state| is_state(state));
    Ok(Some(trace))
}

/// Whether that is a `tracestate`: members `key=value`, none too many, in visible characters.
fn is_state(text: &str) -> bool {
    let members = text
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty());
    let mut count = 0;
    for member in members {
        count += 1;
        let is_member = member.split_once('=').is_some_and(|(key, value)| {
            let visible = |c: char| c.is_ascii_graphic() || c == ' ';
            !key.is_empty() && !value.is_empty() && member.chars().all(visible)
        });
        if !is_member || count > MEMBERS {
            return false;
        }
    }
    count > 0
}

/// Makes numbers for traces and spans.
#[derive(Clone, Debug)]
pub struct TraceIds {
    random: Seeded,
}

impl TraceIds {
    /// Others than those of any other process, as far as chance goes.
    #[must_use]
    pub fn new() -> TraceIds {
        TraceIds::seeded(RandomState::new().hash_one(0))
    }

    /// The same seed gives the same numbers.
    #[must_use]
    pub fn seeded(seed: u64) -> TraceIds {
        TraceIds {
            random: Seeded::new(seed),
        }
    }

    /// The beginning of a trace, which is recorded.
    pub fn begin(&mut self) -> Trace {
        let (high, low) = (self.next(), self.next());
        Trace {
            trace_id: u128::from(high) << 64 | u128::from(low),
            span_id: self.next(),
            flags: 1,
            state: None,
        }
    }

    /// A span of that trace, or the beginning of one of its own.
    pub fn child_of(&mut self, trace: Option<&Trace>) -> Trace {
        match trace {
            Some(trace) => trace.child(self.next()),
            None => self.begin(),
        }
    }

    /// Never 0.
    fn next(&mut self) -> u64 {
        self.random.next().max(1)
    }
}

impl Default for TraceIds {
    fn default() -> Self {
        TraceIds::new()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn found(headers: &[(&str, Option<&str>)]) -> Result<Option<Trace>, MalformedTrace> {
        let bytes = headers.iter();
        of(bytes.map(|(name, value)| (name.as_bytes(), value.map(str::as_bytes))))
    }

    #[test]
    fn a_traceparent_is_read_and_written() {
        let trace = Trace::parse(TEXT).unwrap();
        assert_eq!(trace.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(trace.span_id, 0xb7ad_6b71_6920_3331);
        assert!(trace.is_sampled());
        assert_eq!(trace.to_string(), TEXT);
        let child = trace.child(7);
        assert_eq!(
            child.to_string(),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01"
        );
        assert_eq!(trace.child(0).span_id, 1);
        // A later version may say more.
        let later = TEXT.replace("00-", "cc-") + "-what-the-future-will-be-like";
        assert_eq!(Trace::parse(later).unwrap(), trace);
        assert_eq!(Trace::parse(TEXT.replace("00-", "01-")).unwrap(), trace);
    }

    #[test]
    fn what_is_no_traceparent_is_told() {
        for text in [
            "",
            "00",
            &TEXT[..54],
            &format!("{TEXT}-"),
            &format!("{TEXT}0"),
            &TEXT.to_uppercase(),
            &TEXT.replace("00-", "ff-"),
            &TEXT.replace("00-", "0x-"),
            &TEXT.replace('-', "_"),
            &TEXT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &TEXT.replace("b7ad6b7169203331", &"0".repeat(16)),
            &TEXT.replace("-01", "-0g"),
            &(TEXT.replace("00-", "01-") + "1"),
            // A part that is longer by what another is shorter.
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        ] {
            let error = Trace::parse(text).unwrap_err();
            assert!(!error.why.is_empty(), "{error}");
            assert_eq!(error.text, text.chars().take(64).collect::<String>());
        }
        assert!(
            Trace::parse(b"\xff\xfe")
                .unwrap_err()
                .to_string()
                .contains("too short")
        );
    }

    #[test]
    fn headers_name_a_trace_the_last_counts_and_states_are_one_list() {
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&[("tracestate", Some("a=1"))]), Ok(None));
        let other = TEXT.replace("b7ad", "aaaa");
        let trace = found(&[
            ("traceparent", Some(&other)),
            ("tracestate", Some("a=1,b=2")),
            ("traceparent", Some(TEXT)),
            ("tracestate", Some("c=3")),
        ]);
        let trace = trace.unwrap().unwrap();
        assert_eq!(trace.to_string(), TEXT);
        assert_eq!(trace.state.as_deref(), Some("a=1,b=2,c=3"));
        assert!(found(&[("traceparent", Some("00-x"))]).is_err());
        assert_eq!(found(&[("traceparent", None)]), Ok(None));
    }

    #[test]
    fn a_tracestate_that_is_none_is_left_out_and_the_trace_stands() {
        let many = vec!["a=1"; 33].join(",");
        for state in ["", "a", "=1", "a=", "a=\u{1}", "a=é", many.as_str()] {
            let trace = found(&[("traceparent", Some(TEXT)), ("tracestate", Some(state))]);
            assert_eq!(trace.unwrap().unwrap().state, None, "{state}");
        }
    }

    #[test]
    fn numbers_differ_and_a_seed_gives_them_again() {
        let mut ids = TraceIds::seeded(3);
        let (one, other) = (ids.begin(), ids.begin());
        assert_ne!(one.trace_id, other.trace_id);
        assert_eq!(TraceIds::seeded(3).begin(), one);
        assert_ne!(
            TraceIds::new().begin().trace_id,
            TraceIds::new().begin().trace_id
        );
        let child = ids.child_of(Some(&one));
        assert_eq!(child.trace_id, one.trace_id);
        assert_ne!(child.span_id, one.span_id);
        assert_eq!(
            Trace::parse(ids.child_of(None).to_string()).unwrap().flags,
            1
        );
    }
}
