//! Rules of custom resources: what they say about objects, and what is said about them.

mod structure;

use cel::rules::{Rules, check, check_form};
use expect_test::{Expect, expect};
use meta::field::{Errors, Path};
use serde_json::{Value, json};
use structure::described;

fn judged(schema: &Value, new: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::default();
    if let Some(rules) = Rules::new(schema) {
        rules.validate(&described(schema), new, old, &mut errors);
    }
    errors
}

fn told(schema: &Value, new: &Value, old: Option<&Value>) -> String {
    judged(schema, new, old).0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn schema(properties: Value, rules: Value) -> Value {
    json!({"type":"object","properties":{"spec":{"type":"object","properties":properties,"x-kubernetes-validations":rules}}})
}

fn checked(schema: &Value) -> String {
    let path = Path::new("spec.validation.openAPIV3Schema");
    let mut errors = Errors::default();
    check_form(&schema["properties"]["spec"], &path.child("properties").key("spec"), &mut errors);
    let sound = errors.is_empty();
    check(schema, &path, &|_| sound, false, &mut errors);
    errors.0.iter().map(|e| format!("{}: {}\n", e.path.as_str(), e.body())).collect()
}

#[test]
fn rules_judge_objects() {
    let int = json!({"type":"integer"});
    let s = |rules: Value| schema(json!({"min": int, "max": int, "n": int}), rules);
    let object = json!({"spec":{"min":3,"max":2}});
    for (rule, want) in [
        (json!({"rule":"self.min <= self.max"}), r#"spec: Invalid value: failed rule: self.min <= self.max"#),
        (json!({"rule":"self.min <= self.max","message":"m"}), r#"spec: Invalid value: m"#),
        (
            json!({"rule":"self.min <= self.max","message":"m","messageExpression":"'%d > %d'.format([self.min, self.max])"}),
            r#"spec: Invalid value: 3 > 2"#,
        ),
        (
            json!({"rule":"self.min <= self.max","message":"m","messageExpression":"string(self.n)"}),
            r#"spec: Invalid value: m"#,
        ),
        (
            json!({"rule":"self.min <= self.max","fieldPath":".min","reason":"FieldValueForbidden"}),
            "spec.min: Forbidden: failed rule: self.min <= self.max",
        ),
        (
            json!({"rule":"self.min <= self.max","fieldPath":".max","reason":"FieldValueRequired"}),
            "spec.max: Required value: failed rule: self.min <= self.max",
        ),
        (json!({"rule":"false","reason":"FieldValueDuplicate"}), "spec: Duplicate value"),
        (json!({"rule":"self.n > 1"}), r#"spec: Invalid value: "object": no such key: n evaluating rule: self.n > 1"#),
        (json!({"rule":"!has(self.n) || self.n > 1"}), ""),
        (json!({"rule":"self.min == oldSelf.min"}), ""),
        (json!({"rule":"!oldSelf.hasValue()","optionalOldSelf":true}), ""),
        (
            json!({"rule":"oldSelf.hasValue()","optionalOldSelf":true,"message":"no creation"}),
            r#"spec: Invalid value: no creation"#,
        ),
    ] {
        assert_eq!(told(&s(json!([rule])), &object, None), want, "{rule}");
    }
}

#[test]
fn values_are_read_as_their_schema_says() {
    let s = schema(
        json!({
            "at":{"type":"string","format":"date-time"},"for":{"type":"string","format":"duration"},
            "port":{"x-kubernetes-int-or-string":true},"data":{"type":"string","format":"byte"},"number":{"type":"number"},
            "a-b":{"type":"string"},"namespace":{"type":"string"},
            "set":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}},
            "map":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
                "items":{"type":"object","properties":{"k":{"type":"string"},"v":{"type":"integer"}}}},
            "none":{"type":"string","nullable":true}
        }),
        json!([
            {"rule":"self.namespace == 'n' && has(self.namespace)"},
            {"rule":"self.at < timestamp('2030-01-01T00:00:00Z') && self.at.getFullYear() == 2020"},
            {"rule":"self.__for__ == duration('90s')"},
            {"rule":"type(self.port) == int ? self.port == 80 : self.port == 'http'"},
            {"rule":"self.data == b'hi' && size(self.data) == 2"},
            {"rule":"self.number == 2.0"},
            {"rule":"self.a__dash__b == 'x' && self.__namespace__ == 'n'"},
            {"rule":"self.set == ['b', 'a'] && self.set + ['a', 'c'] == ['a', 'b', 'c']"},
            {"rule":"self.map.exists(m, m.k == 'x' && m.v == 1)"},
            {"rule":"dyn(self.none) == null"}
        ]),
    );
    let object = json!({"spec":{"at":"2020-01-01T00:00:00Z","for":"90s","port":80,"data":"aGk=","number":2,"a-b":"x",
        "namespace":"n","set":["a","b"],"map":[{"k":"x","v":1}],"none":null}});
    // The right-hand list is no set: order counts against it unless one side is a set.
    assert_eq!(told(&s, &object, None), "");
    assert_eq!(checked(&s).lines().filter(|l| l.contains("Invalid")).collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn transitions_see_the_old_value() {
    let s = json!({"type":"object","properties":{
        "immutable":{"type":"string","x-kubernetes-validations":[{"rule":"self == oldSelf","message":"is immutable"}]},
        "items":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],"items":{"type":"object",
            "properties":{"name":{"type":"string"},"size":{"type":"integer"}},
            "x-kubernetes-validations":[{"rule":"self.size >= oldSelf.size","message":"can't shrink"}]}}}});
    let old = json!({"immutable":"a","items":[{"name":"x","size":2},{"name":"y","size":5}]});
    assert_eq!(told(&s, &json!({"immutable":"b"}), Some(&old)), r#"immutable: Invalid value: "b": is immutable"#);
    assert_eq!(told(&s, &json!({"immutable":"b"}), None), "");
    let new = json!({"immutable":"a","items":[{"name":"z","size":1},{"name":"y","size":4},{"name":"x","size":3}]});
    assert_eq!(told(&s, &new, Some(&old)), r#"items[1]: Invalid value: can't shrink"#);
}

/// A row: the rest of the schema, old, new, what is refused, what is warned of.
#[test]
fn what_stays_may_stay() {
    let good = json!({"type":"string","x-kubernetes-validations":[{"rule":"self == 'good'"}]});
    let one = json!({"properties":{"a":good,"b":{"type":"integer"}}});
    // Items with keys that only changed places are what they were.
    let keyed = json!({"properties":{"l":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
        "x-kubernetes-validations":[{"rule":"self.size() < 2"}],
        "items":{"type":"object","properties":{"k":{"type":"string"},"v":{"type":"integer"}},
            "x-kubernetes-validations":[{"rule":"self.v > 1"}]}}}});
    // The same within something that has a rule, but has none itself.
    let within = json!({"properties":{"s":{"type":"object","x-kubernetes-validations":[{"rule":"has(self.x)"}],
        "properties":{"x":{"type":"string"},"l":{"type":"array","x-kubernetes-list-type":"map",
            "x-kubernetes-list-map-keys":["k"],"items":{"type":"object","properties":{"k":{"type":"string"}}}}}}}});
    let open = json!({"properties":{"s":{"type":"object","x-kubernetes-preserve-unknown-fields":true,
        "x-kubernetes-validations":[{"rule":"has(self.x)"}],"properties":{"x":{"type":"string"}}}}});
    let all_of = json!({"properties":{"s":{"type":"object","properties":{"x":{"type":"string"},"y":{"type":"string"}},
        "allOf":[{"properties":{"x":{"x-kubernetes-validations":[{"rule":"self == 'good'"}]}}}]},"t":{"type":"string"}}});
    let own_all_of = json!({"properties":{"s":{"type":"object","properties":{"x":{"type":"string",
        "allOf":[{"x-kubernetes-validations":[{"rule":"self == 'good'"}]}]},"y":{"type":"string"}}}}});
    let atomic = json!({"properties":{"l":{"type":"array","items":good}}});
    let kind = json!({"properties":{"kind":good}});
    let words = json!({"properties":{"a":{"type":"object","properties":{"x":{"type":"string"}},
        "x-kubernetes-validations":[{"rule":"self.x == ''","messageExpression":"'not ' + self.x","fieldPath":".x"}]}}});
    let not_good = |at: &str| format!(r#"{at}: Invalid value: "bad": failed rule: self == 'good'"#);
    let v = |k: &str, v: i32| json!({"k":k,"v":v});
    for (schema, old, new, refused, warned) in [
        (&one, json!({"a":"bad","b":1}), json!({"a":"bad","b":2}), String::new(), not_good("a")),
        (&one, json!({"a":"worse","b":1}), json!({"a":"bad","b":1}), not_good("a"), String::new()),
        (
            &keyed,
            json!({"l":[v("a", 1), v("b", 1)]}),
            json!({"l":[v("b", 1), v("a", 1)]}),
            String::new(),
            "l: Invalid value: failed rule: self.size() < 2; l[0]: Invalid value: failed rule: self.v > 1; l[1]: Invalid value: failed rule: self.v > 1".into(),
        ),
        (
            &keyed,
            json!({"l":[v("a", 1), v("b", 1)]}),
            json!({"l":[v("b", 1), v("a", 0)]}),
            "l: Invalid value: failed rule: self.size() < 2; l[1]: Invalid value: failed rule: self.v > 1".into(),
            "l[0]: Invalid value: failed rule: self.v > 1".into(),
        ),
        (
            &within,
            json!({"s":{"l":[{"k":"a"},{"k":"b"}]}}),
            json!({"s":{"l":[{"k":"b"},{"k":"a"}]}}),
            String::new(),
            "s: Invalid value: failed rule: has(self.x)".into(),
        ),
        // What the schema doesn't know can't be told to be the same.
        (
            &open,
            json!({"s":{"other":1}}),
            json!({"s":{"other":1}}),
            "s: Invalid value: failed rule: has(self.x)".into(),
            String::new(),
        ),
        // What is in allOf goes by what is around it.
        (&all_of, json!({"s":{"x":"bad"}}), json!({"s":{"x":"bad"},"t":"new"}), not_good("s.x"), String::new()),
        (&all_of, json!({"s":{"x":"bad"}}), json!({"s":{"x":"bad"}}), String::new(), not_good("s.x")),
        (&own_all_of, json!({"s":{"x":"bad"}}), json!({"s":{"x":"bad"}}), String::new(), not_good("s.x")),
        (&own_all_of, json!({"s":{"x":"bad"}}), json!({"s":{"x":"bad","y":"new"}}), not_good("s.x"), String::new()),
        // Items of a list without keys count as a whole.
        (&atomic, json!({"l":["bad"]}), json!({"l":["bad"]}), String::new(), not_good("l[0]")),
        (&atomic, json!({"l":["bad"]}), json!({"l":["bad", "good"]}), not_good("l[0]"), String::new()),
        (&kind, json!({"kind":"bad"}), json!({"kind":"bad"}), not_good("kind"), String::new()),
        (
            &words,
            json!({"a":{"x":"good"}}),
            json!({"a":{"x":"good"}}),
            String::new(),
            "a.x: Invalid value: not good".into(),
        ),
    ] {
        let mut schema = schema.clone();
        schema["type"] = "object".into();
        let errors = judged(&schema, &new, Some(&old));
        let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        let let_pass: Vec<String> = errors.warnings().collect();
        assert_eq!((found.join("; "), let_pass.join("; ")), (refused, warned), "{schema} {old} {new}");
    }
}

#[test]
fn the_root_sees_its_name_and_no_more_metadata() {
    let s = |rule: &str| json!({"type":"object","properties":{"metadata":{"type":"object"}},"x-kubernetes-validations":[{"rule":rule}]});
    let object = json!({"apiVersion":"g/v1","kind":"K","metadata":{"name":"a","labels":{"x":"y"}}});
    assert_eq!(told(&s("self.metadata.name.startsWith('a') && self.kind == 'K'"), &object, None), "");
    assert!(checked(&s("self.metadata.labels.x == 'y'")).contains("undefined field 'labels'"));
}

fn check_text(schema: Value, want: Expect) {
    want.assert_eq(&checked(&schema));
}

#[test]
fn wrong_rules_are_told() {
    let s = |rule: Value| {
        schema(
            json!({"a":{"type":"integer"},"s":{"type":"string","maxLength":10},"l":{"type":"array","items":{"type":"integer"}}}),
            json!([rule]),
        )
    };
    check_text(
        s(json!({"rule":"self.b > 1"})),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {"rule":"self.b \u003e 1"}: compilation failed: ERROR: <input>:1:5: undefined field 'b'
             | self.b > 1
             | ....^
        "#]],
    );
    check_text(
        s(json!({"rule":"self.a","messageExpression":"1","reason":"Nope","fieldPath":".x"})),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].reason: Unsupported value: "Nope": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].fieldPath: Invalid value: ".x": must be a valid path
        "#]],
    );
    check_text(
        s(json!({"rule":"self.a","messageExpression":"1"})),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {"messageExpression":"1","rule":"self.a"}: cel expression must evaluate to a bool
        "#]],
    );
    check_text(s(json!({"rule":"self.a > 1\n","message":""})), expect![[""]]);
    check_text(
        s(json!({"rule":"self.a > 1 &&\n self.a < 5"})),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].message: Required value: message must be specified if rule contains line breaks
        "#]],
    );
    check_text(
        s(json!({"rule":"self.a > 1","optionalOldSelf":true})),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule
        "#]],
    );
    let items = json!({"type":"object","properties":{"l":{"type":"array","maxItems":5,"items":{"type":"integer","x-kubernetes-validations":[{"rule":"self == oldSelf"}]}}}});
    check_text(
        items,
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[l].items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[l]
        "#]],
    );
}

