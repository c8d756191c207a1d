//! JSON: request bytes to clean objects and back.
//!
//! Decoding walks the bytes once, along the type. It does what Go's decoder, encoder and types do together:
//! wrong JSON types are refused with upstream's texts, unknown and duplicate fields are reported and dropped,
//! values are brought to their one canonical form (quantities, times), and what Go's `omitempty` would not
//! write out again is left out. So two clients that mean the same object store the same bytes.

pub use super::encode::{canonical, go_order};
use super::scalar::{
    canonical_quantity, format_duration, format_micro_time, format_time, parse_duration, parse_time, time_error,
};
use crate::facts::{Union, facts};
use base64::Engine;
use meta::schema::{Field, Shape, Struct, TypeId, Types};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// At most so many unknown and duplicate fields are reported, as upstream does.
const STRICT_ERRORS_MAX: usize = 100;

/// A decoded object, and what the client should hear about it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// Paths of dropped fields: `spec.template.spec.containers[0].imge`.
    pub unknown: Vec<String>,
    /// Paths of fields that occur more than once; the last one counts.
    pub duplicates: Vec<String>,
    /// Both as upstream words them, in the order of the input: `unknown field "spec.foo"`. For `Warning` headers
    /// (`fieldValidation=Warn`) one each; for `Strict` see [`Decoded::strict_error`].
    pub problems: Vec<String>,
}

impl Decoded {
    /// What `fieldValidation=Strict` answers, or `None` when there is nothing to complain about.
    pub fn strict_error(&self) -> Option<DecodeError> {
        (!self.problems.is_empty())
            .then(|| DecodeError::Strict(format!("strict decoding error: {}", self.problems.join(", "))))
    }
}

/// Always the client's fault, never worth a retry.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON at all.
    #[error("{0}")]
    Syntax(String),
    /// A value of the wrong type, or one that its type can't hold.
    #[error("{0}")]
    Type(String),
    /// Unknown or duplicate fields under `fieldValidation=Strict`.
    #[error("{0}")]
    Strict(String),
}

impl DecodeError {
    /// The message of the `BadRequest` (400) that upstream answers:
    /// `Deployment in version "v1" cannot be handled as a Deployment: …`.
    pub fn cannot_handle(&self, kind: &str, version: &str) -> String {
        format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {self}")
    }
}

/// Decodes request bytes against a type.
pub fn decode(types: &Types, ty: TypeId, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    leniently(bytes, |bytes| decode_text(types, ty, bytes))
}

fn decode_text(types: &Types, ty: TypeId, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut cx = Cx::new(types);
    let mut de = serde_json::Deserializer::from_slice(bytes);
    let result = Seed { cx: &mut cx, ty }.deserialize(&mut de).and_then(|v| de.end().map(|()| v));
    if let (Err(e), Some(quoted), Some(message)) = (&result, &cx.bad_number, &mut cx.error) {
        *message = message.replacen(quoted, &format!("number {}", number_before(e, bytes)), 1);
    }
    cx.finish(result, |e| syntax_error(e, bytes))
}

/// The number that an error is about, as the client wrote it: it ends where the error is.
fn number_before(e: &serde_json::Error, bytes: &[u8]) -> String {
    let end = (line_start(e, bytes) + e.column()).min(bytes.len());
    let is_part = |b: &&u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
    let length = bytes[..end].iter().rev().take_while(is_part).count();
    String::from_utf8_lossy(&bytes[end - length..end]).into_owned()
}

/// Where the line of an error begins.
fn line_start(e: &serde_json::Error, bytes: &[u8]) -> usize {
    bytes.split_inclusive(|b| *b == b'\n').take(e.line().saturating_sub(1)).map(<[u8]>::len).sum()
}

/// A document of any form (a patch), with the problems of [`Decoded`]: keys that occur twice.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    leniently(bytes, parse_text)
}

/// As Go reads text: bytes that are no UTF-8 and halves of surrogate pairs become U+FFFD. Rare, so it is looked for
/// only where the strict parser has failed.
fn leniently<T>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    match read(bytes) {
        Err(DecodeError::Syntax(why)) => match well_formed(bytes) {
            Some(text) => read(text.as_bytes()),
            None => Err(DecodeError::Syntax(why)),
        },
        other => other,
    }
}

