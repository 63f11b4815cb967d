//! A consumer that asks for 10 elements first, for 10 more whenever it holds fewer than 50, and holds
//! 100 at most.
//!
//! `cargo run --example a3_subscription`

use forebay::sink::Asking;
use forebay::source;

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let (mut numbers, pipeline) =
            source::iter(1_u64..=1000).into_subscription(Asking::default());
        let mut running = pipeline.run()?;
        let (mut sum, mut most) = (0, 0);
        while let Some(number) = numbers.next().await {
            sum += number?;
            most = most.max(numbers.held());
        }
        running.join().await?;
        running
            .snapshot()
            .check()
            .map_err(|found| format!("{found:?}"))?;
        eprintln!(
            "asked {} times, held {most} at most, sum {sum}",
            numbers.asks()
        );
        if sum != 500_500 || most > 59 {
            return Err("not what was asked for".into());
        }
        Ok(())
    })
}
