//! `forebay`: the runnable pipelines, and the servers they need. `forebay --help` says all.

mod cli;
mod csv;
#[cfg(feature = "kafka")]
mod dead_letters;
mod event;
mod http_log;
mod input;
mod order;
mod orders;
mod overload;
mod pace;
#[cfg(feature = "kafka")]
mod plan;
mod post;
mod progress;
mod report;
mod signals;
mod status;

use std::process::ExitCode;

use cli::Command;

fn main() -> ExitCode {
    let command = match cli::parse() {
        Ok(command) => command,
        Err(code) => return code,
    };
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let result = runtime.block_on(async {
                match command {
                    Command::Orders(options) => orders::run(options).await,
                    Command::HttpLog(options) => http_log::run(options).await,
                    #[cfg(feature = "kafka")]
                    Command::PlanPartitions(options) => plan::run(options),
                    #[cfg(feature = "kafka")]
                    Command::DeadLetters(options) => dead_letters::run(*options).await,
                }
            });
            // A blocked read of standard input must not hold up the end.
            runtime.shutdown_background();
            result
        });
    match result {
        Ok(code) => code,
        Err(error) => cli::fail(&error),
    }
}