/// The text with replacement characters; `None` where it needs none.
fn well_formed(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut out, mut from, mut at) = (String::new(), 0, 0);
    while let Some(escape) = text[at..].find('\\') {
        at += escape;
        match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str(&text[from..at]);
                out.push('\u{fffd}');
                at += 6;
                from = at;
            }
            // The escaped character may be a backslash itself.
            _ => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    let changed = from > 0 || matches!(text, std::borrow::Cow::Owned(_));
    out.push_str(&text[from..]);
    changed.then_some(out)
}

fn parse_text(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let none = Types::default();
    let mut cx = Cx::new(&none);
    let mut de = serde_json::Deserializer::from_slice(bytes);
    let result = AnySeed(&mut cx).deserialize(&mut de).and_then(|v| de.end().map(|()| v));
    let decoded = cx.finish(result, |e| syntax_error(e, bytes))?;
    Ok((decoded.value, decoded.problems))
}

/// Decodes an object that is already parsed (a YAML body, the outcome of a patch) against a type.
pub fn decode_value(types: &Types, ty: TypeId, value: &Value) -> Result<Decoded, DecodeError> {
    let mut cx = Cx::new(types);
    let result = Seed { cx: &mut cx, ty }.deserialize(value);
    cx.finish(result, |e| DecodeError::Type(e.to_string()))
}

/// What Go's parser would have said.
fn syntax_error(e: serde_json::Error, bytes: &[u8]) -> DecodeError {
    if e.is_eof() {
        return DecodeError::Syntax("unexpected end of JSON input".into());
    }
    let text = e.to_string();
    if text.starts_with("recursion limit") {
        return DecodeError::Syntax("exceeded max depth".into());
    }
    let at = line_start(&e, bytes) + e.column().saturating_sub(1);
    let Some(&c) = bytes.get(at) else {
        return DecodeError::Syntax(format!("invalid JSON: {text}"));
    };
    const WHERE: [(&str, &str); 9] = [
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("expected `:`", "after object key"),
        ("key must be a string", "looking for beginning of object key string"),
        ("expected value", "looking for beginning of value"),
        ("trailing characters", "after top-level value"),
        ("control character", "in string literal"),
        ("invalid escape", "in string escape code"),
        ("invalid number", "in numeric literal"),
    ];
    let word = text.starts_with("expected ident").then(|| broken_word(&bytes[..at])).flatten();
    let place = match WHERE.iter().find(|(ours, _)| text.starts_with(ours)) {
        Some((_, place)) => (*place).to_string(),
        None if word.is_some() => word.unwrap_or_default(),
        None if text.starts_with("trailing comma") && c == b'}' => "looking for beginning of object key string".into(),
        None => "looking for beginning of value".into(),
    };
    let shown = match c {
        b'\'' => "\\'".to_string(),
        b'\n' => "\\n".to_string(),
        b'\r' => "\\r".to_string(),
        b'\t' => "\\t".to_string(),
        b'\\' => "\\\\".to_string(),
        c if c < 0x20 || c == 0x7f => format!("\\x{c:02x}"),
        c => char::from(c).to_string(),
    };
    DecodeError::Syntax(format!("invalid character '{shown}' {place}"))
}

/// Where a text that begins as `true`, `false` or `null` does goes wrong.
fn broken_word(before: &[u8]) -> Option<String> {
    ["true", "false", "null"].iter().find_map(|word| {
        let read = (1..word.len()).rev().find(|n| before.ends_with(&word.as_bytes()[..*n]))?;
        Some(format!("in literal {word} (expecting '{}')", &word[read..=read]))
    })
}

#[derive(Clone)]
enum Segment<'t> {
    Field(&'t str),
    Key(String),
    Index(usize),
}

/// What the walk carries: where it is, and what it found.
pub(super) struct Cx<'t> {
    types: &'t Types,
    path: Vec<Segment<'t>>,
    /// Names of the structs on the way, innermost last.
    structs: Vec<&'t str>,
    unknown: Vec<String>,
    pub(super) duplicates: Vec<String>,
    problems: Vec<String>,
    error: Option<String>,
    /// How `error` quotes the number that it is about.
    bad_number: Option<String>,
    /// Inside a value that Go decodes with a method of its own, whose insides strictness doesn't see.
    opaque: bool,
}

impl<'t> Cx<'t> {
    pub(super) fn new(types: &'t Types) -> Self {
        Cx {
            types,
            path: Vec::new(),
            structs: Vec::new(),
            unknown: Vec::new(),
            duplicates: Vec::new(),
            problems: Vec::new(),
            error: None,
            bad_number: None,
            opaque: false,
        }
    }

