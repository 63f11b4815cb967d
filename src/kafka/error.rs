//! What can go wrong with Kafka, by type.

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
    /// The broker does not know these credentials, or there are none.
    #[error("not authenticated: {0}: check the user, the password and the mechanism")]
    Authentication(String),
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
    /// Another producer has the same transactional id, or took it over.
    #[error("fenced: another producer uses this transactional id: {0}")]
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
            Code::Authentication | Code::SaslAuthenticationFailed => {
                Some(Error::Authentication(reason.to_owned()))
            }
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => Some(Error::Authorization {
                what: String::new(),
                why: if reason.is_empty() {
                    code.to_string()
                } else {
                    reason.to_owned()
                },
            }),
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
                Some(Error::Fenced(reason.to_owned()))
            }
            Code::Fatal => Some(Error::Fatal(reason.to_owned())),
            _ => None,
        }
    }
}

impl From<KafkaError> for Error {
    fn from(error: KafkaError) -> Error {
        let words = error.to_string();
        Error::asynchronous(&error, &words).unwrap_or(Error::Client(error))
    }
}
