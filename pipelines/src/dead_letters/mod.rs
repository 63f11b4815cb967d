//! `forebay dead-letters`: the library's `DeadLetterAdmin`, asked for on the command line.

mod moment;
mod options;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use forebay::kafka::{
    Connection, DeadLetterAdmin, Error, Letter, LetterFilter, LetterState, Provenance, Replay,
    Resolved,
};

pub(crate) use options::{HELP, Options};

use crate::cli::unusable;
use options::{Action, Place};

pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    // The library's calls block.
    tokio::task::spawn_blocking(move || act(options.action)).await?
}

fn act(action: Action) -> anyhow::Result<ExitCode> {
    let now_ms = i64::try_from(forebay::time::unix_ns() / 1_000_000)?;
    match action {
        Action::List {
            place,
            filter,
            limit,
        } => list(&place, &filter.letters(now_ms), limit.unwrap_or(u64::MAX)),
        Action::Show { place, at, raw } => show(&place, at, raw),
        Action::Replay {
            place,
            filter,
            to,
            keep_headers,
            stamp_now,
            by_key,
            dry_run,
        } => {
            let mut replay = Replay::new();
            if let Some(to) = to {
                replay = replay.to(to);
            }
            for (asked, set) in [
                (
                    keep_headers,
                    Replay::keep_provenance as fn(Replay) -> Replay,
                ),
                (stamp_now, Replay::stamp_now),
                (by_key, Replay::by_key),
                (dry_run, Replay::dry_run),
            ] {
                if asked {
                    replay = set(replay);
                }
            }
            let filter = filter.letters(now_ms);
            let resolved = admin(&place)?.replay(&filter, &replay).map_err(told)?;
            tell(&place, "replayed", dry_run, &resolved)
        }
        Action::Discard {
            place,
            filter,
            all,
            dry_run,
        } => {
            let filter = filter.letters(now_ms);
            if filter.is_open() && !all {
                return Err(unusable("a discard needs a filter, or --all"));
            }
            let resolved = admin(&place)?.discard(&filter, dry_run).map_err(told)?;
            tell(&place, "discarded", dry_run, &resolved)
        }
    }
}

fn admin(place: &Place) -> anyhow::Result<DeadLetterAdmin> {
    let connection = Connection::to(&place.brokers).client_id("forebay-dead-letters");
    let mut admin = DeadLetterAdmin::new(connection, place.topic.as_str());
    if let Some(file) = &place.properties_file {
        let shown = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|error| unusable(format!("--properties-file {shown}: {error}")))?;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // Not the line itself: it may be a secret.
            let (name, value) = options::property(line)
                .map_err(|why| unusable(format!("--properties-file {shown}: a line is {why}")))?;
            admin = admin.set(name, value);
        }
    }
    for (name, value) in &place.properties {
        admin = admin.set(name, value);
    }
    Ok(admin)
}

/// A wrong setting is a request that cannot be.
fn told(error: Error) -> anyhow::Error {
    match error {
        Error::Invalid { .. } => unusable(error.to_string()),
        error => error.into(),
    }
}

fn list(place: &Place, filter: &LetterFilter, limit: u64) -> anyhow::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    let (mut count, mut written) = (0, Ok(()));
    if limit > 0 {
        let each = |letter: &Letter| {
            let line = if place.json {
                letter.to_json()
            } else {
                line(letter)
            };
            written = writeln!(stdout, "{line}");
            count += u64::from(written.is_ok());
            written.is_ok() && count < limit
        };
        admin(place)?.list_while(filter, each).map_err(told)?;
    }
    match written.and_then(|()| stdout.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("standard output")?,
    }
    eprintln!("{}", letters(count));
    Ok(ExitCode::SUCCESS)
}

fn letters(count: u64) -> String {
    format!("{count} letter{}", if count == 1 { "" } else { "s" })
}

