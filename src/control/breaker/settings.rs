//! What a breaker is told before it starts.

use std::time::Duration;

use crate::control::Invalid;

/// Over which calls the rates are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakerWindow {
    /// The last so many calls: 1 to 1 000 000, a byte each.
    Calls(usize),
    /// The calls that ended within the last span, kept in 20 buckets: the oldest twentieth leaves at
    /// once.
    Span(Duration),
}

/// What a stage does with an element while its breaker refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenOpen {
    /// The element is shed: counted, and its producer learns of it.
    #[default]
    Reject,
    /// The stage asks for nothing until the breaker lets calls through: the queue before it fills,
    /// and its policy decides. It takes its permits first, by
    /// [`poll_acquire`](super::BreakerHandle::poll_acquire), and gives back those for which no element
    /// came. Never while the run drains: see [`WhenOpen::while_draining`].
    PauseDemand,
    /// The element goes to the stage's other output.
    Divert,
    /// The element is put aside and offered again later.
    Defer,
}

impl WhenOpen {
    /// What holds while the run drains. A stage that pauses then would keep the drain waiting until
    /// its deadline for a destination that does not answer, so what would pause is rejected.
    #[must_use]
    pub fn while_draining(self) -> WhenOpen {
        match self {
            WhenOpen::PauseDemand => WhenOpen::Reject,
            other => other,
        }
    }
}

/// The settings of a [`Breaker`](super::Breaker). The defaults are resilience4j's where it has one.
///
/// | setting | default | resilience4j |
/// | --- | --- | --- |
/// | window, minimum calls | last 100 calls, 100 | the same |
/// | failure rate | 0.5 | 50 % |
/// | slow after, slow rate | 60 s, 1.0 | 60 s, 100 % |
/// | hung share, hung calls | 0.5, 1 | calls in flight are not looked at |
/// | pressure | off | none |
/// | open for, factor, longest | 60 s, 2, 10 min | 60 s, always |
/// | half open: first, most, within | 1, 10, 60 s | 10 at once, for ever |
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BreakerSettings {
    pub(super) window: BreakerWindow,
    pub(super) minimum_calls: usize,
    pub(super) failure_rate: f64,
    pub(super) slow_after: Duration,
    pub(super) slow_rate: f64,
    pub(super) hung_share: f64,
    pub(super) hung_calls: usize,
    pub(super) pressure: Option<(f64, u32)>,
    pub(super) open_for: Duration,
    pub(super) open_factor: f64,
    pub(super) open_longest: Duration,
    pub(super) half_open_first: usize,
    pub(super) half_open_most: usize,
    pub(super) half_open_within: Duration,
    pub(super) when_open: WhenOpen,
    pub(super) log_bound: usize,
    pub(super) log_calls: bool,
}

impl Default for BreakerSettings {
    fn default() -> BreakerSettings {
        BreakerSettings {
            window: BreakerWindow::Calls(100),
            minimum_calls: 100,
            failure_rate: 0.5,
            slow_after: Duration::from_secs(60),
            slow_rate: 1.0,
            hung_share: 0.5,
            hung_calls: 1,
            pressure: None,
            open_for: Duration::from_secs(60),
            open_factor: 2.0,
            open_longest: Duration::from_secs(600),
            half_open_first: 1,
            half_open_most: 10,
            half_open_within: Duration::from_secs(60),
            when_open: WhenOpen::Reject,
            log_bound: 64,
            log_calls: false,
        }
    }
}

impl BreakerSettings {
    /// The defaults.
    #[must_use]
    pub fn new() -> BreakerSettings {
        BreakerSettings::default()
    }

    /// For calls of milliseconds: the last 20, judged from the 10th on; slow after that long; open
    /// for ten times as long at first, up to a hundred times; half open for as long at most.
    ///
    /// A destination that fails every call is cut off after 10, one that hangs after `slow_after` and
    /// a hundredth.
    #[must_use]
    pub fn quick(slow_after: Duration) -> BreakerSettings {
        BreakerSettings::default()
            .window(BreakerWindow::Calls(20), 10)
            .slow(slow_after, 0.5)
            .open(
                slow_after.saturating_mul(10),
                2.0,
                slow_after.saturating_mul(100),
            )
            .half_open(1, 8, slow_after.saturating_mul(10))
    }

    /// Over which calls the rates are taken, and of how many at least. Default: the last 100, 100.
    ///
    /// # Errors of [`BreakerSettings::check`]
    /// A window of 0 or more than 1 000 000 calls, or of no time; a minimum of 0, or of more calls
    /// than the window holds.
    #[must_use]
    pub fn window(mut self, window: BreakerWindow, minimum_calls: usize) -> BreakerSettings {
        self.window = window;
        self.minimum_calls = minimum_calls;
        self
    }

    /// The share of failed calls at which it opens: above 0, up to 1. Default 0.5.
    #[must_use]
    pub fn failure_rate(mut self, rate: f64) -> BreakerSettings {
        self.failure_rate = rate;
        self
    }

