//! The workers, as those see them who start, kill and stop them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::job::{Job, VARIABLE};
use crate::stage::until;
use crate::worker;

/// The workers of a test. Those that are left end with it.
pub(crate) struct Workers {
    job: Job,
    folder: tempfile::TempDir,
    next: u64,
    at: BTreeMap<u64, Worker>,
}

/// A process.
pub(crate) struct Worker {
    pub(crate) number: u64,
    child: Child,
    input: ChildStdin,
    log: PathBuf,
}

impl Workers {
    pub(crate) fn new(job: Job) -> Workers {
        Workers {
            job,
            folder: tempfile::tempdir().unwrap(),
            next: 0,
            at: BTreeMap::new(),
        }
    }

    pub(crate) fn places(&self) -> Vec<u64> {
        self.at.keys().copied().collect()
    }

    /// Starts a worker at that place.
    pub(crate) fn start(&mut self, place: u64) {
        self.start_as(place, |_| {});
    }

    /// Starts one there that has another job than the others.
    pub(crate) fn start_as(&mut self, place: u64, change: impl FnOnce(&mut Job)) {
        let worker = self.spawn(place, change);
        assert!(self.at.insert(place, worker).is_none(), "it is taken");
    }

    /// Starts one that nobody looks after; it may have the place of one that runs.
    pub(crate) fn spawn(&mut self, place: u64, change: impl FnOnce(&mut Job)) -> Worker {
        let number = self.next;
        self.next += 1;
        let mut job = Job {
            place,
            number,
            ..self.job.clone()
        };
        change(&mut job);
        let log = self.folder.path().join(format!("worker-{number}"));
        let output = File::create(&log).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "worker::worker", "--nocapture"])
            .env(VARIABLE, job.to_string())
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        Worker {
            number,
            child,
            input,
            log,
        }
    }

    /// Takes a worker away from those that are looked after.
    pub(crate) fn take(&mut self, place: u64) -> Worker {
        self.at.remove(&place).unwrap()
    }

    /// Fails if one of them ended, which none does by itself.
    pub(crate) fn are_well(&mut self) {
        for worker in self.at.values_mut() {
            if let Some(status) = worker.child.try_wait().unwrap() {
                worker.tell(status);
            }
        }
    }

    /// Has all of them drain and end.
    pub(crate) fn drain(&mut self) {
        for (_, mut worker) in std::mem::take(&mut self.at) {
            worker.drain();
        }
    }
}

impl Worker {
    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success(), "kill {name}");
    }

    /// SIGKILL; it is gone when this returns.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Has it drain.
    pub(crate) fn say_drain(&mut self) {
        // One that has ended cannot hear it; how it ended is told afterwards.
        let _ = self.input.write_all(b"drain\n");
    }

    /// Has it drain, and waits until it has.
    pub(crate) fn drain(&mut self) {
        self.say_drain();
        let status = self.ended(Duration::from_secs(90));
        if status.code() != Some(worker::DRAINED) {
            self.tell(status);
        }
    }

    /// How it ends.
    pub(crate) fn ended(&mut self, within: Duration) -> ExitStatus {
        let what = format!("worker {} to end", self.number);
        until(&what, within, || self.child.try_wait().unwrap())
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// How often it went back, as it told when it ended.
    pub(crate) fn rewinds(&self) -> u64 {
        let log = self.log();
        let told = log.lines().find_map(|line| line.strip_prefix("rewinds="));
        told.unwrap().parse().unwrap()
    }

    fn tell(&self, status: ExitStatus) -> ! {
        let log = self.log();
        panic!("worker {} ended with {status}:\n{log}", self.number);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
