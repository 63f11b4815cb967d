//! Delays, budgets, and what an outage costs.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn ms(n: u64) -> Time {
    Time::from_nanos(n * 1_000_000)
}

#[test]
fn delays_double_up_to_the_longest() {
    let retry = Retry::tries(9).backoff(10 * MS, 50 * MS).jitter(0.0);
    let mut policy = Retrying::new(&retry, Time::ZERO);
    let delays: Vec<_> = (1..9)
        .map(|tries| policy.on_failure(Time::ZERO, tries))
        .collect();
    let expected = [10, 20, 40, 50, 50, 50, 50, 50].map(|n| Next::At(ms(n)));
    assert_eq!(delays, expected);
    assert_eq!(policy.on_failure(Time::ZERO, 9), Next::GiveUp);
}

#[test]
fn the_same_seed_gives_the_same_delays_and_another_seed_others() {
    let delays = |seed| {
        let retry = Retry::tries(20)
            .backoff(10 * MS, 1000 * MS)
            .jitter(1.0)
            .seed(seed);
        let mut policy = Retrying::new(&retry, Time::ZERO);
        (1..20)
            .map(|tries| policy.on_failure(Time::ZERO, tries))
            .collect::<Vec<_>>()
    };
    assert_eq!(delays(7), delays(7));
    assert_ne!(delays(7), delays(8));
}

#[test]
fn a_spent_budget_gives_up_until_calls_or_time_refill_it() {
    let budget = Budget::share(0.5).per_second(1.0).reserve(2.0);
    let retry = Retry::tries(5).backoff(MS, MS).budget(budget);
    let mut policy = Retrying::new(&retry, Time::ZERO);
    let is_again = |next| matches!(next, Next::At(_));
    assert!(is_again(policy.on_failure(Time::ZERO, 1)));
    assert!(is_again(policy.on_failure(Time::ZERO, 1)));
    assert_eq!(policy.on_failure(Time::ZERO, 1), Next::GiveUp);
    policy.on_call();
    assert_eq!(
        policy.on_failure(Time::ZERO, 1),
        Next::GiveUp,
        "half a token is none"
    );
    policy.on_call();
    assert!(
        is_again(policy.on_failure(Time::ZERO, 1)),
        "two calls pay for one retry"
    );
    assert_eq!(policy.on_failure(ms(900), 1), Next::GiveUp);
    assert!(
        is_again(policy.on_failure(ms(1001), 1)),
        "a second pays for one"
    );
    let snapshot = policy.snapshot();
    assert_eq!((snapshot.calls, snapshot.retries), (2, 4));
    assert_eq!((snapshot.over_budget, snapshot.used_up), (3, 0));
    assert!(!snapshot.is_spent && snapshot.tokens < 1.0);
    let spent: Vec<_> = policy.adjustments().last().map(|one| one.to).collect();
    assert_eq!(spent, [1.0, 0.0, 1.0, 0.0]);
}

#[test]
fn a_spent_budget_that_waits_gives_turns_at_its_rate() {
    let budget = Budget::share(0.0)
        .per_second(10.0)
        .reserve(1.0)
        .when_spent(WhenSpent::Wait);
    let retry = Retry::tries(5).backoff(MS, MS).jitter(0.0).budget(budget);
    let mut policy = Retrying::new(&retry, Time::ZERO);
    let turns: Vec<_> = (0..4).map(|_| policy.on_failure(Time::ZERO, 1)).collect();
    assert_eq!(turns, [1, 100, 200, 300].map(|n| Next::At(ms(n))));
}

#[test]
fn settings_out_of_range_are_named() {
    let field = |retry: Retry| retry.check().err().map(|invalid| invalid.field);
    let retry = Retry::default();
    assert_eq!(field(retry), None);
    assert_eq!(field(retry.jitter(1.5)), Some("retry jitter"));
    assert_eq!(field(retry.factor(f64::NAN)), Some("retry factor"));
    assert_eq!(
        field(retry.backoff(20 * MS, 10 * MS)),
        Some("retry first delay")
    );
    let of = |budget| field(retry.budget(budget));
    assert_eq!(of(Budget::share(-0.1)), Some("retry budget share"));
    assert_eq!(
        of(Budget::default().reserve(0.5)),
        Some("retry budget reserve")
    );
    let no_rate = Budget::share(0.1).per_second(0.0);
    assert_eq!(of(no_rate), None);
    let waits_forever = no_rate.when_spent(WhenSpent::Wait);
    assert_eq!(of(waits_forever), Some("retry budget per second"));
}

