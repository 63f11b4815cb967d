//! A service with a queue before it in virtual time, driven by a seed: what the loop is closed with.

use std::time::Duration;

use crate::class::Class;
use crate::control::{Aging, Offer, Placed, PriorityQueue, PrioritySettings, Victims, WhenNoRoom};
use crate::time::Time;

use super::{Admission, AdmissionSettings, AdmissionWindow, Gate};

/// Uniform numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean_s: f64) -> f64 {
        -mean_s * (1.0 - self.unit()).ln()
    }
}

/// How long one service takes, around its mean.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Service {
    Exponential,
    /// Nine of ten are fast, one takes ten times as long.
    Bimodal,
}

/// How offers of one class are spread.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Spread {
    Even,
    /// All alike: a class is let in or kept out as a whole.
    None,
}

/// What is offered of HIGH, MEDIUM and LOW, in units of the capacity, at that second.
pub(super) type Load = fn(f64) -> [f64; 3];

pub(super) struct Run {
    pub(super) load: Load,
    pub(super) service: Service,
    pub(super) spread: Spread,
    pub(super) settings: AdmissionSettings,
    /// Room in the queue.
    pub(super) items: usize,
    /// From when to when the worker stands still.
    pub(super) stall_s: (f64, f64),
    /// Which share of each service the worker does not know that it is busy.
    pub(super) unseen: f64,
    pub(super) seconds: f64,
    pub(super) seed: u64,
}

impl Run {
    pub(super) fn new(load: Load) -> Run {
        let window = Duration::from_millis(10);
        Run {
            load,
            service: Service::Exponential,
            spread: Spread::Even,
            settings: AdmissionSettings::target(Duration::from_millis(5)).window(window),
            items: 1000,
            stall_s: (f64::MAX, f64::MAX),
            unseen: 0.0,
            seconds: 2.5,
            seed: 1,
        }
    }
}

/// The mean service time: the capacity is one element in it.
pub(super) const SERVICE_S: f64 = 100e-6;

/// What one window saw.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) ends_s: f64,
    pub(super) offered: [u64; 3],
    pub(super) admitted: [u64; 3],
    pub(super) completed: u64,
    pub(super) queued: usize,
    pub(super) refused_by_queue: u64,
    /// Elements that were served before one of a higher class that waited.
    pub(super) inversions: u64,
    pub(super) longest_high_wait: Duration,
}

impl Seen {
    /// What was admitted, in units of the capacity.
    pub(super) fn admitted_load(&self, settings: AdmissionSettings) -> f64 {
        let admitted: u64 = self.admitted.iter().sum();
        admitted as f64 * SERVICE_S / settings.window.as_secs_f64()
    }
}

fn time(s: f64) -> Time {
    Time::ZERO + Duration::from_secs_f64(s)
}

/// One worker, strict order, Poisson arrivals; the gate is set at the end of each window.
pub(super) fn run(run: &Run) -> Vec<Seen> {
    let mut random = Random(run.seed);
    let queue = PrioritySettings::items(run.items)
        .aging(Aging::none())
        .victims(Victims::LowestClass)
        .when_no_room(Class::HIGH, WhenNoRoom::Refuse)
        .when_no_room(Class::MEDIUM, WhenNoRoom::Refuse)
        .when_no_room(Class::LOW, WhenNoRoom::Refuse);
    let mut queue: PriorityQueue<()> = PriorityQueue::new(queue).expect("valid");
    let mut admission = Admission::new(run.settings, Time::ZERO).expect("valid");
    let gate = Gate::open();
    let (mut now_s, mut arrives_s, mut busy_s, mut counted_s) = (0.0_f64, 0.0_f64, 0.0, 0.0);
    let mut serves_until_s = None;
    let (mut number, mut window, mut seen) = (0_u64, AdmissionWindow::default(), Seen::default());
    let mut all = Vec::new();
    let mut evicted = Vec::new();
    while now_s < run.seconds {
        let window_s = admission.window_ends().as_nanos() as f64 / 1e9;
        let next_s = serves_until_s.map_or(f64::MAX, |until: f64| until);
        let event_s = arrives_s.min(next_s).min(window_s).max(now_s);
        if serves_until_s.is_some() {
            busy_s += (event_s - counted_s) * (1.0 - run.unseen);
        }
        (now_s, counted_s) = (event_s, event_s);
        let now = time(now_s);
        if next_s <= now_s {
            serves_until_s = None;
            seen.completed += 1;
            window.completed += 1;
        } else if arrives_s <= now_s {
            let load = (run.load)(now_s);
            let total: f64 = load.iter().sum();
            arrives_s = now_s + random.exponential(SERVICE_S / total.max(1e-6));
            let mut pick = random.unit() * total;
            let at = load.iter().position(|part| {
                pick -= part;
                pick < 0.0
            });
            let at = at.unwrap_or(2);
            let class = [Class::HIGH, Class::MEDIUM, Class::LOW][at];
            number += 1;
            let dither = match run.spread {
                Spread::Even => Gate::dither(number),
                Spread::None => 64,
            };
            seen.offered[at] += 1;
            window.offered[at] += 1;
            if gate.admits(class, dither) {
                let offer = Offer::new(class, 0, now);
                match queue.offer(now, offer, (), &mut evicted) {
                    Placed::Queued => seen.admitted[at] += 1,
                    _ => seen.refused_by_queue += 1,
                }
                seen.refused_by_queue += evicted.drain(..).count() as u64;
            }
        } else {
            window.busy = Duration::from_secs_f64(busy_s);
            window.workers = 1;
            window.queued = queue.len();
            gate.set(admission.on_window(now.max(admission.window_ends()), &window));
            seen.ends_s = now_s;
            seen.queued = queue.len();
            all.push(seen);
            (window, seen, busy_s) = (AdmissionWindow::default(), Seen::default(), 0.0);
        }
        let stalls = now_s >= run.stall_s.0 && now_s < run.stall_s.1;
        if serves_until_s.is_none()
            && let Some(served) = queue.pop(now)
        {
            let class = served.entry.offer.class;
            let waits = queue.peek(now).map(|offer| offer.class);
            seen.inversions += u64::from(waits.is_some_and(|waits| waits < class));
            if class == Class::HIGH {
                let wait = now.since(served.entry.offer.since);
                seen.longest_high_wait = seen.longest_high_wait.max(wait);
            }
            let mean = match run.service {
                Service::Exponential => random.exponential(SERVICE_S),
                Service::Bimodal if random.unit() < 0.1 => SERVICE_S * 10.0 / 1.9,
                Service::Bimodal => SERVICE_S / 1.9,
            };
            let from_s = if stalls { run.stall_s.1 } else { now_s };
            serves_until_s = Some(from_s + mean);
        }
    }
    all
}
