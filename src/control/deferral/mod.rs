//! Elements that are put aside until there is less to do.
//!
//! [`Deferral`] is a bounded ring beside the flow. It says which element leaves it next and how:
//! - it is [offered again](Leaving::Reoffer) when the pressure has fallen, oldest first and at most at
//!   a rate; and once more, whatever the pressure, when it was put aside as long as it may;
//! - it goes to a place outside memory ([`Leaving::Spill`]), where there is one, when the ring has no
//!   room, or when it was not taken that last time;
//! - else it has [expired](Leaving::Expire) then, and at its own deadline in any case.
//!
//! Who asks does it: the ring does no I/O.
//!
//! # Invariants
//! - Never more than `items` elements; never more than `bytes` bytes, but for one element alone.
//! - No element stays longer than `ttl`, if the ring is asked at [`Deferral::next_at`]. None is offered
//!   again past its deadline.
//! - Elements leave in the order in which they were put aside. What is [put back](Deferral::put_back)
//!   goes to the front, where it came from.
//! - With `order_per_key`, an element whose key has one in the ring, or in the place outside since
//!   it was last empty, [must be deferred](Deferral::must_defer) too: no element overtakes another of
//!   its key.
//! - deferred = offered again + expired + spilled + removed + held - put back.
//!
//! # What it does not do
//! It does not decide who is deferred first: admission and queues do. It does not know the source's
//! window: `items` must be a part of it, or deferred elements hold up the source for good.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use forebay::class::Class;
//! use forebay::control::{Deferral, DeferralSettings, Deferred, Leaving};
//! use forebay::time::Time;
//!
//! # fn main() -> Result<(), forebay::control::Invalid> {
//! let settings = DeferralSettings::items(100).ttl(Duration::from_secs(30)).reoffer_below(0.5);
//! let mut deferral = Deferral::new(settings, Time::ZERO)?;
//! let facts = Deferred::new(Class::LOW, 100);
//! assert!(deferral.defer(Time::ZERO, facts, "a", &mut Vec::new()).is_ok());
//! assert_eq!(deferral.next(Time::ZERO, 0.9), None, "there is too much to do");
//! let again = deferral.next(Time::from_nanos(1), 0.2);
//! assert!(matches!(again, Some(Leaving::Reoffer(entry)) if entry.payload == "a"));
//! # Ok(()) }
//! ```

mod keys;
mod ring;
mod settings;
#[cfg(test)]
mod tests;

pub use ring::{Aside, Deferral, DeferralSnapshot, Deferred, Leaving};
pub use settings::DeferralSettings;
