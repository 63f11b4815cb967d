//! The graph as text: Mermaid, DOT, JSON, and its bound.

use std::fmt::Write as _;

use crate::json::quote;

/// A stage of the graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeInfo {
    /// Its name, unique in the graph.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// The most elements it holds between two calls.
    pub held: usize,
    /// The most bytes, where it is bounded by bytes as well.
    pub held_bytes: Option<u64>,
    /// Whether it is a hand-off between two islands.
    pub boundary: bool,
    /// A policy or a limit, in words.
    pub note: Option<String>,
}

/// A connection: from and to, as indices of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EdgeInfo {
    /// Upstream.
    pub from: usize,
    /// Downstream.
    pub to: usize,
}

/// The graph as declared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    /// In the order of declaration.
    pub nodes: Vec<NodeInfo>,
    /// Who hands to whom.
    pub edges: Vec<EdgeInfo>,
}

impl Topology {
    /// The most elements that can be inside at once: what stages declare to hold, and one chunk in
    /// the hands of each island.
    #[must_use]
    pub fn bound(&self) -> usize {
        let held = self
            .nodes
            .iter()
            .map(|node| node.held)
            .fold(0_usize, usize::saturating_add);
        let islands = self.nodes.iter().filter(|node| node.boundary).count() + 1;
        held.saturating_add(islands.saturating_mul(crate::chunk::Chunk::<()>::MAX))
    }

    /// The graph for a Mermaid renderer.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (index, node) in self.nodes.iter().enumerate() {
            let label = label(node, "<br/>");
            let (open, close) = if node.boundary {
                ("[(", ")]")
            } else {
                ("[", "]")
            };
            let _ = writeln!(
                text,
                "  n{index}{open}\"{}\"{close}",
                label.replace('"', "#quot;")
            );
        }
        for edge in &self.edges {
            let _ = writeln!(text, "  n{} --> n{}", edge.from, edge.to);
        }
        text
    }

    /// The graph for Graphviz.
    #[must_use]
    pub fn dot(&self) -> String {
        let mut text = String::from("digraph pipeline {\n  rankdir=LR;\n  node [shape=box];\n");
        for (index, node) in self.nodes.iter().enumerate() {
            let shape = if node.boundary {
                ", shape=cylinder"
            } else {
                ""
            };
            let label = label(node, "\\n").replace('"', "\\\"");
            let _ = writeln!(text, "  n{index} [label=\"{label}\"{shape}];");
        }
        for edge in &self.edges {
            let _ = writeln!(text, "  n{} -> n{};", edge.from, edge.to);
        }
        text.push_str("}\n");
        text
    }

    /// The graph as a JSON object: `nodes`, `edges` (indices) and `bound`.
    #[must_use]
    pub fn json(&self) -> String {
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|node| {
                let bytes = node.held_bytes.map_or("null".to_owned(), |bytes| bytes.to_string());
                let note = node.note.as_deref().map_or("null".to_owned(), quote);
                format!(
                    "{{\"name\":{},\"kind\":{},\"held\":{},\"held_bytes\":{bytes},\"boundary\":{},\"note\":{note}}}",
                    quote(&node.name),
                    quote(node.kind),
                    node.held,
                    node.boundary,
                )
            })
            .collect();
        let edges: Vec<String> = self
            .edges
            .iter()
            .map(|edge| format!("[{},{}]", edge.from, edge.to))
            .collect();
        format!(
            "{{\"nodes\":[{}],\"edges\":[{}],\"bound\":{}}}",
            nodes.join(","),
            edges.join(","),
            self.bound()
        )
    }
}

fn label(node: &NodeInfo, line: &str) -> String {
    let mut label = node.name.clone();
    if node.name != node.kind && !node.name.starts_with(&format!("{}#", node.kind)) {
        let _ = write!(label, "{line}{}", node.kind);
    }
    if let Some(note) = &node.note {
        let _ = write!(label, "{line}{note}");
    }
    if node.held > 0 {
        let _ = write!(label, "{line}holds {}", node.held);
    }
    if let Some(bytes) = node.held_bytes {
        let _ = write!(label, "{line}{bytes} bytes");
    }
    label
}
