//! What Apache Pekko's `QueueSourceSpec` expects of a queue that outsiders offer to, as behaviours of
//! [`source::queue`].
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::boundary::{Buffer, WhenFull};
use forebay::class::Class;
use forebay::error::RunError;
use forebay::outcome::{Kind, Reason};
use forebay::runtime::{Running, Snapshot};
use forebay::sink::{Asking, Subscription};
use forebay::source::{self, Offered, Queue, QueueEnd};

/// A queue whose consumer takes by hand.
struct Bench {
    queue: Queue<u32>,
    sink: Subscription<u32>,
    running: Running<()>,
}

impl Bench {
    fn new(buffer: Buffer) -> Bench {
        let (queue, flow) = source::queue(buffer);
        let (sink, pipeline) = flow.into_subscription(Asking::by_hand(100));
        Bench {
            queue,
            sink,
            running: pipeline.run().unwrap(),
        }
    }

    async fn expect(&mut self, values: impl IntoIterator<Item = u32>) {
        for value in values {
            self.sink.request(1);
            let next = tokio::time::timeout(Duration::from_secs(5), self.sink.next());
            assert_eq!(next.await.unwrap().unwrap().unwrap(), value);
        }
    }

    async fn end(mut self) -> Snapshot {
        self.sink.request(100);
        assert!(self.sink.next().await.is_none());
        self.running.join().await.unwrap();
        self.running.snapshot().check().unwrap();
        self.running.snapshot()
    }
}

fn dropping(items: usize, when_full: WhenFull) -> Buffer {
    Buffer::items(items).when_full(when_full)
}

#[tokio::test]
async fn queue_source_emits_received_messages_to_the_stream() {
    let mut bench = Bench::new(Buffer::items(10));
    for n in 1..=3 {
        assert_eq!(bench.queue.offer(n).await, Offered::Enqueued);
    }
    bench.expect(1..=3).await;
    bench.queue.complete();
    assert_eq!(bench.end().await.total().outcome(Kind::Delivered), 3);
}

#[tokio::test]
async fn queue_source_buffers_when_needed_and_drops_the_oldest() {
    let mut bench = Bench::new(dropping(100, WhenFull::DropHead));
    for n in 1..=120 {
        assert!(bench.queue.try_offer(n).is_enqueued());
    }
    bench.expect(21..=120).await;
    assert_eq!(bench.queue.dropped(), 20);
    drop(bench.queue.clone());
    bench.queue.complete();
    let snapshot = bench.end().await;
    let total = snapshot.total();
    assert_eq!((total.entered, total.outcome(Kind::Shed)), (120, 20));
    let stage = snapshot.stage("queue").unwrap();
    assert_eq!(stage.counts.reason(Reason::DropHead), 20);
}

#[tokio::test]
async fn queue_source_with_drop_new_hands_the_refused_value_back() {
    let mut bench = Bench::new(dropping(2, WhenFull::DropNew));
    assert!(bench.queue.offer(1).await.is_enqueued());
    assert!(bench.queue.offer(2).await.is_enqueued());
    assert_eq!(
        bench.queue.offer(3).await,
        Offered::Dropped(Reason::DropNew, 3)
    );
    bench.expect([1, 2]).await;
    bench.queue.complete();
    let total = bench.end().await.total();
    assert_eq!((total.entered, total.outcome(Kind::Shed)), (3, 1));
}

#[tokio::test]
async fn queue_source_with_drop_tail_and_drop_buffer_tells_who_was_given_up() {
    for (policy, given_up, left) in [
        (WhenFull::DropTail, vec![3], vec![1, 2, 4]),
        (WhenFull::DropBuffer, vec![1, 2, 3], vec![4]),
    ] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&told);
        let mut bench = Bench::new(dropping(3, policy));
        bench.queue = bench
            .queue
            .on_drop(move |n, _| keep.lock().unwrap().push(n));
        for n in 1..=4 {
            assert!(bench.queue.try_offer(n).is_enqueued());
        }
        assert_eq!(*told.lock().unwrap(), given_up);
        bench.expect(left).await;
        bench.queue.complete();
        assert_eq!(
            bench.end().await.total().outcome(Kind::Shed),
            given_up.len() as u64
        );
    }
}

