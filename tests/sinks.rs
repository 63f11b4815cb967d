//! Sinks that hand elements to the world: when they deliver, how they wait, what they leave behind.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use forebay::error::{Cause, RunError};
use forebay::outcome::Kind;
use forebay::runtime::Snapshot;
use forebay::sink::{Durability, FileError, OutFile, Written};
use forebay::source;

fn write(lines: &[String], file: OutFile) -> (Written, Snapshot) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let lines = lines.to_vec();
    runtime.block_on(async {
        let mut running = source::iter(lines).to_file(file).run().unwrap();
        let written = running.join().await.unwrap();
        running.snapshot().check().unwrap();
        (written, running.snapshot())
    })
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

fn lines_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn a_file_gets_every_line_once_and_delivers_it_for_that() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/lines");
    for durability in [
        Durability::Written,
        Durability::Synced,
        Durability::SyncedAtEnd,
    ] {
        let _ = fs::remove_file(&path);
        let (written, snapshot) = write(
            &numbers(10_000),
            OutFile::lines(&path).durability(durability),
        );
        assert_eq!(lines_of(&path), numbers(10_000));
        assert_eq!(
            (written.records, written.bytes),
            (10_000, fs::metadata(&path).unwrap().len())
        );
        assert_eq!(snapshot.total().outcome(Kind::Delivered), 10_000);
    }
}

#[test]
fn a_torn_last_line_is_cut_off_before_more_is_appended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    let long = "x".repeat(100_000);
    for (found, kept) in [
        ("a\nb\nhalf", "a\nb\n"),
        ("", ""),
        ("half", ""),
        ("a\n", "a\n"),
        (&*format!("a\n{long}"), "a\n"),
        (&*long, ""),
    ] {
        fs::write(&path, found).unwrap();
        let (written, _) = write(&numbers(1), OutFile::lines(&path));
        assert_eq!(written.repaired_bytes, (found.len() - kept.len()) as u64);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{kept}0\n"));
    }
    fs::write(&path, "half").unwrap();
    write(&numbers(1), OutFile::bytes(&path));
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "half0",
        "bytes are left as they are"
    );
}

#[test]
fn files_are_rotated_between_lines_and_none_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    let name = |number: u64| folder.path().join(format!("lines.{number}"));
    fs::write(name(2), "an old one\n").unwrap();
    let (written, _) = write(&numbers(1000), OutFile::lines(&path).rotate_at(100));
    let mut all = Vec::new();
    let mut files = 0;
    for number in (1..=written.rotations + 1).filter(|number| *number != 2) {
        assert!(fs::metadata(name(number)).unwrap().len() <= 100);
        all.extend(lines_of(&name(number)));
        files += 1;
    }
    assert_eq!(files, written.rotations);
    all.extend(lines_of(&path));
    assert_eq!(all, numbers(1000));
    assert_eq!(lines_of(&name(2)), ["an old one"]);
    let (written, _) = write(
        &["y".repeat(500), "z".to_owned()],
        OutFile::lines(&path).rotate_at(100),
    );
    assert_eq!(
        written.rotations, 2,
        "a record longer than a file has one for itself"
    );
}

#[test]
fn a_file_that_cannot_be_written_stops_the_run_and_delivers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // A folder is no file.
        let pipeline = source::iter(numbers(100)).to_file(folder.path());
        let mut running = pipeline.run().unwrap();
        let Err(RunError::Stopped {
            stage,
            cause: Cause::Error(error),
        }) = running.join().await
        else {
            panic!("it must stop");
        };
        assert_eq!(stage, "to_file");
        assert_eq!(
            error.downcast_ref::<FileError>().unwrap().path,
            folder.path()
        );
        let snapshot = running.snapshot();
        snapshot.check().unwrap();
        assert_eq!(snapshot.total().outcome(Kind::Delivered), 0);
    });
}

#[tokio::test]
async fn a_full_channel_back_pressures_and_delivers_what_it_has_taken() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let mut running = source::iter(0..1000_u32)
        .to_tokio_mpsc(sender)
        .run()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let total = running.snapshot().total();
    assert_eq!(
        total.outcome(Kind::Delivered),
        4,
        "what the channel has taken"
    );
    assert!(total.entered <= 256, "{} came in", total.entered);
    for n in 0..1000 {
        assert_eq!(receiver.recv().await, Some(n));
    }
    assert_eq!(
        receiver.recv().await,
        None,
        "the sender is dropped at the end"
    );
    running.join().await.unwrap();
    running.snapshot().check().unwrap();
    assert_eq!(running.snapshot().total().outcome(Kind::Delivered), 1000);
}

#[tokio::test]
async fn a_receiver_that_leaves_cancels_the_flow() {
    let (sender, receiver) = async_channel::bounded(2);
    let mut running = source::iter(0_u32..)
        .to_async_channel(sender)
        .run()
        .unwrap();
    assert_eq!(receiver.recv().await, Ok(0));
    drop(receiver);
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert!(snapshot.total().outcome(Kind::Cancelled) > 0);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 0);
}

#[tokio::test]
async fn an_error_of_a_futures_sink_stops_the_run_and_fails_what_was_in_it() {
    let sink = futures_util::sink::unfold((), |(), n: u32| async move {
        if n < 10 { Ok(()) } else { Err("it is full") }
    });
    let mut running = source::iter(0..20_u32).to_futures_sink(sink).run().unwrap();
    let error = running.join().await.unwrap_err();
    assert_eq!(error.to_string(), "stage `futures_sink`: it is full");
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    // Those before the error may have been flushed, chunk by chunk; the one it came for was not.
    let total = snapshot.total();
    let (delivered, failed) = (total.outcome(Kind::Delivered), total.outcome(Kind::Failed));
    assert!(delivered <= 10, "{delivered} of the 10 that were taken");
    assert!(failed >= 1, "what was in the sink failed");
    assert_eq!(
        delivered + failed + total.outcome(Kind::Cancelled),
        total.entered
    );
}

#[tokio::test]
async fn a_stream_of_a_flow_delivers_what_is_taken_and_ends_with_the_error_of_the_run() {
    use futures_util::StreamExt;
    let mut stream = source::iter(0..3_u32).into_stream().unwrap();
    for n in 0..3 {
        assert_eq!(stream.next().await.unwrap().unwrap(), n);
    }
    assert!(stream.next().await.is_none() && stream.next().await.is_none());
    let snapshot = stream.snapshot().unwrap();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 3);

    let mut stream = source::failed::<u32>("gone").into_stream().unwrap();
    assert_eq!(
        stream.next().await.unwrap().unwrap_err().to_string(),
        "stage `failed`: gone"
    );
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_source_that_panics_hands_over_what_came_before_it() {
    let numbers = (0..5).inspect(|n| assert!(*n < 3, "no more"));
    let (mut taken, pipeline) =
        source::iter(numbers).into_subscription(forebay::sink::Asking::default());
    let mut running = pipeline.run().unwrap();
    assert!(matches!(
        running.join().await,
        Err(RunError::Stopped { .. })
    ));
    running.snapshot().check().unwrap();
    assert_eq!(running.snapshot().total().entered, 3);
    let stop = taken.next().await.unwrap().unwrap_err();
    assert!(
        matches!(stop.why(), Cause::Panicked(_)),
        "an error overtakes the elements"
    );
}
