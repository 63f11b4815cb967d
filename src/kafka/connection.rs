//! Where the cluster is, and how to be let in.

use std::fmt;

use super::error::Error;
use super::properties::Properties;

/// Where the cluster is, and how to be let in.
///
/// # Example
/// ```
/// use forebay::kafka::{Connection, Sasl};
///
/// let connection = Connection::to("kafka-1:9092,kafka-2:9092")
///     .client_id("orders")
///     .sasl(Sasl::plain("alice", "hunter2"));
/// assert!(!format!("{connection:?}").contains("hunter2"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    bootstrap: String,
    client_id: Option<String>,
    tls: Option<Tls>,
    sasl: Option<Sasl>,
}

impl Connection {
    /// The brokers to ask first, as `host:port`, separated by commas.
    pub fn to(bootstrap: impl Into<String>) -> Connection {
        Connection {
            bootstrap: bootstrap.into(),
            client_id: None,
            tls: None,
            sasl: None,
        }
    }

    /// What the brokers' logs and quotas call this client. Default `forebay`.
    #[must_use]
    pub fn client_id(mut self, name: impl Into<String>) -> Connection {
        self.client_id = Some(name.into());
        self
    }

    /// Encrypts the connection. Needs the feature `kafka-tls`.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Connection {
        self.tls = Some(tls);
        self
    }

    /// Authenticates by user and password. SCRAM needs the feature `kafka-tls`.
    #[must_use]
    pub fn sasl(mut self, sasl: Sasl) -> Connection {
        self.sasl = Some(sasl);
        self
    }

    /// Whether this build can do what is asked for.
    pub(super) fn check(&self) -> Result<(), Error> {
        let scram = self.sasl.as_ref().map(|sasl| sasl.mechanism);
        let scram = scram.filter(|mechanism| mechanism.starts_with("SCRAM"));
        let (field, value) = match (&self.tls, scram) {
            _ if cfg!(feature = "kafka-tls") => return Ok(()),
            (Some(_), _) => ("security.protocol", "ssl"),
            (None, Some(mechanism)) => ("sasl.mechanism", mechanism),
            (None, None) => return Ok(()),
        };
        Err(Error::Invalid {
            field: field.to_owned(),
            value: value.to_owned(),
            why: "it needs the feature `kafka-tls`".to_owned(),
        })
    }

    pub(super) fn properties(&self) -> Properties {
        let mut properties = Properties::default();
        properties.put("bootstrap.servers", &self.bootstrap);
        properties.put("client.id", self.client_id.as_deref().unwrap_or("forebay"));
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => None,
            (Some(_), None) => Some("ssl"),
            (None, Some(_)) => Some("sasl_plaintext"),
            (Some(_), Some(_)) => Some("sasl_ssl"),
        };
        if let Some(protocol) = protocol {
            properties.put("security.protocol", protocol);
        }
        if let Some(tls) = &self.tls {
            tls.put(&mut properties);
        }
        if let Some(sasl) = &self.sasl {
            properties.put("sasl.mechanism", sasl.mechanism);
            properties.put("sasl.username", &sasl.user);
            properties.put("sasl.password", &sasl.password.0);
        }
        properties
    }
}

/// How the connection is encrypted, and who is trusted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tls {
    authorities: Option<String>,
    identity: Option<(String, String)>,
    unchecked_name: bool,
}

impl Tls {
    /// Trusts the authorities that the machine trusts.
    #[must_use]
    pub fn new() -> Tls {
        Tls::default()
    }

    /// Trusts the authorities in this file (PEM) alone.
    #[must_use]
    pub fn authorities(mut self, path: impl Into<String>) -> Tls {
        self.authorities = Some(path.into());
        self
    }

    /// Shows this certificate to the broker, with its key: paths of PEM files.
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Tls {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Takes a certificate that is trusted, whatever host it names. Whoever holds any certificate of
    /// these authorities can pose as the broker then.
    #[must_use]
    pub fn any_host_name(mut self) -> Tls {
        self.unchecked_name = true;
        self
    }

    fn put(&self, properties: &mut Properties) {
        if let Some(path) = &self.authorities {
            properties.put("ssl.ca.location", path);
        }
        if let Some((certificate, key)) = &self.identity {
            properties.put("ssl.certificate.location", certificate);
            properties.put("ssl.key.location", key);
        }
        if self.unchecked_name {
            properties.put("ssl.endpoint.identification.algorithm", "none");
        }
    }
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sasl {
    mechanism: &'static str,
    user: String,
    password: Secret,
}

impl Sasl {
    /// Sends the password as it is: to be used with [`Tls`] alone, or on one machine.
    pub fn plain(user: impl Into<String>, password: impl Into<String>) -> Sasl {
        Sasl::by("PLAIN", user, password)
    }

    /// Proves to know the password without sending it (SCRAM-SHA-256).
    pub fn scram_sha_256(user: impl Into<String>, password: impl Into<String>) -> Sasl {
        Sasl::by("SCRAM-SHA-256", user, password)
    }

    /// Proves to know the password without sending it (SCRAM-SHA-512).
    pub fn scram_sha_512(user: impl Into<String>, password: impl Into<String>) -> Sasl {
        Sasl::by("SCRAM-SHA-512", user, password)
    }

    fn by(mechanism: &'static str, user: impl Into<String>, password: impl Into<String>) -> Sasl {
        Sasl {
            mechanism,
            user: user.into(),
            password: Secret(password.into()),
        }
    }
}

/// Text that is not printed.
#[derive(Clone, PartialEq, Eq)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn what_this_build_cannot_do_is_refused_by_the_name_of_its_feature() {
        let plain = || Connection::to("localhost:9092");
        for (connection, field) in [
            (plain().tls(Tls::new()), "security.protocol"),
            (
                plain().sasl(Sasl::scram_sha_512("alice", "pw")),
                "sasl.mechanism",
            ),
        ] {
            let error = connection.check().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
            assert!(error.contains("kafka-tls"), "{error}");
        }
        assert!(plain().sasl(Sasl::plain("alice", "pw")).check().is_ok());
    }

    #[test]
    fn the_protocol_follows_from_what_is_asked_for() {
        let protocol = |connection: Connection| {
            let properties = connection.properties();
            properties.get("security.protocol").map(str::to_owned)
        };
        let plain = || Connection::to("localhost:9092");
        let user = || Sasl::scram_sha_256("alice", "pw");
        assert_eq!(protocol(plain()), None);
        assert_eq!(protocol(plain().tls(Tls::new())).as_deref(), Some("ssl"));
        assert_eq!(
            protocol(plain().sasl(user())).as_deref(),
            Some("sasl_plaintext")
        );
        let both = plain().tls(Tls::new()).sasl(user());
        assert_eq!(protocol(both).as_deref(), Some("sasl_ssl"));
    }
}
