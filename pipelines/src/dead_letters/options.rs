//! What `forebay dead-letters` can be asked for.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use forebay::kafka::{LetterFilter, States};

use super::moment::{self, Moment};

pub(crate) const HELP: &str = "\
Looks through the letters of a dead-letter topic, replays them, discards them.

What has become of a letter is kept in a topic beside it, TOPIC.marks, which is made when it is first \
needed. The letters stay as they are: what a filter does not name stays pending, a second replay repeats \
nothing, and what was discarded can be found with --state discarded and replayed, as long as the topic \
keeps it. Copies and marks are written in one transaction: a replay that is killed has replayed and \
marked a letter, or neither.

A time is milliseconds since 1970, or as 2026-03-01T12:30:00Z, or so long ago as 90s, 30m, 12h, 7d.

The exit code is 0, 1 if it could not be done or there is no such letter, 2 for a request that cannot be.";

/// What is asked for.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Prints a line for each letter
    List {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: Filter,
        /// Print so many at most
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Prints one letter whole
    Show {
        #[command(flatten)]
        place: Place,
        /// Which: its partition and offset in the dead-letter topic
        #[arg(value_name = "PARTITION@OFFSET", value_parser = letter)]
        at: (i32, i64),
        /// Write the exact bytes of its value, and nothing else
        #[arg(long, conflicts_with = "json")]
        raw: bool,
    },
    /// Writes letters to their topics again: key, value, own headers, time and partition as they were
    Replay {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: Filter,
        /// To that topic, partitioned by key, instead of the one each came from
        #[arg(long, value_name = "TOPIC")]
        to: Option<String>,
        /// Leave the headers that say why it was put aside [default: they are left out]
        #[arg(long)]
        keep_headers: bool,
        /// Give each the time of the replay [default: its own]
        #[arg(long)]
        stamp_now: bool,
        /// Partition by key [default: the partition it came from]
        #[arg(long)]
        by_key: bool,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Marks letters as given up; nothing is deleted
    Discard {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: Filter,
        /// All that are pending, where no filter is named
        #[arg(long)]
        all: bool,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Where the letters are.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// The brokers to ask first
    #[arg(long, value_name = "HOST:PORT,..")]
    pub(crate) brokers: String,
    /// The dead-letter topic, such as orders.DLQ
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: String,
    /// A property of librdkafka, such as security.protocol=ssl; may come more than once
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = property)]
    pub(crate) properties: Vec<(String, String)>,
    /// Properties from a file, one NAME=VALUE a line: for secrets, which others see on a command line
    #[arg(long, value_name = "FILE")]
    pub(crate) properties_file: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which letters are meant: those that fit all of it.
#[derive(Args, Debug)]
pub(crate) struct Filter {
    /// In that state
    #[arg(long, value_name = "STATE", default_value = "pending")]
    state: State,
    /// Of records that came from that topic
    #[arg(long, value_name = "TOPIC")]
    original_topic: Option<String>,
    /// Of records that came from that partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    original_partition: Option<i32>,
    /// Of records with these offsets in their topic: 17, or 10..20 with both ends
    #[arg(long, value_name = "FROM..TO", value_parser = offsets)]
    original_offsets: Option<RangeInclusive<i64>>,
    /// In that partition of the dead-letter topic
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// With these offsets in the dead-letter topic: 17, or 10..20 with both ends
    #[arg(long, value_name = "FROM..TO", value_parser = offsets)]
    offsets: Option<RangeInclusive<i64>>,
    /// With an error of that class: its whole name or the last part of it
    #[arg(long, value_name = "NAME")]
    error_class: Option<String>,
    /// With exactly that key, as text
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// With exactly that key, as hexadecimal digits
    #[arg(long, value_name = "DIGITS", value_parser = hexadecimal, conflicts_with = "key")]
    key_hex: Option<Bytes>,
    /// Put aside then or later
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    since: Option<Moment>,
    /// Put aside before then
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    until: Option<Moment>,
}

/// Letters in which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum State {
    Pending,
    Replayed,
    Discarded,
    Any,
}

/// Bytes as one value of an option: a `Vec` would be a value each.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Bytes(Vec<u8>);

impl Filter {
    /// The same as the library has it; `now_ms` is what times ago are counted from.
    pub(crate) fn letters(&self, now_ms: i64) -> LetterFilter {
        let mut filter = LetterFilter::new().states(match self.state {
            State::Pending => States::Pending,
            State::Replayed => States::Replayed,
            State::Discarded => States::Discarded,
            State::Any => States::Any,
        });
        if let Some(topic) = &self.original_topic {
            filter = filter.original_topic(topic);
        }
        if let Some(partition) = self.original_partition {
            filter = filter.original_partition(partition);
        }
        if let Some(offsets) = &self.original_offsets {
            filter = filter.original_offsets(offsets.clone());
        }
        if let Some(partition) = self.partition {
            filter = filter.partition(partition);
        }
        if let Some(offsets) = &self.offsets {
            filter = filter.offsets(offsets.clone());
        }
        if let Some(class) = &self.error_class {
            filter = filter.error_class(class);
        }
        if let Some(key) = &self.key {
            filter = filter.key(key.clone());
        }
        if let Some(Bytes(key)) = &self.key_hex {
            filter = filter.key(key.clone());
        }
        if let Some(since) = self.since {
            filter = filter.since_ms(since.ms(now_ms));
        }
        if let Some(until) = self.until {
            filter = filter.until_ms(until.ms(now_ms));
        }
        filter
    }
}

fn letter(text: &str) -> Result<(i32, i64), String> {
    let parts = text.split_once('@');
    let at = parts.and_then(|(partition, offset)| {
        let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
        (partition >= 0 && offset >= 0).then_some((partition, offset))
    });
    at.ok_or_else(|| "no partition and offset, such as 0@17".to_owned())
}

fn offsets(text: &str) -> Result<RangeInclusive<i64>, String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) if 0 <= from && from <= to => Ok(from..=to),
        _ => Err("no offsets, such as 17 or 10..20".to_owned()),
    }
}

pub(super) fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("not NAME=VALUE".to_owned()),
    }
}

fn hexadecimal(text: &str) -> Result<Bytes, String> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) => {
            let pairs = digits.chunks(2);
            let bytes =
                pairs.map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + *digit as u8));
            Ok(Bytes(bytes.collect()))
        }
        _ => Err("not an even number of hexadecimal digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_value_is_refused() {
        assert_eq!(letter("3@17"), Ok((3, 17)));
        for text in ["", "3", "@", "-1@0", "0@-1", "0@x"] {
            assert!(letter(text).is_err(), "{text}");
        }
        assert_eq!(offsets("17"), Ok(17..=17));
        assert_eq!(offsets("0..9"), Ok(0..=9));
        for text in ["", "9..0", "-1..2", "1..", "a"] {
            assert!(offsets(text).is_err(), "{text}");
        }
        assert_eq!(hexadecimal("00fF"), Ok(Bytes(vec![0, 255])));
        for text in ["0", "zz", "0 "] {
            assert!(hexadecimal(text).is_err(), "{text}");
        }
        assert_eq!(property("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(property("a").is_err() && property("=b").is_err());
    }
}