#[test]
fn rules_that_could_cost_too_much_are_refused() {
    let s = |items: Option<u64>, length: Option<u64>| {
        let mut tags = json!({"type":"array","items":{"type":"string"},"x-kubernetes-validations":[{"rule":"self.all(x, x.contains('gpu'))"}]});
        if let Some(n) = items {
            tags["maxItems"] = n.into();
        }
        if let Some(n) = length {
            tags["items"]["maxLength"] = n.into();
        }
        json!({"type":"object","properties":{"spec":{"type":"object","properties":{"tags":tags}}}})
    };
    check_text(
        s(None, None),
        expect![[r#"
            spec.validation.openAPIV3Schema.properties[spec].properties[tags].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)
            spec.validation.openAPIV3Schema.properties[spec].properties[tags].x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema
            spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)
        "#]],
    );
    // What upstream's own validator (1.36) accepts at most, as others have measured it.
    for (length, items) in [(16, 909_090), (63, 333_333), (253, 94_339), (1_024, 24_154)] {
        assert_eq!(checked(&s(Some(items), Some(length))), "", "{length}");
        assert!(checked(&s(Some(items + 1), Some(length))).contains("exceeds budget by factor of 1.0"), "{length}");
    }
    // Calls on texts without a limit, a hundred times, cost as upstream's tables say: those of no table cost one.
    let hundred = |rule: &str| {
        let item = json!({"type":"string","x-kubernetes-validations":[{"rule":rule}]});
        json!({"type":"object","properties":{"spec":{"type":"object","properties":{
            "l":{"type":"array","maxItems":100,"items":item}}}}})
    };
    for (rule, factor) in [
        ("isURL(self) && self.startsWith('https://')", None),
        ("url(self).getHost() == ''", Some("3.1x")),
        ("self.split(',', 2).all(x, x == 'a')", Some("6.3x")),
        ("format.uri().validate(self) == null", Some("more than 100x")),
    ] {
        let said = checked(&hundred(rule));
        match factor {
            None => assert_eq!(said, "", "{rule}"),
            Some(factor) => assert!(said.contains(&format!("exceeds budget by factor of {factor} ")), "{rule}: {said}"),
        }
    }
    let addresses = json!({"type":"object","properties":{"spec":{"type":"object",
        "properties":{"a":{"type":"string","maxLength":43},"b":{"type":"string","maxLength":43}},
        "x-kubernetes-validations":[{"rule":"ip(self.a) == ip(self.b) || cidr(self.a) == cidr(self.b).masked() || quantity(self.a) == quantity(self.b)"}]}}});
    assert_eq!(checked(&addresses), "");
    // Items of what has no path of its own count as nothing, as in Istio's ServiceEntry; the number of them counts.
    let either = |items: Option<u64>| {
        let mut tags = json!({"type":"array","items":{"type":"string"}});
        if let Some(n) = items {
            tags["maxItems"] = n.into();
        }
        json!({"type":"object","properties":{"spec":{"type":"object","properties":{"tags":tags},
            "x-kubernetes-validations":[{"rule":"!(has(self.tags) ? self.tags : []).exists(k, k.contains('/'))"}]}}})
    };
    assert_eq!(checked(&either(Some(256))), "");
    assert_eq!(checked(&either(Some(100_000))), "");
    assert!(checked(&either(Some(10_000_000))).contains("exceeds budget by factor of"));
}
