//! The order pipeline: from lines of a file to posts that a service has taken.

#[cfg(feature = "kafka")]
pub(crate) mod over_kafka;
mod parts;
mod places;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use axum::http::Uri;
use forebay::error::{Cause, RunError};
use forebay::flow::Pipeline;
use forebay::sink::Written;
use forebay::source::LinesError;
use forebay::topology::{Guarantee, Topology};

use crate::cli::{Form, OrdersOptions, unusable};
use crate::event::OrderPaid;
use crate::http_log::HttpLog;
use crate::input::Input;
use crate::overload::Overload;
use crate::post::{Poster, parse_url};
use crate::progress::Progress;
use crate::report::Report;
use crate::signals::Signals;
use places::Places;
use watch::{Timeline, Watch};

/// Declares the pipeline. Nothing runs yet.
fn declare(
    options: &OrdersOptions,
    input: Input,
    poster: Poster,
    places: &Places,
    overload: Option<&Overload>,
) -> anyhow::Result<Pipeline<Written>> {
    let dead_letters = parts::dead_letter_file(places)?;
    let orders = parts::read(options, input, &dead_letters, overload.is_some());
    let window = options.window as usize;
    let (events, calls) = match overload {
        Some(overload) => (overload.admit(orders), overload.calls(window)),
        None => {
            let events = orders
                .map(|order| OrderPaid::from(order).json())
                .named("event")
                .buffer(options.buffer as usize)
                .named("buffer");
            (events, parts::calls(options))
        }
    };
    let tries = options.tries.unwrap_or(parts::TRIES);
    let posts = parts::Posts {
        calls,
        poster,
        tries,
        dead_letters,
    };
    let pipeline = posts.of(events, options, places);
    Ok(match overload {
        Some(_) => pipeline,
        None => pipeline.guarantee(Guarantee::AtLeastOnce),
    })
}

/// `forebay orders`.
pub(crate) async fn run(mut options: Box<OrdersOptions>) -> anyhow::Result<ExitCode> {
    #[cfg(feature = "kafka")]
    if let Some(cluster) = options.kafka.cluster.take() {
        return over_kafka::run(options, cluster).await;
    }
    let overload = match options.overload {
        Some(times) => Some(Overload::measure(&mut options, times).await?),
        None => None,
    };
    let input = Input::open(&options).await?;
    let places = Places::of(&options);
    if let Some(form) = options.print_topology {
        return print_topology(&options, input, form, overload.as_ref());
    }
    let url = options.http.as_deref().map(parse_url).transpose()?;
    let signals = Signals::listen()?;
    let (service, url) = serve(&options, url).await?;
    let poster = Poster::new(url.clone(), usize::from(options.concurrency));
    poster.probe().await?;
    places.prepare(&options)?;

    let title = format!("{} -> {url}", options.input.display());
    let mut watch = Watch {
        signals,
        progress: Progress::new(input.total, title),
        timeline: timeline(&options)?,
    };
    let pipeline = declare(&options, input, poster.clone(), &places, overload.as_ref())?;
    let started = Instant::now();
    let mut running = pipeline.run()?;
    let result = watch.over(&mut running).await;
    let took = started.elapsed();
    watch.progress.finish();

    let snapshot = running.snapshot();
    if let Err(error) = &result
        && snapshot.total().entered == 0
        && let Some(why) = never_began(error)
    {
        return Err(why);
    }
    let stats = match &service {
        Some(service) => Some(service.stats()),
        None => poster.stats().await,
    };
    let mut report = Report::new(&snapshot, took, stats, service.is_some());
    report.overload = overload.map(|overload| overload.outcome(&snapshot, took));
    tell(&report, &options, &places.text())?;
    result.context("the run was stopped")?;
    Ok(if report.balanced {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn timeline(options: &OrdersOptions) -> anyhow::Result<Option<Timeline>> {
    let path = options.timeline.as_deref();
    path.map(Timeline::create).transpose()
}

/// The service that was named, or one of our own.
async fn serve(
    options: &OrdersOptions,
    url: Option<Uri>,
) -> anyhow::Result<(Option<HttpLog>, Uri)> {
    if let Some(url) = url {
        return Ok((None, url));
    }
    let service = HttpLog::start(0, options.faults.clone(), None).await?;
    let url = parse_url(&service.url())?;
    Ok((Some(service), url))
}

/// The input or the state in words, if it was their fault that no order was read.
fn never_began(error: &RunError) -> Option<anyhow::Error> {
    let RunError::Stopped {
        cause: Cause::Error(cause),
        ..
    } = error
    else {
        return None;
    };
    cause
        .is::<LinesError>()
        .then(|| unusable(cause.to_string()))
}

/// Prints the report, and where the rest is.
fn tell(report: &Report, options: &OrdersOptions, files: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let told = if options.json {
        eprintln!("{}\n{files}", report.text());
        serde_json::to_writer(&mut stdout, report).context("the result")?;
        writeln!(stdout)
    } else {
        writeln!(stdout, "{}\n{files}", report.text())
    };
    told.context("standard output")
}

fn print_topology(
    options: &OrdersOptions,
    input: Input,
    form: Form,
    overload: Option<&Overload>,
) -> anyhow::Result<ExitCode> {
    let poster = Poster::new(Uri::from_static("http://localhost"), 1);
    let topology = declare(options, input, poster, &Places::nowhere(), overload)?.topology();
    print(&topology, form)
}

fn print(topology: &Topology, form: Form) -> anyhow::Result<ExitCode> {
    let picture = match form {
        Form::Mermaid => topology.mermaid(),
        Form::Dot => topology.dot(),
        Form::Json => topology.json(),
    };
    writeln!(std::io::stdout(), "{}", picture.trim_end()).context("standard output")?;
    Ok(ExitCode::SUCCESS)
}