fn show(place: &Place, (partition, offset): (i32, i64), raw: bool) -> anyhow::Result<ExitCode> {
    let found = admin(place)?.show(partition, offset).map_err(told)?;
    let Some(letter) = found else {
        anyhow::bail!("{} has no letter {partition}@{offset}", place.topic);
    };
    let mut stdout = io::stdout().lock();
    let written = if raw {
        stdout.write_all(letter.value.as_deref().unwrap_or_default())
    } else if place.json {
        writeln!(stdout, "{}", letter.to_json())
    } else {
        stdout.write_all(whole(&letter).as_bytes())
    };
    written
        .and_then(|()| stdout.flush())
        .context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn tell(place: &Place, what: &str, dry_run: bool, resolved: &Resolved) -> anyhow::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    if place.json {
        let result = serde_json::json!({
            "action": what,
            "dry_run": dry_run,
            "letters": resolved.letters,
            "bytes": resolved.bytes,
            "topics": resolved.topics,
            "homeless": resolved.homeless,
        });
        writeln!(stdout, "{result}")?;
    } else {
        let would = if dry_run { "would be " } else { "" };
        writeln!(
            stdout,
            "{} of {} bytes {would}{what}",
            letters(resolved.letters),
            resolved.bytes
        )?;
        for (topic, count) in &resolved.topics {
            writeln!(stdout, "  {count} to {topic}")?;
        }
    }
    if resolved.homeless > 0 {
        eprintln!(
            "{} left alone that do not say where they came from: name a topic with --to",
            letters(resolved.homeless)
        );
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Where the record stood, as far as that is known.
fn origin(told: &Provenance) -> String {
    let mut text = told.topic.clone().unwrap_or_else(|| "-".to_owned());
    if let Some(partition) = told.partition {
        let _ = write!(text, "-{partition}");
    }
    if let Some(offset) = told.offset {
        let _ = write!(text, "@{offset}");
    }
    text
}

fn time(ms: Option<i64>) -> String {
    ms.map_or_else(|| "-".to_owned(), moment::shown)
}

/// Bytes as text where they are some, quoted; else their number.
fn bytes(bytes: Option<&[u8]>) -> String {
    match bytes.map(std::str::from_utf8) {
        None => "none".to_owned(),
        Some(Ok(text)) => format!("{text:?}"),
        Some(Err(_)) => format!("({} bytes)", bytes.map_or(0, <[u8]>::len)),
    }
}

/// A letter in one line.
fn line(letter: &Letter) -> String {
    let told = &letter.provenance;
    format!(
        "{letter} {} {} {} tries {} class {} key {}: {}",
        letter.state.name(),
        origin(told),
        time(letter.put_aside_ms()),
        told.tries
            .map_or_else(|| "-".to_owned(), |tries| tries.to_string()),
        told.error_class.as_deref().unwrap_or("-"),
        bytes(letter.key.as_deref()),
        told.error_message
            .as_deref()
            .unwrap_or("-")
            .replace('\n', " "),
    )
}

/// All of a letter, a line a part; what is no text as hexadecimal digits.
fn whole(letter: &Letter) -> String {
    let told = &letter.provenance;
    let mut text = String::new();
    let mut part = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<14}{value}");
    };
    let exact = |bytes: Option<&[u8]>| match bytes.map(std::str::from_utf8) {
        Some(Err(_)) => {
            let digits = bytes.into_iter().flatten();
            let digits = digits.map(|byte| format!("{byte:02x}"));
            format!("0x{}", digits.collect::<String>())
        }
        _ => self::bytes(bytes),
    };
    part("letter", letter.to_string());
    part(
        "state",
        match &letter.state {
            LetterState::Pending => "pending".to_owned(),
            LetterState::Replayed { at_ms, to } => {
                format!("replayed to {to}, {}", moment::shown(*at_ms))
            }
            LetterState::Discarded { at_ms } => format!("discarded, {}", moment::shown(*at_ms)),
        },
    );
    part("record", origin(told));
    part("time", time(told.timestamp_ms));
    part("put aside", time(letter.put_aside_ms()));
    let words = |words: &Option<String>| words.clone().unwrap_or_else(|| "-".to_owned());
    part("stage", words(&told.stage));
    part("error", words(&told.error_message).replace('\n', " "));
    part("error class", words(&told.error_class));
    part("reason", words(&told.error_reason));
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    part("tries", number(told.tries));
    part("retry count", number(told.retry_count));
    part("key", exact(letter.key.as_deref()));
    for (name, value) in &letter.headers {
        part(
            "header",
            format!("{} = {}", exact(Some(name)), exact(value.as_deref())),
        );
    }
    part("value", exact(letter.value.as_deref()));
    text
}
