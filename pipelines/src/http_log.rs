//! The HTTP service that takes orders: it counts each, so that a run can be held to its word, and
//! has faults when told to.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cli::{Faults, HttpLogOptions, unusable};
use crate::signals::Signals;

/// What a service was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Posts taken.
    pub(crate) received: u64,
    /// Different order ids among them.
    pub(crate) distinct: u64,
    /// Posts of an order that was taken before.
    pub(crate) duplicates: u64,
    /// Posts refused by --fail-rate.
    pub(crate) refused: u64,
}

/// The service while it runs. Dropping it ends it.
pub(crate) struct HttpLog {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    task: JoinHandle<std::io::Result<()>>,
}

struct Ledger {
    faults: Faults,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// How often each order came.
    orders: HashMap<String, u32>,
    stats: Stats,
    random: u64,
    log: Option<File>,
    failed: Option<std::io::Error>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    order_id: String,
}

impl HttpLog {
    /// Starts it on that port of the loopback interface; 0 is a free one.
    pub(crate) async fn start(
        port: u16,
        faults: Faults,
        log: Option<&Path>,
    ) -> anyhow::Result<HttpLog> {
        let log = log
            .map(|path| {
                File::create(path).map_err(|error| unusable(format!("{}: {error}", path.display())))
            })
            .transpose()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|error| unusable(format!("port {port}: {error}")))?;
        let address = listener.local_addr().context("the service's address")?;
        let book = Mutex::new(Book {
            log,
            ..Book::default()
        });
        let ledger = Arc::new(Ledger { faults, book });
        let routes = Router::new()
            .route("/orders", post(take))
            .route("/stats", get(stats))
            .with_state(Arc::clone(&ledger));
        let task = tokio::spawn(axum::serve(listener, routes).into_future());
        Ok(HttpLog {
            address,
            ledger,
            task,
        })
    }

    /// Where to post to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/orders", self.address)
    }

    pub(crate) fn stats(&self) -> Stats {
        self.ledger.book().stats
    }

    /// Why the log could not be written, if it could not.
    fn failure(&self) -> Option<std::io::Error> {
        self.ledger.book().failed.take()
    }
}

impl Drop for HttpLog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        match self.book.lock() {
            Ok(book) => book,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl Book {
    /// Whether this post is refused: a share of them all, spread by a fixed sequence (`SplitMix64`),
    /// so that two runs meet the same faults.
    fn refuses(&mut self, share: f64) -> bool {
        if share <= 0.0 {
            return false;
        }
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let refused = ((mixed >> 11) as f64 / (1_u64 << 53) as f64) < share;
        self.stats.refused += u64::from(refused);
        refused
    }

    fn take(&mut self, order_id: String) {
        let at = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        if let Some(log) = &mut self.log {
            // One write a line, unbuffered: what was received can be read whenever this process ends.
            let written = log.write_all(format!("{} {order_id}\n", at.as_nanos()).as_bytes());
            if let Err(error) = written {
                self.failed.get_or_insert(error);
            }
        }
        self.stats.received += 1;
        let times = self.orders.entry(order_id).or_default();
        *times += 1;
        if *times == 1 {
            self.stats.distinct += 1;
        } else {
            self.stats.duplicates += 1;
        }
    }
}

async fn take(State(ledger): State<Arc<Ledger>>, body: Bytes) -> StatusCode {
    let Ok(posted) = serde_json::from_slice::<Posted>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let faults = &ledger.faults;
    let (refused, stalls) = {
        let mut book = ledger.book();
        let stalls = faults.stall_order.as_ref() == Some(&posted.order_id)
            && !book.orders.contains_key(&posted.order_id);
        let refused = book.refuses(faults.fail_rate);
        if !refused {
            book.take(posted.order_id);
        }
        (refused, stalls)
    };
    let wait_ms = wait_ms(faults, stalls);
    if wait_ms > 0 {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
    if refused {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::NO_CONTENT
    }
}

/// How much later a post is answered.
fn wait_ms(faults: &Faults, stalls: bool) -> u64 {
    let stall_ms = if stalls { faults.stall_ms } else { 0 };
    faults.slow_ms.saturating_add(stall_ms)
}

async fn stats(State(ledger): State<Arc<Ledger>>) -> Result<String, StatusCode> {
    let stats = ledger.book().stats;
    serde_json::to_string(&stats).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// `forebay http-log`.
pub(crate) async fn run(options: HttpLogOptions) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let server = HttpLog::start(options.port, options.faults, options.log.as_deref()).await?;
    writeln!(std::io::stdout(), "{}", server.url()).context("standard output")?;
    let closed = async {
        if options.until_stdin_closes {
            let (told, closed) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin().take(u64::MAX), &mut std::io::sink());
                let _ = told.send(());
            });
            let _ = closed.await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = signals.next() => {}
        () = closed => {}
    }
    let stats = serde_json::to_string(&server.stats()).context("the figures")?;
    eprintln!("{stats}");
    match server.failure() {
        Some(error) => Err(error).context("the log could not be written"),
        None => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_refusals_is_kept_and_repeats() {
        let refusals = || {
            let mut book = Book::default();
            (0..10_000)
                .filter(|_| book.refuses(0.2))
                .collect::<Vec<_>>()
        };
        assert_eq!(refusals(), refusals());
        assert!(
            (1900..2100).contains(&refusals().len()),
            "{}",
            refusals().len()
        );
        assert!(!Book::default().refuses(0.0) && Book::default().refuses(1.0));
    }

    #[test]
    fn an_order_stalls_on_top_of_what_is_slow_and_both_may_be_for_ever() {
        let faults = |slow_ms, stall_ms| Faults {
            slow_ms,
            stall_ms,
            ..Faults::default()
        };
        assert_eq!(wait_ms(&faults(5, 2000), false), 5);
        assert_eq!(wait_ms(&faults(5, 2000), true), 2005);
        assert_eq!(wait_ms(&faults(u64::MAX - 1, 2000), true), u64::MAX);
    }

    #[test]
    fn an_order_that_comes_again_is_a_duplicate() {
        let mut book = Book::default();
        for order in ["1", "2", "1", "1"] {
            book.take(order.to_owned());
        }
        let expected = Stats {
            received: 4,
            distinct: 2,
            duplicates: 2,
            refused: 0,
        };
        assert_eq!(book.stats, expected);
    }
}