#[tokio::test]
async fn queue_source_back_pressures_an_offer_until_there_is_room_in_order() {
    let mut bench = Bench::new(Buffer::items(1));
    assert!(bench.queue.offer(1).await.is_enqueued());
    let offers: Vec<_> = (2..=4)
        .map(|n| {
            let queue = bench.queue.clone();
            tokio::spawn(async move { queue.offer(n).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(offers.iter().all(|offer| !offer.is_finished()), "no room");
    assert_eq!(
        bench.queue.try_offer(9),
        Offered::Dropped(Reason::DropNew, 9)
    );
    bench.expect(1..=4).await;
    for offer in offers {
        assert!(offer.await.unwrap().is_enqueued());
    }
    bench.queue.complete();
    let total = bench.end().await.total();
    assert_eq!((total.entered, total.outcome(Kind::Shed)), (5, 1));
}

#[tokio::test]
async fn queue_source_refuses_one_offer_more_than_may_wait() {
    let mut bench = Bench::new(Buffer::items(1));
    bench.queue = bench.queue.max_waiting(1);
    assert!(bench.queue.offer(1).await.is_enqueued());
    let queue = bench.queue.clone();
    let waiting = tokio::spawn(async move { queue.offer(2).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(
        bench.queue.offer(3).await,
        Offered::Dropped(Reason::Limit, 3)
    );
    bench.expect([1, 2]).await;
    assert!(waiting.await.unwrap().is_enqueued());
    bench.queue.complete();
    bench.end().await;
}

#[tokio::test]
async fn queue_source_fails_the_stream_when_it_is_full_and_told_so() {
    let Bench {
        queue,
        mut sink,
        mut running,
    } = Bench::new(dropping(1, WhenFull::Fail));
    assert!(queue.try_offer(1).is_enqueued());
    assert!(matches!(queue.try_offer(2), Offered::Failed(_, 2)));
    sink.request(1);
    assert!(sink.next().await.unwrap().is_err());
    assert!(matches!(
        running.join().await,
        Err(RunError::Stopped { .. })
    ));
    assert!(matches!(
        queue.watch_completion().await,
        QueueEnd::Failed(_)
    ));
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Failed), 1);
    assert_eq!(snapshot.total().outcome(Kind::Cancelled), 1);
}

#[tokio::test]
async fn queue_source_fails_when_the_producer_says_so() {
    let Bench {
        queue,
        mut sink,
        mut running,
    } = Bench::new(Buffer::items(4));
    assert!(queue.offer(1).await.is_enqueued());
    queue.fail("the meter is broken");
    assert!(matches!(queue.offer(2).await, Offered::Failed(_, 2)));
    sink.request(4);
    let stop = sink.next().await.unwrap().unwrap_err();
    assert_eq!(stop.to_string(), "the meter is broken");
    let error = running.join().await.unwrap_err();
    assert_eq!(error.to_string(), "stage `queue`: the meter is broken");
    running.snapshot().check().unwrap();
}

#[tokio::test]
async fn queue_source_completes_the_buffered_values_first() {
    let mut bench = Bench::new(Buffer::items(4));
    assert!(bench.queue.offer(1).await.is_enqueued());
    assert!(bench.queue.offer(2).await.is_enqueued());
    bench.queue.complete();
    assert_eq!(bench.queue.offer(3).await, Offered::Closed(3));
    let end = bench.queue.watch_completion();
    bench.expect([1, 2]).await;
    bench.end().await;
    assert_eq!(end.await, QueueEnd::Completed);
}

#[tokio::test]
async fn queue_source_wakes_a_waiting_offer_when_downstream_cancels() {
    let Bench {
        queue,
        mut sink,
        mut running,
    } = Bench::new(Buffer::items(1));
    assert!(queue.offer(1).await.is_enqueued());
    let waiting = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.offer(2).await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    sink.cancel();
    assert_eq!(waiting.await.unwrap(), Offered::Closed(2));
    assert_eq!(queue.watch_completion().await, QueueEnd::Cancelled);
    running.join().await.unwrap();
    running.snapshot().check().unwrap();
    assert_eq!(running.snapshot().total().outcome(Kind::Cancelled), 1);
}

#[tokio::test]
async fn queue_source_completes_when_its_last_handle_is_dropped() {
    let Bench {
        queue,
        mut sink,
        mut running,
    } = Bench::new(Buffer::items(1));
    let other = queue.clone();
    drop(queue);
    assert!(other.offer(1).await.is_enqueued());
    drop(other);
    sink.request(2);
    assert_eq!(sink.next().await.unwrap().unwrap(), 1);
    assert!(sink.next().await.is_none());
    running.join().await.unwrap();
}

#[tokio::test]
async fn an_offer_that_is_dropped_while_it_waits_lets_the_next_one_pass() {
    let mut bench = Bench::new(Buffer::items(1));
    assert!(bench.queue.offer(1).await.is_enqueued());
    let mut given_up = Box::pin(bench.queue.offer(2));
    assert!(futures_util::poll!(&mut given_up).is_pending());
    let queue = bench.queue.clone();
    let next = tokio::spawn(async move { queue.offer(3).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(given_up);
    bench.expect([1, 3]).await;
    assert!(next.await.unwrap().is_enqueued());
    bench.queue.complete();
    bench.end().await;
}

#[tokio::test]
async fn classes_given_at_the_offer_are_those_of_the_account() {
    let mut bench = Bench::new(dropping(3, WhenFull::DropHead));
    bench.queue = bench
        .queue
        .classify(|n| if *n < 10 { Class::LOW } else { Class::MEDIUM });
    for n in [1, 2, 10] {
        assert!(bench.queue.try_offer(n).is_enqueued());
    }
    assert!(bench.queue.try_offer_as(Class::HIGH, 3).is_enqueued());
    bench.expect([2, 10, 3]).await;
    bench.queue.complete();
    let total = bench.end().await.total();
    let class = |class: Class, kind: Kind| total.classes[class.index()].outcomes[kind as usize];
    assert_eq!(class(Class::LOW, Kind::Shed), 1);
    assert_eq!(class(Class::LOW, Kind::Delivered), 1);
    assert_eq!(class(Class::MEDIUM, Kind::Delivered), 1);
    assert_eq!(class(Class::HIGH, Kind::Delivered), 1);
}

#[tokio::test]
async fn a_drain_hands_over_what_is_in_the_queue_and_takes_no_more() {
    let (queue, flow) = source::queue::<u32>(100);
    for n in 0..100 {
        assert!(queue.try_offer(n).is_enqueued());
    }
    let pipeline = flow.map_async(1, |n| async move {
        tokio::task::yield_now().await;
        n
    });
    let mut running = pipeline.collect().run().unwrap();
    let drained = running.drain(Duration::from_secs(5)).await.unwrap();
    assert_eq!(drained.output.unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(queue.offer(100).await, Offered::Closed(100));
    running.snapshot().check().unwrap();
}

#[test]
fn threads_that_block_offer_all_their_values() {
    let (queue, flow) = source::queue::<u32>(3);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                for n in 0..500 {
                    assert!(queue.offer_blocking(thread * 500 + n).is_enqueued());
                }
            })
        })
        .collect();
    drop(queue);
    let mut all = flow.collect().block_on().unwrap();
    all.sort_unstable();
    assert_eq!(all, (0..2000).collect::<Vec<_>>());
    for thread in threads {
        thread.join().unwrap();
    }
}
