//! Frontends as elements of shared maps, and the transaction that turns what the kernel has into what it should have. Pure.
//!
//! ```text
//! map services   ip . proto . port              : goto CHAIN     ip 0.0.0.0 is "any local address": a node port
//! map endpoints  ip . proto . port . index      : ip . port
//! map affinity   client . ip . proto . port     : ip . port      written by the packet path, entries expire
//! set alive      ip . proto . port . ip . port                   backends that affinity may still lead to
//! set hairpin    ip . ip                                         backends of this node, each paired with itself
//!
//! prerouting, output → services: @services by destination; by node port if local; else reject in the service range
//! CHAIN (one per number of endpoints, reach and affinity, shared by all Services):
//!   dnat to ip daddr . proto . dport . numgen random mod K map @endpoints
//! postrouting: marked, or a backend that reached itself → masquerade
//! ```
//!
//! These are nat chains, so only a connection's first packet takes this path.

use crate::plan::{Action, Backend, Frontend, Listen, Node, Reach, UDP};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use sys::netlink::conntrack::Flow;
use sys::nft::expr::{Cmp, Dynset, Meta, Reject};
use sys::nft::{self, Batch, ChainType, Element, Family, Field, Hook, Map, Rule, Verdict, fields};

/// Clients remembered for affinity on one node; beyond it new ones are spread at random.
const AFFINITY_CLIENTS_MAX: u32 = 1 << 18;
const TCP: u8 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MapName {
    Services,
    Endpoints,
    Alive,
    Hairpin,
}

impl MapName {
    fn as_str(self) -> &'static str {
        match self {
            MapName::Services => "services",
            MapName::Endpoints => "endpoints",
            MapName::Alive => "alive",
            MapName::Hairpin => "hairpin",
        }
    }
}

const AFFINITY: &str = "affinity";

/// An element's value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Chain(String),
    Drop,
    Backend(Backend),
    Present,
}

type ElementKey = (MapName, Vec<u8>);

/// A chain that balances over endpoints; its name follows from its parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct BalanceChain {
    node_port: bool,
    kind: ChainKind,
    affinity: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum ChainKind {
    Cluster {
        count: usize,
    },
    External {
        count: usize,
    },
    /// The local endpoints lie behind the others in @endpoints.
    Local {
        count: usize,
        local: usize,
    },
}

impl BalanceChain {
    fn name(&self) -> String {
        let (kind, node) = (&self.kind, if self.node_port { "node-" } else { "" });
        let kind = match kind {
            ChainKind::Cluster { count } => format!("cluster-{count}"),
            ChainKind::External { count } => format!("external-{count}"),
            ChainKind::Local { count, local } => format!("local-{count}-{local}"),
        };
        let affinity = self.affinity.map(|a| format!("-for-{}", a.as_secs())).unwrap_or_default();
        format!("{node}{kind}{affinity}")
    }

    /// The chains that this one goes to, before itself.
    fn with_targets(&self) -> Vec<BalanceChain> {
        match self.kind {
            ChainKind::Local { count, .. } => {
                vec![
                    BalanceChain { kind: ChainKind::Cluster { count }, ..self.clone() },
                    BalanceChain { kind: ChainKind::External { count }, ..self.clone() },
                    self.clone(),
                ]
            }
            _ => vec![self.clone()],
        }
    }
}

/// UDP flows that lead where they no longer should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleUdp {
    listen: Listen,
    /// `None`: flows that were never translated, from before the Service was served.
    backend: Option<Backend>,
}

impl StaleUdp {
    pub fn matches(&self, flow: &Flow) -> bool {
        let to_listen = flow.original.protocol == UDP
            && flow.original.destination_port == self.listen.port
            && self.listen.address.is_none_or(|a| flow.original.destination == IpAddr::V4(a));
        to_listen
            && match self.backend {
                Some(b) => flow.reply.source == IpAddr::V4(b.address) && flow.reply.source_port == b.port,
                None => flow.reply.source == flow.original.destination,
            }
    }
}

