//! A fan-out with a slow branch: an archive must see every order, a live view may miss some.
//!
//! Each branch has a buffer and a policy of its own, so the slow view does not hold up the archive;
//! what it missed is counted.
//!
//! `cargo run --example slow_branch`

use std::time::Duration;

use forebay::boundary::{Buffer, WhenFull};
use forebay::outcome::Reason;
use forebay::source;

const ORDERS: u64 = 2_000;

/// Runs the pipeline and checks what each branch saw.
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [archive, view] = source::iter(0..ORDERS).allow_loss().broadcast([
        Buffer::items(64),
        Buffer::items(16).when_full(WhenFull::DropHead),
    ]);
    let archive = archive.fold(0_u64, |seen, _| *seen += 1).named("archive");
    let view = view
        .map_async(1, |order| async move {
            forebay::time::sleep(Duration::from_millis(1)).await;
            order
        })
        .fold(0_u64, |seen, _| *seen += 1)
        .named("view");

    let mut running = archive.and(view).run()?;
    let (archived, viewed) = running.join().await?;
    let account = running.snapshot();
    account.check().map_err(|wrong| format!("{wrong:?}"))?;
    let missed: u64 = account
        .stages
        .iter()
        .map(|stage| stage.counts.reason(Reason::DropHead))
        .sum();
    eprintln!("archived {archived}, viewed {viewed}, missed by the view {missed}\n{account}");
    assert_eq!(archived, ORDERS);
    assert_eq!(viewed + missed, ORDERS);
    assert!(missed > 0, "the view is slower than the orders come");
    Ok(())
}
