//! Trying again later: topics that records wait in, and the order of keys meanwhile.

mod order;
mod settings;
mod sink;

pub use settings::{GivenUp, RetryCounts, RetryTopics};
