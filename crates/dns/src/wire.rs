//! DNS messages: reads queries, writes replies with name compression and truncation. No input can make it panic.

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const OPT: u16 = 41;
pub const ANY: u16 = 255;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

const HEADER_LEN: usize = 12;
const NAME_LEN_MAX: usize = 255;
/// Without EDNS a UDP reply may be this long.
const UDP_LEN: usize = 512;
/// What we take and send over UDP at most: fits one frame on every path (DNS flag day 2020).
pub const UDP_LEN_MAX: usize = 1232;
const OPT_LEN: usize = 11;

const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
pub const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const FLAG_CHECKING_DISABLED: u16 = 0x0010;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    BadVersion = 16,
}

/// A domain name in wire form, lower case, ending with the root label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// From text with dots; `None` when it is no DNS name.
    pub fn parse(text: &str) -> Option<Name> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        let text = text.strip_suffix('.').unwrap_or(text);
        for label in text.split('.').filter(|_| !text.is_empty()) {
            if label.is_empty() || label.len() > 63 {
                return None;
            }
            wire.push(label.len() as u8);
            wire.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
        }
        wire.push(0);
        (wire.len() <= NAME_LEN_MAX).then_some(Name(wire))
    }

    /// Reads an uncompressed name; gives the position behind it.
    fn read(packet: &[u8], mut at: usize) -> Option<(Name, usize)> {
        let mut wire = Vec::with_capacity(64);
        loop {
            let len = *packet.get(at)?;
            if len > 63 {
                return None;
            }
            let label = packet.get(at..=at + len as usize)?;
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
            at += label.len();
            if wire.len() > NAME_LEN_MAX {
                return None;
            }
            if len == 0 {
                return Some((Name(wire), at));
            }
        }
    }

    pub fn labels(&self) -> Vec<&[u8]> {
        let mut labels = Vec::with_capacity(8);
        let mut rest = &self.0[..];
        while let Some((&len, tail)) = rest.split_first() {
            let Some(label) = tail.get(..len as usize).filter(|l| !l.is_empty()) else {
                break;
            };
            labels.push(label);
            rest = &tail[len as usize..];
        }
        labels
    }

    pub fn wire(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for label in self.labels() {
            write!(f, "{}.", label.escape_ascii())?;
        }
        Ok(())
    }
}

/// A question, as far as we understood it.
#[derive(Clone, Debug)]
pub struct Query {
    pub id: u16,
    flags: u16,
    pub name: Name,
    pub kind: u16,
    pub class_in: bool,
    /// The question as the client wrote it, with its letter case.
    pub question: Vec<u8>,
    pub edns: Option<Edns>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    pub udp_len: u16,
    pub version: u8,
    pub dnssec_ok: bool,
}

/// Why a packet is no query.
#[derive(Debug)]
pub enum Unreadable {
    /// Answering would be wrong (it is a reply itself) or impossible.
    Ignore,
    /// The reply to send.
    Reply(Vec<u8>),
}

fn be16(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
}

fn be32(packet: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?))
}

impl Query {
    pub fn parse(packet: &[u8]) -> Result<Query, Unreadable> {
        let (Some(id), Some(flags)) = (be16(packet, 0), be16(packet, 2)) else {
            return Err(Unreadable::Ignore);
        };
        if flags & FLAG_RESPONSE != 0 || packet.len() < HEADER_LEN {
            return Err(Unreadable::Ignore);
        }
        let error = |rcode: Rcode| {
            let mut reply = vec![0; HEADER_LEN];
            reply[..2].copy_from_slice(&id.to_be_bytes());
            let echoed = flags & (0x7800 | FLAG_RECURSION_DESIRED);
            reply[2..4].copy_from_slice(&(FLAG_RESPONSE | echoed | rcode as u16).to_be_bytes());
            Unreadable::Reply(reply)
        };
        if flags >> 11 & 0xf != 0 {
            return Err(error(Rcode::NotImp));
        }
        Query::parse_body(packet, id, flags).ok_or_else(|| error(Rcode::FormErr))
    }

