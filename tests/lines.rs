//! Lines of files: exact bytes, bounds, and where a killed run starts again.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::chunk::Chunk;
use forebay::error::{Cause, Refused, RunError};
use forebay::operator::{Answer, Context, Demand, Sink};
use forebay::outcome::{Kind, Outcome};
use forebay::position::SourceCounts;
use forebay::runtime::Snapshot;
use forebay::source::{self, Line, LineTooLong, Lines, LinesError, State, StateError, TooLong};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// The error of the reading that stopped a run.
fn why(error: &RunError) -> String {
    match error {
        RunError::Stopped {
            cause: Cause::Error(error),
            ..
        } => format!("{error:?}"),
        other => panic!("{other:?}"),
    }
}

fn lines_of(lines: impl Into<Lines>) -> Result<Vec<Line>, RunError> {
    source::lines(lines).collect().block_on()
}

#[test]
fn line_ends_are_told_from_bytes_and_offsets_are_exact() {
    let text = b"one\r\n\n\rtwo\r\r\nth\xffree\nlast\r";
    let lines = lines_of(Lines::read("text", &text[..])).unwrap();
    let found: Vec<(u64, u64, &[u8])> = lines
        .iter()
        .map(|line| (line.number, line.offset, &line.bytes[..]))
        .collect();
    let wanted: [(u64, u64, &[u8]); 5] = [
        (1, 0, b"one"),
        (2, 5, b""),
        (3, 6, b"\rtwo\r"),
        (4, 13, b"th\xffree"),
        (5, 20, b"last\r"),
    ];
    assert_eq!(found, wanted);
    assert!(
        lines_of(Lines::read("nothing", &b""[..]))
            .unwrap()
            .is_empty()
    );
}

/// A sink that keeps the payloads of the origins.
struct Payloads(Vec<u8>, Vec<(u64, u64)>);

impl Sink<Line> for Payloads {
    type Output = (Vec<u8>, Vec<(u64, u64)>);

    fn poll_ready(
        &mut self,
        _: &mut Context<'_, '_>,
    ) -> std::task::Poll<Result<Option<Demand>, forebay::error::Stop>> {
        std::task::Poll::Ready(Ok(Some(Demand {
            items: 100,
            bytes: 64,
        })))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<Line>) {
        assert!(
            chunk.bytes() <= 64 || chunk.len() == 1,
            "{} bytes",
            chunk.bytes()
        );
        for element in chunk.drain() {
            let origin = element.meta.origin.clone().unwrap();
            let records = origin.records();
            let [record] = &records[..] else {
                panic!("{origin:?}")
            };
            assert_eq!(record.line, Some(element.value.number));
            assert_eq!(&*record.place, "text");
            let payload = record.payload.as_ref().unwrap();
            self.0.extend_from_slice(payload);
            self.1.push((record.offset, payload.len() as u64));
            cx.settle(element.meta, Outcome::Delivered);
        }
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_, '_>,
    ) -> std::task::Poll<Result<Self::Output, forebay::error::Stop>> {
        std::task::Poll::Ready(Ok((
            std::mem::take(&mut self.0),
            std::mem::take(&mut self.1),
        )))
    }
}

#[test]
fn the_origins_are_the_input_byte_for_byte_and_bytes_bound_the_demand() {
    let text: Vec<u8> = (0..40_000_u32)
        .flat_map(|n| format!("{n}{}", ["\n", "\r\n", ",\r", ""][n as usize % 4]).into_bytes())
        .collect();
    let flow = source::lines(Lines::read("text", std::io::Cursor::new(text.clone())));
    let (payloads, places) = flow
        .to(Payloads(Vec::new(), Vec::new()))
        .block_on()
        .unwrap();
    assert!(payloads == text, "the payloads differ from the input");
    let mut end = 0;
    for (offset, len) in places {
        assert_eq!(offset, end);
        end += len;
    }
}

