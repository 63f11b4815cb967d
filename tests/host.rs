//! What the host reads: control groups of both versions in a tree made for it, the machine, the lag of
//! a runtime, a real limit where one can be set, and the budget that pipelines share.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use forebay::control::{Pressure, PressureHandle, PressureSettings, Signal};
use forebay::host::{
    Cgroups, Host, HostError, HostSample, HostSettings, HostSource, MemoryBudget, Origin, Script,
};
use forebay::operator::Demand;
use forebay::time::{self, Time};

/// A tree of control groups in a folder of its own.
struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    fn new(membership: &str) -> Tree {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        fs::write(folder.path().join("membership"), membership).unwrap();
        Tree { folder }
    }

    /// Version 2: the process is in that group.
    fn v2(group: &str) -> Tree {
        let tree = Tree::new(&format!("0::{group}\n"));
        tree.with("cgroup.controllers", "cpu memory\n")
    }

    fn v1(group: &str) -> Tree {
        Tree::new(&format!(
            "9:name=systemd:/\n4:memory:{group}\n2:cpu,cpuacct:{group}\n"
        ))
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn with(self, file: &str, text: &str) -> Tree {
        self.set(file, text);
        self
    }

    fn set(&self, file: &str, text: &str) {
        let file = self.root().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn membership(&self) -> PathBuf {
        self.folder.path().join("membership")
    }

    fn groups(&self) -> Result<Cgroups, HostError> {
        Cgroups::under(&self.root(), &self.membership())
    }

    /// Bytes in use, limit.
    fn memory(&self) -> Option<(u64, u64)> {
        let memory = self.groups().unwrap().memory().unwrap();
        memory.map(|memory| (memory.used_bytes, memory.limit_bytes))
    }
}

fn seconds(n: u64) -> Time {
    Time::from_nanos(n * 1_000_000_000)
}

#[test]
fn memory_of_version_2() {
    let tree = Tree::v2("/app")
        .with("app/memory.max", "1000\n")
        .with("app/memory.current", "900\n")
        .with("app/memory.stat", "anon 500\ninactive_file 300\n");
    assert_eq!(
        tree.memory(),
        Some((600, 1000)),
        "pages that can be dropped do not count"
    );
    let origin = tree.groups().unwrap().memory().unwrap().unwrap().origin;
    assert_eq!(origin, Origin::CgroupV2);
    tree.set("app/memory.high", "800\n");
    assert_eq!(tree.memory(), Some((600, 800)), "slowed down from there on");
    tree.set("app/memory.max", "max\n");
    tree.set("app/memory.high", "max\n");
    assert_eq!(tree.memory(), None, "no limit");
}

#[test]
fn memory_of_version_1() {
    let tree = Tree::v1("/app")
        .with("memory/app/memory.limit_in_bytes", "1000\n")
        .with("memory/app/memory.usage_in_bytes", "900\n")
        .with(
            "memory/app/memory.stat",
            "inactive_file 1\ntotal_inactive_file 300\n",
        )
        .with("memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_eq!(tree.memory(), Some((600, 1000)));
    let origin = tree.groups().unwrap().memory().unwrap().unwrap().origin;
    assert_eq!(origin, Origin::CgroupV1);
    tree.set("memory/app/memory.limit_in_bytes", "9223372036854771712\n");
    assert_eq!(tree.memory(), None, "no limit");
}

#[test]
fn of_nested_limits_the_one_that_is_nearest_is_told() {
    let tree = Tree::v2("/pod/app")
        .with("pod/app/memory.max", "1000\n")
        .with("pod/app/memory.current", "500\n")
        .with("pod/memory.max", "2000\n")
        .with("pod/memory.current", "1900\n");
    assert_eq!(
        tree.memory(),
        Some((1900, 2000)),
        "others in the pod use it up"
    );
    tree.set("pod/memory.current", "600\n");
    assert_eq!(tree.memory(), Some((500, 1000)));
    tree.set("pod/app/memory.max", "max\n");
    assert_eq!(tree.memory(), Some((600, 2000)));
}

#[test]
fn a_group_that_is_not_in_the_tree_is_the_root_as_a_container_sees_it() {
    for group in ["/docker/4711", "/../../elsewhere", "/"] {
        let tree = Tree::v2(group)
            .with("memory.max", "1000\n")
            .with("memory.current", "10\n");
        assert_eq!(tree.memory(), Some((10, 1000)), "{group}");
    }
}

#[test]
fn a_machine_with_both_versions_limits_memory_by_the_first() {
    let tree = Tree::new("4:memory:/a\n0::/b\n")
        .with("unified/cgroup.controllers", "\n")
        .with("unified/b/cpu.max", "50000 100000\n")
        .with("unified/b/cpu.stat", "usage_usec 0\n")
        .with("memory/a/memory.limit_in_bytes", "100\n")
        .with("memory/a/memory.usage_in_bytes", "10\n");
    assert_eq!(tree.memory(), Some((10, 100)));
    let mut groups = tree.groups().unwrap();
    assert_eq!(groups.cpu(seconds(0)).unwrap(), None);
    tree.set("unified/b/cpu.stat", "usage_usec 250000\n");
    let cpu = groups.cpu(seconds(1)).unwrap().unwrap();
    assert_eq!(cpu.origin, Origin::CgroupV2);
    assert!((cpu.share - 0.5).abs() < 1e-9 && (cpu.cores - 0.5).abs() < 1e-9);
}

#[test]
fn processor_time_of_version_2_against_each_quota() {
    let tree = Tree::v2("/pod/app")
        .with("pod/app/cpu.max", "200000 100000\n")
        .with("pod/app/cpu.stat", "usage_usec 1000000\nnr_periods 1\n")
        .with("pod/cpu.max", "300000 100000\n")
        .with("pod/cpu.stat", "usage_usec 5000000\n")
        .with("cpu.stat", "usage_usec 99\n");
    let mut groups = tree.groups().unwrap();
    assert_eq!(
        groups.cpu(seconds(10)).unwrap(),
        None,
        "a share needs two looks"
    );
    tree.set("pod/app/cpu.stat", "usage_usec 2000000\n");
    tree.set("pod/cpu.stat", "usage_usec 6200000\n");
    let cpu = groups.cpu(seconds(11)).unwrap().unwrap();
    assert!((cpu.share - 0.5).abs() < 1e-9, "1 s of 2: {cpu:?}");
    tree.set("pod/cpu.stat", "usage_usec 9200000\n");
    let cpu = groups.cpu(seconds(12)).unwrap().unwrap();
    assert!(
        (cpu.share - 1.0).abs() < 1e-9,
        "the pod used all of its 3: {cpu:?}"
    );
    assert!((cpu.cores - 3.0).abs() < 1e-9);
    tree.set("pod/app/cpu.max", "max 100000\n");
    tree.set("pod/cpu.max", "max 100000\n");
    assert_eq!(groups.cpu(seconds(13)).unwrap(), None, "no quota");
}

#[test]
fn processor_time_of_version_1_however_it_is_mounted() {
    let both = Tree::v1("/app")
        .with("cpu,cpuacct/app/cpu.cfs_quota_us", "50000\n")
        .with("cpu,cpuacct/app/cpu.cfs_period_us", "100000\n")
        .with("cpu,cpuacct/app/cpuacct.usage", "0\n");
    let apart = Tree::new("2:cpuacct:/app\n1:cpu:/app\n")
        .with("cpu/app/cpu.cfs_quota_us", "50000\n")
        .with("cpu/app/cpu.cfs_period_us", "100000\n")
        .with("cpuacct/app/cpuacct.usage", "0\n");
    for (tree, usage) in [
        (both, "cpu,cpuacct/app/cpuacct.usage"),
        (apart, "cpuacct/app/cpuacct.usage"),
    ] {
        let mut groups = tree.groups().unwrap();
        assert_eq!(groups.cpu(seconds(0)).unwrap(), None);
        tree.set(usage, "450000000\n");
        let cpu = groups.cpu(seconds(1)).unwrap().unwrap();
        assert!((cpu.share - 0.9).abs() < 1e-9, "{cpu:?}");
        assert_eq!(cpu.origin, Origin::CgroupV1);
    }
    let none = Tree::v1("/app").with("cpu,cpuacct/app/cpu.cfs_quota_us", "-1\n");
    assert_eq!(none.groups().unwrap().cpu(seconds(0)).unwrap(), None);
}

#[test]
fn what_cannot_be_understood_is_an_error_that_names_the_file() {
    let names = |error: HostError, file: &str| match error {
        HostError::Malformed { file: of, .. } | HostError::Unreadable { file: of, .. } => {
            assert!(of.ends_with(file), "{} is not {file}", of.display());
        }
        other => panic!("{other}"),
    };
    let memory = |tree: Tree| tree.groups().unwrap().memory().unwrap_err();
    let cpu = |tree: Tree| tree.groups().unwrap().cpu(seconds(0)).unwrap_err();
    let v2 = || Tree::v2("/a").with("a/memory.max", "100\n");
    let v1 = || Tree::v1("/a").with("memory/a/memory.limit_in_bytes", "100\n");
    names(Tree::new("nonsense\n").groups().unwrap_err(), "membership");
    names(
        memory(Tree::v2("/a").with("a/memory.max", "many\n")),
        "a/memory.max",
    );
    names(
        memory(Tree::v2("/a").with("a/memory.high", "")),
        "a/memory.high",
    );
    names(memory(v2()), "a/memory.current");
    names(
        memory(v2().with("a/memory.current", "-5\n")),
        "a/memory.current",
    );
    let stat = v2()
        .with("a/memory.current", "5\n")
        .with("a/memory.stat", "inactive_file some\n");
    names(memory(stat), "a/memory.stat");
    names(memory(v1()), "a/memory.usage_in_bytes");
    names(
        memory(v1().with("memory/a/memory.limit_in_bytes", "1e3")),
        "a/memory.limit_in_bytes",
    );
    for text in ["", "100000", "100000 0", "a b", "0 100000"] {
        names(cpu(Tree::v2("/a").with("a/cpu.max", text)), "a/cpu.max");
    }
    let quota = || Tree::v2("/a").with("a/cpu.max", "1000 1000");
    names(cpu(quota()), "a/cpu.stat");
    names(
        cpu(quota().with("a/cpu.stat", "user_usec 5\n")),
        "a/cpu.stat",
    );
    let quota = || Tree::v1("/a").with("cpu,cpuacct/a/cpu.cfs_quota_us", "5000");
    names(cpu(quota()), "a/cpu.cfs_period_us");
    names(
        cpu(quota().with("cpu,cpuacct/a/cpu.cfs_period_us", "5000")),
        "a/cpuacct.usage",
    );
    let text = memory(Tree::v2("/a").with("a/memory.max", "many\n")).to_string();
    assert!(
        text.contains("says \"many\", where a number or `max` was expected"),
        "{text}"
    );
    let broken = Tree::v2("/a").with("a/memory.max", "many\n");
    let settings = HostSettings::new().cgroups(broken.root(), broken.membership());
    names(Host::start(settings).unwrap_err(), "a/memory.max");
}

#[test]
fn a_system_without_groups_has_no_limit_of_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let mut groups = Cgroups::under(folder.path(), &folder.path().join("none")).unwrap();
    assert_eq!(groups.memory().unwrap(), None);
    assert_eq!(groups.cpu(seconds(0)).unwrap(), None);
    assert!(Cgroups::of_this_process().is_ok());
}

/// Waits until it holds, for ten seconds at most.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = time::now();
    while !holds() {
        assert!(time::now().since(since) < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn host_threads() -> usize {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return 0;
    };
    let name = |task: PathBuf| fs::read_to_string(task.join("comm")).unwrap_or_default();
    tasks
        .filter(|task| name(task.as_ref().unwrap().path()).trim() == "forebay-host")
        .count()
}

/// The tests below look at threads by name: one at a time.
static HOSTS: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn the_thread_samples_a_limited_group_and_ends_with_its_host() {
    let _alone = HOSTS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let tree = Tree::v2("/a")
        .with("a/memory.max", "1000\n")
        .with("a/memory.current", "500\n")
        .with("a/cpu.max", "100000 100000\n")
        .with("a/cpu.stat", "usage_usec 0\n");
    let shared = PressureHandle::new(PressureSettings::new()).unwrap();
    let settings = HostSettings::new()
        .every(Duration::from_millis(10))
        .cgroups(tree.root(), tree.membership())
        .feeding(&shared);
    let before = host_threads();
    let host = Host::start(settings).unwrap();
    let reader = host.reader();
    assert_eq!(reader.sample().memory.unwrap().used_bytes, 500, "at once");
    assert!(!shared.gate_is_shut(), "half of the memory");
    tree.set("a/memory.current", "950\n");
    eventually("a new sample", || {
        reader.sample().memory.unwrap().used_bytes == 950
    });
    eventually("a share of the quota", || reader.sample().cpu.is_some());
    assert_eq!(reader.sample().cpu.unwrap().origin, Origin::CgroupV2);
    let mut pressure = Pressure::new(PressureSettings::new()).unwrap();
    for reading in reader.sample().readings() {
        pressure.read(reader.sample().at, reading);
    }
    assert_eq!(
        pressure.explain(reader.sample().at).signal,
        Some(Signal::Memory)
    );
    assert!(pressure.gate_is_shut());
    eventually("stages that share it are told", || shared.gate_is_shut());
    tree.set("a/memory.max", "many\n");
    eventually("the trouble is told", || reader.trouble().is_some());
    assert_eq!(
        reader.sample().memory.unwrap().origin,
        Origin::Machine,
        "meanwhile"
    );
    tree.set("a/memory.max", "1000\n");
    eventually("and forgotten when it is over", || {
        reader.trouble().is_none()
    });
    if Path::new("/proc/self/task").exists() {
        assert_eq!(host_threads(), before + 1);
    }
    drop(host);
    assert_eq!(host_threads(), before);
    let last = reader.sample();
    assert_eq!(
        reader.latest(last.at + Duration::from_secs(1)),
        last,
        "still readable"
    );
}

#[test]
fn without_a_limit_the_machine_is_told() {
    let _alone = HOSTS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let tree = Tree::v2("/a").with("a/memory.max", "max\n");
    let settings = HostSettings::new()
        .every(Duration::from_millis(50))
        .cgroups(tree.root(), tree.membership());
    let host = Host::start(settings).unwrap();
    let reader = host.reader();
    eventually("both are there", || {
        let sample = reader.sample();
        sample.cpu.is_some() && sample.memory.is_some()
    });
    let sample = reader.sample();
    let (cpu, memory) = (sample.cpu.unwrap(), sample.memory.unwrap());
    assert_eq!(
        (cpu.origin, memory.origin),
        (Origin::Machine, Origin::Machine)
    );
    assert!(
        cpu.cores >= 1.0 && (0.0..=1.01).contains(&cpu.share),
        "{cpu:?}"
    );
    assert!(memory.share() > 0.0 && memory.share() < 1.0, "{memory:?}");
}

#[test]
fn a_runtime_that_stands_still_is_seen_while_it_does() {
    let _alone = HOSTS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let host = Host::start(HostSettings::new().every(Duration::from_millis(10))).unwrap();
    let reader = host.reader();
    let lag = || reader.sample().runtime_lag;
    assert_eq!(lag(), None, "no runtime is watched");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    host.watch(runtime.handle());
    eventually("a lag of an idle runtime", || {
        lag().is_some_and(|lag| lag < Duration::from_millis(100))
    });
    let (go_on, blocked) = std::sync::mpsc::channel::<()>();
    drop(runtime.spawn(async move {
        let _ = blocked.recv();
    }));
    eventually("a lag that grows", || {
        lag().is_some_and(|lag| lag > Duration::from_millis(300))
    });
    go_on.send(()).unwrap();
    eventually("it runs again", || {
        lag().is_some_and(|lag| lag < Duration::from_millis(100))
    });
    drop(runtime);
    eventually("the runtime has ended", || lag().is_none());
}

/// Set where this test program was started a second time, to be limited.
const LIMITED: &str = "FOREBAY_TEST_LIMITED_TO";

/// Under a limit that the kernel keeps: in a group made for it, where that is allowed. The program
/// starts itself again, because what is limited would stay so.
#[test]
fn a_real_limit_is_seen_where_one_can_be_set() {
    const LIMIT_BYTES: u64 = 256 << 20;
    if let Ok(group) = std::env::var(LIMITED) {
        return inside_a_limit(Path::new(&group), LIMIT_BYTES);
    }
    let Some(group) = make_group(LIMIT_BYTES) else {
        eprintln!("no group can be made here: the trees made by hand stand for it");
        return;
    };
    let name = "a_real_limit_is_seen_where_one_can_be_set";
    let status = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(LIMITED, &group)
        .status();
    // The group can be removed when its last process is gone.
    eventually("the group is empty", || fs::remove_dir(&group).is_ok());
    assert!(status.unwrap().success());
}

/// Makes a group below that of this process, with a limit of its memory.
fn make_group(limit_bytes: u64) -> Option<PathBuf> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let name = format!("forebay-test-{}", std::process::id());
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, group) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let (base, file) = match names {
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ => continue,
        };
        let folder = Path::new(base).join(group).join(&name);
        if fs::create_dir(&folder).is_err() {
            continue;
        }
        if fs::write(folder.join(file), limit_bytes.to_string()).is_ok() {
            return Some(folder);
        }
        fs::remove_dir(folder).unwrap();
    }
    None
}

