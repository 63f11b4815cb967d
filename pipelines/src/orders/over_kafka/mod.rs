//! The order pipeline in two sides with a topic in between: one that pays, and one that logs.

mod ahead;
mod cluster;
mod outcome;
mod sides;

pub(crate) use outcome::Outcome;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::http::Uri;
use forebay::error::{Refused, RunError};
use forebay::kafka::ConsumerHandle;
use forebay::runtime::Running;
use forebay::sink::Written;

use super::places::Places;
use super::watch::Watch;
use super::{never_began, print, serve, tell, timeline};
use crate::cli::{self, Cluster, OrdersOptions, Role, unusable};
use crate::http_log::{HttpLog, Stats};
use crate::input::Input;
use crate::post::{Poster, parse_url};
use crate::progress::Progress;
use crate::report::Report;
use crate::signals::Signals;
use cluster::Opened;

/// How often it looks whether the log side has caught up.
const LOOK: Duration = Duration::from_millis(100);

/// What is asked for on a side that this process is not, or of a cluster that cannot do it.
fn check(options: &OrdersOptions, cluster: &Cluster) -> anyhow::Result<()> {
    let role = options.kafka.role;
    if *cluster == Cluster::Embedded {
        if role != Role::Both {
            return Err(unusable(
                "--kafka embedded: nobody else can reach it; leave --role out, or name a broker",
            ));
        }
        if options.state.is_some() {
            return Err(unusable(
                "--kafka embedded: its records are gone with the process, so it cannot go on from \
                 --state; leave that out, or name a broker",
            ));
        }
    }
    let faults = &options.faults;
    let has_faults = faults.fail_rate > 0.0 || faults.slow_ms > 0 || faults.stall_order.is_some();
    if role == Role::Pay && (options.http.is_some() || has_faults || options.delivered.is_some()) {
        return Err(unusable(
            "--role pay posts nothing: leave --http, --delivered and the faults of the service out",
        ));
    }
    let reads = options.input.as_os_str() != cli::ORDERS
        || options.repeat > 1
        || options.rate.is_some()
        || options.dead_letters.is_some()
        || options.state.is_some();
    if role == Role::Log && reads {
        return Err(unusable(
            "--role log reads the topic alone, from where its group is: leave --input, --repeat, \
             --rate, --dead-letters and --state out",
        ));
    }
    Ok(())
}

/// `forebay orders --kafka`.
pub(super) async fn run(options: Box<OrdersOptions>, cluster: Cluster) -> anyhow::Result<ExitCode> {
    check(&options, &cluster)?;
    let role = options.kafka.role;
    let input = match role {
        Role::Log => None,
        Role::Pay | Role::Both => Some(Input::open(&options).await?),
    };
    if let Some(form) = options.print_topology {
        return print(&sides::topology(&options, input)?, form);
    }
    let url = options.http.as_deref().map(parse_url).transpose()?;
    let signals = Signals::listen()?;
    let opened = Opened::open(&options, cluster).await?;
    let service = match role {
        Role::Pay => None,
        Role::Log | Role::Both => Some(Service::open(&options, url).await?),
    };
    let places = Places::of(&options);
    places.prepare(&options)?;
    let total = input.as_ref().and_then(|input| input.total);
    let run = Run {
        watch: Watch {
            signals,
            progress: Progress::new(total, title(&options, &opened, service.as_ref())),
            timeline: timeline(&options)?,
        },
        options,
        opened,
        places,
        service,
    };
    match input {
        None => run.log().await,
        Some(input) if run.service.is_none() => run.pay(input).await,
        Some(input) => run.both(input).await,
    }
}

fn title(options: &OrdersOptions, opened: &Opened, service: Option<&Service>) -> String {
    let topic = format!("{} at {}", options.kafka.topic, opened.name);
    let mut stops = Vec::new();
    if options.kafka.role != Role::Log {
        stops.push(options.input.display().to_string());
    }
    stops.push(topic);
    stops.extend(service.map(|service| service.url.to_string()));
    stops.join(" -> ")
}

/// The service that events are posted to.
struct Service {
    own: Option<HttpLog>,
    url: Uri,
    poster: Poster,
}

impl Service {
    async fn open(options: &OrdersOptions, url: Option<Uri>) -> anyhow::Result<Service> {
        let (own, url) = serve(options, url).await?;
        let poster = Poster::new(url.clone(), usize::from(options.concurrency));
        if own.is_none() && options.kafka.role == Role::Both {
            // A log side by itself may be there before its service is.
            poster.probe().await?;
        }
        Ok(Service { own, url, poster })
    }

    async fn stats(&self) -> Option<Stats> {
        match &self.own {
            Some(service) => Some(service.stats()),
            None => self.poster.stats().await,
        }
    }
}

fn refused(why: Refused) -> anyhow::Error {
    unusable(why.to_string())
}

/// A run that has all it needs.
struct Run {
    options: Box<OrdersOptions>,
    opened: Opened,
    places: Places,
    service: Option<Service>,
    watch: Watch,
}

