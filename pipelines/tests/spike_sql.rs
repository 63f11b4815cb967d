//! The SQL spike holds: see `examples/spike_sql.rs`.
#![allow(missing_docs)]

#[path = "../../examples/spike_sql.rs"]
mod spike;

#[test]
fn rows_are_claimed_written_and_marked() {
    spike::main();
}
