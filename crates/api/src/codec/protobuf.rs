//! Protobuf (`application/vnd.kubernetes.protobuf`) for built-in kinds, both ways, driven by the facts.
//!
//! A body is the four bytes `k8s\0` and a `runtime.Unknown` with type, raw message and content type. Messages
//! are proto2 as gogo generates them: fields in the order of their numbers, non-pointer scalars and structs
//! always written, numbers in lists unpacked, map entries sorted by key. What JSON has as one struct may be
//! several nested ones here ([`crate::facts::Inline`]).

use super::json::{DecodeError, canonical, dropped};
use super::scalar::{canonical_quantity, format_duration, format_micro_time, format_time, parse_duration, parse_time};
use crate::facts::{Union, facts};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use meta::schema::{Field, Shape, TypeId, Types};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;
use std::sync::LazyLock;

/// What every body starts with.
pub const MAGIC: &[u8; 4] = b"k8s\0";
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// Messages nested deeper than this are refused.
const DEPTH_MAX: usize = 128;

/// `runtime.Unknown`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Envelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub raw: &'a [u8],
    /// Of `raw`: empty for protobuf, or `application/json`.
    pub content_type: String,
}

/// An object that doesn't fit its type; our own mistake, since stored objects have been decoded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("failed to encode {kind} as protobuf: {what}")]
pub struct EncodeError {
    pub kind: String,
    pub what: String,
}

// ---------------------------------------------------------------------------------------------- plans

/// What one protobuf field number of a message means.
#[derive(Clone, Copy)]
enum Step {
    /// Index into the struct's fields.
    Field(u32),
    Inline(TypeId),
}

/// Every message's fields, sorted by number.
static PLANS: LazyLock<HashMap<TypeId, Vec<(u32, Step)>>> = LazyLock::new(|| {
    let f = facts();
    let mut plans = HashMap::new();
    for (i, ty) in f.types.types.iter().enumerate() {
        let id = TypeId(i as u32);
        let Shape::Struct(s) = &ty.shape else {
            continue;
        };
        let mut plan: Vec<(u32, Step)> = s
            .fields
            .iter()
            .enumerate()
            .filter(|(_, f)| f.proto > 0)
            .map(|(i, f)| (f.proto, Step::Field(i as u32)))
            .collect();
        for inline in f.inlines.get(&id).into_iter().flatten() {
            plan.push((inline.proto, Step::Inline(inline.ty)));
        }
        plan.sort_unstable_by_key(|p| p.0);
        plans.insert(id, plan);
    }
    plans
});

fn plan(ty: TypeId) -> &'static [(u32, Step)] {
    PLANS.get(&ty).map(Vec::as_slice).unwrap_or_default()
}

// --------------------------------------------------------------------------------------------- encoding

/// A whole body: magic, envelope, message. `apiVersion` and `kind` come from the object.
pub fn encode(ty: TypeId, object: &Value) -> Result<Vec<u8>, EncodeError> {
    let text = |k: &str| object.get(k).and_then(Value::as_str).unwrap_or_default();
    let raw = encode_raw(ty, object)?;
    let mut meta = Vec::new();
    put_bytes(&mut meta, 1, text("apiVersion").as_bytes());
    put_bytes(&mut meta, 2, text("kind").as_bytes());
    let mut out = Vec::with_capacity(raw.len() + 64);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &meta);
    put_bytes(&mut out, 2, &raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// The bare message, without magic and envelope.
pub fn encode_raw(ty: TypeId, object: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(512);
    message(ty, object.as_object(), &mut out).map_err(|what| EncodeError {
        kind: object.get("kind").and_then(Value::as_str).unwrap_or_default().to_string(),
        what,
    })?;
    Ok(out)
}

/// One frame of a watch (`…;stream=watch`): big-endian length, then a `WatchEvent` whose object is a whole body.
/// `event` is `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
pub fn watch_frame(event: &str, ty: TypeId, object: &Value) -> Result<Vec<u8>, EncodeError> {
    Ok(watch_frame_of(event, &encode(ty, object)?))
}

/// As [`watch_frame`], for a body that is encoded already.
pub fn watch_frame_of(event: &str, body: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(body.len() + 8);
    put_bytes(&mut raw, 1, body);
    let mut message = Vec::with_capacity(raw.len() + 24);
    put_bytes(&mut message, 1, event.as_bytes());
    put_bytes(&mut message, 2, &raw);
    let mut out = Vec::with_capacity(message.len() + 4);
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(&message);
    out
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_key(out: &mut Vec<u8>, number: u32, wire: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire));
}

