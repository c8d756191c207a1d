//! The pod network's own nftables table: masquerading, host ports, and a guard for loopback addresses.
//!
//! ```text
//! prerouting (raw)  packets from pods to 127.0.0.0/8 ........ drop
//! prerouting/output ip . proto . port in @hostports-ip ...... dnat to pod
//!                   local address, proto . port in @hostports dnat to pod
//! postrouting       pod → outside the cluster ............... masquerade
//!                   127.0.0.0/8 → pod ....................... masquerade
//!                   pod → itself through the node ........... masquerade
//! ```

use crate::ipam::Allocation;
use crate::{BridgeOptions, Result};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};
use sys::netlink::Socket;
use sys::nft::expr::{Cmp, Meta};
use sys::nft::{self, Batch, ChainType, Element, Family, Field, Hook, Map, Rule, Verdict, fields};

const HOSTPORTS: &str = "hostports";
const HOSTPORTS_IP: &str = "hostports-ip";
const HAIRPIN: &str = "hairpin";

/// Which map, which element.
fn elements(allocation: &Allocation) -> Vec<(&'static str, Element)> {
    let mut elements = Vec::new();
    let pod = allocation.address;
    if allocation.host_ports.is_empty() || pod.is_ipv6() {
        return elements;
    }
    elements.push((HAIRPIN, Element::key(fields().ip(pod).ip(pod).bytes())));
    for port in &allocation.host_ports {
        let target = fields().ip(pod).port(port.container_port).bytes();
        match port.host_ip {
            Some(ip @ IpAddr::V4(_)) => elements.push((
                HOSTPORTS_IP,
                Element::value(fields().ip(ip).protocol(port.protocol).port(port.host_port).bytes(), target),
            )),
            Some(IpAddr::V6(_)) => {}
            None => elements.push((
                HOSTPORTS,
                Element::value(fields().protocol(port.protocol).port(port.host_port).bytes(), target),
            )),
        }
    }
    elements
}

/// The whole table from nothing, in one transaction: packets see the old rules or the new ones, connections live on.
pub(crate) fn replace<'a>(
    socket: &mut Socket,
    options: &BridgeOptions,
    allocations: impl Iterator<Item = &'a Allocation>,
) -> Result<()> {
    let mut batch = Batch::new(Family::Ip, &options.table);
    batch.replace_table();
    batch.add_map(&Map::values(HOSTPORTS, &[Field::Protocol, Field::Port], &[Field::Ipv4, Field::Port]));
    batch.add_map(&Map::values(
        HOSTPORTS_IP,
        &[Field::Ipv4, Field::Protocol, Field::Port],
        &[Field::Ipv4, Field::Port],
    ));
    batch.add_map(&Map::set(HAIRPIN, &[Field::Ipv4, Field::Ipv4]));

    // route_localnet, which 127.0.0.1:hostPort needs, would let pods reach programs that listen on loopback only.
    batch.add_base_chain("guard", ChainType::Filter, Hook::Prerouting, nft::PRIORITY_RAW);
    let loopback = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0));
    batch.add_rule(
        "guard",
        Rule::new()
            .interface(Meta::InterfaceIn, Cmp::Equal, &options.bridge)
            .destination_in(Cmp::Equal, loopback, 8)
            .verdict(Verdict::Drop),
    );

    batch.add_chain("hostports");
    batch.add_rule(
        "hostports",
        Rule::new()
            .load_destination(false, 0)
            .load_meta(Meta::L4Protocol, 1)
            .load_destination_port(2)
            .lookup_value(HOSTPORTS_IP, 0, 4)
            .dnat(false, 4, 5),
    );
    batch.add_rule(
        "hostports",
        Rule::new()
            .destination_is_local()
            .load_meta(Meta::L4Protocol, 0)
            .load_destination_port(1)
            .lookup_value(HOSTPORTS, 0, 4)
            .dnat(false, 4, 5),
    );
    // Just before the Service proxy: upstream, too, lets host ports win over node ports.
    for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        batch.add_base_chain(chain, ChainType::Nat, hook, nft::PRIORITY_DSTNAT - 1);
        batch.add_rule(chain, Rule::new().verdict(Verdict::Jump("hostports".into())));
    }

    batch.add_base_chain("postrouting", ChainType::Nat, Hook::Postrouting, nft::PRIORITY_SRCNAT);
    for pods in options.pod_cidrs.iter().filter(|c| matches!(c, IpNet::V4(_))) {
        let mut rule = Rule::new().source_in(Cmp::Equal, pods.network(), pods.prefix_len());
        for cluster in options.cluster_cidrs.iter().filter(|c| matches!(c, IpNet::V4(_))) {
            rule = rule.destination_in(Cmp::NotEqual, cluster.network(), cluster.prefix_len());
        }
        let multicast = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0));
        batch.add_rule(
            "postrouting",
            rule.destination_in(Cmp::NotEqual, multicast, 4)
                .interface(Meta::InterfaceOut, Cmp::NotEqual, &options.bridge)
                .masquerade(),
        );
    }
    batch.add_rule(
        "postrouting",
        Rule::new()
            .interface(Meta::InterfaceOut, Cmp::Equal, &options.bridge)
            .source_in(Cmp::Equal, loopback, 8)
            .masquerade(),
    );
    batch.add_rule(
        "postrouting",
        Rule::new().load_source(false, 0).load_destination(false, 1).lookup(HAIRPIN, 0).masquerade(),
    );

    for allocation in allocations {
        for (map, element) in elements(allocation) {
            batch.add_elements(map, [&element]);
        }
    }
    Ok(batch.commit(socket)?)
}

pub(crate) fn publish(socket: &mut Socket, options: &BridgeOptions, allocation: &Allocation) -> Result<()> {
    let mut batch = Batch::new(Family::Ip, &options.table);
    for (map, element) in elements(allocation) {
        batch.add_elements(map, [&element]);
    }
    Ok(batch.commit(socket)?)
}

/// Nothing to withdraw is no error: the table may have been replaced since.
pub(crate) fn withdraw(socket: &mut Socket, options: &BridgeOptions, allocation: &Allocation) -> Result<()> {
    for (map, element) in elements(allocation) {
        let mut batch = Batch::new(Family::Ip, &options.table);
        batch.delete_elements(map, [&element]);
        match batch.commit(socket) {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}