#[test]
fn a_line_that_is_too_long_stops_the_source_behind_the_lines_before_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let error = source::lines(Lines::read("text", &b"12345\n123456\n1\n"[..]).max_len(5))
        .for_each(move |line| keep.lock().unwrap().push(line.bytes))
        .block_on()
        .unwrap_err();
    assert!(
        why(&error).contains("LineTooLong { line: 2, offset: 6, max: 5 }"),
        "{error:?}"
    );
    assert_eq!(*seen.lock().unwrap(), ["12345"]);
}

#[test]
fn the_longest_lines_that_can_be_allowed_are_all_lines() {
    for max in [usize::MAX, usize::MAX - 1] {
        for too_long in [TooLong::Stop, TooLong::Cut] {
            let text = Lines::read("text", &b"one\r\ntwo"[..])
                .max_len(max)
                .too_long(too_long);
            let lines = lines_of(text).unwrap();
            let bytes: Vec<&[u8]> = lines.iter().map(|line| &line.bytes[..]).collect();
            assert_eq!(bytes, [&b"one"[..], b"two"], "at most {max}");
        }
    }
}

#[test]
fn a_line_that_is_cut_tells_so_and_those_behind_it_are_exact() {
    for end in ["\n", "\r\n"] {
        let mut text = Vec::new();
        let lengths = [0, 5, 6, 7, 8, 100, 40_000, 3];
        for length in lengths {
            text.extend(std::iter::repeat_n(b'x', length));
            text.extend(end.bytes());
        }
        let lines = Lines::read("text", std::io::Cursor::new(text))
            .max_len(5)
            .too_long(TooLong::Cut);
        let lines = lines_of(lines).unwrap();
        let mut offset = 0;
        for (line, length) in lines.iter().zip(lengths) {
            assert_eq!((line.len, line.offset), (length as u64, offset), "{line:?}");
            assert_eq!(line.bytes.len(), length.min(5));
            let whole = line.whole().map(bytes::Bytes::len);
            let cut = LineTooLong {
                line: line.number,
                offset,
                max: 5,
            };
            assert_eq!(whole, if length > 5 { Err(cut) } else { Ok(length) });
            offset += (length + end.len()) as u64;
        }
        assert_eq!(lines.len(), lengths.len());
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = lines_of("no/such/file").unwrap_err();
    assert!(
        error.to_string().contains("no/such/file cannot be opened"),
        "{error}"
    );
}

#[test]
fn only_files_are_resumed() {
    let text = Lines::read("text", &b""[..]).state("somewhere");
    let Err(RunError::Refused(Refused::Setting { stage, .. })) = lines_of(text) else {
        panic!()
    };
    assert_eq!(stage, "lines");
    assert!(!Path::new("somewhere").exists());
}

#[cfg(feature = "gzip")]
#[test]
fn gzip_gives_the_offsets_of_the_text_whatever_its_members() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.gz");
    let mut file = fs::File::create(&path).unwrap();
    for part in ["one\ntw", "o\nthree"] {
        let mut encoder = flate2::write::GzEncoder::new(&mut file, flate2::Compression::default());
        encoder.write_all(part.as_bytes()).unwrap();
        encoder.finish().unwrap();
    }
    let lines = lines_of(Lines::file(&path).gzip()).unwrap();
    let found: Vec<_> = lines
        .iter()
        .map(|line| (line.offset, &line.bytes[..]))
        .collect();
    assert_eq!(found, [(0, &b"one"[..]), (4, b"two"), (8, b"three")]);
    fs::write(&path, &fs::read(&path).unwrap()[..20]).unwrap();
    assert!(matches!(
        lines_of(Lines::file(&path).gzip()),
        Err(RunError::Stopped { .. })
    ));
}

/// A folder with a file of numbered lines.
struct Numbers {
    folder: tempfile::TempDir,
    count: u64,
}

impl Numbers {
    fn new(count: u64) -> Numbers {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (1..=count)
            .flat_map(|n| [n.to_string(), "\n".to_owned()])
            .collect();
        fs::write(folder.path().join("numbers"), text).unwrap();
        Numbers { folder, count }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("numbers")
    }

