//! A flood: several threads offer lower classes as fast as they can, while one offers HIGH at its
//! times. So many refusals a second the system makes at most, and that is left for HIGH.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use forebay::time;
use serde::{Deserialize, Serialize};

use crate::producer::Producer;
use crate::scenario::{ByClass, Mode, Rank, Timeline};
use crate::schedule::{Arrival, Draw};
use crate::session::load;
use crate::shop::Shop;
use crate::system::{self, Setup, System};
use crate::trace::{Fate, Trace};
use crate::wall;

/// HIGH's share of the capacity.
const HIGH: f64 = 0.4;
/// Numbers that the flood uses over and over. None is inside for as long as it takes to come round.
const NUMBERS: usize = 1 << 20;
const HEADSTART: Duration = Duration::from_millis(20);

/// The flood on a scenario's system.
#[derive(Args, Debug)]
pub(crate) struct Part {
    scenario: String,
    threads: usize,
    seconds: f64,
}

/// What became of a flood.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    scenario: String,
    threads: usize,
    offered_per_s: f64,
    /// Given back to the thread that offered.
    refused_per_s: f64,
    /// Everything done, against the capacity.
    done: f64,
    high_offered: u64,
    high_done_in_time: u64,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} threads offer as fast as they can: {:.2} million offers a second, {:.2} million \
             refused at once; {:.2} of C done; HIGH in time: {} of {}",
            self.scenario,
            self.threads,
            self.offered_per_s / 1e6,
            self.refused_per_s / 1e6,
            self.done,
            self.high_done_in_time,
            self.high_offered,
        )
    }
}

/// What the threads of a flood counted.
#[derive(Default)]
struct Counted {
    offered: AtomicU64,
    refused: AtomicU64,
}

/// Offers lower classes, one after the other, each with a number of its own among those of this thread.
fn flood(
    trace: &Arc<Trace>,
    system: &dyn System,
    numbers: impl Iterator<Item = u32> + Clone,
    useful_ns: u64,
    (counted, over): (&Counted, &AtomicBool),
) {
    let (mut offered, mut refused) = (0, 0);
    for id in numbers.cycle() {
        // The clock and the flag once in a while: what is wanted is the cost of offers.
        if offered % 64 == 0 && over.load(Ordering::Relaxed) {
            break;
        }
        let Some(item) = trace.offer(id, trace.now() + useful_ns) else {
            break;
        };
        offered += 1;
        if let Err(item) = system.offer(item) {
            refused += 1;
            item.refuse();
        }
    }
    counted.offered.fetch_add(offered, Ordering::Relaxed);
    counted.refused.fetch_add(refused, Ordering::Relaxed);
}

impl Part {
    /// Runs it, and tells it as JSON.
    pub(crate) fn run(self) -> Result<String, String> {
        let refused = self.play()?;
        serde_json::to_string(&refused).map_err(|error| error.to_string())
    }

    fn play(&self) -> Result<Refused, String> {
        let loaded = load(&self.scenario)?;
        let mut scenario = loaded.scenario;
        scenario.mode = Mode::Wall;
        scenario.duration_ms = (self.seconds * 1e3) as u64;
        scenario.load = scenario.load.at(HIGH);
        let times = scenario.times(&loaded.files)?;
        let capacity_per_s = wall::closed_loop(&scenario, &times, 1)?;
        let draw = Draw {
            scenario: &scenario,
            load: scenario.load.clone(),
            times: &times,
            files: &loaded.files,
            capacity_per_s,
            seed: 1,
        };
        let mut arrivals = draw.schedule()?;
        arrivals.retain(|arrival| arrival.rank == Rank::High);
        let high = arrivals.len();
        let services: Vec<u64> = arrivals.iter().map(|arrival| arrival.service_ns).collect();
        arrivals.extend((0..NUMBERS).map(|number| Arrival {
            at_ns: 0,
            service_ns: services[number % high.max(1)],
            bytes: scenario.item_bytes,
            rank: [Rank::Medium, Rank::Low][number % 2],
            tries: 0,
        }));
        let trace = Trace::new(Arc::new(arrivals), 0, 0);
        let shop = Shop::new(
            &trace,
            Timeline::new(&[], 1),
            &scenario,
            &times,
            capacity_per_s,
        );
        let setup = Setup {
            scenario: &scenario,
            shop: &shop,
            mean_service: times.mean(),
            max_bytes: scenario.item_bytes,
        };
        let built = system::build("forebay", &setup)?;
        let deadlines_ns =
            ByClass::make(|rank| (scenario.deadline_services.of(rank) * times.mean_ns()) as u64);
        let runtime = wall::runtime(scenario.cores)?;
        let _entered = runtime.enter();
        let pipeline = built.work.pipeline.ok_or("forebay has no pipeline")?;
        trace.begin(time::now() + HEADSTART);
        let mut running = pipeline.run().map_err(|refused| refused.to_string())?;
        let (counted, over) = (Counted::default(), AtomicBool::new(false));
        thread::sleep(HEADSTART);
        let duration_ns = scenario.duration_ms * 1_000_000;
        thread::scope(|scope| {
            for number in 0..self.threads {
                let (trace, system) = (&trace, &built.system);
                let shared = (&counted, &over);
                let useful_ns = *deadlines_ns.of(Rank::Low);
                let numbers = (high + number..high + NUMBERS).step_by(self.threads);
                let numbers = numbers.map(|number| number as u32);
                scope.spawn(move || flood(trace, &**system, numbers, useful_ns, shared));
            }
            let mut producer = Producer::new(&shop, &built.system, deadlines_ns, 0, 1);
            producer.only(high);
            wall::produce(producer, &trace, duration_ns);
            over.store(true, Ordering::Relaxed);
        });
        let finished = trace.now();
        built.system.close();
        let drained = runtime.block_on(running.drain(Duration::from_secs(5)));
        drained.map_err(|error| error.to_string())?;
        if let Err(wrong) = running.snapshot().check() {
            return Err(format!("the accounts do not balance: {wrong:?}"));
        }
        let records = trace.records(&deadlines_ns);
        let in_time = records[..high].iter().filter(|record| {
            record.fate == Fate::Done && record.ended <= record.arrival.at_ns + record.deadline_ns
        });
        let seconds = finished as f64 / 1e9;
        let delivered = running
            .snapshot()
            .total()
            .outcome(forebay::outcome::Kind::Delivered);
        Ok(Refused {
            scenario: scenario.name.clone(),
            threads: self.threads,
            offered_per_s: counted.offered.into_inner() as f64 / seconds,
            refused_per_s: counted.refused.into_inner() as f64 / seconds,
            done: delivered as f64 / (capacity_per_s * seconds),
            high_offered: high as u64,
            high_done_in_time: in_time.count() as u64,
        })
    }
}
