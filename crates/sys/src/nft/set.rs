//! Sets and maps: types, flags, elements, and the byte layout of concatenated keys.

use super::expr::Verdict;
use crate::netlink::message::{Attributes, Message};
use std::net::IpAddr;
use std::time::Duration;

const NFT_SET_INTERVAL: u32 = 0x4;
const NFT_SET_MAP: u32 = 0x8;
const NFT_SET_TIMEOUT: u32 = 0x10;
const NFT_SET_EVAL: u32 = 0x20;
const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;

/// One part of a key or a value. The numbers are nft(8)'s own data types, so that `nft list` prints the parts readably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    /// A 32-bit number in host order.
    Mark,
}

impl Field {
    fn data_type(self) -> u32 {
        match self {
            Field::Ipv4 => 7,
            Field::Ipv6 => 8,
            Field::Protocol => 12,
            Field::Port => 13,
            Field::Mark => 19,
        }
    }
    fn len(self) -> u32 {
        match self {
            Field::Ipv6 => 16,
            Field::Ipv4 | Field::Mark => 4,
            Field::Port => 2,
            Field::Protocol => 1,
        }
    }
}

/// A set (no value), a map or a verdict map.
#[derive(Clone, Debug)]
pub struct Map {
    pub name: String,
    pub key: Vec<Field>,
    pub value: Value,
    /// Rules may add elements, each with a time to live.
    pub dynamic: bool,
    /// Keys are ranges; elements come in pairs of start and end (see [`Element::interval`]).
    pub interval: bool,
    /// 0 is no bound; a dynamic map needs one.
    pub size_max: u32,
}

#[derive(Clone, Debug)]
pub enum Value {
    None,
    Fields(Vec<Field>),
    Verdict,
}

impl Map {
    pub fn set(name: &str, key: &[Field]) -> Map {
        Map { name: name.into(), key: key.into(), value: Value::None, dynamic: false, interval: false, size_max: 0 }
    }
    pub fn values(name: &str, key: &[Field], value: &[Field]) -> Map {
        Map { value: Value::Fields(value.into()), ..Map::set(name, key) }
    }
    pub fn verdicts(name: &str, key: &[Field]) -> Map {
        Map { value: Value::Verdict, ..Map::set(name, key) }
    }
    pub fn dynamic(mut self, size_max: u32) -> Map {
        (self.dynamic, self.size_max) = (true, size_max);
        self
    }
    pub fn interval(mut self) -> Map {
        self.interval = true;
        self
    }

    pub(super) fn encode(&self, m: &mut Message, id: u32) {
        let mut flags = 0;
        if !matches!(self.value, Value::None) {
            flags |= NFT_SET_MAP;
        }
        if self.dynamic {
            flags |= NFT_SET_TIMEOUT | NFT_SET_EVAL;
        }
        if self.interval {
            flags |= NFT_SET_INTERVAL;
        }
        let (key_type, key_len) = concatenation(&self.key);
        m.attr_str(2, &self.name).attr_be32(3, flags).attr_be32(4, key_type).attr_be32(5, key_len);
        match &self.value {
            Value::None => {}
            Value::Verdict => {
                m.attr_be32(6, NFT_DATA_VERDICT).attr_be32(7, 0);
            }
            Value::Fields(parts) => {
                let (data_type, data_len) = concatenation(parts);
                m.attr_be32(6, data_type).attr_be32(7, data_len);
            }
        }
        if self.size_max > 0 {
            m.nest(9, |m| {
                m.attr_be32(1, self.size_max);
            });
        }
        m.attr_be32(10, id);
    }
}

/// nft's type number (6 bits a part) and the length of a concatenation (parts padded to 4 bytes).
fn concatenation(parts: &[Field]) -> (u32, u32) {
    match parts {
        [one] => (one.data_type(), one.len()),
        many => many.iter().fold((0, 0), |(ty, len), f| (ty << 6 | f.data_type(), len + f.len().next_multiple_of(4))),
    }
}

/// An element to add or delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub key: Vec<u8>,
    pub data: Data,
    pub timeout: Option<Duration>,
    interval_end: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    None,
    Value(Vec<u8>),
    Verdict(Verdict),
}

impl Element {
    pub fn key(key: Vec<u8>) -> Element {
        Element { key, data: Data::None, timeout: None, interval_end: false }
    }
    pub fn value(key: Vec<u8>, value: Vec<u8>) -> Element {
        Element { data: Data::Value(value), ..Element::key(key) }
    }
    pub fn verdict(key: Vec<u8>, verdict: Verdict) -> Element {
        Element { data: Data::Verdict(verdict), ..Element::key(key) }
    }
    /// The half-open range `[start, end)` as the two elements that an interval set wants; `end` is `None` at the top of the space.
    pub fn interval(start: Vec<u8>, end: Option<Vec<u8>>) -> Vec<Element> {
        let end = end.map(|key| Element { interval_end: true, ..Element::key(key) });
        std::iter::once(Element::key(start)).chain(end).collect()
    }

    pub(super) fn encode(&self, m: &mut Message, with_data: bool) {
        // NFTA_LIST_ELEM
        m.nest(1, |m| {
            if self.interval_end {
                m.attr_be32(3, NFT_SET_ELEM_INTERVAL_END);
            }
            m.nest(1, |m| {
                m.attr(1, &self.key);
            });
            if !with_data {
                return;
            }
            match &self.data {
                Data::None => {}
                Data::Value(value) => {
                    m.nest(2, |m| {
                        m.attr(1, value);
                    });
                }
                Data::Verdict(verdict) => {
                    m.nest(2, |m| verdict.encode(m));
                }
            }
            if let Some(timeout) = self.timeout {
                m.attr_be64(4, timeout.as_millis() as u64);
            }
        });
    }
}

pub(super) fn decode_elements(payload: &[u8], into: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    let Some(list) = payload.get(4..).and_then(|rest| Attributes::new(rest).find(3)) else {
        return;
    };
    for element in list.nested() {
        let value = |kind| element.nested().find(kind).and_then(|a| a.nested().find(1)).map(|a| a.value.to_vec());
        if let Some(key) = value(1) {
            into.push((key, value(2).unwrap_or_default()));
        }
    }
}

/// Builds a concatenated key or value: `fields().ip(a).protocol(6).port(80).bytes()`.
pub fn fields() -> Fields {
    Fields(Vec::new())
}

#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    pub fn ip(mut self, address: IpAddr) -> Fields {
        match address {
            IpAddr::V4(a) => self.0.extend_from_slice(&a.octets()),
            IpAddr::V6(a) => self.0.extend_from_slice(&a.octets()),
        }
        self
    }
    pub fn protocol(mut self, protocol: u8) -> Fields {
        self.0.extend_from_slice(&[protocol, 0, 0, 0]);
        self
    }
    pub fn port(mut self, port: u16) -> Fields {
        self.0.extend_from_slice(&port.to_be_bytes());
        self.0.extend_from_slice(&[0, 0]);
        self
    }
    pub fn number(mut self, number: u32) -> Fields {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}