    /// After which time a call is slow, and the share of slow calls at which it opens, above 0 and up
    /// to 1. A call in flight counts as slow as soon as it is that old. Default: 60 s, 1.
    #[must_use]
    pub fn slow(mut self, after: Duration, rate: f64) -> BreakerSettings {
        self.slow_after = after;
        self.slow_rate = rate;
        self
    }

    /// When calls that hang open it, however few: at least `calls` are in flight for longer than the
    /// time of [`slow`](BreakerSettings::slow), and they are that share of themselves and the calls
    /// that ended within that time. Above 0, up to 1, and at least 1 call. Default: 0.5, 1.
    #[must_use]
    pub fn hung(mut self, share: f64, calls: usize) -> BreakerSettings {
        self.hung_share = share;
        self.hung_calls = calls;
        self
    }

    /// Opens at so many scores in a row at or above that one, which is above 0 and at most 1. Default:
    /// the score is not looked at, because load alone should shed, not cut off.
    #[must_use]
    pub fn pressure(mut self, score: f64, in_a_row: u32) -> BreakerSettings {
        self.pressure = Some((score, in_a_row));
        self
    }

    /// How long it stays open at first, by what the time grows each time it opens again soon, and how
    /// long at most. The factor is 1 or more. Default: 60 s, 2, 10 minutes.
    #[must_use]
    pub fn open(mut self, at_first: Duration, factor: f64, longest: Duration) -> BreakerSettings {
        self.open_for = at_first;
        self.open_factor = factor;
        self.open_longest = longest;
        self
    }

    /// Half open, `first` calls may be in flight; after as many good ones twice as many, until `most`
    /// (1 to 4096) went well, and it closes. If within that time of the first call of a step none has
    /// reported, it opens again. Default: 1, 10, 60 s.
    #[must_use]
    pub fn half_open(mut self, first: usize, most: usize, within: Duration) -> BreakerSettings {
        self.half_open_first = first;
        self.half_open_most = most;
        self.half_open_within = within;
        self
    }

    /// What stages do while it refuses. Default: [`WhenOpen::Reject`].
    #[must_use]
    pub fn when_open(mut self, when_open: WhenOpen) -> BreakerSettings {
        self.when_open = when_open;
        self
    }

    /// How many events are kept, 1 to 65 536, and whether those of single calls are among them; they
    /// are counted in any case. Default: 64, no.
    #[must_use]
    pub fn log(mut self, events: usize, calls: bool) -> BreakerSettings {
        self.log_bound = events;
        self.log_calls = calls;
        self
    }

    /// Refuses settings that cannot be.
    ///
    /// # Errors
    /// The first setting that is out of its range, with its value and the range.
    pub fn check(&self) -> Result<(), Invalid> {
        let ratio = |field, rate: f64| {
            Invalid::unless(rate > 0.0 && rate <= 1.0, field, rate, "above 0, up to 1")
        };
        let time = |field, span: Duration| {
            let within = span > Duration::ZERO && span <= Duration::from_secs(86_400 * 365);
            Invalid::unless(within, field, format!("{span:?}"), "above 0, up to a year")
        };
        let number = |field, count: usize, most: usize, range| {
            Invalid::unless((1..=most).contains(&count), field, count, range)
        };
        match self.window {
            BreakerWindow::Calls(calls) => {
                number("window", calls, 1_000_000, "1 to 1000000 calls")?;
                number(
                    "minimum_calls",
                    self.minimum_calls,
                    calls,
                    "1 to the calls of the window",
                )?;
            }
            BreakerWindow::Span(span) => {
                time("window", span)?;
                number("minimum_calls", self.minimum_calls, usize::MAX, "1 or more")?;
            }
        }
        ratio("failure_rate", self.failure_rate)?;
        time("slow_after", self.slow_after)?;
        ratio("slow_rate", self.slow_rate)?;
        ratio("hung_share", self.hung_share)?;
        number("hung_calls", self.hung_calls, usize::MAX, "1 or more")?;
        if let Some((score, in_a_row)) = self.pressure {
            ratio("pressure", score)?;
            number(
                "pressure in a row",
                in_a_row as usize,
                usize::MAX,
                "1 or more",
            )?;
        }
        time("open_for", self.open_for)?;
        let factor = self.open_factor;
        Invalid::unless(
            (1.0..=1000.0).contains(&factor),
            "open_factor",
            factor,
            "1 to 1000",
        )?;
        time("open_longest", self.open_longest)?;
        Invalid::unless(
            self.open_for <= self.open_longest,
            "open_for",
            format!("{:?}", self.open_for),
            "up to the longest open time",
        )?;
        number("half_open_most", self.half_open_most, 4096, "1 to 4096")?;
        number(
            "half_open_first",
            self.half_open_first,
            self.half_open_most,
            "1 to the most",
        )?;
        time("half_open_within", self.half_open_within)?;
        number("log", self.log_bound, 65_536, "1 to 65536 events")
    }

    /// How long it stays open when it has opened again so many times soon after it closed.
    pub(super) fn open_span(&self, repeats: u32) -> Duration {
        let power = i32::try_from(repeats).unwrap_or(i32::MAX);
        let span = self.open_for.as_secs_f64() * self.open_factor.powi(power);
        Duration::from_secs_f64(span.min(self.open_longest.as_secs_f64()))
    }
}
