//! The graph of owners and dependents, by uid. Pure: it hears what was seen and says which objects to look at.

use std::collections::{HashMap, HashSet};

/// Uids that are known to be gone; they never come back, so that the bound only limits memory.
const ABSENT_MAX: usize = 20_000;

pub type Uid = String;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: Uid,
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// Foreground deletion of the owner waits for this dependent.
    pub blocks: bool,
}

/// What an object's metadata says that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which resource it is; the driver knows the numbers.
    pub resource: u32,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub owners: Vec<Owner>,
    pub deleting: bool,
    /// Has the finalizer `foregroundDeletion`.
    pub foreground: bool,
    /// Has the finalizer `orphan`.
    pub orphan: bool,
}

impl Node {
    /// Waits for its dependents to be deleted before it goes itself.
    pub fn waits(&self) -> bool {
        self.deleting && self.foreground
    }
}

/// An object that wants attention.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// It may have to be deleted, or be freed to go.
    Examine(Uid),
    /// Its dependents are to be orphaned.
    Orphan(Uid),
}

#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    /// By owner, whether that was seen or not.
    dependents: HashMap<Uid, HashSet<Uid>>,
    absent: HashSet<Uid>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn dependents(&self, uid: &str) -> Vec<(Uid, Node)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|u| Some((u.clone(), self.nodes.get(u)?.clone()))).collect()
    }

    pub fn is_absent(&self, uid: &str) -> bool {
        self.absent.contains(uid)
    }

    pub fn note_absent(&mut self, uid: &str) {
        if self.absent.len() >= ABSENT_MAX {
            self.absent.clear();
        }
        self.absent.insert(uid.to_string());
    }

    /// The uids of all objects of a resource.
    pub fn of_resource(&self, resource: u32) -> Vec<Uid> {
        self.nodes.iter().filter(|(_, n)| n.resource == resource).map(|(u, _)| u.clone()).collect()
    }

    /// An object was seen as it is now.
    pub fn observe(&mut self, uid: &str, node: Node) -> Vec<Work> {
        let mut work = Vec::new();
        let old = self.nodes.insert(uid.to_string(), node.clone());
        let old_owners = old.as_ref().map(|o| o.owners.as_slice()).unwrap_or_default();
        if let Some(old) = &old
            && *old == node
        {
            return work;
        }
        for owner in &node.owners {
            let before = old_owners.iter().find(|o| o.uid == owner.uid);
            if before.is_none() {
                self.dependents.entry(owner.uid.clone()).or_default().insert(uid.to_string());
                match self.nodes.get(&owner.uid) {
                    // Not seen yet, or gone: the server is to be asked.
                    None => work.push(Work::Examine(uid.to_string())),
                    Some(o) if o.waits() => work.push(Work::Examine(uid.to_string())),
                    Some(o) if o.resource != node.resource && o.namespace != node.namespace => {
                        // Perhaps an owner in another namespace, which is none.
                        work.push(Work::Examine(uid.to_string()));
                    }
                    Some(_) => {}
                }
            } else if before.is_some_and(|b| b.blocks && !owner.blocks) {
                self.examine_if_waiting(&owner.uid, &mut work);
            }
        }
        for owner in old_owners {
            if !node.owners.iter().any(|o| o.uid == owner.uid) {
                self.forget_dependent(&owner.uid, uid);
                self.examine_if_waiting(&owner.uid, &mut work);
            }
        }
        let was = |f: &dyn Fn(&Node) -> bool| old.as_ref().is_some_and(f);
        if node.deleting && node.orphan && !was(&|o| o.deleting && o.orphan) {
            work.push(Work::Orphan(uid.to_string()));
        }
        if node.waits() && !was(&Node::waits) {
            work.extend(self.dependents.get(uid).into_iter().flatten().cloned().map(Work::Examine));
            work.push(Work::Examine(uid.to_string()));
        }
        work
    }

    /// An object is gone.
    pub fn gone(&mut self, uid: &str) -> Vec<Work> {
        let mut work = Vec::new();
        self.note_absent(uid);
        if let Some(node) = self.nodes.remove(uid) {
            for owner in &node.owners {
                self.forget_dependent(&owner.uid, uid);
                self.examine_if_waiting(&owner.uid, &mut work);
            }
        }
        work.extend(self.dependents.get(uid).into_iter().flatten().cloned().map(Work::Examine));
        work
    }

    fn forget_dependent(&mut self, owner: &str, uid: &str) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(uid);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn examine_if_waiting(&self, uid: &str, work: &mut Vec<Work>) {
        if self.nodes.get(uid).is_some_and(Node::waits) {
            work.push(Work::Examine(uid.to_string()));
        }
    }
}

