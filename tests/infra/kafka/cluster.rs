//! Three brokers of our own that are killed, stopped and started again; ended whatever happens to this
//! process.
//!
//! Each of them is a controller as well: with two of them gone nothing is decided, no leader and no set
//! of replicas in sync.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

#[path = "servers.rs"]
mod servers;

pub(crate) use servers::config;
use servers::{Servers, launcher};

/// How long the cluster may take to do what it is asked for.
const PATIENCE: Duration = Duration::from_secs(90);

/// The topics brokers keep the positions of groups in, and the state of transactions: each of so many
/// partitions, as the launcher says.
const OFFSETS: &str = "__consumer_offsets";
const TRANSACTIONS: &str = "__transaction_state";
const COORDINATORS: i32 = 4;

/// Three brokers, known by the numbers 1, 2 and 3.
pub(crate) struct Cluster {
    pub(crate) bootstrap: String,
    servers: Servers,
    /// What was done to each of them.
    states: [State; 3],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Runs,
    Stopped,
    Killed,
}

impl Cluster {
    /// Brokers that are missed after 3 s, and let members of groups be missed after 1 s.
    pub(crate) fn start() -> Cluster {
        let servers = Servers::start(
            3,
            &[
                "broker.session.timeout.ms=3000",
                "broker.heartbeat.interval.ms=500",
                "group.min.session.timeout.ms=1000",
            ],
        );
        Cluster {
            bootstrap: servers.bootstrap.clone(),
            servers,
            states: [State::Runs; 3],
        }
    }