/// What the kernel's table looks like in full, and how it must change.
#[derive(Debug)]
pub struct Ruleset {
    table: String,
    node: Node,
    service_cidrs: Vec<IpNet>,
    mark: u32,
    services: HashMap<String, Vec<Frontend>>,
    /// Two Services may claim one external address and port; the first keeps it.
    owners: HashMap<Listen, String>,
    losers: BTreeMap<Listen, BTreeSet<String>>,
    hairpins: HashMap<Ipv4Addr, usize>,
    elements: HashMap<ElementKey, Target>,
    chains: BTreeSet<BalanceChain>,
    /// Elements that changed since the last transaction, with the value that the kernel has.
    pending: BTreeMap<ElementKey, Option<Target>>,
    pending_chains: Vec<BalanceChain>,
    stale: Vec<StaleUdp>,
}

impl Ruleset {
    /// `mark`: the packet-mark bit that means "masquerade" between our chains.
    pub fn new(table: &str, node: Node, service_cidrs: Vec<IpNet>, mark: u32) -> Ruleset {
        Ruleset {
            table: table.into(),
            node,
            service_cidrs,
            mark,
            services: HashMap::new(),
            owners: HashMap::new(),
            losers: BTreeMap::new(),
            hairpins: HashMap::new(),
            elements: HashMap::new(),
            chains: BTreeSet::new(),
            pending: BTreeMap::new(),
            pending_chains: Vec::new(),
            stale: Vec::new(),
        }
    }

    /// Whether they differ from those that the table was made with. It is replaced then.
    pub fn set_service_cidrs(&mut self, service_cidrs: Vec<IpNet>) -> bool {
        let differ = self.service_cidrs != service_cidrs;
        self.service_cidrs = service_cidrs;
        differ
    }

    /// Replaces a Service's frontends (none: it is gone). Gives the Services that should be planned again, since an
    /// address that they want has become free.
    pub fn update(&mut self, service: &str, mut frontends: Vec<Frontend>) -> Vec<String> {
        for losers in self.losers.values_mut() {
            losers.remove(service);
        }
        self.losers.retain(|_, losers| !losers.is_empty());
        let mut seen = BTreeSet::new();
        frontends.retain(|f| {
            if !seen.insert(f.listen) {
                return false;
            }
            match self.owners.get(&f.listen) {
                Some(owner) if owner != service => {
                    tracing::warn!(service, %owner, listen = ?f.listen, "address and port are taken by another Service");
                    self.losers.entry(f.listen).or_default().insert(service.into());
                    false
                }
                _ => true,
            }
        });
        let old = self.services.remove(service).unwrap_or_default();
        if old == frontends {
            if !old.is_empty() {
                self.services.insert(service.into(), old);
            }
            return Vec::new();
        }
        self.note_stale_udp(&old, &frontends);
        for frontend in &old {
            self.owners.remove(&frontend.listen);
            self.remove(frontend);
        }
        for frontend in &frontends {
            self.owners.insert(frontend.listen, service.into());
            self.insert(frontend);
        }
        let freed: Vec<String> = old
            .iter()
            .filter(|f| !self.owners.contains_key(&f.listen))
            .filter_map(|f| self.losers.get(&f.listen))
            .flat_map(|l| l.iter().take(1).cloned())
            .collect();
        if !frontends.is_empty() {
            self.services.insert(service.into(), frontends);
        }
        freed
    }

    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    fn note_stale_udp(&mut self, old: &[Frontend], new: &[Frontend]) {
        let backends = |f: &Frontend| match &f.action {
            Action::Balance(b) => match &b.reach {
                Reach::ExternalLocal { local } => [b.backends.clone(), local.clone()].concat(),
                _ => b.backends.clone(),
            },
            _ => vec![],
        };
        for f in old.iter().filter(|f| f.listen.protocol == UDP) {
            let kept = new.iter().find(|n| n.listen == f.listen).map(backends).unwrap_or_default();
            let gone = backends(f).into_iter().filter(|b| !kept.contains(b));
            self.stale.extend(gone.map(|b| StaleUdp { listen: f.listen, backend: Some(b) }));
        }
        for f in new.iter().filter(|f| f.listen.protocol == UDP && !backends(f).is_empty()) {
            if old.iter().find(|o| o.listen == f.listen).is_none_or(|o| backends(o).is_empty()) {
                self.stale.push(StaleUdp { listen: f.listen, backend: None });
            }
        }
    }