impl Run {
    fn start_paying(&self, input: Input) -> anyhow::Result<Running<()>> {
        let pipeline = sides::paying(&self.options, &self.opened, input, &self.places)?;
        pipeline.run().map_err(refused)
    }

    fn start_logging(&self) -> anyhow::Result<(ConsumerHandle, Running<Written>)> {
        let service = self.service.as_ref().context("no service to post to")?;
        let poster = service.poster.clone();
        let (handle, pipeline) = sides::logging(&self.options, &self.opened, poster, &self.places)?;
        Ok((handle, pipeline.run().map_err(refused)?))
    }

    async fn pay(mut self, input: Input) -> anyhow::Result<ExitCode> {
        let mut paying = self.start_paying(input)?;
        let started = Instant::now();
        let result = self.watch.over(&mut paying).await;
        self.watch.progress.finish();
        let report = Report::new(&paying.snapshot(), started.elapsed(), None, false);
        self.end(report, None, result.map(drop)).await
    }

    async fn log(mut self) -> anyhow::Result<ExitCode> {
        let (_handle, mut logging) = self.start_logging()?;
        let started = Instant::now();
        let result = self.watch.over(&mut logging).await;
        self.watch.progress.finish();
        let stats = self.stats().await;
        let report = Report::new(&logging.snapshot(), started.elapsed(), stats, false);
        self.end(report, None, result.map(drop)).await
    }

    async fn both(mut self, input: Input) -> anyhow::Result<ExitCode> {
        let (handle, mut logging) = self.start_logging()?;
        let started = Instant::now();
        let mut paying = self.start_paying(input)?;
        let mut result = tokio::select! {
            biased;
            paid = self.watch.over(&mut paying) => paid,
            // It ends when it is told to, or because it cannot go on: then nobody is to wait for it.
            logged = logging.join() => {
                paying.abort().await;
                logged.map(drop)
            }
        };
        let paid_in = started.elapsed();
        if let Err(error) = &result
            && paying.snapshot().total().entered == 0
            && let Some(why) = never_began(error)
        {
            logging.abort().await;
            return Err(why);
        }
        if !logging.is_ended() {
            let logged = self.finish_logging(&handle, &mut logging).await;
            result = result.and(logged);
        }
        self.watch.progress.finish();
        let logged = Report::new(&logging.snapshot(), started.elapsed(), None, false);
        let stats = self.stats().await;
        let report = Report::new(&paying.snapshot(), paid_in, stats, false);
        self.end(report, Some(logged), result).await
    }

    /// Waits until the log side has caught up, or the user wants no more, and has it end.
    async fn finish_logging(
        &mut self,
        handle: &ConsumerHandle,
        logging: &mut Running<Written>,
    ) -> Result<(), RunError> {
        self.watch.progress.say("all is paid; the log catches up");
        loop {
            tokio::select! {
                biased;
                () = self.watch.signals.next() => break,
                ended = logging.join() => return ended.map(drop),
                () = tokio::time::sleep(LOOK) => {}
            }
            // What others of the group have left is seen from outside alone.
            let own = handle.lag();
            let is_quiet = own.iter().all(|one| one.records().unwrap_or(0) == 0);
            if is_quiet && self.opened.lag(&self.options).await == Some(0) {
                break;
            }
        }
        logging.stopper().drain();
        self.watch.timeline = None;
        self.watch.over(logging).await.map(drop)
    }

    async fn stats(&self) -> Option<Stats> {
        match &self.service {
            Some(service) => service.stats().await,
            None => None,
        }
    }

    /// Tells the result.
    async fn end(
        self,
        mut report: Report,
        logged: Option<Report>,
        result: Result<(), RunError>,
    ) -> anyhow::Result<ExitCode> {
        let role = self.options.kafka.role;
        let lag = match role {
            Role::Pay => None,
            Role::Log | Role::Both => self.opened.lag(&self.options).await,
        };
        let is_embedded = self.opened.embedded.is_some();
        if let Some(left) = lag.filter(|lag| *lag > 0 && is_embedded) {
            report.refute(format!("{left} events were left in the embedded cluster"));
        }
        if let Some(logged) = &logged {
            if is_embedded && result.is_ok() {
                outcome::compare(&mut report, logged);
            }
            for what in &logged.wrong {
                report.refute(format!("log side: {what}"));
            }
        }
        report.kafka = Some(Outcome {
            role: role.name(),
            cluster: self.opened.name.clone(),
            topic: self.options.kafka.topic.clone(),
            group: (role != Role::Pay).then(|| self.options.kafka.group.clone()),
            partitions: self.opened.partitions,
            lag,
            log: logged.map(Box::new),
        });
        let files = match role {
            Role::Pay => format!("dead letters   {}", self.places.dead_letters.display()),
            Role::Log => format!("delivered      {}", self.places.delivered.display()),
            Role::Both => self.places.text(),
        };
        tell(&report, &self.options, &files)?;
        result.context("the run was stopped")?;
        Ok(if report.balanced {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