    fn finish<E>(
        self,
        result: Result<Value, E>,
        syntax: impl FnOnce(E) -> DecodeError,
    ) -> Result<Decoded, DecodeError> {
        match (result, self.error) {
            (_, Some(message)) => Err(DecodeError::Type(message)),
            (Err(e), None) => Err(syntax(e)),
            (Ok(value), None) => {
                Ok(Decoded { value, unknown: self.unknown, duplicates: self.duplicates, problems: self.problems })
            }
        }
    }

    /// `spec.containers[0].` + name
    fn path_to(&self, name: &str) -> String {
        let mut out = String::new();
        for s in &self.path {
            match s {
                Segment::Index(i) => out.push_str(&format!("[{i}]")),
                Segment::Field(f) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(f);
                }
                Segment::Key(k) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(k);
                }
            }
        }
        if !out.is_empty() {
            out.push('.');
        }
        out + name
    }

    fn report(&mut self, what: &str, name: &str) {
        if self.opaque || self.problems.len() >= STRICT_ERRORS_MAX {
            return;
        }
        let path = self.path_to(name);
        let problem = format!("{what} field \"{path}\"");
        if self.problems.contains(&problem) {
            return;
        }
        self.problems.push(problem);
        match what {
            "unknown" => self.unknown.push(path),
            _ => self.duplicates.push(path),
        }
    }

    /// Remembers the first error; the caller returns `E::custom("")` to unwind.
    fn fail(&mut self, message: String) {
        self.error.get_or_insert(message);
    }

    /// Go's `UnmarshalTypeError`.
    fn mismatch(&mut self, got: &str, want: TypeId) {
        let go = go_type(self.types, want);
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|s| match s {
                Segment::Field(f) => Some(*f),
                _ => None,
            })
            .collect();
        let message = match self.structs.last() {
            Some(s) if !fields.is_empty() => {
                format!("json: cannot unmarshal {got} into Go struct field {s}.{} of type {go}", fields.join("."))
            }
            _ => format!("json: cannot unmarshal {got} into Go value of type {go}"),
        };
        self.fail(message);
    }
}

/// The name of a type as Go's `reflect` prints it.
fn go_type(types: &Types, ty: TypeId) -> String {
    let t = types.get(ty);
    match &t.shape {
        Shape::Struct(_) if t.name.is_empty() => "map[string]interface {}".into(),
        Shape::Struct(_) => {
            let mut parts = t.name.rsplitn(3, '.');
            let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            format!("{package}.{name}")
        }
        Shape::Map { value, .. } => format!("map[string]{}", go_type(types, *value)),
        Shape::List(l) => format!("[]{}", go_type(types, l.item)),
        Shape::Bool => "bool".into(),
        Shape::Int32 => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Double => "float64".into(),
        Shape::String | Shape::Time | Shape::MicroTime | Shape::Duration => "string".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::Quantity => "resource.Quantity".into(),
        Shape::IntOrString => "int32".into(),
        Shape::FieldsV1 => "v1.FieldsV1".into(),
        Shape::RawExtension => "runtime.RawExtension".into(),
        Shape::Any => "interface {}".into(),
    }
}