    fn launcher(&self, verb: &str, node: i32) {
        let status = Command::new(launcher())
            .arg(verb)
            .arg(&self.servers.folder)
            .arg(node.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .status()
            .unwrap();
        assert!(status.success(), "{verb} {node}");
    }

    fn become_(&mut self, verb: &str, node: i32, state: State) {
        self.launcher(verb, node);
        self.states[node as usize - 1] = state;
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, node: i32) {
        self.become_("kill", node, State::Killed);
    }

    /// SIGSTOP.
    pub(crate) fn pause(&mut self, node: i32) {
        self.become_("pause", node, State::Stopped);
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self, node: i32) {
        self.become_("resume", node, State::Runs);
    }

    /// Starts it again, and waits until it answers.
    pub(crate) fn restart(&mut self, node: i32) {
        self.become_("restart", node, State::Runs);
    }

    /// Has all of them run, and waits until all have what the others have.
    pub(crate) fn heal(&mut self) {
        for node in 1..=3 {
            match self.states[node as usize - 1] {
                State::Runs => {}
                State::Stopped => self.resume(node),
                State::Killed => self.restart(node),
            }
        }
        self.until("all replicas to be in sync", |cluster| {
            let metadata = cluster.metadata(None)?;
            let whole = metadata.topics().iter().all(|topic| {
                let mut partitions = topic.partitions().iter();
                partitions.all(|one| one.leader() > 0 && one.isr().len() == one.replicas().len())
            });
            (metadata.brokers().len() == 3 && whole).then_some(())
        });
    }

    /// Asks until there is an answer.
    fn until<V>(&self, what: &str, mut ask: impl FnMut(&Cluster) -> Option<V>) -> V {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(Instant::now() < until, "waited in vain for {what}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn metadata(&self, topic: Option<&str>) -> Option<rdkafka::metadata::Metadata> {
        let client: BaseConsumer = config(&self.bootstrap).create().unwrap();
        client.fetch_metadata(topic, Duration::from_secs(5)).ok()
    }

    /// The broker that leads a partition now.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> i32 {
        self.until(&format!("a leader of {topic}/{partition}"), |cluster| {
            let metadata = cluster.metadata(Some(topic))?;
            let mut partitions = metadata.topics().first()?.partitions().iter();
            let leader = partitions.find(|one| one.id() == partition)?.leader();
            (leader > 0).then_some(leader)
        })
    }

    /// The brokers that have all of a partition.
    pub(crate) fn in_sync(&self, topic: &str, partition: i32) -> Vec<i32> {
        self.until(&format!("{topic}/{partition} to be known"), |cluster| {
            let metadata = cluster.metadata(Some(topic))?;
            let mut partitions = metadata.topics().first()?.partitions().iter();
            Some(partitions.find(|one| one.id() == partition)?.isr().to_vec())
        })
    }

    /// The broker that coordinates a group.
    pub(crate) fn coordinator(&self, group: &str) -> i32 {
        self.leader(OFFSETS, partition_of(group))
    }

    /// The broker that coordinates the transactions of an id.
    pub(crate) fn transaction_coordinator(&self, id: &str) -> i32 {
        self.leader(TRANSACTIONS, partition_of(id))
    }

    /// Creates topics of so many partitions, each on all three brokers.
    pub(crate) fn create_topics(&self, topics: &[&str], partitions: i32) {
        let wanted = |name| NewTopic::new(name, partitions, TopicReplication::Fixed(3));
        self.create(topics.iter().copied().map(wanted).collect());
    }

    /// Creates a topic of one partition on these brokers alone.
    pub(crate) fn create_topic_on(&self, name: &str, nodes: &[i32]) {
        let replicas = [nodes];
        let replication = TopicReplication::Variable(&replicas);
        self.create(vec![NewTopic::new(name, 1, replication)]);
    }

    fn create(&self, topics: Vec<NewTopic<'_>>) {
        let admin: AdminClient<DefaultClientContext> = config(&self.bootstrap).create().unwrap();
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(20)));
        self.until("topics to be created", |_| {
            let results = block_on(admin.create_topics(&topics, &options)).ok()?;
            let is_there = |code| code == RDKafkaErrorCode::TopicAlreadyExists;
            let mut results = results.into_iter();
            results
                .all(|result| result.map_or_else(|(_, code)| is_there(code), |_| true))
                .then_some(())
        });
        let names: Vec<&str> = topics.iter().map(|topic| topic.name).collect();
        self.until("topics to have leaders", |cluster| {
            let metadata = cluster.metadata(None)?;
            let led = names.iter().all(|name| {
                let mut known = metadata.topics().iter();
                known.any(|topic| {
                    let partitions = topic.partitions();
                    topic.name() == *name
                        && !partitions.is_empty()
                        && partitions.iter().all(|one| one.leader() > 0)
                })
            });
            led.then_some(())
        });
    }

    /// Has another broker lead a partition: the order of its replicas is turned, and the first of them
    /// elected.
    pub(crate) fn move_leader(&self, topic: &str, partition: i32) -> (i32, i32) {
        let before = self.leader(topic, partition);
        let replicas = [before % 3 + 1, (before + 1) % 3 + 1, before];
        let place = format!("{{\"topic\":\"{topic}\",\"partition\":{partition}");
        let plan =
            format!("{{\"version\":1,\"partitions\":[{place},\"replicas\":{replicas:?}}}]}}");
        self.admin(
            "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
            &["--execute", "--reassignment-json-file"],
            &plan,
        );
        let elect = format!("{{\"partitions\":[{place}}}]}}");
        self.admin(
            "org.apache.kafka.tools.LeaderElectionCommand",
            &["--election-type", "preferred", "--path-to-json-file"],
            &elect,
        );
        let after = self.until("another leader", |cluster| {
            let leader = cluster.leader(topic, partition);
            (leader != before).then_some(leader)
        });
        (before, after)
    }

    /// Runs one of the brokers' own tools on a file of JSON.
    fn admin(&self, class: &str, options: &[&str], json: &str) {
        let file = self.servers.folder.join("tool.json");
        std::fs::write(&file, json).unwrap();
        self.until(class, |cluster| {
            let output = Command::new(launcher())
                .args(["tool", class, "--bootstrap-server", &cluster.bootstrap])
                .args(options)
                .arg(&file)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            output.status.success().then_some(())
        });
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(future)
}

/// The partition that keeps what belongs to a name: by the hash that Java has for it.
fn partition_of(name: &str) -> i32 {
    let hash = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    (name.encode_utf16().fold(0, hash) & i32::MAX) % COORDINATORS
}