    fn insert(&mut self, frontend: &Frontend) {
        let (chain, elements) = elements_of(frontend);
        for chain in chain.iter().flat_map(BalanceChain::with_targets) {
            if self.chains.insert(chain.clone()) {
                self.pending_chains.push(chain);
            }
        }
        for (key, target) in elements {
            self.set(key, Some(target));
        }
        for address in here_of(frontend) {
            let count = self.hairpins.entry(*address).or_default();
            *count += 1;
            if *count == 1 {
                self.set(hairpin_key(*address), Some(Target::Present));
            }
        }
    }

    fn remove(&mut self, frontend: &Frontend) {
        for (key, _) in elements_of(frontend).1 {
            self.set(key, None);
        }
        for address in here_of(frontend) {
            let Some(count) = self.hairpins.get_mut(address) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                self.hairpins.remove(address);
                self.set(hairpin_key(*address), None);
            }
        }
    }

    fn set(&mut self, key: ElementKey, target: Option<Target>) {
        let before = match target {
            Some(target) => self.elements.insert(key.clone(), target),
            None => self.elements.remove(&key),
        };
        self.pending.entry(key).or_insert(before);
    }

    /// The difference since the last transaction. The caller commits it, or replaces the table if that fails.
    pub fn take_changes(&mut self) -> Batch {
        let mut batch = Batch::new(Family::Ip, &self.table);
        for chain in std::mem::take(&mut self.pending_chains) {
            self.add_balance_chain(&mut batch, &chain);
        }
        let pending = std::mem::take(&mut self.pending);
        // Kernel maps have no "replace": an element with a new value is deleted and added in the same transaction.
        let mut deleted: BTreeMap<MapName, Vec<Element>> = BTreeMap::new();
        let mut added: BTreeMap<MapName, Vec<Element>> = BTreeMap::new();
        for ((map, key), before) in pending {
            let after = self.elements.get(&(map, key.clone()));
            if before.as_ref() == after {
                continue;
            }
            if before.is_some() {
                deleted.entry(map).or_default().push(Element::key(key.clone()));
            }
            if let Some(after) = after {
                added.entry(map).or_default().push(element(key, after));
            }
        }
        for (map, elements) in &deleted {
            batch.delete_elements(map.as_str(), elements);
        }
        for (map, elements) in &added {
            batch.add_elements(map.as_str(), elements);
        }
        batch
    }

    /// UDP flows to forget once the transaction is in force.
    pub fn take_stale_udp(&mut self) -> Vec<StaleUdp> {
        std::mem::take(&mut self.stale)
    }

    /// The whole table in one transaction, whatever the kernel has under its name. Tracked connections live on.
    pub fn replace_table(&mut self) -> Batch {
        self.pending.clear();
        self.pending_chains.clear();
        let mut batch = Batch::new(Family::Ip, &self.table);
        batch.replace_table();
        use Field::{Ipv4, Mark, Port, Protocol};
        batch.add_map(&Map::verdicts("services", &[Ipv4, Protocol, Port]));
        batch.add_map(&Map::values("endpoints", &[Ipv4, Protocol, Port, Mark], &[Ipv4, Port]));
        batch.add_map(
            &Map::values(AFFINITY, &[Ipv4, Ipv4, Protocol, Port], &[Ipv4, Port]).dynamic(AFFINITY_CLIENTS_MAX),
        );
        batch.add_map(&Map::set("alive", &[Ipv4, Protocol, Port, Ipv4, Port]));
        batch.add_map(&Map::set("hairpin", &[Ipv4, Ipv4]));

        batch.add_chain("reject");
        batch.add_rule("reject", Rule::new().l4_protocol(TCP).reject(Reject::TcpReset));
        batch.add_rule("reject", Rule::new().reject(Reject::PortUnreachable));

        batch.add_chain("services");
        batch.add_rule("services", load_listen(Rule::new(), false, 0).lookup_verdict("services", 0));
        batch.add_rule(
            "services",
            load_listen(Rule::new().destination_is_local(), true, 0).lookup_verdict("services", 0),
        );
        for services in self.service_cidrs.iter().filter(|c| c.addr().is_ipv4()) {
            // A port that no Service has; nothing else can live in this range.
            batch.add_rule(
                "services",
                Rule::new()
                    .destination_in(Cmp::Equal, services.network(), services.prefix_len())
                    .verdict(Verdict::goto("reject")),
            );
        }
        for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
            batch.add_base_chain(chain, ChainType::Nat, hook, nft::PRIORITY_DSTNAT);
            batch.add_rule(chain, Rule::new().verdict(Verdict::Jump("services".into())));
        }
        batch.add_base_chain("postrouting", ChainType::Nat, Hook::Postrouting, nft::PRIORITY_SRCNAT);
        batch.add_rule("postrouting", Rule::new().marked(self.mark).unmark(self.mark).masquerade());
        batch.add_rule(
            "postrouting",
            Rule::new().translated().load_source(false, 0).load_destination(false, 1).lookup("hairpin", 0).masquerade(),
        );

        for chain in self.chains.clone() {
            self.add_balance_chain(&mut batch, &chain);
        }
        let mut by_map: BTreeMap<MapName, Vec<Element>> = BTreeMap::new();
        for ((map, key), target) in &self.elements {
            by_map.entry(*map).or_default().push(element(key.clone(), target));
        }
        for (map, elements) in &by_map {
            batch.add_elements(map.as_str(), elements);
        }
        batch
    }

    /// Sorted `BTreeSet` order and [`BalanceChain::with_targets`] both put a chain behind those that it goes to.
    fn add_balance_chain(&self, batch: &mut Batch, chain: &BalanceChain) {
        let name = chain.name();
        batch.add_chain(&name);
        match chain.kind {
            ChainKind::Cluster { count } => {
                let mut off_cluster = Rule::new();
                let cidrs: Vec<_> = self.node.cluster_cidrs.iter().filter(|c| c.addr().is_ipv4()).collect();
                for cidr in &cidrs {
                    off_cluster = off_cluster.source_in(Cmp::NotEqual, cidr.network(), cidr.prefix_len());
                }
                if !cidrs.is_empty() {
                    batch.add_rule(&name, off_cluster.mark(self.mark));
                }
                add_balance(batch, &name, chain, count, 0);
            }
            ChainKind::External { count } => {
                batch.add_rule(&name, Rule::new().mark(self.mark));
                add_balance(batch, &name, chain, count, 0);
            }
            ChainKind::Local { count, local } => {
                let [cluster, external] = [ChainKind::Cluster { count }, ChainKind::External { count }]
                    .map(|kind| BalanceChain { kind, ..chain.clone() }.name());
                for cidr in self.node.cluster_cidrs.iter().filter(|c| c.addr().is_ipv4()) {
                    batch.add_rule(
                        &name,
                        Rule::new()
                            .source_in(Cmp::Equal, cidr.network(), cidr.prefix_len())
                            .verdict(Verdict::Goto(cluster.clone())),
                    );
                }
                batch.add_rule(&name, Rule::new().source_is_local().verdict(Verdict::Goto(external)));
                match local {
                    0 => batch.add_rule(&name, Rule::new().verdict(Verdict::Drop)),
                    _ => add_balance(batch, &name, chain, local, count),
                }
            }
        }
    }
}

