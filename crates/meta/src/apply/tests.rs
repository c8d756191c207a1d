//! Ownership told as stories: who writes what, and who owns what after.

use super::*;
use crate::object;
use crate::schema::{TypeId, Types};
use crate::testing::deployment;
use proptest::prelude::*;
use serde_json::{Value, json};

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).expect("in range")
}

fn writer(manager: &str, second: i64) -> Writer<'_> {
    Writer { manager, api_version: "apps/v1", subresource: "", now: at(second) }
}

fn tcp(types: &Types) -> impl Fn(TypeId, &str) -> Option<Value> + Sync {
    let port = types.named("Port");
    move |ty, key| (Some(ty) == port && key == "protocol").then(|| json!("TCP"))
}

/// One object and the writes to it.
struct Story {
    types: Types,
    ty: TypeId,
    live: Value,
    second: i64,
}

impl Story {
    fn new() -> Story {
        let (types, ty) = deployment();
        Story { types, ty, live: Value::Null, second: 0 }
    }

    fn config(spec: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
    }

    fn apply_object(&mut self, manager: &str, config: &Value, force: bool) -> Result<(), Status> {
        self.second += 1;
        let hook = tcp(&self.types);
        let s = Structure::new(&self.types, self.ty).with_key_default(&hook).with_reset(&[&["status"]]);
        let new = apply(&s, &self.live, config, &writer(manager, self.second), force)?;
        self.live = new;
        object::set(&mut self.live, &["metadata", "uid"], "u");
        Ok(())
    }

    fn apply(&mut self, manager: &str, spec: Value, force: bool) -> Result<(), Status> {
        self.apply_object(manager, &Story::config(spec), force)
    }

    fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) {
        self.second += 1;
        let hook = tcp(&self.types);
        let s = Structure::new(&self.types, self.ty).with_key_default(&hook).with_reset(&[&["status"]]);
        let mut new = if self.live.is_null() { Story::config(json!({})) } else { self.live.clone() };
        change(&mut new);
        track_update(&s, &self.live, &mut new, &writer(manager, self.second));
        self.live = new;
        object::set(&mut self.live, &["metadata", "uid"], "u");
    }

    fn spec(&self) -> &Value {
        object::get(&self.live, &["spec"]).unwrap_or(&Value::Null)
    }

    /// `manager operation second fields`, in the stored order.
    fn owners(&self) -> Vec<(String, Value)> {
        object::get_list(&self.live, &["metadata", "managedFields"])
            .iter()
            .map(|e| {
                let text = |k: &str| object::get_str(e, &[k]).to_string();
                let second = object::parse_time(&text("time")).map_or(-1, jiff::Timestamp::as_second);
                (format!("{} {} {second}", text("manager"), text("operation")), e["fieldsV1"].clone())
            })
            .collect()
    }
}

#[test]
fn an_applier_owns_what_it_applies_and_removes_what_it_drops() {
    let mut s = Story::new();
    s.apply("a", json!({"replicas": 1, "containers": [{"name": "x", "image": "i"}, {"name": "y"}]}), false).unwrap();
    let owned = json!({"f:spec": {"f:replicas": {}, "f:containers": {
        "k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:image": {}}, "k:{\"name\":\"y\"}": {".": {}, "f:name": {}}}}});
    assert_eq!(s.owners(), [("a Apply 1".to_string(), owned)]);
    s.apply("a", json!({"containers": [{"name": "x"}]}), false).unwrap();
    assert_eq!(s.spec(), &json!({"containers": [{"name": "x"}]}));
}

