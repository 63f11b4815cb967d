//! More orders than can be served: the dear ones are, the cheap ones wait on disk. The process "dies"
//! in the middle; the next run serves what is on disk and reads on where all was kept.
//!
//! `cargo run --example spill_to_disk`

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::boundary::{ClassBuffer, DiskBuffer, Stored};
use forebay::class::Class;
use forebay::control::{PrioritySettings, WhenNoRoom};
use forebay::error::BoxError;
use forebay::flow::Pipeline;
use forebay::source::{self, Lines};

const ORDERS: u64 = 600;

type Seen = Arc<Mutex<BTreeMap<u64, u32>>>;

fn is_dear(number: u64) -> bool {
    number.is_multiple_of(10)
}

fn decode(stored: &Stored) -> Result<u64, BoxError> {
    Ok(u64::from_le_bytes(stored.whole()?[..].try_into()?))
}

fn pipeline(folder: &Path, disk: DiskBuffer, seen: &Seen) -> Pipeline<()> {
    let seen = Arc::clone(seen);
    // Dear orders wait for room, which holds up the file; cheap ones make way.
    let settings = PrioritySettings::items(16)
        .never_evict(Class::HIGH)
        .when_no_room(Class::HIGH, WhenNoRoom::Wait(Duration::MAX))
        .when_no_room(Class::LOW, WhenNoRoom::Divert);
    let orders = Lines::file(folder.join("orders")).state(folder.join("state"));
    let (served, diverted) = source::lines(orders)
        .map(|line| line.number)
        .classify(|number| {
            if is_dear(*number) {
                Class::HIGH
            } else {
                Class::LOW
            }
        })
        .buffer_by_class_diverting(ClassBuffer::new(settings), 16);
    let spilled = diverted
        .buffer_on_disk(disk, |number| number.to_le_bytes())
        .try_map(decode)
        .or_stop();
    served
        .merge_prioritized(64, [(1, spilled)])
        .map_async(2, |number| async move {
            forebay::time::sleep(Duration::from_millis(1)).await;
            number
        })
        .for_each(move |number| {
            if let Ok(mut seen) = seen.lock() {
                *seen.entry(number).or_default() += 1;
            }
        })
}

/// Runs, crashes, runs again, and checks that nothing was lost.
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("forebay-spill-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let lines: Vec<String> = (1..=ORDERS).map(|n| format!("order {n}\n")).collect();
    std::fs::write(folder.join("orders"), lines.concat())?;
    let seen = Seen::default();

    let disk = DiskBuffer::open(folder.join("spill"))?
        .items(10_000)
        .bytes(1 << 20);
    let view = disk.view();
    let running = pipeline(&folder, disk, &seen).run()?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let spilled = view.snapshot().map_or(0, |disk| disk.written);
    drop(running);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = seen.lock().map_err(|_| "poisoned")?.clone();
    let dear = before.keys().filter(|number| is_dear(**number)).count();

    let disk = DiskBuffer::open(folder.join("spill"))?;
    let left = disk.recovered().items;
    let mut running = pipeline(&folder, disk, &seen).run()?;
    running.join().await?;
    let account = running.snapshot();
    account.check().map_err(|wrong| format!("{wrong:?}"))?;
    std::fs::remove_dir_all(&folder)?;

    let seen = seen.lock().map_err(|_| "poisoned")?;
    eprintln!(
        "{} served before the crash, {dear} of them dear; {spilled} spilled, {left} left on disk; \
         {} served in all\n{account}",
        before.len(),
        seen.len()
    );
    assert!(left > 0, "the crash came in the middle");
    assert_eq!(seen.len() as u64, ORDERS, "no order is lost");
    Ok(())
}
