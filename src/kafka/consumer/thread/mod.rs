//! The thread that owns the client: it serves its events, takes records over, answers rebalances.
//!
//! It never blocks for the flow. Where there is no room for a partition's records they stay in that
//! partition's own queue in the client, which fetches until that is full, and no further; the others
//! go on. So back-pressure needs no pause, which would throw away what was fetched.

mod assignment;
mod client;
mod orders;
mod revocation;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;

use super::commits::Committer;
use super::partition::{Partition, Phase, Position};
use super::settings::Commits;
use super::shared::Shared;
use crate::kafka::error::Error;
use crate::kafka::ffi::PartitionQueue;
use crate::kafka::record::{Parts, Record, Timestamp, TopicPartition, Writer};
use crate::kafka::throttle::Throttle;
use crate::sync::{Mutex, lock};
use client::{Change, unassign};
use revocation::Revocation;

pub(super) use client::Listener;
pub(in crate::kafka) use client::patiently;

/// Records of a partition taken in one go, before the next has its turn.
const TURN: usize = 2048;
/// Events of the client served in one go, before records have their turn.
const EVENTS: usize = 1000;
/// How long the thread sleeps at most: the client wants to be asked now and then.
const REST: Duration = Duration::from_millis(100);
/// How often it looks whether what is taken away has drained.
const LOOK: Duration = Duration::from_millis(2);
/// How long an answer of the brokers is waited for that can be done without.
const A_MOMENT: Duration = Duration::from_millis(500);
/// How long an answer of the brokers is waited for, where the thread has to.
const PATIENCE: Duration = Duration::from_secs(10);

/// A partition's queue in the client, and what its records are written with.
struct Intake {
    queue: PartitionQueue<Listener>,
    writer: Writer,
}

/// Whatever the thread ends with, the flow hears of it.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.thread = None;
        if thread::panicking() {
            let what = "the reading thread panicked".to_owned();
            state.error.get_or_insert(Error::Thread(what));
        }
        state.wake();
    }
}

/// Starts the thread.
pub(super) fn start(shared: &Arc<Shared>) -> Result<(), Error> {
    let own = Arc::clone(shared);
    let name = "kafka-consumer".to_owned();
    let started = thread::Builder::new().name(name).spawn(move || {
        let ending = Ending(Arc::clone(&own));
        if let Err(error) = Reader::run(&own) {
            own.lock().fail(error);
        }
        drop(ending);
    });
    match started {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Thread(error.to_string())),
    }
}

struct Reader<'a> {
    shared: &'a Arc<Shared>,
    consumer: Arc<BaseConsumer<Listener>>,
    intakes: BTreeMap<TopicPartition, Intake>,
    revocations: Vec<Revocation>,
    committer: Committer,
    last_commit: Instant,
    /// How many partitions each topic had when this consumer came to its group; none before.
    at_first: Option<BTreeMap<String, i32>>,
    /// Under at-most-once: records whose positions are to be committed before they are handed over, and
    /// those whose positions are being committed.
    unconfirmed: BTreeMap<TopicPartition, Vec<Record>>,
    confirming: BTreeMap<TopicPartition, Vec<Record>>,
}

impl<'a> Reader<'a> {
    fn run(shared: &'a Arc<Shared>) -> Result<(), Error> {
        let listener = Listener {
            shared: Arc::clone(shared),
            changes: Mutex::new(VecDeque::new()),
            told: AtomicU64::new(0),
            throttle: Throttle::new(shared.settings.pressure.as_ref()),
            closing: AtomicBool::new(false),
        };
        let config = shared.settings.checked()?;
        let mut consumer: BaseConsumer<Listener> = config.create_with_context(listener)?;
        let this = thread::current();
        shared.lock().thread = Some(this.clone());
        consumer.set_nonempty_callback(move || this.unpark());
        consumer.subscribe(&shared.settings.topics.subscription())?;
        let consumer = Arc::new(consumer);
        *lock(&shared.consumer) = Some(Arc::clone(&consumer));
        let committer = Committer::start(&consumer, shared)?;
        let mut reader = Reader {
            shared,
            consumer,
            intakes: BTreeMap::new(),
            revocations: Vec::new(),
            committer,
            last_commit: Instant::now(),
            at_first: None,
            unconfirmed: BTreeMap::new(),
            confirming: BTreeMap::new(),
        };
        let served = reader.serve();
        reader.close();
        served
    }