#[test]
fn conflicts_name_manager_and_field() {
    let mut s = Story::new();
    s.update("kubectl-client-side-apply", |o| o["spec"] = json!({"replicas": 1}));
    let e = s.apply("b", json!({"replicas": 2}), false).unwrap_err();
    assert_eq!((e.code, e.reason), (409, "Conflict"));
    assert_eq!(
        e.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    let cause = &e.details.unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", ".spec.replicas"));
    s.apply("b", json!({"replicas": 2}), true).unwrap();
    assert_eq!(s.spec(), &json!({"replicas": 2}));
    let names: Vec<String> = s.owners().into_iter().map(|o| o.0).collect();
    assert_eq!(names, ["b Apply 3"], "the field changed hands, and the old owner has none left");
}

#[test]
fn equal_values_are_shared_and_survive_one_owner() {
    let mut s = Story::new();
    s.apply("a", json!({"replicas": 1, "containers": [{"name": "x", "image": "i"}]}), false).unwrap();
    s.apply("b", json!({"replicas": 1}), false).unwrap();
    s.apply("a", json!({"containers": [{"name": "x", "image": "i"}]}), false).unwrap();
    assert_eq!(s.spec()["replicas"], 1);
    s.apply("b", json!({}), false).unwrap();
    assert_eq!(s.spec().get("replicas"), None);
    assert_eq!(s.owners()[1].1, json!({"f:spec": {}}), "an empty map is owned as such");
}

#[test]
fn fields_of_updaters_are_not_pruned() {
    let mut s = Story::new();
    s.apply("a", json!({"replicas": 1, "containers": [{"name": "x"}]}), false).unwrap();
    s.update("scaler", |o| o["spec"]["replicas"] = json!(5));
    s.apply("a", json!({"containers": [{"name": "x"}]}), false).unwrap();
    assert_eq!(s.spec()["replicas"], 5);
    assert_eq!(s.owners()[1], ("scaler Update 2".to_string(), json!({"f:spec": {"f:replicas": {}}})));
}

/// Who writes through a Scale has no time, and so comes first of those who don't apply.
#[test]
fn scalers_have_no_time() {
    let mut s = Story::new();
    s.update("early", |o| o["spec"] = json!({"replicas": 1, "containers": [{"name": "x"}]}));
    let mut new = s.live.clone();
    new["spec"]["replicas"] = json!(2);
    let scaler = Writer { subresource: "scale", ..writer("scaler", 9) };
    track_update(&Structure::new(&s.types, s.ty), &s.live, &mut new, &scaler);
    let entries = object::get_list(&new, &["metadata", "managedFields"]);
    let told: Vec<_> = entries.iter().map(|e| (e["manager"].as_str().unwrap(), e.get("time").is_some())).collect();
    assert_eq!(told, [("scaler", false), ("early", true)]);
}

#[test]
fn applying_again_changes_nothing_not_even_the_time() {
    let mut s = Story::new();
    let spec = json!({"replicas": 1, "containers": [{"name": "x", "ports": [{"containerPort": 1}]}]});
    s.apply("a", spec.clone(), false).unwrap();
    let before = s.live.clone();
    s.apply("a", spec, false).unwrap();
    assert_eq!(s.live, before);
}

#[test]
fn keys_have_defaults() {
    let mut s = Story::new();
    s.apply("a", json!({"containers": [{"name": "x", "ports": [{"containerPort": 1}]}]}), false).unwrap();
    s.update("defaults", |o| o["spec"]["containers"][0]["ports"][0]["protocol"] = json!("TCP"));
    s.apply("a", json!({"containers": [{"name": "x", "ports": [{"containerPort": 1, "name": "p"}]}]}), false).unwrap();
    assert_eq!(s.spec()["containers"][0]["ports"], json!([{"containerPort": 1, "protocol": "TCP", "name": "p"}]));
    assert!(s.owners()[0].1.to_string().contains(r#"k:{\"containerPort\":1,\"protocol\":\"TCP\"}"#));
}

#[test]
fn list_order_is_the_appliers_with_others_in_place() {
    let mut s = Story::new();
    let named = |names: &[&str]| -> Value { names.iter().map(|n| json!({"name": n})).collect() };
    s.update("u", |o| o["spec"]["containers"] = named(&["a", "b", "c", "d"]));
    s.apply("m", json!({"containers": named(&["n", "c", "a"])}), false).unwrap();
    assert_eq!(s.spec()["containers"], named(&["b", "n", "c", "d", "a"]));
}

#[test]
fn updates_track_what_changes() {
    let mut s = Story::new();
    s.update("u", |o| {
        o["metadata"]["labels"] = json!({"a": "1"});
        o["spec"] = json!({"replicas": 1, "containers": [{"name": "x"}]});
        o["status"] = json!({"replicas": 1});
    });
    let first = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:replicas": {},
        "f:containers": {".": {}, "k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:resources": {}}}}});
    assert_eq!(s.owners(), [("u Update 1".to_string(), first)]);
    s.update("v", |o| {
        o["spec"]["replicas"] = json!(2);
        o["metadata"]["labels"] = json!({});
    });
    let owners = s.owners();
    assert_eq!(owners[1], ("v Update 2".to_string(), json!({"f:spec": {"f:replicas": {}}})));
    assert!(owners[0].1["f:spec"].get("f:replicas").is_none());
    assert!(owners[0].1["f:metadata"]["f:labels"].get("f:a").is_none());
    let before = s.owners();
    s.update("w", |o| o["metadata"]["resourceVersion"] = json!("7"));
    assert_eq!(s.owners(), before, "bookkeeping is owned by nobody");
}

