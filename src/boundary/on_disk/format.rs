//! How a record lies in a file: a head, then the attributes of the element and its value.
//!
//! ```text
//! 0   4  "\x93rec"
//! 4   4  length of the body in bytes
//! 8   8  number of the record
//! 16  4  checksum of the body
//! 20  4  checksum of the 20 bytes before
//! 24     the body: which attributes there are, those, and the value
//! ```
//! Numbers are little-endian; checksums are CRC-32. The head has one of its own, so that a wrong
//! length leads nobody astray: the next head can be found from any place.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::chunk::{Meta, Origin, Record, TraceContext};
use crate::class::Class;
use crate::time::{self, Time};

/// What a file of records starts with: whose it is, and the version of all this.
pub(super) const FILE_HEAD: &[u8; 16] = b"forebay-queue 1\n";
/// The same up to the version.
pub(super) const FILE_KIND: &[u8] = b"forebay-queue ";
/// Bytes before the body.
pub(super) const HEAD: usize = 24;
/// What each record starts with.
pub(super) const MAGIC: [u8; 4] = *b"\x93rec";
/// The longest body: 1 GiB.
pub(super) const MAX_BODY: usize = 1 << 30;

const CLASS: u8 = 1;
const DEADLINE: u8 = 2;
const SINCE: u8 = 4;
const BYTES: u8 = 8;
const ORIGIN: u8 = 16;
const TRACE: u8 = 32;
const ALL: u8 = 63;

/// The head of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) body: usize,
    pub(super) number: u64,
    sum: u32,
}

impl Head {
    /// The head that those bytes are, if they are one.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Head> {
        let checked = bytes.get(..20)?;
        if bytes.len() < HEAD || checked[..4] != MAGIC {
            return None;
        }
        let sum_of_head = crc32fast::hash(checked);
        bytes.advance(4);
        let (body, number, sum) = (bytes.get_u32_le(), bytes.get_u64_le(), bytes.get_u32_le());
        let head = Head {
            body: body as usize,
            number,
            sum,
        };
        (bytes.get_u32_le() == sum_of_head && head.body <= MAX_BODY).then_some(head)
    }

    /// Whether this is the body it was made for.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        body.len() == self.body && crc32fast::hash(body) == self.sum
    }
}

/// A record of an element, but for its number: see [`seal`]. Nothing if it is longer than
/// [`MAX_BODY`].
pub(super) fn record(meta: &Meta, value: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; HEAD];
    out.reserve(value.len() + 32);
    put_meta(&mut out, meta);
    out.extend_from_slice(value);
    (out.len() - HEAD <= MAX_BODY).then_some(out)
}

/// Gives a record its number, and its checksums.
pub(super) fn seal(record: &mut [u8], number: u64) {
    let Some((head, body)) = record.split_at_mut_checked(HEAD) else {
        return;
    };
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[8..16].copy_from_slice(&number.to_le_bytes());
    head[16..20].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    let sum = crc32fast::hash(&head[..20]);
    head[20..].copy_from_slice(&sum.to_le_bytes());
}

/// The attributes and the value of a body; nothing if it is not one.
pub(super) fn open(body: Bytes) -> Option<(Meta, Bytes)> {
    let mut fields = Fields(body);
    let meta = fields.meta()?;
    Some((meta, fields.0))
}

