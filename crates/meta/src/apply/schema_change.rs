//! Ownership of what was granular when it was written and is one unit now, because the definition of a custom
//! resource has changed since.

use super::managed::Managed;
use super::paths::Set;
use super::structure::{Node, Structure};
use crate::schema::{Shape, Topology};
use serde_json::Value;

/// The managers with the fields that they own by today's structure: whoever owned a part of what is atomic now owns
/// it as a whole. `s` is the structure of `version`, in which `live` is.
///
/// The other way needs nothing: who owned the whole keeps it as such, and none of its parts.
pub(super) fn reconciled(s: &Structure, version: &str, live: &Value, managed: &Managed) -> Managed {
    let mut out = managed.clone();
    for v in out.0.values_mut() {
        let there = if v.api_version == version { *s } else { s.view(&v.api_version, live).0 };
        if is_split(&there, there.root(), &v.set) {
            v.set = whole(&there, there.root(), &v.set);
        }
    }
    out
}

fn is_unit(s: &Structure, node: Node) -> bool {
    let Node::Typed(ty) = node else { return false };
    match s.types.shape(ty) {
        Shape::Struct(st) => st.atomic,
        Shape::Map { atomic, .. } => *atomic,
        Shape::List(l) => l.topology == Topology::Atomic,
        _ => false,
    }
}

/// Whether the set names parts of a unit. Nearly always not, so this comes before any copying.
fn is_split(s: &Structure, node: Node, set: &Set) -> bool {
    set.children.iter().any(|(elem, below)| {
        let node = s.below(node, elem);
        is_unit(s, node) || is_split(s, node, below)
    })
}

fn whole(s: &Structure, node: Node, set: &Set) -> Set {
    let mut out = Set { members: set.members.clone(), children: Default::default() };
    for (elem, below) in &set.children {
        let node = s.below(node, elem);
        if is_unit(s, node) {
            out.members.insert(elem.clone());
        } else {
            out.children.insert(elem.clone(), whole(s, node, below));
        }
    }
    out
}
