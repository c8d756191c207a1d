//! Rules: a chain of expressions that load, compare, look up and decide, over the kernel's 4-byte registers.
//!
//! Registers are numbered 0..=15 here (the kernel's `NFT_REG32_00`..`NFT_REG32_15`); a concatenated key lies in
//! neighbouring registers.

use crate::netlink::message::Message;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

impl Verdict {
    pub fn goto(chain: impl Into<String>) -> Verdict {
        Verdict::Goto(chain.into())
    }

    /// The content of an `NFTA_DATA` nest.
    pub(super) fn encode(&self, m: &mut Message) {
        let (code, chain) = match self {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5i32, None),
        };
        m.nest(2, |m| {
            m.attr_be32(1, code as u32);
            if let Some(chain) = chain {
                m.attr_str(2, chain);
            }
        });
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Meta {
    Mark = 3,
    InterfaceIn = 6,
    InterfaceOut = 7,
    L4Protocol = 16,
}

#[derive(Clone, Copy, Debug)]
pub enum Cmp {
    Equal = 0,
    NotEqual = 1,
}

#[derive(Clone, Copy, Debug)]
pub enum Dynset {
    Update = 1,
    Delete = 2,
}

#[derive(Clone, Copy, Debug)]
pub enum Reject {
    /// ICMP port unreachable
    PortUnreachable,
    TcpReset,
}

/// `ct state` bit of a connection's first packet.
pub const CT_STATE_NEW: u32 = 8;
/// `ct status` bit of a connection whose destination was translated.
pub const CT_STATUS_DNAT: u32 = 1 << 5;
/// The route type of an address that belongs to this machine.
pub const ADDRESS_TYPE_LOCAL: u32 = 2;

/// A rule under construction: each call appends one expression, in the order in which the kernel runs them.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    message: Message,
    words: Vec<&'static str>,
}

fn register(number: u32) -> u32 {
    debug_assert!(number < 16);
    number + 8
}

impl Rule {
    pub fn new() -> Rule {
        Rule::default()
    }
    pub(super) fn bytes(&self) -> &[u8] {
        &self.message.bytes
    }
    pub(super) fn words(&self) -> String {
        self.words.join(" ")
    }

    fn expr(mut self, name: &'static str, fill: impl FnOnce(&mut Message)) -> Rule {
        self.words.push(name);
        self.message.nest(1, |m| {
            m.attr_str(1, name);
            m.nest(2, fill);
        });
        self
    }

    fn payload(self, base: u32, offset: u32, len: u32, to: u32) -> Rule {
        self.expr("payload", |m| {
            m.attr_be32(1, register(to)).attr_be32(2, base).attr_be32(3, offset).attr_be32(4, len);
        })
    }
    pub fn load_source(self, ipv6: bool, to: u32) -> Rule {
        let (offset, len) = if ipv6 { (8, 16) } else { (12, 4) };
        self.payload(1, offset, len, to)
    }
    pub fn load_destination(self, ipv6: bool, to: u32) -> Rule {
        let (offset, len) = if ipv6 { (24, 16) } else { (16, 4) };
        self.payload(1, offset, len, to)
    }
    pub fn load_destination_port(self, to: u32) -> Rule {
        self.payload(2, 2, 2, to)
    }
    pub fn load_meta(self, key: Meta, to: u32) -> Rule {
        self.expr("meta", |m| {
            m.attr_be32(1, register(to)).attr_be32(2, key as u32);
        })
    }
    fn set_mark(self, from: u32) -> Rule {
        self.expr("meta", |m| {
            m.attr_be32(2, Meta::Mark as u32).attr_be32(3, register(from));
        })
    }
    fn load_ct(self, key: u32, to: u32) -> Rule {
        self.expr("ct", |m| {
            m.attr_be32(1, register(to)).attr_be32(2, key);
        })
    }
    pub fn load_value(self, bytes: &[u8], to: u32) -> Rule {
        self.expr("immediate", |m| {
            m.attr_be32(1, register(to)).nest(2, |m| {
                m.attr(1, bytes);
            });
        })
    }
    /// A random number in `offset..offset + modulus`, in host order.
    pub fn load_random(self, modulus: u32, offset: u32, to: u32) -> Rule {
        self.expr("numgen", |m| {
            m.attr_be32(1, register(to)).attr_be32(2, modulus).attr_be32(3, 1).attr_be32(4, offset);
        })
    }
    pub fn compare(self, from: u32, op: Cmp, bytes: &[u8]) -> Rule {
        self.expr("cmp", |m| {
            m.attr_be32(1, register(from)).attr_be32(2, op as u32).nest(3, |m| {
                m.attr(1, bytes);
            });
        })
    }
    /// `to = (from & mask) ^ xor`
    pub fn bitwise(self, from: u32, mask: &[u8], xor: &[u8], to: u32) -> Rule {
        self.expr("bitwise", |m| {
            m.attr_be32(1, register(from)).attr_be32(2, register(to)).attr_be32(3, mask.len() as u32);
            m.nest(4, |m| {
                m.attr(1, mask);
            });
            m.nest(5, |m| {
                m.attr(1, xor);
            });
        })
    }
    /// Goes on only if the key at `from` is in the set.
    pub fn lookup(self, set: &str, from: u32) -> Rule {
        self.expr("lookup", |m| {
            m.attr_str(1, set).attr_be32(2, register(from));
        })
    }
    /// Goes on only if the key is in the map; loads its value.
    pub fn lookup_value(self, map: &str, from: u32, to: u32) -> Rule {
        self.expr("lookup", |m| {
            m.attr_str(1, map).attr_be32(2, register(from)).attr_be32(3, register(to));
        })
    }
    /// Follows the verdict that the map has for the key, if it has one.
    pub fn lookup_verdict(self, map: &str, from: u32) -> Rule {
        self.expr("lookup", |m| {
            m.attr_str(1, map).attr_be32(2, register(from)).attr_be32(3, 0);
        })
    }
    /// Writes or deletes a map's element from the packet path; `update` also renews its time to live. `value` is the
    /// register of the map's value, which the kernel wants to see even for a deletion.
    pub fn dynset(self, map: &str, op: Dynset, key: u32, value: u32, timeout: Option<Duration>) -> Rule {
        self.expr("dynset", |m| {
            m.attr_str(1, map).attr_be32(3, op as u32).attr_be32(4, register(key)).attr_be32(5, register(value));
            if let Some(timeout) = timeout {
                m.attr_be64(6, timeout.as_millis() as u64);
            }
        })
    }
    /// Translates the destination to the address and port in two registers.
    pub fn dnat(self, ipv6: bool, address: u32, port: u32) -> Rule {
        self.expr("nat", |m| {
            m.attr_be32(1, 1).attr_be32(2, if ipv6 { 10 } else { 2 });
            m.attr_be32(3, register(address)).attr_be32(5, register(port));
        })
    }
    /// Translates the source to the outgoing interface's address.
    pub fn masquerade(self) -> Rule {
        // Random source ports avoid the collisions of parallel connections (NF_NAT_RANGE_PROTO_RANDOM_FULLY).
        self.expr("masq", |m| {
            m.attr_be32(1, 1 << 4);
        })
    }
    pub fn reject(self, how: Reject) -> Rule {
        self.expr("reject", |m| match how {
            Reject::TcpReset => {
                m.attr_be32(1, 1);
            }
            Reject::PortUnreachable => {
                m.attr_be32(1, 0).attr_u8(2, 3);
            }
        })
    }
    pub fn verdict(self, verdict: Verdict) -> Rule {
        self.expr("immediate", |m| {
            m.attr_be32(1, 0).nest(2, |m| verdict.encode(m));
        })
    }

