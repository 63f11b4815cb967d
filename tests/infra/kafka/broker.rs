//! A broker of our own, ended whatever happens to this process.
// Not everybody who starts one looks into it.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

#[path = "servers.rs"]
pub(crate) mod servers;

pub(crate) use servers::config;
use servers::{Servers, launcher};

/// A running broker.
pub(crate) struct Broker {
    pub(crate) bootstrap: String,
    servers: Servers,
}

impl Broker {
    pub(crate) fn start() -> Broker {
        // Tests of compaction wait for the cleaner.
        let servers = Servers::start(1, &["log.cleaner.backoff.ms=200"]);
        Broker {
            bootstrap: servers.bootstrap.clone(),
            servers,
        }
    }

    /// Where it keeps its data, by the numbers of its nodes.
    pub(crate) fn folder(&self) -> &Path {
        &self.servers.folder
    }
}

/// What one of Kafka's own tools says.
pub(crate) fn tool(class: &str, arguments: &[&str]) -> String {
    let output = Command::new(launcher())
        .args(["tool", class])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{class} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Creates topics with that many partitions.
pub(crate) async fn create_topics(bootstrap: &str, topics: &[(&str, i32)]) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().unwrap();
    let topics: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(1)))
        .collect();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(20)));
    for created in admin.create_topics(&topics, &options).await.unwrap() {
        created.unwrap();
    }
}
