//! Islands, and what their buffers do when they are full.

use forebay::boundary::{Buffer, WhenFull};
use forebay::host::MemoryBudget;
use forebay::outcome::Kind;
use forebay::testkit::conformance;

use super::{call, doubled, same};

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
    async_boundary: |flow| flow.async_boundary().map(|n| n * 2), doubled,
        |suite| suite.errors_overtake();
}
