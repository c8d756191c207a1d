//! Whatever an object looks like, no hook may panic; and valid samples stay valid through all hooks.

use super::{created, parse, samples, strategy_of, with_meta};
use crate::codec::json;
use crate::facts;
use crate::strategy::Now;
use crate::validation::objectmeta;
use meta::field::Errors;
use serde_json::Value;

/// A small deterministic generator (xorshift), so that a failure repeats.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

fn strange(rng: &mut Rng) -> Value {
    let all = [
        Value::Null,
        true.into(),
        0.into(),
        (-1).into(),
        i64::MAX.into(),
        i64::MIN.into(),
        1.5.into(),
        "".into(),
        "é%'['/..".into(),
        "-".into(),
        "100%".into(),
        "1Ei".into(),
        serde_json::json!([]),
        serde_json::json!([null, 1, "a", {}]),
        serde_json::json!({}),
        serde_json::json!({"": null, "a/b/c": [1]}),
    ];
    all[rng.below(all.len())].clone()
}

/// Changes one node somewhere in the tree.
fn mutate(v: &mut Value, rng: &mut Rng, depth: usize) {
    let stop = depth > 0 && rng.below(6) == 0;
    match v {
        Value::Object(o) if !stop && !o.is_empty() => {
            let i = rng.below(o.len());
            if rng.below(12) == 0 {
                let k = o.keys().nth(i).cloned().unwrap_or_default();
                o.remove(&k);
            } else if let Some(child) = o.values_mut().nth(i) {
                mutate(child, rng, depth + 1);
            }
        }
        Value::Array(a) if !stop && !a.is_empty() => {
            let i = rng.below(a.len());
            if rng.below(8) == 0 {
                let copy = a[i].clone();
                a.push(copy);
            } else {
                mutate(&mut a[i], rng, depth + 1);
            }
        }
        other => *other = strange(rng),
    }
}

fn all_hooks(mut new: Value, old: &Value) {
    let s = strategy_of(old);
    let now = Now(jiff::Timestamp::UNIX_EPOCH);
    let mut errors = Errors::default();
    s.defaults(&mut new);
    let mut fresh = new.clone();
    s.prepare_create(&mut fresh, true);
    s.validate_create(&fresh, &mut errors);
    objectmeta::object_meta(&fresh, true, s.name_rule(), &mut errors);
    for (a, b) in [(&new, old), (old, &new)] {
        let mut n = a.clone();
        s.prepare_update(&mut n, b, true);
        s.validate_update(&n, b, &mut errors);
        objectmeta::object_meta_update(&n, b, &mut errors);
        let mut n = a.clone();
        s.prepare_status_update(&mut n, b);
        s.validate_status_update(&n, b, &mut errors);
        let _ = s.bumps_generation(a, b);
        let _ = s.warnings(a, Some(b));
    }
    assert_eq!(s.row(&new, now).len(), s.columns().len());
    let _ = s.selectable_fields(&new);
    for subresource in ["resize", "ephemeralcontainers", "finalize"] {
        s.validate_subresource_update(subresource, &new, old, &mut errors);
    }
    // Texts are made of hostile values, too.
    let _ = errors.joined();
}

#[test]
fn no_object_makes_a_hook_panic() {
    let mut rng = Rng(0x5eed_cafe_f00d);
    for sample in samples::ALL {
        let old = created(sample);
        for _ in 0..400 {
            let mut new = old.clone();
            for _ in 0..=rng.below(4) {
                mutate(&mut new, &mut rng, 0);
            }
            all_hooks(new, &old);
        }
        for v in [Value::Null, "x".into(), serde_json::json!([])] {
            all_hooks(v, &old);
        }
    }
}

/// Upstream's own objects, in which every field is set (to nonsense).
#[test]
fn no_full_object_makes_a_hook_panic() {
    let mut rng = Rng(0xdead_beef);
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).expect("golden files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file");
        let obj: Value = serde_json::from_slice(&bytes).expect("JSON");
        let (group, _) = facts::split_api_version(obj["apiVersion"].as_str().unwrap_or(""));
        if !crate::kinds::is_special(group, obj["kind"].as_str().unwrap_or("")) {
            continue;
        }
        seen += 1;
        for _ in 0..100 {
            let mut new = obj.clone();
            mutate(&mut new, &mut rng, 0);
            all_hooks(new, &obj);
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn samples_are_valid_and_their_own_updates() {
    for sample in samples::ALL {
        let obj = created(sample);
        let s = strategy_of(&obj);
        let mut errors = Errors::default();
        s.validate_create(&obj, &mut errors);
        let namespaced = !obj["metadata"]["namespace"].is_null();
        objectmeta::object_meta(&obj, namespaced, s.name_rule(), &mut errors);
        s.validate_update(&obj, &obj, &mut errors);
        objectmeta::object_meta_update(&obj, &obj, &mut errors);
        assert!(errors.is_empty(), "{}: {}", obj["kind"], errors.joined());
    }
}

#[test]
fn defaults_are_idempotent_and_known_to_the_schema() {
    for sample in samples::ALL {
        let obj = created(sample);
        let s = strategy_of(&obj);
        let mut again = obj.clone();
        s.defaults(&mut again);
        assert_eq!(again, obj, "{}", obj["kind"]);
        let (group, version) = facts::split_api_version(obj["apiVersion"].as_str().unwrap_or(""));
        let ty = facts::facts().kind(group, version, obj["kind"].as_str().unwrap_or("")).expect("a known kind");
        let decoded = json::decode_value(facts::types(), ty, &obj).expect("right types");
        assert_eq!(decoded.strict_error().map(|e| e.to_string()), None, "{}", obj["kind"]);
    }
}

#[test]
fn every_row_of_the_table_has_a_sample() {
    let have: Vec<(String, String)> = samples::ALL
        .iter()
        .map(|s| {
            let obj = with_meta(parse(s));
            let (group, _) = facts::split_api_version(obj["apiVersion"].as_str().unwrap_or(""));
            (group.to_string(), obj["kind"].as_str().unwrap_or("").to_string())
        })
        .collect();
    for (group, kind) in &have {
        assert!(crate::kinds::is_special(group, kind), "{group}/{kind}");
    }
}