    fn serve(&mut self) -> Result<(), Error> {
        loop {
            self.serve_events()?;
            self.serve_orders();
            self.serve_revocations();
            self.seek();
            let took = self.take_records()?;
            self.confirm();
            self.commit();
            if self.shared.lock().stopping {
                return Ok(());
            }
            if !took {
                let rest = if self.revocations.is_empty() {
                    REST.min(self.shared.settings.commit_every)
                } else {
                    LOOK
                };
                thread::park_timeout(rest);
            }
        }
    }

    /// Has the client call back, and carries out what that came to.
    fn serve_events(&mut self) -> Result<(), Error> {
        let consumer = Arc::clone(&self.consumer);
        let told = &consumer.context().told;
        for _ in 0..EVENTS {
            let before = told.load(Ordering::Relaxed);
            let Some(polled) = consumer.poll(Duration::ZERO) else {
                // Nothing is given also where the listener was told something: more may wait behind it.
                if told.load(Ordering::Relaxed) == before {
                    break;
                }
                self.serve_changes()?;
                continue;
            };
            match polled {
                // It was there before its partition had a queue of its own.
                Ok(message) => self.stray(&message),
                Err(KafkaError::MessageConsumptionFatal(code)) => {
                    return Err(Error::Fatal(code.to_string()).explained(consumer.client()));
                }
                Err(error) => {
                    if let Some(code) = error.rdkafka_error_code() {
                        self.is_fatal(code, None)?;
                    }
                }
            }
            self.serve_changes()?;
        }
        self.serve_changes()
    }

    fn serve_changes(&mut self) -> Result<(), Error> {
        loop {
            let change = lock(&self.consumer.context().changes).pop_front();
            match change {
                None => return Ok(()),
                Some(Change::Assigned(list)) => self.assigned(list)?,
                Some(Change::Revoked { list, lost }) => self.revoked(list, lost)?,
            }
        }
    }

