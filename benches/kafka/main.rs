//! Kafka, beside the bare client and Kafka Streams on the same broker in the same run: rounds in turn,
//! medians. Time on the wall, and processor time of the client's process, which is the figure to judge:
//! broker and client share the machine.
//!
//! `cargo bench --bench kafka -- [consume] [produce] [transform] [--rounds N] [--records N] [--no-streams] [--only WORD]`
//!
//! `--only` takes the contestants whose name has that word.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_sign_loss
)]

#[path = "../../tests/infra/kafka/broker.rs"]
mod broker;
mod consume;
mod measure;
mod produce;
mod setup;
mod streams;
mod transform;

use forebay::topology::Guarantee;

use measure::{Cost, Rounds, table};
use setup::Setup;

type Contestant<'a> = (&'static str, &'a dyn Fn(&Setup) -> Cost);

/// Each once, in turn, round after round; a first round that warms up is not counted.
fn compare(what: &str, setup: &Setup, rounds: usize, contestants: &[Contestant<'_>]) {
    let contestants: Vec<_> = contestants
        .iter()
        .filter(|(name, _)| name.contains(&setup.only))
        .collect();
    if contestants.is_empty() {
        return;
    }
    let mut all: Vec<Rounds> = contestants
        .iter()
        .map(|(name, _)| Rounds::new(name))
        .collect();
    for round in 0..=rounds {
        for ((name, run), into) in contestants.iter().zip(&mut all) {
            let cost = run(setup);
            eprintln!("{what}, round {round}, {name}: {cost:.0?}");
            if round > 0 {
                into.add(cost);
            }
        }
    }
    table(what, &all);
}

fn main() {
    let (mut rounds, mut records, mut with_streams) = (5, 1_000_000, true);
    let (mut what, mut only) = (Vec::new(), String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = |arguments: &mut dyn Iterator<Item = String>| {
            arguments.next().and_then(|n| n.parse().ok()).unwrap()
        };
        match &*argument {
            "--rounds" => rounds = number(&mut arguments),
            "--records" => records = number(&mut arguments) as u64,
            "--no-streams" => with_streams = false,
            "--only" => only = arguments.next().unwrap_or_default(),
            "--bench" => {}
            _ => what.push(argument),
        }
    }
    let asked = |name: &str| what.is_empty() || what.iter().any(|one| one == name);
    let setup = Setup::new(records, only);
    if asked("consume") {
        compare(
            "consume",
            &setup,
            rounds,
            &[
                ("poll of the bare client", &consume::polled),
                ("batch queue of the bare client", &consume::batch_queue),
                ("forebay, receipts and commits", &consume::forebay),
            ],
        );
    }
    if asked("produce") {
        compare(
            "produce",
            &setup,
            rounds,
            &[
                ("the bare client", &produce::bare),
                ("forebay", &produce::forebay),
            ],
        );
    }
    if asked("transform") {
        let at_least = |setup: &Setup| transform::forebay(setup, Guarantee::AtLeastOnce);
        let exactly = |setup: &Setup| transform::forebay(setup, Guarantee::ExactlyOnce);
        let streams_at_least = |setup: &Setup| streams::map(setup, "at_least_once");
        let streams_exactly = |setup: &Setup| streams::map(setup, "exactly_once_v2");
        let mut contestants: Vec<Contestant<'_>> = vec![
            ("by hand, at least once, overlapping", &transform::by_hand),
            ("forebay, at least once", &at_least),
            ("forebay, exactly once, 100 ms windows", &exactly),
        ];
        if with_streams {
            streams::prepare();
            contestants.push(("Kafka Streams, at least once", &streams_at_least));
            contestants.push(("Kafka Streams, exactly once v2, 100 ms", &streams_exactly));
        }
        compare("transform", &setup, rounds, &contestants);
    }
}
