//! Topics and groups seen from outside: made, described, deleted, and how far a group is behind.

mod client;
mod lag;
mod topic;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use tokio::sync::oneshot;

pub use lag::GroupLag;
pub(super) use topic::is_topic;
pub use topic::{Created, PartitionDescription, Topic, TopicDescription};

use super::connection::Connection;
use super::error::Error;
use client::Client;

/// How long the brokers have for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks whether what was asked for is there.
const LOOK: Duration = Duration::from_millis(50);

/// Who may make, describe and delete topics of a cluster.
///
/// Its methods wait without blocking the thread that polls them, on whatever executor; one that is dropped
/// while it waits may have been carried out or not.
///
/// # Example
/// ```no_run
/// use forebay::kafka::{Admin, Connection, Created, Topic};
///
/// # async fn example() -> Result<(), forebay::kafka::Error> {
/// let admin = Admin::of(&Connection::to("localhost:9092"))?;
/// let orders = Topic::named("orders").partitions(6).set("retention.ms", 86_400_000);
/// if admin.create(&orders).await? == Created::Existed {
///     println!("it is there already, and as it was asked for");
/// }
/// for partition in admin.lag("billing", "orders").await? {
///     println!("{}: {} behind", partition.at, partition.records());
/// }
/// # Ok(()) }
/// ```
pub struct Admin {
    connection: Connection,
    client: Option<Arc<Client>>,
}

impl Admin {
    /// For the cluster of this connection. Nothing is connected before something is asked.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a connection that cannot be.
    pub fn of(connection: &Connection) -> Result<Admin, Error> {
        let client = Client::create(&connection.properties().checked()?)?;
        Ok(Admin {
            connection: connection.clone(),
            client: Some(Arc::new(client)),
        })
    }

    /// Makes a topic, unless there is one of that name that is as it was asked for; ready once each of
    /// its partitions has a leader.
    ///
    /// # Errors
    /// [`Error::Differs`] if there is one that is otherwise: it is left as it is. [`Error::Invalid`] for
    /// a topic that cannot be.
    pub async fn create(&self, topic: &Topic) -> Result<Created, Error> {
        topic.check()?;
        if let Some(found) = self.find(&topic.name).await? {
            return self.compare(topic, found).await;
        }
        let number = |given: Option<u16>| given.map_or(-1, i32::from);
        let mut new = NewTopic::new(
            &topic.name,
            number(topic.partitions),
            TopicReplication::Fixed(number(topic.replicas)),
        );
        for (name, value) in &topic.settings {
            new = new.set(name, value);
        }
        let made = self.client()?.admin.create_topics([&new], &options());
        match made.await?.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                let found = self.await_leaders(&topic.name).await?;
                self.compare(topic, found).await
            }
            Some(Err((_, code))) => Err(of_topic(&topic.name, code)),
            Some(Ok(_)) | None => {
                self.await_leaders(&topic.name).await?;
                Ok(Created::Made)
            }
        }
    }

    /// The partitions and settings of a topic.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] if there is none of that name.
    pub async fn describe(&self, topic: &str) -> Result<TopicDescription, Error> {
        let Some(mut found) = self.find(topic).await? else {
            return Err(Error::UnknownTopic {
                topic: topic.to_owned(),
            });
        };
        self.read_settings(&mut found).await?;
        Ok(found)
    }

    /// Deletes a topic and all its records; whether there was one.
    ///
    /// # Errors
    /// What the brokers said against it.
    pub async fn delete(&self, topic: &str) -> Result<bool, Error> {
        if self.find(topic).await?.is_none() {
            return Ok(false);
        }
        let gone = self.client()?.admin.delete_topics(&[topic], &options());
        match gone.await?.into_iter().next() {
            Some(Err((_, code))) if is_unknown(code) => Ok(false),
            Some(Err((_, code))) => Err(of_topic(topic, code)),
            Some(Ok(_)) | None => {
                let until = Instant::now() + PATIENCE;
                while self.find(topic).await?.is_some() && Instant::now() < until {
                    crate::time::sleep(LOOK).await;
                }
                Ok(true)
            }
        }
    }

    /// How far a group is behind in each partition of a topic, whether its members run or not.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] if there is none of that name.
    pub async fn lag(&self, group: &str, topic: &str) -> Result<Vec<GroupLag>, Error> {
        let Some(found) = self.find(topic).await? else {
            return Err(Error::UnknownTopic {
                topic: topic.to_owned(),
            });
        };
        let connection = self.connection.clone();
        let group = group.to_owned();
        on_thread(move || lag::of(&connection, &group, &found)).await?
    }

    /// Finds a topic by the metadata of all: a question for one would make it, where brokers make topics
    /// by themselves.
    async fn find(&self, topic: &str) -> Result<Option<TopicDescription>, Error> {
        let client = Arc::clone(self.client()?);
        let asked = topic.to_owned();
        let found = on_thread(move || {
            let all = client.metadata();
            // Whoever holds the client last waits until its thread has ended.
            drop(client);
            all.map(|all| description(&all, &asked))
        });
        found.await?
    }

    /// Waits until each partition of a topic that was made has a leader.
    async fn await_leaders(&self, topic: &str) -> Result<TopicDescription, Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.find(topic).await? {
                Some(found) if found.partitions.iter().all(|one| one.leader.is_some()) => {
                    return Ok(found);
                }
                _ if Instant::now() >= until => {
                    return Err(Error::UnknownTopic {
                        topic: topic.to_owned(),
                    });
                }
                _ => crate::time::sleep(LOOK).await,
            }
        }
    }

    async fn compare(&self, topic: &Topic, mut found: TopicDescription) -> Result<Created, Error> {
        if !topic.settings.is_empty() {
            self.read_settings(&mut found).await?;
        }
        topic.compare(&found).map(|()| Created::Existed)
    }

    async fn read_settings(&self, found: &mut TopicDescription) -> Result<(), Error> {
        let which = [ResourceSpecifier::Topic(&found.name)];
        let told = self.client()?.admin.describe_configs(&which, &options());
        for resource in told.await? {
            let resource = match resource {
                Ok(resource) => resource,
                Err(code) => return Err(of_topic(&found.name, code)),
            };
            for entry in resource.entries {
                let value = entry.value.unwrap_or_default();
                found.settings.insert(entry.name, value);
            }
        }
        Ok(())
    }

    fn client(&self) -> Result<&Arc<Client>, Error> {
        let closed = || Error::Fatal("the client was closed".to_owned());
        self.client.as_ref().ok_or_else(closed)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Drop for Admin {
    /// Closing waits for a thread of the client: not here.
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            let closes = thread::Builder::new().name("kafka-admin".to_owned());
            let _ = closes.spawn(move || drop(client));
        }
    }
}

