//! Joins that must come to a halt, whatever the elements.
//!
//! A fan-out that copies waits for its fullest branch. Where two of its branches meet again, the
//! join must take from both alike: if one side has fewer elements, the buffers of the other fill,
//! the fan-out stops, and the side that is short never gets what the join waits for.

use std::collections::{BTreeMap, BTreeSet};

use super::node::NodeSpec;

/// How a join takes from its inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Takes {
    /// One from each.
    InStep,
    /// All of one, then all of the next.
    InSequence,
}

/// The graph as this check sees it: stages by number, edges from and to.
pub(super) struct Wiring<'a> {
    specs: BTreeMap<u32, &'a NodeSpec>,
    inputs: BTreeMap<u32, Vec<u32>>,
}

impl<'a> Wiring<'a> {
    pub(super) fn new(
        specs: impl Iterator<Item = (u32, &'a NodeSpec)>,
        edges: &[(u32, u32)],
    ) -> Wiring<'a> {
        let mut inputs = BTreeMap::<u32, Vec<u32>>::new();
        for (from, to) in edges {
            inputs.entry(*to).or_default().push(*from);
        }
        Wiring {
            specs: specs.collect(),
            inputs,
        }
    }

    /// A stage and all that stands before it.
    fn upstream(&self, of: u32) -> BTreeSet<u32> {
        let (mut found, mut next) = (BTreeSet::new(), vec![of]);
        while let Some(stage) = next.pop() {
            if found.insert(stage) {
                next.extend(self.inputs.get(&stage).into_iter().flatten());
            }
        }
        found
    }

    /// The stages on the ways from a fan-out to a stage, both left out of account but for the latter.
    fn between(&self, fan_out: u32, to: u32) -> BTreeSet<u32> {
        self.upstream(to)
            .into_iter()
            .filter(|stage| *stage != fan_out && self.upstream(*stage).contains(&fan_out))
            .collect()
    }

    /// A join that must deadlock: the stage, and why.
    pub(super) fn find(&self, name: impl Fn(u32) -> String) -> Option<(u32, String)> {
        for (join, spec) in &self.specs {
            let Some(takes) = spec.takes.filter(|_| !spec.balanced) else {
                continue;
            };
            let sides = self.inputs.get(join).map_or(&[][..], Vec::as_slice);
            for (index, first) in sides.iter().enumerate() {
                for second in &sides[index + 1..] {
                    if let Some(why) = self.halts(takes, *first, *second, &name) {
                        return Some((*join, why));
                    }
                }
            }
        }
        None
    }

    fn halts(
        &self,
        takes: Takes,
        first: u32,
        second: u32,
        name: impl Fn(u32) -> String,
    ) -> Option<String> {
        let both = &self.upstream(first) & &self.upstream(second);
        for fan_out in both {
            if !self.specs.get(&fan_out).is_some_and(|spec| spec.copies) {
                continue;
            }
            let sides = [self.between(fan_out, first), self.between(fan_out, second)];
            // What is before the ways part concerns both alike.
            let common = &sides[0] & &sides[1];
            let find = |side: &BTreeSet<u32>, holds: fn(&NodeSpec) -> bool| {
                side.difference(&common)
                    .copied()
                    .find(|stage| self.specs.get(stage).is_some_and(|spec| holds(spec)))
            };
            if sides
                .iter()
                .any(|side| side.difference(&common).next().is_none())
            {
                continue;
            }
            let sheds = |side| find(side, |spec| spec.boundary && spec.loses.is_some()).is_some();
            match takes {
                Takes::InSequence if !sheds(&sides[1]) => {
                    return Some(format!(
                        "it reads `{}` to its end before it reads the other branch of `{0}`, which \
                         fills and holds up both: collect the later branch, or declare \
                         `balanced_by_buffers()`",
                        name(fan_out)
                    ));
                }
                Takes::InStep if !sheds(&sides[0]) && !sheds(&sides[1]) => {
                    let changes = sides
                        .iter()
                        .find_map(|side| find(side, |spec| spec.changes_count));
                    if let Some(changes) = changes {
                        return Some(format!(
                            "it takes one of each branch of `{}`, but `{}` changes how many there \
                             are on one side: the other fills and holds up both. Pair before it, \
                             or declare `balanced_by_buffers()`",
                            name(fan_out),
                            name(changes)
                        ));
                    }
                }
                _ => {}
            }
        }
        None
    }
}
