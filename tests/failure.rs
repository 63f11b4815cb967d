//! What becomes of elements that fail: the ends of fallible stages, dead letters, trying again.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use forebay::chunk::{Chunk, Origin, Record};
use forebay::control::{Budget, Retry, WhenSpent};
use forebay::dead_letter::{DeadLetter, DeadLetterFile, DeadLetterFn, Durability};
use forebay::error::{BoxError, Cause, Refused, RunError, Stop};
use forebay::flow::{DeadLetters, Flow, OnError};
use forebay::operator::{
    Answer, Concurrency, Context, Control, Demand, Fill, Held, Input, Operator,
};
use forebay::outcome::{Kind, Reason};
use forebay::source;
use forebay::testkit::replay;
use forebay::time::{self, TimedOut};
use forebay::topology::Guarantee;
use support::run;

const MS: Duration = Duration::from_millis(1);

fn numbers(end: u64) -> Flow<u64> {
    replay(0..end)
}

/// Gives each number the origin a file would have given it.
struct Originate(Input<u64>, Chunk<u64>);

impl Operator<u64> for Originate {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let fill = self.0.fill(cx, &mut self.1, want)?;
        for mut element in self.1.drain() {
            element.meta.origin = Some(Origin::from(Record {
                payload: Some(Bytes::from(format!("line {}", element.value))),
                place: Arc::from("numbers.txt"),
                offset: element.value * 10,
                line: Some(element.value + 1),
                ..Record::default()
            }));
            out.push(element);
        }
        Ok(fill)
    }
    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.0.control(cx, signal);
    }
    fn held(&self) -> Held {
        Held::NONE
    }
}

fn lines(end: u64) -> Flow<u64> {
    numbers(end)
        .stage("lines", |input| Originate(input, Chunk::default()))
        .keeps_origin()
}

/// Fails for numbers that end in 3.
#[allow(clippy::trivially_copy_pass_by_ref)] // the form `try_map` calls
fn no_threes(n: &u64) -> Result<u64, String> {
    if n % 10 == 3 {
        Err(format!("{n} ends in 3"))
    } else {
        Ok(*n)
    }
}

fn kept() -> (DeadLetters, Arc<Mutex<Vec<DeadLetter>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let sink = DeadLetterFn(move |letter| {
        keep.lock().unwrap().push(letter);
        Ok(())
    });
    (DeadLetters::new(8, sink), kept)
}

#[test]
fn or_stop_hands_on_what_came_before_and_names_stage_and_error() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let see = Arc::clone(&seen);
    let (result, snapshot) = run(numbers(1000)
        .try_map(no_threes)
        .or_stop()
        .named("check")
        .for_each(move |n| see.lock().unwrap().push(n)));
    let Err(RunError::Stopped {
        stage,
        cause: Cause::Error(error),
    }) = result
    else {
        panic!("{result:?}")
    };
    assert_eq!(
        (stage.as_str(), error.to_string().as_str()),
        ("check", "3 ends in 3")
    );
    assert_eq!(*seen.lock().unwrap(), [0, 1, 2]);
    let total = snapshot.total();
    assert_eq!(
        (total.outcome(Kind::Delivered), total.outcome(Kind::Failed)),
        (3, 1)
    );
    assert_eq!(total.entered, 4 + total.outcome(Kind::Cancelled));
}

#[test]
fn or_fail_leaves_the_answer_to_the_source() {
    let (result, snapshot) = run(source::iter(0..100).try_map(no_threes).or_fail().collect());
    assert_eq!(
        result.unwrap().len(),
        90,
        "a source without positions goes on"
    );
    assert_eq!(snapshot.total().outcome(Kind::Failed), 10);

    let (result, snapshot) = run(numbers(100)
        .try_map(no_threes)
        .or_fail()
        .named("check")
        .ignore());
    let Err(RunError::Stopped {
        stage,
        cause: Cause::Unresolved { what, position, .. },
    }) = result
    else {
        panic!("{result:?}")
    };
    assert_eq!(
        (stage.as_str(), position.as_str(), what.outcome.kind()),
        ("check", "3", Kind::Failed)
    );
    assert!(snapshot.total().outcome(Kind::Failed) >= 1);
}

