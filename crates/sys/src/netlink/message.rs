//! The netlink wire format: a 16-byte header, a family-specific fixed part, and attributes (type, length, value) padded to 4 bytes.
//!
//! Source: `include/uapi/linux/netlink.h`. Numbers are in host order unless an attribute says otherwise.

pub const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_ACK: u16 = 4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
/// Set in the `nlmsg_flags` of an error that carries attributes (extended ack).
pub const NLM_F_ACK_TLVS: u16 = 0x200;
/// Set in the `nlmsg_flags` of an error whose copy of the request is cut to its header.
pub const NLM_F_CAPPED: u16 = 0x100;
pub const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
pub const HEADER_LEN: usize = 16;

/// One request under construction. Several may be concatenated in one buffer (an nftables batch).
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub bytes: Vec<u8>,
    start: usize,
}

impl Message {
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Message {
        let mut message = Message::default();
        message.begin(kind, flags, 0, fixed);
        message
    }

    /// Starts the next message in the same buffer; the one before must be finished.
    pub fn begin(&mut self, kind: u16, flags: u16, sequence: u32, fixed: &[u8]) {
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
        self.pad();
    }

    /// Writes the length of the message that was begun last.
    pub fn finish(&mut self) {
        let len = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    pub fn set_sequence(&mut self, sequence: u32) {
        self.bytes[self.start + 8..self.start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }

    pub fn kind(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[self.start + 4], self.bytes[self.start + 5]])
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }
    /// A zero-terminated string, as the kernel's `NLA_NUL_STRING` wants it.
    pub fn attr_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attr(kind, &bytes)
    }
    pub fn attr_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attr(kind, &[value])
    }
    pub fn attr_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }
    /// Big-endian, as nf_tables wants all of its numbers.
    pub fn attr_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }
    pub fn attr_be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// An attribute that holds attributes; `fill` writes them.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.open(kind | NLA_F_NESTED);
        fill(self);
        self.close(at)
    }
    /// For nests that need raw bytes in front (`VETH_INFO_PEER`) or that are closed elsewhere.
    pub fn open(&mut self, kind: u16) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&0u16.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        at
    }
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }
    pub fn close(&mut self, at: usize) -> &mut Self {
        let len = (self.bytes.len() - at) as u16;
        self.bytes[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }
}

/// One decoded attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub fn nested(&self) -> Attributes<'a> {
        Attributes { rest: self.value }
    }
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.value.get(..4)?.try_into().ok()?))
    }
    pub fn be32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.get(..4)?.try_into().ok()?))
    }
    pub fn be16(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.value.get(..2)?.try_into().ok()?))
    }
    pub fn str(&self) -> &'a str {
        let end = self.value.iter().position(|&b| b == 0).unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).unwrap_or_default()
    }
    /// An IPv4 or IPv6 address by its length.
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        match self.value.len() {
            4 => <[u8; 4]>::try_from(self.value).ok().map(Into::into),
            16 => <[u8; 16]>::try_from(self.value).ok().map(Into::into),
            _ => None,
        }
    }
}

/// Iterates over attributes and stops at the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub fn new(bytes: &'a [u8]) -> Attributes<'a> {
        Attributes { rest: bytes }
    }
    /// The first attribute of that kind.
    pub fn find(mut self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self, |a| a.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;
    fn next(&mut self) -> Option<Attribute<'a>> {
        let header = self.rest.get(..4)?;
        let len = u16::from_ne_bytes([header[0], header[1]]) as usize;
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = self.rest.get(4..len)?;
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

/// A received message: header fields and payload.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// Splits a received datagram into its messages.
pub fn split(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER_LEN)?;
        let len = u32::from_ne_bytes(header[..4].try_into().ok()?) as usize;
        let payload = bytes.get(HEADER_LEN..len)?;
        let message = Received {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes(header[8..12].try_into().ok()?),
            payload,
        };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_a_round_trip() {
        let mut message = Message::new(16, NLM_F_REQUEST, &[1, 2, 3, 4]);
        message.attr_str(3, "eth0").attr_u32(4, 1500);
        message.nest(18, |m| {
            m.attr_u8(1, 7);
        });
        message.finish();
        let received = split(&message.bytes).next().expect("one message");
        assert_eq!((received.kind, received.flags), (16, NLM_F_REQUEST));
        let attributes = Attributes::new(&received.payload[4..]);
        assert_eq!(attributes.find(3).map(|a| a.str()), Some("eth0"));
        assert_eq!(attributes.find(4).and_then(|a| a.u32()), Some(1500));
        assert_eq!(attributes.find(18).and_then(|a| a.nested().find(1)).map(|a| a.value[0]), Some(7));
    }

    #[test]
    fn cut_and_lying_lengths_end_the_iteration() {
        let mut message = Message::new(16, 0, &[]);
        message.attr(1, &[9; 13]).attr(2, &[8; 5]);
        message.finish();
        for cut in 0..message.bytes.len() {
            for received in split(&message.bytes[..cut]) {
                let _ = Attributes::new(received.payload).count();
            }
        }
        assert_eq!(Attributes::new(&[2, 0, 1, 0]).count(), 0, "a length below the header must not loop");
        assert_eq!(Attributes::new(&[255, 255, 1, 0, 5]).count(), 0);
    }
}
