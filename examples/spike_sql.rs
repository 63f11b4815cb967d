//! A queue in a database as a source, and a table as a sink, with forebay's public API alone.
//!
//! The source *claims* rows with a lease, hands them over, and marks each as done once it is
//! settled, in whatever order that happens; a row whose element failed is released, one whose lease
//! ran out is claimed again. The sink writes one statement of many rows a batch, and settles its
//! elements only when that statement is committed.
//!
//! ```sh
//! cargo run -p forebay-pipelines --features sql --example spike_sql
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use forebay::chunk::{Chunk, Element, Meta};
use forebay::error::Stop;
use forebay::flow::{Accounts, Flow};
use forebay::mark::{Barrier, CommitToken, Mark};
use forebay::operator::{Context, Control, Demand, Fill, Held, Operator, Sink};
use forebay::outcome::{Kind, Outcome, Reason};
use forebay::position::Tracker;
use forebay::time::{self, Sleep};
use forebay::topology::NodeSpec;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{QueryBuilder, Sqlite};

type Query<T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send>>;

/// A row of the queue, as claimed.
#[derive(Clone, Debug)]
struct Row {
    id: i64,
    payload: String,
}

/// A claim on a row: its number grows with each claim, so that an older one can be told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Claim {
    id: i64,
    number: i64,
}