#[test]
fn clients_may_reset_or_rewrite_ownership() {
    let mut s = Story::new();
    s.update("u", |o| o["spec"] = json!({"replicas": 1}));
    s.update("u", |o| {
        o["metadata"].as_object_mut().unwrap().remove("managedFields");
    });
    assert_eq!(s.owners().len(), 1, "leaving the list out keeps it");
    s.update("u", |o| o["metadata"]["managedFields"] = json!([{}]));
    assert_eq!(s.owners().len(), 0);
    s.update("u", |o| o["spec"]["replicas"] = json!(2));
    assert_eq!(s.owners().len(), 0, "an untracked object stays untracked by updates");
    s.apply("a", json!({"replicas": 2}), false).unwrap();
    let names: Vec<String> = s.owners().into_iter().map(|o| o.0).collect();
    assert_eq!(names, ["a Apply 5", "before-first-apply Update 5"]);
}

#[test]
fn old_updaters_are_merged() {
    let mut s = Story::new();
    for i in 0..13 {
        s.update(&format!("m{i:02}"), |o| object::set(o, &["metadata", "labels", &format!("l{i}")], "x"));
    }
    let names: Vec<String> = s.owners().into_iter().map(|o| o.0).collect();
    assert_eq!(names.len(), 10);
    assert_eq!(names[0], "ancient-changes Update 4");
    for i in 0..4 {
        assert!(s.owners()[0].1["f:metadata"]["f:labels"].get(format!("f:l{i}")).is_some());
    }
}

#[test]
fn kubectl_moves_from_client_side_apply() {
    let mut s = Story::new();
    let manifest = Story::config(json!({"replicas": 1})).to_string();
    s.update("kubectl-client-side-apply", |o| {
        o["spec"] = json!({"replicas": 1});
        object::set_annotation(o, LAST_APPLIED, manifest);
    });
    assert!(s.clone_apply("other", 2).is_err(), "only kubectl is trusted with this");
    s.apply("kubectl", json!({"replicas": 2}), false).unwrap();
    let kept: Value = serde_json::from_str(object::annotation(&s.live, LAST_APPLIED).unwrap()).unwrap();
    assert_eq!(kept["spec"], json!({"replicas": 2}));
}

impl Story {
    fn clone_apply(&self, manager: &str, replicas: i64) -> Result<(), Status> {
        let mut other = Story::new();
        other.live = self.live.clone();
        other.apply(manager, json!({"replicas": replicas}), false)
    }
}