fn put_int(out: &mut Vec<u8>, number: u32, n: i64) {
    put_key(out, number, 0);
    put_varint(out, n as u64);
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_key(out, number, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn write_int(out: &mut Vec<u8>, number: u32, n: i64) -> Result<(), String> {
    put_int(out, number, n);
    Ok(())
}

fn write_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) -> Result<(), String> {
    put_bytes(out, number, bytes);
    Ok(())
}

/// A length-delimited field whose content is written in place, then moved to make room for its length.
fn put_nested(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    put_key(out, number, 2);
    let start = out.len();
    write(out)?;
    let len = out.len() - start;
    let mut prefix = Vec::with_capacity(5);
    put_varint(&mut prefix, len as u64);
    out.splice(start..start, prefix);
    Ok(())
}

fn message(ty: TypeId, object: Option<&Map<String, Value>>, out: &mut Vec<u8>) -> Result<(), String> {
    let types = &facts().types;
    let Shape::Struct(s) = types.shape(ty) else {
        return Err("not a message".into());
    };
    for (number, step) in plan(ty) {
        match step {
            // Of the same JSON object, only the inlined struct's own fields are written.
            Step::Inline(inner) => put_nested(out, *number, |out| message(*inner, object, out))?,
            Step::Field(i) => {
                let Some(f) = s.fields.get(*i as usize) else {
                    continue;
                };
                let value = object.and_then(|o| o.get(&f.name)).filter(|v| !v.is_null());
                field(types, f, value, out).map_err(|e| format!("{}: {e}", f.name))?;
            }
        }
    }
    Ok(())
}

fn field(types: &Types, f: &Field, value: Option<&Value>, out: &mut Vec<u8>) -> Result<(), String> {
    match (types.shape(f.ty), value) {
        (Shape::List(_), Some(v)) if facts().wrapped.contains(&f.ty) => {
            put_nested(out, f.proto, |out| wrapped_list(v, out))
        }
        (Shape::List(l), Some(Value::Array(items))) => {
            items.iter().try_for_each(|v| single(types, l.item, f.proto, Some(v), out))
        }
        (Shape::Map { value: ty, .. }, Some(Value::Object(map))) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by(|a, b| a.0.cmp(b.0));
            members.into_iter().try_for_each(|(k, v)| {
                put_nested(out, f.proto, |out| {
                    put_bytes(out, 1, k.as_bytes());
                    match types.shape(*ty) {
                        Shape::List(_) => put_nested(out, 2, |out| wrapped_list(v, out)),
                        _ => single(types, *ty, 2, Some(v), out),
                    }
                })
            })
        }
        (Shape::List(_) | Shape::Map { .. }, Some(_)) => Err("a value of another type".into()),
        (Shape::List(_) | Shape::Map { .. } | Shape::Bytes, None) => Ok(()),
        (_, None) if f.pointer => Ok(()),
        (_, value) => single(types, f.ty, f.proto, value, out),
    }
}

/// `ExtraValue` and `Verbs`: a message with `items = 1`.
fn wrapped_list(value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    for item in value.as_array().ok_or("not a list")? {
        put_bytes(out, 1, item.as_str().ok_or("not a string")?.as_bytes());
    }
    Ok(())
}

