//! Sources: what reads elements from the world, one a file.

pub(crate) mod failed;
pub(crate) mod iter;
pub(crate) mod lines;
pub(crate) mod stream;
pub(crate) mod tick;
