//! The buffer on disk in a running pipeline: what it keeps, what it hands on again, how it is bounded,
//! what it says of what is damaged, and that every element is accounted for.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::boundary::{
    Buffer, ClassBuffer, Damage, Damaged, DiskBuffer, DiskError, Stored, SyncPolicy,
};
use forebay::class::Class;
use forebay::control::{DeferralSettings, PrioritySettings, ThrottleMode, WhenNoRoom};
use forebay::dead_letter::DeadLetter;
use forebay::error::{BoxError, Cause, RunError};
use forebay::flow::{DeadLetters, Flow, Pipeline, Rate};
use forebay::operator::Answer;
use forebay::outcome::{Kind, Reason};
use forebay::runtime::Snapshot;
use forebay::source;
use forebay::testkit::{Simulation, sink_probe, source_probe};
use forebay::time;
use forebay::topology::Guarantee;
use proptest::prelude::*;
use tempfile::TempDir;

const MS: Duration = Duration::from_millis(1);
/// Head, which attributes there are, when the element was taken in, and the value.
const RECORD: u64 = 24 + 1 + 8 + 8;
/// The head of a file.
const FILE: u64 = 16;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A buffer that tests need not wait for the disk for.
fn open(folder: &TempDir) -> DiskBuffer {
    DiskBuffer::open(folder.path())
        .unwrap()
        .sync(SyncPolicy::Os)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as the stage calls it
fn encode(n: &u64) -> [u8; 8] {
    n.to_le_bytes()
}

fn decode(stored: &Stored) -> Result<u64, BoxError> {
    Ok(u64::from_le_bytes(stored.whole()?[..].try_into()?))
}

fn spill(flow: Flow<u64>, disk: DiskBuffer) -> Flow<u64> {
    flow.buffer_on_disk(disk, encode).try_map(decode).or_stop()
}

/// Reads what is there, and adds nothing.
fn rest(disk: DiskBuffer) -> Flow<u64> {
    spill(source::iter(0..0), disk)
}

fn simulate<O: Send + 'static>(pipeline: Pipeline<O>) -> (O, Snapshot) {
    let (output, snapshot) = Simulation::new(7).run(pipeline).unwrap();
    snapshot.check().unwrap();
    (output, snapshot)
}

/// Leaves so many records from 0 on in a buffer.
fn leave(folder: &TempDir, count: u64, settings: impl Fn(DiskBuffer) -> DiskBuffer) {
    let pipeline = spill(
        source::iter(0..count),
        settings(open(folder)).keep_on_drain(),
    );
    let simulation = Simulation::new(1);
    let (sink, end) = sink_probe();
    let mut run = simulation.start(pipeline.to(end)).unwrap();
    simulation.advance(MS);
    let _ = run.drain(Duration::from_secs(5)).unwrap();
    drop(sink);
    drop((run, simulation));
    assert_eq!(open(folder).recovered().items, count);
}

fn files(folder: &TempDir) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "records"))
        .collect();
    found.sort();
    found
}

#[test]
fn all_come_out_in_order_on_the_wall_clock_whatever_the_policy() {
    for policy in [SyncPolicy::Each, SyncPolicy::Every(5 * MS), SyncPolicy::Os] {
        let folder = folder();
        let disk = open(&folder).sync(policy).bytes(8 << 10);
        let view = disk.view();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        let pipeline = spill(source::iter(0..3000), disk)
            .inspect(move |n| {
                if *n == 2999 {
                    keep.lock().unwrap().push(view.snapshot().unwrap());
                }
            })
            .collect();
        let all = pipeline.block_on().unwrap();
        assert_eq!(all, (0..3000).collect::<Vec<_>>());
        let seen = seen.lock().unwrap()[0];
        assert_eq!(seen.written, 3000);
        assert!(seen.peak_bytes <= 8 << 10, "{seen:?}");
        assert_eq!(seen.syncs > 0, policy != SyncPolicy::Os, "{seen:?}");
        assert_eq!(open(&folder).recovered().items, 0);
    }
}

#[test]
fn what_belongs_to_an_element_is_kept() {
    let folder = folder();
    let text = source::Lines::read("a text", &b"one\ntwo"[..]);
    let pipeline = source::lines(text)
        .classify(|line| {
            if line.number == 1 {
                Class::HIGH
            } else {
                Class::LOW
            }
        })
        .deadline(Duration::from_secs(60))
        .buffer_on_disk(open(&folder), |line| line.bytes.clone())
        .try_map(|_| Err::<(), _>("not wanted"));
    let (kept, letters) = async_channel::bounded::<DeadLetter>(16);
    let pipeline = pipeline
        .or_dead_letter(&DeadLetters::new(16, kept))
        .ignore();
    pipeline.block_on().unwrap();
    for (text, class, offset) in [("one\n", Class::HIGH, 0), ("two", Class::LOW, 4)] {
        let letter = letters.try_recv().unwrap();
        assert_eq!(letter.class, Some(class));
        assert_eq!(letter.bytes().unwrap(), text);
        let origin = letter.origin.unwrap();
        let record = &origin.records()[0];
        assert_eq!((&*record.place, record.offset), ("a text", offset));
    }
}

