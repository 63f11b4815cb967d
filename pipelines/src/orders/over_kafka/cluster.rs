//! The cluster, and the topics in it.

use forebay::kafka::{Admin, Connection, EmbeddedCluster, Error, GroupLag, Topic};

use super::ahead::Ahead;
use crate::cli::{Cluster, OrdersOptions, unusable};

/// Partitions of a topic that is made.
const PARTITIONS: u16 = 3;
/// What the topic of those that could not be delivered is called: the topic's name with this behind it.
pub(super) const DEAD: &str = ".dlq";

/// A cluster with the topics that are needed.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// What it is called.
    pub(super) name: String,
    pub(super) partitions: usize,
    admin: Admin,
    pub(super) embedded: Option<Embedded>,
}

/// What keeps an embedded cluster, and what is in it, within its bounds.
pub(super) struct Embedded {
    _cluster: EmbeddedCluster,
    pub(super) ahead: Ahead,
}

impl Opened {
    /// Starts the embedded one or asks the other, and has the topics made that are not there.
    pub(super) async fn open(options: &OrdersOptions, cluster: Cluster) -> anyhow::Result<Opened> {
        let named = |error: Error| unusable(format!("--kafka: {error}"));
        let asked = options.kafka.partitions;
        let topic = &options.kafka.topic;
        match cluster {
            Cluster::Embedded => {
                let cluster = EmbeddedCluster::start().map_err(named)?;
                let partitions = asked.unwrap_or(PARTITIONS);
                for name in [topic.clone(), format!("{topic}{DEAD}")] {
                    cluster.create_topic(&name, partitions).map_err(named)?;
                }
                Ok(Opened {
                    connection: cluster.connection(),
                    name: "an embedded cluster".to_owned(),
                    partitions: usize::from(partitions),
                    admin: Admin::of(&cluster.connection()).map_err(named)?,
                    embedded: Some(Embedded {
                        _cluster: cluster,
                        ahead: Ahead::default(),
                    }),
                })
            }
            Cluster::At(brokers) => {
                let connection = Connection::to(&brokers);
                let admin = Admin::of(&connection).map_err(named)?;
                let partitions = make(&admin, topic, asked).await.map_err(named)?;
                make(&admin, &format!("{topic}{DEAD}"), None)
                    .await
                    .map_err(named)?;
                Ok(Opened {
                    connection,
                    name: brokers,
                    partitions,
                    admin,
                    embedded: None,
                })
            }
        }
    }

    /// For a pipeline that is not run.
    pub(super) fn nowhere() -> anyhow::Result<Opened> {
        let connection = Connection::to("localhost:9092");
        Ok(Opened {
            admin: Admin::of(&connection)?,
            connection,
            name: String::new(),
            partitions: 0,
            embedded: None,
        })
    }

    /// Events that the group has not committed; none if the brokers do not say.
    pub(super) async fn lag(&self, options: &OrdersOptions) -> Option<u64> {
        let kafka = &options.kafka;
        let lag = self.admin.lag(&kafka.group, &kafka.topic).await.ok()?;
        Some(lag.iter().map(GroupLag::records).sum())
    }
}

/// Makes a topic, or takes it as it is where nothing is asked of it; how many partitions it has.
async fn make(admin: &Admin, name: &str, partitions: Option<u16>) -> Result<usize, Error> {
    let asked = partitions.unwrap_or(PARTITIONS);
    match admin.create(&Topic::named(name).partitions(asked)).await {
        Err(Error::Differs { .. }) if partitions.is_none() => {
            Ok(admin.describe(name).await?.partitions.len())
        }
        Err(error) => Err(error),
        Ok(_) => Ok(usize::from(asked)),
    }
}