    fn lines(&self) -> Lines {
        Lines::file(self.path()).state(self.state())
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    /// Runs to the end and returns the lines that came.
    fn rest(lines: Lines) -> (Vec<u64>, Snapshot) {
        runtime().block_on(async {
            let mut running = source::lines(lines)
                .map(|line| line.number)
                .collect()
                .run()
                .unwrap();
            let numbers = running.join().await.unwrap();
            running.snapshot().check().unwrap();
            (numbers, running.snapshot())
        })
    }
}

fn total(snapshot: &Snapshot) -> SourceCounts {
    snapshot.total()
}

#[test]
fn a_run_that_ended_has_nothing_left_for_the_next() {
    let numbers = Numbers::new(5000);
    let (first, _) = Numbers::rest(numbers.lines());
    assert_eq!(first, (1..=5000).collect::<Vec<_>>());
    let state = State::read(numbers.state()).unwrap().unwrap();
    assert_eq!(
        (state.base.line, state.base.end),
        (5000, fs::metadata(numbers.path()).unwrap().len())
    );
    assert!(state.done.iter().all(|word| *word == 0) && state.saved_at_unix_ns > 0);
    let (second, snapshot) = Numbers::rest(numbers.lines());
    assert!(second.is_empty());
    assert_eq!(total(&snapshot).entered, 0);
}

#[test]
fn what_is_appended_behind_a_whole_line_is_read_by_the_next_run() {
    let numbers = Numbers::new(10);
    Numbers::rest(numbers.lines());
    let mut text = fs::read_to_string(numbers.path()).unwrap();
    text.push_str("11\n12");
    fs::write(numbers.path(), &text).unwrap();
    assert_eq!(Numbers::rest(numbers.lines()).0, [11, 12]);
    // The last line had no end. It is another line now.
    text.push_str("3\n");
    fs::write(numbers.path(), &text).unwrap();
    let error = lines_of(numbers.lines()).unwrap_err();
    assert!(why(&error).contains("Moved"), "{error:?}");
}

/// Delivers a line at once or never: multiples of 7 wait for ever.
async fn stall(line: Line) -> u64 {
    if line.number.is_multiple_of(7) {
        std::future::pending::<()>().await;
    }
    line.number
}

#[test]
fn a_run_that_is_dropped_resumes_with_what_was_not_settled() {
    let numbers = Numbers::new(500);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let runtime = runtime();
    runtime.block_on(async {
        let keep = Arc::clone(&seen);
        let running = source::lines(numbers.lines())
            .window(200)
            .map_async(forebay::operator::Concurrency::limit(64), stall)
            .for_each(move |number| keep.lock().unwrap().push(number))
            .run()
            .unwrap();
        // Lines 1 to 6 are out; what runs ahead of line 7 waits in order behind it.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let state = State::read(numbers.state()).unwrap().unwrap();
        assert_eq!(state.base.line, 6, "saved while no line moves");
        drop(running);
    });
    drop(runtime);
    let first = seen.lock().unwrap().clone();
    assert_eq!(first, (1..=6).collect::<Vec<_>>());
    let (second, snapshot) = Numbers::rest(numbers.lines());
    assert_eq!(second, (7..=numbers.count).collect::<Vec<_>>());
    assert_eq!(total(&snapshot).resumed, 0);
}

/// A sink that never settles some lines: it holds them until the run ends.
struct Holding {
    held: Vec<forebay::chunk::Meta>,
    seen: Arc<Mutex<Vec<u64>>>,
}

impl Sink<u64> for Holding {
    type Output = ();

    fn poll_ready(
        &mut self,
        _: &mut Context<'_, '_>,
    ) -> std::task::Poll<Result<Option<Demand>, forebay::error::Stop>> {
        std::task::Poll::Ready(Ok(Some(Demand::items(10))))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<u64>) {
        for element in chunk.drain() {
            if element.value.is_multiple_of(7) {
                self.held.push(element.meta);
            } else {
                self.seen.lock().unwrap().push(element.value);
                cx.settle(element.meta, Outcome::Delivered);
            }
        }
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_, '_>,
    ) -> std::task::Poll<Result<(), forebay::error::Stop>> {
        std::task::Poll::Pending
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&forebay::error::Stop>) {
        let outcome = cx.leftover();
        for meta in self.held.drain(..) {
            cx.settle(meta, outcome);
        }
    }