#[test]
fn a_deadline_and_a_class_go_through_the_files() {
    let folder = folder();
    let pipeline = source::iter(0..6_u64)
        .deadline(20 * MS)
        .classify(|n| if n % 2 == 0 { Class::HIGH } else { Class::LOW });
    let pipeline = pipeline
        .buffer_on_disk(open(&folder), encode)
        .allow_loss()
        .try_map(decode)
        .or_stop()
        .map_async(1, |n| async move {
            time::sleep(8 * MS).await;
            n
        })
        .expire()
        .collect();
    let (all, snapshot) = Simulation::new(1).run(pipeline).unwrap();
    assert_eq!(all, [0, 1], "the third is done after 24 ms");
    snapshot.check().unwrap();
    let read = &snapshot.stage("expire").unwrap().counts;
    let of = |class| {
        let is = |settled: &forebay::ledger::Settlement| settled.class == Some(class);
        read.settlements().into_iter().find(is).unwrap().count
    };
    assert_eq!((of(Class::HIGH), of(Class::LOW)), (2, 2));
}

#[test]
fn it_holds_no_more_than_was_declared_and_slows_its_source_down() {
    let simulation = Simulation::new(3);
    let folder = folder();
    let disk = open(&folder).items(10);
    let view = disk.view();
    let (source, flow) = source_probe::<u64>();
    let (sink, end) = sink_probe();
    let mut run = simulation.start(spill(flow, disk).to(end)).unwrap();
    source.send(0..100);
    simulation.advance(Duration::from_secs(1));
    let seen = view.snapshot().unwrap();
    assert_eq!((seen.items, seen.written), (10, 10));
    assert_eq!(seen.bytes, FILE + 10 * RECORD);
    sink.request(5);
    assert_eq!(sink.expect_any_n(5), [0, 1, 2, 3, 4]);
    simulation.advance(Duration::from_secs(1));
    let seen = view.snapshot().unwrap();
    assert_eq!((seen.items, seen.written, seen.peak_items), (10, 15, 10));
    source.complete();
    sink.request(1000);
    sink.expect_any_n(95);
    sink.expect_complete();
    run.join().unwrap();
    let snapshot = run.snapshot();
    snapshot.check().unwrap();
    assert_eq!(
        snapshot.total().outcome(Kind::Delivered),
        200,
        "by both sources"
    );
}

#[test]
fn bytes_bound_the_files_and_settled_ones_make_room() {
    for segment_bytes in [1, 60, 100, 1000] {
        let folder = folder();
        let disk = open(&folder).bytes(1000).segment_bytes(segment_bytes);
        let view = disk.view();
        let peak = Arc::new(Mutex::new(0));
        let keep = Arc::clone(&peak);
        let pipeline = spill(source::iter(0..500), disk)
            .map_async(1, move |n| {
                *keep.lock().unwrap() = view.snapshot().unwrap().peak_bytes;
                async move {
                    time::sleep(MS / 10).await;
                    n
                }
            })
            .collect();
        let (all, _) = simulate(pipeline);
        assert_eq!(
            all,
            (0..500).collect::<Vec<_>>(),
            "files of {segment_bytes}"
        );
        let peak = *peak.lock().unwrap();
        assert!(
            (900..=1000).contains(&peak),
            "{peak}, files of {segment_bytes}"
        );
        let left: u64 = files(&folder)
            .iter()
            .map(|path| path.metadata().unwrap().len())
            .sum();
        assert!(left <= 1000, "{left}");
    }
}

#[test]
fn a_record_larger_than_all_may_be_is_kept_alone() {
    let folder = folder();
    let disk = open(&folder).bytes(100);
    let text = |n: u64| "x".repeat(n as usize * 150);
    let pipeline = source::iter(0..4_u64)
        .map(text)
        .buffer_on_disk(disk, |text: &String| text.clone())
        .try_map(|stored| stored.whole().map(bytes::Bytes::len))
        .or_stop()
        .collect();
    assert_eq!(simulate(pipeline).0, [0, 150, 300, 450]);
}

#[test]
fn when_it_is_full_it_refuses_if_so_declared() {
    let simulation = Simulation::new(3);
    let folder = folder();
    let disk = open(&folder).items(4).refuse_when_full();
    let view = disk.view();
    let (source, flow) = source_probe::<u64>();
    let (sink, end) = sink_probe();
    let mut run = simulation.start(spill(flow, disk).to(end)).unwrap();
    source.send(0..10);
    simulation.advance(MS);
    assert_eq!(view.snapshot().unwrap().refused, 6);
    sink.request(10);
    assert_eq!(sink.expect_any_n(4), [0, 1, 2, 3]);
    source.complete();
    sink.expect_complete();
    run.join().unwrap();
    let snapshot = run.snapshot();
    snapshot.check().unwrap();
    let counts = &snapshot.stage("buffer_on_disk").unwrap().counts;
    assert_eq!(counts.reason(Reason::NoRoom), 6);
    assert_eq!(counts.outcome(Kind::Delivered), 4);
}