/// How an owner stands, by what the server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It lives, so its dependents do.
    Solid,
    /// It doesn't exist.
    Dangling,
    /// It is being deleted in the foreground and waits for its dependents.
    Waiting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Keep,
    /// Some owners live: only the references to the others go.
    DropReferences(Vec<Uid>),
    Delete {
        policy: Policy,
        /// First stop blocking the owners, since a dependent is itself waiting: it may be a ring.
        unblock: bool,
    },
}

/// What happens to an object with these owners.
pub fn decide(node: &Node, owners: &[(Owner, Standing)], dependents: &[(Uid, Node)]) -> Decision {
    if owners.is_empty() {
        return Decision::Keep;
    }
    let of = |s: Standing| owners.iter().filter(move |(_, o)| *o == s).map(|(o, _)| o.uid.clone());
    if of(Standing::Solid).next().is_some() {
        let drop: Vec<Uid> = of(Standing::Dangling).chain(of(Standing::Waiting)).collect();
        return if drop.is_empty() { Decision::Keep } else { Decision::DropReferences(drop) };
    }
    if of(Standing::Waiting).next().is_some() && !dependents.is_empty() {
        let unblock = dependents.iter().any(|(_, d)| d.waits());
        return Decision::Delete { policy: Policy::Foreground, unblock };
    }
    // What the object's own finalizers ask for counts.
    let policy = match (node.orphan, node.foreground) {
        (true, _) => Policy::Orphan,
        (_, true) => Policy::Foreground,
        _ => Policy::Background,
    };
    Decision::Delete { policy, unblock: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(owners: &[(&str, bool)]) -> Node {
        Node {
            resource: 0,
            namespace: "n".into(),
            name: "x".into(),
            owners: owners
                .iter()
                .map(|(uid, blocks)| Owner {
                    uid: (*uid).into(),
                    api_version: "v1".into(),
                    kind: "K".into(),
                    name: (*uid).into(),
                    blocks: *blocks,
                })
                .collect(),
            deleting: false,
            foreground: false,
            orphan: false,
        }
    }

    /// A server that does what finalizers and policies ask for, and a collector that looks at what the graph says.
    struct World {
        live: HashMap<Uid, Node>,
        graph: Graph,
        work: Vec<Work>,
        steps: usize,
    }

    impl World {
        fn new(objects: &[(&str, Node)]) -> World {
            let mut w = World { live: HashMap::new(), graph: Graph::default(), work: Vec::new(), steps: 0 };
            for (uid, n) in objects {
                w.put(uid, n.clone());
            }
            w.run();
            w
        }

        fn put(&mut self, uid: &str, n: Node) {
            if n.deleting && !n.foreground && !n.orphan {
                self.live.remove(uid);
                let work = self.graph.gone(uid);
                self.work.extend(work);
            } else {
                self.live.insert(uid.into(), n.clone());
                let work = self.graph.observe(uid, n);
                self.work.extend(work);
            }
        }

        fn delete(&mut self, uid: &str, policy: Policy) {
            let Some(mut n) = self.live.get(uid).cloned() else { return };
            n.deleting = true;
            n.foreground |= policy == Policy::Foreground;
            n.orphan |= policy == Policy::Orphan;
            self.put(uid, n);
        }

        fn change(&mut self, uid: &str, f: impl FnOnce(&mut Node)) {
            let Some(mut n) = self.live.get(uid).cloned() else { return };
            f(&mut n);
            self.put(uid, n);
        }

        fn run(&mut self) {
            while let Some(work) = self.work.pop() {
                self.steps += 1;
                assert!(self.steps < 10_000, "does not settle");
                match work {
                    Work::Orphan(uid) => {
                        for (d, _) in self.graph.dependents(&uid) {
                            self.change(&d, |n| n.owners.retain(|o| o.uid != uid));
                        }
                        self.change(&uid, |n| n.orphan = false);
                    }
                    Work::Examine(uid) => {
                        let Some(n) = self.live.get(&uid).cloned() else { continue };
                        if n.waits() {
                            let all = self.graph.dependents(&uid);
                            let blocking =
                                all.iter().filter(|(_, d)| d.owners.iter().any(|o| o.uid == uid && o.blocks));
                            if blocking.clone().count() == 0 {
                                self.change(&uid, |n| n.foreground = false);
                            } else {
                                let more =
                                    all.iter().filter(|(_, d)| !d.waits()).map(|(u, _)| Work::Examine(u.clone()));
                                let more: Vec<_> = more.filter(|w| !self.work.contains(w)).collect();
                                self.work.extend(more);
                            }
                            continue;
                        }
                        if n.deleting {
                            continue;
                        }
                        let owners: Vec<_> = n
                            .owners
                            .iter()
                            .map(|o| match self.live.get(&o.uid) {
                                None => (o.clone(), Standing::Dangling),
                                Some(l) if l.waits() => (o.clone(), Standing::Waiting),
                                Some(_) => (o.clone(), Standing::Solid),
                            })
                            .collect();
                        match decide(&n, &owners, &self.graph.dependents(&uid)) {
                            Decision::Keep => {}
                            Decision::DropReferences(gone) => {
                                self.change(&uid, |n| n.owners.retain(|o| !gone.contains(&o.uid)));
                            }
                            Decision::Delete { policy, unblock } => {
                                if unblock {
                                    self.change(&uid, |n| n.owners.iter_mut().for_each(|o| o.blocks = false));
                                }
                                self.delete(&uid, policy);
                            }
                        }
                    }
                }
            }
        }

        fn left(&self) -> Vec<&str> {
            let mut left: Vec<_> = self.live.keys().map(String::as_str).collect();
            left.sort();
            left
        }
    }

    #[test]
    fn policies() {
        let family = || {
            World::new(&[
                ("deploy", node(&[])),
                ("rs", node(&[("deploy", true)])),
                ("pod1", node(&[("rs", true)])),
                ("pod2", node(&[("rs", true)])),
            ])
        };
        for (policy, left) in
            [(Policy::Background, vec![]), (Policy::Foreground, vec![]), (Policy::Orphan, vec!["pod1", "pod2", "rs"])]
        {
            let mut w = family();
            w.delete("deploy", policy);
            w.run();
            assert_eq!(w.left(), left, "{policy:?}");
        }
    }

    #[test]
    fn a_second_owner_keeps_it() {
        for policy in [Policy::Background, Policy::Foreground] {
            let mut w = World::new(&[("a", node(&[])), ("b", node(&[])), ("pod", node(&[("a", true), ("b", true)]))]);
            w.delete("a", policy);
            w.run();
            assert_eq!(w.left(), ["b", "pod"]);
            assert_eq!(w.live["pod"].owners.len(), 1);
            w.delete("b", policy);
            w.run();
            assert!(w.left().is_empty());
        }
    }

    #[test]
    fn a_ring_is_collected() {
        for policy in [Policy::Background, Policy::Foreground] {
            let mut w =
                World::new(&[("1", node(&[("3", true)])), ("2", node(&[("1", true)])), ("3", node(&[("2", true)]))]);
            assert_eq!(w.left().len(), 3);
            w.delete("1", policy);
            w.run();
            assert!(w.left().is_empty(), "{policy:?}: {:?}", w.live);
        }
    }

    #[test]
    fn what_was_born_without_its_owner_goes() {
        let w = World::new(&[("pod", node(&[("never", false)])), ("free", node(&[]))]);
        assert_eq!(w.left(), ["free"]);
    }

    #[test]
    fn foreground_keeps_the_owner_until_blockers_are_gone() {
        let mut w = World::new(&[("rc", node(&[])), ("pod", node(&[("rc", true)]))]);
        // The pod has a finalizer of its own: modelled by being put back as deleting and orphan-less but held.
        w.change("pod", |n| n.foreground = true);
        w.delete("rc", Policy::Foreground);
        let held = w.live["pod"].clone();
        assert!(w.live.contains_key("rc"));
        w.run();
        assert!(held.foreground && w.left().is_empty());
    }
}
