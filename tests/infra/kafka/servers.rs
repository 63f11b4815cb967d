//! What a broker and a cluster of them share: servers of our own on free ports, ended whatever happens to
//! this process.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rdkafka::ClientConfig;

/// Servers that run, and what ends them.
pub(crate) struct Servers {
    pub(crate) bootstrap: String,
    pub(crate) folder: PathBuf,
    /// Ends them and removes their folder when its input is closed: by us, or by our death.
    warden: Child,
}

/// The script that starts and ends them.
pub(crate) fn launcher() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut places = [root, &root.join("..")]
        .map(|root| root.join("tests/infra/kafka/cluster"))
        .into_iter();
    places.find(|place| place.exists()).unwrap()
}

/// So many free ports in a row; the first of them.
fn free_ports(count: u16) -> u16 {
    loop {
        let first = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let mut rest = 1..count;
        if port < u16::MAX - count
            && rest.all(|behind| TcpListener::bind(("127.0.0.1", port + behind)).is_ok())
        {
            return port;
        }
    }
}

impl Servers {
    /// So many of them, each with a port for clients and one for the controller.
    pub(crate) fn start(nodes: u16, settings: &[&str]) -> Servers {
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Servers::start_with(nodes, 0, "", |_| settings)
    }

    /// So many of them, with so many ports more, which their settings are told the first of; `format` is
    /// for the tool that makes their folders.
    pub(crate) fn start_with(
        nodes: u16,
        more_ports: u16,
        format: &str,
        settings: impl FnOnce(u16) -> Vec<String>,
    ) -> Servers {
        let first = free_ports(2 * nodes + more_ports);
        let name = format!("forebay-kafka-{}-{first}", std::process::id());
        let folder = std::env::temp_dir().join(name);
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
        let mut servers = Servers {
            bootstrap: String::new(),
            folder,
            warden,
        };
        let output = Command::new(launcher())
            .args(["start", &nodes.to_string(), &first.to_string()])
            .arg(&servers.folder)
            .args(settings(first))
            .env("KAFKA_FORMAT", format)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "no broker started");
        let bootstrap = String::from_utf8(output.stdout).unwrap();
        bootstrap.trim().clone_into(&mut servers.bootstrap);
        servers
    }
}

impl Drop for Servers {
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