proptest! {
    /// No schedule of calls and failures is allowed more retries than the budget gives.
    #[test]
    fn retries_never_exceed_the_budget(
        steps in proptest::collection::vec((0_u64..50, any::<bool>()), 1..300),
        share in 0.0_f64..1.0,
        per_second in 0.0_f64..50.0,
        reserve in 1.0_f64..20.0,
    ) {
        let budget = Budget::share(share).per_second(per_second).reserve(reserve);
        let retry = Retry::tries(u32::MAX).backoff(MS, 10 * MS).budget(budget);
        let mut policy = Retrying::new(&retry, Time::ZERO);
        let (mut now, mut calls, mut retries) = (0, 0.0, 0.0);
        for (pause, is_call) in steps {
            now += pause;
            if is_call {
                policy.on_call();
                calls += 1.0;
            } else if let Next::At(at) = policy.on_failure(ms(now), 1) {
                prop_assert!(at >= ms(now) && at <= ms(now + 10));
                retries += 1.0;
            }
        }
        let allowed = reserve + calls * share + now as f64 / 1000.0 * per_second;
        prop_assert!(retries <= allowed + 1e-6, "{retries} > {allowed}");
    }

    /// In an outage, where every try fails and every retry is made when it is due, the load
    /// stays within what the budget declares, at any time and whether a spent budget waits or
    /// gives up.
    #[test]
    fn in_a_total_outage_the_load_stays_within_the_declared_factor(
        pauses in proptest::collection::vec(0_u64..20, 1..400),
        share in 0.0_f64..1.0,
        per_second in 0.1_f64..20.0,
        reserve in 1.0_f64..10.0,
        tries in 2_u32..20,
        waits in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let when_spent = if waits { WhenSpent::Wait } else { WhenSpent::GiveUp };
        let budget = Budget::share(share).per_second(per_second).reserve(reserve);
        let retry = Retry::tries(tries).backoff(MS, 100 * MS).seed(seed);
        for (calls, retries, at_s) in outage(retry.budget(budget.when_spent(when_spent)), &pauses) {
            let allowed = reserve + calls * share + at_s * per_second;
            prop_assert!(retries <= allowed + 1e-6, "{retries} > {allowed} at {at_s} s");
        }
    }
}

/// Elements come after those pauses (ms), and every try of each fails: the first tries, the
/// retries and the seconds, after each try.
fn outage(retry: Retry, pauses: &[u64]) -> Vec<(f64, f64, f64)> {
    let mut policy = Retrying::new(&retry, Time::ZERO);
    let mut due = std::collections::BTreeSet::new();
    let mut now_ms = 0;
    for (element, pause) in pauses.iter().enumerate() {
        now_ms += pause;
        due.insert((ms(now_ms), element, 0_u32));
    }
    let (mut calls, mut retries, mut seen) = (0.0, 0.0, Vec::new());
    while let Some((now, element, tries)) = due.pop_first() {
        if tries == 0 {
            policy.on_call();
            calls += 1.0;
        } else {
            retries += 1.0;
        }
        seen.push((calls, retries, now.as_nanos() as f64 / 1e9));
        if let Next::At(at) = policy.on_failure(now, tries + 1) {
            due.insert((at, element, tries + 1));
        }
    }
    seen
}

#[test]
fn an_outage_is_amplified_by_the_tries_and_with_a_budget_by_its_share() {
    let pauses = vec![1; 5000];
    let factor = |retry| {
        let (calls, retries, _) = outage(retry, &pauses).pop().unwrap();
        (calls + retries) / calls
    };
    let retry = Retry::tries(4).backoff(MS, 100 * MS);
    assert!((factor(retry) - 4.0).abs() < 1e-9, "no budget");
    let with_budget = factor(retry.budget(Budget::default()));
    let declared = 1.0 + 0.2 + (100.0 + 10.0 * 5.2) / 5000.0;
    assert!(with_budget <= declared, "{with_budget} > {declared}");
    assert!(with_budget > 1.2, "the budget is used: {with_budget}");
}
