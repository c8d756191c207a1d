//! One query → what to do about it. Pure: the answer follows from the query, the index and a random number.
//!
//! Names (source: Kubernetes DNS specification 1.1.0), below the cluster domain:
//! `SVC.NS.svc`, `ENDPOINT.SVC.NS.svc`, `_PORT._PROTO.SVC.NS.svc`, `A-B-C-D.NS.pod`, `dns-version`, and the reverse
//! names of Service and headless endpoint addresses.

use crate::index::{Entry, Index, Kind, Port};
use crate::wire::{self, Data, Name, Query, Rcode, Reply, Section};
use ipnet::IpNet;
use std::net::IpAddr;

/// Seconds that "there is no such name" may be kept.
const NEGATIVE_TTL_SECONDS: u32 = 5;
/// The version of the specification that we follow.
const DNS_VERSION: &str = "1.1.0";

#[derive(Clone, Debug)]
pub struct Zone {
    pub domain: Name,
    pub ttl_seconds: u32,
    pub cluster_dns: Option<IpAddr>,
    /// Reverse names in these ranges are ours alone.
    pub cluster_cidrs: Vec<IpNet>,
}

/// What becomes of a query.
#[derive(Debug)]
pub enum Outcome {
    Reply(Vec<u8>),
    /// Not a name of the cluster.
    Forward,
    /// An ExternalName: answer with this CNAME and whatever `target` has, which upstream knows.
    Alias {
        target: Name,
    },
}

/// Records found for a name; `None` of the name itself, empty of the type.
#[derive(Debug, Default)]
struct Found {
    answers: Vec<Data>,
    additionals: Vec<(Name, Data)>,
}

enum Lookup {
    Records(Found),
    Alias(String),
    NoSuchName,
}

impl Zone {
    /// `random` spreads the order of several addresses; `len_max` is what the client's transport takes.
    pub fn answer(&self, index: &Index, query: &Query, random: u64, len_max: usize) -> Outcome {
        if let Some(edns) = query.edns
            && edns.version > 0
        {
            return Outcome::Reply(wire::refuse(query, Rcode::BadVersion));
        }
        if !query.class_in {
            return Outcome::Reply(wire::refuse(query, Rcode::Refused));
        }
        let labels = query.name.labels();
        let zone = self.domain.labels();
        let lookup = if labels.ends_with(&zone) {
            self.forward_lookup(index, &labels[..labels.len() - zone.len()], query.kind)
        } else if let Some(address) = reverse_address(&labels) {
            let found = self.reverse_lookup(index, address, query.kind);
            let ours = self.cluster_cidrs.iter().any(|c| c.contains(&address));
            match found {
                Some(found) => Lookup::Records(found),
                None if ours => Lookup::NoSuchName,
                None => return Outcome::Forward,
            }
        } else {
            return Outcome::Forward;
        };
        match lookup {
            Lookup::Records(found) => Outcome::Reply(self.reply(query, found, random, len_max)),
            Lookup::NoSuchName => Outcome::Reply(self.negative(query, Rcode::NxDomain, len_max)),
            Lookup::Alias(target) => self.alias(index, query, &target, random, len_max),
        }
    }

    fn alias(&self, index: &Index, query: &Query, target: &str, random: u64, len_max: usize) -> Outcome {
        if let Ok(address) = target.parse::<IpAddr>() {
            let answers = vec![Data::Address(address)];
            return Outcome::Reply(self.reply(
                query,
                Found { answers: of_kind(answers, query.kind), ..Found::default() },
                random,
                len_max,
            ));
        }
        let Some(target) = Name::parse(target).filter(|t| !t.labels().is_empty()) else {
            return Outcome::Reply(self.negative(query, Rcode::NxDomain, len_max));
        };
        let cname = Data::Cname(target.clone());
        if query.kind == wire::CNAME {
            return Outcome::Reply(self.reply(
                query,
                Found { answers: vec![cname], ..Found::default() },
                random,
                len_max,
            ));
        }
        let labels = target.labels();
        let zone = self.domain.labels();
        if !labels.ends_with(&zone) {
            return Outcome::Alias { target };
        }
        let mut reply = Reply::new(query, Rcode::NoError, true);
        reply.record(Section::Answer, &query.name, self.ttl_seconds, &cname);
        // One step inside of the zone; an alias of an alias is left to the client.
        if let Lookup::Records(mut found) = self.forward_lookup(index, &labels[..labels.len() - zone.len()], query.kind)
        {
            shuffle(&mut found.answers, random);
            for data in &found.answers {
                reply.record(Section::Answer, &target, self.ttl_seconds, data);
            }
        }
        Outcome::Reply(reply.finish(len_max))
    }

