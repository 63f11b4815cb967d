//! A ticker each 10 ms, a buffer of 10, and work of 100 ms, two at a time: nothing is lost, nothing
//! piles up, and the work sets the pace.
//!
//! `cargo run --example a1_backpressured`

use std::time::Duration;

use forebay::outcome::Kind;
use forebay::source;

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut running = source::tick(Duration::from_millis(10))
            .buffer(10)
            .map_async(2, |tick| async move {
                forebay::time::sleep(Duration::from_millis(100)).await;
                tick
            })
            .for_each(|tick| {
                eprintln!(
                    "tick {:>4}, {:>2} missed before it",
                    tick.number, tick.missed
                );
            })
            .run()?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let inside = running.snapshot().total().unsettled();
        running.drain(Duration::from_secs(5)).await?;
        let snapshot = running.snapshot();
        snapshot.check().map_err(|found| format!("{found:?}"))?;
        let delivered = snapshot.total().outcome(Kind::Delivered);
        eprintln!(
            "{delivered} delivered, {inside} were inside at the end, and the account balances"
        );
        if inside > 12 || delivered > 60 {
            return Err("more than the buffer and the work hold".into());
        }
        Ok(())
    })
}
