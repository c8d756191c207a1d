//! nftables through raw netlink: one transaction ([`Batch`]) of tables, chains, maps, rules and elements.
//!
//! In: names and expressions ([`expr::Rule`]). Out: a change that the kernel takes as a whole or not at all. A batch is
//! bound to one table, so that nothing here can touch another program's rules. Writing messages ourselves rather than
//! running `nft` makes an update of one element about a millisecond, and needs no program on the machine.
//! Source: `linux/netfilter/nf_tables.h`, nft(8).

pub mod expr;
pub mod set;

pub use expr::{Rule, Verdict};
pub use set::{Element, Field, Map, Value, fields};

use crate::netlink::message::{Message, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST};
use crate::netlink::{Result, Socket};

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_MSG_NEWTABLE: u16 = SUBSYSTEM;
const NFT_MSG_GETTABLE: u16 = SUBSYSTEM | 1;
const NFT_MSG_DELTABLE: u16 = SUBSYSTEM | 2;
const NFT_MSG_NEWCHAIN: u16 = SUBSYSTEM | 3;
const NFT_MSG_NEWRULE: u16 = SUBSYSTEM | 6;
const NFT_MSG_NEWSET: u16 = SUBSYSTEM | 9;
const NFT_MSG_NEWSETELEM: u16 = SUBSYSTEM | 12;
const NFT_MSG_GETSETELEM: u16 = SUBSYSTEM | 13;
const NFT_MSG_DELSETELEM: u16 = SUBSYSTEM | 14;

/// Elements go into nested attributes, whose length is 16 bits; this many of the largest kind fit with room to spare.
const ELEMENTS_PER_MESSAGE_MAX: usize = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    Ip,
    Ip6,
    Inet,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => 2,
            Family::Ip6 => 10,
        }
    }
}

/// Where a base chain hangs in the packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainType {
    Filter,
    Nat,
}

pub const PRIORITY_RAW: i32 = -300;
pub const PRIORITY_DSTNAT: i32 = -100;
pub const PRIORITY_FILTER: i32 = 0;
pub const PRIORITY_SRCNAT: i32 = 100;

/// A transaction on one table.
#[derive(Debug)]
pub struct Batch {
    message: Message,
    family: Family,
    table: String,
    /// What each message does, in order; for error texts.
    steps: Vec<String>,
}

