//! Row B5: how many partitions a topic needs, for what it carries and for who reads it.
//!
//! `cargo run --features kafka --example b5_partition_planner`: it connects to nothing. On the command line:
//! `forebay plan-partitions --total-mb-per-s 100 --consumers 4`.
#![allow(clippy::print_stdout)]

use std::error::Error;

use forebay::kafka::{PartitionPlan, Topic};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // MB/s in all, MB/s that one partition carries, consumers of the largest group.
    for (total, each, consumers) in [
        (5.0, 10.0, 1),
        (100.0, 10.0, 4),
        (100.0, 10.0, 8),
        (2000.0, 10.0, 4),
    ] {
        let plan = PartitionPlan::new(total, each, consumers)?;
        println!(
            "{total} MB/s, {consumers} consumers: {} for the throughput, {} for the consumers: {}{}",
            plan.for_throughput(),
            plan.for_consumers(),
            plan.partitions(),
            if plan.is_short() {
                ", which is too few"
            } else {
                ""
            },
        );
    }
    // A topic as row B7 has it: three replicas, of which two must have a record.
    let plan = PartitionPlan::new(100.0, 10.0, 8)?;
    let topic = Topic::replicated("orders").partitions(u16::try_from(plan.partitions())?);
    println!("{topic:?}");
    // What cannot be is refused by name.
    let refused = PartitionPlan::new(100.0, 0.0, 8).err();
    println!("{}", refused.ok_or("it was taken")?);
    Ok(())
}
