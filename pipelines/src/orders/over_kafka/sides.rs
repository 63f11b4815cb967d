//! Both sides, declared.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use bytes::Bytes;
use forebay::class::Class;
use forebay::flow::{DeadLetters, Pipeline};
use forebay::kafka::{
    self, ConsumerHandle, ConsumerSettings, DeadLetterTopic, ProducerRecord, ProducerSettings,
    Record, Trace, TraceIds,
};
use forebay::sink::Written;
use forebay::time;
use forebay::topology::{Guarantee, Topology};

use super::super::parts::{self, DEAD_LETTERS, Posts};
use super::super::places::Places;
use super::cluster::{DEAD, Opened};
use crate::cli::{OrdersOptions, Role};
use crate::event::{ORDER_PAID, OrderPaid};
use crate::input::Input;
use crate::order::Order;
use crate::post::Poster;

/// How long a position waits before it is committed: what a process that is killed repeats.
const COMMIT: Duration = Duration::from_millis(100);
/// The header that says how dear an order is.
const PRIORITY: &str = "priority";

/// An event on its way to the topic.
struct Event {
    /// One user's orders stay in order.
    user_id: Bytes,
    class: Class,
    json: Bytes,
}

impl Event {
    fn of(order: Order) -> Event {
        let class = order.class();
        let event = OrderPaid::from(order);
        Event {
            class,
            json: event.json(),
            user_id: event.user_id.into(),
        }
    }

    /// The record of it, at the beginning of a trace.
    fn record(self, topic: &Arc<str>, trace: &Trace) -> ProducerRecord {
        let now = time::since_1970(time::now());
        ProducerRecord::to(Arc::clone(topic))
            .key(self.user_id)
            .value(self.json)
            .event_type(ORDER_PAID)
            .event_time(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
            .trace(trace)
            .header(PRIORITY, self.class.name())
    }
}

/// The class that a record's header names, else MEDIUM.
fn class(record: &Record) -> Class {
    let named = record.header(PRIORITY);
    [Class::HIGH, Class::LOW]
        .into_iter()
        .find(|class| named == Some(class.name().as_bytes()))
        .unwrap_or(Class::MEDIUM)
}

/// From orders to the topic.
pub(super) fn paying(
    options: &OrdersOptions,
    opened: &Opened,
    input: Input,
    places: &Places,
) -> anyhow::Result<Pipeline<()>> {
    let dead_letters = parts::dead_letter_file(places)?;
    let mut events = parts::read(options, input, &dead_letters, false)
        .map(Event::of)
        .named("event");
    if let Some(embedded) = &opened.embedded {
        let ahead = embedded.ahead.clone();
        events = events
            .map_async(1, move |event: Event| {
                let ahead = ahead.clone();
                async move {
                    ahead.enter(&event.user_id, &event.json).await;
                    event
                }
            })
            .named("room");
    }
    let topic: Arc<str> = options.kafka.topic.as_str().into();
    let mut traces = TraceIds::new();
    let settings = ProducerSettings::reliable(opened.connection.clone()).dead_letters(DEAD);
    let records = events
        .map(move |event| event.record(&topic, &traces.begin()))
        .named("record");
    let pipeline = records.to_kafka(settings).named("topic");
    Ok(pipeline.guarantee(Guarantee::AtLeastOnce))
}

/// A record that says nothing cannot be posted.
#[derive(Debug, thiserror::Error)]
#[error("a record without a value is no event")]
struct NoEvent;

/// From the topic to the service.
pub(super) fn logging(
    options: &OrdersOptions,
    opened: &Opened,
    poster: Poster,
    places: &Places,
) -> anyhow::Result<(ConsumerHandle, Pipeline<Written>)> {
    let writes = ProducerSettings::reliable(opened.connection.clone());
    let letters = DeadLetterTopic::beside(&writes, DEAD)?;
    let dead_letters = DeadLetters::new(DEAD_LETTERS, letters).named("dead letter topic");
    let reads = ConsumerSettings::new(opened.connection.clone(), &options.kafka.group)
        .topics([&options.kafka.topic])
        .commit_every(COMMIT);
    let (handle, mut records) = kafka::source(reads);
    records = records.named("events");
    if let Some(embedded) = &opened.embedded {
        let ahead = embedded.ahead.clone();
        records = records.inspect(move |record| ahead.leave(record));
    }
    let events = records
        .classify(class)
        .try_map(|record| record.value_bytes().ok_or(NoEvent))
        .or_dead_letter(&dead_letters)
        .named("value");
    let posts = Posts {
        calls: parts::calls(options),
        poster,
        tries: options.tries.unwrap_or(u32::MAX),
        dead_letters,
    };
    let pipeline = posts.of(events, options, places);
    Ok((handle, pipeline.guarantee(Guarantee::AtLeastOnce)))
}

/// What is to be run, not run.
pub(super) fn topology(options: &OrdersOptions, input: Option<Input>) -> anyhow::Result<Topology> {
    let opened = Opened::nowhere()?;
    let places = Places::nowhere();
    let logging = || {
        let poster = Poster::new(Uri::from_static("http://localhost"), 1);
        logging(options, &opened, poster, &places).map(|(_, pipeline)| pipeline)
    };
    let Some(input) = input else {
        return Ok(logging()?.topology());
    };
    let paying = paying(options, &opened, input, &places)?;
    Ok(match options.kafka.role {
        Role::Both => paying.and(logging()?).topology(),
        Role::Pay | Role::Log => paying.topology(),
    })
}
