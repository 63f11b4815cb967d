//! How the systems under test are set up.

use std::time::Duration;

use forebay::control::{LaneOrder, WhenNoRoom};
use serde::{Deserialize, Serialize};

use super::class::{ByClass, Rank};

/// What becomes of an element for which there is no room, after lower classes made way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NoRoom {
    Evict,
    Wait,
    Refuse,
    Defer,
}

/// In which order forebay serves elements of one class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InClass {
    #[default]
    Fifo,
    Lifo,
    Adaptive,
}

impl InClass {
    pub(crate) fn lane(self) -> LaneOrder {
        match self {
            InClass::Fifo => LaneOrder::Fifo,
            InClass::Lifo => LaneOrder::Lifo,
            InClass::Adaptive => LaneOrder::Adaptive,
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

/// How many calls forebay has in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HowMany {
    /// As many as there are workers.
    #[default]
    Workers,
    Aimd,
    Vegas,
    Gradient2,
}

/// What forebay does while its breaker is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Open {
    Reject,
    #[default]
    Pause,
}

/// The mechanisms of forebay's pipeline that can be left out, by name.
pub(crate) const MECHANISMS: &[&str] = &[
    "admission",
    "priority",
    "eviction",
    "reserve",
    "aging",
    "expire",
    "stale",
    "defer",
    "limit",
    "breaker",
    "timeout",
    "give_up_late",
];

/// How forebay's pipeline is built.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policies {
    pub(crate) inbox_items: usize,
    pub(crate) admission: bool,
    pub(crate) admission_target_services: f64,
    pub(crate) admission_window_services: f64,
    pub(crate) queue_services: f64,
    pub(crate) queue_lower_services: f64,
    pub(crate) queue_bytes: u64,
    pub(crate) when_no_room: ByClass<NoRoom>,
    pub(crate) wait_ms: u64,
    pub(crate) in_class: ByClass<InClass>,
    pub(crate) aging_share: f64,
    pub(crate) aging_wait_services: f64,
    pub(crate) stale_services: f64,
    pub(crate) stale_interval_services: f64,
    pub(crate) defer_items: usize,
    pub(crate) defer_ttl_ms: u64,
    pub(crate) defer_per_s: f64,
    pub(crate) expire: bool,
    pub(crate) limit: HowMany,
    pub(crate) limit_least: usize,
    pub(crate) limit_most_per_worker: usize,
    pub(crate) breaker: bool,
    pub(crate) breaker_slow_services: f64,
    pub(crate) breaker_open_services: f64,
    pub(crate) when_open: Open,
    pub(crate) timeout_services: f64,
    pub(crate) give_up_late: bool,
    pub(crate) order: Order,
    /// Mechanisms left out.
    pub(crate) without: Vec<String>,
}

impl Default for Policies {
    fn default() -> Policies {
        Policies {
            inbox_items: 256,
            admission: false,
            admission_target_services: 2.0,
            admission_window_services: 10.0,
            queue_services: 10.0,
            queue_lower_services: 4.0,
            queue_bytes: 64 << 20,
            when_no_room: ByClass::make(|_| NoRoom::Evict),
            wait_ms: 1000,
            in_class: ByClass::make(|_| InClass::Fifo),
            aging_share: 0.05,
            aging_wait_services: 4.0,
            stale_services: 4.0,
            stale_interval_services: 20.0,
            defer_items: 0,
            defer_ttl_ms: 1000,
            defer_per_s: 100.0,
            expire: true,
            limit: HowMany::Workers,
            limit_least: 1,
            limit_most_per_worker: 8,
            breaker: true,
            breaker_slow_services: 100.0,
            breaker_open_services: 50.0,
            when_open: Open::Pause,
            timeout_services: 200.0,
            give_up_late: true,
            order: Order::Free,
            without: Vec::new(),
        }
    }
}

