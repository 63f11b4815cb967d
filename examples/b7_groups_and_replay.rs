//! Two groups read one topic, each at its own pace and each all of it; the orders of one customer stay in
//! order, because they share a partition; one group is shown how far it is behind, and then reads again.
//!
//! `cargo run --features kafka --example b7_groups_and_replay [HOST:PORT,..]`: without a broker it brings a
//! cluster of its own, which knows no times, so that nothing is read again by time there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay::kafka::{
    self, Admin, Connection, ConsumerHandle, ConsumerSettings, EmbeddedCluster, ProducerRecord,
    ProducerSettings, ReadFrom, Topic,
};
use forebay::runtime::Running;
use forebay::source;

type Failure = Box<dyn std::error::Error>;

const ORDERS: u32 = 300;
const CUSTOMERS: u32 = 7;

/// Of each customer the orders, each with the partition it came from.
type Orders = BTreeMap<String, Vec<(i32, u32)>>;

/// What a group has read.
#[derive(Clone, Default)]
struct Read(Arc<Mutex<Orders>>);

impl Read {
    fn hear(&self, record: &kafka::Record) {
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let order = text(record.value()).parse().unwrap_or(u32::MAX);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(text(record.key())).or_default();
        own.push((record.partition(), order));
    }

    fn all(&self) -> Orders {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    fn len(&self) -> usize {
        self.all().values().map(Vec::len).sum()
    }

    async fn until(&self, len: usize) -> Result<(), Failure> {
        for _ in 0..1000 {
            if self.len() >= len {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Err(format!("{} records came, {len} were to", self.len()).into())
    }
}

/// A member of a group.
fn member(
    at: &Connection,
    group: &str,
    topic: &str,
) -> Result<(ConsumerHandle, Running<()>, Read), Failure> {
    let settings = ConsumerSettings::new(at.clone(), group)
        .topics([topic])
        .commit_every(Duration::from_millis(50));
    let (handle, records) = kafka::source(settings);
    let read = Read::default();
    let hears = read.clone();
    let running = records.for_each(move |record| hears.hear(&record)).run()?;
    Ok((handle, running, read))
}

async fn write(at: &Connection, topic: &str, orders: std::ops::Range<u32>) -> Result<(), Failure> {
    let topic: Arc<str> = topic.into();
    let records = source::iter(orders).map(move |order| {
        ProducerRecord::to(Arc::clone(&topic))
            .key(format!("customer {}", order % CUSTOMERS))
            .value(order.to_string())
    });
    let writes = ProducerSettings::reliable(at.clone());
    Ok(records.to_kafka(writes).run()?.join().await?)
}

/// The example, with a topic of that name that has three partitions.
pub(crate) async fn example(
    at: &Connection,
    topic: &str,
    knows_times: bool,
) -> Result<(), Failure> {
    write(at, topic, 0..ORDERS / 2).await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let between = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    tokio::time::sleep(Duration::from_millis(20)).await;
    write(at, topic, ORDERS / 2..ORDERS).await?;

    let all = ORDERS as usize;
    let (billing, mut bills, billed) = member(at, "billing", topic)?;
    billed.until(all).await?;
    let admin = Admin::of(at)?;
    let behind =
        |lags: Vec<kafka::GroupLag>| -> u64 { lags.iter().map(kafka::GroupLag::records).sum() };
    // Nothing that the one group did is known to the other.
    let shipping = behind(admin.lag("shipping", topic).await?);
    eprintln!("shipping is {shipping} orders behind before it begins");
    assert_eq!(shipping, u64::from(ORDERS));
    let (_shipping, mut ships, shipped) = member(at, "shipping", topic)?;
    shipped.until(all).await?;
    ships.drain(Duration::from_secs(10)).await?;
    let shipping = behind(admin.lag("shipping", topic).await?);
    assert_eq!(shipping, 0, "what it has done is committed");
    assert_eq!(billed.all(), shipped.all(), "each group read all of it");
    for (customer, orders) in shipped.all() {
        let (partition, _) = orders[0];
        assert!(
            orders.iter().all(|(own, _)| *own == partition),
            "{customer}"
        );
        assert!(orders.is_sorted(), "{customer}'s orders are out of order");
        eprintln!(
            "{customer}: {} orders in partition {partition}",
            orders.len()
        );
    }

    // Billing reads again: all of it, by offset; what came later, by time.
    billing.replay(ReadFrom::Earliest);
    billed.until(2 * all).await?;
    billing.replay(ReadFrom::Offset(10));
    let least = 2 * all + all - 3 * 10;
    billed.until(least).await?;
    assert_eq!(billed.len(), least, "ten of each partition were left out");
    if knows_times {
        billing.replay(ReadFrom::Time(i64::try_from(between)?));
        billed.until(least + all / 2).await?;
        assert_eq!(billed.len(), least + all / 2);
    }
    for partition in billing.lag() {
        eprintln!(
            "{}: {} behind, {} in flight",
            partition.at,
            partition.records().unwrap_or(0),
            partition.in_flight
        );
    }
    bills.drain(Duration::from_secs(10)).await?;
    for snapshot in [bills.snapshot(), ships.snapshot()] {
        snapshot.check().map_err(|wrong| format!("{wrong:?}"))?;
    }
    Ok(())
}

/// The example in a cluster of its own.
pub(crate) async fn embedded() -> Result<(), Failure> {
    let cluster = EmbeddedCluster::start()?;
    cluster.create_topic("orders", 3)?;
    example(&cluster.connection(), "orders", false).await
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Failure> {
    let Some(brokers) = std::env::args().nth(1) else {
        return embedded().await;
    };
    let at = Connection::to(brokers);
    let topic = format!("orders-{}", std::process::id());
    let admin = Admin::of(&at)?;
    admin.create(&Topic::named(&topic).partitions(3)).await?;
    let shown = example(&at, &topic, true).await;
    admin.delete(&topic).await?;
    shown
}
