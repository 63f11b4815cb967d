//! The terms on which a stage begins calls: how many at once, and whether at all.
//!
//! [`Calls`] is what is declared. A gate before the stage that runs the calls takes in no more
//! elements than may be begun, and a tally that both share says how calls ended: by it the limit is
//! adapted, and the breaker judges.

mod aloft;
mod begun;
mod gate;
mod seen;
mod tallied;
mod tally;

use crate::control::{AdmissionHandle, BreakerHandle, LimitHandle, WhenOpen};
use crate::operator::Concurrency;

pub(crate) use begun::{Begun, tallied};
pub(crate) use gate::CallGate;
pub(crate) use tallied::Tallied;
pub(crate) use tally::Tally;

/// How many calls may run at once, and on which terms they begin.
///
/// A number or a [`Concurrency`] is a fixed limit. A [`LimitHandle`] is one that adapts, and that
/// several stages may share; a [`BreakerHandle`] keeps calls from a destination that fails, is slow or
/// does not answer. Both see every *try* as a call of its own: a retried element is several. While it
/// waits between two tries it keeps its place.
///
/// Both are told what ended together, at the end of the stage's turn at the latest, by one reading of the
/// clock: calls that are ready without ever waiting share the time that they took one after the other. The
/// breaker judges each call by itself all the same, in their order.
///
/// # Example
/// ```
/// use forebay::control::{BreakerHandle, BreakerSettings, LimitHandle};
/// use forebay::control::limit::Vegas;
/// use forebay::operator::Calls;
/// use forebay::{source, time};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limit = LimitHandle::new(Vegas::builder().bounds(1, 100).build()?);
/// let breaker = BreakerHandle::new(BreakerSettings::default(), time::now())?;
/// let calls = Calls::under(&limit).breaker(&breaker);
/// let doubled = source::iter(0..100).map_async(calls, |n| async move { n * 2 }).collect();
/// assert_eq!(doubled.block_on()?.len(), 100);
/// assert_eq!(breaker.snapshot(time::now()).counts.success, 100);
/// assert_eq!(limit.snapshot().leased, 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Calls {
    limit: Places,
    window: usize,
    breaker: Option<BreakerHandle>,
    admission: Option<AdmissionHandle>,
}

#[derive(Clone, Debug)]
enum Places {
    Fixed(usize),
    Shared(LimitHandle),
}

impl Calls {
    /// At most that many at once; 0 counts as 1.
    #[must_use]
    pub fn limit(limit: usize) -> Calls {
        Concurrency::limit(limit).into()
    }

    /// As many at once as that limit says, together with all other stages under it.
    #[must_use]
    pub fn under(limit: &LimitHandle) -> Calls {
        Calls {
            window: limit.snapshot().limit.most,
            limit: Places::Shared(limit.clone()),
            breaker: None,
            admission: None,
        }
    }

    /// At most that many elements inside, running or done and waiting for those before them; at
    /// least the limit.
    #[must_use]
    pub fn window(mut self, window: usize) -> Calls {
        self.window = window.max(self.most());
        self
    }

    /// Begins no call that this breaker does not permit, and tells it how calls end. A call fails when
    /// its result is an `Err` of a stage that [may fail](crate::flow::Fallible), or when it times out
    /// there. What becomes of elements meanwhile says its [`WhenOpen`]: they are shed, or not asked
    /// for. To divert them put [`divert_while_open`](crate::flow::Flow::divert_while_open) before the
    /// stage; to defer them, a buffer by class that does: what is not asked for fills it.
    ///
    /// At most 8 calls begin between two looks at it. Each element that it keeps away counts as
    /// [`not_permitted`](crate::control::BreakerCounts::not_permitted).
    #[must_use]
    pub fn breaker(mut self, breaker: &BreakerHandle) -> Calls {
        self.breaker = Some(breaker.clone());
        self
    }

    /// Tells that admission what these calls can take: it lets in what they can serve.
    #[must_use]
    pub fn feeding(mut self, admission: &AdmissionHandle) -> Calls {
        self.admission = Some(admission.clone());
        self
    }

    /// The most that can ever run at once.
    fn most(&self) -> usize {
        match &self.limit {
            Places::Fixed(limit) => *limit,
            Places::Shared(limit) => limit.snapshot().limit.most,
        }
    }

    pub(crate) fn concurrency(&self) -> Concurrency {
        Concurrency::limit(self.most()).window(self.window)
    }

    /// Whether the limit is a number that stays.
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self.limit, Places::Fixed(_))
    }

    /// What stages do while the breaker is open, if there is one.
    pub(crate) fn when_open(&self) -> Option<WhenOpen> {
        self.breaker.as_ref().map(BreakerHandle::when_open)
    }

    /// What the gate shares with the calls; `None` where the limit is fixed and nobody wants to know.
    pub(crate) fn tally(&self) -> Option<Tally> {
        let free = self.is_fixed() && self.breaker.is_none() && self.admission.is_none();
        (!free).then(|| Tally::new(self))
    }
}

impl From<usize> for Calls {
    fn from(limit: usize) -> Calls {
        Calls::limit(limit)
    }
}

impl From<Concurrency> for Calls {
    fn from(concurrency: Concurrency) -> Calls {
        Calls {
            limit: Places::Fixed(concurrency.limit),
            window: concurrency.window,
            breaker: None,
            admission: None,
        }
    }
}

impl From<&LimitHandle> for Calls {
    fn from(limit: &LimitHandle) -> Calls {
        Calls::under(limit)
    }
}