/// One value that is no list or map; `None` is Go's zero value.
fn single(types: &Types, ty: TypeId, number: u32, value: Option<&Value>, out: &mut Vec<u8>) -> Result<(), String> {
    let value = value.filter(|v| !v.is_null());
    let wrong = || Err::<(), String>("a value of another type".into());
    let text = || match value {
        None => Ok(""),
        Some(Value::String(s)) => Ok(s.as_str()),
        Some(_) => Err("not a string".to_string()),
    };
    match types.shape(ty) {
        Shape::Struct(_) => match value {
            None => put_nested(out, number, |out| message(ty, None, out)),
            Some(Value::Object(o)) => put_nested(out, number, |out| message(ty, Some(o), out)),
            Some(_) => wrong(),
        },
        Shape::Bool => match value {
            None => write_int(out, number, 0),
            Some(Value::Bool(b)) => write_int(out, number, i64::from(*b)),
            Some(_) => wrong(),
        },
        Shape::Int32 | Shape::Int64 => match value {
            None => write_int(out, number, 0),
            Some(v) => write_int(out, number, v.as_i64().ok_or("not an integer")?),
        },
        Shape::Double => {
            let f = value.map_or(Some(0.0), Value::as_f64).ok_or("not a number")?;
            put_key(out, number, 1);
            out.extend_from_slice(&f.to_le_bytes());
            Ok(())
        }
        Shape::String => write_bytes(out, number, text()?.as_bytes()),
        Shape::Bytes => {
            let bytes = BASE64.decode(text()?).map_err(|e| e.to_string())?;
            write_bytes(out, number, &bytes)
        }
        Shape::Quantity => {
            let q = match value {
                Some(Value::Number(n)) => n.to_string(),
                None => "0".to_string(),
                Some(_) => text()?.to_string(),
            };
            put_nested(out, number, |out| write_bytes(out, 1, q.as_bytes()))
        }
        Shape::IntOrString => {
            let (kind, int, string) = match value {
                Some(Value::String(s)) => (1, 0, s.as_str()),
                Some(v) => (0, v.as_i64().ok_or("neither integer nor string")?, ""),
                None => (0, 0, ""),
            };
            put_nested(out, number, |out| {
                put_int(out, 1, kind);
                put_int(out, 2, int);
                put_bytes(out, 3, string.as_bytes());
                Ok(())
            })
        }
        Shape::Time | Shape::MicroTime => put_nested(out, number, |out| {
            let Some(_) = value else { return Ok(()) };
            let nanos = parse_time(text()?).ok_or("not a time")?.as_nanosecond();
            let micro = matches!(types.shape(ty), Shape::MicroTime);
            put_int(out, 1, nanos.div_euclid(1_000_000_000) as i64);
            put_int(out, 2, if micro { nanos.rem_euclid(1_000_000_000) as i64 / 1000 * 1000 } else { 0 });
            Ok(())
        }),
        Shape::Duration => {
            let d = if value.is_some() { parse_duration(text()?).ok_or("not a duration")? } else { 0 };
            put_nested(out, number, |out| write_int(out, 1, d))
        }
        Shape::FieldsV1 | Shape::RawExtension | Shape::Any => put_nested(out, number, |out| match value {
            None => Ok(()),
            Some(v) => match facts().unions.get(&ty) {
                None => write_bytes(out, 1, &canonical(v)),
                Some(union) => put_union(types, *union, v, out),
            },
        }),
        Shape::List(_) | Shape::Map { .. } => Err("a list or map inside a list".into()),
    }
}