/// One value of a type.
struct Seed<'c, 't> {
    cx: &'c mut Cx<'t>,
    ty: TypeId,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Value, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'t> Seed<'_, 't> {
    fn shape(&self) -> &'t Shape {
        self.cx.types.shape(self.ty)
    }

    fn number<E: serde::de::Error>(mut self, n: Number) -> Result<Value, E> {
        match self.shape() {
            // What is written `-0` arrives as a float. All other floats are refused, whole ones as well.
            Shape::Int32 | Shape::Int64 | Shape::IntOrString if is_minus_zero(&n) => Ok(0.into()),
            Shape::Int32 | Shape::IntOrString if n.as_i64().is_some_and(|i| i32::try_from(i).is_ok()) => Ok(n.into()),
            Shape::Int64 if n.is_i64() => Ok(n.into()),
            Shape::Int32 | Shape::Int64 => {
                let quoted = self.quoted(&n);
                self.cx.mismatch(&quoted, self.ty);
                Err(E::custom(""))
            }
            // A union of int32 and string, decoded by a method of its own: no field in the message.
            Shape::IntOrString => {
                let quoted = self.quoted(&n);
                self.cx.fail(format!("json: cannot unmarshal {quoted} into Go value of type int32"));
                Err(E::custom(""))
            }
            Shape::Double | Shape::Any | Shape::RawExtension | Shape::FieldsV1 => Ok(whole(n).into()),
            // Quantities may be written as bare numbers.
            Shape::Quantity => self.quantity(&n.to_string()),
            _ => {
                self.cx.mismatch("number", self.ty);
                Err(E::custom(""))
            }
        }
    }

    /// A number as Go would quote it in an error.
    fn quoted(&mut self, n: &Number) -> String {
        self.cx.bad_number.insert(format!("number {n}")).clone()
    }

    fn quantity<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        match canonical_quantity(text) {
            Ok(q) => Ok(q.into()),
            Err(message) => {
                self.cx.fail(message);
                Err(E::custom(""))
            }
        }
    }

    fn string<E: serde::de::Error>(self, s: String) -> Result<Value, E> {
        match self.shape() {
            Shape::String | Shape::Any | Shape::RawExtension | Shape::FieldsV1 | Shape::IntOrString => Ok(s.into()),
            Shape::Quantity => self.quantity(s.trim()),
            Shape::Time => match parse_time(&s) {
                Some(t) => Ok(format_time(t).into()),
                None => {
                    self.cx.fail(time_error(&s, "2006-01-02T15:04:05Z07:00"));
                    Err(E::custom(""))
                }
            },
            Shape::MicroTime => match parse_time(&s) {
                Some(t) => Ok(format_micro_time(t).into()),
                None => {
                    self.cx.fail(time_error(&s, "2006-01-02T15:04:05.000000Z07:00"));
                    Err(E::custom(""))
                }
            },
            Shape::Duration => match parse_duration(&s) {
                Some(d) => Ok(format_duration(d).into()),
                None => {
                    self.cx.fail(format!("time: invalid duration \"{s}\""));
                    Err(E::custom(""))
                }
            },
            Shape::Bytes => {
                // Go's decoder skips line breaks, which tools put in.
                let text: String = s.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
                match base64::engine::general_purpose::STANDARD.decode(&text) {
                    Ok(_) => Ok(text.into()),
                    Err(e) => {
                        let at = match e {
                            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
                                at
                            }
                            _ => text.len(),
                        };
                        self.cx.fail(format!("illegal base64 data at input byte {at}"));
                        Err(E::custom(""))
                    }
                }
            }
            _ => {
                self.cx.mismatch("string", self.ty);
                Err(E::custom(""))
            }
        }
    }

    /// Decodes the members of a struct. Consumes the map to its end even where fields are unknown.
    fn structure<'de, A: MapAccess<'de>>(self, s: &'t Struct, mut map: A) -> Result<Value, A::Error> {
        let cx = self.cx;
        let named = !cx.types.get(self.ty).name.is_empty();
        if named {
            let name = &cx.types.get(self.ty).name;
            cx.structs.push(name.rsplit('.').next().unwrap_or(name));
        }
        let mut out = Map::new();
        let mut seen = Seen::default();
        while let Some(key) = map.next_key_seed(KeySeed(s))? {
            match key {
                Key::Field(i, f) => {
                    if !seen.insert(i) {
                        cx.report("duplicate", &f.name);
                        out.remove(&f.name);
                    }
                    cx.path.push(Segment::Field(&f.name));
                    let value = map.next_value_seed(Seed { cx: &mut *cx, ty: f.ty })?;
                    cx.path.pop();
                    if !dropped(cx.types, f, &value) {
                        out.insert(f.name.clone(), value);
                    }
                }
                Key::Unknown(name) if s.preserve_unknown => {
                    if out.contains_key(&name) {
                        cx.report("duplicate", &name);
                    }
                    cx.path.push(Segment::Key(name.clone()));
                    let value = map.next_value_seed(AnySeed(&mut *cx))?;
                    cx.path.pop();
                    out.insert(name, value);
                }
                Key::Unknown(name) => {
                    cx.report("unknown", &name);
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if named {
            cx.structs.pop();
        }
        Ok(Value::Object(out))
    }
}

fn is_minus_zero(n: &Number) -> bool {
    n.as_f64().is_some_and(|f| f == 0.0 && f.is_sign_negative())
}

/// A float that is a whole number is written without a point, as Go does.
fn whole(n: Number) -> Number {
    match n.as_f64() {
        Some(f) if n.is_f64() && f.fract() == 0.0 && f.abs() < 9e15 => Number::from(f as i64),
        _ => n,
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: serde::de::Error>(self, b: bool) -> Result<Value, E> {
        match self.shape() {
            Shape::Bool | Shape::Any | Shape::RawExtension | Shape::FieldsV1 => Ok(b.into()),
            Shape::IntOrString => {
                self.cx.fail("json: cannot unmarshal bool into Go value of type int32".into());
                Err(E::custom(""))
            }
            Shape::Quantity => self.quantity(if b { "true" } else { "false" }),
            _ => {
                self.cx.mismatch("bool", self.ty);
                Err(E::custom(""))
            }
        }
    }

    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Value, E> {
        self.number(n.into())
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Value, E> {
        self.number(n.into())
    }

    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Value, E> {
        match Number::from_f64(n) {
            Some(n) => self.number(n),
            None => Ok(Value::Null),
        }
    }

    fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<Value, E> {
        self.string(s.to_string())
    }

    fn visit_string<E: serde::de::Error>(self, s: String) -> Result<Value, E> {
        self.string(s)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let item = match self.shape() {
            Shape::List(l) => l.item,
            Shape::Any => return self.any_then_union(|s| s.visit_seq(seq)),
            Shape::RawExtension | Shape::FieldsV1 => return opaque(self.cx, |s| s.visit_seq(seq)),
            Shape::IntOrString => {
                self.cx.fail("json: cannot unmarshal array into Go value of type int32".into());
                return Err(A::Error::custom(""));
            }
            _ => {
                self.cx.mismatch("array", self.ty);
                return Err(A::Error::custom(""));
            }
        };
        let mut out = Vec::new();
        loop {
            self.cx.path.push(Segment::Index(out.len()));
            let next = seq.next_element_seed(Seed { cx: &mut *self.cx, ty: item })?;
            self.cx.path.pop();
            match next {
                Some(Value::Null) => out.push(zero(self.cx.types, item)),
                Some(v) => out.push(v),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        match self.shape() {
            Shape::Struct(s) => self.structure(s, map),
            Shape::Map { value, .. } => {
                let mut out = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    if out.contains_key(&key) {
                        self.cx.report("duplicate", &key);
                    }
                    self.cx.path.push(Segment::Key(key));
                    let v = map.next_value_seed(Seed { cx: &mut *self.cx, ty: *value })?;
                    if let Some(Segment::Key(key)) = self.cx.path.pop() {
                        let v = if v.is_null() { zero(self.cx.types, *value) } else { v };
                        out.insert(key, v);
                    }
                }
                Ok(Value::Object(out))
            }
            Shape::Any => self.any_then_union(|s| s.visit_map(map)),
            Shape::RawExtension | Shape::FieldsV1 => opaque(self.cx, |s| s.visit_map(map)),
            Shape::IntOrString => {
                self.cx.fail("json: cannot unmarshal object into Go value of type int32".into());
                Err(A::Error::custom(""))
            }
            _ => {
                self.cx.mismatch("object", self.ty);
                Err(A::Error::custom(""))
            }
        }
    }
}

fn opaque<'c, 't, T>(cx: &'c mut Cx<'t>, visit: impl FnOnce(AnySeed<'_, 't>) -> T) -> T {
    let before = std::mem::replace(&mut cx.opaque, true);
    let out = visit(AnySeed(&mut *cx));
    cx.opaque = before;
    out
}

impl<'t> Seed<'_, 't> {
    /// A value of any type; where Go has a union of a schema and something else, the schema is then cleaned.
    fn any_then_union<E: serde::de::Error>(
        self,
        visit: impl FnOnce(AnySeed<'_, 't>) -> Result<Value, E>,
    ) -> Result<Value, E> {
        // Named types of this shape have decoders of their own upstream.
        let own = !self.cx.types.get(self.ty).name.is_empty();
        if !own {
            return visit(AnySeed(self.cx));
        }
        let value = opaque(self.cx, visit)?;
        let union = if std::ptr::eq(self.cx.types, &**crate::facts::types()) {
            facts().unions.get(&self.ty).copied()
        } else {
            None
        };
        let Some(union) = union else { return Ok(value) };
        match clean_union(union, value) {
            Ok(v) => Ok(v),
            Err(e) => {
                self.cx.fail(e.to_string());
                Err(E::custom(""))
            }
        }
    }
}

/// Drops from a union's schema what the schema type doesn't know.
fn clean_union(union: Union, value: Value) -> Result<Value, DecodeError> {
    let types = crate::facts::types();
    let Some(schema) = types.named("apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps") else {
        return Ok(value);
    };
    let wrong = |what: &str| DecodeError::Type(format!("json: cannot unmarshal {what} into a JSON schema"));
    match (union, value) {
        (_, v @ Value::Object(_)) => Ok(decode_value(types, schema, &v)?.value),
        (Union::SchemaOrBool, v @ Value::Bool(_)) => Ok(v),
        (Union::SchemaOrBool, _) => Err(DecodeError::Type("boolean or JSON schema expected".into())),
        (Union::SchemaOrArray, Value::Array(items)) => Ok(Value::Array(
            items.iter().map(|v| decode_value(types, schema, v).map(|d| d.value)).collect::<Result<_, _>>()?,
        )),
        (Union::SchemaOrStrings, v @ Value::Array(_)) => {
            if v.as_array().is_some_and(|a| a.iter().all(Value::is_string)) { Ok(v) } else { Err(wrong("array")) }
        }
        (_, Value::Null) => Ok(Value::Null),
        (_, _) => Err(wrong("scalar")),
    }
}

/// Which of a struct's fields have been seen.
#[derive(Default)]
struct Seen {
    first: u128,
    rest: Vec<u32>,
}

impl Seen {
    /// False where it was there already.
    fn insert(&mut self, i: u32) -> bool {
        if i < 128 {
            let bit = 1u128 << i;
            let new = self.first & bit == 0;
            self.first |= bit;
            return new;
        }
        if self.rest.contains(&i) {
            return false;
        }
        self.rest.push(i);
        true
    }
}

struct KeySeed<'t>(&'t Struct);

enum Key<'t> {
    Field(u32, &'t Field),
    Unknown(String),
}

impl<'de, 't> DeserializeSeed<'de> for KeySeed<'t> {
    type Value = Key<'t>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Key<'t>, D::Error> {
        de.deserialize_str(self)
    }
}

impl<'t> Visitor<'_> for KeySeed<'t> {
    type Value = Key<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key<'t>, E> {
        Ok(match self.0.by_name.get(name).and_then(|i| self.0.fields.get(*i as usize).map(|f| (*i, f))) {
            Some((i, f)) => Key::Field(i, f),
            None => Key::Unknown(name.to_string()),
        })
    }
}

/// Any JSON value, with duplicate keys reported.
pub(super) struct AnySeed<'c, 't>(pub(super) &'c mut Cx<'t>);

impl<'de> DeserializeSeed<'de> for AnySeed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Value, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnySeed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(b.into())
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
        Ok(Number::from_f64(n).map_or(Value::Null, |n| whole(n).into()))
    }

    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(s.into())
    }

    fn visit_string<E>(self, s: String) -> Result<Value, E> {
        Ok(s.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            self.0.path.push(Segment::Index(out.len()));
            let next = seq.next_element_seed(AnySeed(&mut *self.0))?;
            self.0.path.pop();
            match next {
                Some(v) => out.push(v),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                self.0.report("duplicate", &key);
            }
            self.0.path.push(Segment::Key(key));
            let v = map.next_value_seed(AnySeed(&mut *self.0))?;
            if let Some(Segment::Key(key)) = self.0.path.pop() {
                out.insert(key, v);
            }
        }
        Ok(Value::Object(out))
    }
}

/// Whether Go would not write this value out again.
pub(crate) fn dropped(types: &Types, field: &Field, value: &Value) -> bool {
    if value.is_null() {
        return true;
    }
    if field.pointer || !field.omitempty {
        return false;
    }
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        // Differs from upstream: Go writes an empty non-pointer struct out as `{}`. Leaving it out says the same
        // to every reader, and objects from typed and untyped clients become equal.
        Value::Object(o) => o.is_empty() && !matches!(types.shape(field.ty), Shape::Any | Shape::RawExtension),
    }
}

/// Go's zero value of a type, as it is written in JSON inside lists and maps.
pub(crate) fn zero(types: &Types, ty: TypeId) -> Value {
    match types.shape(ty) {
        Shape::Struct(_) => Value::Object(Map::new()),
        Shape::Bool => false.into(),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => 0.into(),
        Shape::String => "".into(),
        Shape::Quantity => "0".into(),
        Shape::Duration => "0s".into(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests;
