//! What happens to workers and brokers, while there is something to do.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::evidence::{committed, ends};
use crate::feed::Feed;
use crate::job::Job;
use crate::stage::{Random, name, now_ms, until, variable};
use crate::workers::Workers;

/// How many workers there are, if none joins and none is killed.
const PLACES: usize = 3;
/// For how long there is a share of the records, if nothing happens.
const SHARE: Duration = Duration::from_millis(2500);
const MOST_A_SECOND: u64 = 8000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    KillWorker,
    Join,
    Leave,
    KillBroker,
    PauseBroker,
    MoveLeader,
    KillCoordinator,
    KillTransactionCoordinator,
}

/// A worker that was killed, and what its group had committed when it was gone.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(crate) committed: BTreeMap<i32, i64>,
    pub(crate) at_ms: i64,
}

/// Everything that plays a part.
pub(crate) struct Play<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) workers: Workers,
    pub(crate) job: Job,
    pub(crate) random: Random,
    pub(crate) kills: Vec<Kill>,
}

impl Play<'_> {
    /// A job that has topics of its own, of so many partitions.
    pub(crate) fn prepare(
        cluster: &mut Cluster,
        random: Random,
        partitions: i32,
        in_transactions: bool,
    ) -> Play<'_> {
        let (from, to, group) = (name("from"), name("to"), name("group"));
        cluster.create_topics(&[&from, &to], partitions);
        let job = Job {
            in_transactions,
            ..Job::new(&cluster.bootstrap, &group, &from, &to)
        };
        Play {
            workers: Workers::new(job.clone()),
            cluster,
            job,
            random,
            kills: Vec::new(),
        }
    }

    /// Has workers read so many records while so many of them are killed, and all else
    /// happens as well.
    pub(crate) fn perform(&mut self, kills: u64, records: u64) {
        let mut faults = vec![
            Fault::KillBroker,
            Fault::PauseBroker,
            Fault::MoveLeader,
            Fault::KillCoordinator,
        ];
        for _ in 0..=kills / 5 {
            faults.extend([Fault::Join, Fault::Leave]);
        }
        if self.job.in_transactions {
            faults.push(Fault::KillTransactionCoordinator);
        }
        faults.extend((0..kills).map(|_| Fault::KillWorker));
        self.random.shuffle(&mut faults);

        let share = records / (faults.len() as u64 + 1);
        let a_second = (share as f64 / SHARE.as_secs_f64()) as u64;
        let a_second = a_second.clamp(1, MOST_A_SECOND);
        let feed = Feed::start(&self.job.bootstrap, &self.job.from, records, a_second);
        for _ in 0..PLACES {
            self.join();
        }
        feed.allow(share);
        self.until_committed(1);
        for (fault, number) in faults.into_iter().zip(1..) {
            feed.allow(share * (number + 1));
            let load = Duration::from_secs(share / a_second).min(SHARE);
            self.random.wait_up_to(load);
            let began = Instant::now();
            self.happens(fault);
            println!("{fault:?}: {:.1?}", began.elapsed());
            self.workers.are_well();
        }
        feed.finish();
        let all = ends(&self.job.bootstrap, &self.job.from);
        assert_eq!(all.values().sum::<i64>() as u64, records);
        self.until_committed(records);
        self.workers.drain();
    }

    /// Waits until the group has committed so many records.
    pub(crate) fn until_committed(&mut self, records: u64) {
        let (bootstrap, group, from) = (&self.job.bootstrap, &self.job.group, &self.job.from);
        let what = format!("{records} records to be committed");
        let began = Instant::now();
        until(&what, Duration::from_secs(300), || {
            self.workers.are_well();
            let now = committed(bootstrap, group, from);
            let done = now.values().sum::<i64>() as u64;
            if began.elapsed() > Duration::from_secs(60) {
                thread::sleep(Duration::from_secs(5));
                println!("{done} of {records}: {now:?}");
            }
            (done >= records).then_some(())
        });
    }

    fn happens(&mut self, fault: Fault) {
        match fault {
            Fault::KillWorker => self.kill_worker(),
            Fault::Join => self.join(),
            Fault::Leave => {
                let place = self.random.one_of(&self.workers.places());
                self.workers.take(place).drain();
                if self.workers.places().len() < PLACES {
                    self.join();
                }
            }
            Fault::KillBroker => {
                let node = self.random.one_of(&[1, 2, 3]);
                self.kill_broker(node);
            }
            Fault::PauseBroker => {
                let node = self.random.one_of(&[1, 2, 3]);
                self.cluster.pause(node);
                thread::sleep(Duration::from_secs(variable("FOREBAY_KAFKA_PAUSE", 5)));
                self.cluster.heal();
            }
            Fault::MoveLeader => {
                let topic = self.random.one_of(&[&self.job.from, &self.job.to]).clone();
                let partition = self
                    .random
                    .below(ends(&self.job.bootstrap, &topic).len() as u64);
                let (before, after) = self.cluster.move_leader(&topic, partition as i32);
                println!("{topic}/{partition} moved from broker {before} to {after}");
            }
            Fault::KillCoordinator => {
                let node = self.cluster.coordinator(&self.job.group);
                self.kill_broker(node);
            }
            Fault::KillTransactionCoordinator => {
                let id = format!("{}-0-a", self.job.group);
                let node = self.cluster.transaction_coordinator(&id);
                self.kill_broker(node);
            }
        }
    }

    /// One more, at the first place that is free.
    fn join(&mut self) {
        let taken = self.workers.places();
        let mut place = 0;
        while taken.contains(&place) {
            place += 1;
        }
        self.workers.start(place);
    }

    fn kill_worker(&mut self) {
        let place = self.random.one_of(&self.workers.places());
        let mut worker = self.workers.take(place);
        worker.kill();
        if !self.job.in_transactions {
            // Where it was in the middle of a commit there is no telling before it is back.
            let (bootstrap, group, from) = (&self.job.bootstrap, &self.job.group, &self.job.from);
            let committed = committed(bootstrap, group, from);
            let at_ms = now_ms();
            self.kills.push(Kill { committed, at_ms });
        }
        self.random.wait_up_to(Duration::from_millis(1500));
        self.workers.start(place);
    }

    pub(crate) fn kill_broker(&mut self, node: i32) {
        self.cluster.kill(node);
        thread::sleep(Duration::from_secs(4));
        self.cluster.heal();
    }
}
