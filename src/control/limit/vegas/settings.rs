//! How a [`Vegas`] is declared.

use super::Vegas;
use crate::control::Invalid;
use crate::control::limit::check_bounds;

/// The settings of a [`Vegas`].
///
/// Defaults: initial 20, 1 to 1000, a queue of 3 to 6 times log10(limit) as in Netflix's
/// `VegasLimit`, rounds of 50 calls as in failsafe-go, a look at the base every 128 rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct VegasBuilder {
    pub(super) initial: usize,
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) alpha: f64,
    pub(super) beta: f64,
    pub(super) round: usize,
    pub(super) probe_rounds: u32,
}

impl Default for VegasBuilder {
    fn default() -> Self {
        VegasBuilder {
            initial: 20,
            least: 1,
            most: 1000,
            alpha: 3.0,
            beta: 6.0,
            round: 50,
            probe_rounds: 128,
        }
    }
}

impl VegasBuilder {
    range_setters!(20, 1, 1000);

    /// The queue to keep inside the service, in calls, each times log10 of the limit (at least 1):
    /// below `alpha` the limit grows, over `beta` it is cut back to `alpha`. 0 < alpha <= beta <=
    /// 1000. Default 3 and 6. A longer queue forgives more uneven services; a shorter one lets an
    /// urgent call begin sooner.
    #[must_use]
    pub fn queue(mut self, alpha: f64, beta: f64) -> Self {
        self.alpha = alpha;
        self.beta = beta;
        self
    }

    /// The calls of a round, at least; a limit above it makes rounds of as many calls as the limit.
    /// 1 to 1 000 000. Default 50. Fewer find a new capacity sooner, and are led astray more easily.
    #[must_use]
    pub fn round(mut self, calls: usize) -> Self {
        self.round = calls;
        self
    }

    /// After how many quiet rounds at most the limit is raised for a moment, to see whether the
    /// service has become slow rather than full. After a cut it is 8 rounds, and each time in vain
    /// doubles them up to this. 1 to 1 000 000. Default 128.
    #[must_use]
    pub fn probe_every(mut self, rounds: u32) -> Self {
        self.probe_rounds = rounds;
        self
    }

    /// The limit.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn build(self) -> Result<Vegas, Invalid> {
        check_bounds(self.initial, self.least, self.most)?;
        Invalid::unless(
            self.alpha > 0.0 && self.alpha <= 1000.0,
            "alpha",
            self.alpha,
            "above 0, at most 1000",
        )?;
        Invalid::unless(
            (self.alpha..=1000.0).contains(&self.beta),
            "beta",
            self.beta,
            "alpha to 1000",
        )?;
        let round = (1..=1_000_000).contains(&self.round);
        Invalid::unless(round, "round", self.round, "1 to 1000000")?;
        let probe = (1..=1_000_000).contains(&self.probe_rounds);
        Invalid::unless(probe, "probe_every", self.probe_rounds, "1 to 1000000")?;
        Ok(Vegas::with(self))
    }
}
