//! SPDY/3.1 frames (source: the SPDY protocol draft 3.1, section 2).

use super::headers::{Packer, Unpacker};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::HashMap;

pub const REFUSED: u32 = 3;
pub const CANCEL: u32 = 5;
const FIN: u8 = 1;
const ID: u32 = 0x7fff_ffff;
const LENGTH_MAX: usize = 0xff_ffff;

#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    Open {
        stream: u32,
        fin: bool,
        headers: HashMap<String, String>,
    },
    Reply {
        stream: u32,
        headers: HashMap<String, String>,
    },
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings, window updates, more headers: nothing that we act on.
    Other,
}

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame is shorter than its kind")]
    Short,
    #[error("version {0} isn't SPDY/3")]
    Version(u16),
    #[error("a frame is too long")]
    Long,
    #[error("header block: {0}")]
    Headers(&'static str),
}

impl Frame {
    pub fn encode(&self, packer: &mut Packer) -> Result<Bytes, FrameError> {
        let mut body = BytesMut::new();
        let (kind, flags) = match self {
            Frame::Data { stream, fin, data } => {
                if data.len() > LENGTH_MAX {
                    return Err(FrameError::Long);
                }
                let mut out = BytesMut::with_capacity(8 + data.len());
                out.put_u32(stream & ID);
                out.put_u32((u32::from(*fin) << 24) | data.len() as u32);
                out.put_slice(data);
                return Ok(out.freeze());
            }
            Frame::Open { stream, fin, headers } => {
                body.put_u32(stream & ID);
                body.put_u32(0);
                body.put_u16(0);
                body.put_slice(&packer.pack(headers)?);
                (1, u8::from(*fin))
            }
            Frame::Reply { stream, headers } => {
                body.put_u32(stream & ID);
                body.put_slice(&packer.pack(headers)?);
                (2, 0)
            }
            Frame::Reset { stream, status } => {
                body.put_u32(stream & ID);
                body.put_u32(*status);
                (3, 0)
            }
            Frame::Ping { id } => {
                body.put_u32(*id);
                (6, 0)
            }
            Frame::GoAway => {
                body.put_u64(0);
                (7, 0)
            }
            Frame::Other => return Ok(Bytes::new()),
        };
        let mut out = BytesMut::with_capacity(8 + body.len());
        out.put_u16(0x8003);
        out.put_u16(kind);
        out.put_u32((u32::from(flags) << 24) | body.len() as u32);
        out.put_slice(&body);
        Ok(out.freeze())
    }

    pub fn decode(head: [u8; 8], mut body: Bytes, unpacker: &mut Unpacker) -> Result<Frame, FrameError> {
        let flags = head[4];
        if head[0] & 0x80 == 0 {
            let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            return Ok(Frame::Data { stream, fin: flags & FIN != 0, data: body });
        }
        let version = u16::from_be_bytes([head[0] & 0x7f, head[1]]);
        if version != 3 {
            return Err(FrameError::Version(version));
        }
        let need = |n: usize, body: &Bytes| {
            if body.len() < n { Err(FrameError::Short) } else { Ok(()) }
        };
        Ok(match u16::from_be_bytes([head[2], head[3]]) {
            1 => {
                need(10, &body)?;
                let stream = body.get_u32() & ID;
                body.advance(6);
                Frame::Open { stream, fin: flags & FIN != 0, headers: unpacker.unpack(&body)? }
            }
            2 => {
                need(4, &body)?;
                Frame::Reply { stream: body.get_u32() & ID, headers: unpacker.unpack(&body)? }
            }
            3 => {
                need(8, &body)?;
                Frame::Reset { stream: body.get_u32() & ID, status: body.get_u32() }
            }
            6 => {
                need(4, &body)?;
                Frame::Ping { id: body.get_u32() }
            }
            7 => Frame::GoAway,
            8 => {
                need(4, &body)?;
                body.advance(4);
                // Its block is part of the one compression context: it must be read even if nobody wants it.
                unpacker.unpack(&body)?;
                Frame::Other
            }
            _ => Frame::Other,
        })
    }
}
