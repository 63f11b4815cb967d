//! The command line: what can be asked for, and how a wrong request is told: one line, exit code 2.

#[cfg(feature = "kafka")]
mod kafka;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

#[cfg(feature = "kafka")]
pub(crate) use kafka::{Cluster, KafkaOptions, PlanOptions, Role};

/// The exit code of a request that cannot be carried out as it stands.
pub(crate) const USAGE: u8 = 2;

/// The real orders that come with the sources.
pub(crate) const ORDERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/cdnow-orders.csv");
/// Where results go that were given no place.
pub(crate) const OUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/out");

#[derive(Parser, Debug)]
#[command(
    name = "forebay",
    version,
    about = "Pipelines that stay bounded and accounted for",
    long_about = "Pipelines that stay bounded and accounted for.\n\n\
        `forebay orders` posts 69,659 real orders to an HTTP service it brings along, and accounts \
        for every one. `forebay http-log` runs that service alone."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Posts an event for each paid order to an HTTP service, and accounts for every one.
    #[command(long_about = ORDERS_HELP)]
    Orders(Box<OrdersOptions>),
    /// Runs the HTTP service alone: it takes orders and tells how often it got each.
    #[command(long_about = HTTP_LOG_HELP)]
    HttpLog(HttpLogOptions),
    /// Says how many partitions a topic needs, and why.
    #[cfg(feature = "kafka")]
    #[command(long_about = PLAN_HELP)]
    PlanPartitions(PlanOptions),
    /// Lists, shows, replays and discards the letters of a dead-letter topic.
    #[cfg(feature = "kafka")]
    #[command(long_about = crate::dead_letters::HELP)]
    DeadLetters(Box<crate::dead_letters::Options>),
}

const ORDERS_HELP: &str = "\
Reads orders, makes an ORDER_PAID event of each, posts it to an HTTP service, and accounts for every \
one.

    lines -> decode -> classify -> event -> buffer -> post -> delivered

A line that is no order, and an order of 0.00, goes to the dead-letter file with its line number, \
byte offset, reason and exact bytes. Orders of 100 and more are HIGH, of 20 and more MEDIUM, below \
LOW. The event holds orderId, userId, paidAt and orderItems (productId, orderQuantity); the data \
names no products, so one productId is derived from each order's number. \
Without --http the service runs in this process, on a free port.

With --overload there is more than can be done: orders are let in by class and served by class, the \
posts in flight adapt, and what is given up is counted by class and reason.

With --kafka a topic is put in between: the paying side reads the orders and writes their events to it, \
acknowledged by all replicas in sync, one user's orders in one partition; the log side reads the topic \
as a member of a group and posts the events. While the service is down events wait in the topic, and the \
paying side goes on. Several processes with --role log, each with its own --delivered, share the \
partitions; each ends when it is told to. An event may be posted more than once, if a process ends \
before it has committed; none is lost.

    lines -> decode -> classify -> event -> topic            (--role pay)
    topic -> event -> post -> delivered                      (--role log)

Input is CSV with a header (order_id, user_id, paid_on, quantity, amount_usd, in any order, others \
ignored; without a header, in this order) or NDJSON with the same names, one record a line; \
a name that ends in .gz is read as gzip.

The exit code is 0 if every order is accounted for, 1 if not or if the run was stopped, 2 if it \
could not begin. The first Ctrl-C or SIGTERM ends the reading and finishes what is inside; the \
second aborts.";

const HTTP_LOG_HELP: &str = "\
Runs the HTTP service alone: it takes orders and tells how often it got each.