const SCHEMA: &str = "
    CREATE TABLE queue (
        id INTEGER PRIMARY KEY,
        payload TEXT NOT NULL,
        done INTEGER NOT NULL DEFAULT 0,
        claims INTEGER NOT NULL DEFAULT 0,
        claimed_until_ms INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE written (queue_id INTEGER NOT NULL, payload TEXT NOT NULL);
    CREATE INDEX written_queue_id ON written (queue_id);";

/// The database's clock: the workers of a queue need not agree on theirs.
const NOW_MS: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/// Counters a test reads.
#[derive(Default)]
struct Seen {
    /// Rows marked as done.
    marked: AtomicU64,
    /// Marks that came too late: somebody else had claimed the row meanwhile.
    late: AtomicU64,
    /// Rows given back after a failure.
    released: AtomicU64,
    /// Batches that were rolled back.
    rolled_back: AtomicU64,
    /// Batches committed.
    committed: AtomicU64,
}

/// Rows by claims.
struct Claims {
    pool: SqlitePool,
    lease: Duration,
    batch: usize,
    accounts: Accounts,
    tracker: Option<Tracker<Claim>>,
    /// Claims handed over and not yet dealt with, the first of them with this sequence number.
    open: VecDeque<Option<Claim>>,
    first: u64,
    /// Claimed, and not handed over yet: not elements of the flow so far.
    ready: VecDeque<(Row, Claim)>,
    claiming: Option<Query<Claimed>>,
    /// What is to be told to the database next, and what is being told.
    done: Vec<Claim>,
    failed: Vec<Claim>,
    telling: Option<Query<u64>>,
    told: (usize, usize),
    rest: Option<Pin<Box<Sleep>>>,
    ended: bool,
    flushed: bool,
    seen: Arc<Seen>,
}

enum Claimed {
    Rows(Vec<(Row, Claim)>),
    /// Nothing to claim now; whether all rows are done.
    None {
        all_done: bool,
    },
}

fn claims(pool: &SqlitePool, lease: Duration, seen: &Arc<Seen>) -> Flow<Row> {
    let (pool, seen) = (pool.clone(), Arc::clone(seen));
    // What is claimed and not handed over is not in the flow: the stage holds no element.
    Flow::from_operator(NodeSpec::new("claims"), move |accounts| Claims {
        pool,
        lease,
        batch: 64,
        accounts,
        tracker: None,
        open: VecDeque::new(),
        first: 0,
        ready: VecDeque::new(),
        claiming: None,
        done: Vec::new(),
        failed: Vec::new(),
        telling: None,
        told: (0, 0),
        rest: None,
        ended: false,
        flushed: false,
        seen,
    })
}

async fn claim(pool: SqlitePool, lease: Duration, count: u32) -> Result<Claimed, sqlx::Error> {
    let sql = format!(
        "UPDATE queue SET claims = claims + 1, claimed_until_ms = {NOW_MS} + ?
         WHERE id IN (SELECT id FROM queue WHERE done = 0 AND claimed_until_ms < {NOW_MS}
                      ORDER BY id LIMIT ?)
         RETURNING id, payload, claims"
    );
    let mut rows: Vec<(i64, String, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(lease.as_millis() as i64)
        .bind(count)
        .fetch_all(&pool)
        .await?;
    if rows.is_empty() {
        let (left,): (i64,) = sqlx::query_as("SELECT count(*) FROM queue WHERE done = 0")
            .fetch_one(&pool)
            .await?;
        return Ok(Claimed::None {
            all_done: left == 0,
        });
    }
    rows.sort_by_key(|(id, ..)| *id);
    let rows = rows.into_iter().map(|(id, payload, number)| {
        let claim = Claim { id, number };
        (Row { id, payload }, claim)
    });
    Ok(Claimed::Rows(rows.collect()))
}

/// Marks rows as done and gives others back, where the claim still stands. How many it was.
async fn tell(pool: SqlitePool, done: Vec<Claim>, failed: Vec<Claim>) -> Result<u64, sqlx::Error> {
    let mut told = 0;
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    for (set, claims) in [("done = 1", done), ("claimed_until_ms = 0", failed)] {
        if claims.is_empty() {
            continue;
        }
        let mut query = QueryBuilder::<Sqlite>::new("UPDATE queue SET ");
        query
            .push(set)
            .push(" WHERE done = 0 AND (id, claims) IN (");
        query.push_values(claims, |mut row, claim| {
            row.push_bind(claim.id).push_bind(claim.number);
        });
        query.push(")");
        told += query
            .build()
            .execute(&mut *transaction)
            .await?
            .rows_affected();
    }
    transaction.commit().await?;
    Ok(told)
}

impl Claims {
    /// Learns what was settled, in whatever order, and what failed.
    fn look(&mut self, tracker: &Tracker<Claim>) {
        while let Some(unresolved) = tracker.take_unresolved() {
            let index = unresolved.sequence.checked_sub(self.first);
            let claim = index
                .and_then(|index| self.open.get_mut(index as usize))
                .and_then(Option::take);
            self.failed.extend(claim);
            tracker.pass(&unresolved);
        }
        let (settled, above) = tracker.settled_above();
        while self.first < settled.sequence
            && let Some(claim) = self.open.pop_front()
        {
            self.done.extend(claim);
            self.first += 1;
        }
        for (index, open) in self.open.iter_mut().enumerate() {
            let word = above.get(index / 64).copied().unwrap_or(0);
            if word & (1 << (index % 64)) != 0 {
                self.done.extend(open.take());
            }
        }
    }

    /// Tells the database. Ready when it knows all.
    fn poll_tell(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        loop {
            if let Some(telling) = &mut self.telling {
                let told = ready!(telling.as_mut().poll(cx.task())).map_err(Stop::error)?;
                self.telling = None;
                let (done, failed) = self.told;
                let late = (done + failed) as u64 - told;
                self.seen.late.fetch_add(late, Ordering::Relaxed);
                self.seen.marked.fetch_add(done as u64, Ordering::Relaxed);
                self.seen
                    .released
                    .fetch_add(failed as u64, Ordering::Relaxed);
            }
            let Some(tracker) = self.tracker.clone() else {
                return Poll::Ready(Ok(()));
            };
            // Asking for quiet registers for any progress; looking comes after, so none is missed.
            let _ = tracker.poll_quiet(cx.task());
            self.look(&tracker);
            if self.done.is_empty() && self.failed.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let (done, failed) = (
                std::mem::take(&mut self.done),
                std::mem::take(&mut self.failed),
            );
            self.told = (done.len(), failed.len());
            self.telling = Some(Box::pin(tell(self.pool.clone(), done, failed)));
        }
    }

    /// Claims rows when there are none to hand over. Ready when there are, or when it has ended.
    fn poll_claim(&mut self, cx: &mut Context<'_, '_>, count: usize) -> Poll<Result<(), Stop>> {
        while self.ready.is_empty() && !self.ended {
            if let Some(rest) = &mut self.rest {
                ready!(rest.as_mut().poll(cx.task()));
                self.rest = None;
            }
            let (pool, lease) = (self.pool.clone(), self.lease);
            let claiming = self
                .claiming
                .get_or_insert_with(|| Box::pin(claim(pool, lease, count as u32)));
            let claimed = ready!(claiming.as_mut().poll(cx.task())).map_err(Stop::error)?;
            self.claiming = None;
            match claimed {
                Claimed::Rows(rows) => self.ready.extend(rows),
                Claimed::None { all_done: true } => self.ended = true,
                Claimed::None { all_done: false } => {
                    self.rest = Some(Box::pin(time::sleep(Duration::from_millis(20))));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Operator<Row> for Claims {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Row>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let accounts = &self.accounts;
        let tracker = self
            .tracker
            .get_or_insert_with(|| accounts.tracker())
            .clone();
        // Whatever the demand: what is settled is told to the database.
        let all_told = match self.poll_tell(cx) {
            Poll::Pending => false,
            Poll::Ready(result) => result.map(|()| true)?,
        };
        if self.ended && self.ready.is_empty() {
            if !std::mem::replace(&mut self.flushed, true) {
                // Stages and sinks that gather are to hand on what they have.
                let frontier = tracker.barrier();
                let token = CommitToken::new(tracker.source(), frontier.epoch, ());
                let token = token.covering(&tracker, &frontier);
                return Ok(Fill::Mark(Mark::Barrier(Barrier::new(token))));
            }
            let finished = self.open.is_empty() && all_told;
            return Ok(if finished { Fill::Done } else { Fill::Pending });
        }
        if want.is_none() {
            return Ok(Fill::Pending);
        }
        let Poll::Ready(credit) = tracker.poll_credit(cx.task()) else {
            return Ok(Fill::Pending);
        };
        match self.poll_claim(cx, self.batch.min(credit)) {
            Poll::Pending => return Ok(Fill::Pending),
            Poll::Ready(result) => result?,
        }
        let count = want.items.min(credit).min(self.ready.len());
        if count == 0 {
            cx.waker().wake_by_ref();
            return Ok(Fill::Pending);
        }
        let mut claims = Vec::with_capacity(count);
        for (row, claim) in self.ready.drain(..count) {
            out.push_value(row);
            self.open.push_back(Some(claim));
            claims.push(claim);
        }
        cx.track(out, &tracker, claims);
        Ok(Fill::More)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if matches!(signal, Control::Drain | Control::Cancel) {
            self.ended = true;
            self.claiming = None;
            // Claimed and never handed over: somebody else may have them at once.
            let unused = self.ready.drain(..).map(|(_, claim)| claim);
            self.failed.extend(unused);
            cx.waker().wake_by_ref();
        }
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.poll_tell(cx)
    }
}

/// One statement of many rows a batch; its elements are settled once it is committed.
struct Batches {
    pool: SqlitePool,
    size: usize,
    linger: Duration,
    rows: Vec<Element<Row>>,
    /// When the first of `rows` has waited long enough.
    due: Pin<Box<Sleep>>,
    writing: Option<(Query<()>, Vec<Meta>)>,
    /// Every so many batches one is rolled back, as a database does that is in trouble.
    fail_every: u64,
    batches: u64,
    seen: Arc<Seen>,
}

impl Batches {
    fn new(pool: &SqlitePool, fail_every: u64, seen: &Arc<Seen>) -> Batches {
        Batches {
            pool: pool.clone(),
            size: 32,
            linger: Duration::from_millis(10),
            rows: Vec::new(),
            due: Box::pin(time::sleep(Duration::ZERO)),
            writing: None,
            fail_every,
            batches: 0,
            seen: Arc::clone(seen),
        }
    }

    /// At most one batch gathers while one is written.
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("insert").holds(self.size * 2)
    }

    fn start(&mut self) {
        self.batches += 1;
        let fails = self.fail_every > 0 && self.batches.is_multiple_of(self.fail_every);
        let (rows, metas): (Vec<Row>, Vec<Meta>) = self
            .rows
            .drain(..)
            .map(|element| (element.value, element.meta))
            .unzip();
        self.writing = Some((Box::pin(write(self.pool.clone(), rows, fails)), metas));
    }

    /// Drives the batch being written; ready when there is none. Its elements are settled here,
    /// after the commit, and nowhere else.
    fn poll_written(&mut self, cx: &mut Context<'_, '_>) -> Poll<()> {
        if let Some((writing, _)) = &mut self.writing {
            let result = ready!(writing.as_mut().poll(cx.task()));
            let (outcome, counter) = match result {
                Ok(()) => (Outcome::Delivered, &self.seen.committed),
                Err(_) => (Outcome::Failed(Reason::Error), &self.seen.rolled_back),
            };
            counter.fetch_add(1, Ordering::Relaxed);
            for meta in self.writing.take().into_iter().flat_map(|(_, metas)| metas) {
                cx.settle(meta, outcome);
            }
        }
        Poll::Ready(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_, '_>) -> Poll<()> {
        loop {
            ready!(self.poll_written(cx));
            if self.rows.is_empty() {
                return Poll::Ready(());
            }
            self.start();
        }
    }
}

async fn write(pool: SqlitePool, rows: Vec<Row>, fails: bool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO written (queue_id, payload) ");
    query.push_values(rows, |mut values, row| {
        values.push_bind(row.id).push_bind(row.payload);
    });
    query.build().execute(&mut *transaction).await?;
    if fails {
        transaction.rollback().await?;
        return Err(sqlx::Error::WorkerCrashed);
    }
    transaction.commit().await
}

impl Sink<Row> for Batches {
    /// How many batches were written.
    type Output = u64;

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        let idle = self.poll_written(cx).is_ready();
        let full = self.rows.len() >= self.size;
        let due = !self.rows.is_empty() && self.due.as_mut().poll(cx.task()).is_ready();
        if idle && (full || due) {
            self.start();
            let _ = self.poll_written(cx);
        }
        match self.size - self.rows.len() {
            0 => Poll::Pending,
            room => Poll::Ready(Ok(Some(Demand::items(room)))),
        }
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<Row>) {
        if self.rows.is_empty() {
            let at = cx.now().as_nanos() + self.linger.as_nanos() as u64;
            self.due.as_mut().reset(time::Time::from_nanos(at));
        }
        self.rows.extend(chunk.drain());
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        match mark {
            Mark::Barrier(_) => self.poll_flush(cx).map(Ok),
            Mark::Rewind(source, _) => {
                for element in std::mem::take(&mut self.rows) {
                    if element.meta.receipt.is_of(*source) {
                        cx.settle(element.meta, Outcome::Cancelled(Reason::Rewound));
                    } else {
                        self.rows.push(element);
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<u64, Stop>> {
        self.poll_flush(cx).map(|()| Ok(self.batches))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&Stop>) {
        let outcome = cx.leftover();
        let writing = self.writing.take().into_iter().flat_map(|(_, metas)| metas);
        let waiting = self.rows.drain(..).map(|element| element.meta);
        for meta in writing.chain(waiting) {
            cx.settle(meta, outcome);
        }
    }

    fn held(&self) -> Held {
        let writing = self.writing.as_ref().map_or(0, |(_, metas)| metas.len());
        Held::items(self.rows.len() + writing)
    }
}

async fn add(pool: &SqlitePool, ids: std::ops::Range<i64>) -> Result<(), sqlx::Error> {
    let ids: Vec<i64> = ids.collect();
    for ids in ids.chunks(500) {
        let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO queue (id, payload) ");
        query.push_values(ids, |mut row, id| {
            row.push_bind(*id).push_bind(format!("payload {id}"));
        });
        query.build().execute(pool).await?;
    }
    Ok(())
}

async fn count(pool: &SqlitePool, what: &'static str) -> i64 {
    let (count,): (i64,) = sqlx::query_as(what).fetch_one(pool).await.unwrap();
    count
}

const ROWS_WRITTEN_TWICE: &str =
    "SELECT count(*) FROM (SELECT 1 FROM written GROUP BY queue_id HAVING count(*) > 1)";
const DONE_AND_NOT_WRITTEN: &str = "SELECT count(*) FROM queue
    WHERE done = 1 AND id NOT IN (SELECT queue_id FROM written)";
const NOT_DONE: &str = "SELECT count(*) FROM queue WHERE done = 0";

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Every row once, though every fifth batch is rolled back; none is done before it is written.
async fn batches_settle_after_their_commit(pool: &SqlitePool) {
    add(pool, 0..2000).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let watcher = tokio::spawn({
        let (pool, over) = (pool.clone(), Arc::clone(&over));
        async move {
            let mut looks = 0_u64;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(
                    count(&pool, DONE_AND_NOT_WRITTEN).await,
                    0,
                    "a row was marked as done before it was written"
                );
                looks += 1;
            }
            looks
        }
    });
    let seen = Arc::new(Seen::default());
    let sink = Batches::new(pool, 5, &seen);
    let pipeline = claims(pool, Duration::from_secs(30), &seen)
        .window(256)
        .map(|row| row)
        .to_stage(sink.spec(), sink);
    println!("{}", pipeline.topology().mermaid());
    let mut running = pipeline.run().unwrap();
    running.join().await.unwrap();
    over.store(true, Ordering::Relaxed);
    let looks = watcher.await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    let total = snapshot.total();
    let failed = total.outcome(Kind::Failed);
    assert!(failed > 0 && failed == read(&seen.released));
    assert_eq!(total.outcome(Kind::Delivered), 2000);
    assert_eq!(total.entered, 2000 + failed);
    assert_eq!(count(pool, "SELECT count(*) FROM written").await, 2000);
    assert_eq!(count(pool, ROWS_WRITTEN_TWICE).await, 0);
    assert_eq!(count(pool, NOT_DONE).await, 0);
    println!(
        "sink: 2000 rows written once each in {} commits; {} batches rolled back, their {failed} \
         elements failed, were released and came again; {looks} looks found no row done before \
         it was written; balanced",
        read(&seen.committed),
        read(&seen.rolled_back),
    );
}

/// A worker that dies leaves rows claimed: they come again when their lease has run out.
async fn an_expired_lease_is_claimed_again(pool: &SqlitePool) {
    const LEASE: Duration = Duration::from_millis(400);
    add(pool, 2000..2400).await.unwrap();
    let seen = Arc::new(Seen::default());
    let sink = Batches::new(pool, 0, &seen);
    let mut dying = claims(pool, LEASE, &seen)
        .map_async(64, |row| async move {
            if row.id % 50 == 7 {
                std::future::pending::<()>().await;
            }
            row
        })
        .to_stage(sink.spec(), sink)
        .run()
        .unwrap();
    time::sleep(Duration::from_millis(150)).await;
    dying.abort().await;
    let left = count(pool, NOT_DONE).await;
    let snapshot = dying.snapshot();
    snapshot.check().unwrap();
    let cancelled = snapshot.total().outcome(Kind::Cancelled);
    assert!(cancelled > 0 && left >= 1);

    let seen = Arc::new(Seen::default());
    let sink = Batches::new(pool, 0, &seen);
    let mut running = claims(pool, LEASE, &seen)
        .to_stage(sink.spec(), sink)
        .run()
        .unwrap();
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(
        snapshot.total().outcome(Kind::Delivered),
        left.cast_unsigned()
    );
    assert_eq!(count(pool, NOT_DONE).await, 0);
    assert_eq!(
        count(pool, "SELECT count(DISTINCT queue_id) FROM written").await,
        2400
    );
    assert_eq!(count(pool, ROWS_WRITTEN_TWICE).await, 0);
    let again = count(
        pool,
        "SELECT count(*) FROM queue WHERE id >= 2000 AND claims > 1",
    )
    .await;
    assert!(again >= 1, "no lease ran out");
    println!(
        "leases: a worker was aborted with {cancelled} elements inside and left {left} rows; the \
         next one got them, {again} of them by a second claim after their lease; none written \
         twice; balanced"
    );
}

/// A worker slower than its lease: somebody else gets the row, and its own mark comes too late.
async fn a_late_mark_changes_nothing(pool: &SqlitePool) {
    const LEASE: Duration = Duration::from_millis(150);
    add(pool, 2400..2401).await.unwrap();
    let (slow_seen, quick_seen) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let slow_sink = Batches::new(pool, 0, &slow_seen);
    let mut slow = claims(pool, LEASE, &slow_seen)
        .map_async(1, |row| async move {
            time::sleep(Duration::from_millis(600)).await;
            row
        })
        .to_stage(slow_sink.spec(), slow_sink)
        .run()
        .unwrap();
    time::sleep(Duration::from_millis(50)).await;
    let quick_sink = Batches::new(pool, 0, &quick_seen);
    let mut quick = claims(pool, LEASE, &quick_seen)
        .to_stage(quick_sink.spec(), quick_sink)
        .run()
        .unwrap();
    quick.join().await.unwrap();
    assert_eq!(count(pool, NOT_DONE).await, 0);
    slow.join().await.unwrap();
    slow.snapshot().check().unwrap();
    quick.snapshot().check().unwrap();
    assert_eq!(read(&slow_seen.late), 1);
    assert_eq!(read(&quick_seen.late), 0);
    assert_eq!(
        count(pool, "SELECT claims FROM queue WHERE id = 2400").await,
        2
    );
    println!(
        "fence: a worker slower than its lease lost the row to another; its own mark found a \
         newer claim and changed nothing; both balanced"
    );
}

/// Runs the spike. Panics where something does not hold.
pub(crate) fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let folder = std::env::temp_dir().join(format!("forebay-spike-sql-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let cleanup = Cleanup(folder.clone());
    runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("queue.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            .connect_with(options)
            .await
            .unwrap();
        sqlx::raw_sql(SCHEMA).execute(&pool).await.unwrap();
        batches_settle_after_their_commit(&pool).await;
        an_expired_lease_is_claimed_again(&pool).await;
        a_late_mark_changes_nothing(&pool).await;
        pool.close().await;
    });
    drop(cleanup);
    println!("spike_sql: all of it holds");
}

/// Removes the database's folder, whatever happens.
struct Cleanup(std::path::PathBuf);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
