//! What can be asked of Kafka.

use clap::{Args, ValueEnum};

/// Where `forebay orders` puts a topic in between.
#[derive(Args, Debug)]
pub(crate) struct KafkaOptions {
    /// Put a topic between the paying side and the service: `embedded` for a cluster in this process,
    /// or the brokers to ask first
    #[arg(long = "kafka", value_name = "embedded|HOST:PORT,..", value_parser = cluster, conflicts_with = "overload")]
    pub(crate) cluster: Option<Cluster>,
    /// Which side this process is
    #[arg(
        long,
        value_name = "SIDE",
        default_value = "both",
        requires = "cluster"
    )]
    pub(crate) role: Role,
    /// The topic of the events; what could not be delivered goes to the one with `.dlq` behind its name
    #[arg(
        long,
        value_name = "NAME",
        default_value = "order-paid-events",
        requires = "cluster"
    )]
    pub(crate) topic: String,
    /// The group of the log side: processes of one group share the partitions
    #[arg(
        long,
        value_name = "NAME",
        default_value = "order-log",
        requires = "cluster"
    )]
    pub(crate) group: String,
    /// Partitions the topic is to have [default: as it has, 3 if it is made]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), requires = "cluster")]
    pub(crate) partitions: Option<u16>,
}

/// Where the cluster is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cluster {
    /// In this process.
    Embedded,
    /// The brokers to ask first.
    At(String),
}

/// Which side of the topic a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Reads orders and writes their events to the topic.
    Pay,
    /// Reads events from the topic and posts them, until it is told to stop.
    Log,
    /// Both, until all events are posted.
    Both,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Pay => "pay",
            Role::Log => "log",
            Role::Both => "both",
        }
    }
}

fn cluster(text: &str) -> Result<Cluster, String> {
    if text == "embedded" {
        return Ok(Cluster::Embedded);
    }
    let is_broker = |broker: &str| {
        broker.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    if text.split(',').all(is_broker) {
        Ok(Cluster::At(text.to_owned()))
    } else {
        Err("neither `embedded` nor brokers such as kafka-1:9092,kafka-2:9092".to_owned())
    }
}

/// What `forebay plan-partitions` is asked for.
#[derive(Args, Debug)]
pub(crate) struct PlanOptions {
    /// Megabytes a second that the topic carries at its peak
    #[arg(long, value_name = "MB", value_parser = rate)]
    pub(crate) total_mb_per_s: f64,
    /// Megabytes a second that one partition carries: measure it
    #[arg(long, value_name = "MB", default_value_t = 10.0, value_parser = rate)]
    pub(crate) partition_mb_per_s: f64,
    /// Consumers of the largest group
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) consumers: u32,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "not a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_embedded_or_a_list_of_brokers() {
        assert_eq!(cluster("embedded"), Ok(Cluster::Embedded));
        for good in ["localhost:9092", "a:1,b:65535", "[::1]:9092"] {
            assert_eq!(cluster(good), Ok(Cluster::At(good.to_owned())));
        }
        for bad in [
            "",
            "localhost",
            "a:0",
            "a:65536",
            ":9092",
            "a:1,",
            "a:1,b",
            "a:x",
        ] {
            assert!(cluster(bad).is_err(), "{bad}");
        }
    }
}
