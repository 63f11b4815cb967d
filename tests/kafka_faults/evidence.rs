//! What a bare client finds in the topics afterwards: what was written, and each commit of a group, which
//! brokers keep in a topic as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::cluster::config;
use crate::stage::until;

const PATIENCE: Duration = Duration::from_secs(120);

/// A record of the output.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Written {
    pub(crate) number: u64,
    /// Where it was read.
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// By whom it was made, and when.
    pub(crate) by: u64,
    pub(crate) at_ms: i64,
}

/// A commit of a group, in the order of its partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Committed {
    pub(crate) next: i64,
    pub(crate) at_ms: i64,
}

/// Records that a worker wrote one behind the other, as it read them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) partition: i32,
    pub(crate) by: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) began_ms: i64,
    /// How many of them were written before.
    pub(crate) repeats: u64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first, self.last);
        write!(f, "partition {} from {first} to {last}", self.partition)?;
        write!(f, " by {} at {} ms", self.by, self.began_ms)?;
        write!(f, ", {} of them again", self.repeats)
    }
}

fn reader(bootstrap: &str, isolation: &str) -> BaseConsumer {
    config(bootstrap)
        .set("group.id", "evidence")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .unwrap()
}

/// Reads a topic from its beginning to the end that it has by then, each partition in order.
fn read(bootstrap: &str, topic: &str, isolation: &str, mut each: impl FnMut(&BorrowedMessage<'_>)) {
    let consumer = reader(bootstrap, isolation);
    let partitions = partitions(&consumer, topic);
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut ended = BTreeSet::new();
    let mut heard = Instant::now();
    while ended.len() < partitions as usize {
        assert!(heard.elapsed() < PATIENCE, "{topic} cannot be read");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                each(&message);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            // Brokers that come and go.
            Some(Err(_)) | None => {}
        }
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> i32 {
    until("the partitions of a topic", PATIENCE, || {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5));
        let count = metadata.ok()?.topics().first()?.partitions().len();
        (count > 0).then_some(count as i32)
    })
}

/// What was written, by the partition it was read from, in the order it was written in.
pub(crate) fn output(bootstrap: &str, topic: &str, isolation: &str) -> BTreeMap<i32, Vec<Written>> {
    let mut all: BTreeMap<i32, Vec<Written>> = BTreeMap::new();
    read(bootstrap, topic, isolation, |message| {
        let text = std::str::from_utf8(message.payload().unwrap()).unwrap();
        let mut fields = text.split(' ').map(|field| field.parse::<u64>().unwrap());
        let mut field = || fields.next().unwrap();
        let written = Written {
            number: field(),
            partition: field() as i32,
            offset: field() as i64,
            by: field(),
            at_ms: message.timestamp().to_millis().unwrap(),
        };
        let key = std::str::from_utf8(message.key().unwrap()).unwrap();
        assert_eq!(key, crate::feed::key(written.number).to_string());
        // One key, one partition, there as here: otherwise there is no order to speak of.
        assert_eq!(message.partition(), written.partition);
        all.entry(written.partition).or_default().push(written);
    });
    all
}

/// How many records each partition of a topic has.
pub(crate) fn ends(bootstrap: &str, topic: &str) -> BTreeMap<i32, i64> {
    let consumer = reader(bootstrap, "read_uncommitted");
    let count = partitions(&consumer, topic);
    let end = |partition| {
        until("the end of a partition", PATIENCE, || {
            let patience = Duration::from_secs(5);
            let marks = consumer.fetch_watermarks(topic, partition, patience);
            Some((partition, marks.ok()?.1))
        })
    };
    (0..count).map(end).collect()
}

/// What a group has committed now; 0 where it has not yet.
pub(crate) fn committed(bootstrap: &str, group: &str, topic: &str) -> BTreeMap<i32, i64> {
    let consumer: BaseConsumer = config(bootstrap).set("group.id", group).create().unwrap();
    let mut asked = TopicPartitionList::new();
    for partition in 0..partitions(&consumer, topic) {
        asked.add_partition(topic, partition);
    }
    let list = until("the positions of a group", PATIENCE, || {
        let patience = Duration::from_secs(5);
        consumer.committed_offsets(asked.clone(), patience).ok()
    });
    let elements = list.elements();
    let positions = elements.iter().map(|one| match one.offset() {
        Offset::Offset(next) => (one.partition(), next),
        _ => (one.partition(), 0),
    });
    positions.collect()
}

