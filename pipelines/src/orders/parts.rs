//! What the pipelines of orders are made of.

use std::time::Duration;

use bytes::Bytes;
use forebay::control::{Budget, Retry, WhenSpent};
use forebay::dead_letter::DeadLetterFile;
use forebay::flow::{DeadLetters, Flow, OnError, Pipeline};
use forebay::operator::{Calls, Concurrency};
use forebay::sink::Written;
use forebay::source;

use super::places::Places;
use crate::cli::{OrdersOptions, unusable};
use crate::input::Input;
use crate::order::Order;
use crate::pace::Pace;
use crate::post::{PostError, Poster};

/// Bad lines that may wait for the disk.
pub(super) const DEAD_LETTERS: usize = 64;
/// How often an order is posted.
pub(super) const TRIES: u32 = 20;
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The retries of all posts together: three tenths of the posts, and a hundred a second besides. When
/// they are used up, failed posts wait for their turn, and the reading with them.
fn retry(tries: u32) -> Retry {
    let budget = Budget::share(0.3)
        .per_second(100.0)
        .reserve(1000.0)
        .when_spent(WhenSpent::Wait);
    Retry::tries(tries)
        .backoff(BACKOFF, BACKOFF_MAX)
        .budget(budget)
}

/// The file that bad lines go to.
pub(super) fn dead_letter_file(places: &Places) -> anyhow::Result<DeadLetters> {
    let letters = DeadLetterFile::open(&places.dead_letters)
        .map_err(|error| unusable(format!("{}: {error}", places.dead_letters.display())))?;
    Ok(DeadLetters::new(DEAD_LETTERS, letters).named("dead letters"))
}

/// From lines to orders with their classes.
pub(super) fn read(
    options: &OrdersOptions,
    input: Input,
    dead_letters: &DeadLetters,
    may_lose: bool,
) -> Flow<Order> {
    let decode = input.decode;
    let mut lines = source::lines(input.lines)
        .window(options.window as usize)
        .named("lines");
    if may_lose {
        lines = lines.allow_loss();
    }
    if let Some(rate) = options.rate {
        lines = lines.stage("pace", |input| Pace::new(input, rate));
    }
    lines
        .try_map(move |line| decode.decode(line))
        .or_dead_letter(dead_letters)
        .named("decode")
        .classify(Order::class)
        .named("classify")
}

/// So many posts as were asked for. One slow post holds up the order of results, not the posts behind it.
pub(super) fn calls(options: &OrdersOptions) -> Calls {
    let concurrency = Concurrency::limit(usize::from(options.concurrency));
    Calls::from(concurrency.window(options.window as usize))
}

/// How events are posted.
pub(super) struct Posts {
    pub(super) calls: Calls,
    pub(super) poster: Poster,
    pub(super) tries: u32,
    pub(super) dead_letters: DeadLetters,
}

impl Posts {
    /// From events to a file of those that the service has taken.
    pub(super) fn of(
        self,
        events: Flow<Bytes>,
        options: &OrdersOptions,
        places: &Places,
    ) -> Pipeline<Written> {
        let poster = self.poster;
        events
            .try_map_async(self.calls, move |event: Bytes| poster.clone().post(event))
            .timeout(Duration::from_millis(options.timeout_ms))
            .retry(retry(self.tries))
            .dead_letters(&self.dead_letters)
            .on_error(|error, _| match error {
                PostError::Unavailable(_) => OnError::Retry,
                PostError::Refused(_) => OnError::DeadLetter,
                PostError::Misdirected(..) => OnError::Stop,
            })
            .named("post")
            .to_file(&places.delivered)
            .named("delivered")
    }
}
