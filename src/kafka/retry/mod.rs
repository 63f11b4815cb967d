//! Trying again later: topics that records wait in, and the order of keys meanwhile.

mod in_place;
mod order;
mod settings;
mod sink;
mod waiting;

pub use in_place::RetryInPlace;
pub use settings::{GivenUp, RetryCounts, RetryTopics};
