//! What flows that are built as a run goes on must keep of what is around them, and where a source
//! that goes back is felt.

use std::collections::BTreeSet;

use super::graph::{Graph, Node};
use super::guarantee::Guarantee;
use crate::error::Refused;
use crate::operator::Answer;
use crate::sync::lock;

/// What is around a stage that builds flows as it runs.
#[derive(Clone, Default, Debug)]
pub(crate) struct Around {
    /// What the pipeline must keep.
    pub(super) guarantee: Option<Guarantee>,
    /// A source before it may go back.
    rewinds: bool,
    /// All sources before it keep the original bytes.
    pub(super) origin: bool,
    /// The number below which stages were declared before the flow was built.
    pub(super) since: u32,
    /// A stage behind it that cannot go back, and why.
    fixed: Option<(String, &'static str)>,
}

impl Graph {
    /// What the flows that this stage builds are to know.
    pub(super) fn around(&self, node: &Node) -> Around {
        let id = node.stage.id;
        let behind = self.after([id]);
        let mut fixed = self.fixed(&behind);
        if fixed.is_none() && self.outlet.is_some_and(|outlet| behind.contains(&outlet)) {
            fixed.clone_from(&self.around.fixed);
        }
        Around {
            guarantee: self.guarantee,
            rewinds: self.after(self.rewinding()).contains(&id),
            origin: self.source_without_origin(id).is_none(),
            since: super::plan::next_stage(),
            fixed,
        }
    }

    /// Every stage that a source going back is felt at can drop what it holds of it, here and behind
    /// what this is a part of.
    pub(super) fn check_rewinds(&self) -> Result<(), Refused> {
        let felt = self.after(self.rewinding());
        let leaves = || {
            let own = self.after(self.sources_that_rewind());
            self.outlet.is_some_and(|outlet| own.contains(&outlet))
        };
        let fixed = self
            .fixed(&felt)
            .or_else(|| self.around.fixed.clone().filter(|_| leaves()));
        match fixed {
            None => Ok(()),
            Some((stage, why)) => Err(Refused::Guarantee {
                guarantee: "going back (Answer::Rewind)",
                stage,
                why: why.to_owned(),
            }),
        }
    }

    fn sources_that_rewind(&self) -> impl Iterator<Item = u32> + '_ {
        let rewinds = |answer| answer == Answer::Rewind;
        self.sources
            .iter()
            .filter(move |source| rewinds(lock(&source.settings).answer))
            .map(|source| source.stage)
    }

    /// Where sources that go back come in.
    fn rewinding(&self) -> impl Iterator<Item = u32> + '_ {
        let inlet = self.inlet.filter(|_| self.around.rewinds);
        self.sources_that_rewind().chain(inlet)
    }

    /// The first of these stages that cannot go back, and why.
    fn fixed(&self, among: &BTreeSet<u32>) -> Option<(String, &'static str)> {
        let nodes = self.nodes.iter();
        let mut nodes = nodes.filter(|node| among.contains(&node.stage.id));
        nodes.find_map(|node| Some((self.name_of(node.stage.id), node.spec.no_rewind?)))
    }

    /// These stages and all that follow them, up to sources that read again what was written.
    fn after(&self, stages: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
        let (mut found, mut next) = (BTreeSet::new(), Vec::from_iter(stages));
        while let Some(stage) = next.pop() {
            if found.insert(stage) {
                let follow = self.edges.iter().filter(|(from, _)| *from == stage);
                next.extend(follow.map(|(_, to)| *to).filter(|to| !self.is_source(*to)));
            }
        }
        found
    }
}