#[test]
fn or_discard_sheds_knowingly_and_is_refused_under_a_guarantee() {
    let (result, snapshot) = run(numbers(100)
        .allow_loss()
        .try_map(no_threes)
        .or_discard()
        .named("check")
        .collect());
    assert_eq!(result.unwrap().len(), 90);
    let check = &snapshot.stage("check").unwrap().counts;
    assert_eq!(
        (check.reason(Reason::Discarded), check.outcome(Kind::Shed)),
        (10, 10)
    );

    let refused = numbers(9)
        .guarantee(Guarantee::AtLeastOnce)
        .try_map(no_threes)
        .or_discard()
        .named("check")
        .ignore()
        .block_on();
    let Err(RunError::Refused(Refused::Guarantee { stage, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(stage, "check");
}

#[test]
fn results_keep_order_and_deliver_failures_as_values() {
    let (result, snapshot) = run(numbers(1000)
        .try_map_async(16, |n| async move {
            if n % 7 == 0 {
                tokio::task::yield_now().await;
            }
            no_threes(&n)
        })
        .results()
        .collect());
    let expected: Vec<_> = (0..1000).map(|n| no_threes(&n)).collect();
    assert_eq!(result.unwrap(), expected);
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 1000);
}

#[test]
fn on_error_decides_for_each_error() {
    let (letters, kept) = kept();
    let (result, snapshot) = run(source::iter(0..50_u64)
        .try_map(|n| {
            if n % 10 < 4 {
                Err((n % 10).to_string())
            } else {
                Ok(*n)
            }
        })
        .encode(|n| Bytes::from(n.to_string()))
        .dead_letters(&letters)
        .on_error(|error, tries| {
            assert_eq!(tries, 1);
            match error.as_str() {
                "0" => OnError::Discard,
                "1" => OnError::DeadLetter,
                "2" => OnError::Fail,
                _ => OnError::Retry,
            }
        })
        .named("decide")
        .collect());
    assert_eq!(result.unwrap().len(), 30);
    let counts = &snapshot.stage("decide").unwrap().counts;
    assert_eq!(counts.reason(Reason::Discarded), 5);
    assert_eq!(counts.reason(Reason::Error), 5);
    assert_eq!(
        counts.reason(Reason::RetriesExhausted),
        5,
        "there is no policy to try again by"
    );
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 5);
    let payloads: Vec<_> = kept
        .lock()
        .unwrap()
        .iter()
        .map(|l| l.payload.clone().unwrap())
        .collect();
    assert_eq!(payloads, ["1", "11", "21", "31", "41"]);
}

#[test]
fn the_error_of_a_stage_is_told_and_not_what_its_source_makes_of_it() {
    for round in 0..200 {
        let text = source::Lines::read("text", std::io::Cursor::new("line\n".repeat(50)));
        let pipeline = source::lines(text)
            .buffer(8)
            .try_map_async(4, move |line| async move {
                if round % 2 == 0 {
                    tokio::task::yield_now().await;
                }
                if line.number == 30 {
                    Err("the thirtieth")
                } else {
                    Ok(line)
                }
            })
            .or_stop()
            .named("post")
            .buffer(8)
            .ignore();
        let (result, snapshot) = run(pipeline);
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("post") && error.contains("the thirtieth"),
            "{error}\n{snapshot}"
        );
        assert_eq!(snapshot.total().outcome(Kind::Failed), 1);
    }
}

#[test]
fn on_error_that_asks_for_a_stop_stops() {
    let (result, _) = run(source::iter(0..50_u64)
        .try_map(no_threes)
        .on_error(|_, _| OnError::Stop)
        .ignore());
    assert!(result.unwrap_err().to_string().contains("3 ends in 3"));
}

