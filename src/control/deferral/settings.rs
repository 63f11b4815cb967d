//! How deferral is declared.

use std::time::Duration;

use crate::control::Invalid;

/// How deferral is declared.
///
/// Default: any number of bytes, 60 s, offered again below a pressure of 0.5 until it is 0.7 again,
/// 100 a second, no order per key, no place outside memory, a quarter of the source's window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DeferralSettings {
    pub(super) items: usize,
    pub(super) bytes: u64,
    pub(super) ttl: Duration,
    pub(super) below: f64,
    pub(super) until: f64,
    pub(super) rate_per_s: f64,
    pub(super) burst: u32,
    pub(super) order_per_key: bool,
    pub(super) spill: bool,
    pub(super) share: f64,
}

impl DeferralSettings {
    /// At most that many elements, from 1.
    #[must_use]
    pub fn items(items: usize) -> DeferralSettings {
        DeferralSettings {
            items,
            bytes: u64::MAX,
            ttl: Duration::from_secs(60),
            below: 0.5,
            until: 0.7,
            rate_per_s: 100.0,
            burst: 10,
            order_per_key: false,
            spill: false,
            share: 0.25,
        }
    }

    /// At most that many bytes as well, from 1. One element may exceed them, alone.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> DeferralSettings {
        self.bytes = bytes;
        self
    }

    /// How long an element may be put aside, from 1 ns.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> DeferralSettings {
        self.ttl = ttl;
        self
    }

    /// Elements are offered again when the pressure, 0 to 1, is below that. They go on being offered
    /// until it is [`DeferralSettings::reoffer_until`], which is raised to it if it is less.
    #[must_use]
    pub fn reoffer_below(mut self, pressure: f64) -> DeferralSettings {
        self.below = pressure;
        self.until = self.until.max(pressure);
        self
    }

    /// Once elements are being offered again, they are until the pressure is that: not less than
    /// [`DeferralSettings::reoffer_below`], so that what they add does not stop them at once.
    #[must_use]
    pub fn reoffer_until(mut self, pressure: f64) -> DeferralSettings {
        self.until = pressure;
        self
    }

    /// At most that many are offered again in a second, and `burst` of them at once: 0.001 to 1e9,
    /// and from 1.
    #[must_use]
    pub fn rate(mut self, per_second: f64, burst: u32) -> DeferralSettings {
        self.rate_per_s = per_second;
        self.burst = burst;
        self
    }

    /// While an element of a key is put aside, the rest of that key is deferred too. A buffer by class
    /// is told the key by [`ClassBuffer::order_per_key`](crate::boundary::ClassBuffer::order_per_key).
    #[must_use]
    pub fn order_per_key(mut self) -> DeferralSettings {
        self.order_per_key = true;
        self
    }

    /// Which share of what their source may have unsettled may be put aside: above 0, up to 1. The rest
    /// is for elements that pass. A plan that could exceed it is refused.
    #[must_use]
    pub fn share_of_window(mut self, share: f64) -> DeferralSettings {
        self.share = share;
        self
    }

    /// Whether order is kept within a key.
    pub(crate) fn keeps_order(&self) -> bool {
        self.order_per_key
    }

    /// The share of the source's window.
    pub(crate) fn share(&self) -> f64 {
        self.share
    }

    /// There is a place outside memory: what has no room, and what was put aside too long, goes there.
    #[must_use]
    pub fn spill(mut self) -> DeferralSettings {
        self.spill = true;
        self
    }

    /// The most elements that are put aside.
    #[must_use]
    pub fn max_items(&self) -> usize {
        self.items
    }

    /// Whether there is a place outside memory.
    #[must_use]
    pub fn spills(&self) -> bool {
        self.spill
    }

    /// The most bytes that are put aside; `u64::MAX` if they are not limited.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether all settings are in range. (The rate and its burst are checked by
    /// [`Deferral::new`](super::Deferral::new).)
    ///
    /// # Errors
    /// The setting that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        Invalid::unless(self.items > 0, "items", self.items, "1 and more")?;
        Invalid::unless(self.bytes > 0, "bytes", self.bytes, "1 and more")?;
        let lasts = self.ttl > Duration::ZERO;
        Invalid::unless(lasts, "ttl", format!("{:?}", self.ttl), "more than nothing")?;
        let is_share = self.share > 0.0 && self.share <= 1.0;
        Invalid::unless(is_share, "share_of_window", self.share, "above 0, up to 1")?;
        let is_level = (0.0..=1.0).contains(&self.below);
        Invalid::unless(is_level, "reoffer_below", self.below, "0 to 1")?;
        let is_above = (self.below..=1.0).contains(&self.until);
        Invalid::unless(is_above, "reoffer_until", self.until, "reoffer_below to 1")
    }
}
