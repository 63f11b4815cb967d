//! Row B5: partitions = max(ceil(total / one's), 2 x consumers), within 3 and 100.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, missing_docs)]

use forebay::kafka::{FEWEST, MOST, PartitionPlan};

#[path = "../examples/b5_partition_planner.rs"]
mod b5_partition_planner;

#[test]
fn row_b5_the_example() {
    b5_partition_planner::main().unwrap();
}

#[test]
fn row_b5_the_planner_by_its_table() {
    assert_eq!((FEWEST, MOST), (3, 100));
    // Total and of one partition, MB/s; consumers; for the throughput, for the consumers, planned.
    for (total, each, consumers, by_throughput, by_consumers, planned) in [
        (0.0, 10.0, 0, 0, 0, 3),
        (10.0, 10.0, 1, 1, 2, 3),
        (30.0, 10.0, 1, 3, 2, 3),
        (30.1, 10.0, 1, 4, 2, 4),
        (100.0, 10.0, 4, 10, 8, 10),
        (100.0, 10.0, 5, 10, 10, 10),
        (100.0, 10.0, 6, 10, 12, 12),
        (7.0, 0.5, 2, 14, 4, 14),
        (990.0, 10.0, 49, 99, 98, 99),
        (1000.0, 10.0, 3, 100, 6, 100),
        (1001.0, 10.0, 3, 101, 6, 100),
        (1.0, 10.0, 50, 1, 100, 100),
        (1.0, 10.0, 51, 1, 102, 100),
    ] {
        let plan = PartitionPlan::new(total, each, consumers).unwrap();
        let what = format!("{total} MB/s at {each} each, {consumers} consumers");
        assert_eq!(plan.for_throughput(), by_throughput, "{what}");
        assert_eq!(plan.for_consumers(), by_consumers, "{what}");
        assert_eq!(plan.partitions(), planned, "{what}");
        assert_eq!(
            plan.is_short(),
            by_throughput.max(by_consumers) > 100,
            "{what}"
        );
    }
}
