//! The order of keys: while a record of a key is to be tried again, the later ones of that key follow it.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::settings::RetryTopics;
use super::waiting::{Place, Table};
use crate::flow::{DeadLetters, Flow, OnError};
use crate::kafka::consumer::ConsumerHandle;
use crate::kafka::dead_letters::Scanner;
use crate::kafka::error::Error;
use crate::kafka::record::{Record, TopicPartition};
use crate::operator::Calls;
use crate::sync::{Mutex, lock};

impl RetryTopics {
    /// Processes records in the order of their keys, also where some are to be tried again: while a record
    /// of a key is in a retry topic, later ones of that key follow it there untried, each until those before
    /// it are done or given up. Other keys go on, and records without a key wait for nobody.
    ///
    /// The closure processes; `again` says of an error whether to try again later. What fails otherwise, or
    /// too often, goes to the dead letters, and its key goes on. Needs
    /// [`keep_key_order`](RetryTopics::keep_key_order), the handle of the consumer that reads the flow, and
    /// topics, retry topics included, of equally many partitions.
    ///
    /// Which records wait is kept in memory, an entry for each, no more than declared; beyond that the run
    /// stops. It is read anew from the retry topics at the start and after each rebalance, before anything is
    /// processed. A follower comes round once in the shortest delay and is written again each time.
    ///
    /// After a crash some records come twice, as always with at least once; the order of those that are
    /// processed for the first time stands.
    ///
    /// - *emits when* a record was processed;
    /// - *back-pressures when* the window is full, records that wait for one of their key inside included,
    ///   downstream does, or the queue of letters is full;
    /// - *completes when* upstream does and no record is inside;
    /// - *cancels when* downstream does: futures in flight are dropped;
    /// - *settles when* a record was put aside or given up: dead-lettered, once that is acknowledged;
    /// - *holds* up to the window, and an entry for each record that waits in a retry topic;
    /// - *costs* two look-ups by key for each record; a reading of what waits after each rebalance.
    ///
    /// # Example
    /// ```no_run
    /// use forebay::kafka::{self, Connection, ConsumerSettings, ProducerSettings, RetryTopics};
    /// use forebay::operator::Concurrency;
    ///
    /// # async fn ship(_: kafka::Record) -> Result<(), std::io::Error> { Ok(()) }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = || Connection::to("localhost:9092");
    /// let retries = RetryTopics::new(ProducerSettings::reliable(cluster())).keep_key_order(10_000);
    /// let reads = ConsumerSettings::new(cluster(), "shipping").topics(["orders"]);
    /// let (handle, flow) = kafka::source(retries.reads(reads));
    /// let letters = retries.letters(64)?;
    /// let calls = Concurrency::limit(16).window(256);
    /// retries
    ///     .in_key_order(flow, &handle, calls, &letters, ship, |_| true)
    ///     .for_each(drop)
    ///     .block_on()?;
    /// # Ok(()) }
    /// ```
    pub fn in_key_order<U, E, F, Fut>(
        &self,
        flow: Flow<Record>,
        handle: &ConsumerHandle,
        calls: impl Into<Calls>,
        letters: &DeadLetters,
        process: F,
        again: impl Fn(&E) -> bool + Send + Sync + 'static,
    ) -> Flow<U>
    where
        U: Send + 'static,
        E: fmt::Display + Send + 'static,
        F: FnMut(Record) -> Fut + Send + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
    {
        let order = Arc::new(KeyOrder {
            topics: self.clone(),
            handle: handle.clone(),
            table: Mutex::new(Table::default()),
            reading: tokio::sync::Mutex::new(()),
        });
        let (again, process) = (Arc::new(again), Arc::new(Mutex::new(process)));
        let work = move |record: Record| {
            let (order, again) = (Arc::clone(&order), Arc::clone(&again));
            let process = Arc::clone(&process);
            let (place, count) = Place::of(&record);
            let begin = move || (lock(&process))(record);
            async move {
                order.know().await?;
                let Some(place) = place else {
                    return begin().await.map_err(|error| Held::failed(error, &*again));
                };
                order.enter(&place)?;
                match begin().await {
                    Ok(made) => {
                        lock(&order.table).leave(&place);
                        Ok(made)
                    }
                    Err(error) => {
                        let held = Held::failed(error, &*again);
                        let waits = matches!(held, Held::Failed(_, true));
                        if waits && count < order.topics.most() {
                            order.wait(&place)?;
                        } else {
                            lock(&order.table).leave(&place);
                        }
                        Err(held)
                    }
                }
            }
        };
        let flow = flow
            .try_map_async_keyed(
                calls,
                |record: &Record| {
                    Place::of(record).0.map_or_else(
                        || (Err(record.offset()), record.topic_partition().clone()),
                        |place| (Ok(place.key), place.at),
                    )
                },
                work,
            )
            .error_class(|held| match held {
                Held::Failed(..) => std::any::type_name::<E>(),
                Held::Behind => "Behind",
                Held::Unknown(_) => "Unknown",
                Held::Full(_) => "Full",
            })
            .dead_letters(letters)
            .on_error(|held, _| match held {
                Held::Failed(_, true) => OnError::Later,
                Held::Failed(_, false) => OnError::DeadLetter,
                Held::Behind => OnError::Behind,
                Held::Unknown(_) | Held::Full(_) => OnError::Stop,
            });
        if self.keeps_order() {
            flow
        } else {
            flow.refused("`in_key_order` needs `RetryTopics::keep_key_order`".to_owned())
        }
    }
}