#[test]
fn what_was_not_taken_is_there_for_the_next_run() {
    let folder = folder();
    for seed in 0..4_u64 {
        let more = source::iter(seed * 10..seed * 10 + 10);
        let pipeline = spill(more, open(&folder)).take(5).collect();
        let simulation = Simulation::new(seed);
        let (all, snapshot) = simulation.run(pipeline).unwrap();
        snapshot.check().unwrap();
        assert_eq!(all, (seed * 5..seed * 5 + 5).collect::<Vec<_>>());
    }
    let (all, snapshot) = simulate(rest(open(&folder)).collect());
    // A `take` ends the flow before it, though not all had been read there.
    let first = all[0];
    assert_eq!(first, 20, "{all:?}");
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    assert_eq!(snapshot.total().outcome(Kind::Delivered), all.len() as u64);
}

#[test]
fn what_is_settled_out_of_order_does_not_come_again() {
    let folder = folder();
    leave(&folder, 100, |disk| disk);
    let simulation = Simulation::new(3);
    let pipeline = rest(open(&folder))
        .map_async_unordered(8, |n| async move {
            if n == 7 || n == 40 {
                std::future::pending::<()>().await;
            }
            n
        })
        .ignore();
    let mut run = simulation.start(pipeline).unwrap();
    simulation.advance(Duration::from_secs(1));
    run.abort();
    run.snapshot().check().unwrap();
    drop((run, simulation));
    let disk = open(&folder);
    assert_eq!(disk.recovered().items, 2);
    let (all, snapshot) = simulate(rest(disk).collect());
    assert_eq!(all, [7, 40]);
    let total = snapshot.total();
    assert_eq!((total.entered, total.resumed), (2, 91));
}

#[test]
fn a_drain_hands_all_on_or_keeps_it() {
    for keeps in [false, true] {
        let folder = folder();
        leave(&folder, 50, |disk| disk);
        let mut disk = open(&folder);
        if keeps {
            disk = disk.keep_on_drain();
        }
        let simulation = Simulation::new(3);
        let (source, flow) = source_probe();
        let (sink, end) = sink_probe();
        let mut run = simulation.start(spill(flow, disk).to(end)).unwrap();
        source.send(50..60);
        sink.request(20);
        simulation.advance(MS);
        assert_eq!(sink.expect_any_n(20).last(), Some(&19));
        if !keeps {
            sink.request(100);
        }
        let drained = run.drain(Duration::from_secs(5)).unwrap();
        assert!(drained.still_running.is_empty(), "{drained:?}");
        run.snapshot().check().unwrap();
        drop((run, simulation));
        let left = if keeps { 40 } else { 0 };
        assert_eq!(open(&folder).recovered().items, left, "keeps: {keeps}");
    }
}

#[test]
fn a_failure_downstream_is_tried_again_by_going_back_or_in_the_next_run() {
    let folder = folder();
    leave(&folder, 20, |disk| disk.segment_bytes(100));
    let flow = open(&folder).segment_bytes(100);
    let pipeline = source::iter(0..0_u64)
        .buffer_on_disk(flow, encode)
        .try_map(|stored| match decode(stored)? {
            12 => Err("the service is down".into()),
            n => Ok::<_, BoxError>(n),
        })
        .or_stop()
        .ignore();
    let error = Simulation::new(1).run(pipeline).unwrap_err().to_string();
    assert!(error.contains("the service is down"), "{error}");
    assert_eq!(open(&folder).recovered().items, 8);

    let mut failures = 2;
    let pipeline = source::iter(0..0_u64)
        .buffer_on_disk(open(&folder), encode)
        .on_unresolved(Answer::Rewind)
        .try_map(move |stored| match decode(stored)? {
            15 if failures > 0 => {
                failures -= 1;
                Err("the service is down".into())
            }
            n => Ok::<_, BoxError>(n),
        })
        .or_fail()
        .fold(BTreeSet::new(), |seen, n| {
            seen.insert(n);
        });
    let (seen, snapshot) = simulate(pipeline);
    assert_eq!(seen, (12..20).collect());
    assert!(snapshot.total().replayed > 0);
    assert_eq!(open(&folder).recovered().items, 0);
}