    /// What an error means that came where records come: most are noise of the transport, which the
    /// client tries again by itself.
    fn is_fatal(&self, code: RDKafkaErrorCode, at: Option<&TopicPartition>) -> Result<(), Error> {
        let place = at.map(ToString::to_string);
        let topics = || self.shared.settings.topics.subscription().join(", ");
        match code {
            // Topics of a pattern come and go.
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
                if self.shared.settings.topics.is_pattern() =>
            {
                Ok(())
            }
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
                let topic = at.map_or_else(topics, |at| at.topic.to_string());
                Err(Error::UnknownTopic { topic })
            }
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::NoOffset => {
                Err(Error::NoOffset {
                    at: place.unwrap_or_else(topics),
                    why: code.to_string(),
                })
            }
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed => Err(Error::Authorization {
                what: place.unwrap_or_else(|| self.shared.settings.concerned(Some(code), "")),
                why: code.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Takes over what there is room for. Whether it took anything.
    fn take_records(&mut self) -> Result<bool, Error> {
        let mut took = false;
        let capacity = self.shared.settings.hand_over;
        let before = self.shared.settings.commits == Commits::Before;
        for (place, intake) in &mut self.intakes {
            let room = {
                let mut state = self.shared.lock();
                let lane = state.lane_of(place);
                let is_draining = state.is_draining(lane);
                let Some(partition) = state.partitions.get_mut(place) else {
                    continue;
                };
                if is_draining || !partition.takes() {
                    continue;
                }
                let waiting = |some: &BTreeMap<_, Vec<Record>>| some.get(place).map_or(0, Vec::len);
                let waiting = waiting(&self.unconfirmed) + waiting(&self.confirming);
                let room = partition.room(capacity).saturating_sub(waiting);
                // Asked again when half of it is free: a record at a time would cost a turn each.
                partition.is_short = room == 0;
                room.min(TURN)
            };
            if room == 0 {
                continue;
            }
            let mut failed = None;
            let writer = &mut intake.writer;
            let count = intake.queue.take(room, |taken| match taken {
                Ok(parts) => writer.push(parts),
                Err(code) => failed = Some(code),
            });
            took |= count > 0;
            if !intake.writer.is_empty() {
                let (records, _) = intake.writer.finish();
                if before {
                    let unconfirmed = self.unconfirmed.entry(place.clone());
                    unconfirmed.or_default().extend(records);
                } else {
                    hand_over(self.shared, place, records, false);
                }
            }
            if let Some(code) = failed {
                let place = place.clone();
                self.is_fatal(code, Some(&place))?;
                return Ok(true);
            }
        }
        Ok(took)
    }

    /// A record that came where all partitions' do.
    fn stray(&mut self, message: &impl Message) {
        let place = TopicPartition::new(message.topic(), message.partition());
        let mut writer = Writer::new(Arc::new(place.clone()));
        let timestamp = match message.timestamp() {
            rdkafka::Timestamp::NotAvailable => Timestamp::Unknown,
            rdkafka::Timestamp::CreateTime(at) => Timestamp::Created(at),
            rdkafka::Timestamp::LogAppendTime(at) => Timestamp::Appended(at),
        };
        let headers = message.headers();
        writer.push(Parts {
            offset: message.offset(),
            timestamp,
            key: message.key(),
            value: message.payload(),
            headers: headers
                .into_iter()
                .flat_map(rdkafka::message::Headers::iter)
                .map(|header| (header.key.as_bytes(), header.value)),
        });
        let (records, _) = writer.finish();
        if self.shared.settings.commits == Commits::Before {
            self.unconfirmed.entry(place).or_default().extend(records);
        } else {
            hand_over(self.shared, &place, records, false);
        }
    }

    /// Under at-most-once: hands over what is committed, and commits what came meanwhile.
    fn confirm(&mut self) {
        if self.shared.settings.commits != Commits::Before || self.committer.is_busy() {
            return;
        }
        let good = self.committer.came_through();
        for (place, records) in std::mem::take(&mut self.confirming) {
            if good {
                hand_over(self.shared, &place, records, true);
            } else if self.is_owned(&place) {
                // Once more, with what came behind it.
                let behind = self.unconfirmed.entry(place).or_default();
                behind.splice(0..0, records);
            }
        }
        self.confirming = std::mem::take(&mut self.unconfirmed);
        let positions = self.confirming.iter().filter_map(|(place, records)| {
            Some(Position {
                at: Arc::new(place.clone()),
                sequence: None,
                next: records.last()?.offset() + 1,
            })
        });
        let positions: Vec<Position> = positions.collect();
        let is_confirmed = positions.is_empty() || !self.committer.commit(positions);
        let mut state = self.shared.lock();
        if state.is_confirmed != is_confirmed {
            state.is_confirmed = is_confirmed;
            state.wake();
        }
    }

    /// Commits what is settled, if it is time.
    fn commit(&mut self) {
        if self.committer.is_busy() || self.shared.settings.commits != Commits::Settled {
            return;
        }
        let settings = &self.shared.settings;
        let is_due = self.last_commit.elapsed() >= settings.commit_every || {
            let mut state = self.shared.lock();
            let settled: u64 = state.owned().map(|partition| partition.uncommitted()).sum();
            settled >= settings.commit_after
        };
        if is_due {
            self.commit_now();
        }
    }

    /// Begins a commit of what is settled; whether there is anything.
    fn commit_now(&mut self) -> bool {
        self.last_commit = Instant::now();
        if self.shared.settings.commits != Commits::Settled {
            return false;
        }
        let positions: Vec<_> = {
            let state = self.shared.lock();
            state.held().filter_map(Partition::to_commit).collect()
        };
        !positions.is_empty() && self.committer.commit(positions)
    }

    /// Commits what is settled, again if the group is changing just then: that takes answers of this member.
    fn commit_at_last(&mut self) {
        self.committer.wait();
        let until = Instant::now() + self.shared.settings.drain;
        while !self.consumer.assignment_lost() && self.commit_now() {
            self.committer.wait();
            let is_over = self.committer.came_through() || Instant::now() >= until;
            if is_over || self.serve_events().is_err() {
                return;
            }
            self.serve_revocations();
            thread::sleep(LOOK);
        }
    }

    /// Commits what is settled, and leaves the group.
    fn close(mut self) {
        self.commit_at_last();
        // The client cannot leave while it waits for these to be let go.
        for revocation in std::mem::take(&mut self.revocations) {
            let _ = unassign(&self.consumer, &revocation.list);
        }
        let mut state = self.shared.lock();
        for partition in state.partitions.values_mut() {
            partition.phase = Phase::Lost;
        }
        drop(state);
        let Reader {
            shared,
            consumer,
            intakes,
            committer,
            ..
        } = self;
        // All of these hold the client; it closes when the last is gone, which is here.
        drop(intakes);
        drop(committer);
        lock(&shared.consumer).take();
        consumer.context().closing.store(true, Ordering::Relaxed);
        drop(consumer);
    }
}

fn hand_over(shared: &Shared, place: &TopicPartition, records: Vec<Record>, committed: bool) {
    let mut state = shared.lock();
    if let Some(partition) = state.partitions.get_mut(place) {
        partition.push(records, committed);
    }
    state.wake_lane_of(place);
}
