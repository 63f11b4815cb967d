//! How many partitions a topic needs.

use crate::control::Invalid;

/// The fewest partitions that are planned, so that a topic can grow.
pub const FEWEST: u32 = 3;
/// The most partitions that are planned: each costs the brokers memory, files and time to fail over.
pub const MOST: u32 = 100;

/// What a topic has to carry.
///
/// # Example
/// ```
/// use forebay::kafka::PartitionPlan;
///
/// let plan = PartitionPlan::new(100.0, 10.0, 4)?;
/// assert_eq!((plan.for_throughput(), plan.for_consumers(), plan.partitions()), (10, 8, 10));
/// # Ok::<(), forebay::control::Invalid>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PartitionPlan {
    for_throughput: u32,
    for_consumers: u32,
}

impl PartitionPlan {
    /// A topic that carries `total_mb_per_s`, of which one partition carries `partition_mb_per_s`, and
    /// is read by so many consumers of one group.
    ///
    /// # Errors
    /// `Invalid` for a rate that is not a number above 0 (the total may be 0).
    pub fn new(
        total_mb_per_s: f64,
        partition_mb_per_s: f64,
        consumers: u32,
    ) -> Result<PartitionPlan, Invalid> {
        let total_is = total_mb_per_s.is_finite() && total_mb_per_s >= 0.0;
        Invalid::unless(total_is, "total_mb_per_s", total_mb_per_s, "0 and more")?;
        let each_is = partition_mb_per_s.is_finite() && partition_mb_per_s > 0.0;
        Invalid::unless(
            each_is,
            "partition_mb_per_s",
            partition_mb_per_s,
            "more than 0",
        )?;
        Ok(PartitionPlan {
            for_throughput: whole(total_mb_per_s / partition_mb_per_s),
            for_consumers: consumers.saturating_mul(2),
        })
    }

    /// As many as carry the throughput.
    #[must_use]
    pub fn for_throughput(&self) -> u32 {
        self.for_throughput
    }

    /// Twice as many as there are consumers: one that fails leaves partitions for several others.
    #[must_use]
    pub fn for_consumers(&self) -> u32 {
        self.for_consumers
    }

    /// The greater of both, within [`FEWEST`] and [`MOST`].
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.for_throughput
            .max(self.for_consumers)
            .clamp(FEWEST, MOST)
    }

    /// Whether more would be needed than are planned.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.for_throughput.max(self.for_consumers) > MOST
    }
}

/// That many, rounded up; what is too large for the type is its greatest.
#[allow(clippy::cast_sign_loss)]
fn whole(count: f64) -> u32 {
    count.ceil() as u32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn row_b5_the_planner_by_its_table() {
        // Total, of one partition, consumers: partitions.
        for (total, each, consumers, planned) in [
            (0.0, 10.0, 0, 3),
            (10.0, 10.0, 1, 3),
            (30.0, 10.0, 1, 3),
            (30.1, 10.0, 1, 4),
            (100.0, 10.0, 4, 10),
            (100.0, 10.0, 6, 12),
            (1000.0, 10.0, 3, 100),
            (1000.1, 10.0, 3, 100),
            (1.0, 10.0, 50, 100),
            (1.0, 10.0, 51, 100),
            (1.0, 10.0, 2, 4),
        ] {
            let plan = PartitionPlan::new(total, each, consumers).unwrap();
            assert_eq!(
                plan.partitions(),
                planned,
                "{total} MB/s, {each}, {consumers}"
            );
        }
        assert!(!PartitionPlan::new(1000.0, 10.0, 3).unwrap().is_short());
        assert!(PartitionPlan::new(1000.1, 10.0, 3).unwrap().is_short());
        assert!(PartitionPlan::new(1.0, 10.0, 51).unwrap().is_short());
        assert!(
            PartitionPlan::new(f64::MAX, 1e-300, u32::MAX)
                .unwrap()
                .is_short()
        );
    }

    #[test]
    fn rates_that_cannot_be_are_refused_by_name() {
        let field = |total, each| PartitionPlan::new(total, each, 1).unwrap_err().field;
        assert_eq!(field(-1.0, 10.0), "total_mb_per_s");
        assert_eq!(field(f64::NAN, 10.0), "total_mb_per_s");
        assert_eq!(field(1.0, 0.0), "partition_mb_per_s");
        assert_eq!(field(1.0, f64::INFINITY), "partition_mb_per_s");
    }
}
