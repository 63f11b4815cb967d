//! Looking through dead letters, replaying and discarding them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::filter::LetterFilter;
use super::letter::{Letter, LetterState};
use super::marks::{self, Marks, Transactions};
use super::replay::{Replay, Resolved, copy};
use super::scan::Scanner;
use crate::kafka::connection::Connection;
use crate::kafka::error::Error;
use crate::kafka::producer::{ProducerRecord, ProducerSettings};
use crate::kafka::properties::Properties;
use crate::kafka::record::Record;
use crate::time;

/// How long it may take at most until what was committed is seen.
const VISIBLE: Duration = Duration::from_secs(10);
/// Letters in one transaction.
const LETTERS: usize = 500;
/// Bytes in one transaction, but for a larger letter.
const BYTES: usize = 4 << 20;

/// Looks through the letters of a dead-letter topic, replays them, discards them.
///
/// What has become of a letter is kept in a topic beside it, `<topic>.marks`, which is made when the first
/// letter is replayed or discarded: one partition, compacted, a record for each letter, its key
/// `partition@offset`. The letters stay as they are. So a replay or a discard touches those alone that its
/// filter names, in any order; a second replay repeats nothing, however much later it comes; and what was
/// discarded can be found, and replayed, as long as the topic keeps it. The mark of a letter that the topic
/// keeps no longer goes with the next replay or discard.
///
/// Copies and marks are written in transactions, 500 letters or 4 MiB each: a letter is replayed and marked,
/// or neither. Readers of what is committed (the default of [`source`](crate::kafka::source)) see each copy
/// once, also if this is killed in between. Two that replay one topic at a time do not repeat each other
/// either: the one that began first ends with [`Error::Fenced`]. It needs rights to read the topics, to write
/// those that are replayed to and the marks, to create the latter, and to the transactional id
/// `forebay.dead-letters.<topic>`.
///
/// All of it blocks the thread that calls: in asynchronous code call it within `spawn_blocking`.
///
/// # Example
/// ```no_run
/// use forebay::kafka::{Connection, DeadLetterAdmin, LetterFilter, Replay};
///
/// let letters = DeadLetterAdmin::new(Connection::to("localhost:9092"), "orders.DLQ");
/// let late = LetterFilter::new().error_class("Timeout");
/// letters.list(&late, |letter| println!("{letter} {:?}", letter.provenance.error_message))?;
/// let replayed = letters.replay(&late, &Replay::new())?;
/// println!("{} letters are in their topics again", replayed.letters);
/// # Ok::<(), forebay::kafka::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeadLetterAdmin {
    connection: Connection,
    topic: Arc<str>,
    marks: Arc<str>,
    theirs: Properties,
}

impl DeadLetterAdmin {
    /// For the letters of that topic.
    pub fn new(connection: Connection, topic: impl Into<Arc<str>>) -> DeadLetterAdmin {
        let topic = topic.into();
        let marks = format!("{topic}.marks").into();
        DeadLetterAdmin {
            connection,
            topic,
            marks,
            theirs: Properties::default(),
        }
    }