/// `ip . proto . port` of the packet in three registers from `at`.
fn load_listen(rule: Rule, node_port: bool, at: u32) -> Rule {
    let rule = match node_port {
        true => rule.load_value(&Ipv4Addr::UNSPECIFIED.octets(), at),
        false => rule.load_destination(false, at),
    };
    rule.load_meta(Meta::L4Protocol, at + 1).load_destination_port(at + 2)
}

/// Registers: 0 client, 1..=3 frontend, 4 index, then the backend's address and port.
fn add_balance(batch: &mut Batch, name: &str, chain: &BalanceChain, count: usize, offset: usize) {
    let choose = |rule: Rule| {
        load_listen(rule, chain.node_port, 1).load_random(count as u32, offset as u32, 4).lookup_value(
            "endpoints",
            1,
            5,
        )
    };
    let Some(timeout) = chain.affinity else {
        batch.add_rule(name, choose(Rule::new()).dnat(false, 5, 6));
        return;
    };
    batch.add_rule(
        name,
        load_listen(Rule::new().load_source(false, 0), chain.node_port, 1)
            .lookup_value(AFFINITY, 0, 4)
            .lookup("alive", 1)
            .dynset(AFFINITY, Dynset::Update, 0, 4, Some(timeout))
            .dnat(false, 4, 5),
    );
    // A remembered backend that is gone is overwritten. Deleting first, since `update` renews only the time of an
    // element that is there, not its value.
    batch.add_rule(
        name,
        choose(Rule::new().load_source(false, 0))
            .dynset(AFFINITY, Dynset::Delete, 0, 5, None)
            .dynset(AFFINITY, Dynset::Update, 0, 5, Some(timeout))
            .dnat(false, 5, 6),
    );
    // The table of clients is full: balance without remembering.
    batch.add_rule(name, choose(Rule::new()).dnat(false, 5, 6));
}

