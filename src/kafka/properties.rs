//! What a client is told: every property by name, who set it, checked before anything connects.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};

use super::{Error, ffi};

/// The properties of a client, by librdkafka's names.
///
/// What forebay sets is visible here and may be changed with `set` of the settings it came from; what
/// its promises stand on may not, and the error says why.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Properties {
    values: BTreeMap<String, String>,
}

/// Properties that are not shown.
const SECRETS: &[&str] = &[
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

impl Properties {
    pub(super) fn put(&mut self, name: impl Into<String>, value: impl ToString) {
        self.values.insert(name.into(), value.to_string());
    }

    pub(super) fn leave_out(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// The value of a property, if it is set. One that is not has librdkafka's default.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// All that are set, by name. Secrets are among them: print the `Properties`, not these.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.values.iter();
        values.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Takes over what a user set, but for what must stay as it is.
    pub(super) fn overlay(
        &mut self,
        theirs: &Properties,
        fixed: &[(&'static str, &'static str)],
    ) -> Result<(), Error> {
        for (name, value) in theirs.iter() {
            if let Some((name, why)) = fixed.iter().find(|(fixed, _)| *fixed == name) {
                return Err(Error::Invalid {
                    field: (*name).to_owned(),
                    value: shown(name, value).to_owned(),
                    why: (*why).to_owned(),
                });
            }
            self.put(name, value);
        }
        Ok(())
    }

    /// What rdkafka makes a client of.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a property that librdkafka does not know, or a value it does not take.
    pub(super) fn checked(&self) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::new();
        config.set_log_level(super::log_level());
        for (name, value) in self.iter() {
            config.set(name, value);
        }
        match config.create_native_config() {
            Ok(_) => Ok(config),
            Err(rdkafka::error::KafkaError::ClientConfig(_, why, name, value)) => {
                Err(Error::Invalid {
                    value: shown(&name, &value).to_owned(),
                    field: name,
                    why,
                })
            }
            Err(error) => Err(Error::Client(error)),
        }
    }
}

impl FromIterator<(String, String)> for Properties {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Properties {
        Properties {
            values: pairs.into_iter().collect(),
        }
    }
}

/// A client that tells what it was told, and logs nothing.
struct Told;

impl ClientContext for Told {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ConsumerContext for Told {}

impl ProducerContext for Told {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// All that a consumer of these properties has, once it is made. It knows no broker, and connects to none.
pub(super) fn effective_of_consumer(mut config: ClientConfig) -> Result<Properties, Error> {
    config.remove("bootstrap.servers");
    let consumer: BaseConsumer<Told> = config.create_with_context(Told)?;
    Ok(ffi::effective(consumer.client()).into_iter().collect())
}

/// The same of a producer.
pub(super) fn effective_of_producer(mut config: ClientConfig) -> Result<Properties, Error> {
    config.remove("bootstrap.servers");
    let producer: BaseProducer<Told> = config.create_with_context(Told)?;
    Ok(ffi::effective(producer.client()).into_iter().collect())
}

fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if SECRETS.contains(&name) {
        "(secret)"
    } else {
        value
    }
}

/// A line a property, secrets left out.
impl fmt::Display for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.iter() {
            writeln!(f, "{name}={}", shown(name, value))?;
        }
        Ok(())
    }
}

/// Secrets left out.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(name, value)| (name, shown(name, value)));
        f.debug_map().entries(shown).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        let mut properties = Properties::default();
        properties.put("sasl.password", "hunter2");
        properties.put("client.id", "orders");
        let shown = format!("{properties}{properties:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("client.id=orders"), "{shown}");
        assert_eq!(properties.get("sasl.password"), Some("hunter2"));
    }

    #[test]
    fn an_unknown_property_and_an_impossible_value_are_named_before_anything_connects() {
        let mut properties = Properties::default();
        properties.put("linger.msec", 5);
        let Err(Error::Invalid { field, .. }) = properties.checked() else {
            panic!("an unknown property was taken");
        };
        assert_eq!(field, "linger.msec");
        let mut properties = Properties::default();
        properties.put("linger.ms", "soon");
        let Err(Error::Invalid { field, value, .. }) = properties.checked() else {
            panic!("an impossible value was taken");
        };
        assert_eq!((field.as_str(), value.as_str()), ("linger.ms", "soon"));
    }

    #[test]
    fn what_a_promise_stands_on_is_not_overridden() {
        let mut ours = Properties::default();
        let mut theirs = Properties::default();
        theirs.put("enable.auto.commit", "true");
        let fixed = [("enable.auto.commit", "receipts decide what is committed")];
        let error = ours.overlay(&theirs, &fixed).unwrap_err().to_string();
        assert!(error.contains("receipts decide"), "{error}");
    }
}
