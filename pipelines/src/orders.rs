//! The order pipeline: from lines of a file to posts that a service has taken.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::http::Uri;
use bytes::Bytes;
use forebay::control::{Budget, Retry, WhenSpent};
use forebay::dead_letter::DeadLetterFile;
use forebay::error::{Cause, RunError};
use forebay::flow::{DeadLetters, OnError, Pipeline};
use forebay::operator::{Calls, Concurrency};
use forebay::runtime::Running;
use forebay::sink::Written;
use forebay::source::{self, LinesError};
use forebay::topology::Guarantee;

use crate::cli::{Form, OUT, OrdersOptions, unusable};
use crate::event::OrderPaid;
use crate::http_log::HttpLog;
use crate::input::Input;
use crate::order::Order;
use crate::overload::Overload;
use crate::pace::Pace;
use crate::post::{PostError, Poster, parse_url};
use crate::progress::{self, Progress};
use crate::report::Report;
use crate::signals::Signals;

/// Bad lines that may wait for the disk.
const DEAD_LETTERS: usize = 64;
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The retries of all posts together: three tenths of the posts, and a hundred a second besides. When
/// they are used up, failed posts wait for their turn, and the reading with them.
fn retry(tries: u32) -> Retry {
    let budget = Budget::share(0.3)
        .per_second(100.0)
        .reserve(1000.0)
        .when_spent(WhenSpent::Wait);
    Retry::tries(tries)
        .backoff(BACKOFF, BACKOFF_MAX)
        .budget(budget)
}

/// Where results go.
struct Places {
    dead_letters: PathBuf,
    delivered: PathBuf,
    /// A run that is resumed goes on with the files of the one before.
    append: bool,
}

impl Places {
    fn of(options: &OrdersOptions) -> Places {
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
    fn prepare(&self, options: &OrdersOptions) -> anyhow::Result<()> {
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
}

/// Declares the pipeline. Nothing runs yet.
fn declare(
    options: &OrdersOptions,
    input: Input,
    poster: Poster,
    places: &Places,
    overload: Option<&Overload>,
) -> anyhow::Result<Pipeline<Written>> {
    let letters = DeadLetterFile::open(&places.dead_letters)
        .map_err(|error| unusable(format!("{}: {error}", places.dead_letters.display())))?;
    let dead_letters = DeadLetters::new(DEAD_LETTERS, letters).named("dead letters");
    let decode = input.decode;
    let mut lines = source::lines(input.lines)
        .window(options.window as usize)
        .named("lines");
    if overload.is_some() {
        lines = lines.allow_loss();
    }
    if let Some(rate) = options.rate {
        lines = lines.stage("pace", |input| Pace::new(input, rate));
    }
    let orders = lines
        .try_map(move |line| decode.decode(line))
        .or_dead_letter(&dead_letters)
        .named("decode")
        .classify(Order::class)
        .named("classify");
    let window = options.window as usize;
    let (events, calls) = match overload {
        Some(overload) => (overload.admit(orders), overload.calls(window)),
        None => {
            let events = orders
                .map(|order| OrderPaid::from(order).json())
                .named("event")
                .buffer(options.buffer as usize)
                .named("buffer");
            // One slow post holds up the order of results, not the posts behind it.
            let concurrency = Concurrency::limit(usize::from(options.concurrency));
            (events, Calls::from(concurrency.window(window)))
        }
    };
    let pipeline = events
        .try_map_async(calls, move |event: Bytes| poster.clone().post(event))
        .timeout(Duration::from_millis(options.timeout_ms))
        .retry(retry(options.tries))
        .dead_letters(&dead_letters)
        .on_error(|error, _| match error {
            PostError::Unavailable(_) => OnError::Retry,
            PostError::Refused(_) => OnError::DeadLetter,
            PostError::Misdirected(..) => OnError::Stop,
        })
        .named("post")
        .to_file(&places.delivered)
        .named("delivered");
    Ok(match overload {
        Some(_) => pipeline,
        None => pipeline.guarantee(Guarantee::AtLeastOnce),
    })
}

/// `forebay orders`.
pub(crate) async fn run(mut options: Box<OrdersOptions>) -> anyhow::Result<ExitCode> {
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
    let mut signals = Signals::listen()?;
    let (service, url) = serve(&options, url).await?;
    let poster = Poster::new(url.clone(), usize::from(options.concurrency));
    poster.probe().await?;
    places.prepare(&options)?;

    let title = format!("{} -> {url}", options.input.display());
    let mut progress = Progress::new(input.total, title);
    let pipeline = declare(&options, input, poster.clone(), &places, overload.as_ref())?;
    let started = Instant::now();
    let mut running = pipeline.run()?;
    let result = watch(&mut running, &mut signals, &mut progress).await;
    let took = started.elapsed();
    progress.finish();

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
    tell(&report, &options, &places)?;
    result.context("the run was stopped")?;
    Ok(if report.balanced {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
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

/// Waits for the end, shows how far it is, and obeys signals: the first drains, the second aborts.
async fn watch(
    running: &mut Running<Written>,
    signals: &mut Signals,
    progress: &mut Progress,
) -> Result<Written, RunError> {
    let mut ticks = tokio::time::interval(progress::EVERY);
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            () = signals.next() => {
                if draining {
                    progress.say("aborting");
                    running.abort().await;
                } else {
                    progress.say("finishing what is inside; once more aborts");
                    draining = true;
                    running.stopper().drain();
                }
            }
            result = running.join() => return result,
            _ = ticks.tick() => progress.show(&running.snapshot()),
        }
    }
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

fn tell(report: &Report, options: &OrdersOptions, places: &Places) -> anyhow::Result<()> {
    let files = format!(
        "dead letters   {}\ndelivered      {}",
        places.dead_letters.display(),
        places.delivered.display()
    );
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
    let nowhere = PathBuf::from("/dev/null");
    let places = Places {
        dead_letters: nowhere.clone(),
        delivered: nowhere,
        append: true,
    };
    let topology = declare(options, input, poster, &places, overload)?.topology();
    let picture = match form {
        Form::Mermaid => topology.mermaid(),
        Form::Dot => topology.dot(),
        Form::Json => topology.json(),
    };
    writeln!(std::io::stdout(), "{}", picture.trim_end()).context("standard output")?;
    Ok(ExitCode::SUCCESS)
}
