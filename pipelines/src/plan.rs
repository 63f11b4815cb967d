//! How many partitions a topic needs, and why.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use forebay::kafka::{FEWEST, MOST, PartitionPlan};
use serde::Serialize;

use crate::cli::{PlanOptions, unusable};

/// The plan, as `--json` prints it.
#[derive(Serialize)]
struct Plan {
    partitions: u32,
    for_throughput: u32,
    for_consumers: u32,
    fewest: u32,
    most: u32,
    /// More would be needed than are planned.
    short: bool,
}

/// `forebay plan-partitions`.
pub(crate) fn run(options: PlanOptions) -> anyhow::Result<ExitCode> {
    let PlanOptions {
        total_mb_per_s: total,
        partition_mb_per_s: each,
        consumers,
        json,
    } = options;
    let plan =
        PartitionPlan::new(total, each, consumers).map_err(|error| unusable(error.to_string()))?;
    let plan = Plan {
        partitions: plan.partitions(),
        for_throughput: plan.for_throughput(),
        for_consumers: plan.for_consumers(),
        fewest: FEWEST,
        most: MOST,
        short: plan.is_short(),
    };
    let text = if json {
        serde_json::to_string(&plan).context("the plan")?
    } else {
        explained(&plan, total, each, consumers)
    };
    writeln!(std::io::stdout(), "{text}").context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn explained(plan: &Plan, total: f64, each: f64, consumers: u32) -> String {
    let Plan {
        partitions,
        for_throughput,
        for_consumers,
        ..
    } = plan;
    let mut text = format!(
        "partitions     {partitions}\n\
         throughput     {for_throughput}: {total} MB/s, {each} MB/s a partition\n\
         consumers      {for_consumers}: twice {consumers}, so that those that are left can share what one leaves\n\
         bounds         {FEWEST} to {MOST}"
    );
    if plan.short {
        let _ = write!(
            text,
            "\nshort          {} would be needed: make a partition carry more, or use several topics",
            for_throughput.max(for_consumers)
        );
    }
    text
}