    /// Sets any property of librdkafka, for all clients this uses.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.theirs.put(name, value);
        self
    }

    /// Calls back for each letter the filter names, partition by partition, in order. How many there were.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] if there is no such topic, and what the client says.
    pub fn list(&self, filter: &LetterFilter, mut each: impl FnMut(&Letter)) -> Result<u64, Error> {
        let mut count = 0;
        self.list_while(filter, |letter| {
            count += 1;
            each(letter);
            true
        })?;
        Ok(count)
    }

    /// The same, until the closure says false.
    ///
    /// # Errors
    /// As of [`list`](DeadLetterAdmin::list).
    pub fn list_while(
        &self,
        filter: &LetterFilter,
        mut each: impl FnMut(&Letter) -> bool,
    ) -> Result<(), Error> {
        let scanner = self.scanner()?;
        let marks = marks::read(&scanner, &self.marks)?;
        self.look(&scanner, &marks, filter, |letter| {
            Ok(if each(&letter) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })
    }

    /// The letter there, in whatever state; none if there is none.
    ///
    /// # Errors
    /// As of [`list`](DeadLetterAdmin::list).
    pub fn show(&self, partition: i32, offset: i64) -> Result<Option<Letter>, Error> {
        let filter = LetterFilter::new()
            .states(super::States::Any)
            .partition(partition)
            .offsets(offset..=offset);
        let mut found = None;
        self.list_while(&filter, |letter| {
            found = Some(letter.clone());
            false
        })?;
        Ok(found)
    }

    /// Writes the letters the filter names to their topics again, and marks them so.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] if a topic is gone that one is to go to, [`Error::Fenced`] if another replay of
    /// this topic began meanwhile, and what the client says. The transactions before are committed, and their
    /// letters marked.
    pub fn replay(&self, filter: &LetterFilter, replay: &Replay) -> Result<Resolved, Error> {
        let mut partitions: BTreeMap<Arc<str>, Vec<(i32, usize)>> = BTreeMap::new();
        self.resolve(filter, replay.dry, |scanner, letter, now_ms| {
            let home = letter.provenance.topic.as_deref().map(Arc::from);
            let Some(to) = replay.to.clone().or(home) else {
                return Ok(None);
            };
            let there = match partitions.get(&to) {
                Some(there) => there,
                None => {
                    let there = scanner.partitions(&to)?;
                    if there.is_empty() {
                        let topic = to.to_string();
                        return Err(Error::UnknownTopic { topic });
                    }
                    partitions.entry(Arc::clone(&to)).or_insert(there)
                }
            };
            let has = |partition: &i32| there.iter().any(|(there, _)| there == partition);
            let own = letter.provenance.partition.filter(has);
            let partition = own.filter(|_| replay.to.is_none() && !replay.by_key);
            let state = LetterState::Replayed {
                at_ms: now_ms,
                to: to.to_string(),
            };
            Ok(Some((Some(copy(letter, replay, to, partition)), state)))
        })
    }

    /// Marks the letters the filter names as given up: they are no longer pending. Nothing is deleted.
    ///
    /// # Errors
    /// As of [`replay`](DeadLetterAdmin::replay).
    pub fn discard(&self, filter: &LetterFilter, dry_run: bool) -> Result<Resolved, Error> {
        self.resolve(filter, dry_run, |_, _, at_ms| {
            Ok(Some((None, LetterState::Discarded { at_ms })))
        })
    }

    /// Does something with each letter, and marks it.
    fn resolve(
        &self,
        filter: &LetterFilter,
        dry: bool,
        mut decide: impl FnMut(&Scanner, &Letter, i64) -> Result<Option<Decision>, Error>,
    ) -> Result<Resolved, Error> {
        let scanner = self.scanner()?;
        let now_ms = i64::try_from(time::unix_ns() / 1_000_000).unwrap_or(i64::MAX);
        let mut transactions = if dry {
            None
        } else {
            Some(self.begin(&scanner)?)
        };
        // Only now: what another had begun is committed or undone, and nobody else goes on.
        let marks = marks::read(&scanner, &self.marks)?;
        let mut batch = Batch::default();
        let mut resolved = Resolved::default();
        self.look(&scanner, &marks, filter, |letter| {
            match decide(&scanner, &letter, now_ms)? {
                None => resolved.homeless += 1,
                Some((record, state)) => batch.add(&self.marks, &letter, record, &state),
            }
            if batch.is_full() {
                batch.flush(transactions.as_mut(), &mut resolved)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        batch.flush(transactions.as_mut(), &mut resolved)?;
        if let Some(transactions) = &mut transactions {
            self.forget(&scanner, &marks, transactions)?;
            self.await_marks(&scanner)?;
        }
        Ok(resolved)
    }

    /// Waits until whoever reads sees the marks: the brokers show what was committed a moment later.
    fn await_marks(&self, scanner: &Scanner) -> Result<(), Error> {
        let all = Scanner::open_uncommitted(self.properties())?;
        let until = Instant::now() + VISIBLE;
        for (partition, _) in scanner.partitions(&self.marks)? {
            let (_, end) = all.ends(&self.marks, partition)?;
            while scanner.ends(&self.marks, partition)?.1 < end && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Takes back the marks of letters that their topic has forgotten.
    fn forget(
        &self,
        scanner: &Scanner,
        marks: &Marks,
        transactions: &mut Transactions,
    ) -> Result<(), Error> {
        let mut stale = Vec::new();
        for (partition, _) in scanner.partitions(&self.topic)? {
            let (first, _) = scanner.ends(&self.topic, partition)?;
            let theirs = marks.range((partition, i64::MIN)..(partition, first));
            let gone = theirs.map(|(at, _)| marks::mark(&self.marks, *at, &LetterState::Pending));
            stale.extend(gone);
        }
        for some in stale.chunks(2 * LETTERS) {
            transactions.write(some)?;
        }
        Ok(())
    }

    /// Becomes the only one who marks, and sees to it that there is a topic for that.
    fn begin(&self, scanner: &Scanner) -> Result<Transactions, Error> {
        let replicas = match scanner.partitions(&self.topic)?.first() {
            Some((_, replicas)) => *replicas,
            None => return Err(self.unknown()),
        };
        if scanner.partitions(&self.marks)?.is_empty() {
            marks::make_topic(&self.properties(), &self.marks, replicas)?;
        }
        let mut writes = ProducerSettings::new(self.connection.clone());
        for (name, value) in self.theirs.iter() {
            writes = writes.set(name, value);
        }
        let properties = writes.for_any_length().properties()?;
        Transactions::begin(properties, &format!("forebay.dead-letters.{}", self.topic))
    }

    /// Calls back for the letters the filter names.
    fn look(
        &self,
        scanner: &Scanner,
        marks: &Marks,
        filter: &LetterFilter,
        mut each: impl FnMut(Letter) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let partitions = scanner.partitions(&self.topic)?;
        if partitions.is_empty() {
            return Err(self.unknown());
        }
        let (first, last) = match &filter.offsets {
            Some(offsets) => (*offsets.start(), *offsets.end()),
            None => (0, i64::MAX),
        };
        let mut is_over = false;
        for (partition, _) in partitions {
            if is_over || filter.partition.is_some_and(|only| only != partition) {
                continue;
            }
            scanner.scan(&self.topic, partition, first, |record: Record| {
                if record.offset() > last {
                    return Ok(ControlFlow::Break(()));
                }
                let mut letter = Letter::of(&record);
                if let Some(state) = marks.get(&(letter.partition, letter.offset)) {
                    letter.state = state.clone();
                }
                if !filter.fits(&letter) {
                    return Ok(ControlFlow::Continue(()));
                }
                let next = each(letter)?;
                is_over = next.is_break();
                Ok(next)
            })?;
        }
        Ok(())
    }

    fn scanner(&self) -> Result<Scanner, Error> {
        Scanner::open(self.properties())
    }

    fn properties(&self) -> Properties {
        let mut all = self.connection.properties();
        for (name, value) in self.theirs.iter() {
            all.put(name, value);
        }
        all
    }

    fn unknown(&self) -> Error {
        Error::UnknownTopic {
            topic: self.topic.to_string(),
        }
    }
}

/// What to write, if anything, and what to say of the letter.
type Decision = (Option<ProducerRecord>, LetterState);

/// What goes into one transaction.
#[derive(Default)]
struct Batch {
    records: Vec<ProducerRecord>,
    letters: usize,
    bytes: usize,
    topics: BTreeMap<String, u64>,
}

impl Batch {
    fn add(
        &mut self,
        marks: &Arc<str>,
        letter: &Letter,
        record: Option<ProducerRecord>,
        state: &LetterState,
    ) {
        self.letters += 1;
        self.bytes += letter.len();
        if let Some(record) = record {
            *self.topics.entry(record.topic().to_owned()).or_default() += 1;
            self.records.push(record);
        }
        let at = (letter.partition, letter.offset);
        self.records.push(marks::mark(marks, at, state));
    }

    fn is_full(&self) -> bool {
        self.letters >= LETTERS || self.bytes >= BYTES
    }

    fn flush(
        &mut self,
        transactions: Option<&mut Transactions>,
        resolved: &mut Resolved,
    ) -> Result<(), Error> {
        let batch = std::mem::take(self);
        if let (Some(transactions), false) = (transactions, batch.records.is_empty()) {
            transactions.write(&batch.records)?;
        }
        resolved.letters += batch.letters as u64;
        resolved.bytes += batch.bytes as u64;
        for (topic, count) in batch.topics {
            *resolved.topics.entry(topic).or_default() += count;
        }
        Ok(())
    }
}
