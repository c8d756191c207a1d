//! No text makes the crate panic, run out of stack or run beyond its budget.

mod structure;

use cel::rules::Rules;
use cel::schema::Decl;
use cel::{Budget, Env, Type, Value, Vars, compile, estimate, eval};
use meta::field::Errors;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};
use structure::described;

fn object() -> Json {
    json!({"a": 1, "b": "text", "c": [1, 2, 3], "d": {"x": "y"}, "e": null, "f": 1.5, "g": true, "l": (0..50).collect::<Vec<_>>()})
}

/// Compiles and, where that is possible, estimates and runs.
fn put_through(text: &str) {
    let object = object();
    let env = Env::new().with("o", Type::Dyn).with("s", Type::String).with("l", Type::list(Type::Int)).with_mutation();
    let Ok(program) = compile(text, &env, &[]) else { return };
    let decl = Decl::of(&json!({"type":"object"}), true).unwrap();
    estimate::estimate(&program, &decl);
    let vars = Vars::new()
        .with("o", Value::json(&object))
        .with("s", Value::string("some text"))
        .with("l", Value::json(&object["l"]));
    let mut budget = Budget::new(200_000);
    if let Ok(v) = eval(&program, &vars, &mut budget) {
        v.to_json(&mut 100_000);
    }
}

const WORDS: &[&str] = &[
    "o",
    "s",
    "l",
    "o.a",
    "o.b",
    "o.c",
    "o.d.x",
    "o.e",
    "1",
    "0",
    "-1",
    "9223372036854775807",
    "1u",
    "1.5",
    "1e300",
    "''",
    "'a'",
    "b'x'",
    "r'\\d+'",
    "null",
    "true",
    "false",
    "+",
    "-",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "&&",
    "||",
    "!",
    "?",
    ":",
    "in",
    ".",
    ",",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ".size()",
    ".all(x, ",
    ".exists(x, ",
    ".map(x, ",
    ".filter(x, ",
    "x",
    "has(o.a)",
    ".matches('a+')",
    ".contains('a')",
    ".split('')",
    ".replace('', 'xx')",
    ".join(',')",
    ".format([o.a])",
    "'%s %d'",
    "string(",
    "int(",
    "double(",
    "timestamp('2020-01-01T00:00:00Z')",
    "duration('1h')",
    ".getHours('UTC')",
    "quantity('1Gi')",
    ".add(",
    "ip('::1')",
    "cidr('10.0.0.0/8')",
    ".containsIP(",
    "url('http://a/b')",
    ".getHost()",
    "semver('1.2.3')",
    ".?a",
    "[?0]",
    "optional.of(",
    "optional.none()",
    ".orValue(",
    ".optMap(v, v)",
    "cel.bind(y, o.c, y + y)",
    ".transformList(i, v, v)",
    ".transformMap(k, v, v)",
    "Object{a: 1}",
    "JSONPatch{op: 'a'}",
    "type(",
    "dyn(",
    "sets.contains(",
    "format.uuid()",
    ".validate('x')",
    ".sum()",
    ".max()",
    ".indexOf(",
    ".substring(1)",
    "\"",
    "'",
    "\\",
    "é",
    "//",
    "\n",
    "`",
    "$",
    "0x",
    "1.",
    "e5",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn soups_of_words(picked in proptest::collection::vec(0..WORDS.len(), 1..14), glued in any::<bool>()) {
        let words: Vec<&str> = picked.iter().map(|i| WORDS[*i]).collect();
        put_through(&words.join(if glued { "" } else { " " }));
    }

    #[test]
    fn any_text(text in "\\PC{0,60}") {
        put_through(&text);
    }

    /// Expressions that parse: operators over operands, nested.
    #[test]
    fn trees(text in tree()) {
        put_through(&text);
    }

    #[test]
    fn schemas_of_any_shape(schema in shape(), rule in tree()) {
        let mut schema = if schema.is_object() { schema } else { json!({"type": "object", "properties": {"a": schema}}) };
        schema["x-kubernetes-validations"] = json!([{"rule": rule}]);
        let mut errors = meta::field::Errors::default();
        cel::rules::check(&schema, &meta::field::Path::root(), &|_| true, false, &mut errors);
        if let Some(rules) = Rules::new(&schema) {
            rules.validate(&described(&schema), &object(), Some(&object()), &mut errors);
        }
    }
}