    fn parse_body(packet: &[u8], id: u16, flags: u16) -> Option<Query> {
        let [questions, answers, authorities, additionals] =
            [be16(packet, 4)?, be16(packet, 6)?, be16(packet, 8)?, be16(packet, 10)?];
        if questions != 1 || answers != 0 || authorities != 0 {
            return None;
        }
        let (name, at) = Name::read(packet, HEADER_LEN)?;
        let (kind, class) = (be16(packet, at)?, be16(packet, at + 2)?);
        let question = packet.get(HEADER_LEN..at + 4)?.to_vec();
        let mut query =
            Query { id, flags, name, kind, class_in: class == CLASS_IN || class == CLASS_ANY, question, edns: None };
        let mut at = at + 4;
        for _ in 0..additionals {
            let record = Record::read(packet, at)?;
            if record.kind == OPT {
                if query.edns.is_some() {
                    return None;
                }
                query.edns = Some(Edns {
                    udp_len: record.class,
                    version: (record.ttl >> 16) as u8,
                    dnssec_ok: record.ttl & 0x8000 != 0,
                });
            }
            at = record.end;
        }
        Some(query)
    }

    pub fn checking_disabled(&self) -> bool {
        self.flags & FLAG_CHECKING_DISABLED != 0
    }

    /// The longest UDP reply that the client takes.
    pub fn udp_len_max(&self) -> usize {
        self.edns.map_or(UDP_LEN, |e| (e.udp_len as usize).clamp(UDP_LEN, UDP_LEN_MAX))
    }
}

/// The fixed part of a resource record in someone's packet.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub kind: u16,
    pub class: u16,
    pub ttl: u32,
    pub ttl_at: usize,
    pub data_at: usize,
    pub end: usize,
}

impl Record {
    pub fn read(packet: &[u8], at: usize) -> Option<Record> {
        let at = skip_name(packet, at)?;
        let data_at = at + 10;
        let end = data_at + be16(packet, at + 8)? as usize;
        packet.get(data_at..end)?;
        Some(Record {
            kind: be16(packet, at)?,
            class: be16(packet, at + 2)?,
            ttl: be32(packet, at + 4)?,
            ttl_at: at + 4,
            data_at,
            end,
        })
    }
}

/// The position behind a possibly compressed name.
pub fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            len if len & 0xc0 == 0xc0 => return (at + 2 <= packet.len()).then_some(at + 2),
            len if len > 63 => return None,
            len => at += 1 + len as usize,
        }
    }
}

/// Builds a reply. Sections must be written in order: answers, authorities, additionals.
pub struct Reply {
    bytes: Vec<u8>,
    counts: [u16; 3],
    /// Ends of the answer records, for truncation at a record's border.
    answer_ends: Vec<usize>,
    /// Names written so far and where; for compression.
    names: Vec<(Vec<u8>, u16)>,
    edns: bool,
    flags: u16,
    rcode: Rcode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

/// A record's content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Data {
    Address(std::net::IpAddr),
    Cname(Name),
    Ns(Name),
    Ptr(Name),
    Srv { priority: u16, weight: u16, port: u16, target: Name },
    Txt(String),
    Soa { primary: Name, mailbox: Name, serial: u32, minimum: u32 },
}

impl Data {
    pub fn kind(&self) -> u16 {
        match self {
            Data::Address(std::net::IpAddr::V4(_)) => A,
            Data::Address(std::net::IpAddr::V6(_)) => AAAA,
            Data::Cname(_) => CNAME,
            Data::Ns(_) => NS,
            Data::Ptr(_) => PTR,
            Data::Srv { .. } => SRV,
            Data::Txt(_) => TXT,
            Data::Soa { .. } => SOA,
        }
    }
}

impl Reply {
    pub fn new(query: &Query, rcode: Rcode, authoritative: bool) -> Reply {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[..2].copy_from_slice(&query.id.to_be_bytes());
        bytes[5] = 1;
        bytes.extend_from_slice(&query.question);
        let mut flags =
            FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | query.flags & (FLAG_RECURSION_DESIRED | FLAG_CHECKING_DISABLED);
        if authoritative {
            flags |= FLAG_AUTHORITATIVE;
        }
        let mut reply = Reply {
            bytes,
            counts: [0; 3],
            answer_ends: Vec::new(),
            names: Vec::new(),
            edns: query.edns.is_some(),
            flags,
            rcode,
        };
        // The question's own name is the owner of most answers: they point to it, and so keep the client's letter case.
        reply.remember(query.name.wire(), HEADER_LEN);
        reply
    }

