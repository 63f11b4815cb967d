//! Joins that wait for barriers which never come.
//!
//! A join hands on a barrier once each input gave one or has ended. Behind an input whose sources give
//! none, the others stand still until it ends: for good, if it does not.

use std::collections::BTreeSet;

use super::graph::Graph;
use crate::error::Refused;
use crate::sync::lock;

/// What is known of the barriers that come by an input.
enum Barriers {
    /// That source gives them.
    Of(u32),
    /// None comes. That source may go on for ever.
    Never(u32),
    /// None comes, but it ends; or flows that are built as the run goes on decide it.
    NoMatter,
}

impl Graph {
    /// Refuses the certain case alone: all sources before an input are known to give none.
    pub(super) fn check_barriers(&self) -> Result<(), Refused> {
        for node in self.nodes.iter().filter(|node| node.spec.aligns) {
            let inputs = self.edges.iter().filter(|(_, to)| *to == node.stage.id);
            let (mut gives, mut never) = (None, None);
            for (from, _) in inputs {
                match self.barriers_from(*from) {
                    Barriers::Of(source) => gives = gives.or(Some(source)),
                    Barriers::Never(source) => never = never.or(Some(source)),
                    Barriers::NoMatter => {}
                }
            }
            if let (Some(gives), Some(never)) = (gives, never) {
                let (gives, never) = (self.name_of(gives), self.name_of(never));
                let what = format!(
                    "it hands on a barrier when each input gave one, and `{never}` gives none: \
                     `{gives}` would stand still until that ends. Declare `.barrier_every(..)` \
                     there as well, or at neither"
                );
                let stage = self.name_of(node.stage.id);
                return Err(Refused::Setting { stage, what });
            }
        }
        Ok(())
    }

    /// What comes by way of that stage.
    fn barriers_from(&self, stage: u32) -> Barriers {
        let (mut seen, mut next, mut never) = (BTreeSet::new(), vec![stage], None);
        let mut unknown = false;
        while let Some(id) = next.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Some(source) = self.sources.iter().find(|source| source.stage == id) {
                if lock(&source.settings).barrier_every > 0 {
                    return Barriers::Of(id);
                }
                let ends = |id| self.nodes.iter().any(|n| n.stage.id == id && n.spec.ends);
                never = never.or(Some(id).filter(|id| !ends(*id)));
                continue;
            }
            let before = next.len();
            next.extend(
                self.edges
                    .iter()
                    .filter(|(_, to)| *to == id)
                    .map(|(from, _)| *from),
            );
            let builds = self
                .nodes
                .iter()
                .any(|n| n.stage.id == id && n.home.is_some());
            unknown |= builds || before == next.len();
        }
        match never {
            Some(source) if !unknown => Barriers::Never(source),
            _ => Barriers::NoMatter,
        }
    }
}