#[test]
fn a_panic_fails_its_element_whatever_the_end() {
    let (letters, kept) = kept();
    let (result, snapshot) = run(source::iter(0..100_u64)
        .try_map(|n| {
            assert!(n % 10 != 5, "no");
            no_threes(n)
        })
        .encode(|n| {
            assert!(*n != 13, "no payload");
            Bytes::from(n.to_string())
        })
        .or_dead_letter(&letters)
        .collect());
    assert_eq!(result.unwrap().len(), 80);
    let total = snapshot.total();
    assert_eq!(
        total.outcome(Kind::Failed),
        11,
        "ten calls and one payload panicked"
    );
    assert_eq!(total.outcome(Kind::DeadLettered), 9);
    assert_eq!(kept.lock().unwrap().len(), 9);
}

#[test]
fn a_dead_letter_tells_stage_origin_error_and_tries() {
    let (letters, kept) = kept();
    let (result, snapshot) = run(lines(30)
        .guarantee(Guarantee::AtLeastOnce)
        .try_map(no_threes)
        .or_dead_letter(&letters)
        .named("decode")
        .collect());
    assert_eq!(result.unwrap().len(), 27);
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 3);
    let kept = kept.lock().unwrap();
    assert_eq!(kept.len(), 3);
    let letter = &kept[1];
    assert_eq!(
        (&*letter.stage, letter.error.as_str(), letter.tries),
        ("decode", "13 ends in 3", 1)
    );
    assert_eq!(letter.error_type, std::any::type_name::<String>());
    assert_eq!(
        (letter.reason, letter.class, &letter.payload),
        (Reason::Error, None, &None)
    );
    assert_eq!(letter.bytes().unwrap(), "line 13");
    let records = letter.origin.as_ref().unwrap().records();
    let [record] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!((record.line, record.offset), (Some(14), 130));
}

#[test]
fn a_dead_letter_without_bytes_is_refused_before_anything_starts() {
    let (letters, _) = kept();
    let refused = numbers(9)
        .try_map(no_threes)
        .or_dead_letter(&letters)
        .named("decode")
        .ignore()
        .block_on();
    let Err(RunError::Refused(Refused::Setting { stage, what })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(stage, "decode");
    assert!(
        what.contains("`replay`") && what.contains("encode"),
        "{what}"
    );
}

#[test]
fn stages_share_one_sink_which_closes_after_the_last() {
    let (letters, kept) = kept();
    let letters = letters.named("letters");
    let first = source::iter(0..100_u64)
        .try_map(no_threes)
        .encode(|n| Bytes::from(n.to_string()))
        .or_dead_letter(&letters)
        .named("first")
        .buffer(4)
        .try_map_async(4, |n| async move {
            if n % 10 == 7 { Err("seven") } else { Ok(n) }
        })
        .encode(|n| Bytes::from(n.to_string()))
        .or_dead_letter(&letters)
        .named("second");
    let topology = first.topology();
    let at = |name: &str| {
        topology
            .nodes
            .iter()
            .position(|node| node.name == name)
            .unwrap()
    };
    let queue = at("dead_letters");
    for stage in ["first", "second"] {
        let edge = topology
            .edges
            .iter()
            .any(|edge| edge.from == at(stage) && edge.to == queue);
        assert!(edge, "no edge from {stage}");
    }
    let (result, snapshot) = run(first.collect());
    assert_eq!(result.unwrap().len(), 80);
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 20);
    assert_eq!(
        snapshot
            .stage("letters")
            .unwrap()
            .counts
            .outcome(Kind::DeadLettered),
        20
    );
    let by = |name: &str| {
        kept.lock()
            .unwrap()
            .iter()
            .filter(|l| &*l.stage == name)
            .count()
    };
    assert_eq!((by("first"), by("second")), (10, 10));
}

