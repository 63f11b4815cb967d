//! The first pipeline: a source, a bounded buffer, asynchronous work, a sink, and the account.
//!
//! `cargo run --example first_pipeline`

use forebay::source;

/// Runs the pipeline and returns what was delivered.
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut running = source::iter(1..=1000_u64)
        .map(|n| n * n)
        .buffer(64)
        .map_async(8, |n| async move { n + 1 })
        .fold(0, |sum, n| *sum += n)
        .run()?;
    let sum = running.join().await?;
    let account = running.snapshot();
    eprintln!("sum {sum}\n{account}");
    assert_eq!(sum, 333_834_500);
    account.check().map_err(|wrong| format!("{wrong:?}"))?;
    Ok(())
}