    fn held(&self) -> forebay::operator::Held {
        forebay::operator::Held::items(self.held.len())
    }
}

#[test]
fn lines_settled_above_the_base_are_skipped_and_counted_as_resumed() {
    for window in [1, 10, 64, 1024] {
        let numbers = Numbers::new(300);
        let seen = Arc::new(Mutex::new(Vec::new()));
        runtime().block_on(async {
            let sink = Holding {
                held: Vec::new(),
                seen: Arc::clone(&seen),
            };
            let flow = source::lines(numbers.lines())
                .window(200)
                .map(|line| line.number);
            let mut running = flow.to(sink).run().unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            running.abort().await;
            running.snapshot().check().unwrap();
        });
        // The window holds the lines from 7 to 206.
        let mut all = seen.lock().unwrap().clone();
        let open: Vec<u64> = (1..=206_u64)
            .filter(|line| line.is_multiple_of(7))
            .collect();
        let state = State::read(numbers.state()).unwrap().unwrap();
        assert_eq!(state.base.line, 6);
        assert!((7..=206).all(|line| state.is_done(line) != open.contains(&line)));
        runtime().block_on(async {
            let flow = source::lines(numbers.lines())
                .window(window)
                .map(|line| line.number);
            let mut running = flow.collect().run().unwrap();
            let rest = running.join().await.unwrap();
            let wanted: Vec<u64> = open.iter().copied().chain(207..=300).collect();
            assert_eq!(rest, wanted, "window {window}");
            let snapshot = running.snapshot();
            snapshot.check().unwrap();
            assert_eq!(total(&snapshot).resumed, 200 - open.len() as u64);
            assert_eq!(total(&snapshot).entered, rest.len() as u64);
            all.extend(rest);
        });
        all.sort_unstable();
        assert_eq!(all, (1..=300).collect::<Vec<_>>(), "each line once");
        let state = State::read(numbers.state()).unwrap().unwrap();
        assert_eq!(state.base.line, 300);
    }
}

#[test]
fn a_source_that_goes_back_reads_again_from_the_settled_line() {
    let numbers = Numbers::new(2000);
    let failed = Arc::new(Mutex::new(0));
    let fails = Arc::clone(&failed);
    runtime().block_on(async {
        let mut running = source::lines(numbers.lines())
            .on_unresolved(Answer::Rewind)
            .map(move |line| {
                let mut failed = fails.lock().unwrap();
                if line.number == 1234 && *failed < 2 {
                    *failed += 1;
                    drop(failed);
                    panic!("not yet");
                }
                line.number
            })
            .collect()
            .run()
            .unwrap();
        let mut all = running.join().await.unwrap();
        let snapshot = running.snapshot();
        snapshot.check().unwrap();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, (1..=2000).collect::<Vec<_>>());
        assert_eq!(snapshot.total().outcome(Kind::Failed), 2);
    });
    assert_eq!(
        State::read(numbers.state()).unwrap().unwrap().base.line,
        2000
    );
}

#[test]
fn a_state_that_is_torn_foreign_or_in_use_is_refused_by_type() {
    let numbers = Numbers::new(100);
    Numbers::rest(numbers.lines());
    let path = numbers.state().join("lines.state");
    let state = fs::read_to_string(&path).unwrap();

    fs::write(&path, &state[..state.len() / 2]).unwrap();
    assert!(why(&lines_of(numbers.lines()).unwrap_err()).contains("Torn"));
    assert!(matches!(
        State::read(numbers.state()),
        Err(StateError::Torn { .. })
    ));

    fs::write(&path, &state).unwrap();
    let text = fs::read_to_string(numbers.path()).unwrap();
    for other in [
        text.replacen('1', "9", 1),
        text[..text.len() - 1].to_owned(),
    ] {
        fs::write(numbers.path(), other).unwrap();
        assert!(why(&lines_of(numbers.lines()).unwrap_err()).contains("Foreign"));
    }
    fs::write(numbers.path(), text).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        state,
        "a refused state is left as it is"
    );

    let lock = fs::File::open(numbers.state().join("lines.lock")).unwrap();
    lock.lock().unwrap();
    assert!(why(&lines_of(numbers.lines()).unwrap_err()).contains("InUse"));
    drop(lock);
    let untracked = source::lines(numbers.lines())
        .untracked()
        .ignore()
        .block_on();
    assert!(why(&untracked.unwrap_err()).contains("Untracked"));
    assert!(lines_of(numbers.lines()).unwrap().is_empty());
}