/// Runs that are aborted or dropped at any moment: what was acknowledged upstream comes out at last,
/// in order within a run, and little comes twice.
#[test]
fn what_was_acknowledged_survives_an_abort_at_any_moment() {
    let folder = folder();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (mut acknowledged, mut base) = (BTreeSet::new(), 0);
    for round in 0..30_u64 {
        let policy = [SyncPolicy::Os, SyncPolicy::Each][round as usize % 2];
        let disk = DiskBuffer::open(folder.path())
            .unwrap()
            .sync(policy)
            .segment_bytes(2000);
        let keep = Arc::clone(&seen);
        let pipeline = spill(source::iter(base..), disk)
            .map_async(4, |n| async move {
                time::sleep(Duration::from_micros(n % 300)).await;
                n
            })
            .for_each(move |n| keep.lock().unwrap().push(n));
        let total = runtime.block_on(async {
            let mut run = pipeline.run().unwrap();
            let written = |run: &forebay::runtime::Running<()>| {
                let snapshot = run.snapshot();
                let sink = &snapshot.stage("buffer_on_disk").unwrap().counts;
                sink.outcome(Kind::Delivered)
            };
            while written(&run) < round * 13 % 100 {
                tokio::time::sleep(MS / 4).await;
            }
            tokio::time::sleep(MS * (round as u32 % 5)).await;
            if round % 3 == 0 {
                let stopper = run.stopper();
                stopper.abort();
                let _ = run.join().await;
            } else {
                run.abort().await;
            }
            run.snapshot().check().unwrap();
            written(&run)
        });
        // They are written in order: the first of them were delivered.
        acknowledged.extend(base..base + total);
        base += 1_000_000;
    }
    let disk = DiskBuffer::open(folder.path()).unwrap();
    let left = rest(disk).collect().block_on().unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.extend(left);
    let unique: BTreeSet<u64> = seen.iter().copied().collect();
    let lost: Vec<_> = acknowledged.difference(&unique).take(5).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {}", acknowledged.len());
    assert!(acknowledged.len() >= 1000, "{}", acknowledged.len());
    let twice = seen.len() - unique.len();
    assert!(twice < 30 * 1200, "{twice} of {}", seen.len());
}

/// A stage that holds more than there is room for on disk: no timer hides that nothing goes on.
#[test]
fn a_run_that_stands_still_is_told_in_simulated_time() {
    let folder = folder();
    let held = spill(source::iter(0..100), open(&folder).items(4))
        .map_async(8, |n| async move {
            std::future::pending::<()>().await;
            n
        })
        .ignore();
    let error = Simulation::new(1).run(held).unwrap_err();
    let RunError::Stopped { cause, .. } = &error else {
        panic!("{error}");
    };
    assert!(matches!(cause, Cause::Stalled), "{cause}");
}

#[test]
fn two_runs_do_not_share_a_buffer() {
    let folder = folder();
    let first = open(&folder);
    let error = DiskBuffer::open(folder.path()).unwrap_err();
    assert!(matches!(error, DiskError::InUse { .. }), "{error}");
    drop(first);
    assert!(DiskBuffer::open(folder.path()).is_ok());
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// What is wrong with records, and what came out of the others.
fn damages(disk: DiskBuffer) -> (Vec<u64>, Vec<Damaged>) {
    let view = disk.view();
    let last = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&last);
    let pipeline = source::iter(0..0_u64)
        .buffer_on_disk(disk, encode)
        .try_map(|stored| {
            let bytes = stored.whole()?;
            Ok(bytes[..].try_into().map_or(u64::MAX, u64::from_le_bytes))
        })
        .results()
        .inspect(move |_: &Result<u64, Damaged>| *keep.lock().unwrap() = view.snapshot())
        .collect();
    let (all, _) = simulate(pipeline);
    let (mut whole, mut damaged) = (Vec::new(), Vec::new());
    for each in all {
        match each {
            Ok(n) => whole.push(n),
            Err(error) => damaged.push(error),
        }
    }
    let seen = last.lock().unwrap().unwrap();
    assert_eq!(seen.damages, damaged.len() as u64);
    assert_eq!(
        (seen.lost_records, seen.damaged_bytes),
        (
            damaged.iter().map(|each| each.records).sum(),
            damaged.iter().map(|each| each.bytes).sum()
        )
    );
    (whole, damaged)
}

#[test]
fn a_damaged_record_is_told_with_its_place_and_the_others_go_on() {
    // A byte of the body; of the length; of the mark at the start; of the file's own head.
    for (byte, what) in [
        (FILE + 5 * RECORD + 30, Damage::Checksum),
        (FILE + 5 * RECORD + 4, Damage::NoRecord),
        (FILE + 5 * RECORD, Damage::NoRecord),
    ] {
        let folder = folder();
        leave(&folder, 20, |disk| disk);
        let file = files(&folder).remove(0);
        change(&file, |bytes| bytes[byte as usize] ^= 0x40);
        let disk = open(&folder);
        assert_eq!(disk.recovered().cut_bytes, 0);
        let (whole, damaged) = damages(disk);
        assert_eq!(whole, (0..20).filter(|n| *n != 5).collect::<Vec<_>>());
        let wanted = Damaged {
            file,
            offset: FILE + 5 * RECORD,
            bytes: RECORD,
            records: 1,
            what,
        };
        assert_eq!(damaged, [wanted]);
    }
}