impl Policies {
    pub(crate) fn check(&self) -> Result<(), String> {
        for (field, items) in [
            ("inbox_items", self.inbox_items),
            ("defer_items", self.defer_items),
        ] {
            let least = usize::from(field == "inbox_items");
            if !(least..=10_000_000).contains(&items) {
                return Err(format!(
                    "policies.{field} = {items}: from {least} to 10000000"
                ));
            }
        }
        if self.queue_bytes == 0 {
            return Err("policies.queue_bytes = 0: at least 1".to_owned());
        }
        for (field, services) in [
            ("admission_target_services", self.admission_target_services),
            ("admission_window_services", self.admission_window_services),
            ("breaker_slow_services", self.breaker_slow_services),
            ("breaker_open_services", self.breaker_open_services),
            ("timeout_services", self.timeout_services),
            ("queue_services", self.queue_services),
            ("queue_lower_services", self.queue_lower_services),
            ("aging_wait_services", self.aging_wait_services),
            ("stale_services", self.stale_services),
            ("stale_interval_services", self.stale_interval_services),
        ] {
            if !(0.001..=1e6).contains(&services) {
                return Err(format!(
                    "policies.{field} = {services}: from 0.001 to 1000000"
                ));
            }
        }
        if !(1..=10_000).contains(&self.limit_least) {
            return Err(format!(
                "policies.limit_least = {}: from 1 to 10000",
                self.limit_least
            ));
        }
        if !(1..=10_000).contains(&self.limit_most_per_worker) {
            return Err(format!(
                "policies.limit_most_per_worker = {}: from 1 to 10000",
                self.limit_most_per_worker
            ));
        }
        if self.stale_interval_services < self.stale_services {
            return Err(format!(
                "policies.stale_interval_services = {}: at least stale_services = {}",
                self.stale_interval_services, self.stale_services
            ));
        }
        if !(0.001..=1e9).contains(&self.defer_per_s) {
            return Err(format!(
                "policies.defer_per_s = {}: from 0.001 to 1000000000",
                self.defer_per_s
            ));
        }
        if !(0.0..=0.5).contains(&self.aging_share) {
            return Err(format!(
                "policies.aging_share = {}: from 0 to 0.5",
                self.aging_share
            ));
        }
        for (field, ms) in [
            ("wait_ms", self.wait_ms),
            ("defer_ttl_ms", self.defer_ttl_ms),
        ] {
            if !(1..=3_600_000).contains(&ms) {
                return Err(format!("policies.{field} = {ms}: from 1 to 3600000"));
            }
        }
        let defers = Rank::ALL
            .into_iter()
            .find(|rank| *self.when_no_room.of(*rank) == NoRoom::Defer);
        if let Some(rank) = defers.filter(|_| self.defer_items == 0) {
            return Err(format!(
                "policies.when_no_room.{} = defer: defer_items is 0",
                rank.name()
            ));
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

    /// What becomes of an element of that class for which there is no room.
    pub(crate) fn no_room(&self, rank: Rank) -> WhenNoRoom {
        match self.when_no_room.of(rank) {
            NoRoom::Evict if !self.has("eviction") => WhenNoRoom::Refuse,
            NoRoom::Evict => WhenNoRoom::Evict,
            NoRoom::Wait => WhenNoRoom::Wait(Duration::from_millis(self.wait_ms)),
            NoRoom::Refuse => WhenNoRoom::Refuse,
            NoRoom::Defer if !self.has("defer") => WhenNoRoom::Refuse,
            NoRoom::Defer => WhenNoRoom::Defer,
        }
    }

    /// Whether it makes a difference to leave a mechanism out.
    pub(crate) fn uses(&self, mechanism: &str) -> bool {
        let declared = match mechanism {
            "admission" => self.admission,
            "reserve" => self.queue_lower_services < self.queue_services,
            "aging" => self.aging_share > 0.0,
            "expire" => self.expire,
            "defer" => self.defer_items > 0,
            "limit" => self.limit != HowMany::Workers,
            "breaker" => self.breaker,
            "give_up_late" => self.give_up_late,
            _ => true,
        };
        declared && self.has(mechanism)
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