#[test]
fn a_state_that_cannot_be_saved_once_all_is_read_stops_the_run() {
    let numbers = Numbers::new(10);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    runtime().block_on(async {
        let wait = Arc::clone(&gate);
        let mut running = source::lines(numbers.lines())
            .named("numbers")
            .async_boundary()
            .map_async(10, move |line| {
                let wait = Arc::clone(&wait);
                async move {
                    wait.acquire().await.unwrap().forget();
                    line.number
                }
            })
            .ignore()
            .run()
            .unwrap();
        // The source has ended when all is read and only its lines are not settled.
        while running.snapshot().total().entered < 10 || running.still_running().len() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fs::remove_dir_all(numbers.state()).unwrap();
        gate.add_permits(10);
        let error = running.join().await.unwrap_err();
        let RunError::Stopped { stage, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(stage, "numbers");
        assert!(why(&error).contains("lines.state"), "{error:?}");
        running.snapshot().check().unwrap();
    });
}

#[test]
fn errors_say_what_to_do() {
    let torn = StateError::Torn {
        path: "s".into(),
        what: "it is empty".to_owned(),
    };
    let text = LinesError::from(torn).to_string();
    assert!(
        text.contains("remove it to start from the first line"),
        "{text}"
    );
}

#[test]
fn a_rewind_after_a_drain_reads_nothing_again() {
    let numbers = Numbers::new(5000);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    runtime().block_on(async {
        let wait = Arc::clone(&gate);
        let mut running = source::lines(numbers.lines())
            .window(100)
            .on_unresolved(Answer::Rewind)
            .map_async(1, move |line| {
                let wait = Arc::clone(&wait);
                async move {
                    wait.acquire().await.unwrap().forget();
                    assert!(line.number != 50, "it cannot be done");
                }
            })
            .ignore()
            .run()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let stopper = running.stopper();
        stopper.drain();
        // What follows comes after the drain.
        gate.add_permits(10_000);
        let drained = running.drain(Duration::from_secs(5)).await.unwrap();
        assert!(drained.still_running.is_empty());
        let snapshot = running.snapshot();
        snapshot.check().unwrap();
        assert!(total(&snapshot).entered <= 100, "{snapshot}");
    });
    let state = State::read(numbers.state()).unwrap().unwrap();
    assert!(state.base.line < 50);
}

#[cfg(feature = "gzip")]
#[test]
fn compressed_lines_are_resumed_where_they_were_settled() {
    use std::io::Write;
    let numbers = Numbers::new(300);
    let text = fs::read(numbers.path()).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&text).unwrap();
    fs::write(numbers.path(), encoder.finish().unwrap()).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    runtime().block_on(async {
        let sink = Holding {
            held: Vec::new(),
            seen: Arc::clone(&seen),
        };
        let flow = source::lines(numbers.lines().gzip()).window(20);
        let mut running = flow.map(|line| line.number).to(sink).run().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        running.abort().await;
        running.snapshot().check().unwrap();
    });
    let (rest, snapshot) = Numbers::rest(numbers.lines().gzip());
    let mut all = seen.lock().unwrap().clone();
    assert_eq!(total(&snapshot).resumed, all.len() as u64 - 6);
    all.extend(rest);
    all.sort_unstable();
    assert_eq!(all, (1..=300).collect::<Vec<_>>(), "each line once");
}