/// Why a record was not processed.
enum Held<E> {
    /// It failed; it is to be tried again later, or not.
    Failed(E, bool),
    /// One of its key before it waits.
    Behind,
    /// What waits could not be read.
    Unknown(Error),
    /// As many wait as may.
    Full(usize),
}

impl<E> Held<E> {
    fn failed(error: E, again: &impl Fn(&E) -> bool) -> Held<E> {
        let again = again(&error);
        Held::Failed(error, again)
    }
}

impl<E: fmt::Display> fmt::Display for Held<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Held::Failed(error, _) => error.fmt(f),
            Held::Behind => f.write_str("a record of its key is to be tried again first"),
            Held::Unknown(error) => write!(f, "what waits to be tried again is not known: {error}"),
            Held::Full(most) => write!(
                f,
                "{most} records wait to be tried again, and no more were declared to keep order by"
            ),
        }
    }
}

impl<E: fmt::Display> From<Held<E>> for crate::error::BoxError {
    fn from(held: Held<E>) -> Self {
        match held {
            Held::Unknown(error) => error.into(),
            held => held.to_string().into(),
        }
    }
}

struct KeyOrder {
    topics: RetryTopics,
    handle: ConsumerHandle,
    table: Mutex<Table>,
    /// One reads what waits; the others wait for that.
    reading: tokio::sync::Mutex<()>,
}

impl KeyOrder {
    /// Knows what waits in the partitions that this consumer has now.
    async fn know<E>(self: &Arc<Self>) -> Result<(), Held<E>> {
        if lock(&self.table).is_of(self.handle.rebalances()) {
            return Ok(());
        }
        let _alone = self.reading.lock().await;
        loop {
            let now = self.handle.rebalances();
            if lock(&self.table).is_of(now) {
                return Ok(());
            }
            let own = Arc::clone(self);
            let read = tokio::task::spawn_blocking(move || own.read());
            let places = match read.await {
                Ok(places) => places.map_err(Held::Unknown)?,
                Err(error) => return Err(Held::Unknown(Error::Thread(error.to_string()))),
            };
            let mut table = Table::read_after(now);
            let most = self.topics.most_waiting();
            if !places.iter().all(|place| table.wait(place, most)) {
                return Err(Held::Full(most));
            }
            *lock(&self.table) = table;
        }
    }

    fn enter<E>(&self, place: &Place) -> Result<(), Held<E>> {
        let mut table = lock(&self.table);
        if !table.is_behind(place) {
            return Ok(());
        }
        let most = self.topics.most_waiting();
        Err(if table.wait(place, most) {
            Held::Behind
        } else {
            Held::Full(most)
        })
    }

    fn wait<E>(&self, place: &Place) -> Result<(), Held<E>> {
        let most = self.topics.most_waiting();
        if lock(&self.table).wait(place, most) {
            Ok(())
        } else {
            Err(Held::Full(most))
        }
    }

    /// Reads what waits: what is in the retry topics behind what is committed. It blocks.
    fn read(&self) -> Result<Vec<Place>, Error> {
        let assigned: BTreeSet<TopicPartition> = self.handle.assignment().into_iter().collect();
        let mut retries = BTreeSet::new();
        for at in &assigned {
            retries.extend(self.topics.topics_of(&at.topic));
        }
        let mut theirs = Vec::new();
        for at in &assigned {
            if retries.contains(&*at.topic) {
                theirs.push(at.clone());
                continue;
            }
            for topic in self.topics.topics_of(&at.topic) {
                let own = TopicPartition::new(topic.as_str(), at.partition);
                if !assigned.contains(&own) {
                    return Err(Error::Invalid {
                        field: "keep_key_order".to_owned(),
                        value: own.to_string(),
                        why: format!(
                            "whoever has {at} must have this too: give both topics equally many \
                             partitions, and all members of the group the same settings"
                        ),
                    });
                }
            }
        }
        let mut places = Vec::new();
        let scanner = Scanner::open(self.handle.properties()?)?;
        for (at, from) in self.handle.committed(&theirs)? {
            scanner.scan(&at.topic, at.partition, from, |record| {
                places.extend(Place::of(&record).0);
                Ok(if places.len() > self.topics.most_waiting() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })?;
        }
        Ok(places)
    }
}