The first line on standard output is the URL to post to. POST takes one event and counts its \
orderId; GET /stats answers {\"received\", \"distinct\", \"duplicates\", \"refused\"}. It ends on \
Ctrl-C or SIGTERM.";

#[cfg(feature = "kafka")]
const PLAN_HELP: &str = "\
Says how many partitions a topic needs, and why.

As many as carry the throughput, or twice as many as there are consumers, whichever is more; at least \
3, so that the topic can be shared out, and at most 100: each costs the brokers memory, files and time \
to fail over. Partitions can be added, but keys move to others then, and none can be taken away.

The exit code is 0, or 2 for figures that cannot be.";

/// What `forebay orders` is asked for.
#[derive(Args, Debug)]
pub(crate) struct OrdersOptions {
    /// Read this file; `-` is standard input [default: the orders that come with the sources]
    #[arg(long, value_name = "FILE", default_value = ORDERS, hide_default_value = true)]
    pub(crate) input: PathBuf,
    /// Post to this URL instead of the built-in service
    #[arg(long, value_name = "URL", conflicts_with_all = ["fail_rate", "slow_ms", "stall_order"])]
    pub(crate) http: Option<String>,
    /// Orders a second at most [default: as many as can be]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Offer that many times what the built-in service can do, which is measured first, for 10 s and
    /// more; orders are let in by class. The service answers 20 ms later unless --slow-ms says more
    #[arg(long, value_name = "TIMES", value_parser = times,
          conflicts_with_all = ["rate", "http", "state"])]
    pub(crate) overload: Option<f64>,
    /// Read the file that many times; from the second on, `.2`, `.3` .. is added to order ids
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..),
          conflicts_with = "state")]
    pub(crate) repeat: u32,
    /// Posts in flight at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: u16,
    /// Events that may wait before the posts
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) buffer: u32,
    /// Orders that may be read and not settled: the most a resumed run may repeat
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window: u32,
    /// How long a post may take before it is tried again
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout_ms: u64,
    /// How often an order is posted before the run stops [default: 20; with --kafka until it is taken]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tries: Option<u32>,
    #[command(flatten)]
    pub(crate) faults: Faults,
    /// Where bad lines go [default: dead-letters.ndjson in --state, else in pipelines/out]
    #[arg(long, value_name = "FILE")]
    pub(crate) dead_letters: Option<PathBuf>,
    /// Where delivered orders are written [default: delivered.ndjson, as above]
    #[arg(long, value_name = "FILE")]
    pub(crate) delivered: Option<PathBuf>,
    /// Save the position there each 100 ms, and go on from it if there is one
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Write a line a second there, as JSON: the time in ms since 1970, how many orders were delivered in
    /// that second (with --kafka: acknowledged by the brokers), and their p50 and p99 in us
    #[arg(long, value_name = "FILE")]
    pub(crate) timeline: Option<PathBuf>,
    #[cfg(feature = "kafka")]
    #[command(flatten)]
    pub(crate) kafka: KafkaOptions,
    /// Print the pipeline's picture and its bound instead of running it
    #[arg(long, value_name = "FORM")]
    pub(crate) print_topology: Option<Form>,
    /// Print the result as one JSON object on standard output, all else on standard error
    #[arg(long)]
    pub(crate) json: bool,
}

/// Faults of the built-in service.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Faults {
    /// The service refuses that share of the posts, before it takes note of them
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = share)]
    pub(crate) fail_rate: f64,
    /// The service answers that much later
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) slow_ms: u64,
    /// The service answers this order later by --stall-ms, the first time it comes
    #[arg(long, value_name = "ORDER_ID")]
    pub(crate) stall_order: Option<String>,
    /// How much later
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 2000,
        requires = "stall_order"
    )]
    pub(crate) stall_ms: u64,
}

/// What `forebay http-log` is asked for.
#[derive(Args, Debug)]
pub(crate) struct HttpLogOptions {
    /// The port on the loopback interface; 0 is a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port: u16,
    /// Write a line for each order received: nanoseconds since 1970, a space, its orderId
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// End when standard input is closed, too
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,
    #[command(flatten)]
    pub(crate) faults: Faults,
}

/// The form of a picture of the pipeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Form {
    Mermaid,
    Dot,
    Json,
}

fn times(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(times) if (0.1..=100.0).contains(&times) => Ok(times),
        _ => Err("not a number from 0.1 to 100".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("not a number from 0 to 1".to_owned()),
    }
}

/// A request that cannot be carried out: told in one line, with exit code 2.
#[derive(Debug)]
pub(crate) struct Unusable(pub(crate) String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

/// An [`Unusable`] for `what`, as an error of any kind.
pub(crate) fn unusable(what: impl Into<String>) -> anyhow::Error {
    Unusable(what.into()).into()
}

/// Reads the command line; an exit code if there is nothing to run.
pub(crate) fn parse() -> Result<Command, ExitCode> {
    Cli::try_parse()
        .map(|cli| cli.command)
        .map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = error.print();
                ExitCode::SUCCESS
            }
            ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                fail(&unusable(
                    "name a command, such as `orders`; --help says more",
                ))
            }
            _ => fail(&unusable(one_line(&error.to_string()))),
        })
}

/// The parser's message without its usage and hints to other pages.
fn one_line(message: &str) -> String {
    let lines: Vec<&str> = message
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let line = lines.join("; ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// Tells an error in one line on standard error.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    let line = format!("{error:#}").replace('\n', " ");
    eprintln!("forebay: {line}");
    if error.is::<Unusable>() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_declared_soundly() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_message_of_the_parser_becomes_one_line() {
        let error = Cli::try_parse_from(["forebay", "orders", "--conurrency", "3"]).map(|_| ());
        let line = one_line(&error.map_or_else(|error| error.to_string(), |()| String::new()));
        assert!(
            line.starts_with("unexpected argument '--conurrency'"),
            "{line}"
        );
        assert!(
            line.contains("--concurrency") && !line.contains('\n'),
            "{line}"
        );
    }
}
