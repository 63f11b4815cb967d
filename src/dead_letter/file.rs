//! Dead letters as lines of JSON in a file.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{DeadLetter, DeadLetterSink, base64};
use crate::chunk::{Origin, Record};
use crate::class::Class;
use crate::error::BoxError;
use crate::json::quote;
use crate::time;

/// What has happened to a line when it counts as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// The operating system has it: it outlives the process, not a loss of power.
    #[default]
    Flushed,
    /// The disk has it (`fsync`), once for each batch of up to 64 letters.
    Synced,
}

/// A file of dead letters: one JSON object a line.
///
/// | key | value |
/// | --- | --- |
/// | `stage`, `class`, `reason`, `error`, `error_type`, `tries` | who gave it up and why; `class` is null where there was none |
/// | `at_ms` | when, in milliseconds since 1970 |
/// | `payload` or `payload_base64` | what `encode` made, if the stage encodes |
/// | `origins` | the records it came from: `place`, `line`, `byte_offset` (of a topic `partition`, `offset` and `timestamp_ms`), and the exact bytes as `bytes` where they are UTF-8, else as `bytes_base64`; `key` and `headers` (each with `name` and `value`) likewise; what is not there, such as the bytes of a tombstone, is left out |
///
/// A file that is there is appended to; a torn last line, left by a crash, is cut off first: its
/// element was never settled. Writing happens on a thread that may block.
#[derive(Debug)]
pub struct DeadLetterFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
    durability: Durability,
}

impl DeadLetterFile {
    /// Opens a file to append to, and makes it if it is not there.
    ///
    /// # Errors
    /// That of the file system.
    pub fn open(path: impl AsRef<Path>) -> io::Result<DeadLetterFile> {
        let path = path.as_ref().to_owned();
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)?;
        cut_torn_line(&mut file)?;
        let file = Arc::new(Mutex::new(file));
        Ok(DeadLetterFile {
            path,
            file,
            durability: Durability::default(),
        })
    }

    /// When a line counts as written. Default: flushed.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> DeadLetterFile {
        self.durability = durability;
        self
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Cuts off what follows the last line break.
fn cut_torn_line(file: &mut File) -> io::Result<()> {
    const BLOCK: u64 = 4096;
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&mut *file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length {
        file.set_len(end)?;
        file.sync_data()?;
    }
    Ok(())
}

fn append(file: &Mutex<File>, lines: &str, durability: Durability) -> io::Result<()> {
    let mut file = match file.lock() {
        Ok(file) => file,
        Err(poisoned) => poisoned.into_inner(),
    };
    let before = file.seek(SeekFrom::End(0))?;
    let written = file
        .write_all(lines.as_bytes())
        .and_then(|()| match durability {
            Durability::Flushed => file.flush(),
            Durability::Synced => file.sync_data(),
        });
    if written.is_err() {
        // None of these letters counts as kept, so no half of a line must stay.
        let _ = file.set_len(before);
    }
    written
}

impl DeadLetterSink for DeadLetterFile {
    async fn write(&mut self, letters: Vec<DeadLetter>) -> Result<(), BoxError> {
        let mut lines = String::new();
        for letter in &letters {
            line(&mut lines, letter);
        }
        let (file, durability) = (Arc::clone(&self.file), self.durability);
        let work = move || append(&file, &lines, durability);
        // Without a runtime, in simulated time, there is no thread to be kept from blocking.
        match tokio::runtime::Handle::try_current() {
            Ok(handle) => handle.spawn_blocking(work).await??,
            Err(_) => work()?,
        }
        Ok(())
    }
}

/// The exact bytes under that name: as text where they are UTF-8, else as base64.
pub(crate) fn exact(name: &str, bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(utf8) => format!("\"{name}\":{}", quote(utf8)),
        Err(_) => format!("\"{name}_base64\":\"{}\"", base64::encode(bytes)),
    }
}

fn record(record: &Record) -> String {
    let line = record
        .line
        .map_or("null".to_owned(), |line| line.to_string());
    let mut fields = vec![
        format!("\"place\":{}", quote(&record.place)),
        format!("\"line\":{line}"),
    ];
    match record.partition {
        None => fields.push(format!("\"byte_offset\":{}", record.offset)),
        Some(partition) => fields.extend([
            format!("\"partition\":{partition}"),
            format!("\"offset\":{}", record.offset),
        ]),
    }
    fields.extend(
        record
            .timestamp_ms
            .map(|at| format!("\"timestamp_ms\":{at}")),
    );
    fields.extend(record.payload.as_deref().map(|bytes| exact("bytes", bytes)));
    fields.extend(record.key.as_deref().map(|bytes| exact("key", bytes)));
    if !record.headers.is_empty() {
        let headers = record.headers.iter().map(|(name, value)| {
            let mut fields = vec![exact("name", name)];
            fields.extend(value.as_deref().map(|bytes| exact("value", bytes)));
            format!("{{{}}}", fields.join(","))
        });
        let headers: Vec<String> = headers.collect();
        fields.push(format!("\"headers\":[{}]", headers.join(",")));
    }
    format!("{{{}}}", fields.join(","))
}

