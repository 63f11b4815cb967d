//! How the systems under test are set up.

use forebay::boundary::WhenFull;
use serde::{Deserialize, Serialize};

/// What forebay's queue does when it is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Full {
    #[default]
    DropHead,
    DropTail,
    DropNew,
    DropBuffer,
    Backpressure,
}

impl Full {
    pub(crate) fn policy(self) -> WhenFull {
        match self {
            Full::DropHead => WhenFull::DropHead,
            Full::DropTail => WhenFull::DropTail,
            Full::DropNew => WhenFull::DropNew,
            Full::DropBuffer => WhenFull::DropBuffer,
            Full::Backpressure => WhenFull::Backpressure,
        }
    }
}

/// The order in which forebay's calls hand on their results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// As they end.
    #[default]
    Free,
    /// As the elements came.
    Kept,
}

/// The mechanisms of forebay's pipeline that can be left out, by name.
pub(crate) const MECHANISMS: &[&str] = &["expire", "drop_head"];

/// How forebay's pipeline is built.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policies {
    pub(crate) queue_items: usize,
    pub(crate) queue_bytes: u64,
    pub(crate) when_full: Full,
    pub(crate) expire: bool,
    pub(crate) order: Order,
    /// Mechanisms left out.
    pub(crate) without: Vec<String>,
}

impl Default for Policies {
    fn default() -> Policies {
        Policies {
            queue_items: 64,
            queue_bytes: 64 << 20,
            when_full: Full::DropHead,
            expire: true,
            order: Order::Free,
            without: Vec::new(),
        }
    }
}

impl Policies {
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=10_000_000).contains(&self.queue_items) {
            return Err(format!(
                "policies.queue_items = {}: from 1 to 10000000",
                self.queue_items
            ));
        }
        if self.queue_bytes == 0 {
            return Err("policies.queue_bytes = 0: at least 1".to_owned());
        }
        for name in &self.without {
            if !MECHANISMS.contains(&name.as_str()) {
                return Err(format!(
                    "policies.without: `{name}` is none of {}",
                    MECHANISMS.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// Whether a mechanism is to be there.
    pub(crate) fn has(&self, mechanism: &str) -> bool {
        !self.without.iter().any(|name| name == mechanism)
    }
}

/// How the baselines are set up.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Baselines {
    pub(crate) queue_items: usize,
    pub(crate) concurrency_limit_per_worker: usize,
    pub(crate) codel_target_services: f64,
    pub(crate) codel_interval_services: f64,
}

impl Default for Baselines {
    fn default() -> Baselines {
        Baselines {
            queue_items: 1024,
            concurrency_limit_per_worker: 4,
            codel_target_services: 4.0,
            codel_interval_services: 80.0,
        }
    }
}

impl Baselines {
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=10_000_000).contains(&self.queue_items) {
            return Err(format!(
                "baselines.queue_items = {}: from 1 to 10000000",
                self.queue_items
            ));
        }
        if !(1..=10_000).contains(&self.concurrency_limit_per_worker) {
            return Err(format!(
                "baselines.concurrency_limit_per_worker = {}: from 1 to 10000",
                self.concurrency_limit_per_worker
            ));
        }
        for (field, value) in [
            ("codel_target_services", self.codel_target_services),
            ("codel_interval_services", self.codel_interval_services),
        ] {
            if !(0.001..=1e6).contains(&value) {
                return Err(format!(
                    "baselines.{field} = {value}: from 0.001 to 1000000"
                ));
            }
        }
        Ok(())
    }
}