fn json_schema(types: &Types) -> Result<TypeId, String> {
    types
        .named("apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .ok_or_else(|| "no schema type".to_string())
}

fn put_union(types: &Types, union: Union, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let schema = json_schema(types)?;
    let put_schema =
        |number: u32, v: &Value, out: &mut Vec<u8>| put_nested(out, number, |out| message(schema, v.as_object(), out));
    match (union, value) {
        (Union::SchemaOrBool, v) => {
            put_int(out, 1, i64::from(v.as_bool().unwrap_or(true)));
            if v.is_object() { put_schema(2, v, out) } else { Ok(()) }
        }
        (Union::SchemaOrArray, Value::Array(items)) => items.iter().try_for_each(|v| put_schema(2, v, out)),
        (Union::SchemaOrStrings, Value::Array(items)) => {
            items.iter().for_each(|v| put_bytes(out, 2, v.as_str().unwrap_or_default().as_bytes()));
            Ok(())
        }
        (_, v) => put_schema(1, v, out),
    }
}

// --------------------------------------------------------------------------------------------- decoding

/// Whether a body starts like protobuf.
pub fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// Takes a body's envelope off.
pub fn envelope(body: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let Some(rest) = body.strip_prefix(MAGIC.as_slice()) else {
        return Err(DecodeError::Syntax(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]".into(),
        ));
    };
    let mut e = Envelope::default();
    let mut wire = Wire(rest);
    while let Some((number, value)) = wire.next().map_err(syntax)? {
        match (number, value) {
            (1, Raw::Bytes(meta)) => {
                let mut meta = Wire(meta);
                while let Some((number, value)) = meta.next().map_err(syntax)? {
                    match (number, value) {
                        (1, Raw::Bytes(b)) => e.api_version = String::from_utf8_lossy(b).into_owned(),
                        (2, Raw::Bytes(b)) => e.kind = String::from_utf8_lossy(b).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Raw::Bytes(b)) => e.raw = b,
            (4, Raw::Bytes(b)) => e.content_type = String::from_utf8_lossy(b).into_owned(),
            _ => {}
        }
    }
    Ok(e)
}

/// Decodes a body against a type. `apiVersion` and `kind` come from the envelope.
pub fn decode(ty: TypeId, body: &[u8]) -> Result<Value, DecodeError> {
    let e = envelope(body)?;
    if e.content_type == "application/json" {
        return Ok(super::json::decode(&facts().types, ty, e.raw)?.value);
    }
    let mut value = decode_raw(ty, e.raw)?;
    if let Value::Object(o) = &mut value {
        for (key, text) in [("apiVersion", e.api_version), ("kind", e.kind)] {
            if !text.is_empty() {
                o.insert(key.to_string(), text.into());
            }
        }
    }
    Ok(value)
}

/// Decodes a bare message.
pub fn decode_raw(ty: TypeId, message: &[u8]) -> Result<Value, DecodeError> {
    let mut out = Map::new();
    read_message(&facts().types, ty, message, 0, &mut out).map_err(syntax)?;
    Ok(Value::Object(out))
}

fn syntax(what: String) -> DecodeError {
    DecodeError::Syntax(format!("proto: {what}"))
}

/// A field as it is on the wire.
#[derive(Clone, Copy, Debug)]
enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn varint(&mut self) -> Result<u64, String> {
        let mut n = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or("unexpected EOF")?;
            self.0 = rest;
            n |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err("integer overflow".into())
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], String> {
        let len = usize::try_from(len).map_err(|_| "invalid length found during unmarshaling")?;
        let (head, rest) = self.0.split_at_checked(len).ok_or("unexpected EOF")?;
        self.0 = rest;
        Ok(head)
    }

    fn next(&mut self) -> Result<Option<(u32, Raw<'a>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|n| *n > 0).ok_or("illegal tag")?;
        let value = match key & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => {
                let b: [u8; 8] = self.take(8)?.try_into().map_err(|_| "unexpected EOF")?;
                Raw::Fixed64(u64::from_le_bytes(b))
            }
            2 => {
                let len = self.varint()?;
                Raw::Bytes(self.take(len)?)
            }
            5 => {
                let b: [u8; 4] = self.take(4)?.try_into().map_err(|_| "unexpected EOF")?;
                Raw::Fixed32(u32::from_le_bytes(b))
            }
            w => return Err(format!("illegal wireType {w}")),
        };
        Ok(Some((number, value)))
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "invalid UTF-8 in a string".to_string())
}

fn read_message(
    types: &Types,
    ty: TypeId,
    bytes: &[u8],
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err("exceeded max depth".into());
    }
    let Shape::Struct(s) = types.shape(ty) else {
        return Err("not a message".into());
    };
    let steps = plan(ty);
    let mut wire = Wire(bytes);
    while let Some((number, raw)) = wire.next()? {
        let Ok(at) = steps.binary_search_by_key(&number, |p| p.0) else {
            continue;
        };
        match (steps[at].1, raw) {
            (Step::Inline(inner), Raw::Bytes(b)) => read_message(types, inner, b, depth + 1, out)?,
            (Step::Inline(_), _) => return Err(wrong_wire(number)),
            (Step::Field(i), raw) => {
                if let Some(f) = s.fields.get(i as usize) {
                    read_field(types, f, raw, depth, out)?;
                }
            }
        }
    }
    Ok(())
}

fn wrong_wire(number: u32) -> String {
    format!("wrong wireType for field {number}")
}