fn listen_key(listen: &Listen) -> nft::set::Fields {
    fields().ip(listen.address.unwrap_or(Ipv4Addr::UNSPECIFIED).into()).protocol(listen.protocol).port(listen.port)
}

fn hairpin_key(address: Ipv4Addr) -> ElementKey {
    (MapName::Hairpin, fields().ip(address.into()).ip(address.into()).bytes())
}

fn here_of(frontend: &Frontend) -> &[Ipv4Addr] {
    match &frontend.action {
        Action::Balance(b) => &b.here,
        _ => &[],
    }
}

/// The chain that a frontend needs and its own elements.
fn elements_of(frontend: &Frontend) -> (Option<BalanceChain>, Vec<(ElementKey, Target)>) {
    let listen = &frontend.listen;
    let service = |verdict: Target| ((MapName::Services, listen_key(listen).bytes()), verdict);
    let balance = match &frontend.action {
        Action::Reject => return (None, vec![service(Target::Chain("reject".into()))]),
        Action::Drop => return (None, vec![service(Target::Drop)]),
        Action::Balance(balance) => balance,
    };
    let count = balance.backends.len();
    let (kind, local) = match &balance.reach {
        Reach::Cluster => (ChainKind::Cluster { count }, &[][..]),
        Reach::External => (ChainKind::External { count }, &[][..]),
        Reach::ExternalLocal { local } => (ChainKind::Local { count, local: local.len() }, &local[..]),
    };
    let chain = BalanceChain { node_port: listen.address.is_none(), kind, affinity: balance.affinity };
    let mut elements = vec![service(Target::Chain(chain.name()))];
    for (index, backend) in balance.backends.iter().chain(local).enumerate() {
        elements
            .push(((MapName::Endpoints, listen_key(listen).number(index as u32).bytes()), Target::Backend(*backend)));
        if balance.affinity.is_some() {
            let key = listen_key(listen).ip(backend.address.into()).port(backend.port).bytes();
            elements.push(((MapName::Alive, key), Target::Present));
        }
    }
    (Some(chain), elements)
}