fn inside_a_limit(group: &Path, limit_bytes: u64) {
    let own = std::process::id().to_string();
    fs::write(group.join("cgroup.procs"), own).unwrap();
    let host = Host::start(HostSettings::new().every(Duration::from_millis(10))).unwrap();
    let reader = host.reader();
    let memory = || reader.sample().memory.unwrap();
    assert_eq!(memory().limit_bytes, limit_bytes);
    assert_ne!(memory().origin, Origin::Machine);
    let before = memory().used_bytes;
    let ballast = vec![1_u8; 64 << 20];
    eventually("what was allocated is seen", || {
        memory().used_bytes >= before + (60 << 20)
    });
    assert!(memory().share() < 0.9 && ballast.iter().all(|byte| *byte == 1));
    eprintln!("seen under a real limit: {:?}", memory());
}

#[test]
fn a_script_gives_what_it_says_whenever_it_is_asked() {
    let script = Script::new([
        HostSample::at(seconds(5))
            .with_cpu(0.9)
            .with_lag(Duration::from_millis(7)),
        HostSample::at(seconds(1)).with_memory(1, 2),
    ]);
    assert_eq!(script.latest(seconds(0)), HostSample::at(seconds(0)));
    assert_eq!(script.latest(seconds(3)).readings().count(), 1);
    let late = script.latest(seconds(60));
    assert_eq!((late.at, late.readings().count()), (seconds(60), 2));
}

