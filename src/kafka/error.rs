//! What can go wrong with Kafka, by type.

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// An error of a Kafka client.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be. Nothing was connected.
    #[error("`{field}` cannot be {value}: {why}")]
    Invalid {
        /// The setting, by librdkafka's name where it has one.
        field: String,
        /// What it was set to; secrets are left out.
        value: String,
        /// Why not, and what it may be.
        why: String,
    },
    /// Settings of which each can be, but not all of them together, or that name a file that is not
    /// there. Nothing was connected.
    #[error("no client can be made of these settings: {0}")]
    Settings(String),
    /// The broker does not know these credentials, or there are none.
    #[error("not authenticated: {0}: check the user, the password and the mechanism")]
    Authentication(String),
    /// The broker's certificate is not that of whom we trust, or not for its name; or it does not trust
    /// ours.
    #[error("not trusted: {0}: check the authorities, the certificate and the host's name")]
    Untrusted(String),
    /// These credentials may not do this.
    #[error("not authorised: {what}: {why}: grant the right, or name another topic or group")]
    Authorization {
        /// The topic, group or transactional id, where it is known.
        what: String,
        /// What the broker said.
        why: String,
    },
    /// There is no such topic, and the broker makes none.
    #[error("topic `{topic}` does not exist: create it, or correct its name")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// There is such a topic, and it is not as it was asked for. It is left as it is.
    #[error(
        "topic `{topic}` has `{what}` {is}, asked for was {asked}: change the topic, or what is asked for"
    )]
    Differs {
        /// Its name.
        topic: String,
        /// `partitions`, `replicas`, or the name of a setting.
        what: String,
        /// What it has.
        is: String,
        /// What it was to have.
        asked: String,
    },
    /// The position to begin at is not there any more, or not yet, and nothing was declared for that.
    #[error(
        "{at} has no offset to begin at: {why}; declare `otherwise` with `Earliest` or `Latest`"
    )]
    NoOffset {
        /// Topic and partition.
        at: String,
        /// What the broker said.
        why: String,
    },
    /// Another client has the same name, or took it over: a transactional id, or the name of a member.
    #[error("fenced: another client uses this transactional id or member's name: {0}")]
    Fenced(String),
    /// The client cannot go on; a new one is needed.
    #[error("the client failed for good: {0}")]
    Fatal(String),
    /// A thread of the client ended, by a panic or because it could not be started.
    #[error("a thread of the client ended: {0}")]
    Thread(String),
    /// Whatever else the client says.
    #[error("{0}")]
    Client(KafkaError),
}

impl Error {
    /// What an error that came by itself means: `None` if the client goes on by itself, which is so for
    /// brokers that cannot be reached and requests that time out.
    pub(super) fn asynchronous(error: &KafkaError, reason: &str) -> Option<Error> {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code()?;
        match code {
            // Broken off is noise, and is tried again; a certificate stays what it is.
            Code::SSL | Code::BrokerTransportFailure if is_about_trust(reason) => {
                Some(Error::Untrusted(reason.to_owned()))
            }
            Code::Authentication | Code::SaslAuthenticationFailed => {
                Some(Error::Authentication(reason.to_owned()))
            }
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => Some(Error::Authorization {
                what: match code {
                    Code::ClusterAuthorizationFailed => "the cluster".to_owned(),
                    _ => String::new(),
                },
                why: if reason.is_empty() {
                    code.to_string()
                } else {
                    reason.to_owned()
                },
            }),
            Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::FencedInstanceId => Some(Error::Fenced(reason.to_owned())),
            Code::Fatal => Some(Error::Fatal(reason.to_owned())),
            _ => None,
        }
    }

    /// What may not be done, where the error itself does not say.
    pub(super) fn concerning(mut self, whom: impl FnOnce() -> String) -> Error {
        if let Error::Authorization { what, .. } = &mut self
            && what.is_empty()
        {
            *what = whom();
        }
        self
    }

    /// What a client failed of for good, instead of that it did.
    pub(super) fn explained<C: ClientContext>(self, client: &Client<C>) -> Error {
        match (&self, client.fatal_error()) {
            (Error::Fatal(_), Some((code, words))) => {
                Error::asynchronous(&KafkaError::Global(code), &words).unwrap_or(self)
            }
            _ => self,
        }
    }
}

/// Whether a failure of TLS is one of certificates: as OpenSSL says it of the broker's, and as the broker's
/// alerts say it of ours.
fn is_about_trust(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["certificate", "unknown ca"]
        .iter()
        .any(|words| reason.contains(words))
}

impl From<KafkaError> for Error {
    fn from(error: KafkaError) -> Error {
        if let KafkaError::ClientCreation(why) = error {
            return Error::Settings(why);
        }
        let words = error.to_string();
        Error::asynchronous(&error, &words).unwrap_or(Error::Client(error))
    }
}