fn element(key: Vec<u8>, target: &Target) -> Element {
    match target {
        Target::Drop => Element::verdict(key, Verdict::Drop),
        Target::Chain(name) => Element::verdict(key, Verdict::Goto(name.clone())),
        Target::Backend(b) => Element::value(key, fields().ip(b.address.into()).port(b.port).bytes()),
        Target::Present => Element::key(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Balance;

    fn ruleset() -> Ruleset {
        Ruleset::new("t", Node::default(), vec![], 0x4000)
    }

    fn frontend(port: u16, backends: &[u8], protocol: u8) -> Frontend {
        let backends: Vec<Backend> =
            backends.iter().map(|i| Backend { address: [10, 42, 0, *i].into(), port: 80 }).collect();
        let here = backends.iter().map(|b| b.address).collect();
        let action = if backends.is_empty() {
            Action::Reject
        } else {
            Action::Balance(Balance { backends, reach: Reach::Cluster, affinity: None, here })
        };
        Frontend { listen: Listen { address: Some([10, 43, 0, 1].into()), protocol, port }, action }
    }

    /// Pending element changes as (added or replaced, deleted).
    fn counts(rules: &Ruleset) -> (usize, usize) {
        let changed = rules.pending.iter().filter(|(k, before)| before.as_ref() != rules.elements.get(k));
        changed.fold((0, 0), |(a, d), (k, before)| {
            (a + rules.elements.contains_key(k) as usize, d + before.is_some() as usize)
        })
    }

    #[test]
    fn a_change_touches_only_its_own_elements() {
        let mut rules = ruleset();
        for port in 1..=1000 {
            rules.update(&format!("d/s{port}"), vec![frontend(port, &[1, 2], 6)]);
        }
        let _ = rules.take_changes();
        // One endpoint more: the verdict (another chain), one endpoint, one hairpin pair.
        rules.update("d/s5", vec![frontend(5, &[1, 2, 3], 6)]);
        assert_eq!(counts(&rules), (3, 1));
        let _ = rules.take_changes();
        rules.update("d/s5", vec![frontend(5, &[1, 2, 3], 6)]);
        assert!(rules.take_changes().is_empty());
        // There and back within one transaction is no change.
        rules.update("d/s5", vec![]);
        rules.update("d/s5", vec![frontend(5, &[1, 2, 3], 6)]);
        assert_eq!(counts(&rules), (0, 0));
        assert!(rules.take_changes().is_empty());
        // The shared hairpin pair of 10.42.0.1 stays while other Services have it.
        rules.update("d/s5", vec![]);
        assert_eq!(counts(&rules), (0, 5));
    }

    #[test]
    fn everything_goes_when_all_services_go() {
        let mut rules = ruleset();
        for port in 1..=20 {
            rules.update(&format!("d/s{port}"), vec![frontend(port, &[port as u8, 2], 6)]);
        }
        for port in 1..=20 {
            rules.update(&format!("d/s{port}"), vec![]);
        }
        assert!(
            rules.elements.is_empty()
                && rules.owners.is_empty()
                && rules.hairpins.is_empty()
                && rules.services.is_empty()
        );
    }

    #[test]
    fn the_first_service_keeps_an_address_until_it_goes() {
        let mut rules = ruleset();
        let (a, b) = (frontend(80, &[1], 6), frontend(80, &[2], 6));
        assert!(rules.update("d/a", vec![a.clone()]).is_empty());
        assert!(rules.update("d/b", vec![b.clone()]).is_empty());
        assert_eq!(rules.owners[&a.listen], "d/a");
        assert_eq!(rules.update("d/a", vec![]), ["d/b"]);
        assert!(rules.update("d/b", vec![b.clone()]).is_empty());
        assert_eq!(rules.owners[&b.listen], "d/b");
        rules.update("d/b", vec![]);
        assert!(rules.losers.is_empty() && rules.elements.is_empty());
    }

    #[test]
    fn udp_flows_to_gone_backends_are_stale() {
        let mut rules = ruleset();
        rules.update("d/a", vec![frontend(53, &[1, 2], 17), frontend(53, &[1, 2], 6)]);
        let listen = frontend(53, &[], 17).listen;
        assert_eq!(rules.take_stale_udp(), [StaleUdp { listen, backend: None }]);
        rules.update("d/a", vec![frontend(53, &[2, 3], 17), frontend(53, &[2, 3], 6)]);
        let gone = |i: u8| StaleUdp { listen, backend: Some(Backend { address: [10, 42, 0, i].into(), port: 80 }) };
        assert_eq!(rules.take_stale_udp(), [gone(1)]);
        rules.update("d/a", vec![]);
        assert_eq!(rules.take_stale_udp(), [gone(2), gone(3)]);
    }
}
