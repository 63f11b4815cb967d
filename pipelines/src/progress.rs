//! How far a run is: a bar in a terminal, a line a second elsewhere. Always on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use forebay::outcome::Kind;
use forebay::runtime::Snapshot;
use indicatif::{ProgressBar, ProgressStyle};

/// How often [`Progress::show`] is to be called.
pub(crate) const EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Shows how far a run is.
pub(crate) struct Progress {
    total: Option<u64>,
    bar: Option<ProgressBar>,
    line_due: Instant,
    /// What is said once elements flow.
    title: Option<String>,
}

impl Progress {
    /// Of so many orders, if that is known. The title is told when the first of them is in.
    pub(crate) fn new(total: Option<u64>, title: String) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = match total {
                Some(_) => "{bar:40} {pos}/{len} {per_sec} eta {eta} {msg}",
                None => "{spinner} {pos} {per_sec} {msg}",
            };
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            bar.set_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        Progress {
            total,
            bar,
            line_due: Instant::now() + LINE_EVERY,
            title: Some(title),
        }
    }

    /// Shows the accounts as they stand.
    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        let counts = snapshot.total();
        if counts.entered > 0
            && let Some(title) = self.title.take()
        {
            self.say(&title);
        }
        let unsettled = counts.unsettled();
        let ended = counts.entered - unsettled.min(counts.entered);
        let words = format!(
            "{unsettled} in flight, {} dead-lettered",
            counts.outcome(Kind::DeadLettered)
        );
        if let Some(bar) = &self.bar {
            bar.set_position(ended);
            bar.set_message(words);
        } else if Instant::now() >= self.line_due {
            self.line_due += LINE_EVERY;
            match self.total {
                Some(total) => eprintln!("{ended} of {total} orders, {words}"),
                None => eprintln!("{ended} orders, {words}"),
            }
        }
    }

    /// Says something without spoiling the bar.
    pub(crate) fn say(&self, words: &str) {
        match &self.bar {
            Some(bar) => bar.println(words),
            None => eprintln!("{words}"),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