#[test]
fn a_hole_over_several_records_and_a_file_that_is_gone_are_counted() {
    let folder = folder();
    leave(&folder, 40, |disk| disk.segment_bytes(FILE + 10 * RECORD));
    let found = files(&folder);
    assert_eq!(found.len(), 4);
    change(&found[0], |bytes| bytes[100..200].fill(0));
    fs::remove_file(&found[2]).unwrap();
    let (whole, damaged) = damages(open(&folder));
    let lost: Vec<_> = damaged
        .iter()
        .map(|each| (each.what, each.records))
        .collect();
    assert_eq!(lost, [(Damage::NoRecord, 3), (Damage::Missing, 10)]);
    assert_eq!(whole.len(), 40 - 13);
    assert_eq!(damaged[1].file, found[3]);
    assert_eq!(
        open(&folder).recovered().items,
        0,
        "they are not told again"
    );
}

#[test]
fn damage_goes_to_the_dead_letters_with_the_bytes_that_are_left() {
    let folder = folder();
    leave(&folder, 3, |disk| disk);
    let file = files(&folder).remove(0);
    change(&file, |bytes| bytes[(FILE + RECORD + 30) as usize] ^= 1);
    let (kept, letters) = async_channel::bounded::<DeadLetter>(16);
    let letters_to = DeadLetters::new(16, kept);
    let pipeline = source::iter(0..0_u64)
        .buffer_on_disk(open(&folder), encode)
        .try_map(decode)
        .encode(|stored| stored.raw().clone())
        .or_dead_letter(&letters_to)
        .collect();
    let (all, snapshot) = simulate(pipeline);
    assert_eq!(all, [0, 2]);
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 1);
    let letter = letters.try_recv().unwrap();
    assert_eq!(letter.bytes().unwrap().len() as u64, RECORD);
    assert!(
        letter.error.contains(&file.display().to_string()),
        "{letter:?}"
    );
    assert!(letter.error.contains(&format!("byte {}", FILE + RECORD)));
}

#[test]
fn damage_stops_the_run_if_so_declared_and_nothing_behind_it_is_passed() {
    let folder = folder();
    leave(&folder, 10, |disk| disk);
    let file = files(&folder).remove(0);
    change(&file, |bytes| bytes[(FILE + 4 * RECORD + 30) as usize] ^= 1);
    let error = Simulation::new(1)
        .run(rest(open(&folder)).collect())
        .unwrap_err();
    let RunError::Stopped { stage, cause } = error else {
        panic!("{error}");
    };
    assert_eq!(stage, "try_map");
    assert!(cause.to_string().contains("checksum"), "{cause}");
    assert_eq!(
        open(&folder).recovered().items,
        6,
        "the damaged one and five"
    );
}

#[test]
fn a_torn_last_record_is_cut_off_and_told() {
    for torn in 1..RECORD {
        let folder = folder();
        leave(&folder, 5, |disk| disk);
        let file = files(&folder).remove(0);
        change(&file, |bytes| bytes.truncate(bytes.len() - torn as usize));
        let disk = open(&folder);
        assert_eq!(disk.recovered().cut_bytes, RECORD - torn);
        let end = FILE + 4 * RECORD;
        assert_eq!(disk.recovered().cut_at, Some((file.clone(), end)));
        let (all, _) = simulate(spill(source::iter(100..103), disk).collect());
        assert_eq!(all, [0, 1, 2, 3, 100, 101, 102], "{torn} bytes missing");
    }
}

#[test]
fn a_torn_position_has_all_that_is_there_come_again() {
    let folder = folder();
    leave(&folder, 30, |disk| disk.segment_bytes(FILE + 10 * RECORD));
    let pipeline = rest(open(&folder)).take(15).collect();
    assert_eq!(Simulation::new(1).run(pipeline).unwrap().0.len(), 15);
    assert_eq!(files(&folder).len(), 2, "the first is settled whole");
    change(&folder.path().join("settled"), |bytes| bytes.truncate(20));
    let disk = open(&folder);
    assert!(disk.recovered().position_was_torn);
    assert_eq!(disk.recovered().items, 20);
    let (whole, damaged) = damages(disk);
    assert_eq!(whole, (10..30).collect::<Vec<_>>());
    assert_eq!(damaged, []);
}

#[test]
fn a_file_of_another_version_is_refused_by_name() {
    let folder = folder();
    leave(&folder, 3, |disk| disk);
    let file = files(&folder).remove(0);
    change(&file, |bytes| bytes[14] = b'9');
    let error = DiskBuffer::open(folder.path()).unwrap_err();
    assert!(matches!(error, DiskError::Format { .. }), "{error}");
    assert!(error.to_string().contains("forebay-queue 9"), "{error}");
}

