//! Sinks: what settles elements by taking them out of the pipeline, one a file.

pub(crate) mod file;
pub(crate) mod for_each;
pub(crate) mod for_each_async;
pub(crate) mod futures_sink;
pub(crate) mod subscription;