    fn remember(&mut self, wire: &[u8], at: usize) {
        let mut offset = 0;
        while let Some(&len) = wire.get(offset).filter(|l| **l > 0) {
            if at + offset < 0x4000 {
                self.names.push((wire[offset..].to_vec(), (at + offset) as u16));
            }
            offset += 1 + len as usize;
        }
    }

    fn name(&mut self, name: &Name) {
        let wire = name.wire();
        let mut offset = 0;
        while let Some(&len) = wire.get(offset).filter(|l| **l > 0) {
            if let Some((_, at)) = self.names.iter().find(|(known, _)| known == &wire[offset..]) {
                let pointer = 0xc000 | at;
                let here = self.bytes.len();
                self.bytes.extend_from_slice(&wire[..offset]);
                self.bytes.extend_from_slice(&pointer.to_be_bytes());
                self.remember_prefix(wire, offset, here);
                return;
            }
            offset += 1 + len as usize;
        }
        let here = self.bytes.len();
        self.bytes.extend_from_slice(wire);
        self.remember(wire, here);
    }

    fn remember_prefix(&mut self, wire: &[u8], end: usize, at: usize) {
        let mut offset = 0;
        while offset < end {
            if at + offset < 0x4000 {
                self.names.push((wire[offset..].to_vec(), (at + offset) as u16));
            }
            offset += 1 + wire[offset] as usize;
        }
    }

    pub fn record(&mut self, section: Section, owner: &Name, ttl: u32, data: &Data) {
        self.name(owner);
        self.bytes.extend_from_slice(&data.kind().to_be_bytes());
        self.bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.bytes.extend_from_slice(&ttl.to_be_bytes());
        let len_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        match data {
            Data::Address(std::net::IpAddr::V4(a)) => self.bytes.extend_from_slice(&a.octets()),
            Data::Address(std::net::IpAddr::V6(a)) => self.bytes.extend_from_slice(&a.octets()),
            Data::Cname(name) | Data::Ns(name) | Data::Ptr(name) => self.name(name),
            Data::Srv { priority, weight, port, target } => {
                for number in [priority, weight, port] {
                    self.bytes.extend_from_slice(&number.to_be_bytes());
                }
                // RFC 2782: the target must not be compressed.
                self.bytes.extend_from_slice(target.wire());
            }
            Data::Txt(text) => {
                for chunk in text.as_bytes().chunks(255) {
                    self.bytes.push(chunk.len() as u8);
                    self.bytes.extend_from_slice(chunk);
                }
            }
            Data::Soa { primary, mailbox, serial, minimum } => {
                self.name(primary);
                self.name(mailbox);
                for number in [*serial, 7200, 1800, 86400, *minimum] {
                    self.bytes.extend_from_slice(&number.to_be_bytes());
                }
            }
        }
        let len = (self.bytes.len() - len_at - 2) as u16;
        self.bytes[len_at..len_at + 2].copy_from_slice(&len.to_be_bytes());
        self.counts[section as usize] += 1;
        if section == Section::Answer {
            self.answer_ends.push(self.bytes.len());
        }
    }

