//! Rules of definitions as a table: what is wrong with a schema, and what an old definition may go on doing.

use super::*;
use crate::kinds::checks::{check_create, check_update, created, parse, with_meta};
use expect_test::expect;

fn definition(version: &Value, spec: Value) -> Value {
    let mut v = json!({"name":"v1","served":true,"storage":true});
    v.as_object_mut().unwrap().extend(version.as_object().unwrap().clone());
    let mut crd = json!({"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
        "metadata":{"name":"foos.example.com"},
        "spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"foos","kind":"Foo"},"versions":[v]}});
    crd["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    crd
}

fn with_schema(schema: &Value) -> Value {
    definition(&json!({"schema":{"openAPIV3Schema":schema}}), json!({}))
}

fn property(p: Value) -> Value {
    json!({"type":"object","properties":{"p":p}})
}

/// Faults, a line each, without what all have in front.
fn lines(errors: &Errors) -> Vec<String> {
    let cut = |e: &meta::field::Error| {
        let text = e.to_string();
        let root = "spec.validation.openAPIV3Schema";
        text.strip_prefix(&format!("{root}.properties[p]")).or(text.strip_prefix(root)).unwrap_or(&text).to_string()
    };
    errors.0.iter().map(cut).collect()
}

fn told(crd: &Value) -> Vec<String> {
    let mut errors = Errors::default();
    CustomResourceDefinition.validate_create(&created(&crd.to_string()), &mut errors);
    lines(&errors)
}

fn told_on_update(old: &Value, new: &Value, established: bool) -> Vec<String> {
    let mut old = created(&old.to_string());
    if established {
        old["status"]["conditions"] = json!([{"type":"Established","status":"True"}]);
    }
    let mut new = with_meta(parse(&new.to_string()));
    CustomResourceDefinition.defaults(&mut new);
    CustomResourceDefinition.prepare_update(&mut new, &old, true);
    let mut errors = Errors::default();
    CustomResourceDefinition.validate_update(&new, &old, &mut errors);
    lines(&errors)
}

#[test]
fn schemas_are_structural() {
    let object = |more: Value| {
        let mut o = json!({"type":"object"});
        o.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        o
    };
    for (schema, want) in [
        (json!({}), &[".type: Required value: must not be empty at the root"][..]),
        (json!({"type":"integer"}), &[r#".type: Invalid value: "integer": must be object at the root"#]),
        (object(json!({"nullable":true})), &[".nullable: Forbidden: nullable cannot be true at the root"]),
        (
            object(json!({"additionalProperties":{"type":"string"}})),
            &[".additionalProperties: Forbidden: must not be used at the root"],
        ),
        // What restricts says nothing new, and speaks of what is there.
        (
            object(
                json!({"anyOf":[{"items":{"type":"object","additionalProperties":{},"title":"t","description":"d","nullable":true,"default":1}}],
                "not":{"type":"object","properties":{"metadata":{},"a":{}}},
                "allOf":[{"x-kubernetes-validations":[{"rule":"true"}]}],
                "oneOf":[{"x-kubernetes-preserve-unknown-fields":true,"x-kubernetes-embedded-resource":true,
                    "x-kubernetes-int-or-string":true,"x-kubernetes-list-type":"set","x-kubernetes-list-map-keys":["a"],
                    "x-kubernetes-map-type":"atomic"}]}),
            ),
            &[
                ".allOf[0].x-kubernetes-validations: Forbidden: must be empty to be structural",
                ".anyOf[0].items.additionalProperties: Forbidden: must be undefined to be structural",
                ".anyOf[0].items.default: Forbidden: must be undefined to be structural",
                ".anyOf[0].items.description: Forbidden: must be empty to be structural",
                ".anyOf[0].items.nullable: Forbidden: must be false to be structural",
                ".anyOf[0].items.title: Forbidden: must be empty to be structural",
                ".anyOf[0].items.type: Forbidden: must be empty to be structural",
                ".items: Required value: because it is defined in spec.validation.openAPIV3Schema.anyOf[0].items",
                ".not.properties[metadata]: Forbidden: must not be specified in a nested context",
                ".not.type: Forbidden: must be empty to be structural",
                ".oneOf[0].x-kubernetes-embedded-resource: Forbidden: must be false to be structural",
                ".oneOf[0].x-kubernetes-int-or-string: Forbidden: must be false to be structural",
                ".oneOf[0].x-kubernetes-list-map-keys: Forbidden: must be empty to be structural",
                ".oneOf[0].x-kubernetes-list-type: Forbidden: must be undefined to be structural",
                ".oneOf[0].x-kubernetes-map-type: Forbidden: must be undefined to be structural",
                ".oneOf[0].x-kubernetes-preserve-unknown-fields: Forbidden: must be false to be structural",
                ".properties[a]: Required value: because it is defined in spec.validation.openAPIV3Schema.not.properties[a]",
                ".properties[metadata]: Required value: because it is defined in spec.validation.openAPIV3Schema.not.properties[metadata]",
                ".oneOf[0].type: Required value: must be object if x-kubernetes-map-type is specified",
                ".oneOf[0].type: Required value: must be array if x-kubernetes-list-type is specified",
                r#".oneOf[0].x-kubernetes-list-type: Invalid value: "set": must be map if x-kubernetes-list-map-keys is non-empty"#,
            ],
        ),
        // Both halves of an int-or-string may be named in two ways.
        (property(json!({"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]})), &[]),
        (
            property(json!({"x-kubernetes-int-or-string":true,
                "allOf":[{"anyOf":[{"type":"integer"},{"type":"string"}]},{"pattern":"^a"}]})),
            &[],
        ),
        (
            property(json!({"x-kubernetes-int-or-string":true,"anyOf":[{"type":"string"},{"type":"integer"}]})),
            &[
                ".anyOf[0].type: Forbidden: must be empty to be structural",
                ".anyOf[1].type: Forbidden: must be empty to be structural",
            ],
        ),
        (
            property(json!({"x-kubernetes-int-or-string":true,"x-kubernetes-preserve-unknown-fields":true})),
            &[
                ".x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
            ],
        ),
        // Whole objects inside.
        (
            property(json!({"type":"object","x-kubernetes-embedded-resource":true})),
            &[
                ".properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ],
        ),
        (
            property(
                json!({"type":"array","items":{"type":"string"},"x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}),
            ),
            &[r#".type: Invalid value: "array": must be object if x-kubernetes-embedded-resource is true"#],
        ),
        (
            property(json!({"type":"object","x-kubernetes-embedded-resource":true,"properties":{
                "apiVersion":{"type":"integer"},"kind":{"type":"boolean"},"metadata":{"type":"array","items":{"type":"string"}}}})),
            &[
                r#".properties[apiVersion].type: Invalid value: "integer": must be string"#,
                r#".properties[kind].type: Invalid value: "boolean": must be string"#,
                r#".properties[metadata].type: Invalid value: "array": must be object"#,
            ],
        ),
        (
            object(
                json!({"properties":{"metadata":{"type":"object","properties":{"name":{"type":"string","pattern":"^a"}}}}}),
            ),
            &[],
        ),
        (
            object(json!({"properties":{"metadata":{"type":"object","minProperties":1}}})),
            &[
                ".properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        // What goes with anything that isn't structural is told besides.
        (
            property(json!({"type":"string","$ref":"#/x","uniqueItems":true})),
            &[
                ".$ref: Forbidden: $ref is not supported",
                ".uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (property(json!({"type":"object","additionalProperties":true,"properties":{"a":{"type":"string"}}})), &[]),
        (
            property(json!({"type":"object","additionalProperties":false,"properties":{"a":{"type":"string"}}})),
            &[".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"],
        ),
        (
            property(json!({"x-kubernetes-preserve-unknown-fields":false})),
            &[".x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"],
        ),
        (
            property(json!({"type":"null"})),
            &[
                r#".type: Unsupported value: "null": supported values: "array", "boolean", "integer", "number", "object", "string""#,
                ".type: Forbidden: type cannot be set to null, use nullable as an alternative",
            ],
        ),
        // Patterns are Go's.
        (property(json!({"type":"string","pattern":r"^{{\d+}}$"})), &[]),
    ] {
        assert_eq!(told(&with_schema(&schema)), want, "{schema}");
    }
}

#[test]
fn lists_say_how_items_are_told_apart() {
    let keyed = |keys: Value, item: Value| {
        property(json!({"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":keys,"items":item}))
    };
    let item = json!({"type":"object","required":["k"],"properties":{"k":{"type":"string"},"o":{"type":"object"}}});
    for (schema, want) in [
        (keyed(json!(["k"]), item.clone()), &[][..]),
        (
            keyed(json!(["k", "k", "x", "o"]), item),
            &[
                r#".x-kubernetes-list-map-keys: Invalid value: ["k","k","x","o"]: must not contain duplicate entries"#,
                r#".x-kubernetes-list-map-keys: Invalid value: ["k","k","x","o"]: entries must all be names of item properties"#,
                r#".items.properties[o].type: Invalid value: "object": must be a scalar type if parent array's x-kubernetes-list-type is map"#,
                ".items.properties[o].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        ),
        (
            keyed(
                json!(["k"]),
                json!({"type":"object","nullable":true,"properties":{"k":{"type":"string","default":"","nullable":true}}}),
            ),
            &[
                ".items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map",
                ".items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            ],
        ),
        (
            keyed(json!([]), json!({"type":"string"})),
            &[
                ".x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
                r#".items.type: Invalid value: "string": must be object if parent array's x-kubernetes-list-type is map"#,
            ],
        ),
        (
            property(json!({"type":"array","x-kubernetes-list-map-keys":["k"],"items":{"type":"object"}})),
            &[".x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty"],
        ),
        (
            property(
                json!({"type":"array","x-kubernetes-list-type":"set","items":{"type":"object","properties":{"a":{"type":"string"}}}}),
            ),
            &[
                ".items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
            ],
        ),
        (
            property(
                json!({"type":"array","x-kubernetes-list-type":"set","items":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}}}),
            ),
            &[
                r#".items.x-kubernetes-list-type: Invalid value: "set": must be atomic as item of a list with x-kubernetes-list-type=set"#,
            ],
        ),
        (
            property(json!({"type":"string","x-kubernetes-list-type":"bag","x-kubernetes-map-type":"odd"})),
            &[
                r#".type: Invalid value: "string": must be object if x-kubernetes-map-type is specified"#,
                r#".x-kubernetes-map-type: Unsupported value: "odd": supported values: "atomic", "granular""#,
                r#".type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#,
                r#".x-kubernetes-list-type: Unsupported value: "bag": supported values: "atomic", "set", "map""#,
            ],
        ),
    ] {
        assert_eq!(told(&with_schema(&schema)), want, "{schema}");
    }
}

#[test]
fn defaults_are_values_of_their_schema() {
    let embedded = |default: Value, properties: Value| json!({"type":"object","x-kubernetes-embedded-resource":true,"default":default,"properties":properties});
    for (schema, want) in [
        (property(json!({"type":"object","default":{"a":1},"properties":{"a":{"type":"integer"}}})), &[][..]),
        (
            property(json!({"type":"object","default":{"a":1,"b":2},"properties":{"a":{"type":"string"}}})),
            &[
                r#".default: Invalid value: {"a":1,"b":2}: must not have unknown fields"#,
                r#".default.a: Invalid value: "integer": a in body must be of type string: "integer""#,
            ],
        ),
        // A default is taken as it is: nested ones don't complete it.
        (
            property(
                json!({"type":"object","default":{},"required":["a"],"properties":{"a":{"type":"string","default":"x"}}}),
            ),
            &[".default.a: Required value"],
        ),
        (
            json!({"type":"object","properties":{"metadata":{"type":"object","default":{}}}}),
            &[".properties[metadata].default: Forbidden: must not be set in top-level metadata"],
        ),
        (property(embedded(json!({"apiVersion":"v1","kind":"Pod"}), json!({"spec":{"type":"object"}}))), &[]),
        (
            property(embedded(
                json!({"apiVersion":"a/b/c","kind":"","metadata":{"name":".."}}),
                json!({"spec":{"type":"object"}}),
            )),
            &[
                r#".default.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c"#,
                r#".default.kind: Invalid value: "": must not be empty"#,
                r#".default.metadata.name: Invalid value: "..": may not be '..'"#,
            ],
        ),
        (
            property(json!({"type":"object","x-kubernetes-embedded-resource":true,"properties":{
                "metadata":{"type":"object","properties":{"name":{"type":"string","default":"a/b"}}}}})),
            &[
                r#".properties[metadata].properties[name].default: Invalid value: "a/b": must result in valid metadata: metadata.name: Invalid value: "a/b": may not contain '/'"#,
            ],
        ),
        // Rules hold for defaults, too, also for an object that is new.
        (
            property(json!({"type":"integer","default":1,"x-kubernetes-validations":[{"rule":"self > 1"}]})),
            &[".default: Invalid value: 1: failed rule: self > 1"],
        ),
        (
            property(json!({"type":"integer","default":1,
                "x-kubernetes-validations":[{"rule":"oldSelf.hasValue()","optionalOldSelf":true}]})),
            &[".default: Invalid value: 1: failed rule: oldSelf.hasValue()"],
        ),
    ] {
        assert_eq!(told(&with_schema(&schema)), want, "{schema}");
    }
}

#[test]
fn with_a_status_the_root_is_plain() {
    let of = |schema: Value| {
        definition(&json!({"schema":{"openAPIV3Schema":schema},"subresources":{"status":{}}}), json!({}))
    };
    assert_eq!(told(&of(json!({"type":"object","required":["spec"],"description":"d"}))), [""; 0]);
    let found = told(&of(json!({"type":"object","minProperties":1})));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("XValidations] fields are allowed at the root of the schema if the status subresource"),
        "{found:?}"
    );
}

#[test]
fn rules_are_checked_where_nothing_else_is_wrong() {
    let rule = |r: Value| property(json!({"type":"string","maxLength":5,"x-kubernetes-validations":[r]}));
    for (schema, want) in [
        (rule(json!({"rule":"self.size() > 1"})), &[][..]),
        (rule(json!({"rule":" "})), &[".x-kubernetes-validations[0].rule: Required value: rule is not specified"]),
        (
            rule(json!({"rule":"true","message":" "})),
            &[r#".x-kubernetes-validations[0].message: Invalid value: " ": must be non-empty if specified"#],
        ),
        (
            rule(json!({"rule":"true","message":"a\nb"})),
            &[r#".x-kubernetes-validations[0].message: Invalid value: "a\nb": must not contain line breaks"#],
        ),
        (
            rule(json!({"rule":"true","fieldPath":".a"})),
            &[r#".x-kubernetes-validations[0].fieldPath: Invalid value: ".a": must be a valid path"#],
        ),
        // A fault beside it doesn't hide one in a rule; one in the rule's own node does.
        (
            json!({"type":"object","properties":{
                "a":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"object"},"x-kubernetes-validations":[{"rule":"nope"}]},
                "p":{"type":"string","x-kubernetes-validations":[{"rule":"nope"}]}}}),
            &[
                ".properties[a].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
                ".x-kubernetes-validations[0].rule: Invalid value: {\"rule\":\"nope\"}: compilation failed: ERROR: <input>:1:1: undeclared reference to 'nope' (in container '')\n | nope\n | ^",
            ],
        ),
        (
            property(json!({"x-kubernetes-preserve-unknown-fields":true,"x-kubernetes-validations":[{"rule":"true"}]})),
            &[
                ".x-kubernetes-validations: Internal error: internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations",
            ],
        ),
        // Members of an atomic map are found again in the old object.
        (
            property(json!({"type":"object","x-kubernetes-map-type":"atomic","properties":{
                "a":{"type":"integer","x-kubernetes-validations":[{"rule":"self >= oldSelf"}]}}})),
            &[],
        ),
    ] {
        assert_eq!(told(&with_schema(&schema)), want, "{schema}");
    }
}

#[test]
fn old_definitions_may_stay_as_they_are() {
    let costly = property(
        json!({"type":"array","items":{"type":"string"},"x-kubernetes-validations":[{"rule":"self.all(x, x.contains('a'))"}]}),
    );
    let cost = |found: Vec<String>| found.iter().filter(|f| f.contains("estimated rule cost exceeds")).count();
    let mut other = costly.clone();
    other["description"] = "changed".into();
    assert_eq!(cost(told(&with_schema(&costly))), 1);
    assert_eq!(cost(told_on_update(&with_schema(&costly), &with_schema(&costly), true)), 0);
    assert_eq!(cost(told_on_update(&with_schema(&costly), &with_schema(&other), true)), 1);

    let set = property(json!({"type":"array","x-kubernetes-list-type":"set","items":{"type":"object"}}));
    let keys = property(json!({"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
        "items":{"type":"object","properties":{"k":{"type":"string"}}}}));
    let unpruned = property(json!({"type":"object","default":{"x":1},"properties":{"y":{"type":"string"}}}));
    let types = property(json!({"type":"text"}));
    let sound = json!({"type":"object"});
    for broken in [&set, &keys, &unpruned, &types] {
        assert_eq!(told_on_update(&with_schema(&sound), &with_schema(broken), true).len(), 1, "{broken}");
        assert_eq!(told_on_update(&with_schema(broken), &with_schema(broken), true), [""; 0], "{broken}");
    }

    let selectable = |n: usize| {
        let names: Vec<String> = (0..n).map(|i| format!("f{i}")).collect();
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|f| (f.clone(), json!({"type":"string"}))).collect();
        let fields: Vec<Value> = names.iter().map(|f| json!({"jsonPath":format!(".{f}")})).collect();
        definition(
            &json!({"schema":{"openAPIV3Schema":{"type":"object","properties":properties}},"selectableFields":fields}),
            json!({}),
        )
    };
    let many = "spec.selectableFields: Too many: 9: must have at most 8 items";
    assert_eq!(told(&selectable(9)), [many]);
    assert_eq!(told_on_update(&selectable(9), &selectable(9), true), [""; 0]);
    assert_eq!(told_on_update(&selectable(8), &selectable(9), true), [many]);

    let webhook = |bundle: &str, versions: Value| {
        let conversion = json!({"strategy":"Webhook","webhook":{"conversionReviewVersions":versions,
            "clientConfig":{"url":"https://h.test/","caBundle":bundle}}});
        definition(&json!({"schema":{"openAPIV3Schema":{"type":"object"}}}), json!({"conversion":conversion}))
    };
    let (ours, theirs) = (json!(["v1"]), json!(["v9"]));
    let bad = r#"spec.conversion.webhookClientConfig.caBundle: Invalid value: "Cg==": unable to load root certificates: unable to parse bytes as PEM block"#;
    // Until it is established anything goes.
    assert_eq!(told_on_update(&webhook("", ours.clone()), &webhook("Cg==", ours.clone()), false), [""; 0]);
    assert_eq!(told_on_update(&webhook("", ours.clone()), &webhook("Cg==", ours.clone()), true), [bad]);
    assert_eq!(told_on_update(&webhook("Cg==", ours.clone()), &webhook("Cg==", ours.clone()), true), [""; 0]);
    let unknown =
        r#"spec.conversion.conversionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1"#;
    assert_eq!(told_on_update(&webhook("", ours), &webhook("", theirs.clone()), true), [unknown]);
    assert_eq!(told_on_update(&webhook("", theirs.clone()), &webhook("", theirs), true), [""; 0]);
}

#[test]
fn formats_that_nothing_checks_are_told_once() {
    let of = |format: &str, kind: &str| with_schema(&property(json!({"type":kind,"format":format})));
    let told = |new: &Value, old: Option<&Value>| CustomResourceDefinition.warnings(new, old);
    let none: [&str; 0] = [];
    assert_eq!(told(&of("date-time", "string"), None), none);
    assert_eq!(told(&of("int32", "integer"), None), none);
    assert_eq!(told(&of("phone", "string"), None), [r#"unrecognized format "phone""#]);
    assert_eq!(told(&of("date", "integer"), None), [r#"unrecognized format "date""#]);
    assert_eq!(told(&of("phone", "string"), Some(&of("phone", "string"))), none);
    assert_eq!(told(&of("fax", "string"), Some(&of("phone", "string"))), [r#"unrecognized format "fax""#]);
}

fn crd(schema: &str, extra: &str) -> String {
    format!(
        r#"{{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{{"name":"foos.example.com"}},
        "spec":{{"group":"example.com","scope":"Namespaced","names":{{"plural":"foos","kind":"Foo"}}{extra},
        "versions":[{{"name":"v1","served":true,"storage":true,"schema":{{"openAPIV3Schema":{schema}}}}}]}}}}"#
    )
}

#[test]
fn names_and_storage_versions_are_filled_in() {
    let mut obj = created(&crd(r#"{"type":"object"}"#, ""));
    CustomResourceDefinition.prepare_create(&mut obj, true);
    assert_eq!(obj["spec"]["names"]["singular"], "foo");
    assert_eq!(obj["spec"]["names"]["listKind"], "FooList");
    assert_eq!(obj["spec"]["conversion"]["strategy"], "None");
    assert_eq!(obj["status"]["storedVersions"], json!(["v1"]));
    let mut new = obj.clone();
    new["spec"]["versions"][0]["name"] = "v2".into();
    CustomResourceDefinition.prepare_update(&mut new, &obj, true);
    assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
}

#[test]
fn schemas_must_be_structural() {
    check_create(
        &crd(
            r#"{"type":"object","properties":{"spec":{"x-kubernetes-preserve-unknown-fields":true},
        "port":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]}}}"#,
            "",
        ),
        expect![[""]],
    );
    check_create(
        &crd(
            r#"{"type":"object","properties":{"a":{},"b":{"type":"array"},"c":{"type":"object","additionalProperties":{"type":"string"},
            "properties":{"x":{"type":"string"}}},"d":{"type":"array","x-kubernetes-list-type":"map","items":{"type":"object"}},
            "e":{"type":"string","pattern":"("},"f":{"type":"object","anyOf":[{"type":"object"}]}}}"#,
            "",
        ),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields
            spec.validation.openAPIV3Schema.properties[b].items: Required value: must be specified
            spec.validation.openAPIV3Schema.properties[e].pattern: Invalid value: "(": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`
            spec.validation.openAPIV3Schema.properties[f].anyOf[0].type: Forbidden: must be empty to be structural
            spec.validation.openAPIV3Schema.properties[c].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive
            spec.validation.openAPIV3Schema.properties[d].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map
        "#]],
    );
    check_create(
        &crd(r#"{"type":"string"}"#, r#","preserveUnknownFields":true"#),
        expect![[r#"
            spec.validation.openAPIV3Schema.type: Invalid value: "string": must be object at the root
            spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead
        "#]],
    );
}

#[test]
fn parts_agree() {
    check_create(
        &crd(
            r#"{"type":"object","default":{},"properties":{
            "metadata":{"type":"object","properties":{"name":{"type":"string"},"labels":{"type":"object"}}},
            "a":{"type":"string","default":1},"b":{"type":"object","default":{"x":1},"properties":{"y":{"type":"string"}}},
            "good":{"type":"object","default":{},"required":["y"],"properties":{"y":{"type":"string","default":"z"}}},
            "s":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"object"}},
            "m":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
                "items":{"type":"object","required":["k"],"properties":{"k":{"type":"array","items":{"type":"string"}}}}},
            "o":{"type":"object","anyOf":[{"default":1,"nullable":true}]}}}"#,
            "",
        ),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified
            spec.validation.openAPIV3Schema.properties[o].anyOf[0].default: Forbidden: must be undefined to be structural
            spec.validation.openAPIV3Schema.properties[o].anyOf[0].nullable: Forbidden: must be false to be structural
            spec.validation.openAPIV3Schema.properties[m].items.properties[k].type: Invalid value: "object": must be a scalar type if parent array's x-kubernetes-list-type is map
            spec.validation.openAPIV3Schema.properties[s].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set
        "#]],
    );
}

#[test]
fn selectable_fields_are_scalars_of_the_schema() {
    let version = serde_json::json!({"schema":{"openAPIV3Schema":{"type":"object","properties":{
        "metadata":{"type":"object","properties":{"name":{"type":"string"}}},
        "spec":{"type":"object","properties":{"a":{"type":"string"},"l":{"type":"array","items":{"type":"string"}}}}}}},
        "selectableFields":[{"jsonPath":".spec.a"},{"jsonPath":".spec.a"},{"jsonPath":".spec.l"},{"jsonPath":".spec.no"},
            {"jsonPath":"spec.a"},{"jsonPath":".metadata.name"}]});
    let mut errors = Errors::default();
    consistency::selectable_fields(&version, false, &Path::new("v"), &mut errors);
    let text: String = errors.0.iter().map(|e| format!("{e}\n")).collect();
    expect![[r#"
        v.selectableFields[1].jsonPath: Duplicate value: ".spec.a"
        v.selectableFields[2].jsonPath: Invalid value: ".spec.l": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.
        v.selectableFields[3].jsonPath: Invalid value: ".spec.no": is an invalid path: does not refer to a valid field
        v.selectableFields[4].jsonPath: Invalid value: "spec.a": is an invalid path: expected [ or . but got: spec
        v.selectableFields[5].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata
    "#]]
    .assert_eq(&text);
}

#[test]
fn identity_is_fixed() {
    let old = crd(r#"{"type":"object"}"#, "");
    check_update(
        &old,
        &old.replace("\"plural\":\"foos\"", "\"plural\":\"bars\""),
        expect![[r#"
            spec.names.plural: Invalid value: "bars": field is immutable
        "#]],
    );
    check_create(
        &old.replace("\"storage\":true", "\"storage\":false").replace("example.com", "k8s.io"),
        expect![[r#"
            spec.versions: Invalid value: [{"name":"v1","schema":{"openAPIV3Schema":{"type":"object"}},"served":true,"storage":false}]: must have exactly one version marked as storage version
            status.storedVersions: Invalid value: null: must have at least one stored version
            metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111
        "#]],
    );
}