fn put_u32(out: &mut Vec<u8>, value: usize) {
    // What does not fit makes a body that is too long, and is refused.
    out.extend_from_slice(&(value as u32).to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Times outlive the process: they are kept by the calendar.
fn put_time(out: &mut Vec<u8>, at: Time) {
    let span = time::since_1970(at).as_nanos();
    put_u64(out, u64::try_from(span).unwrap_or(u64::MAX));
}

fn put_meta(out: &mut Vec<u8>, meta: &Meta) {
    let mut has = 0;
    let mut flag = |is: bool, bit: u8| has |= if is { bit } else { 0 };
    flag(meta.class.is_some(), CLASS);
    flag(meta.deadline != Time::MAX, DEADLINE);
    flag(meta.since != Time::MAX, SINCE);
    flag(meta.bytes != 0, BYTES);
    flag(meta.origin.is_some(), ORIGIN);
    flag(meta.trace.is_some(), TRACE);
    out.push(has);
    if let Some(class) = meta.class {
        out.push(class.index() as u8);
    }
    if meta.deadline != Time::MAX {
        put_time(out, meta.deadline);
    }
    if meta.since != Time::MAX {
        put_time(out, meta.since);
    }
    if meta.bytes != 0 {
        put_u64(out, meta.bytes);
    }
    if let Some(origin) = &meta.origin {
        let records = origin.records();
        put_u32(out, records.len());
        for record in records {
            put_record(out, &record);
        }
    }
    if let Some(trace) = &meta.trace {
        put_span(out, (trace.trace_id, trace.span_id));
        put_u32(out, trace.links.len());
        for link in &trace.links {
            put_span(out, *link);
        }
    }
}

fn put_record(out: &mut Vec<u8>, record: &Record) {
    put_optional(out, record.payload.as_deref(), put_bytes);
    put_optional(out, record.key.as_deref(), put_bytes);
    put_u32(out, record.headers.len());
    for (name, value) in &record.headers {
        put_bytes(out, name);
        put_optional(out, value.as_deref(), put_bytes);
    }
    put_bytes(out, record.place.as_bytes());
    put_optional(out, record.partition, |out, number| {
        out.extend_from_slice(&number.to_le_bytes());
    });
    put_u64(out, record.offset);
    put_optional(out, record.timestamp_ms, |out, at| {
        out.extend_from_slice(&at.to_le_bytes());
    });
    put_optional(out, record.line, put_u64);
}

/// Whether it is there, and it.
fn put_optional<V>(out: &mut Vec<u8>, value: Option<V>, put: impl FnOnce(&mut Vec<u8>, V)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn put_span(out: &mut Vec<u8>, (trace, span): (u128, u64)) {
    out.extend_from_slice(&trace.to_le_bytes());
    put_u64(out, span);
}

/// What is left of a body.
struct Fields(Bytes);

impl Fields {
    fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64_le().ok()
    }

    fn count(&mut self) -> Option<usize> {
        let count = self.0.try_get_u32_le().ok()? as usize;
        // Each thing that is counted has a byte at least.
        (count <= self.0.len()).then_some(count)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let count = self.count()?;
        Some(self.0.split_to(count))
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn time(&mut self) -> Option<Time> {
        self.u64()
            .map(|ns| time::from_1970(Duration::from_nanos(ns)))
    }

    fn span(&mut self) -> Option<(u128, u64)> {
        Some((self.0.try_get_u128_le().ok()?, self.u64()?))
    }

    fn is_there(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn meta(&mut self) -> Option<Meta> {
        let mut meta = Meta::default();
        let has = self.u8()?;
        if has & !ALL != 0 {
            return None;
        }
        if has & CLASS != 0 {
            meta.class = Some(Class::new(self.u8()?)?);
        }
        if has & DEADLINE != 0 {
            meta.deadline = self.time()?;
        }
        if has & SINCE != 0 {
            meta.since = self.time()?;
        }
        if has & BYTES != 0 {
            meta.bytes = self.u64()?;
        }
        if has & ORIGIN != 0 {
            meta.origin = Some(self.origin()?);
        }
        if has & TRACE != 0 {
            let (trace_id, span_id) = self.span()?;
            let links = self.count()?;
            meta.trace = Some(Arc::new(TraceContext {
                trace_id,
                span_id,
                links: (0..links).map(|_| self.span()).collect::<Option<_>>()?,
            }));
        }
        Some(meta)
    }

    fn origin(&mut self) -> Option<Origin> {
        let count = self.count()?;
        if count == 1 {
            return self.record().map(Origin::from);
        }
        let record = |_| self.record().map(Origin::from);
        (0..count)
            .map(record)
            .collect::<Option<_>>()
            .map(Origin::many)
    }

    fn record(&mut self) -> Option<Record> {
        let payload = self.optional(Fields::bytes)?;
        let key = self.optional(Fields::bytes)?;
        let headers = self.count()?;
        let headers = (0..headers)
            .map(|_| Some((self.bytes()?, self.optional(Fields::bytes)?)))
            .collect::<Option<_>>()?;
        Some(Record {
            payload,
            key,
            headers,
            place: Arc::from(self.text()?),
            partition: self.optional(|fields| fields.0.try_get_i32_le().ok())?,
            offset: self.u64()?,
            timestamp_ms: self.optional(|fields| fields.0.try_get_i64_le().ok())?,
            line: self.optional(Fields::u64)?,
        })
    }

    /// What may be there or not; nothing at all if the body ends in it.
    #[allow(clippy::option_option)]
    fn optional<V>(&mut self, read: impl FnOnce(&mut Fields) -> Option<V>) -> Option<Option<V>> {
        if self.is_there()? {
            Some(Some(read(self)?))
        } else {
            Some(None)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(payload: &'static [u8], line: Option<u64>) -> Record {
        Record {
            payload: (!payload.is_empty()).then(|| Bytes::from_static(payload)),
            key: line.map(|_| Bytes::from_static(b"key")),
            headers: vec![
                (
                    Bytes::from_static(b"name"),
                    Some(Bytes::from_static(b"\xff")),
                ),
                (Bytes::from_static(b"\xfe"), None),
            ],
            place: Arc::from("orders.csv"),
            partition: line.map(|line| line as i32),
            offset: 1234,
            timestamp_ms: line.map(|_| -1),
            line,
        }
    }

    fn sealed(meta: &Meta, value: &[u8], number: u64) -> Vec<u8> {
        let mut bytes = record(meta, value).unwrap();
        seal(&mut bytes, number);
        bytes
    }

    fn whole() -> Meta {
        Meta {
            class: Some(Class::LOW),
            deadline: time::now() + Duration::from_secs(5),
            since: time::now(),
            bytes: 77,
            origin: Some(read(b"1,\"2\"", Some(17)).into()),
            trace: Some(Arc::new(TraceContext {
                trace_id: 1 << 100,
                span_id: 7,
                links: vec![(8, 9), (10, 11)],
            })),
            ..Meta::default()
        }
    }

    #[test]
    fn a_record_keeps_the_value_and_all_attributes() {
        let meta = whole();
        let bytes = sealed(&meta, b"value", 42);
        let head = Head::parse(&bytes).unwrap();
        assert_eq!((head.number, head.body), (42, bytes.len() - HEAD));
        assert!(head.fits(&bytes[HEAD..]));
        let (read, value) = open(Bytes::copy_from_slice(&bytes[HEAD..])).unwrap();
        assert_eq!(value, "value");
        assert_eq!(read.class, meta.class);
        assert_eq!((read.deadline, read.since), (meta.deadline, meta.since));
        assert_eq!(read.bytes, 77);
        assert_eq!((read.origin, read.trace), (meta.origin, meta.trace));
    }

    #[test]
    fn what_an_element_has_not_it_has_not_afterwards() {
        let bytes = sealed(&Meta::default(), b"", 0);
        assert_eq!(bytes.len(), HEAD + 1);
        let (read, value) = open(Bytes::copy_from_slice(&bytes[HEAD..])).unwrap();
        assert_eq!((read.class, read.bytes, value.len()), (None, 0, 0));
        assert_eq!((read.deadline, read.since), (Time::MAX, Time::MAX));
        assert!(read.origin.is_none() && read.trace.is_none());
    }

    #[test]
    fn an_origin_of_many_keeps_its_records_in_order() {
        let part = |payload, line| Origin::from(read(payload, line));
        let nested = Origin::many(vec![part(b"", None), part(b"c", Some(3))]);
        let origin = Origin::many(vec![part(b"a", Some(1)), nested]);
        let meta = Meta {
            origin: Some(origin.clone()),
            ..Meta::default()
        };
        let bytes = sealed(&meta, b"", 0);
        let (after, _) = open(Bytes::copy_from_slice(&bytes[HEAD..])).unwrap();
        assert_eq!(after.origin.unwrap().records(), origin.records());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_seen() {
        let good = sealed(&whole(), b"some value", 9);
        for place in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[place / 8] ^= 1 << (place % 8);
            let seen = Head::parse(&bad).is_none_or(|head| !head.fits(&bad[HEAD..]));
            assert!(seen, "bit {place}");
        }
    }

    #[test]
    fn a_body_that_was_cut_is_none_and_panics_nobody() {
        let good = sealed(&whole(), b"", 9);
        for end in 0..good.len() - HEAD {
            let body = Bytes::copy_from_slice(&good[HEAD..HEAD + end]);
            assert!(open(body).is_none(), "{end} bytes");
        }
        assert!(Head::parse(&good[..HEAD - 1]).is_none());
    }
}