/// What the brokers say against a topic.
fn of_topic(topic: &str, code: RDKafkaErrorCode) -> Error {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed => Error::Authorization {
            what: topic.to_owned(),
            why: code.to_string(),
        },
        code if is_unknown(code) => Error::UnknownTopic {
            topic: topic.to_owned(),
        },
        RDKafkaErrorCode::InvalidReplicationFactor
        | RDKafkaErrorCode::InvalidPartitions
        | RDKafkaErrorCode::InvalidConfig => Error::Invalid {
            field: "topic".to_owned(),
            value: topic.to_owned(),
            why: code.to_string(),
        },
        code => Error::Client(KafkaError::AdminOp(code)),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE))
}

fn is_unknown(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition
    )
}

fn description(all: &Metadata, topic: &str) -> Option<TopicDescription> {
    let found = all.topics().iter().find(|one| one.name() == topic)?;
    let partitions = found.partitions().iter();
    let mut partitions: Vec<PartitionDescription> = partitions
        .map(|one| PartitionDescription {
            number: one.id(),
            leader: (one.leader() >= 0).then(|| one.leader()),
            replicas: one.replicas().to_vec(),
            in_sync: one.isr().to_vec(),
        })
        .collect();
    partitions.sort_by_key(|one| one.number);
    // One that is being deleted, or was not heard of by this broker yet, has none.
    (!partitions.is_empty()).then(|| TopicDescription {
        name: topic.to_owned(),
        partitions,
        ..TopicDescription::default()
    })
}

/// Has a thread do what blocks.
async fn on_thread<V: Send + 'static>(
    work: impl FnOnce() -> V + Send + 'static,
) -> Result<V, Error> {
    let (told, result) = oneshot::channel();
    let started = thread::Builder::new()
        .name("kafka-admin".to_owned())
        .spawn(move || {
            let _ = told.send(work());
        });
    if let Err(error) = started {
        return Err(Error::Thread(error.to_string()));
    }
    let ended = |_| Error::Thread("a question to the brokers was not answered".to_owned());
    result.await.map_err(ended)
}
