//! What is measured: time on the wall and processor time of this process.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// Processor time of this process so far.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let of = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().cast_unsigned())
            + Duration::from_micros(time.tv_usec().cast_unsigned())
    };
    of(usage.user_time()) + of(usage.system_time())
}

/// Nanoseconds a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

/// Since when.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant, Duration);

impl Clock {
    pub(crate) fn now() -> Clock {
        Clock(Instant::now(), cpu())
    }

    pub(crate) fn per(self, records: u64) -> Cost {
        let each = |time: Duration| time.as_nanos() as f64 / records as f64;
        Cost {
            wall: each(self.0.elapsed()),
            cpu: each(cpu().saturating_sub(self.1)),
        }
    }
}

/// What one contestant came to in each round.
pub(crate) struct Rounds {
    pub(crate) name: &'static str,
    costs: Vec<Cost>,
}

impl Rounds {
    pub(crate) fn new(name: &'static str) -> Rounds {
        Rounds {
            name,
            costs: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, cost: Cost) {
        self.costs.push(cost);
    }

    fn median(&self, of: impl Fn(&Cost) -> f64) -> (f64, f64, f64) {
        let mut all: Vec<f64> = self.costs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[0], all[all.len() - 1])
    }
}

/// Prints the medians, and each as a share of the first's.
pub(crate) fn table(what: &str, rounds: &[Rounds]) {
    println!(
        "\n{what}: medians of {} rounds (lowest to highest)",
        rounds[0].costs.len()
    );
    println!(
        "| | ns a record, wall | ns a record, processors | rate beside the first | processors beside the first |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let first = (
        rounds[0].median(|cost| cost.wall).0,
        rounds[0].median(|cost| cost.cpu).0,
    );
    for one in rounds {
        let (wall, cpu) = (one.median(|cost| cost.wall), one.median(|cost| cost.cpu));
        println!(
            "| {} | {:.0} ({:.0} to {:.0}) | {:.0} ({:.0} to {:.0}) | {:.3} | {:.3} |",
            one.name,
            wall.0,
            wall.1,
            wall.2,
            cpu.0,
            cpu.1,
            cpu.2,
            first.0 / wall.0,
            first.1 / cpu.0,
        );
    }
}
