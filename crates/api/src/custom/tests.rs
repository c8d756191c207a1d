//! Validation as a table, and what must hold for every schema.

use super::*;
use meta::field::Path;
use serde_json::json;

fn check(schema: Value, object: Value, old: Option<Value>, expect: expect_test::Expect) {
    let schema = Schema::compile(&schema);
    let mut errors = Errors::default();
    validate::validate(&schema, &object, old.as_ref(), &Path::root(), &mut errors);
    validate::keyed_lists(&schema, &object, &Path::root(), &mut errors);
    embedded::validate(&schema, &object, &mut errors);
    let text: String = errors.0.iter().map(|e| format!("{e}\n")).collect();
    expect.assert_eq(&text);
}

fn spec(properties: Value) -> Value {
    json!({"type":"object","properties":{"spec":{"type":"object","properties":properties}}})
}

#[test]
fn faults_are_worded_as_upstreams() {
    check(
        spec(json!({"a":{"type":"integer"},"b":{"type":"string"},"c":{"type":"boolean"},"d":{"type":"number"},
            "e":{"x-kubernetes-int-or-string":true},"f":{"type":"object"},"g":{"type":"array","items":{"type":"string"}},
            "h":{"type":"string","nullable":true},"i":{"type":"integer"}})),
        json!({"spec":{"a":"x","b":1,"c":"true","d":"1","e":true,"f":[],"g":["a",2],"h":null,"i":1.0}}),
        None,
        expect_test::expect![[r#"
            spec.a: Invalid value: "string": spec.a in body must be of type integer: "string"
            spec.b: Invalid value: "integer": spec.b in body must be of type string: "integer"
            spec.c: Invalid value: "string": spec.c in body must be of type boolean: "string"
            spec.d: Invalid value: "string": spec.d in body must be of type number: "string"
            spec.e: Invalid value: "boolean": spec.e in body must be of type integer,string: "boolean"
            spec.f: Invalid value: "array": spec.f in body must be of type object: "array"
            spec.g[1]: Invalid value: "integer": spec.g[1] in body must be of type string: "integer"
        "#]],
    );
    check(
        json!({"type":"object","required":["spec","other"],"properties":{"spec":{"type":"object","required":["r"],
            "minProperties":2,"properties":{
            "s":{"type":"string","minLength":3,"pattern":"^a+$"},"l":{"type":"string","maxLength":2},
            "p":{"type":"string","pattern":"^[0-9]+$"},
            "e":{"type":"string","enum":["A","B"]},"n":{"type":"integer","minimum":1,"maximum":10},
            "x":{"type":"number","exclusiveMinimum":true,"minimum":0.5,"multipleOf":0.5},
            "a":{"type":"array","items":{"type":"integer"},"minItems":2},"b":{"type":"array","items":{"type":"integer"},"maxItems":1},
            "t":{"type":"string","format":"date-time"},"i":{"type":"integer","format":"int32"}}}}}),
        json!({"spec":{"s":"aa","l":"abc","p":"x","e":"C","n":0,"x":0.5,"a":[1],"b":[1,2],"t":"now","i":4294967296i64}}),
        None,
        expect_test::expect![[r#"
            spec.a: Invalid value: 1: spec.a in body should have at least 2 items
            spec.b: Too many: must have at most 1 items
            spec.e: Unsupported value: "C": supported values: "A", "B"
            <nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.i
            spec.l: Too long: may not be more than 2 bytes
            spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1
            spec.p: Invalid value: "x": spec.p in body should match '^[0-9]+$'
            spec.s: Invalid value: "aa": spec.s in body should be at least 3 chars long
            spec.t: Invalid value: "now": spec.t in body must be of type date-time: "now"
            spec.x: Invalid value: 0.5: spec.x in body should be greater than 0.5
            spec.r: Required value
            other: Required value
        "#]],
    );
}

#[test]
fn alternatives() {
    let schema = json!({"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},
        "oneOf":[{"required":["a"]},{"required":["b"]}],"not":{"required":["c"]},
        "anyOf":[{"properties":{"a":{"minimum":5}}},{"properties":{"b":{"minimum":5}}}],
        "allOf":[{"properties":{"a":{"maximum":9}}}]}}});
    check(
        schema.clone(),
        json!({"spec":{"a":1,"b":1}}),
        None,
        expect_test::expect![[r#"
            <nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)
            spec.a: Invalid value: 1: spec.a in body should be greater than or equal to 5
            <nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives
        "#]],
    );
    check(
        schema,
        json!({"spec":{"a":12,"c":1}}),
        None,
        expect_test::expect![[r#"
            spec.a: Invalid value: 12: spec.a in body should be less than or equal to 9
            <nil>: Invalid value: "": "spec" must validate all the schemas (allOf). None validated
            <nil>: Invalid value: "": "spec" must not validate the schema (not)
        "#]],
    );
}

#[test]
fn lists_with_keys_hold_each_once() {
    check(
        spec(json!({"m":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],
            "items":{"type":"object","properties":{"name":{"type":"string"},"v":{"type":"integer"}}}},
            "s":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}}})),
        json!({"spec":{"m":[{"name":"a","v":1},{"name":"b"},{"name":"a","v":2}],"s":["x","y","x"]}}),
        None,
        expect_test::expect![[r#"
            spec.m[2]: Duplicate value: {"name":"a"}
            spec.s[2]: Duplicate value: "x"
        "#]],
    );
}

#[test]
fn what_stays_as_it_was_is_not_judged_anew() {
    let schema = spec(json!({"a":{"type":"string","maxLength":1},"b":{"type":"string"},
        "m":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],"maxItems":1,
            "items":{"type":"object","properties":{"name":{"type":"string"},"v":{"type":"integer","minimum":5}}}}}));
    let old = json!({"spec":{"a":"too long","m":[{"name":"x","v":1},{"name":"y","v":1}]}});
    check(
        schema.clone(),
        json!({"spec":{"a":"too long","b":"new","m":[{"name":"y","v":1},{"name":"x","v":1}]}}),
        Some(old.clone()),
        expect_test::expect![""],
    );
    check(
        schema,
        json!({"spec":{"a":"changed","m":[{"name":"x","v":2}]}}),
        Some(old),
        expect_test::expect![[r#"
            spec.a: Too long: may not be more than 1 bytes
            spec.m[0].v: Invalid value: 2: spec.m[0].v in body should be greater than or equal to 5
        "#]],
    );
}

#[test]
fn embedded_objects_say_what_they_are() {
    check(
        spec(
            json!({"pod":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}}),
        ),
        json!({"spec":{"pod":{"kind":"Po d","metadata":{"labels":{"a b":"c"}}}}}),
        None,
        expect_test::expect![[r#"
            spec.pod.apiVersion: Required value: must not be empty
            spec.pod.kind: Invalid value: "Po d": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.pod.metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        "#]],
    );
}

pub fn crd(versions: Value) -> Value {
    json!({"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
        "metadata":{"name":"widgets.example.com","uid":"u"},
        "spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"widgets","singular":"widget","kind":"Widget","listKind":"WidgetList","shortNames":["wd"],"categories":["all"]},"versions":versions},
        "status":{"acceptedNames":{"plural":"widgets","singular":"widget","kind":"Widget","listKind":"WidgetList","shortNames":["wd"],"categories":["all"]}}})
}

#[test]
fn a_definition_makes_rows() {
    let rows = rows(
        &crd(json!([
            {"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{
                "spec":{"type":"object","properties":{"n":{"type":"integer"},"color":{"type":"string"},"ok":{"type":"boolean"},"at":{"type":"string"}}},"status":{"type":"object"}}}},
             "subresources":{"status":{},"scale":{"specReplicasPath":".spec.n","statusReplicasPath":".status.n","labelSelectorPath":".status.sel"}},
             "selectableFields":[{"jsonPath":".spec.color"}],
             "additionalPrinterColumns":[
                {"name":"N","type":"integer","jsonPath":".spec.n"},{"name":"Color","type":"string","jsonPath":".spec.color","priority":1},
                {"name":"OK","type":"boolean","jsonPath":".spec.ok"},{"name":"At","type":"date","jsonPath":".spec.at"}]},
            {"name":"v1beta1","served":true,"storage":false,"deprecated":true,"schema":{"openAPIV3Schema":{"type":"object"}}},
            {"name":"v0","served":false,"storage":false,"schema":{"openAPIV3Schema":{"type":"object"}}}])),
        &|_| None,
    );
    assert_eq!(rows.iter().map(|r| r.version.as_str()).collect::<Vec<_>>(), ["v1", "v1beta1"]);
    let r = &rows[0];
    assert_eq!((r.singular.as_str(), r.list_kind.as_str(), r.storage.1.as_str()), ("widget", "WidgetList", "v1"));
    assert_eq!(r.subresources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["status", "scale"]);
    let object = json!({"metadata":{"name":"w"},"spec":{"n":3,"color":"red","ok":true,"at":"2026-01-01T00:00:00Z"}});
    let now = crate::strategy::Now("2026-01-01T01:00:00Z".parse().unwrap());
    assert_eq!(json!(r.strategy.row(&object, now)), json!(["w", 3, "red", true, "60m"]));
    assert_eq!(
        json!(r.strategy.row(&json!({"metadata":{"name":"w"},"spec":{"n":"x"}}), now)),
        json!(["w", null, null, null, null])
    );
    assert_eq!(r.strategy.selectable_fields(&object), [("spec.color", "red".to_string())]);
    assert_eq!(r.strategy.selectable_fields(&Value::Null), [("spec.color", String::new())]);
    assert_eq!(r.strategy.scale().unwrap().spec_replicas, "spec.n");
    assert_eq!(rows[1].strategy.deprecation(), Some("example.com/v1beta1 Widget is deprecated"));
    assert_eq!(r.strategy.deprecation(), None);
}

#[test]
fn bodies_are_pruned_and_told_of() {
    let rows = rows(
        &crd(
            json!([{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{
            "spec":{"type":"object","properties":{"t":{"type":"object","x-kubernetes-embedded-resource":true,"properties":{"spec":{"type":"object"}}}}}}}}}]),
        ),
        &|_| None,
    );
    let version = rows[0].custom.as_ref().unwrap().version("v1").unwrap().clone();
    let got = version
        .decode(
            br#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a","name":"b","what":1,"creationTimestamp":null},
                "spec":{"x":1,"t":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","sub":1},"spec":{}}}}"#,
            false,
        )
        .unwrap();
    assert_eq!(
        got.problems,
        [
            "duplicate field \"metadata.name\"",
            "unknown field \"metadata.what\"",
            "unknown field \"spec.x\"",
            "unknown field \"spec.t.metadata.sub\""
        ]
    );
    assert_eq!(
        got.value,
        json!({"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"b"},
            "spec":{"t":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{}}}})
    );
    assert!(version.decode(br#"{"metadata":{"labels":{"a":1}}}"#, false).is_err());
    assert!(version.decode(b"[1]", false).is_err());
    let mut stored =
        json!({"apiVersion":"example.com/v1","kind":"Widget","metadata":{"labels":{"a":1,"b":"c"},"annotations":{"x":"y"}},"gone":1});
    version.read(&mut stored);
    assert_eq!(stored, json!({"apiVersion":"example.com/v1","kind":"Widget","metadata":{"annotations":{"x":"y"}}}));
}

#[test]
fn names_are_accepted_or_told_why_not() {
    let new = crd(json!([{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]));
    let told = |s: &Value| -> Vec<String> {
        let all = s["conditions"].as_array().into_iter().flatten();
        all.map(|c| format!("{} {} {}: {}", c["type"], c["status"], c["reason"], c["message"]).replace('"', ""))
            .collect()
    };
    let mut fresh = new.clone();
    fresh["status"] = json!({"storedVersions":["v1"]});
    let s = names::status(&fresh, &names::Taken::default(), "t");
    assert_eq!(
        told(&s),
        [
            "NamesAccepted True NoConflicts: no conflicts found",
            "Established True InitialNamesAccepted: the initial names have been accepted"
        ]
    );
    assert_eq!(s["acceptedNames"], new["spec"]["names"]);
    let mut taken = names::Taken::default();
    taken.add(
        &json!({"plural":"gadgets","singular":"gadget","kind":"Gadget","listKind":"WidgetList","shortNames":["wd"]}),
    );
    let s = names::status(&fresh, &taken, "t");
    assert_eq!(
        told(&s),
        [
            "NamesAccepted False ListKindConflict: \\WidgetList\\ is already in use",
            "Established False NotAccepted: not all names are accepted"
        ]
    );
    assert_eq!(
        s["acceptedNames"],
        json!({"plural":"widgets","singular":"widget","kind":"Widget","categories":["all"]})
    );
    // A conversion webhook that nobody could trust keeps it from being served.
    let mut broken = fresh.clone();
    broken["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = "Cg==".into();
    let s = names::status(&broken, &names::Taken::default(), "t");
    assert_eq!(told(&s)[1], "Established False InvalidCABundle: The conversion webhook CABundle is invalid");
    // Once established it stays so, with the names that it had.
    let mut old = fresh.clone();
    old["status"] = names::status(&fresh, &names::Taken::default(), "t");
    let s = names::status(&old, &taken, "u");
    assert_eq!(told(&s)[1], "Established True InitialNamesAccepted: the initial names have been accepted");
    assert_eq!(s["acceptedNames"]["shortNames"], json!(["wd"]));
}

/// A small generator, so that laws are tried on many shapes.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn schema(&mut self, depth: u32) -> Value {
        let mut s = match if depth == 0 { self.roll(4) } else { self.roll(8) } {
            0 => json!({"type":"string"}),
            1 => json!({"type":"integer"}),
            2 => json!({"type":"boolean"}),
            3 => json!({"x-kubernetes-int-or-string":true}),
            4 => json!({"type":"array","items":self.schema(depth - 1)}),
            5 => json!({"type":"object","additionalProperties":self.schema(depth - 1)}),
            6 => {
                json!({"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"a":self.schema(depth - 1)}})
            }
            _ => {
                let fields: serde_json::Map<String, Value> =
                    ["a", "b", "c"].iter().map(|k| (k.to_string(), self.schema(depth - 1))).collect();
                json!({"type":"object","properties":fields})
            }
        };
        if self.roll(4) == 0 {
            s["nullable"] = true.into();
        }
        if self.roll(3) == 0 {
            s["default"] = self.value(2);
        }
        s
    }

    fn value(&mut self, depth: u32) -> Value {
        match if depth == 0 { self.roll(4) } else { self.roll(7) } {
            0 => Value::Null,
            1 => "x".into(),
            2 => 7.into(),
            3 => true.into(),
            4 => (0..self.roll(3)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let mut out = serde_json::Map::new();
                for k in ["a", "b", "c", "d"] {
                    if self.roll(2) == 0 {
                        out.insert(k.to_string(), self.value(depth - 1));
                    }
                }
                Value::Object(out)
            }
        }
    }
}

#[test]
fn pruning_and_defaulting_are_idempotent() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3000 {
        let text = json!({"type":"object","properties":{"spec":dice.schema(4)}});
        let schema = Schema::compile(&text);
        let mut object = json!({"apiVersion":"e/v1","kind":"K","metadata":{"name":"n"},"spec":dice.value(5)});
        let mut unknown = Vec::new();
        prune::prune(&mut object, &schema, &mut unknown);
        let pruned = object.clone();
        prune::prune(&mut object, &schema, &mut Vec::new());
        assert_eq!(object, pruned, "pruning twice: {text}");
        default::default(&mut object, &schema);
        let defaulted = object.clone();
        default::default(&mut object, &schema);
        assert_eq!(object, defaulted, "defaulting twice: {text}");
        // Nothing panics on values of any shape.
        let mut errors = Errors::default();
        validate::validate(&schema, &object, Some(&pruned), &Path::root(), &mut errors);
        let _ = types::types(&schema);
    }
}
