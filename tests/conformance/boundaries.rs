//! Islands, and what their buffers do when they are full.

use std::cell::Cell;

use forebay::boundary::{Buffer, DiskBuffer, Stored, SyncPolicy, WhenFull};
use forebay::error::BoxError;
use forebay::flow::Flow;
use forebay::host::MemoryBudget;
use forebay::operator::Answer;
use forebay::outcome::Kind;
use forebay::testkit::conformance;

use super::{call, doubled, same, trip};

thread_local! {
    static FOLDER: (tempfile::TempDir, Cell<u32>) = (tempfile::tempdir().unwrap(), Cell::new(0));
}

/// A new buffer. What the suite's sink has taken it may keep unsettled as long as it likes: there is
/// room for all.
fn disk() -> DiskBuffer {
    let path = FOLDER.with(|(root, number)| {
        number.set(number.get() + 1);
        root.path().join(number.get().to_string())
    });
    DiskBuffer::open(path).unwrap().sync(SyncPolicy::Os)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as the stage calls it
fn encode(n: &u64) -> [u8; 8] {
    n.to_le_bytes()
}

fn decoded(flow: Flow<Stored>, f: fn(u64) -> u64) -> Flow<u64> {
    flow.on_unresolved(Answer::Continue)
        .try_map(move |stored| -> Result<u64, BoxError> {
            Ok(f(u64::from_le_bytes(stored.whole()?[..].try_into()?)))
        })
        .or_fail()
}

fn id(n: u64) -> u64 {
    n
}

conformance! {
    buffer: |flow| flow.buffer(3), same, |suite| suite.errors_overtake();
    buffer_of_bytes: |flow| flow.weigh(|n| n % 9).buffer(Buffer::items(9).bytes(16)), same,
        |suite| suite.errors_overtake();
    buffer_within:
        |flow| flow.weigh(|n| 1 + n % 9).buffer_within(9, &MemoryBudget::new(16)), same,
        |suite| suite.errors_overtake();
    buffer_between_three_islands:
        |flow| flow.buffer(2).map_async(3, call).buffer(5).map(|n| n / 2), same,
        |suite| suite.errors_overtake();
    buffer_drop_head: |flow| flow.buffer(Buffer::items(3).when_full(WhenFull::DropHead)), same,
        |suite| suite.errors_overtake().may(Kind::Shed);
    buffer_drop_tail: |flow| flow.buffer(Buffer::items(3).when_full(WhenFull::DropTail)), same,
        |suite| suite.errors_overtake().may(Kind::Shed);
    buffer_drop_new: |flow| flow.buffer(Buffer::items(3).when_full(WhenFull::DropNew)), same,
        |suite| suite.errors_overtake().may(Kind::Shed);
    buffer_drop_buffer: |flow| flow.buffer(Buffer::items(3).when_full(WhenFull::DropBuffer)), same,
        |suite| suite.errors_overtake().may(Kind::Shed);
    buffer_on_disk: |flow| decoded(flow.buffer_on_disk(disk(), encode), id), same,
        |suite| suite.errors_overtake().may(Kind::Delivered).seeds(8)
            .panicking(|flow| decoded(flow.buffer_on_disk(disk(), |n| trip(*n).to_le_bytes()), id));
    buffer_on_disk_in_small_files: |flow|
        decoded(flow.buffer_on_disk(disk().segment_bytes(100), encode), |n| n * 2), doubled,
        |suite| suite.errors_overtake().may(Kind::Delivered).seeds(8)
            .panicking(|flow| decoded(flow.buffer_on_disk(disk(), encode), trip));
    buffer_on_disk_that_refuses: |flow|
        decoded(flow.buffer_on_disk(disk().items(4).refuse_when_full(), encode), id), same,
        |suite| suite.errors_overtake().may(Kind::Delivered).may(Kind::Shed).seeds(8);
    async_boundary: |flow| flow.async_boundary().map(|n| n * 2), doubled,
        |suite| suite.errors_overtake();
}
