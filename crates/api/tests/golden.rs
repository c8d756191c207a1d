//! Upstream's own JSON and protobuf, byte for byte. The pairs in `tests/golden` were written by upstream's
//! round-trip tests, each field filled with a value of its own.

use api::codec::{json, protobuf};
use api::facts::{facts, split_api_version, types};
use meta::schema::TypeId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

struct Pair {
    name: String,
    json: Vec<u8>,
    protobuf: Vec<u8>,
    ty: TypeId,
}

fn type_of(name: &str, value: &Value) -> TypeId {
    let api_version = value["apiVersion"].as_str().unwrap_or("v1");
    let kind = value["kind"].as_str().unwrap_or("WatchEvent");
    let (group, version) = split_api_version(api_version);
    if let Some(ty) = facts().kind(group, version, kind) {
        return ty;
    }
    // Kinds that have no path of their own, so that upstream's OpenAPI doesn't name their group.
    let short = group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
    [format!("api.{short}.{version}.{kind}"), format!("apimachinery.pkg.apis.meta.{version}.{kind}")]
        .iter()
        .find_map(|n| types().named(n))
        .unwrap_or_else(|| panic!("{name}: no type for {api_version} {kind}"))
}

fn pairs() -> Vec<Pair> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            files.insert(path.file_stem().unwrap().to_string_lossy().into_owned(), path);
        }
    }
    assert!(files.len() >= 40);
    files
        .into_iter()
        .map(|(name, path)| {
            let json = std::fs::read(&path).unwrap();
            let value: Value = serde_json::from_slice(&json).unwrap();
            let ty = type_of(&name, &value);
            Pair { name, protobuf: std::fs::read(path.with_extension("pb")).unwrap(), json, ty }
        })
        .collect()
}

/// Drops white space between tokens, and keeps everything else, order and escapes included.
fn compact(pretty: &[u8]) -> String {
    let mut out = Vec::new();
    let (mut string, mut escaped) = (false, false);
    for b in pretty {
        if string || !b.is_ascii_whitespace() {
            out.push(*b);
        }
        match b {
            _ if escaped => escaped = false,
            b'\\' if string => escaped = true,
            b'"' => string = !string,
            _ => {}
        }
    }
    String::from_utf8(out).unwrap()
}

/// Runs a check on every pair and names all that fail.
fn check(what: impl Fn(&Pair) -> Result<(), String>) {
    let failed: Vec<String> =
        pairs().iter().filter_map(|p| what(p).err().map(|e| format!("{}: {e}", p.name))).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn same(left: &str, right: &str) -> Result<(), String> {
    if left == right {
        return Ok(());
    }
    let at = left.bytes().zip(right.bytes()).position(|(a, b)| a != b).unwrap_or(left.len().min(right.len()));
    let show = |s: &str| s.chars().skip(at.saturating_sub(60)).take(140).collect::<String>();
    Err(format!("differ at {at}:\n  {}\n  {}", show(left), show(right)))
}

#[test]
fn upstreams_json_is_decoded_without_complaint_and_written_again_in_its_order() {
    check(|p| {
        let d = json::decode(types(), p.ty, &p.json).map_err(|e| e.to_string())?;
        if !d.problems.is_empty() {
            return Err(format!("{:?}", d.problems));
        }
        let ours = json::go_order(types(), p.ty, &d.value);
        same(&String::from_utf8(ours).unwrap(), &compact(&p.json))
    });
}

#[test]
fn upstreams_protobuf_is_written_byte_for_byte() {
    check(|p| {
        let d = json::decode(types(), p.ty, &p.json).map_err(|e| e.to_string())?;
        let ours = protobuf::encode(p.ty, &d.value).map_err(|e| e.to_string())?;
        if ours == p.protobuf {
            return Ok(());
        }
        let at = ours.iter().zip(&p.protobuf).position(|(a, b)| a != b).unwrap_or(ours.len().min(p.protobuf.len()));
        let show = |b: &[u8]| String::from_utf8_lossy(&b[at.saturating_sub(40)..(at + 60).min(b.len())]).into_owned();
        Err(format!(
            "differ at {at} of {} and {}:\n  {:?}\n  {:?}",
            ours.len(),
            p.protobuf.len(),
            show(&ours),
            show(&p.protobuf)
        ))
    });
}

#[test]
fn upstreams_protobuf_is_read_as_its_json() {
    check(|p| {
        let from_json = json::decode(types(), p.ty, &p.json).map_err(|e| e.to_string())?.value;
        let from_pb = protobuf::decode(p.ty, &p.protobuf).map_err(|e| e.to_string())?;
        same(&serde_json::to_string(&from_pb).unwrap(), &serde_json::to_string(&from_json).unwrap())
    });
}

#[test]
fn damaged_protobuf_is_refused_or_read_but_never_a_crash() {
    for p in pairs() {
        for cut in (0..p.protobuf.len()).step_by(37) {
            let _ = protobuf::decode(p.ty, &p.protobuf[..cut]);
        }
        for at in (4..p.protobuf.len()).step_by(53) {
            let mut bytes = p.protobuf.clone();
            for b in [0u8, 0xff, 0x80, bytes[at].wrapping_add(1)] {
                bytes[at] = b;
                let _ = protobuf::decode(p.ty, &bytes);
            }
        }
    }
}
