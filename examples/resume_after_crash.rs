//! Resume after a crash: a file of lines is posted one by one, the process "dies" in the middle, and
//! the next run goes on where everything was settled. No line is lost; those that were delivered but
//! not yet saved come again.
//!
//! `cargo run --example resume_after_crash`

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::source;
use forebay::source::Lines;

const LINES: u64 = 500;

type Seen = Arc<Mutex<BTreeMap<u64, u32>>>;

fn pipeline(
    input: &std::path::Path,
    state: &std::path::Path,
    seen: &Seen,
) -> forebay::flow::Pipeline<()> {
    let seen = Arc::clone(seen);
    source::lines(
        Lines::file(input)
            .state(state)
            .save_every(Duration::from_millis(5)),
    )
    .window(64)
    .map_async(8, |line| async move {
        forebay::time::sleep(Duration::from_millis(1)).await;
        line.number
    })
    .for_each(move |number| {
        if let Ok(mut seen) = seen.lock() {
            *seen.entry(number).or_default() += 1;
        }
    })
}

/// Runs, crashes, resumes, and checks that nothing was lost.
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("forebay-resume-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (input, state) = (folder.join("lines.txt"), folder.join("state"));
    let lines: Vec<String> = (1..=LINES).map(|n| format!("line {n}\n")).collect();
    let text = lines.concat();
    std::fs::write(&input, text)?;
    let seen = Seen::default();

    let running = pipeline(&input, &state, &seen).run()?;
    tokio::time::sleep(Duration::from_millis(40)).await;
    drop(running);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = seen.lock().map_err(|_| "poisoned")?.len();

    let mut running = pipeline(&input, &state, &seen).run()?;
    running.join().await?;
    let account = running.snapshot();
    account.check().map_err(|wrong| format!("{wrong:?}"))?;
    std::fs::remove_dir_all(&folder)?;

    let seen = seen.lock().map_err(|_| "poisoned")?;
    let repeated = seen.values().filter(|times| **times > 1).count();
    eprintln!(
        "{before} before the crash, {} after, {repeated} twice\n{account}",
        seen.len()
    );
    assert!(
        before > 0 && before < LINES as usize,
        "the crash came in the middle"
    );
    assert_eq!(seen.len() as u64, LINES, "no line is lost");
    assert!(repeated <= 64, "no more than the window comes again");
    Ok(())
}