#[test]
fn a_full_queue_of_dead_letters_holds_the_stage_back_and_keeps_order() {
    let (kept, letters) = async_channel::bounded::<DeadLetter>(1);
    let dead_letters = DeadLetters::new(2, kept);
    let seen = Arc::new(AtomicUsize::new(0));
    let see = Arc::clone(&seen);
    let pipeline = source::iter(0..10_000_u64)
        .try_map(|n| if n % 2 == 0 { Err("even") } else { Ok(*n) })
        .encode(|n| Bytes::from(n.to_string()))
        .or_dead_letter(&dead_letters)
        .named("halve")
        .map(move |n| {
            see.fetch_add(1, Ordering::Relaxed);
            n
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut running = pipeline.run().unwrap();
        tokio::time::sleep(100 * MS).await;
        // The channel holds one, a write of at most 64 waits for it, the queue holds two.
        let passed = seen.load(Ordering::Relaxed);
        assert!(passed <= 1 + 64 + 2 + 1, "{passed} passed a full queue");
        let snapshot = running.snapshot();
        assert!(snapshot.stage("halve").unwrap().counts.held <= 256);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Ok(letter) = letters.recv().await {
                all.push(letter.payload.unwrap());
            }
            all
        });
        let odd = running.join().await.unwrap();
        assert_eq!(odd, (0..10_000).filter(|n| n % 2 == 1).collect::<Vec<_>>());
        drop(dead_letters);
        running.snapshot().check().unwrap();
        assert_eq!(running.snapshot().total().outcome(Kind::DeadLettered), 5000);
        drop(running);
        let expected: Vec<_> = (0..10_000).step_by(2).map(|n| n.to_string()).collect();
        assert_eq!(reader.await.unwrap(), expected);
    });
}

#[test]
fn a_sink_that_fails_fails_its_elements_and_is_tried_with_the_next() {
    let mut calls = 0;
    let sink = DeadLetterFn(move |_| {
        calls += 1;
        if calls <= 2 {
            Err(BoxError::from("disk full"))
        } else {
            Ok(())
        }
    });
    let letters = DeadLetters::new(1, sink).named("letters");
    let (result, snapshot) = run(source::iter(0..100_u64)
        .try_map(no_threes)
        .encode(|n| Bytes::from(n.to_string()))
        .or_dead_letter(&letters)
        .collect());
    assert_eq!(result.unwrap().len(), 90);
    let counts = &snapshot.stage("letters").unwrap().counts;
    let failed = counts.reason(Reason::DeadLetterFailed);
    assert!((2..=8).contains(&failed), "{failed}");
    assert_eq!(failed + counts.outcome(Kind::DeadLettered), 10);

    let letters = DeadLetters::new(4, DeadLetterFn(|_| Err("disk full".into())));
    let (result, _) = run(lines(100)
        .try_map(no_threes)
        .or_dead_letter(&letters)
        .ignore());
    let outcome = result.unwrap_err().outcome().unwrap();
    assert_eq!(
        (outcome.kind(), outcome.reason()),
        (Kind::Failed, Reason::DeadLetterFailed)
    );
}

#[test]
fn a_sink_that_panics_fails_what_comes() {
    let letters = DeadLetters::new(4, DeadLetterFn(|_| panic!("no")));
    let (result, snapshot) = run(source::iter(0..100_u64)
        .try_map(no_threes)
        .encode(|_| Bytes::new())
        .or_dead_letter(&letters)
        .collect());
    assert_eq!(result.unwrap().len(), 90);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 10);
}

#[test]
fn a_file_keeps_each_letter_once_written_when_its_element_ends() {
    for durability in [Durability::Flushed, Durability::Synced] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.ndjson");
        std::fs::write(&path, "{\"stage\":\"old\"}\n{\"stage\":\"to").unwrap();
        let letters = DeadLetters::new(
            16,
            DeadLetterFile::open(&path).unwrap().durability(durability),
        );
        let (result, snapshot) = run(lines(200)
            .try_map(no_threes)
            .or_dead_letter(&letters)
            .named("decode")
            .collect());
        assert_eq!(result.unwrap().len(), 180);
        assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 20);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 21, "{text}");
        assert_eq!(
            lines[0], "{\"stage\":\"old\"}",
            "what was there stays, but for the torn line"
        );
        for (index, line) in lines[1..].iter().enumerate() {
            let n = index * 10 + 3;
            let parts = [
                "\"stage\":\"decode\"".to_owned(),
                format!("\"error\":\"{n} ends in 3\""),
                format!(
                    "\"line\":{},\"byte_offset\":{},\"bytes\":\"line {n}\"",
                    n + 1,
                    n * 10
                ),
            ];
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        }
    }
}