fn read_field(
    types: &Types,
    f: &Field,
    raw: Raw<'_>,
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), String> {
    match types.shape(f.ty) {
        Shape::List(_) if facts().wrapped.contains(&f.ty) => {
            let Raw::Bytes(b) = raw else {
                return Err(wrong_wire(f.proto));
            };
            let list = read_wrapped(b)?;
            if !dropped(types, f, &list) {
                out.insert(f.name.clone(), list);
            }
        }
        Shape::List(l) => {
            let Value::Array(list) = out.entry(f.name.clone()).or_insert_with(|| Value::Array(Vec::new())) else {
                return Err(wrong_wire(f.proto));
            };
            match (types.shape(l.item), raw) {
                // Packed numbers are taken too, as protobuf asks of every reader.
                (Shape::Int32 | Shape::Int64 | Shape::Bool, Raw::Bytes(b)) => {
                    let mut packed = Wire(b);
                    while !packed.0.is_empty() {
                        let n = Raw::Varint(packed.varint()?);
                        list.push(read_single(types, l.item, f.proto, n, depth)?);
                    }
                }
                (_, raw) => list.push(read_single(types, l.item, f.proto, raw, depth)?),
            }
        }
        Shape::Map { value, .. } => {
            let Raw::Bytes(b) = raw else {
                return Err(wrong_wire(f.proto));
            };
            let (mut key, mut v) = (String::new(), None);
            let mut entry = Wire(b);
            while let Some((number, raw)) = entry.next()? {
                match (number, raw) {
                    (1, Raw::Bytes(b)) => key = utf8(b)?,
                    (2, Raw::Bytes(b)) if matches!(types.shape(*value), Shape::List(_)) => v = Some(read_wrapped(b)?),
                    (2, raw) => v = Some(read_single(types, *value, 2, raw, depth)?),
                    _ => {}
                }
            }
            let v = v.unwrap_or_else(|| match types.shape(*value) {
                Shape::Bytes => "".into(),
                _ => super::json::zero(types, *value),
            });
            match out.entry(f.name.clone()).or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(map) => map.insert(key, v),
                _ => return Err(wrong_wire(f.proto)),
            };
        }
        Shape::Struct(_) => {
            let Raw::Bytes(b) = raw else {
                return Err(wrong_wire(f.proto));
            };
            // A message that occurs twice is merged.
            let mut object = match out.remove(&f.name) {
                Some(Value::Object(o)) => o,
                _ => Map::new(),
            };
            read_message(types, f.ty, b, depth + 1, &mut object)?;
            let value = Value::Object(object);
            if !dropped(types, f, &value) {
                out.insert(f.name.clone(), value);
            }
        }
        _ => {
            let value = read_single(types, f.ty, f.proto, raw, depth)?;
            if dropped(types, f, &value) {
                out.remove(&f.name);
            } else {
                out.insert(f.name.clone(), value);
            }
        }
    }
    Ok(())
}

fn read_wrapped(bytes: &[u8]) -> Result<Value, String> {
    let mut out = Vec::new();
    let mut wire = Wire(bytes);
    while let Some((number, raw)) = wire.next()? {
        if let (1, Raw::Bytes(b)) = (number, raw) {
            out.push(Value::String(utf8(b)?));
        }
    }
    Ok(Value::Array(out))
}

fn read_single(types: &Types, ty: TypeId, number: u32, raw: Raw<'_>, depth: usize) -> Result<Value, String> {
    let value = match (types.shape(ty), raw) {
        (Shape::Struct(_), Raw::Bytes(b)) => {
            let mut out = Map::new();
            read_message(types, ty, b, depth + 1, &mut out)?;
            Value::Object(out)
        }
        (Shape::Bool, Raw::Varint(n)) => (n != 0).into(),
        (Shape::Int32, Raw::Varint(n)) => (n as i32).into(),
        (Shape::Int64, Raw::Varint(n)) => (n as i64).into(),
        (Shape::Int32, Raw::Fixed32(n)) => (n as i32).into(),
        (Shape::Int64, Raw::Fixed64(n)) => (n as i64).into(),
        (Shape::Double, Raw::Fixed64(bits)) => {
            let f = f64::from_bits(bits);
            match Number::from_f64(f) {
                Some(_) if f.fract() == 0.0 && f.abs() < 9e15 => (f as i64).into(),
                Some(n) => n.into(),
                None => return Err("a number that JSON can't hold".into()),
            }
        }
        (Shape::String, Raw::Bytes(b)) => utf8(b)?.into(),
        (Shape::Bytes, Raw::Bytes(b)) => BASE64.encode(b).into(),
        (Shape::Quantity, Raw::Bytes(b)) => {
            let text = first_bytes(b, 1)?.map(utf8).transpose()?.unwrap_or_else(|| "0".into());
            canonical_quantity(&text)?.into()
        }
        (Shape::IntOrString, Raw::Bytes(b)) => {
            let (mut kind, mut int, mut string) = (0, 0, String::new());
            let mut wire = Wire(b);
            while let Some(f) = wire.next()? {
                match f {
                    (1, Raw::Varint(n)) => kind = n,
                    (2, Raw::Varint(n)) => int = n as i32,
                    (3, Raw::Bytes(b)) => string = utf8(b)?,
                    _ => {}
                }
            }
            if kind == 1 { string.into() } else { int.into() }
        }
        (Shape::Time | Shape::MicroTime, Raw::Bytes(b)) => {
            if b.is_empty() {
                return Ok(Value::Null);
            }
            let (mut seconds, mut nanos) = (0i64, 0i64);
            let mut wire = Wire(b);
            while let Some(f) = wire.next()? {
                match f {
                    (1, Raw::Varint(n)) => seconds = n as i64,
                    (2, Raw::Varint(n)) => nanos = n as i64,
                    _ => {}
                }
            }
            let nanos =
                i32::try_from(nanos).ok().filter(|n| (0..1_000_000_000).contains(n)).ok_or("bad nanoseconds")?;
            let t = jiff::Timestamp::new(seconds, nanos).map_err(|_| "time out of range")?;
            if matches!(types.shape(ty), Shape::Time) { format_time(t).into() } else { format_micro_time(t).into() }
        }
        (Shape::Duration, Raw::Bytes(b)) => {
            let mut nanos = 0;
            let mut wire = Wire(b);
            while let Some(f) = wire.next()? {
                if let (1, Raw::Varint(n)) = f {
                    nanos = n as i64;
                }
            }
            format_duration(nanos).into()
        }
        (Shape::FieldsV1 | Shape::RawExtension | Shape::Any, Raw::Bytes(b)) => match facts().unions.get(&ty) {
            Some(union) => read_union(types, *union, b, depth)?,
            None => match first_bytes(b, 1)? {
                None | Some([]) => Value::Null,
                Some(raw) => embedded(raw, depth)?,
            },
        },
        _ => return Err(wrong_wire(number)),
    };
    Ok(value)
}