#[test]
fn what_does_not_fit_is_refused_in_upstreams_words() {
    for (spec, why) in [
        (json!({"replcas": 1}), ".spec.replcas: field not declared in schema"),
        (json!({"replicas": "1"}), ".spec.replicas: expected numeric (int or float), got string"),
        (
            json!({"containers": [{"name": "a", "image": 1}]}),
            ".spec.containers[name=\"a\"].image: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (json!({"containers": {"a": 1}}), ".spec.containers: expected list, got &{map[a:1]}"),
        (
            json!({"containers": [{"name": "a"}, {"name": "a"}]}),
            ".spec.containers: duplicate entries for key [name=\"a\"]",
        ),
    ] {
        let e = Story::new().apply("a", spec, false).unwrap_err();
        assert_eq!(e.code, 400);
        assert_eq!(e.message, format!("failed to create typed patch object (n/d; apps/v1, Kind=Deployment): {why}"));
    }
    let mut config = Story::config(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    assert_eq!(Story::new().apply_object("a", &config, false).map_err(|e| e.code), Err(400));
    config = Story::config(json!({}));
    config["apiVersion"] = json!("apps/v2");
    assert_eq!(
        Story::new().apply_object("a", &config, false).map_err(|e| e.message),
        Err("Incorrect version specified in apply patch. Specified patch version: apps/v2, expected: apps/v1"
            .to_string())
    );
}

#[test]
fn fields_v1_reads_what_it_writes() {
    let text = json!({"f:a": {".": {}, "f:b": {}, "k:{\"x\":1,\"y\":\"z\"}": {"f:q": {}}, "v:\"s\"": {}, "v:2": {}, "i:3": {}}});
    let set = Set::from_fields_v1(&text).unwrap();
    assert_eq!(set.to_fields_v1(), text);
    let shown: Vec<String> = set.paths().iter().map(Path::to_string).collect();
    assert_eq!(shown, [".a", ".a.b", ".a[x=1,y=\"z\"].q", ".a[=\"s\"]", ".a[=2]", ".a[3]"]);
    for bad in [json!({"a": {}}), json!({"f:a": 1}), json!({"k:x": {}}), json!({"z:x": {}}), json!(3)] {
        assert!(Set::from_fields_v1(&bad).is_err(), "{bad}");
    }
}

fn spec() -> impl Strategy<Value = Value> {
    let container = ("[a-c]", prop::option::of("[x-z]"), prop::option::of(1i64..3));
    (prop::option::of(1i64..4), prop::collection::vec(container, 0..4)).prop_map(|(replicas, containers)| {
        let mut spec = json!({});
        if let Some(r) = replicas {
            spec["replicas"] = json!(r);
        }
        let mut seen: Vec<Value> = Vec::new();
        for (name, image, port) in containers {
            if seen.iter().any(|c| c["name"] == name.as_str()) {
                continue;
            }
            let mut c = json!({"name": name});
            if let Some(i) = image {
                c["image"] = json!(i);
            }
            if let Some(p) = port {
                c["ports"] = json!([{"containerPort": p}]);
            }
            seen.push(c);
        }
        if !seen.is_empty() {
            spec["containers"] = json!(seen);
        }
        spec
    })
}

/// A kind in two versions: `v2` calls `size` what `v1` calls `replicas`.
mod versions {
    use super::*;
    use crate::schema::{Field, Shape, Struct, Type};

    fn kind(types: &mut Types, count: &str) -> TypeId {
        let text = types.push(Type { name: String::new(), shape: Shape::String });
        let number = types.push(Type { name: String::new(), shape: Shape::Int32 });
        let mut make = |fields: &[(&str, TypeId)]| {
            let mut s = Struct::default();
            for (i, (name, ty)) in fields.iter().enumerate() {
                s.by_name.insert(name.to_string(), i as u32);
                s.fields.push(Field {
                    name: name.to_string(),
                    ty: *ty,
                    required: false,
                    pointer: true,
                    omitempty: true,
                    proto: 0,
                    retain_keys: false,
                    patch_replaces: false,
                });
            }
            types.push(Type { name: String::new(), shape: Shape::Struct(s) })
        };
        let spec = make(&[(count, number), ("color", text)]);
        let meta = make(&[("name", text), ("namespace", text), ("uid", text)]);
        make(&[("apiVersion", text), ("kind", text), ("metadata", meta), ("spec", spec)])
    }

    struct World {
        types: Types,
        v1: TypeId,
        v2: TypeId,
        /// As stored, in v1.
        live: Value,
        second: i64,
    }

    fn rename(object: &Value, version: &str) -> Value {
        let mut o = object.clone();
        let (from, to) = if version == "e/v2" { ("replicas", "size") } else { ("size", "replicas") };
        if let Some(v) = object::remove(&mut o, &["spec", from]) {
            object::set(&mut o, &["spec", to], v);
        }
        if o.is_object() {
            o["apiVersion"] = version.into();
        }
        o
    }

    impl World {
        fn new() -> World {
            let mut types = Types::default();
            let (v1, v2) = (kind(&mut types, "replicas"), kind(&mut types, "size"));
            World { types, v1, v2, live: Value::Null, second: 0 }
        }

        fn act(
            &mut self,
            version: &str,
            work: impl FnOnce(&Structure, &Value, &Writer) -> Result<Value, Status>,
            who: &str,
        ) -> Result<(), Status> {
            self.second += 1;
            let convert = |to: &str, object: &Value| {
                let ty = match to {
                    "e/v1" => self.v1,
                    "e/v2" => self.v2,
                    _ => return None,
                };
                Some(View { types: &self.types, ty, object: rename(object, to) })
            };
            let ty = if version == "e/v1" { self.v1 } else { self.v2 };
            let s = Structure::new(&self.types, ty).with_versions(&convert);
            let live = if self.live.is_null() { Value::Null } else { rename(&self.live, version) };
            let writer = Writer { manager: who, api_version: version, subresource: "", now: at(self.second) };
            let mut new = work(&s, &live, &writer)?;
            object::set(&mut new, &["metadata", "uid"], "u");
            self.live = rename(&new, "e/v1");
            Ok(())
        }

        fn apply(&mut self, who: &str, version: &str, spec: Value) -> Result<(), Status> {
            let config = json!({"apiVersion": version, "kind": "K", "metadata": {"name": "k"}, "spec": spec});
            self.act(version, |s, live, writer| apply(s, live, &config, writer, false).map_err(Status::from), who)
        }

        fn update(&mut self, who: &str, version: &str, spec: Value) {
            let change = |s: &Structure, live: &Value, writer: &Writer| {
                let mut new = live.clone();
                new["spec"] = spec;
                track_update(s, live, &mut new, writer);
                Ok(new)
            };
            self.act(version, change, who).unwrap();
        }

        fn owners(&self) -> Vec<String> {
            object::get_list(&self.live, &["metadata", "managedFields"])
                .iter()
                .map(|e| {
                    format!(
                        "{} {} {}",
                        object::get_str(e, &["manager"]),
                        object::get_str(e, &["apiVersion"]),
                        e["fieldsV1"]
                    )
                })
                .collect()
        }
    }

    #[test]
    fn a_field_is_one_field_in_all_versions() {
        let mut w = World::new();
        w.apply("a", "e/v1", json!({"replicas": 1, "color": "red"})).unwrap();
        let e = w.apply("b", "e/v2", json!({"size": 2})).unwrap_err();
        assert_eq!(e.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
        // Another writes it in the other version: it is taken from who had it in the first.
        w.update("u", "e/v2", json!({"size": 5, "color": "red"}));
        assert_eq!(w.owners(), [r#"a e/v1 {"f:spec":{"f:color":{}}}"#, r#"u e/v2 {"f:spec":{"f:size":{}}}"#]);
        let e = w.apply("a", "e/v1", json!({"replicas": 1, "color": "red"})).unwrap_err();
        assert_eq!(e.message, "Apply failed with 1 conflict: conflict with \"u\" using e/v2: .spec.size");
    }

    #[test]
    fn what_was_applied_in_one_version_goes_in_another() {
        let mut w = World::new();
        w.apply("a", "e/v1", json!({"replicas": 1, "color": "red"})).unwrap();
        w.apply("a", "e/v2", json!({"color": "red"})).unwrap();
        assert_eq!(w.live["spec"], json!({"color": "red"}));
        assert_eq!(w.owners(), [r#"a e/v2 {"f:spec":{"f:color":{}}}"#]);
        // But not what another has applied, in whichever version.
        w.apply("b", "e/v1", json!({"replicas": 3})).unwrap();
        w.apply("c", "e/v2", json!({"size": 3})).unwrap();
        w.apply("b", "e/v2", json!({})).unwrap();
        assert_eq!(w.live["spec"], json!({"color": "red", "replicas": 3}));
        w.apply("c", "e/v1", json!({})).unwrap();
        assert_eq!(w.live["spec"], json!({"color": "red"}));
    }
}

#[test]
fn broken_ownership_is_as_good_as_none() {
    let mut s = Story::new();
    s.update("u", |o| o["spec"] = json!({"replicas": 1}));
    s.live["metadata"]["managedFields"][0]["fieldsV1"] = json!({"broken": 1});
    s.apply("a", json!({"replicas": 1}), false).unwrap();
    let names: Vec<String> = s.owners().into_iter().map(|o| o.0).collect();
    assert_eq!(names, ["a Apply 2", "before-first-apply Update 2"]);
    s.live["metadata"]["managedFields"] = json!("nonsense");
    s.update("u", |o| o["spec"]["replicas"] = json!(2));
    assert_eq!(s.owners().len(), 0);
}

/// Who applied what last, to compare the outcome with.
fn expect(s: &Story, applied: &[(&str, Value)]) -> Result<(), TestCaseError> {
    for (who, spec) in applied {
        let owned = s.owners().into_iter().find(|o| o.0.starts_with(&format!("{who} Apply"))).map(|o| o.1);
        prop_assert_eq!(owned.is_some(), true, "{} owns nothing", who);
        // Everything that somebody applied is there.
        for c in spec["containers"].as_array().into_iter().flatten() {
            let live = object::get_list(s.spec(), &["containers"]).iter().any(|x| x["name"] == c["name"]);
            prop_assert!(live, "{} of {} is gone: {}", c, who, s.spec());
        }
    }
    // And nothing that nobody did.
    for live in object::get_list(s.spec(), &["containers"]) {
        let wanted = applied
            .iter()
            .any(|(_, spec)| spec["containers"].as_array().into_iter().flatten().any(|c| c["name"] == live["name"]));
        prop_assert!(wanted, "{} is nobody's", live);
    }
    Ok(())
}

proptest! {
    #[test]
    fn an_object_is_the_union_of_what_is_applied(writes in prop::collection::vec((0usize..3, spec()), 1..8)) {
        let mut s = Story::new();
        let mut applied: Vec<(&str, Value)> = Vec::new();
        for (who, spec) in writes {
            let who = ["a", "b", "c"][who];
            let mut spec = spec;
            // Values are equal for all, so that nobody conflicts with anybody.
            if spec.get("replicas").is_some() {
                spec["replicas"] = json!(1);
            }
            for c in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
                if c.get("image").is_some() {
                    c["image"] = json!("i");
                }
            }
            s.apply(who, spec.clone(), false).map_err(|e| TestCaseError::fail(e.message))?;
            applied.retain(|(w, _)| *w != who);
            applied.push((who, spec));
            expect(&s, &applied)?;
        }
    }

    #[test]
    fn ownership_survives_its_written_form(writes in prop::collection::vec((0usize..3, spec()), 1..6)) {
        let mut s = Story::new();
        for (who, spec) in writes {
            s.apply(["a", "b", "c"][who], spec, true).map_err(|e| TestCaseError::fail(e.message))?;
            let managed = Managed::of(&s.live).map_err(TestCaseError::fail)?;
            prop_assert_eq!(managed.encode(), s.live["metadata"]["managedFields"].clone());
        }
    }

    #[test]
    fn apply_is_idempotent_and_a_sole_applier_gets_what_it_applies(specs in prop::collection::vec(spec(), 1..5)) {
        let mut s = Story::new();
        for spec in &specs {
            s.apply("a", spec.clone(), false).map_err(|e| TestCaseError::fail(e.message))?;
            let once = s.live.clone();
            s.apply("a", spec.clone(), false).map_err(|e| TestCaseError::fail(e.message))?;
            prop_assert_eq!(&s.live, &once);
            prop_assert!(object::semantic_eq(s.spec(), spec), "{} {}", s.spec(), spec);
        }
    }

    #[test]
    fn force_always_wins_and_owns(a in spec(), b in spec()) {
        let mut s = Story::new();
        s.apply("a", a, false).map_err(|e| TestCaseError::fail(e.message))?;
        s.apply("b", b.clone(), true).map_err(|e| TestCaseError::fail(e.message))?;
        s.apply("b", b.clone(), false).map_err(|e| TestCaseError::fail(e.message))?;
        for c in b["containers"].as_array().into_iter().flatten() {
            let live = object::get_list(s.spec(), &["containers"]).iter().find(|x| x["name"] == c["name"]);
            prop_assert!(live.is_some(), "{} {}", s.spec(), c);
            if let (Some(live), Some(image)) = (live, c.get("image")) {
                prop_assert_eq!(live.get("image"), Some(image));
            }
        }
    }
}
