//! Stages that make one element of one.

use super::Flow;
use crate::operator::map::Map;
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Makes a value of each value.
    pub fn map<U, F>(self, f: F) -> Flow<U>
    where
        U: Send + 'static,
        F: FnMut(T) -> U + Send + 'static,
    {
        self.then(NodeSpec::new("map"), |input| Map::new(input, f))
    }
}