    /// The finished packet; cut after the last answer that fits and marked, when longer than `len_max`.
    pub fn finish(mut self, len_max: usize) -> Vec<u8> {
        let opt_len = if self.edns { OPT_LEN } else { 0 };
        if self.bytes.len() + opt_len > len_max {
            let all_answers_end = self.answer_ends.last().copied();
            let fitting = self.answer_ends.iter().filter(|end| **end + opt_len <= len_max).count();
            let end = match fitting {
                0 => question_end(&self.bytes),
                n => self.answer_ends[n - 1],
            };
            self.bytes.truncate(end);
            // Additional records are a courtesy: leaving them out is no truncation (RFC 2181, 9).
            if Some(end) != all_answers_end || self.counts[1] > 0 {
                self.flags |= FLAG_TRUNCATED;
            }
            self.counts = [fitting as u16, 0, 0];
        }
        if self.edns {
            let extended = (self.rcode as u32 >> 4) << 24;
            self.bytes.push(0);
            self.bytes.extend_from_slice(&OPT.to_be_bytes());
            self.bytes.extend_from_slice(&(UDP_LEN_MAX as u16).to_be_bytes());
            self.bytes.extend_from_slice(&extended.to_be_bytes());
            self.bytes.extend_from_slice(&[0, 0]);
            self.counts[2] += 1;
        }
        self.bytes[2..4].copy_from_slice(&(self.flags | self.rcode as u16 & 0xf).to_be_bytes());
        for (i, count) in self.counts.iter().enumerate() {
            self.bytes[6 + 2 * i..8 + 2 * i].copy_from_slice(&count.to_be_bytes());
        }
        self.bytes
    }
}

fn question_end(packet: &[u8]) -> usize {
    skip_name(packet, HEADER_LEN).map_or(HEADER_LEN, |at| (at + 4).min(packet.len()))
}

/// A reply without records.
pub fn refuse(query: &Query, rcode: Rcode) -> Vec<u8> {
    Reply::new(query, rcode, false).finish(UDP_LEN)
}

/// An upstream's reply made ours: the client's id and letter case, TTLs aged, cut to `len_max` if it must be.
/// `None` when it does not answer this query.
pub fn adopt(reply: &[u8], query: &Query, age_seconds: u32, len_max: usize) -> Option<Vec<u8>> {
    let mut bytes = reply.to_vec();
    let question = bytes.get_mut(HEADER_LEN..HEADER_LEN + query.question.len())?;
    if !question.eq_ignore_ascii_case(&query.question) {
        return None;
    }
    question.copy_from_slice(&query.question);
    bytes[..2].copy_from_slice(&query.id.to_be_bytes());
    if bytes.len() > len_max {
        let end = HEADER_LEN + query.question.len();
        bytes.truncate(end);
        bytes[6..12].fill(0);
        bytes[2] |= (FLAG_TRUNCATED >> 8) as u8;
        return Some(bytes);
    }
    if age_seconds > 0 {
        for record in records(reply).filter(|r| r.kind != OPT) {
            let ttl = record.ttl.saturating_sub(age_seconds);
            bytes[record.ttl_at..record.ttl_at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
    }
    Some(bytes)
}

/// All records of a packet, up to the first unreadable one.
pub fn records(packet: &[u8]) -> impl Iterator<Item = Record> + '_ {
    let count: usize = [6, 8, 10].iter().map(|at| be16(packet, *at).unwrap_or(0) as usize).sum();
    let mut at = question_end(packet);
    (0..count).map_while(move |_| {
        let record = Record::read(packet, at)?;
        at = record.end;
        Some(record)
    })
}

/// Id, flags and response code of a reply.
pub fn reply_header(packet: &[u8]) -> Option<(u16, u16, u16)> {
    let flags = be16(packet, 2)?;
    (packet.len() >= HEADER_LEN && flags & FLAG_RESPONSE != 0).then_some((be16(packet, 0)?, flags, flags & 0xf))
}

/// How long a reply may be kept: the smallest TTL of its answers; of the SOA's minimum when there are none.
pub fn lifetime(packet: &[u8]) -> Option<u32> {
    let answers = be16(packet, 6)? as usize;
    if answers > 0 {
        return records(packet).take(answers).map(|r| r.ttl).min();
    }
    let soa = records(packet).find(|r| r.kind == SOA)?;
    let minimum = be32(packet, soa.end.checked_sub(4).filter(|at| *at >= soa.data_at)?)?;
    Some(soa.ttl.min(minimum))
}

/// A question of our own, with EDNS.
pub fn question(id: u16, name: &Name, kind: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&FLAG_RECURSION_DESIRED.to_be_bytes());
    bytes.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 1]);
    bytes.extend_from_slice(name.wire());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&OPT.to_be_bytes());
    bytes.extend_from_slice(&(UDP_LEN_MAX as u16).to_be_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes
}
