//! A subscriber that asks for 10 first, for 10 more whenever it holds fewer than 50 and nothing is
//! outstanding, and holds 100 at most.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::chunk::{Element, Meta};
use forebay::error::Cause;
use forebay::outcome::{Kind, Outcome, Reason};
use forebay::receipt::Receipt;
use forebay::sink::{Asking, Overflow, Subscription, subscription};
use forebay::source;

/// Waits until so many are held and nothing asked for is outstanding, and sees that it stays so.
async fn comes_to_rest<T>(subscription: &Subscription<T>, held: usize) {
    for _ in 0..1000 {
        if subscription.held() == held && subscription.outstanding() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!((subscription.held(), subscription.outstanding()), (held, 0));
}

#[tokio::test]
async fn row_a3_never_taking_asks_five_times_holds_fifty_and_falls_silent() {
    let (subscription, pipeline) = source::iter(0_u64..).into_subscription(Asking::default());
    let mut running = pipeline.run().unwrap();
    comes_to_rest(&subscription, 50).await;
    assert_eq!((subscription.asks(), subscription.requested()), (5, 50));
    drop(subscription);
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().entered, 50, "no element came unasked");
    assert_eq!(snapshot.total().outcome(Kind::Cancelled), 50);
}

#[tokio::test]
async fn row_a3_one_take_then_is_one_ask_and_holds_fifty_nine() {
    let (mut subscription, pipeline) = source::iter(0_u64..).into_subscription(Asking::default());
    let mut running = pipeline.run().unwrap();
    comes_to_rest(&subscription, 50).await;
    assert_eq!(subscription.next().await.unwrap().unwrap(), 0);
    comes_to_rest(&subscription, 59).await;
    assert_eq!((subscription.asks(), subscription.requested()), (6, 60));
    subscription.cancel();
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 1);
    assert_eq!(snapshot.total().outcome(Kind::Cancelled), 59);
}

#[tokio::test]
async fn row_a3_taking_each_at_once_asks_after_each_tenth_arrival() {
    let (queue, flow) = source::queue::<u64>(1);
    let (mut subscription, pipeline) = flow.into_subscription(Asking::default());
    let mut running = pipeline.run().unwrap();
    for n in 1..=95 {
        assert!(queue.offer(n).await.is_enqueued());
        assert_eq!(subscription.next().await.unwrap().unwrap(), n);
        assert_eq!(subscription.asks(), 1 + n / 10, "after arrival {n}");
        assert_eq!(subscription.outstanding() as u64, 10 - n % 10);
    }
    queue.complete();
    assert!(subscription.next().await.is_none());
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 95);
}

#[tokio::test]
async fn row_a3_an_upstream_that_sends_unasked_overflows_at_the_hundred_and_first() {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let (publisher, mut subscription) = subscription(Asking::default());
    assert_eq!(publisher.requested(), 10);
    let element = |n: u64| {
        let outcomes = Arc::clone(&outcomes);
        let receipt = Receipt::on_settle(move |outcome| outcomes.lock().unwrap().push(outcome));
        Element {
            value: n,
            meta: Meta {
                receipt,
                ..Meta::default()
            },
        }
    };
    for n in 0..100 {
        publisher.send(element(n)).unwrap();
    }
    assert_eq!((subscription.held(), subscription.asks()), (100, 5));
    assert!(!publisher.is_cancelled());
    assert_eq!(
        publisher.send(element(100)),
        Err(Overflow { capacity: 100 })
    );
    assert!(publisher.is_cancelled());
    let stop = subscription.next().await.unwrap().unwrap_err();
    assert!(
        matches!(stop.why(), Cause::Overflow { capacity: 100 }),
        "{stop}"
    );
    assert!(subscription.next().await.is_none(), "it is told once");
    assert_eq!(
        *outcomes.lock().unwrap(),
        [Outcome::Failed(Reason::Overflow); 101]
    );
    publisher.send(element(101)).unwrap();
    assert_eq!(
        outcomes.lock().unwrap().pop(),
        Some(Outcome::Cancelled(Reason::NotWanted))
    );
}

#[tokio::test]
async fn row_a3_by_hand_nothing_comes_that_was_not_requested() {
    let (mut subscription, pipeline) =
        source::iter(1_u64..=5).into_subscription(Asking::by_hand(4));
    let mut running = pipeline.run().unwrap();
    comes_to_rest(&subscription, 0).await;
    subscription.request(2);
    comes_to_rest(&subscription, 2).await;
    subscription.request(10);
    comes_to_rest(&subscription, 4).await;
    assert_eq!(subscription.requested(), 4, "more would have no place");
    for n in 1..=4 {
        assert_eq!(subscription.next().await.unwrap().unwrap(), n);
    }
    subscription.request(4);
    assert_eq!(subscription.next().await.unwrap().unwrap(), 5);
    assert!(subscription.next().await.is_none());
    running.join().await.unwrap();
    running.snapshot().check().unwrap();
}

#[tokio::test]
async fn row_a3_what_stops_the_flow_is_told_to_the_subscriber() {
    let flow = source::failed::<u64>("no such table");
    let (mut subscription, pipeline) = flow.into_subscription(Asking::default());
    let mut running = pipeline.run().unwrap();
    let stop = subscription.next().await.unwrap().unwrap_err();
    assert_eq!(stop.to_string(), "no such table");
    assert!(subscription.next().await.is_none());
    assert!(running.join().await.is_err());
    running.snapshot().check().unwrap();
}
