//! Validation as a table, and what must hold for every schema.

use super::schema::Schema;
use super::*;
use meta::field::{Errors, Path};
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
            spec.b: Too many: 2: must have at most 1 item
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
            spec.a: Too long: may not be more than 1 byte
            spec.m[0].v: Invalid value: 2: spec.m[0].v in body should be greater than or equal to 5
        "#]],
    );
}

/// Faults of one value in `spec.v`, without the path that all have.
fn faults(schema: Value, value: Value) -> Vec<String> {
    let schema = Schema::compile(&spec(json!({"v":schema})));
    let object = json!({"spec":{"v":value}});
    let mut errors = Errors::default();
    validate::validate(&schema, &object, None, &Path::root(), &mut errors);
    validate::keyed_lists(&schema, &object, &Path::root(), &mut errors);
    errors.0.iter().map(|e| e.to_string().replace("spec.v", "v")).collect()
}

#[test]
fn keywords_at_their_limits() {
    let int = |more: Value| {
        let mut s = json!({"type":"integer"});
        s.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        s
    };
    let number = |more: Value| {
        let mut s = int(more);
        s["type"] = "number".into();
        s
    };
    for (schema, value, want) in [
        // Types with a format are called by it; strings aren't.
        (
            int(json!({"format":"int32"})),
            json!(true),
            &[r#"v: Invalid value: "": v in body must be of type int32: """#][..],
        ),
        (
            int(json!({"format":"int64"})),
            json!("1"),
            &[r#"v: Invalid value: "string": v in body must be of type integer: "string""#],
        ),
        (
            json!({"type":"string","format":"date"}),
            json!(1),
            &[r#"v: Invalid value: "int64": v in body must be of type date: "int64""#],
        ),
        (
            json!({"type":"string","format":"phone"}),
            json!(1),
            &[r#"v: Invalid value: "integer": v in body must be of type string: "integer""#],
        ),
        (json!({"anyOf":[{"format":"ipv4"},{"format":"ipv6"}]}), json!("::1"), &[]),
        (json!({"x-kubernetes-int-or-string":true,"format":"int32"}), json!("50%"), &[]),
        // Whole numbers are integers however they are written.
        (int(json!({})), json!(2.0), &[]),
        (
            int(json!({})),
            json!(1.5),
            &[
                r#"v: Invalid value: "number": v in body must be of type integer: "number""#,
                r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in v"#,
            ],
        ),
        (
            int(json!({"format":"int32"})),
            json!(2147483648i64),
            &[r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in v"#],
        ),
        (
            number(json!({"format":"float"})),
            json!(1e39),
            &[r#"<nil>: Invalid value: "": Checked value must be of type number with format float in v"#],
        ),
        (number(json!({"format":"double"})), json!(1e39), &[]),
        // Limits are told before others in one order, and cut for integers.
        (
            int(json!({"minimum":5,"exclusiveMinimum":true,"maximum":4,"multipleOf":2})),
            json!(5),
            &[
                "v: Invalid value: 5: v in body should be a multiple of 2",
                "v: Invalid value: 5: v in body should be greater than 5",
                "v: Invalid value: 5: v in body should be less than or equal to 4",
            ],
        ),
        (number(json!({"minimum":0.5})), json!(0), &[]),
        (
            number(json!({"maximum":1000000})),
            json!(2000000.5),
            &["v: Invalid value: 2.0000005e+06: v in body should be less than or equal to 1e+06"],
        ),
        (number(json!({"multipleOf":0.1})), json!(0.3), &[]),
        (
            number(json!({"multipleOf":0.5})),
            json!(3),
            &["v: Invalid value: 0: factor MultipleOf declared for v must be positive: 0"],
        ),
        (
            int(json!({"maximum":1.5})),
            json!(2),
            &[
                r#"<nil>: Invalid value: "": Maximum boundary value must be of type integer (default format) in v"#,
                "v: Invalid value: 2: v in body should be less than or equal to 1.5",
            ],
        ),
        // Null is never among the values.
        (
            json!({"type":"string","nullable":true,"enum":["a",null]}),
            json!(null),
            &[r#"v: Unsupported value: null: supported values: "a", "null""#],
        ),
        (number(json!({"enum":[1,2.5]})), json!(1.0), &[]),
        (
            json!({"type":"object","additionalProperties":{"type":"string"},"maxProperties":1,"minProperties":3}),
            json!({"a":1,"b":""}),
            &[
                "v: Invalid value: 2: v in body should have at least 3 properties",
                "v: Too many: 2: must have at most 1 item",
                r#"v.a: Invalid value: "integer": v.a in body must be of type string: "integer""#,
            ],
        ),
        (
            json!({"type":"array","items":{"type":"string"},"maxItems":1}),
            json!(["a", "b"]),
            &["v: Too many: 2: must have at most 1 item"],
        ),
        (json!({"type":"string","maxLength":1}), json!("äö"), &["v: Too long: may not be more than 1 byte"]),
        (
            json!({"type":"object","additionalProperties":false}),
            json!({"a":1}),
            &[r#"v: Invalid value: "a": v.a in body is a forbidden property"#],
        ),
        // Of several equal items the second is told; numbers of other kinds differ.
        (
            json!({"type":"array","x-kubernetes-list-type":"set","items":{"type":"number"}}),
            json!([1, 1, 1, 1.0]),
            &["v[1]: Duplicate value: 1"],
        ),
        (
            json!({"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["a"],"items":{"type":"object","nullable":true,"properties":{"a":{"type":"string"}}}}),
            json!([{}, null]),
            &["v[1]: Duplicate value: {}"],
        ),
        (
            json!({"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["a"],"items":{"x-kubernetes-preserve-unknown-fields":true}}),
            json!([1, 2]),
            &["v[0]: Invalid value: 1: must be an object for an array of list-type map"],
        ),
    ] {
        assert_eq!(faults(schema.clone(), value.clone()), want, "{schema} {value}");
    }
}

#[test]
fn what_the_schema_does_not_know_cannot_be_told_to_be_the_same() {
    let schema = |known: Value| {
        spec(
            json!({"o":{"type":"object","minProperties":3,"x-kubernetes-preserve-unknown-fields":true,"properties":known}}),
        )
    };
    let told = |known: Value| {
        let schema = Schema::compile(&schema(known));
        let old = json!({"spec":{"o":{"a":1}}});
        let mut errors = Errors::default();
        validate::validate(&schema, &old, Some(&old), &Path::root(), &mut errors);
        errors.0.len()
    };
    assert_eq!((told(json!({"a":{"type":"integer"}})), told(json!({}))), (0, 1));
}

#[test]
fn writes_of_status_and_scale() {
    let rows = rows(&crd(json!([{"name":"v1","served":true,"storage":true,
            "schema":{"openAPIV3Schema":{"type":"object","required":["spec"],"properties":{
                "spec":{"type":"object","required":["needed"],"properties":{"n":{"x-kubernetes-preserve-unknown-fields":true}}},
                "status":{"type":"object","required":["at"],"properties":{"num":{"type":"integer","maximum":10},
                    "n":{"x-kubernetes-preserve-unknown-fields":true},"sel":{"x-kubernetes-preserve-unknown-fields":true}}}}}},
            "subresources":{"status":{},"scale":{"specReplicasPath":".spec.n","statusReplicasPath":".status.n","labelSelectorPath":".status.sel"}}}])));
    let strategy = &rows[0].strategy;
    let lines = |e: Errors| e.0.iter().map(ToString::to_string).collect::<Vec<_>>();
    let status = |new: Value| {
        let mut errors = Errors::default();
        strategy.validate_status_update(&new, &json!({"spec":{}}), &mut errors);
        lines(errors)
    };
    // Only status is judged, and named from there on.
    assert_eq!(status(json!({"spec":{}})), [""; 0]);
    assert_eq!(
        status(json!({"spec":{},"status":{"num":15}})),
        ["status.num: Invalid value: 15: num in body should be less than or equal to 10", "status.at: Required value"]
    );
    assert_eq!(
        status(json!({"status":{"at":1,"n":-1,"sel":{"a":[1,true,null]}}})),
        [
            ".status.n: Invalid value: -1: should be a non-negative integer",
            r#".status.sel: Invalid value: "": .status.sel accessor error: map[a:[1 true <nil>]] is of the type map[string]interface {}, expected string"#
        ]
    );
    let all = |new: Value| {
        let mut errors = Errors::default();
        strategy.validate_create(&new, &mut errors);
        lines(errors)
    };
    assert_eq!(
        all(json!({"spec":{"needed":1,"n":"3"}})),
        [r#".spec.n: Invalid value: 0: .spec.n accessor error: 3 is of the type string, expected int64"#]
    );
    assert_eq!(
        all(json!({"spec":{"needed":1,"n":2147483648i64},"status":{"at":1,"n":1.5}})),
        [
            ".spec.n: Invalid value: 2147483648: should be less than or equal to 2147483647",
            ".status.n: Invalid value: 0: .status.n accessor error: 1.5 is of the type float64, expected int64"
        ]
    );
}

#[test]
fn finalizers_have_any_name_and_are_warned_of() {
    let rows =
        rows(&crd(json!([{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}])));
    let with = |f: Value| json!({"metadata":{"finalizers":f}});
    let warned = |new: Value, old: Option<Value>| rows[0].strategy.warnings(&with(new), old.map(with).as_ref());
    let tail = "to avoid accidental conflicts with other finalizer writers";
    assert!(rows[0].strategy.free_finalizers());
    assert_eq!(
        warned(json!(["resources-finalizer.argocd.argoproj.io", "mine", "orphan", "a.b/c"]), None),
        [
            format!("metadata.finalizers: \"mine\": prefer a domain-qualified finalizer name {tail}"),
            format!(
                "metadata.finalizers: \"resources-finalizer.argocd.argoproj.io\": prefer a domain-qualified finalizer name including a path (/) {tail}"
            ),
        ]
    );
    assert_eq!(warned(json!(["mine"]), Some(json!(["mine"]))), [""; 0]);
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
            spec.pod.apiVersion: Required value
            spec.pod.kind: Invalid value: "Po d": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.pod.metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        "#]],
    );
}

/// What a default says of metadata that has no place there isn't filled in.
#[test]
fn defaults_of_embedded_metadata_are_pruned() {
    let string = |default: &str| json!({"type":"string","default":default});
    let mut schema =
        Schema::compile(&spec(json!({"pod":{"type":"object","x-kubernetes-embedded-resource":true,"properties":{
        "metadata":{"type":"object","properties":{"name":string("n"),"unknown":string("u"),"labels":{"type":"object",
            "properties":{"a":string("b")},"additionalProperties":false},
            "annotations":{"type":"object","default":{"a":1}}}},
        "other":string("o")}}})));
    embedded::prune_defaults(&mut schema);
    let mut object = json!({"spec":{"pod":{"metadata":{"labels":{}}}}});
    default::default(&mut object, &schema);
    assert_eq!(object, json!({"spec":{"pod":{"metadata":{"name":"n","labels":{"a":"b"}},"other":"o"}}}));
}

pub fn crd(versions: Value) -> Value {
    json!({"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
        "metadata":{"name":"widgets.example.com","uid":"u"},
        "spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"widgets","singular":"widget","kind":"Widget","listKind":"WidgetList","shortNames":["wd"],"categories":["all"]},"versions":versions},
        "status":{"acceptedNames":{"plural":"widgets","singular":"widget","kind":"Widget","listKind":"WidgetList","shortNames":["wd"],"categories":["all"]}}})
}

#[test]
fn a_definition_makes_rows() {
    let rows = rows(&crd(json!([
            {"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{
                "spec":{"type":"object","properties":{"n":{"type":"integer"},"color":{"type":"string"},"ok":{"type":"boolean"},"at":{"type":"string"}}},"status":{"type":"object"}}}},
             "subresources":{"status":{},"scale":{"specReplicasPath":".spec.n","statusReplicasPath":".status.n","labelSelectorPath":".status.sel"}},
             "selectableFields":[{"jsonPath":".spec.color"}],
             "additionalPrinterColumns":[
                {"name":"N","type":"integer","jsonPath":".spec.n"},{"name":"Color","type":"string","jsonPath":".spec.color","priority":1},
                {"name":"OK","type":"boolean","jsonPath":".spec.ok"},{"name":"At","type":"date","jsonPath":".spec.at"}]},
            {"name":"v1beta1","served":true,"storage":false,"deprecated":true,"schema":{"openAPIV3Schema":{"type":"object"}}},
            {"name":"v2","served":true,"storage":false,"deprecated":true,"schema":{"openAPIV3Schema":{"type":"object"}}},
            {"name":"v1alpha1","served":true,"storage":false,"deprecated":true,"deprecationWarning":"go on","schema":{"openAPIV3Schema":{"type":"object"}}},
            {"name":"v0","served":false,"storage":false,"schema":{"openAPIV3Schema":{"type":"object"}}}])));
    assert_eq!(rows.iter().map(|r| r.version.as_str()).collect::<Vec<_>>(), ["v1", "v1beta1", "v2", "v1alpha1"]);
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
    assert_eq!(
        rows.iter().map(|r| r.strategy.deprecation()).collect::<Vec<_>>(),
        [
            None,
            Some("example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget"),
            Some("example.com/v2 Widget is deprecated"),
            Some("go on"),
        ]
    );
}

#[test]
fn bodies_are_pruned_and_told_of() {
    let rows = rows(&crd(
        json!([{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{
            "spec":{"type":"object","properties":{"t":{"type":"object","x-kubernetes-embedded-resource":true,"properties":{"spec":{"type":"object"}}}}}}}}}]),
    ));
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
    let mut stored = json!({"apiVersion":"example.com/v1","kind":"Widget","metadata":{"labels":{"a":1,"b":"c"},"annotations":{"x":"y"}},"gone":1});
    version.read(&mut stored);
    assert_eq!(stored, json!({"apiVersion":"example.com/v1","kind":"Widget","metadata":{"annotations":{"x":"y"}}}));
}

/// Their bodies have no types when they are decoded: a whole float is stored as an integer, and fits where one belongs.
#[test]
fn whole_floats_are_integers() {
    let schema = spec(json!({"i":{"type":"integer","maximum":1000},"n":{"type":"number"},"s":{"type":"string"},
        "p":{"x-kubernetes-int-or-string":true}}));
    let rows = rows(&crd(json!([{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":schema}}])));
    let version = rows[0].custom.as_ref().unwrap().version("v1").unwrap().clone();
    let decode = |spec: &str, yaml: bool| {
        let body =
            format!(r#"{{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"name":"a"}},"spec":{spec}}}"#);
        version.decode(body.as_bytes(), yaml).unwrap().value
    };
    for yaml in [false, true] {
        let object = decode(r#"{"i":1e3,"n":2.50,"p":-0}"#, yaml);
        assert_eq!(object["spec"], json!({"i":1000,"n":2.5,"p":0}));
        check(schema.clone(), object.clone(), None, expect_test::expect![""]);
        let stored = String::from_utf8(crate::codec::json::canonical(&object)).unwrap();
        assert!(stored.ends_with(r#""spec":{"i":1000,"n":2.5,"p":0}}"#), "{stored}");
    }
    check(
        schema,
        decode(r#"{"i":1.001e3,"s":1.5}"#, false),
        None,
        expect_test::expect![[r#"
            spec.i: Invalid value: 1001: spec.i in body should be less than or equal to 1000
            spec.s: Invalid value: "number": spec.s in body must be of type string: "number"
        "#]],
    );
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
    let s = names::status(&fresh, &names::structure(&fresh), &names::Taken::default(), "t");
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
    let s = names::status(&fresh, &names::structure(&fresh), &taken, "t");
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
    let s = names::status(&broken, &names::structure(&broken), &names::Taken::default(), "t");
    assert_eq!(told(&s)[1], "Established False InvalidCABundle: The conversion webhook CABundle is invalid");
    // Once established it stays so, with the names that it had.
    let mut old = fresh.clone();
    old["status"] = names::status(&fresh, &names::structure(&fresh), &names::Taken::default(), "t");
    let s = names::status(&old, &names::structure(&old), &taken, "u");
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
