//! A service with workers and a queue of its own, in virtual time, and a stage that keeps a limit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use forebay::control::Sample;
use forebay::control::limit::Limit;
use forebay::time::Time;

/// Numbers from a seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How service times spread around their mean.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Spread {
    Constant,
    Exponential,
    /// Nine in ten short, one in ten ten times as long.
    Bimodal,
}

impl Spread {
    fn draw(self, random: &mut Random, mean_ns: f64) -> u64 {
        let share = match self {
            Spread::Constant => 1.0,
            Spread::Exponential => -(1.0 - random.share()).ln(),
            Spread::Bimodal if random.share() < 0.1 => 10.0 / 1.9,
            Spread::Bimodal => 1.0 / 1.9,
        };
        (mean_ns * share).max(1.0) as u64
    }
}

/// What is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    pub(crate) workers: usize,
    pub(crate) mean_ns: f64,
    pub(crate) spread: Spread,
    /// Calls that may wait inside the service; those past it are dropped.
    pub(crate) queue: usize,
    /// By which share of it a call takes longer for each call that waits: 0 for none.
    pub(crate) contention: f64,
    /// Calls offered in a mean service time; infinite for a stage that always has one waiting.
    pub(crate) load: f64,
    /// Calls told together in one sample.
    pub(crate) together: usize,
}

impl Service {
    pub(crate) fn new(workers: usize, mean: Duration, spread: Spread) -> Service {
        Service {
            workers,
            mean_ns: mean.as_nanos() as f64,
            spread,
            queue: usize::MAX,
            contention: 0.0,
            load: f64::INFINITY,
            together: 1,
        }
    }
}

/// What one stretch of time showed.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Seen {
    /// Calls answered.
    pub(crate) answered: u64,
    pub(crate) drops: u64,
    /// Workers that were busy, of all: throughput without the chance that is in service times.
    pub(crate) busy: f64,
    /// The limit on average, over calls; its least and most.
    pub(crate) limit: f64,
    pub(crate) least: usize,
    pub(crate) most: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Ends { begun: u64 },
}

/// The service, the stage before it, and the clock of both.
pub(crate) struct Model {
    pub(crate) service: Service,
    random: Random,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    /// When the calls that wait inside the service were begun.
    inside: VecDeque<u64>,
    busy: usize,
    /// Elements before the stage.
    queued: usize,
    sample: Sample,
    service_ns: u128,
}

impl Model {
    pub(crate) fn new(service: Service, seed: u64) -> Model {
        Model::after(service, seed, 0)
    }

    /// It begins so many nanoseconds after the start.
    pub(crate) fn after(service: Service, seed: u64, now: u64) -> Model {
        let mut model = Model {
            service,
            random: Random::new(seed),
            now,
            events: BinaryHeap::new(),
            number: 0,
            inside: VecDeque::new(),
            busy: 0,
            queued: 0,
            sample: Sample::default(),
            service_ns: 0,
        };
        model.at(now + 1, Event::Arrives);
        model
    }

    fn at(&mut self, ns: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((ns, self.number, event)));
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(self.now)
    }

    fn in_flight(&self) -> usize {
        self.busy + self.inside.len()
    }

    /// Runs for so many mean service times, under that limit.
    pub(crate) fn run(&mut self, limit: &mut dyn Limit, services: f64) -> Seen {
        let until = self.now + (services * self.service.mean_ns) as u64;
        let mut seen = Seen {
            least: limit.limit(),
            most: limit.limit(),
            ..Seen::default()
        };
        let mut judged = 0_u64;
        let mut busy_ns = 0.0;
        while let Some(Reverse((at, _, event))) = self.events.peek().copied() {
            if at > until {
                break;
            }
            self.events.pop();
            busy_ns += (at - self.now) as f64 * self.busy.min(self.service.workers) as f64;
            self.now = at;
            match event {
                Event::Arrives => self.arrive(),
                Event::Ends { begun } => {
                    self.end(begun);
                    seen.answered += 1;
                }
            }
            seen.drops += self.begin(limit.limit()) as u64;
            // Calls that end at one instant are seen by one fill of the stage.
            let alone = self
                .events
                .peek()
                .is_none_or(|Reverse((at, ..))| *at > self.now);
            if alone && self.sample.count >= self.service.together {
                self.tell(limit);
            }
            seen.least = seen.least.min(limit.limit());
            seen.most = seen.most.max(limit.limit());
            seen.limit += limit.limit() as f64;
            judged += 1;
        }
        busy_ns += (until - self.now) as f64 * self.busy.min(self.service.workers) as f64;
        self.now = until;
        seen.limit /= judged.max(1) as f64;
        let passed = services * self.service.mean_ns;
        seen.busy = busy_ns / (passed * self.service.workers as f64);
        seen
    }

    fn arrive(&mut self) {
        if self.service.load.is_infinite() {
            // Looked at again once in a while, in case the load changes.
            self.at(self.now + self.service.mean_ns as u64, Event::Arrives);
            return;
        }
        self.queued = (self.queued + 1).min(10_000);
        let mean_ns = self.service.mean_ns / self.service.load;
        let apart = Spread::Exponential.draw(&mut self.random, mean_ns);
        self.at(self.now + apart, Event::Arrives);
    }

    /// Begins as many calls as the limit allows. How many of them were dropped.
    fn begin(&mut self, limit: usize) -> usize {
        let mut drops = 0;
        loop {
            let endless = self.service.load.is_infinite();
            // A stage that is refused tries again with its next event, not for ever at once.
            if self.in_flight() + drops >= limit || !(endless || self.queued > 0) {
                break;
            }
            self.queued -= usize::from(!endless);
            if self.busy < self.service.workers {
                self.work(self.now);
            } else if self.inside.len() < self.service.queue {
                self.inside.push_back(self.now);
            } else {
                drops += 1;
            }
            self.sample.in_flight_peak = self.sample.in_flight_peak.max(self.in_flight() + drops);
        }
        self.sample.drops += drops;
        self.sample.count += drops;
        drops
    }

    fn work(&mut self, begun: u64) {
        self.busy += 1;
        let slower = 1.0 + self.service.contention * self.inside.len() as f64;
        let mean_ns = self.service.mean_ns * slower;
        let takes = self.service.spread.draw(&mut self.random, mean_ns);
        self.at(self.now + takes, Event::Ends { begun });
    }

    fn end(&mut self, begun: u64) {
        self.busy -= 1;
        self.sample.count += 1;
        self.service_ns += u128::from(self.now - begun);
        if self.busy < self.service.workers
            && let Some(begun) = self.inside.pop_front()
        {
            self.work(begun);
        }
    }

    fn tell(&mut self, limit: &mut dyn Limit) {
        let answered = self.sample.count - self.sample.drops;
        let mean = self.service_ns / answered.max(1) as u128;
        let sample = Sample {
            service: Duration::from_nanos(mean as u64),
            in_flight: self.in_flight(),
            queued: self.queued,
            ..self.sample
        };
        limit.on_sample(Time::from_nanos(self.now), &sample);
        self.service_ns = 0;
        self.sample = Sample {
            in_flight_peak: self.in_flight(),
            ..Sample::default()
        };
    }

    /// The service has another capacity from now on.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Service)) {
        change(&mut self.service);
        while self.busy < self.service.workers {
            let Some(begun) = self.inside.pop_front() else {
                return;
            };
            self.work(begun);
        }
    }
}
