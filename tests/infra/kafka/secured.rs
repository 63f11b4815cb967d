//! A broker that lets in whom it knows, under each of the ways to be known, and only to what is theirs.
//!
//! Its plain listener is for the tests' own use: who comes there may do everything.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::broker::servers::{Servers, launcher};

/// A running broker. It knows `alice` and `bob`, who may do everything and nothing with what is called
/// `granted..`.
pub(crate) struct Secured {
    /// For the tests themselves: `host:port`.
    pub(crate) plain: String,
    /// By user and password, not encrypted.
    pub(crate) sasl: String,
    /// Encrypted, for whoever trusts [`Secured::authority`] and shows [`Secured::identity`].
    pub(crate) tls: String,
    /// By user and password, encrypted.
    pub(crate) sasl_tls: String,
    servers: Servers,
    certificates: tempfile::TempDir,
}

/// The tool that makes the folder splits its arguments at blanks.
const PASSWORDS: [(&str, &str); 2] = [("alice", "opensesame7731"), ("bob", "builder7732")];

pub(crate) fn password(user: &str) -> &'static str {
    let found = PASSWORDS.iter().find(|(name, _)| *name == user);
    found.unwrap().1
}

impl Secured {
    pub(crate) fn start() -> Secured {
        let certificates = tempfile::tempdir().unwrap();
        make_certificates(certificates.path());
        let users = PASSWORDS.map(|(name, password)| {
            format!("--add-scram SCRAM-SHA-256=[name={name},password={password}]")
        });
        let format = users.join(" ");
        let mut first = 0;
        let servers = Servers::start_with(1, 3, &format, |port| {
            first = port;
            settings(port, certificates.path())
        });
        let at = |number: u16| format!("127.0.0.1:{}", first + number);
        Secured {
            plain: at(0),
            sasl: at(2),
            tls: at(3),
            sasl_tls: at(4),
            servers,
            certificates,
        }
    }

    /// Who signed the broker's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.certificates.path().join("authority.crt")
    }

    /// A certificate of that authority, and its key.
    pub(crate) fn identity(&self) -> (PathBuf, PathBuf) {
        let at = |name| self.certificates.path().join(name);
        (at("client.crt"), at("client.key"))
    }

    /// Who did not.
    pub(crate) fn stranger(&self) -> PathBuf {
        self.certificates.path().join("stranger.crt")
    }

    /// Lets a user do this with all whose name begins so: `--topic` or `--group`, `Read`, `All`, ..
    pub(crate) fn grant(&self, user: &str, operation: &str, kind: &str, prefix: &str) {
        let status = Command::new(launcher())
            .args(["tool", "org.apache.kafka.tools.AclCommand"])
            .args(["--bootstrap-server", &self.servers.bootstrap, "--add"])
            .args(["--allow-principal", &format!("User:{user}")])
            .args(["--operation", operation, kind, prefix])
            .args(["--resource-pattern-type", "prefixed"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

fn settings(port: u16, certificates: &Path) -> Vec<String> {
    let keys = certificates.join("server.pem");
    let authority = certificates.join("authority.crt");
    let module = "org.apache.kafka.common.security";
    let users = PASSWORDS.map(|(name, password)| format!("user_{name}=\"{password}\""));
    let users = users.join(" ");
    let plain = format!("{module}.plain.PlainLoginModule required {users};");
    let scram = format!("{module}.scram.ScramLoginModule required;");
    let mut settings = vec![
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{},SASL://127.0.0.1:{},\
             TLS://127.0.0.1:{},BOTH://127.0.0.1:{}",
            port + 1,
            port + 2,
            port + 3,
            port + 4
        ),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,\
         SASL:SASL_PLAINTEXT,TLS:SSL,BOTH:SASL_SSL"
            .to_owned(),
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256".to_owned(),
        "ssl.keystore.type=PEM".to_owned(),
        format!("ssl.keystore.location={}", keys.display()),
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
        format!(
            "listener.name.tls.ssl.truststore.location={}",
            authority.display()
        ),
        "listener.name.tls.ssl.truststore.type=PEM".to_owned(),
        "listener.name.tls.ssl.client.auth=required".to_owned(),
        "super.users=User:ANONYMOUS;User:CN=client".to_owned(),
    ];
    for listener in ["sasl", "both"] {
        settings.push(format!(
            "listener.name.{listener}.plain.sasl.jaas.config={plain}"
        ));
        settings.push(format!(
            "listener.name.{listener}.scram-sha-256.sasl.jaas.config={scram}"
        ));
    }
    settings
}

/// An authority, certificates of it for the broker and for a client, and another authority.
fn make_certificates(folder: &Path) {
    let script = r#"
        set -e
        for name in authority stranger; do
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$name" \
                -keyout $name.key -out $name.crt
        done
        printf 'subjectAltName=IP:127.0.0.1' >names
        for name in server client; do
            openssl req -new -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
            openssl x509 -req -in $name.csr -CA authority.crt -CAkey authority.key -CAcreateserial \
                -days 2 -extfile names -out $name.crt
        done
        cat server.key server.crt authority.crt >server.pem
    "#;
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
