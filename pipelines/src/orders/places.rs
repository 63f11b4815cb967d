//! The files that a run writes.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::{OUT, OrdersOptions, unusable};

/// Where results go.
pub(super) struct Places {
    pub(super) dead_letters: PathBuf,
    pub(super) delivered: PathBuf,
    /// A run that is resumed goes on with the files of the one before.
    pub(super) append: bool,
}

impl Places {
    pub(super) fn of(options: &OrdersOptions) -> Places {
        let directory = options.state.as_deref().unwrap_or(Path::new(OUT));
        let place = |given: &Option<PathBuf>, name: &str| {
            given.clone().unwrap_or_else(|| directory.join(name))
        };
        Places {
            dead_letters: place(&options.dead_letters, "dead-letters.ndjson"),
            delivered: place(&options.delivered, "delivered.ndjson"),
            append: options.state.is_some(),
        }
    }

    /// Makes the directories that are ours to make, and has old files emptied unless the run goes on.
    pub(super) fn prepare(&self, options: &OrdersOptions) -> anyhow::Result<()> {
        let ours = options.state.as_deref().unwrap_or(Path::new(OUT));
        if options.state.is_some() || options.dead_letters.is_none() || options.delivered.is_none()
        {
            std::fs::create_dir_all(ours)
                .map_err(|error| unusable(format!("{}: {error}", ours.display())))?;
        }
        let mut taken = Vec::from_iter(options.input.canonicalize());
        for path in [&self.dead_letters, &self.delivered] {
            let named = |error: io::Error| unusable(format!("{}: {error}", path.display()));
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(named)?;
            if !file.metadata().map_err(named)?.is_file() {
                continue;
            }
            let place = path.canonicalize().map_err(named)?;
            if taken.contains(&place) {
                let path = path.display();
                return Err(unusable(format!(
                    "{path}: it is read or written already; name another file"
                )));
            }
            taken.push(place);
            if !self.append {
                file.set_len(0).map_err(named)?;
            }
        }
        Ok(())
    }

    /// For a pipeline that is not run.
    pub(super) fn nowhere() -> Places {
        let nowhere = PathBuf::from("/dev/null");
        Places {
            dead_letters: nowhere.clone(),
            delivered: nowhere,
            append: true,
        }
    }

    pub(super) fn text(&self) -> String {
        let (dead_letters, delivered) = (self.dead_letters.display(), self.delivered.display());
        format!("dead letters   {dead_letters}\ndelivered      {delivered}")
    }
}