fn generic(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// The control messages around a batch carry the subsystem in their resource id.
fn control() -> [u8; 4] {
    let id = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    [0, 0, id[0], id[1]]
}

impl Batch {
    pub fn new(family: Family, table: &str) -> Batch {
        let mut message = Message::default();
        message.begin(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, &control());
        message.finish();
        Batch { message, family, table: table.to_string(), steps: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Bytes that will be sent.
    pub fn len(&self) -> usize {
        self.message.bytes.len()
    }

    fn step(&mut self, kind: u16, flags: u16, what: impl Into<String>, fill: impl FnOnce(&mut Message, &str)) {
        self.steps.push(what.into());
        // Sequence numbers are positions; commit() adds nothing to them, since one batch is in flight at a time.
        self.message.begin(kind, NLM_F_REQUEST | flags, self.steps.len() as u32, &generic(self.family.number()));
        fill(&mut self.message, &self.table);
        self.message.finish();
    }

    /// Makes the table if it is missing.
    pub fn add_table(&mut self) {
        self.step(NFT_MSG_NEWTABLE, NLM_F_CREATE, "add table", |m, table| {
            m.attr_str(1, table);
        });
    }

    /// Deletes the table with all that it holds; it must exist.
    pub fn delete_table(&mut self) {
        self.step(NFT_MSG_DELTABLE, 0, "delete table", |m, table| {
            m.attr_str(1, table);
        });
    }

    /// An empty table, whether or not it existed: packets see either the old content or what this batch adds.
    pub fn replace_table(&mut self) {
        self.add_table();
        self.delete_table();
        self.add_table();
    }

    /// A chain that others jump to. Succeeds when it is there already.
    pub fn add_chain(&mut self, name: &str) {
        self.step(NFT_MSG_NEWCHAIN, NLM_F_CREATE, format!("add chain {name}"), |m, table| {
            m.attr_str(1, table).attr_str(3, name);
        });
    }

    /// A chain that the kernel calls at `hook`; lower priorities first. Its policy is accept.
    pub fn add_base_chain(&mut self, name: &str, chain_type: ChainType, hook: Hook, priority: i32) {
        self.step(NFT_MSG_NEWCHAIN, NLM_F_CREATE, format!("add chain {name}"), |m, table| {
            m.attr_str(1, table).attr_str(3, name);
            m.nest(4, |m| {
                m.attr_be32(1, hook as u32).attr_be32(2, priority as u32);
            });
            m.attr_str(
                7,
                match chain_type {
                    ChainType::Filter => "filter",
                    ChainType::Nat => "nat",
                },
            );
        });
    }

    /// Appends a rule.
    pub fn add_rule(&mut self, chain: &str, rule: Rule) {
        self.step(
            NFT_MSG_NEWRULE,
            NLM_F_CREATE | NLM_F_APPEND,
            format!("add rule to {chain}: {}", rule.words()),
            |m, table| {
                m.attr_str(1, table).attr_str(2, chain);
                m.nest(4, |m| m.raw(rule.bytes()));
            },
        );
    }

    pub fn add_map(&mut self, map: &Map) {
        let id = self.steps.len() as u32 + 1;
        self.step(NFT_MSG_NEWSET, NLM_F_CREATE, format!("add map {}", map.name), |m, table| {
            m.attr_str(1, table);
            map.encode(m, id);
        });
    }

    pub fn add_elements<'a>(&mut self, map: &str, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, "add", map, elements);
    }

    /// Deletes by key; every key must be there.
    pub fn delete_elements<'a>(&mut self, map: &str, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(NFT_MSG_DELSETELEM, 0, "delete", map, elements);
    }

    fn elements<'a>(
        &mut self,
        kind: u16,
        flags: u16,
        verb: &str,
        map: &str,
        elements: impl IntoIterator<Item = &'a Element>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let chunk = elements.by_ref().take(ELEMENTS_PER_MESSAGE_MAX);
            self.step(kind, flags, format!("{verb} elements of {map}"), |m, table| {
                m.attr_str(1, table).attr_str(2, map);
                m.nest(3, |m| {
                    for element in chunk {
                        element.encode(m, kind == NFT_MSG_NEWSETELEM);
                    }
                });
            });
        }
    }

    /// Sends the transaction. On an error nothing of it is in force.
    pub fn commit(mut self, socket: &mut Socket) -> Result<()> {
        if self.steps.is_empty() {
            return Ok(());
        }
        let last = self.steps.len() as u32 + 1;
        self.message.begin(NFNL_MSG_BATCH_END, NLM_F_REQUEST | NLM_F_ACK, last, &control());
        self.message.finish();
        socket.set_buffers((self.message.bytes.len() * 2).max(1 << 20));
        socket.batch(&self.message.bytes, last, |sequence| {
            let step = (sequence as usize).checked_sub(1).and_then(|i| self.steps.get(i));
            format!("nftables table {}: {}", self.table, step.map_or("commit", String::as_str))
        })
    }
}

/// The elements of a set or map as the kernel has them now: key and data bytes (data is empty for verdicts and sets).
pub fn elements(socket: &mut Socket, family: Family, table: &str, map: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut message = Message::new(NFT_MSG_GETSETELEM, NLM_F_REQUEST | NLM_F_DUMP, &generic(family.number()));
    message.attr_str(1, table).attr_str(2, map);
    let mut elements = Vec::new();
    socket.dump(&format!("list elements of {table} {map}"), message, |payload| {
        set::decode_elements(payload, &mut elements)
    })?;
    Ok(elements)
}

/// Whether a table of that name exists.
pub fn table_exists(socket: &mut Socket, family: Family, table: &str) -> Result<bool> {
    let mut message = Message::new(NFT_MSG_GETTABLE, NLM_F_REQUEST | NLM_F_ACK, &generic(family.number()));
    message.attr_str(1, table);
    match socket.dump(&format!("get table {table}"), message, |_| {}) {
        Ok(()) => Ok(true),
        Err(e) if e.is_not_found() => Ok(false),
        Err(e) => Err(e),
    }
}

/// Deletes a table, whether or not it exists.
pub fn remove_table(socket: &mut Socket, family: Family, table: &str) -> Result<()> {
    let mut batch = Batch::new(family, table);
    batch.add_table();
    batch.delete_table();
    batch.commit(socket)
}
