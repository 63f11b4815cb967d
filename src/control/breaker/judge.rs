//! Which rules are broken, and what follows in each state.

use super::BreakerState;
use super::event::{BreakerEventKind, Trigger};
use super::machine::Breaker;
use super::trial::Verdict;

const TRIGGERS: [Trigger; Trigger::COUNT] = [
    Trigger::Failures,
    Trigger::SlowCalls,
    Trigger::HungCalls,
    Trigger::Pressure,
];

impl Breaker {
    /// The calls that hang, once they may be judged.
    pub(super) fn hung(&self) -> usize {
        if self.seen < self.grace_until {
            0
        } else {
            self.flight.aged()
        }
    }

    /// Which rule is broken now, with what was seen and the limit.
    fn rules(&self) -> [Option<(f64, f64)>; Trigger::COUNT] {
        let settings = &self.settings;
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        let over = |value: f64, limit: f64| (value >= limit).then_some((value, limit));
        let (sum, recent, aged) = (self.window.sum(), self.recent.sum(), self.hung());
        let enough = |calls: usize| (calls >= settings.minimum_calls).then_some(());
        [
            enough(sum.calls)
                .and_then(|()| over(share(sum.failed, sum.calls), settings.failure_rate)),
            enough(sum.calls + aged).and_then(|()| {
                let slow = share(sum.slow + aged, sum.calls + aged);
                over(slow, settings.slow_rate)
            }),
            (aged >= settings.hung_calls)
                .then(|| share(aged, aged + recent.calls))
                .and_then(|hung| over(hung, settings.hung_share)),
            settings
                .pressure
                .filter(|(_, in_a_row)| self.high_scores >= *in_a_row)
                .map(|(at, _)| (self.pressure, at)),
        ]
    }

    /// Whether nothing was seen that can break a rule: all shares are 0. What a healthy destination
    /// costs is this.
    pub(super) fn is_spotless(&self) -> bool {
        let sum = self.window.sum();
        sum.failed == 0 && sum.slow == 0 && self.flight.aged() == 0 && self.high_scores == 0
    }

    pub(super) fn judge(&mut self) {
        match self.state {
            BreakerState::Closed => {
                if self.is_spotless() {
                    return;
                }
                if let Some((trigger, seen)) = self.first_broken(&TRIGGERS) {
                    self.exceeded(trigger, seen);
                    self.open(trigger.because());
                }
            }
            BreakerState::MetricsOnly => {
                let rules = self.rules();
                for (trigger, rule) in TRIGGERS.into_iter().zip(rules) {
                    let was = std::mem::replace(&mut self.broken[trigger as usize], rule.is_some());
                    if let (Some(seen), false) = (rule, was) {
                        self.exceeded(trigger, seen);
                    }
                }
            }
            BreakerState::HalfOpen => self.judge_trial(),
            BreakerState::Open | BreakerState::ForcedOpen | BreakerState::Disabled => {}
        }
    }

    fn first_broken(&self, of: &[Trigger]) -> Option<(Trigger, (f64, f64))> {
        let mut rules = TRIGGERS.into_iter().zip(self.rules());
        rules.find_map(|(trigger, rule)| Some((trigger, rule.filter(|_| of.contains(&trigger))?)))
    }

    fn judge_trial(&mut self) {
        // Failures and slow calls are judged by the step, which is smaller than the window.
        if let Some((trigger, seen)) = self.first_broken(&[Trigger::HungCalls, Trigger::Pressure]) {
            self.exceeded(trigger, seen);
            self.open(trigger.because());
            return;
        }
        let before = self.trial.permits();
        match self.trial.judge(self.seen, &self.settings, self.hung()) {
            Verdict::Wait => {}
            Verdict::More => {
                self.adjust(
                    "half_open_permits",
                    before,
                    self.trial.permits(),
                    "the calls before it went well",
                );
            }
            Verdict::Good => {
                self.transition(BreakerState::Closed, "the calls let through went well");
            }
            Verdict::Bad(because) => self.open(because),
        }
    }

    fn exceeded(&mut self, trigger: Trigger, (value, limit): (f64, f64)) {
        self.event(BreakerEventKind::RateExceeded {
            trigger,
            value,
            limit,
        });
    }
}
