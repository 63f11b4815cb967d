//! What a batch costs once and what each of its elements costs, from batches of several sizes.

/// `T(b) = a + c b`, fitted by least squares to the batches seen, each new one weighing more than
/// those before.
///
/// The five sums are all there is to recursive least squares of two unknowns: they are updated with
/// each batch, forget by a factor, and give the same fit as the form with a covariance matrix, which
/// would blow up while nothing changes.
///
/// **Batches of one size cannot tell `a` from `c`**, and a service that becomes slower while sizes
/// change looks as if the larger batches had done it. So each batch first scales all that is known
/// towards today's speed, its shape kept; and while what is remembered does not spread over sizes,
/// scaling is all there is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Fit {
    keep: f64,
    weight: f64,
    sum_b: f64,
    sum_t: f64,
    sum_bb: f64,
    sum_bt: f64,
    once_ns: f64,
    each_ns: f64,
    known: bool,
    /// Batches since sizes last differed enough to tell one from the other.
    alike: u32,
}

impl Fit {
    /// The share of a mean size by which sizes must differ to tell `a` from `c`.
    const SPREAD: f64 = 0.05;
    /// Which share of the way to today's speed one batch goes.
    const PACE: f64 = 0.1;
    /// How many times its expected cost a batch counts at most: a pause of the machine is no cost of
    /// the batch. A service that has really become slow says so again, and is believed each time.
    const CLIP: f64 = 3.0;

    /// Each batch leaves that share of what was known: above 0, below 1.
    pub(super) fn new(keep: f64) -> Fit {
        Fit {
            keep,
            weight: 0.0,
            sum_b: 0.0,
            sum_t: 0.0,
            sum_bb: 0.0,
            sum_bt: 0.0,
            once_ns: 0.0,
            each_ns: 0.0,
            known: false,
            alike: 0,
        }
    }

    /// Takes a batch in.
    pub(super) fn see(&mut self, items: usize, service_ns: f64) {
        if items == 0 || !service_ns.is_finite() {
            return;
        }
        let items = items as f64;
        let mut service_ns = service_ns.max(1.0);
        if let Some(expected) = self.cost_ns(items) {
            service_ns = service_ns.min(Fit::CLIP * expected);
            let pace = 1.0 + Fit::PACE * (service_ns / expected - 1.0);
            for known in [
                &mut self.sum_t,
                &mut self.sum_bt,
                &mut self.once_ns,
                &mut self.each_ns,
            ] {
                *known *= pace;
            }
        }
        self.add(items, service_ns);
        self.solve();
    }

    fn add(&mut self, items: f64, service_ns: f64) {
        for sum in [
            &mut self.weight,
            &mut self.sum_b,
            &mut self.sum_t,
            &mut self.sum_bb,
            &mut self.sum_bt,
        ] {
            *sum *= self.keep;
        }
        self.weight += 1.0;
        self.sum_b += items;
        self.sum_t += service_ns;
        self.sum_bb += items * items;
        self.sum_bt += items * service_ns;
    }

    fn solve(&mut self) {
        let (mean_b, mean_t) = (self.sum_b / self.weight, self.sum_t / self.weight);
        let spread = self.sum_bb / self.weight - mean_b * mean_b;
        if self.weight < 3.0 || spread < (Fit::SPREAD * mean_b).powi(2).max(0.01) {
            self.alike = self.alike.saturating_add(1);
            return;
        }
        self.alike = 0;
        let together = self.sum_bt / self.weight - mean_b * mean_t;
        // Neither can be negative: noise may say so, or a line that is none.
        let each = (together / spread).clamp(0.0, mean_t / mean_b);
        self.each_ns = each;
        self.once_ns = mean_t - each * mean_b;
        self.known = true;
    }

    /// What a batch costs once, and what each element costs; `None` before sizes have differed.
    pub(super) fn costs_ns(&self) -> Option<(f64, f64)> {
        self.known.then_some((self.once_ns, self.each_ns))
    }

    /// For how many batches sizes have been too much alike to learn anything but today's speed.
    pub(super) fn alike(&self) -> u32 {
        self.alike
    }

    /// What a batch of that size is expected to take.
    pub(super) fn cost_ns(&self, items: f64) -> Option<f64> {
        self.costs_ns()
            .map(|(once, each)| (once + each * items).max(1.0))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_whatever_its_unit() {
        for unit in [1.0, 1e3, 1e9] {
            let mut fit = Fit::new(0.98);
            for items in [1, 8, 3, 20, 5] {
                fit.see(items, unit * (100.0 + 7.0 * items as f64));
            }
            let (once, each) = fit.costs_ns().unwrap();
            assert!((once / unit - 100.0).abs() < 1e-6, "{once}");
            assert!((each / unit - 7.0).abs() < 1e-6, "{each}");
        }
    }

    #[test]
    fn one_size_tells_no_line_and_scales_the_one_that_is_known() {
        let mut fit = Fit::new(0.98);
        for _ in 0..1000 {
            fit.see(10, 500.0);
        }
        assert_eq!(fit.costs_ns(), None);
        for items in [10, 20].into_iter().cycle().take(200) {
            fit.see(items, 100.0 + 10.0 * items as f64);
        }
        // Sizes differ no more, and everything takes twice as long.
        for _ in 0..5000 {
            fit.see(20, 600.0);
        }
        let (once, each) = fit.costs_ns().unwrap();
        assert!((once + 20.0 * each - 600.0).abs() < 1.0);
        assert!(once > 0.0 && each > 0.0, "{once} {each}");
    }

    #[test]
    fn a_pause_counts_little_and_costs_are_never_negative() {
        let mut fit = Fit::new(0.98);
        for items in [10, 20].into_iter().cycle().take(100) {
            fit.see(items, 100.0 + 10.0 * items as f64);
        }
        fit.see(20, 1e12);
        assert!(fit.cost_ns(20.0).unwrap() < 400.0);
        let mut falling = Fit::new(0.9);
        for items in [1, 2, 3, 4] {
            falling.see(items, 100.0 - 20.0 * items as f64);
        }
        let (once, each) = falling.costs_ns().unwrap();
        assert!(once >= 0.0 && each >= 0.0);
    }
}
