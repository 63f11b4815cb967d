//! The handle by which stages share a sink of dead letters.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::dead_letter::{BATCH, DeadLetterSink, LetterSink, Letters, Port};
use crate::operator::{Input, Stage};
use crate::runtime::Island;
use crate::topology::{NodeSpec, Plan};

/// A destination for elements that could not be processed: one sink with its own bounded queue,
/// shared by as many stages as name it. See [`dead_letter`](crate::dead_letter).
///
/// The sink runs as an island of the run of the stages that name it; stages that share it become
/// part of one graph, and run together. Flows that are built as a run goes on (groups, restarted flows)
/// come and go apart from it: each makes dead letters of its own, and shared ones are refused.
///
/// # Example
/// ```
/// use forebay::dead_letter::DeadLetter;
/// use forebay::flow::DeadLetters;
/// use forebay::source;
///
/// let (kept, letters) = async_channel::bounded::<DeadLetter>(16);
/// let dead_letters = DeadLetters::new(16, kept);
/// let numbers = source::iter(["1", "two", "3"])
///     .try_map(|text| text.parse::<u32>())
///     .encode(|text| (*text).into())
///     .or_dead_letter(&dead_letters)
///     .collect()
///     .block_on()?;
/// assert_eq!(numbers, [1, 3]);
/// let letter = letters.try_recv().unwrap();
/// assert_eq!(letter.bytes().unwrap(), "two");
/// assert_eq!(letter.error, "invalid digit found in string");
/// # Ok::<(), forebay::error::RunError>(())
/// ```
#[derive(Clone)]
pub struct DeadLetters {
    letters: Letters,
    plan: Plan,
    queue: Arc<Stage>,
    sink: Arc<Stage>,
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("stage", &self.sink.id)
            .finish_non_exhaustive()
    }
}

impl DeadLetters {
    /// A sink behind a queue of at most `capacity` letters (0 counts as 1). While the queue is
    /// full, the stages before it wait. Up to 64 letters are written at once.
    pub fn new<S: DeadLetterSink>(capacity: usize, sink: S) -> DeadLetters {
        let plan = Plan::new();
        let capacity = capacity.max(1);
        let queue = plan.add_inlet(
            NodeSpec::new("dead_letters").boundary().holds(capacity),
            false,
        );
        let spec = NodeSpec::new("dead_letter_sink").holds(BATCH).letters();
        let stage = plan.add(spec, &[&queue], false);
        plan.close(&stage);
        let (letters, source) = Letters::new(capacity, Arc::clone(&queue));
        let input = Input::new(Box::new(source), Arc::clone(&queue));
        let output = Arc::new(Mutex::new(None));
        let island = Island::new(input, LetterSink::new(sink), Arc::clone(&stage), output);
        plan.add_island(Box::new(island));
        DeadLetters {
            letters,
            plan,
            queue,
            sink: stage,
        }
    }

    /// Names the sink in reports, errors and pictures. Default: `dead_letter_sink`.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> DeadLetters {
        self.plan.rename(&self.sink, name.into());
        self
    }

    /// Declares that what its sink writes may come to be there twice, and what to do instead: a run that
    /// names exactly-once is refused. For letters that somebody processes again.
    #[must_use]
    pub fn repeats(self, how: impl Into<String>) -> DeadLetters {
        let how = how.into();
        self.plan
            .amend(&self.sink, |spec| *spec = spec.clone().repeats(how));
        self
    }

    /// Makes a way in for a stage of another graph, which becomes part of this one.
    pub(super) fn connect(&self, plan: &Plan, stage: &Stage) -> Port {
        plan.join(&self.plan);
        plan.edge(stage, &self.queue);
        self.letters.port()
    }
}