/// Each commit of a group, by partition: what brokers write down of it.
pub(crate) fn commits(bootstrap: &str, group: &str, topic: &str) -> BTreeMap<i32, Vec<Committed>> {
    let mut all: BTreeMap<i32, Vec<Committed>> = BTreeMap::new();
    read(
        bootstrap,
        "__consumer_offsets",
        "read_committed",
        |message| {
            let (Some(key), Some(value)) = (message.key(), message.payload()) else {
                return;
            };
            if let Some((own, of, partition)) = place(key)
                && (own, of) == (group, topic)
            {
                let next = i64::from_be_bytes(value[2..10].try_into().unwrap());
                let at_ms = message.timestamp().to_millis().unwrap();
                let commits = all.entry(partition).or_default();
                commits.push(Committed { next, at_ms });
            }
        },
    );
    all
}

/// Group, topic and partition of a commit's key; none for a key of another kind.
fn place(key: &[u8]) -> Option<(&str, &str, i32)> {
    fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        Some((std::str::from_utf8(text).ok()?, rest))
    }
    let (version, rest) = key.split_first_chunk()?;
    if u16::from_be_bytes(*version) > 1 {
        return None;
    }
    let (group, rest) = text(rest)?;
    let (topic, rest) = text(rest)?;
    let (partition, _) = rest.split_first_chunk()?;
    Some((group, topic, i32::from_be_bytes(*partition)))
}

/// What each worker wrote one behind the other, in the order of their beginnings.
pub(crate) fn runs(written: &[Written]) -> Vec<Run> {
    let mut open: BTreeMap<u64, Run> = BTreeMap::new();
    let mut all = Vec::new();
    let mut end = 0;
    for one in written {
        let repeats = u64::from(one.offset < end);
        end = end.max(one.offset + 1);
        match open.get_mut(&one.by) {
            Some(run) if one.offset == run.last + 1 => {
                run.last = one.offset;
                run.repeats += repeats;
            }
            before => {
                let run = Run {
                    partition: one.partition,
                    by: one.by,
                    first: one.offset,
                    last: one.offset,
                    began_ms: one.at_ms,
                    repeats,
                };
                all.extend(before.map(|before| std::mem::replace(before, run)));
                open.entry(one.by).or_insert(run);
            }
        }
    }
    all.extend(open.into_values());
    all.sort_by_key(|run| run.began_ms);
    all
}

/// How many records a worker wrote.
pub(crate) fn written_by(written: &BTreeMap<i32, Vec<Written>>, by: u64) -> usize {
    let all = written.values().flatten();
    all.filter(|one| one.by == by).count()
}

/// None is doubled.
pub(crate) fn each_is_there_once(written: &BTreeMap<i32, Vec<Written>>) {
    let mut doubled: Vec<&Written> = Vec::new();
    for of_one in written.values() {
        let mut seen = BTreeSet::new();
        doubled.extend(of_one.iter().filter(|one| !seen.insert(one.offset)));
    }
    assert!(doubled.is_empty(), "{doubled:?}");
}

/// None is lost, and of each partition, so of each key, they were written for the first time in order.
pub(crate) fn all_are_there_in_order(
    written: &BTreeMap<i32, Vec<Written>>,
    ends: &BTreeMap<i32, i64>,
    records: u64,
) {
    let mut numbers = BTreeSet::new();
    for (partition, end) in ends {
        let mut next = 0;
        let mut last_of_key = BTreeMap::new();
        for one in written.get(partition).into_iter().flatten() {
            assert!(one.offset <= next, "{next} is missing before {one:?}");
            if one.offset == next {
                next += 1;
                numbers.insert(one.number);
                let before = last_of_key.insert(crate::feed::key(one.number), one.number);
                assert!(before < Some(one.number), "{before:?} before {one:?}");
            }
        }
        assert_eq!(next, *end, "the end of partition {partition}");
    }
    assert_eq!(numbers.len() as u64, records, "numbers that are there");
    assert_eq!(numbers.last(), Some(&(records - 1)));
}

/// What a group has committed never goes back: a commit of a time that is over is refused.
pub(crate) fn positions_only_advance(commits: &BTreeMap<i32, Vec<Committed>>) {
    for (partition, commits) in commits {
        for pair in commits.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            assert!(
                before.next <= after.next,
                "partition {partition} went back from {before:?} to {after:?}"
            );
        }
    }
}

/// Each worker began a partition, or began it anew, exactly where the group's position was; and that never
/// went back.
pub(crate) fn each_run_began_where_it_was_committed(
    runs: &[Run],
    commits: &BTreeMap<i32, Vec<Committed>>,
) {
    positions_only_advance(commits);
    for run in runs {
        let commits = commits.get(&run.partition).map_or(&[][..], Vec::as_slice);
        let before = commits.iter().rev().find(|one| one.at_ms < run.began_ms);
        let meanwhile = commits.iter().filter(|one| one.at_ms == run.began_ms);
        let position = before.map_or(0, |one| one.next);
        let began_there = run.first == position || { meanwhile }.any(|one| one.next == run.first);
        assert!(began_there, "{run} began behind or before {position}");
    }
}