#[test]
fn a_barrier_waits_for_the_letters_before_it() {
    struct Slow;
    impl forebay::dead_letter::DeadLetterSink for Slow {
        async fn write(&mut self, _: Vec<DeadLetter>) -> Result<(), BoxError> {
            time::sleep(20 * MS).await;
            WRITTEN.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    /// Notes how many writes had ended when each barrier came.
    struct Barriers(Arc<Mutex<Vec<usize>>>);
    impl forebay::operator::Sink<u64> for Barriers {
        type Output = ();
        fn poll_ready(
            &mut self,
            _: &mut Context<'_, '_>,
        ) -> std::task::Poll<Result<Option<Demand>, Stop>> {
            std::task::Poll::Ready(Ok(Some(Demand::items(64))))
        }
        fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<u64>) {
            cx.settle_chunk(chunk, forebay::outcome::Outcome::Delivered);
        }
        fn mark(
            &mut self,
            _: &mut Context<'_, '_>,
            _: &forebay::mark::Mark,
        ) -> std::task::Poll<Result<(), Stop>> {
            self.0.lock().unwrap().push(WRITTEN.load(Ordering::SeqCst));
            std::task::Poll::Ready(Ok(()))
        }
        fn poll_close(&mut self, _: &mut Context<'_, '_>) -> std::task::Poll<Result<(), Stop>> {
            std::task::Poll::Ready(Ok(()))
        }
    }
    let barriers = Arc::new(Mutex::new(Vec::new()));
    let letters = DeadLetters::new(16, Slow);
    let (result, _) = run(lines(30)
        .try_map(no_threes)
        .or_dead_letter(&letters)
        .to(Barriers(Arc::clone(&barriers))));
    result.unwrap();
    assert!(barriers.lock().unwrap().is_empty(), "none was asked for");

    let letters = DeadLetters::new(16, Slow);
    let flow = numbers(30).barrier_every(10);
    let (result, _) = run(flow
        .stage("lines", |input| Originate(input, Chunk::default()))
        .keeps_origin()
        .try_map(no_threes)
        .or_dead_letter(&letters)
        .to(Barriers(Arc::clone(&barriers))));
    result.unwrap();
    let barriers = barriers.lock().unwrap();
    let first = barriers[0];
    assert_eq!(
        *barriers,
        [first, first + 1, first + 2],
        "a write before each barrier"
    );
}

#[test]
fn an_abort_cancels_letters_that_wait() {
    let (kept, _letters) = async_channel::bounded::<DeadLetter>(1);
    let dead_letters = DeadLetters::new(4, kept);
    let pipeline = source::iter(0_u64..)
        .try_map(|_| Err::<u64, _>("no"))
        .encode(|_| Bytes::new())
        .or_dead_letter(&dead_letters)
        .ignore();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut running = pipeline.run().unwrap();
        tokio::time::sleep(50 * MS).await;
        running.abort().await;
        let snapshot = running.snapshot();
        snapshot
            .check()
            .unwrap_or_else(|wrong| panic!("{wrong:?}\n{snapshot}"));
        assert!(snapshot.total().outcome(Kind::Cancelled) > 4, "{snapshot}");
        assert_eq!(running.still_running(), Vec::<String>::new());
    });
}