/// What the run stopped with, and that nothing was passed upstream.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_the_run_with_the_file_and_loses_nothing() {
    let folder = folder();
    let disk = open(&folder);
    let file = folder.path().join(format!("{:020}.records", 0));
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let simulation = Simulation::new(1);
    let pipeline = spill(source::iter(0..100), disk).ignore();
    let mut run = simulation.start(pipeline).unwrap();
    let error = run.join().unwrap_err();
    let RunError::Stopped { stage, cause } = &error else {
        panic!("{error}");
    };
    assert_eq!(stage, "buffer_on_disk");
    let text = cause.to_string();
    assert!(text.contains("00000.records: No space left"), "{text}");
    let snapshot = run.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 0);
    assert!(snapshot.total().outcome(Kind::Failed) > 0);
}

#[test]
fn a_directory_that_cannot_be_is_an_error_that_names_it() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DiskBuffer::open(file.join("below")).unwrap_err();
    let DiskError::Io { doing, path, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (*doing, path.as_path()),
        ("make", file.join("below").as_path())
    );
}

#[test]
fn a_file_that_is_gone_while_it_runs_stops_the_run_by_name() {
    let folder = folder();
    leave(&folder, 30, |disk| disk.segment_bytes(FILE + 10 * RECORD));
    let disk = open(&folder);
    fs::remove_file(&files(&folder)[0]).unwrap();
    let error = Simulation::new(1).run(rest(disk).collect()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cannot open"), "{text}");
    assert!(text.contains("00000.records"), "{text}");
}

#[test]
fn what_was_written_is_synced_in_time() {
    let folder = folder();
    let disk = open(&folder).sync(SyncPolicy::Every(100 * MS));
    let view = disk.view();
    let simulation = Simulation::new(3);
    let (source, flow) = source_probe::<u64>();
    let (sink, end) = sink_probe();
    let mut run = simulation.start(spill(flow, disk).to(end)).unwrap();
    source.send([1]);
    simulation.advance(90 * MS);
    assert_eq!(view.snapshot().unwrap().syncs, 0);
    simulation.advance(20 * MS);
    assert_eq!(view.snapshot().unwrap().syncs, 1);
    simulation.advance(Duration::from_secs(1));
    assert_eq!(view.snapshot().unwrap().syncs, 1, "there is nothing more");
    source.send([2]);
    simulation.advance(MS);
    sink.request(3);
    source.complete();
    sink.expect_any_n(2);
    sink.expect_complete();
    run.join().unwrap();
}

#[test]
fn a_code_that_panics_costs_its_element() {
    let folder = folder();
    let pipeline = source::iter(0..10_u64)
        .buffer_on_disk(open(&folder), |n| {
            assert!(*n != 4, "planned");
            n.to_le_bytes()
        })
        .try_map(decode)
        .or_stop()
        .collect();
    let (all, snapshot) = simulate(pipeline);
    assert_eq!(all, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    let counts = &snapshot.stage("buffer_on_disk").unwrap().counts;
    assert_eq!(counts.reason(Reason::Panicked), 1);
}

fn refusal(disk: DiskBuffer, declare: impl FnOnce(Flow<Stored>) -> Flow<Stored>) -> String {
    let flow = source::iter(0..1_u64).on_unresolved(Answer::Stop).window(8);
    match declare(flow.buffer_on_disk(disk, encode))
        .ignore()
        .block_on()
    {
        Err(error) => error.to_string(),
        Ok(()) => "it ran".to_owned(),
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let folder = folder();
    let none = |flow| flow;
    assert!(refusal(open(&folder).items(0), none).contains("`items` is 0"));
    assert!(refusal(open(&folder).bytes(0), none).contains("`bytes` is 0"));
    let large = open(&folder).bytes(10).segment_bytes(11);
    assert!(refusal(large, none).contains("`segment_bytes` is 11"));
    let untracked = refusal(open(&folder), Flow::untracked);
    assert!(untracked.contains("untracked"), "{untracked}");
    let gathers = refusal(open(&folder).items(10), |flow| {
        flow.grouped(11).map_concat(|group| group)
    });
    assert!(gathers.contains("may have no more than 10"), "{gathers}");

    let keeps = |disk: DiskBuffer, guarantee| {
        source::lines(source::Lines::read("a text", &b"a\nb\n"[..]))
            .buffer_on_disk(disk, |line| line.bytes.clone())
            .guarantee(guarantee)
            .ignore()
            .block_on()
            .map_err(|error| error.to_string())
    };
    let lossy = keeps(open(&folder), Guarantee::AtLeastOnce).unwrap_err();
    assert!(lossy.contains("SyncPolicy::Each"), "{lossy}");
    let synced = || open(&folder).sync(SyncPolicy::Each);
    let once = keeps(synced(), Guarantee::ExactlyOnce).unwrap_err();
    assert!(once.contains("a transaction ends there"), "{once}");
    let refuses = keeps(synced().refuse_when_full(), Guarantee::AtLeastOnce).unwrap_err();
    assert!(refuses.contains("when it is full"), "{refuses}");
}

#[test]
fn at_least_once_is_kept_by_a_buffer_that_syncs_each() {
    let folder = folder();
    let lines = folder.path().join("lines");
    fs::write(&lines, "a\nb\n").unwrap();
    let disk = DiskBuffer::open(folder.path().join("spill")).unwrap();
    let run = source::lines(lines)
        .buffer_on_disk(disk, |line| line.bytes.clone())
        .guarantee(Guarantee::AtLeastOnce)
        .fold(0, |count, _| *count += 1)
        .block_on();
    assert_eq!(run.unwrap(), 2);
}

#[test]
fn the_topology_draws_it_with_its_bounds() {
    let folder = folder();
    let disk = open(&folder).items(10).bytes(1 << 20);
    let topology = spill(source::iter(0..1), disk).topology();
    let node = |name: &str| {
        let index = topology.nodes.iter().position(|node| node.name == name);
        (index.unwrap(), &topology.nodes[index.unwrap()])
    };
    let (write, written) = node("buffer_on_disk");
    assert_eq!((written.held, written.held_bytes), (2048, Some(1 << 20)));
    assert!(written.boundary);
    assert_eq!(
        written.note.as_deref(),
        Some("on disk, 10 records, synced by the system")
    );
    let (read, _) = node("buffer_on_disk[read]");
    assert!(
        topology
            .edges
            .iter()
            .any(|edge| (edge.from, edge.to) == (write, read))
    );
}

fn prioritized(side: usize) -> (ClassBuffer, Buffer) {
    let settings = PrioritySettings::items(8)
        .when_no_room(Class::HIGH, WhenNoRoom::Wait(Duration::MAX))
        .when_no_room(Class::LOW, WhenNoRoom::Divert);
    (ClassBuffer::new(settings), Buffer::items(side))
}

/// Under pressure LOW goes to disk, and comes back when there is room again; nothing is lost.
#[test]
fn low_goes_to_disk_under_pressure_and_comes_back() {
    let folder = folder();
    let disk = open(&folder);
    let view = disk.view();
    let peak = Arc::new(Mutex::new(0));
    let keep = Arc::clone(&peak);
    let (buffer, side) = prioritized(16);
    // A burst that is more than can be served, then nothing.
    let flow = source::iter(0..2000_u64)
        .throttle(&Rate::new(20_000.0, 10, ThrottleMode::Shaping).unwrap())
        .classify(|n| if n % 10 == 0 { Class::HIGH } else { Class::LOW });
    let (served, diverted) = flow.buffer_by_class_diverting(buffer, side);
    let pipeline = served
        .merge_prioritized(64, [(1, spill(diverted, disk))])
        .map_async(2, move |n| {
            let seen = view.snapshot().map_or(0, |seen| seen.items);
            let mut peak = keep.lock().unwrap();
            *peak = seen.max(*peak);
            async move {
                time::sleep(MS).await;
                n
            }
        })
        .collect();
    let (all, snapshot) = simulate(pipeline);
    let unique: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!((all.len(), unique.len()), (2000, 2000));
    let peak = *peak.lock().unwrap();
    assert!(peak > 1000, "{peak} were on disk at the peak");
    let last_high = all.iter().rposition(|n| n % 10 == 0).unwrap();
    let low_before = all[..last_high].iter().filter(|n| *n % 10 != 0).count();
    assert!(
        low_before < 100,
        "{low_before} LOW went before the last HIGH"
    );
    let spilled = snapshot.stage("buffer_on_disk").unwrap();
    assert_eq!(
        snapshot.total().outcome(Kind::Delivered),
        2000 + spilled.counts.outcome(Kind::Delivered),
        "what was spilled is delivered by both sources"
    );
}

/// What was put aside in memory and has to leave goes to disk, instead of being shed or expiring.
fn deferring(
    flow: Flow<u64>,
    deferral: DeferralSettings,
    disk: DiskBuffer,
) -> (Flow<u64>, Flow<u64>) {
    let settings = PrioritySettings::items(8)
        .when_no_room(Class::HIGH, WhenNoRoom::Wait(Duration::MAX))
        .when_no_room(Class::LOW, WhenNoRoom::Defer);
    let buffer = ClassBuffer::new(settings).defer(deferral.spill());
    let (served, spilled) = flow
        .classify(|n| if n % 10 == 0 { Class::HIGH } else { Class::LOW })
        .buffer_by_class_diverting(buffer, 16);
    (served, spill(spilled, disk))
}

#[test]
fn what_was_put_aside_spills_to_disk() {
    for (ttl, why) in [(60_000 * MS, "no room"), (5 * MS, "too long")] {
        let folder = folder();
        let items = if ttl > 5 * MS { 20 } else { 1000 };
        let (served, spilled) = deferring(
            source::iter(0..500),
            DeferralSettings::items(items).ttl(ttl),
            open(&folder),
        );
        let pipeline = served
            .merge_prioritized(64, [(1, spilled)])
            .map_async(2, |n| async move {
                time::sleep(MS).await;
                n
            })
            .collect();
        let (all, snapshot) = simulate(pipeline);
        let unique: BTreeSet<u64> = all.iter().copied().collect();
        assert_eq!((all.len(), unique.len()), (500, 500), "{why}");
        let disk = &snapshot.stage("buffer_on_disk").unwrap().counts;
        assert!(disk.outcome(Kind::Delivered) > 100, "{why}: {snapshot}");
        let memory = &snapshot.stage("buffer_by_class").unwrap().counts;
        assert_eq!(memory.outcome(Kind::Shed), 0, "{why}");
        assert_eq!(memory.outcome(Kind::Expired), 0, "{why}");
    }
}

#[test]
fn a_deferral_that_spills_needs_a_side_output() {
    let settings = PrioritySettings::items(8).when_no_room(Class::LOW, WhenNoRoom::Defer);
    let buffer = ClassBuffer::new(settings).defer(DeferralSettings::items(8).spill());
    let error = source::iter(0..1_u64)
        .buffer_by_class(buffer)
        .ignore()
        .block_on()
        .unwrap_err();
    assert!(error.to_string().contains("buffer_on_disk"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Against a list: rounds of writing, taking, and crashes that cut the newest file anywhere.
    #[test]
    fn it_is_a_queue_whatever_crashes(
        segment_bytes in 1..400_u64,
        rounds in proptest::collection::vec((0..40_u64, 0..40_usize, any::<Option<u16>>()), 1..12),
    ) {
        let folder = folder();
        let mut model: VecDeque<u64> = VecDeque::new();
        let mut next = 0;
        for (seed, (write, take, cut)) in rounds.into_iter().enumerate() {
            // The reader may read what the writer writes meanwhile, or stop it when it has enough.
            let disk = open(&folder).segment_bytes(segment_bytes);
            prop_assert_eq!(disk.recovered().items, model.len() as u64);
            let simulation = Simulation::new(seed as u64);
            let (sink, end) = sink_probe();
            let pipeline = spill(source::iter(next..next + write), disk.keep_on_drain());
            let mut run = simulation.start(pipeline.to(end)).unwrap();
            simulation.advance(MS);
            model.extend(next..next + write);
            next += write;
            let take = take.min(model.len());
            sink.request(take);
            let taken = sink.expect_any_n(take);
            prop_assert_eq!(taken, model.drain(..take).collect::<Vec<_>>());
            run.abort();
            run.snapshot().check().unwrap();
            drop((run, simulation));
            if let (Some(cut), Some(newest)) = (cut, files(&folder).pop()) {
                let len = newest.metadata().unwrap().len();
                let end = len - u64::from(cut) % (len + 1);
                let file = fs::OpenOptions::new().write(true).open(&newest).unwrap();
                file.set_len(end).unwrap();
                // Records are used in order, and none of a file that is not the newest is touched.
                let in_file = len.saturating_sub(FILE) / RECORD;
                let left = end.saturating_sub(FILE) / RECORD;
                for _ in 0..(in_file - left).min(model.len() as u64) {
                    model.pop_back();
                }
            }
        }
        let (all, _) = simulate(rest(open(&folder)).collect());
        prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
    }

    /// Whatever the bounds: each element is served once, from memory or from disk, or is left on disk
    /// when the flow was cut short.
    #[test]
    fn deferral_and_disk_lose_nothing(
        seed in any::<u64>(),
        count in 0..400_u64,
        items in 1..30_usize,
        ttl_us in 1..5000_u32,
        on_disk in 1..200_u64,
        service_us in 0..300_u32,
        drained_after_us in prop_oneof![Just(None), (0..50_000_u32).prop_map(Some)],
    ) {
        let folder = folder();
        let deferral = DeferralSettings::items(items)
            .ttl(MS * ttl_us / 1000)
            .rate(100_000.0, 10);
        let flow = source::iter(0..count);
        let (served, spilled) = deferring(flow, deferral, open(&folder).items(on_disk));
        let served_then = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&served_then);
        let pipeline = served
            .merge([spilled])
            .map_async(2, move |n| async move {
                time::sleep(MS * service_us / 1000).await;
                n
            })
            .for_each(move |n| keep.lock().unwrap().push(n));
        let simulation = Simulation::new(seed);
        let mut run = simulation.start(pipeline).unwrap();
        if let Some(after) = drained_after_us {
            simulation.advance(MS * after / 1000);
            let _ = run.drain(Duration::from_secs(60)).unwrap();
        } else {
            run.join().unwrap();
        }
        let snapshot = run.snapshot();
        snapshot.check().unwrap();
        let memory = &snapshot.stage("buffer_by_class").unwrap().counts;
        prop_assert!(memory.held_peak <= 8 + items as u64 + 64, "{}", memory.held_peak);
        drop((run, simulation));
        prop_assert_eq!(open(&folder).recovered().items, 0);
        let mut all = served_then.lock().unwrap().clone();
        all.sort_unstable();
        let from_source = memory.entered;
        prop_assert_eq!(all, (0..from_source).collect::<Vec<_>>());
    }
}