fn tree() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(
        &["o.a", "o.b", "o.c", "s", "l", "1", "'a'", "true", "null", "1.5", "x", "self", "self.a", "oldSelf", "2u"][..],
    )
    .prop_map(String::from);
    leaf.prop_recursive(5, 40, 3, |inner| {
        prop_oneof![
            (
                inner.clone(),
                proptest::sample::select(&["+", "-", "*", "/", "%", "==", "<", ">=", "&&", "||", "in"][..]),
                inner.clone()
            )
                .prop_map(|(a, o, b)| format!("({a} {o} {b})")),
            (
                inner.clone(),
                proptest::sample::select(&["all", "exists", "map", "filter", "exists_one"][..]),
                inner.clone()
            )
                .prop_map(|(a, m, b)| format!("{a}.{m}(x, {b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, dyn({b})]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("cel.bind(x, {a}, {b})")),
            (
                inner.clone(),
                proptest::sample::select(
                    &[
                        "size()",
                        "sum()",
                        "max()",
                        "isSorted()",
                        "lowerAscii()",
                        "split('')",
                        "join('a')",
                        "hasValue()",
                        "b",
                        "?b"
                    ][..]
                )
            )
                .prop_map(|(a, f)| format!("{a}.{f}")),
            (
                proptest::sample::select(
                    &[
                        "string",
                        "int",
                        "double",
                        "bool",
                        "bytes",
                        "type",
                        "size",
                        "optional.of",
                        "quantity",
                        "duration"
                    ][..]
                ),
                inner
            )
                .prop_map(|(f, a)| format!("{f}({a})")),
        ]
    })
}

fn shape() -> impl Strategy<Value = Json> {
    let leaf = proptest::sample::select(vec![
        json!({"type":"integer"}),
        json!({"type":"string","maxLength":5}),
        json!({"type":"string","format":"date-time"}),
        json!({"type":"number"}),
        json!({"type":"boolean"}),
        json!({"x-kubernetes-int-or-string":true}),
        json!({"type":"object","x-kubernetes-preserve-unknown-fields":true}),
        json!({"type":"nonsense"}),
        json!({"maxItems":-1,"type":"array"}),
        json!(7),
    ]);
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|i| json!({"type":"array","items":i})),
            inner.clone().prop_map(|i| json!({"type":"object","additionalProperties":i})),
            (inner.clone(), inner)
                .prop_map(|(a, b)| json!({"type":"object","properties":{"a":a,"c-d":b},"required":["a"]})),
        ]
    })
}

/// The deepest and longest that is accepted, of many shapes, passes every stage on a thread's usual stack.
#[test]
fn deep_and_long_texts() {
    let repeat =
        |before: &str, middle: &str, after: &str, n: usize| format!("{}{middle}{}", before.repeat(n), after.repeat(n));
    for (before, middle, after) in [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("-(", "1", ")"),
        ("!(", "true", ")"),
        ("{1: ", "1", "}"),
        ("true ? 1 : (", "1", ")"),
        ("l.all(x, ", "true", ")"),
        ("l.map(x, ", "x", ")"),
        ("cel.bind(x, 1, ", "x", ")"),
        ("optional.of(", "1", ")"),
        ("string(", "1", ")"),
        ("'%s'.format([", "1", "])"),
        ("1 + (", "1", ")"),
        ("[1, 2].transformList(i, v, ", "v", ")"),
        ("optional.of(1).optMap(v, ", "v", ")"),
        ("", "1", " + 1"),
        ("", "o", ".a"),
        ("", "o", "[0]"),
        ("", "o", ".?a"),
        ("", "'a'", ".lowerAscii()"),
        ("", "l", ".map(x, x)"),
        ("", "true", " && true"),
        ("", "true", " || o.a == 1"),
        ("", "1", ", 1"),
        ("", "[[]", ", []"),
        ("", "[{1: []}", ", {1: []}"),
        ("", "optional.of(1)", ".optMap(v, v)"),
    ] {
        for n in [1, 2, 5, 10, 20, 30, 40, 50, 60, 80, 100, 120, 124, 200, 240, 250, 1_000, 20_000] {
            let mut text = repeat(before, middle, after, n);
            if middle.starts_with("[") && before.is_empty() {
                text.push(']');
            }
            let started = Instant::now();
            put_through(&text);
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{before}{middle}{after} * {n} took {:?}",
                started.elapsed()
            );
        }
    }
}

/// Types that double in size with each level.
#[test]
fn types_that_grow() {
    for body in ["{'k': x, 'j': x}", "[[x, x], [x]]", "[{'a': x}, {'b': x}]", "{x: x}", "[x].map(y, [y, y])"] {
        let mut text = "x".to_string();
        for _ in 0..40 {
            text = format!("cel.bind(x, {body}, {text})");
        }
        let started = Instant::now();
        put_through(&format!("cel.bind(x, 1, {text})"));
        assert!(started.elapsed() < Duration::from_secs(10), "{body} took {:?}", started.elapsed());
    }
}

/// Items of a list with keys find their older selves without a search through all of them.
#[test]
fn long_lists_with_keys() {
    let schema = json!({"type":"object","properties":{"l":{"type":"array",
        "x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
        "items":{"type":"object","properties":{"k":{"type":"string"},"v":{"type":"integer"}},
            "x-kubernetes-validations":[{"rule":"self.v == oldSelf.v"}]}}}});
    let list = |keys: &mut dyn Iterator<Item = i32>| -> Vec<Json> {
        keys.map(|k| json!({"k": format!("a long enough name {k}"), "v": k})).collect()
    };
    let old = json!({"l": list(&mut (0..20_000))});
    let new = json!({"l": list(&mut (0..20_000).rev())});
    let started = Instant::now();
    let mut errors = Errors::default();
    Rules::new(&schema).unwrap().validate(&described(&schema), &new, Some(&old), &mut errors);
    assert!(errors.is_empty(), "{:?}", errors.0.first());
    assert!(started.elapsed() < Duration::from_secs(20), "took {:?}", started.elapsed());
}