    fn reply(&self, query: &Query, mut found: Found, random: u64, len_max: usize) -> Vec<u8> {
        if found.answers.is_empty() {
            return self.negative(query, Rcode::NoError, len_max);
        }
        shuffle(&mut found.answers, random);
        let mut reply = Reply::new(query, Rcode::NoError, true);
        for data in &found.answers {
            reply.record(Section::Answer, &query.name, self.ttl_seconds, data);
        }
        for (owner, data) in &found.additionals {
            reply.record(Section::Additional, owner, self.ttl_seconds, data);
        }
        reply.finish(len_max)
    }

    /// No such name, or nothing of that type: with the SOA that lets resolvers remember it.
    fn negative(&self, query: &Query, rcode: Rcode, len_max: usize) -> Vec<u8> {
        let mut reply = Reply::new(query, rcode, true);
        reply.record(Section::Authority, &self.domain, NEGATIVE_TTL_SECONDS, &self.soa());
        reply.finish(len_max)
    }

    fn name(&self, relative: &str) -> Option<Name> {
        Name::parse(&format!("{relative}.{}", self.domain))
    }

    fn soa(&self) -> Data {
        let name = |relative| self.name(relative).unwrap_or_else(|| self.domain.clone());
        Data::Soa { primary: name("ns.dns"), mailbox: name("hostmaster"), serial: 1, minimum: NEGATIVE_TTL_SECONDS }
    }

    /// `labels` are relative to the cluster domain.
    fn forward_lookup(&self, index: &Index, labels: &[&[u8]], kind: u16) -> Lookup {
        let text: Option<Vec<&str>> = labels.iter().map(|l| std::str::from_utf8(l).ok()).collect();
        let Some(text) = text else {
            return Lookup::NoSuchName;
        };
        let records =
            |answers: Vec<Data>| Lookup::Records(Found { answers: of_kind(answers, kind), ..Found::default() });
        match text[..] {
            [] => records([self.soa()].into_iter().chain(self.name("ns.dns").map(Data::Ns)).collect()),
            ["svc" | "pod" | "dns"] => records(vec![]),
            ["dns-version"] => records(vec![Data::Txt(DNS_VERSION.into())]),
            ["ns", "dns"] => records(self.cluster_dns.map(Data::Address).into_iter().collect()),
            [address, _namespace, "pod"] => match dashed(address) {
                Some(address) => records(vec![Data::Address(address)]),
                None => Lookup::NoSuchName,
            },
            [namespace, "svc"] if index.has_namespace(namespace) => records(vec![]),
            [_namespace, "pod"] => records(vec![]),
            [ref rest @ .., service, namespace, "svc"] => match index.service(namespace, service) {
                Some(entry) => self.service(entry, &format!("{service}.{namespace}.svc"), rest, kind),
                None => Lookup::NoSuchName,
            },
            _ => Lookup::NoSuchName,
        }
    }

