//! A model of one who waits for bytes and one who gives them back, in every order.
//! `crate::loom_models` says how it is run.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::future::block_on;
use loom::thread;

use super::MemoryBudget;
use crate::demand::Demand;

fn waits_model(swap: bool) {
    let budget = MemoryBudget::new(10);
    let all = budget.try_reserve(10).unwrap();
    let waits = budget.clone();
    let wait = move || {
        let grant = block_on(poll_fn(|task| waits.poll_demand(task, Demand::items(1))));
        assert_eq!(grant.demand.bytes, 5);
    };
    let give_back = move || drop(all);
    if swap {
        let other = thread::spawn(give_back);
        wait();
        other.join().unwrap();
    } else {
        let other = thread::spawn(wait);
        give_back();
        other.join().unwrap();
    }
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn bytes_given_back_wake_who_waits_for_them() {
    for swap in [false, true] {
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            waits_model(swap);
        });
        assert!(runs.load(Ordering::Relaxed) >= 4);
    }
}
