//! Sources: what reads elements from the world, one a file.

pub(crate) mod iter;
pub(crate) mod lines;