    /// `rest` are the labels in front of the Service's own name `service`.
    fn service(&self, entry: &Entry, service: &str, rest: &[&str], kind: u16) -> Lookup {
        if let (Kind::External(target), []) = (&entry.kind, rest) {
            return Lookup::Alias(target.clone());
        }
        match rest {
            [] => match &entry.kind {
                _ if kind == wire::SRV => self.srv(entry, service, |_| true),
                Kind::Cluster(ips) => Lookup::Records(Found {
                    answers: of_kind(ips.iter().copied().map(Data::Address).collect(), kind),
                    ..Found::default()
                }),
                _ => self.endpoints(entry, kind, |_| true),
            },
            [port, protocol] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) => {
                    let wanted = |p: &Port| p.name == port && p.protocol == protocol;
                    match self.srv(entry, service, wanted) {
                        // The name exists; the type that was asked for doesn't.
                        Lookup::Records(_) if kind != wire::SRV && kind != wire::ANY => {
                            Lookup::Records(Found::default())
                        }
                        lookup => lookup,
                    }
                }
                _ => Lookup::NoSuchName,
            },
            [protocol]
                if protocol
                    .strip_prefix('_')
                    .is_some_and(|p| entry.ports.iter().any(|port| port.protocol == p && !port.name.is_empty())) =>
            {
                Lookup::Records(Found::default())
            }
            [label] => self.endpoints(entry, kind, |l| l == *label),
            _ => Lookup::NoSuchName,
        }
    }

    /// Addresses of endpoints by label. No endpoint, no name.
    fn endpoints(&self, entry: &Entry, kind: u16, wanted: impl Fn(&str) -> bool) -> Lookup {
        let mut answers: Vec<Data> =
            entry.endpoints().filter(|(e, _)| wanted(&e.label())).map(|(e, _)| Data::Address(e.address)).collect();
        if answers.is_empty() {
            return Lookup::NoSuchName;
        }
        answers.sort_by_key(|d| format!("{d:?}"));
        answers.dedup();
        Lookup::Records(Found { answers: of_kind(answers, kind), ..Found::default() })
    }

    fn srv(&self, entry: &Entry, service: &str, wanted: impl Fn(&Port) -> bool) -> Lookup {
        let mut targets: Vec<(u16, Name, IpAddr)> = Vec::new();
        match &entry.kind {
            Kind::Cluster(ips) => {
                let Some(target) = self.name(service) else {
                    return Lookup::NoSuchName;
                };
                for port in entry.ports.iter().filter(|p| wanted(p)) {
                    targets.extend(ips.iter().map(|ip| (port.port, target.clone(), *ip)));
                }
            }
            _ => {
                for (endpoint, ports) in entry.endpoints() {
                    let Some(target) = self.name(&format!("{}.{service}", endpoint.label())) else {
                        continue;
                    };
                    targets
                        .extend(ports.iter().filter(|p| wanted(p)).map(|p| (p.port, target.clone(), endpoint.address)));
                }
            }
        }
        if targets.is_empty() {
            return Lookup::NoSuchName;
        }
        let mut found = Found::default();
        let mut pairs: Vec<(u16, Name)> = targets.iter().map(|(port, name, _)| (*port, name.clone())).collect();
        pairs.sort_by(|a, b| (a.0, a.1.wire()).cmp(&(b.0, b.1.wire())));
        pairs.dedup();
        let weight = u16::try_from(100 / pairs.len()).unwrap_or(1).max(1);
        found.answers =
            pairs.into_iter().map(|(port, target)| Data::Srv { priority: 0, weight, port, target }).collect();
        for (_, name, address) in targets {
            let additional = (name, Data::Address(address));
            if !found.additionals.contains(&additional) {
                found.additionals.push(additional);
            }
        }
        Lookup::Records(found)
    }

    /// `None` when no Service has the address.
    fn reverse_lookup(&self, index: &Index, address: IpAddr, kind: u16) -> Option<Found> {
        let mut names = Vec::new();
        for (namespace, service, entry) in index.by_address(address) {
            let service = format!("{service}.{namespace}.svc");
            match &entry.kind {
                Kind::Cluster(ips) if ips.contains(&address) => names.extend(self.name(&service)),
                Kind::Headless { .. } => {
                    let endpoints = entry.endpoints().filter(|(e, _)| e.address == address);
                    names.extend(endpoints.filter_map(|(e, _)| self.name(&format!("{}.{service}", e.label()))));
                }
                _ => {}
            }
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|n| seen.insert(n.clone()));
        let answers: Vec<Data> = names.into_iter().map(Data::Ptr).collect();
        (!answers.is_empty()).then(|| Found { answers: of_kind(answers, kind), ..Found::default() })
    }
}

fn of_kind(mut answers: Vec<Data>, kind: u16) -> Vec<Data> {
    answers.retain(|d| d.kind() == kind || kind == wire::ANY);
    answers
}

/// Any order is right; a different one for each query spreads clients that take the first.
fn shuffle(answers: &mut [Data], mut random: u64) {
    for i in (1..answers.len()).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        answers.swap(i, (random >> 33) as usize % (i + 1));
    }
}

/// `10-42-0-5` or `2001-db8--5`.
fn dashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse().ok().map(IpAddr::V4);
    v4.or_else(|| label.replace('-', ":").parse().ok().map(IpAddr::V6))
}

/// The address of a reverse name (`in-addr.arpa`, `ip6.arpa`).
fn reverse_address(labels: &[&[u8]]) -> Option<IpAddr> {
    let text: Vec<&str> = labels.iter().map(|l| std::str::from_utf8(l).ok()).collect::<Option<_>>()?;
    match text[..] {
        [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok().map(IpAddr::V4),
        [ref nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let value = nibbles.iter().rev().try_fold(0u128, |value, n| {
                let digit = u128::from_str_radix(n, 16).ok().filter(|_| n.len() == 1)?;
                Some(value << 4 | digit)
            })?;
            Some(IpAddr::V6(value.into()))
        }
        _ => None,
    }
}