#[test]
fn a_rewind_writes_no_letter_twice() {
    let (letters, kept) = kept();
    let failures = Arc::new(AtomicUsize::new(0));
    let fail = Arc::clone(&failures);
    let (result, snapshot) = run(numbers(200)
        .on_unresolved(Answer::Rewind)
        .stage("lines", |input| Originate(input, Chunk::default()))
        .keeps_origin()
        .try_map(no_threes)
        .or_dead_letter(&letters)
        .try_map(move |n| {
            // The second time round it works.
            if *n == 120 && fail.fetch_add(1, Ordering::Relaxed) == 0 {
                Err("once")
            } else {
                Ok(*n)
            }
        })
        .or_fail()
        .collect());
    let mut all = result.unwrap();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (0..200).filter(|n| n % 10 != 3).collect::<Vec<_>>());
    assert_eq!(failures.load(Ordering::Relaxed), 2);
    let mut offsets: Vec<_> = kept
        .lock()
        .unwrap()
        .iter()
        .map(|letter| letter.origin.as_ref().unwrap().records()[0].offset)
        .collect();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(
        offsets,
        (0..20).map(|n| (n * 10 + 3) * 10).collect::<Vec<_>>()
    );
    assert_eq!(snapshot.total().outcome(Kind::Failed), 1);
}

/// Counts calls by element, and succeeds at the given try.
fn succeeds_at(tries: usize) -> impl FnMut(u64) -> std::future::Ready<Result<u64, String>> + Send {
    let mut calls = std::collections::BTreeMap::<u64, usize>::new();
    move |n| {
        let count = calls.entry(n).or_default();
        *count += 1;
        std::future::ready(if *count >= tries {
            Ok(n)
        } else {
            Err(format!("try {count}"))
        })
    }
}

#[test]
fn a_retry_keeps_order_and_delivers_everything() {
    let retry = Retry::tries(20).backoff(MS, 4 * MS);
    let mut fails = 0_u64;
    let (result, snapshot) = run(numbers(500)
        .try_map_async(Concurrency::limit(4).window(64), move |n| {
            fails = fails
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(n + 1);
            let fails = (fails >> 60) < 2;
            async move {
                tokio::task::yield_now().await;
                if fails { Err("busy") } else { Ok(n) }
            }
        })
        .retry(retry)
        .or_fail()
        .collect());
    assert_eq!(result.unwrap(), (0..500).collect::<Vec<_>>());
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 500);
}

#[test]
fn a_retry_of_code_that_does_not_wait_needs_one_place() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let (result, _) = run(numbers(20)
        .try_map(move |n| {
            if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                Err("every second")
            } else {
                Ok(*n)
            }
        })
        .retry(Retry::tries(2).backoff(MS, MS))
        .or_stop()
        .collect());
    assert_eq!(result.unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(calls.load(Ordering::Relaxed), 40);
}

#[test]
fn tries_that_are_used_up_end_as_the_stage_says() {
    let (letters, kept) = kept();
    let retry = Retry::tries(3).backoff(MS, MS);
    let (result, snapshot) = run(lines(10)
        .try_map_async(4, succeeds_at(4))
        .retry(retry)
        .or_dead_letter(&letters)
        .collect());
    assert!(result.unwrap().is_empty());
    let kept = kept.lock().unwrap();
    assert_eq!(kept.len(), 10);
    for letter in kept.iter() {
        assert_eq!((letter.tries, letter.error.as_str()), (3, "try 3"));
        assert_eq!(letter.reason, Reason::RetriesExhausted);
    }
    let total = snapshot.total();
    assert_eq!(total.outcome(Kind::DeadLettered), 10);
}

#[test]
fn on_error_may_end_the_tries_early() {
    let retry = Retry::tries(9).backoff(MS, MS);
    let (result, snapshot) = run(source::iter(0..10_u64)
        .try_map_async(4, succeeds_at(4))
        .retry(retry)
        .on_error(|_, tries| {
            if tries < 2 {
                OnError::Retry
            } else {
                OnError::Discard
            }
        })
        .collect());
    assert!(result.unwrap().is_empty());
    assert_eq!(snapshot.total().outcome(Kind::Shed), 10);
}

