//! A broker of our own: one node on free ports, ended whatever happens to this process.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

/// A running broker.
pub(crate) struct Broker {
    pub(crate) bootstrap: String,
    folder: PathBuf,
    /// Ends the broker and removes its folder when its input is closed: by us, or by our death.
    warden: Child,
}

fn launcher() -> PathBuf {
    {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut places = [root, &root.join("..")]
            .map(|root| root.join("tests/infra/kafka/cluster"))
            .into_iter();
        places.find(|place| place.exists()).unwrap()
    }
}

/// Two free ports in a row: one for clients, one for the controller.
fn free_ports() -> u16 {
    loop {
        let first = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

impl Broker {
    pub(crate) fn start() -> Broker {
        let folder = std::env::temp_dir().join(format!("forebay-kafka-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let warden = Command::new("sh")
            .args([
                "-c",
                "trap '' INT HUP TERM; cat >/dev/null; \"$0\" stop \"$1\"; rm -rf \"$1\"",
            ])
            .arg(launcher())
            .arg(&folder)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut broker = Broker {
            bootstrap: String::new(),
            folder,
            warden,
        };
        let output = Command::new(launcher())
            .args(["start", "1", &free_ports().to_string()])
            .arg(&broker.folder)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "the broker did not start");
        let bootstrap = String::from_utf8(output.stdout).unwrap();
        bootstrap.trim().clone_into(&mut broker.bootstrap);
        broker
    }
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

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.warden.stdin.take());
        let _ = self.warden.wait();
    }
}

/// What every client is told.
pub(crate) fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}
