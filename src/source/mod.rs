//! Where elements come from.
//!
//! Every source is tracked: its account says what became of each element, and a source with
//! positions knows up to where all of them are settled. How it is tracked is declared right after
//! it: [`window`](crate::flow::Flow::window), [`on_unresolved`](crate::flow::Flow::on_unresolved),
//! [`allow_loss`](crate::flow::Flow::allow_loss), [`untracked`](crate::flow::Flow::untracked).
//!
//! | elements of | source | position |
//! | --- | --- | --- |
//! | an iterator | [`iter()`] | none |
//! | any stream | [`stream()`] | none |
//! | futures, one after the other | [`unfold_async()`] | none |
//! | the clock | [`tick()`] | none |
//! | one value | [`repeat()`] | none |
//! | nothing, an error | [`empty()`], [`failed()`] | none |
//! | a channel of tokio or `async_channel` | [`tokio_mpsc()`], [`async_channel()`] | none |
//! | tasks and threads outside | [`queue()`] | none |
//! | the lines of a file, of standard input, of a reader | [`lines()`] | line and byte offset |
//!
//! # What a source does not do
//! It never reads ahead of demand by more than its documentation says, and never without a bound.

#[cfg(feature = "tower")]
mod calls;
mod files;
mod queue;
mod values;

pub use crate::operator::sources::lines::{
    Identity, Line, LinePosition, LineTooLong, Lines, LinesError, State, StateError, TooLong,
};
pub use crate::operator::sources::tick::Tick;
#[cfg(feature = "tower")]
pub use calls::{Answer, Call, CallError, Calls, Reply, calls};
pub use files::lines;
pub use queue::{Offer, Offered, Queue, QueueEnd, queue, queue_by_class};
pub use values::{
    async_channel, empty, failed, iter, repeat, stream, tick, tokio_mpsc, unfold_async,
};
