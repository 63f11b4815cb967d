//! Where calls were dropped.

/// The limit at which calls were dropped: it is come near again, but not reached, for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) limit: f64,
    /// Rounds until it is taken for a higher one; doubled each time calls are dropped there again.
    patience: u32,
    /// Rounds since it was last changed.
    calm: u32,
}

impl Refused {
    #[allow(clippy::cast_sign_loss)] // it is clamped
    pub(super) fn again(before: Option<Refused>, limit: f64) -> Refused {
        let most = (2.0 * limit).clamp(4.0, 64.0) as u32;
        let same = before.filter(|before| limit >= 0.75 * before.limit);
        Refused {
            limit,
            patience: same.map_or(4, |before| before.patience * 2).min(most),
            calm: 0,
        }
    }

    /// Whether that limit was come to from one at which nothing was dropped.
    pub(super) fn is_known(&self, limit: f64) -> bool {
        limit >= 0.75 * self.limit && self.calm > 0
    }

    pub(super) fn calm(&mut self) {
        self.calm += 1;
        if self.calm >= self.patience {
            self.calm = 0;
            self.limit = self.limit * 1.25 + 1.0;
        }
    }
}