#[test]
fn a_budget_is_one_account_for_all_who_share_it() {
    let _alone = HOSTS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let budget = MemoryBudget::new(1000);
    let (first, second) = (budget.clone(), budget.clone());
    let one = first.try_reserve(700).unwrap();
    let refused = second.try_reserve(301).unwrap_err();
    assert_eq!((refused.asked_bytes, refused.free_bytes), (301, 300));
    let mut two = second.try_reserve(300).unwrap();
    assert!(
        first.try_demand(Demand::items(5)).is_none(),
        "nothing is free"
    );
    let part = two.split(100);
    drop(two);
    assert_eq!(budget.used_bytes(), 800);
    drop((one, part));
    assert_eq!(budget.used_bytes(), 0);
    let mut grant = first.try_demand(Demand::items(5)).unwrap();
    assert_eq!(
        (grant.demand.items, grant.demand.bytes),
        (5, 500),
        "half of what is free"
    );
    let other = second.try_demand(Demand::items(5)).unwrap();
    assert_eq!(other.demand.bytes, 250, "nobody asks for the same bytes");
    // One element was larger than all that was granted: it is there, so it counts.
    grant.reservation.resize(900);
    assert_eq!((budget.used_bytes(), budget.free_bytes()), (1150, 0));
    assert!(budget.memory().share() > 1.0);
    drop(grant);
    assert!(first.try_demand(Demand::NONE).is_none());
    let host = Host::start(HostSettings::new().budget(&MemoryBudget::new(0))).unwrap();
    let memory = host.reader().sample().memory.unwrap();
    assert_eq!(
        memory.origin,
        Origin::Budget,
        "the one that is nearer to its limit"
    );
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn who_waits_for_bytes_is_woken_when_some_are_free() {
    let budget = MemoryBudget::new(100);
    let all = budget.try_reserve(100).unwrap();
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut task = Context::from_waker(&waker);
    for _ in 0..3 {
        assert!(budget.poll_demand(&mut task, Demand::items(1)).is_pending());
    }
    drop(all);
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "once");
    let Poll::Ready(grant) = budget.poll_demand(&mut task, Demand::items(1)) else {
        panic!("bytes are free");
    };
    assert_eq!(grant.demand.bytes, 50);
}

#[test]
fn no_wake_up_is_lost_between_threads_that_share_few_bytes() {
    let budget = MemoryBudget::new(64);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..8_u64)
            .map(|n| {
                let budget = budget.clone();
                tokio::spawn(async move {
                    for turn in 0..2000 {
                        let want = Demand {
                            items: 1,
                            bytes: 40 + n,
                        };
                        let mut grant =
                            std::future::poll_fn(|task| budget.poll_demand(task, want)).await;
                        grant.reservation.resize((turn + n) % 64);
                        if turn % 3 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            let done = tokio::time::timeout(Duration::from_secs(60), task).await;
            done.expect("a wake-up was lost").unwrap();
        }
    });
    assert_eq!(budget.used_bytes(), 0);
}
