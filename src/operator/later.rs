//! Flows that a stage declares as it runs: the groups of `group_by`, the runs of `restarting`.
//!
//! They are disturbed like the declaration they belong to, if that one is fuzzed. Without the test
//! kit nothing is.

#[cfg(feature = "testkit")]
use super::fuzz;

/// Made with a stage; declares what the stage needs later.
pub(crate) struct Later {
    #[cfg(feature = "testkit")]
    seeds: Option<crate::random::Seeded>,
}

impl Later {
    pub(crate) fn new() -> Later {
        Later {
            #[cfg(feature = "testkit")]
            seeds: fuzz::seeds_of_later(),
        }
    }

    #[cfg_attr(
        not(feature = "testkit"),
        expect(clippy::unused_self, clippy::needless_pass_by_ref_mut)
    )]
    pub(crate) fn declare<R>(&mut self, declare: impl FnOnce() -> R) -> R {
        #[cfg(feature = "testkit")]
        if let Some(seeds) = &mut self.seeds {
            return fuzz::fuzzing(seeds.next(), declare);
        }
        declare()
    }
}
