//! Connection tracking through ctnetlink: list the UDP flows and forget some of them.
//!
//! Why only UDP: a TCP client whose backend is gone gets a reset and connects anew; a UDP client that keeps its source
//! port refreshes the old translation with every datagram and would talk to the dead backend for ever.
//! Source: `linux/netfilter/nfnetlink_conntrack.h`.

use super::message::{Attributes, Message, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use super::{Result, Socket};
use std::net::IpAddr;

const IPCTNL_MSG_CT_GET: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | 1;
const IPCTNL_MSG_CT_DELETE: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
}

/// A tracked flow: as the client sent it, and as answers come back (so `reply.source` is the chosen backend).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub original: Tuple,
    pub reply: Tuple,
    id: u32,
}

fn fixed(ipv6: bool) -> [u8; 4] {
    [(if ipv6 { libc::AF_INET6 } else { libc::AF_INET }) as u8, 0, 0, 0]
}

/// All tracked flows of a family.
pub fn flows(socket: &mut Socket, ipv6: bool) -> Result<Vec<Flow>> {
    let message = Message::new(IPCTNL_MSG_CT_GET, NLM_F_REQUEST | NLM_F_DUMP, &fixed(ipv6));
    let mut flows = Vec::new();
    socket.dump("list connections", message, |payload| flows.extend(payload.get(4..).and_then(parse)))?;
    Ok(flows)
}

/// Forgets one flow; a flow that ended meanwhile is no error.
pub fn forget(socket: &mut Socket, flow: &Flow) -> Result<()> {
    let tuple = &flow.original;
    let mut message = Message::new(IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, &fixed(tuple.source.is_ipv6()));
    message.nest(CTA_TUPLE_ORIG, |m| {
        m.nest(CTA_TUPLE_IP, |m| {
            for (v4, v6, address) in
                [(CTA_IP_V4_SRC, CTA_IP_V6_SRC, tuple.source), (CTA_IP_V4_DST, CTA_IP_V6_DST, tuple.destination)]
            {
                match address {
                    IpAddr::V4(a) => m.attr(v4, &a.octets()),
                    IpAddr::V6(a) => m.attr(v6, &a.octets()),
                };
            }
        });
        m.nest(CTA_TUPLE_PROTO, |m| {
            m.attr_u8(CTA_PROTO_NUM, tuple.protocol);
            m.attr(CTA_PROTO_SRC_PORT, &tuple.source_port.to_be_bytes());
            m.attr(CTA_PROTO_DST_PORT, &tuple.destination_port.to_be_bytes());
        });
    });
    // The id makes sure that it is still the same flow.
    message.attr(CTA_ID, &flow.id.to_be_bytes());
    match socket.request("forget connection", message) {
        Err(e) if !e.is_not_found() => Err(e),
        _ => Ok(()),
    }
}

fn parse(attributes: &[u8]) -> Option<Flow> {
    let attributes = Attributes::new(attributes);
    Some(Flow {
        original: tuple(attributes.find(CTA_TUPLE_ORIG)?.nested())?,
        reply: tuple(attributes.find(CTA_TUPLE_REPLY)?.nested())?,
        id: attributes.find(CTA_ID)?.be32()?,
    })
}

fn tuple(attributes: Attributes<'_>) -> Option<Tuple> {
    let ip = attributes.find(CTA_TUPLE_IP)?.nested();
    let proto = attributes.find(CTA_TUPLE_PROTO)?.nested();
    Some(Tuple {
        source: ip.find(CTA_IP_V4_SRC).or_else(|| ip.find(CTA_IP_V6_SRC))?.ip()?,
        destination: ip.find(CTA_IP_V4_DST).or_else(|| ip.find(CTA_IP_V6_DST))?.ip()?,
        protocol: *proto.find(CTA_PROTO_NUM)?.value.first()?,
        // Absent for protocols without ports.
        source_port: proto.find(CTA_PROTO_SRC_PORT).and_then(|a| a.be16()).unwrap_or(0),
        destination_port: proto.find(CTA_PROTO_DST_PORT).and_then(|a| a.be16()).unwrap_or(0),
    })
}