/// The last occurrence of a length-delimited field.
fn first_bytes(bytes: &[u8], wanted: u32) -> Result<Option<&[u8]>, String> {
    let mut out = None;
    let mut wire = Wire(bytes);
    while let Some((number, raw)) = wire.next()? {
        if let Raw::Bytes(b) = raw
            && number == wanted
        {
            out = Some(b);
        }
    }
    Ok(out)
}

/// An embedded object: JSON, or another whole protobuf body of a built-in kind.
fn embedded(raw: &[u8], depth: usize) -> Result<Value, String> {
    if !is_protobuf(raw) {
        return serde_json::from_slice(raw).map_err(|e| format!("embedded object is not JSON: {e}"));
    }
    let e = envelope(raw).map_err(|e| e.to_string())?;
    let (group, version) = crate::facts::split_api_version(&e.api_version);
    let Some(ty) = facts().kind(group, version, &e.kind) else {
        return Err(format!("no kind \"{}\" is registered for version \"{}\"", e.kind, e.api_version));
    };
    let mut out = Map::new();
    read_message(&facts().types, ty, e.raw, depth + 1, &mut out)?;
    out.insert("apiVersion".into(), e.api_version.into());
    out.insert("kind".into(), e.kind.into());
    Ok(Value::Object(out))
}

fn read_union(types: &Types, union: Union, bytes: &[u8], depth: usize) -> Result<Value, String> {
    let schema = json_schema(types)?;
    let (mut allows, mut one, mut schemas, mut strings) = (false, None, Vec::new(), Vec::new());
    let read = |b: &[u8]| read_single(types, schema, 1, Raw::Bytes(b), depth);
    let mut wire = Wire(bytes);
    while let Some(f) = wire.next()? {
        match (union, f) {
            (Union::SchemaOrBool, (1, Raw::Varint(n))) => allows = n != 0,
            (Union::SchemaOrBool, (2, Raw::Bytes(b))) => one = Some(read(b)?),
            (Union::SchemaOrArray, (2, Raw::Bytes(b))) => schemas.push(read(b)?),
            (Union::SchemaOrStrings, (2, Raw::Bytes(b))) => strings.push(Value::String(utf8(b)?)),
            (_, (1, Raw::Bytes(b))) => one = Some(read(b)?),
            _ => {}
        }
    }
    Ok(match (union, one) {
        (_, Some(schema)) => schema,
        (Union::SchemaOrBool, None) => allows.into(),
        (Union::SchemaOrArray, None) => schemas.into(),
        (Union::SchemaOrStrings, None) => strings.into(),
    })
}