#[test]
fn an_element_that_waits_for_its_next_try_is_unsettled_and_blocks_no_place() {
    let started = Arc::new(AtomicUsize::new(0));
    let start = Arc::clone(&started);
    let pipeline = source::iter(0..32_u64)
        .try_map_async(Concurrency::limit(1).window(32), move |n| {
            start.fetch_add(1, Ordering::Relaxed);
            async move { if n == 0 { Err("always") } else { Ok(n) } }
        })
        .retry(Retry::tries(2).backoff(200 * MS, 200 * MS).jitter(0.0))
        .or_discard()
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut running = pipeline.run().unwrap();
        tokio::time::sleep(80 * MS).await;
        assert_eq!(
            started.load(Ordering::Relaxed),
            32,
            "one place serves all while the first waits"
        );
        assert_eq!(
            running.snapshot().total().unsettled(),
            32,
            "order holds all back"
        );
        let all = running.join().await.unwrap();
        assert_eq!(all, (1..32).collect::<Vec<_>>());
        running.snapshot().check().unwrap();
    });
}

#[test]
fn a_spent_budget_gives_up_or_waits_as_declared() {
    let budget = Budget::share(0.0).per_second(100.0).reserve(5.0);
    let fallible = |budget| {
        source::iter(0..20_u64)
            .try_map_async(20, succeeds_at(2))
            .retry(Retry::tries(3).backoff(MS, MS).budget(budget))
    };
    let (result, _) = run(fallible(budget).or_discard().collect());
    let kept = result.unwrap().len();
    assert!(
        (5..10).contains(&kept),
        "five retries and what a few milliseconds give, not {kept}"
    );

    let began = time::now();
    let (result, _) = run(fallible(budget.when_spent(WhenSpent::Wait))
        .or_discard()
        .collect());
    assert_eq!(result.unwrap().len(), 20);
    let took = time::now().since(began);
    assert!(
        took >= 140 * MS,
        "fifteen retries at a hundred a second, in {took:?}"
    );
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    #[error("busy")]
    Busy,
}

/// Counts drops.
struct Count(Arc<AtomicUsize>);
impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_future_that_takes_too_long_is_dropped_and_fails_timed_out() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let (result, snapshot) = run(source::iter(0..10_u64)
        .try_map_async(10, move |n| {
            let guard = Count(Arc::clone(&count));
            async move {
                if n % 2 == 0 {
                    std::future::pending::<()>().await;
                }
                drop(guard);
                if n == 9 { Err(CallError::Busy) } else { Ok(n) }
            }
        })
        .timeout(20 * MS)
        .or_fail()
        .named("call")
        .collect());
    assert_eq!(result.unwrap(), [1, 3, 5, 7]);
    let counts = &snapshot.stage("call").unwrap().counts;
    assert_eq!(
        (
            counts.reason(Reason::TimedOut),
            counts.reason(Reason::Error)
        ),
        (5, 1)
    );
    assert_eq!(dropped.load(Ordering::Relaxed), 10);
}

#[test]
fn a_time_out_is_tried_again() {
    let mut calls = 0;
    let (result, _) = run(source::iter([7_u64])
        .try_map_async(1, move |n| {
            calls += 1;
            let hangs = calls == 1;
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok::<_, CallError>(n)
            }
        })
        .timeout(10 * MS)
        .retry(Retry::tries(2).backoff(MS, MS))
        .or_stop()
        .collect());
    assert_eq!(result.unwrap(), [7]);
}

#[test]
fn settings_without_meaning_are_refused() {
    let refused = source::iter([1_u64])
        .try_map(|n| Ok::<_, CallError>(*n))
        .timeout(MS)
        .or_fail()
        .ignore()
        .block_on();
    assert!(
        matches!(refused, Err(RunError::Refused(Refused::Setting { .. }))),
        "{refused:?}"
    );
    let refused = source::iter([1_u64])
        .try_map(|n| Ok::<_, CallError>(*n))
        .retry(Retry::tries(2).jitter(2.0))
        .or_fail()
        .ignore()
        .block_on();
    let words = refused.unwrap_err().to_string();
    assert!(
        words.contains("`retry jitter` is 2, which is not within 0 to 1"),
        "{words}"
    );
}