fn line(text: &mut String, letter: &DeadLetter) {
    let class = letter
        .class
        .map_or("null".to_owned(), |class| quote(Class::name(class)));
    let at_ms = time::since_1970(letter.at).as_millis();
    let _ = write!(
        text,
        "{{\"stage\":{},\"class\":{class},\"reason\":\"{}\",\"error\":{},\"error_type\":{},\
         \"tries\":{},\"at_ms\":{at_ms}",
        quote(&letter.stage),
        letter.reason.name(),
        quote(&letter.error),
        quote(letter.error_type),
        letter.tries,
    );
    if let Some(payload) = &letter.payload {
        text.push(',');
        text.push_str(&exact("payload", payload));
    }
    text.push_str(",\"origins\":[");
    let records = letter
        .origin
        .as_ref()
        .map(Origin::records)
        .unwrap_or_default();
    let records: Vec<String> = records.iter().map(record).collect();
    text.push_str(&records.join(","));
    text.push_str("]}\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;
    use crate::outcome::Reason;
    use crate::time::Time;

    fn letter(payload: &'static [u8]) -> DeadLetter {
        DeadLetter {
            stage: Arc::from("decode"),
            class: Some(Class::HIGH),
            origin: Some(Origin::from(Record {
                payload: Some(Bytes::from_static(payload)),
                place: Arc::from("orders.csv"),
                offset: 1234,
                line: Some(17),
                ..Record::default()
            })),
            payload: None,
            error: "a \"bad\" line".to_owned(),
            error_type: "Bad",
            reason: Reason::Error,
            tries: 1,
            again: crate::dead_letter::Again::Never,
            at: Time::ZERO,
        }
    }

    #[test]
    fn a_line_has_where_it_stood_why_and_the_exact_bytes() {
        let mut text = String::new();
        line(&mut text, &letter(b"1,\"2\"\t\\x"));
        assert!(
            text.contains(r#""stage":"decode","class":"high","reason":"error""#),
            "{text}"
        );
        assert!(text.contains(r#""error":"a \"bad\" line""#), "{text}");
        assert!(
            text.contains(r#""place":"orders.csv","line":17,"byte_offset":1234"#),
            "{text}"
        );
        assert!(text.contains(r#""bytes":"1,\"2\"\t\\x""#), "{text}");
        assert!(text.ends_with("}]}\n"), "{text}");
    }

    #[test]
    fn a_record_of_a_topic_has_all_of_it() {
        let mut text = String::new();
        let mut letter = letter(b"");
        letter.origin = Some(Origin::from(Record {
            key: Some(Bytes::from_static(b"o-1")),
            headers: vec![
                (
                    Bytes::from_static(b"event"),
                    Some(Bytes::from_static(b"paid")),
                ),
                (Bytes::from_static(b"\xff"), None),
            ],
            place: Arc::from("orders"),
            partition: Some(3),
            offset: 77,
            timestamp_ms: Some(1_000),
            ..Record::default()
        }));
        line(&mut text, &letter);
        let origin = r#""origins":[{"place":"orders","line":null,"partition":3,"offset":77,"timestamp_ms":1000,"key":"o-1","headers":[{"name":"event","value":"paid"},{"name_base64":"/w=="}]}]"#;
        assert!(text.contains(origin), "{text}");
    }

    #[test]
    fn bytes_that_are_no_text_are_base64() {
        let mut text = String::new();
        line(&mut text, &letter(&[0xff, 0xfe, 0xfd]));
        assert!(text.contains(r#""bytes_base64":"//79""#), "{text}");
    }

    #[test]
    fn a_torn_last_line_is_cut_off_however_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters");
        for torn in [0, 1, 4095, 4096, 10_000] {
            let whole = "{}\n".repeat(3);
            std::fs::write(&path, format!("{whole}{}", "x".repeat(torn))).unwrap();
            DeadLetterFile::open(&path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        }
        std::fs::write(&path, "torn and alone").unwrap();
        DeadLetterFile::open(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
