//! What runs tell, for those who look from outside.
//!
//! It reads [snapshots](crate::runtime::Snapshot) and changes nothing. Feature `metrics`: [`Metrics`] gives
//! them to the `metrics` facade, for which there are exporters to Prometheus and others.

mod metrics;

pub use metrics::Metrics;
