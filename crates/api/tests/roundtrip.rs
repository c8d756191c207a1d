//! Random objects of every kind survive every wire format: what JSON says, protobuf and YAML say too.

use api::codec::{json, protobuf, yaml};
use api::facts::{facts, types};
use meta::schema::{Shape, TypeId};
use serde_json::{Map, Value, json};

/// A small deterministic generator (xorshift), so that a failure repeats.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn pick(&mut self, from: &[&str]) -> Value {
        from[self.below(from.len() as u64) as usize].into()
    }
}

fn value(ty: TypeId, depth: u32, rng: &mut Rng) -> Value {
    match types().shape(ty) {
        Shape::Struct(s) => {
            let mut out = Map::new();
            for f in &s.fields {
                // What Go always writes is always there; so is what would make the tree too deep not.
                let shallow =
                    !matches!(types().shape(f.ty), Shape::Struct(_) | Shape::List(_) | Shape::Map { .. } | Shape::Any);
                let always = !f.pointer && !f.omitempty;
                if (always && (shallow || depth < 9)) || (rng.below(3) == 0 && (shallow || depth < 5)) {
                    out.insert(f.name.clone(), value(f.ty, depth + 1, rng));
                }
            }
            Value::Object(out)
        }
        Shape::Map { value: v, .. } => {
            (0..=rng.below(2)).map(|i| (format!("key{i}"), value(*v, depth + 1, rng))).collect::<Map<_, _>>().into()
        }
        // Protobuf has no empty lists and maps, so there are none here.
        Shape::List(l) => (0..=rng.below(2)).map(|_| value(l.item, depth + 1, rng)).collect::<Vec<_>>().into(),
        Shape::Bool => (rng.below(2) == 0).into(),
        Shape::Int32 => [0, 1, -1, i32::MAX, i32::MIN][rng.below(5) as usize].into(),
        Shape::Int64 => [0, 1, -1, i64::MAX, i64::MIN][rng.below(5) as usize].into(),
        Shape::Double => [json!(0), json!(1.5), json!(-2)][rng.below(3) as usize].clone(),
        Shape::String => rng.pick(&["", "a", "yes", "é<&>\u{2028}\"\\", "0755", "line\nline\n", " x"]),
        Shape::Bytes => rng.pick(&["", "AA==", "aGVsbG8="]),
        Shape::Quantity => rng.pick(&["0", "100m", "1Gi", "-1", "2e3"]),
        Shape::IntOrString => [json!(0), json!(8080), json!("http"), json!("50%")][rng.below(4) as usize].clone(),
        Shape::Time => rng.pick(&["2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z"]),
        Shape::MicroTime => rng.pick(&["2026-01-02T03:04:05.000006Z", "1969-12-31T23:59:59.999999Z"]),
        Shape::Duration => rng.pick(&["1h0m0s", "1.5s"]),
        Shape::FieldsV1 | Shape::RawExtension => {
            json!({"f:metadata": {"f:x": {}}, "n": null, "l": [1, "a"]})
        }
        Shape::Any => match facts().unions.get(&ty) {
            None => json!({"any": [1, null, {"x": "y"}]}),
            Some(_) => json!({"type": "string"}),
        },
    }
}

/// Whether everything in `part` is in `whole`. Protobuf has no kinds inside of lists.
fn holds(whole: &Value, part: &Value, top: bool) -> bool {
    match (whole, part) {
        (Value::Object(w), Value::Object(p)) => p.iter().all(|(k, v)| match w.get(k) {
            Some(found) => holds(found, v, false),
            None => !top && matches!(k.as_str(), "kind" | "apiVersion"),
        }),
        (Value::Array(w), Value::Array(p)) => w.len() == p.len() && w.iter().zip(p).all(|(w, p)| holds(w, p, false)),
        _ => whole == part,
    }
}

#[test]
fn every_kind_survives_every_format() {
    let mut rng = Rng(0x5eed_1234_5678_9abc);
    for (ty, gvk) in &facts().gvk {
        for _ in 0..15 {
            let mut object = value(*ty, 0, &mut rng);
            let (group, version) = (&gvk.group, &gvk.version);
            let api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
            object["apiVersion"] = api_version.into();
            object["kind"] = gvk.kind.as_str().into();
            let text = object.to_string();
            let decoded =
                json::decode(types(), *ty, text.as_bytes()).unwrap_or_else(|e| panic!("{gvk:?}: {e}\n{text}"));
            assert_eq!(decoded.problems, Vec::<String>::new(), "{gvk:?}");
            let clean = decoded.value;

            let again = json::decode(types(), *ty, &json::canonical(&clean)).unwrap().value;
            assert_eq!(again, clean, "{gvk:?} through its canonical bytes");
            let bytes = protobuf::encode(*ty, &clean).unwrap_or_else(|e| panic!("{gvk:?}: {e}"));
            let there = protobuf::decode(*ty, &bytes).unwrap_or_else(|e| panic!("{gvk:?}: {e}"));
            assert!(holds(&there, &clean, true), "{gvk:?} through protobuf:\n{there}\n{clean}");
            // Go writes structs that aren't there too, with their zero values; after that nothing changes.
            let bytes = protobuf::encode(*ty, &there).unwrap();
            assert_eq!(protobuf::decode(*ty, &bytes).unwrap(), there, "{gvk:?} through protobuf twice");
            assert_eq!(json::decode_value(types(), *ty, &there).unwrap().value, there, "{gvk:?} as JSON again");
            let text = yaml::to_string(&clean).unwrap();
            let there = yaml::decode(types(), *ty, text.as_bytes()).unwrap_or_else(|e| panic!("{gvk:?}: {e}\n{text}"));
            assert_eq!(there.value, clean, "{gvk:?} through YAML");
            let ordered = json::decode(types(), *ty, &json::go_order(types(), *ty, &clean)).unwrap().value;
            let bytes = protobuf::encode(*ty, &ordered).unwrap();
            assert_eq!(protobuf::decode(*ty, &bytes).unwrap()["kind"], clean["kind"]);
        }
    }
}

#[test]
fn a_watch_frame_holds_a_whole_object() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}});
    let ty = facts().kind("", "v1", "Pod").unwrap();
    let frame = protobuf::watch_frame("ADDED", ty, &pod).unwrap();
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
    assert_eq!(length, frame.len() - 4);
    let event = types().named("apimachinery.pkg.apis.meta.v1.WatchEvent").unwrap();
    let event = protobuf::decode_raw(event, &frame[4..]).unwrap();
    assert_eq!(event["type"], "ADDED");
    assert_eq!(event["object"]["metadata"]["name"], "a");
    assert_eq!((&event["object"]["apiVersion"], &event["object"]["kind"]), (&json!("v1"), &json!("Pod")));
}

#[test]
fn bodies_may_hold_json_inside_protobuf() {
    let ty = facts().kind("", "v1", "Pod").unwrap();
    assert!(protobuf::decode(ty, b"{}").unwrap_err().to_string().contains("does not appear to be a protobuf message"));
    let raw = br#"{"metadata":{"name":"a"},"unknown":1}"#;
    let mut body = protobuf::MAGIC.to_vec();
    body.extend([0x12, raw.len() as u8]);
    body.extend_from_slice(raw);
    body.extend([0x22, 16]);
    body.extend_from_slice(b"application/json");
    assert_eq!(protobuf::decode(ty, &body).unwrap(), json!({"metadata": {"name": "a"}}));
}