    // What nft(8) writes in a few words. All of these use register 15 for their scratch, so keys at 0.. survive.

    pub fn l4_protocol(self, protocol: u8) -> Rule {
        self.load_meta(Meta::L4Protocol, 15).compare(15, Cmp::Equal, &[protocol])
    }
    /// `iifname`/`oifname`, in registers 12 to 15.
    pub fn interface(self, key: Meta, op: Cmp, name: &str) -> Rule {
        let mut bytes = [0u8; 16];
        for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        self.load_meta(key, 12).compare(12, op, &bytes)
    }
    /// `ip saddr NET` or, with `NotEqual`, `ip saddr != NET`.
    pub fn source_in(self, op: Cmp, network: IpAddr, prefix_len: u8) -> Rule {
        let at = scratch(network);
        self.load_source(network.is_ipv6(), at).in_network(at, op, network, prefix_len)
    }
    pub fn destination_in(self, op: Cmp, network: IpAddr, prefix_len: u8) -> Rule {
        let at = scratch(network);
        self.load_destination(network.is_ipv6(), at).in_network(at, op, network, prefix_len)
    }
    fn in_network(self, at: u32, op: Cmp, network: IpAddr, prefix_len: u8) -> Rule {
        let octets = match network {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        let mask: Vec<u8> = (0..octets.len())
            .map(|i| {
                let bits = (prefix_len as usize).saturating_sub(i * 8).min(8);
                (0xff00u16 >> bits) as u8
            })
            .collect();
        let network: Vec<u8> = octets.iter().zip(&mask).map(|(o, m)| o & m).collect();
        self.bitwise(at, &mask, &vec![0; octets.len()], at).compare(at, op, &network)
    }
    fn fib_type(self, flags: u32) -> Rule {
        self.expr("fib", |m| {
            m.attr_be32(1, register(15)).attr_be32(2, 3).attr_be32(3, flags);
        })
        .compare(15, Cmp::Equal, &ADDRESS_TYPE_LOCAL.to_ne_bytes())
    }
    /// `fib daddr type local`
    pub fn destination_is_local(self) -> Rule {
        self.fib_type(2)
    }
    /// `fib saddr type local`
    pub fn source_is_local(self) -> Rule {
        self.fib_type(1)
    }
    /// `ct status dnat`
    pub fn translated(self) -> Rule {
        self.load_ct(2, 15).bitwise(15, &CT_STATUS_DNAT.to_ne_bytes(), &[0; 4], 15).compare(15, Cmp::NotEqual, &[0; 4])
    }
    /// `meta mark set meta mark | bit`
    pub fn mark(self, bit: u32) -> Rule {
        self.load_meta(Meta::Mark, 15).bitwise(15, &(!bit).to_ne_bytes(), &bit.to_ne_bytes(), 15).set_mark(15)
    }
    /// `meta mark & bit != 0`
    pub fn marked(self, bit: u32) -> Rule {
        self.load_meta(Meta::Mark, 15).bitwise(15, &bit.to_ne_bytes(), &[0; 4], 15).compare(15, Cmp::NotEqual, &[0; 4])
    }
    /// Clears the bit.
    pub fn unmark(self, bit: u32) -> Rule {
        self.load_meta(Meta::Mark, 15).bitwise(15, &(!bit).to_ne_bytes(), &[0; 4], 15).set_mark(15)
    }
}

fn scratch(network: IpAddr) -> u32 {
    if network.is_ipv6() { 12 } else { 15 }
}
