//! Clean objects to JSON bytes: the canonical form that is stored and sent, and upstream's own field order.

use meta::schema::{Shape, TypeId, Types};
use serde_json::{Map, Value};

/// An object's canonical bytes: `apiVersion`, `kind`, `metadata`, then the rest; every other map sorted.
/// The bytes that are stored, cached and sent. `metadata.resourceVersion` must not be there: the server splices it
/// in right behind `"metadata":{`.
pub fn canonical(object: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let Value::Object(map) = object else {
        write_sorted(&mut out, object);
        return out;
    };
    const FIRST: [&str; 3] = ["apiVersion", "kind", "metadata"];
    out.push(b'{');
    let mut comma = false;
    let mut member = |out: &mut Vec<u8>, key: &str, value: &Value| {
        if std::mem::replace(&mut comma, true) {
            out.push(b',');
        }
        write_string(out, key);
        out.push(b':');
        write_sorted(out, value);
    };
    for key in FIRST {
        if let Some(v) = map.get(key) {
            member(&mut out, key, v);
        }
    }
    for (k, v) in sorted(map) {
        if !FIRST.contains(&k.as_str()) {
            member(&mut out, k, v);
        }
    }
    out.push(b'}');
    out
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    // A map is sorted already, unless some crate turned serde_json's `preserve_order` on for all of us.
    let mut members: Vec<_> = map.iter().collect();
    members.sort_unstable_by(|a, b| a.0.cmp(b.0));
    members
}

fn write_sorted(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Object(map) => {
            out.push(b'{');
            for (i, (k, v)) in sorted(map).into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_string(out, k);
                out.push(b':');
                write_sorted(out, v);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (i, v) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_sorted(out, v);
            }
            out.push(b']');
        }
        Value::String(s) => write_string(out, s),
        Value::Number(n) => match n.as_f64().filter(|_| n.is_f64()) {
            Some(f) => out.extend_from_slice(go_float(f).as_bytes()),
            None => out.extend_from_slice(n.to_string().as_bytes()),
        },
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Null => out.extend_from_slice(b"null"),
    }
}

/// As Go writes floats: with an exponent only where they are very small or very large.
fn go_float(f: f64) -> String {
    match f.abs() {
        size if size >= 1e21 => format!("{f:e}").replace('e', "e+"),
        size if size < 1e-6 && size != 0.0 => format!("{f:e}"),
        _ => f.to_string(),
    }
}

fn write_string(out: &mut Vec<u8>, s: &str) {
    // Writing to a Vec can't fail.
    let _ = serde_json::to_writer(out, s);
}

/// An object as Go's encoder would write it: fields in declaration order, with the zero values that lack
/// `omitempty`, and `<`, `>`, `&` escaped. For comparing with what upstream writes.
pub fn go_order(types: &Types, ty: TypeId, value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_go(types, ty, Some(value), &mut out);
    out
}

fn write_go(types: &Types, ty: TypeId, value: Option<&Value>, out: &mut Vec<u8>) {
    let value = value.filter(|v| !v.is_null());
    match (types.shape(ty), value) {
        (Shape::Struct(s), value) => {
            let members = value.and_then(Value::as_object);
            out.push(b'{');
            let mut comma = false;
            for f in &s.fields {
                let v = members.and_then(|m| m.get(&f.name));
                let bare_struct = !f.pointer && matches!(types.shape(f.ty), Shape::Struct(_));
                if v.is_none() && f.omitempty && !bare_struct {
                    continue;
                }
                if std::mem::replace(&mut comma, true) {
                    out.push(b',');
                }
                write_go_string(out, &f.name);
                out.push(b':');
                match v {
                    None if f.pointer => out.extend_from_slice(b"null"),
                    v => write_go(types, f.ty, v, out),
                }
            }
            if s.preserve_unknown {
                for (k, v) in members.into_iter().flat_map(sorted).filter(|m| s.field(m.0).is_none()) {
                    if std::mem::replace(&mut comma, true) {
                        out.push(b',');
                    }
                    write_go_string(out, k);
                    out.push(b':');
                    write_go_any(v, out);
                }
            }
            out.push(b'}');
        }
        (Shape::List(l), Some(Value::Array(items))) => {
            out.push(b'[');
            for (i, v) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_go(types, l.item, Some(v), out);
            }
            out.push(b']');
        }
        (Shape::Map { value: ty, .. }, Some(Value::Object(map))) => {
            out.push(b'{');
            for (i, (k, v)) in sorted(map).into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_go_string(out, k);
                out.push(b':');
                write_go(types, *ty, Some(v), out);
            }
            out.push(b'}');
        }
        (_, Some(v)) => write_go_any(v, out),
        (Shape::List(_) | Shape::Map { .. } | Shape::Bytes, None) => out.extend_from_slice(b"null"),
        (_, None) => write_go_any(&super::json::zero(types, ty), out),
    }
}

fn write_go_any(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            out.push(b'{');
            for (i, (k, v)) in sorted(map).into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_go_string(out, k);
                out.push(b':');
                write_go_any(v, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (i, v) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_go_any(v, out);
            }
            out.push(b']');
        }
        Value::String(s) => write_go_string(out, s),
        v => write_sorted(out, v),
    }
}

/// Go escapes what is special in HTML, and the two line separators of JavaScript.
fn write_go_string(out: &mut Vec<u8>, s: &str) {
    let from = out.len();
    write_string(out, s);
    if !s.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return;
    }
    let plain = String::from_utf8_lossy(&out[from..])
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    out.truncate(from);
    out.extend_from_slice(plain.as_bytes());
}
