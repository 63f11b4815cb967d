//! Dead letters in topics: written byte for byte, and looked through, replayed and discarded later.

mod admin;
mod filter;
mod letter;
mod marks;
mod provenance;
mod replay;
mod scan;
mod topic;

pub use admin::DeadLetterAdmin;
pub use filter::{LetterFilter, States};
pub use letter::{Letter, LetterState};
pub use provenance::Provenance;
pub(super) use provenance::{Header, due_ms};
pub use replay::{Replay, Resolved};
pub(super) use scan::Scanner;
pub use topic::DeadLetterTopic;
pub(super) use topic::{put_aside, told};
