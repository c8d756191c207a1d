//! The language, a line per case: expression → result. Most are the examples of upstream's documents.

use cel::{Budget, Env, EvalError, Type, Value, Vars, compile, eval};
use serde_json::{Value as Json, json};

/// What an expression gives: JSON of the result, the failure, or the first line of why it doesn't compile.
fn given(text: &str, object: &Json) -> String {
    let env = Env::new().with("object", Type::Dyn).with("names", Type::list(Type::String));
    let names = json!(["a", "b", "c"]);
    let program = match compile(text, &env, &[]) {
        Ok(p) => p,
        Err(e) => {
            return e.to_string().lines().next().unwrap_or("").trim_start_matches("compilation failed: ").to_string();
        }
    };
    let vars = Vars::new().with("object", Value::json(object)).with("names", Value::json(&names));
    match eval(&program, &vars, &mut Budget::new(cel::POLICY_BUDGET)) {
        Ok(v) => match v.to_json(&mut 10_000) {
            Some(j) => j.to_string(),
            None => format!("<{}>", v.type_name()),
        },
        Err(EvalError::Failed(why)) => format!("error: {why}"),
        Err(e) => format!("stopped: {e}"),
    }
}

fn check(table: &[(&str, &str)]) {
    let object = json!({
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web", "app.kubernetes.io/name": "w"}},
        "spec": {"replicas": 3, "ratio": 0.5, "paused": false, "none": null,
            "containers": [{"name": "a", "image": "r.example.com/a:1"}, {"name": "b", "image": "b"}]},
    });
    let mut wrong = String::new();
    for (text, expected) in table {
        let got = given(text, &object);
        if got != *expected {
            wrong.push_str(&format!("{text}\n  expected {expected}\n  got      {got}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn operators() {
    check(&[
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: modulus by zero"),
        ("1u - 2u", "error: unsigned integer overflow"),
        ("1 < 1.5 && 2u > 1 && 1.0 <= 1", "true"),
        ("dyn(1) == 1.0", "true"),
        ("dyn(1) == 'a'", "false"),
        ("1 == 1.0", "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, double)'"),
        ("'a' + 'b' < 'b'", "true"),
        ("[1, 2] + [3] == [1, 2, 3]", "true"),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'"),
        ("{'a': 1, 'b': 2}['b']", "2"),
        ("{'a': 1}['b']", "error: no such key: b"),
        ("{'a': 1, 'a': 2}", "error: Failed with repeated key: a"),
        ("[1, 2][2]", "error: index out of bounds: 2"),
        ("2 in [1, 2] && 'a' in {'a': 1} && !('b' in {'a': 1})", "true"),
        ("true ? 'yes' : 'no'", "\"yes\""),
        ("1 / 0 > 1 || true", "true"),
        ("1 / 0 > 1 && false", "false"),
        ("1 / 0 > 1 || false", "error: division by zero"),
        ("!true == false", "true"),
        ("--1", "1"),
        ("b'abc' == bytes('abc')", "true"),
        ("'\\u00e9\\n' == \"é\\n\" && r'\\n' == '\\\\n' && '''a'b''' == \"a'b\"", "true"),
        ("0x10 + 1", "17"),
        ("1e3 + .5", "1000.5"),
        ("null == null", "true"),
        ("optional.none() == null || null == optional.of(1)", "false"),
        ("format.dns1123Label().validate('a') == null", "false"),
        ("'a' + 1", "ERROR: <input>:1:5: found no matching overload for '_+_' applied to '(string, int)'"),
        ("foo", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')"),
        ("foo(1)", "ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')"),
        ("'a'.foo()", "ERROR: <input>:1:8: undeclared reference to 'foo' (in container '')"),
        (
            "'a'.startsWith(1)",
            "ERROR: <input>:1:15: found no matching overload for 'startsWith' applied to 'string.(int)'",
        ),
        ("names.foo", "ERROR: <input>:1:6: type 'list(string)' does not support field selection"),
        (
            "1.all(x, true)",
            "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
    ]);
}

#[test]
fn objects() {
    check(&[
        ("object.spec.replicas <= 5", "true"),
        ("object.metadata.namespace == 'shop'", "true"),
        ("object.spec.ratio", "0.5"),
        ("object.spec.missing", "error: no such key: missing"),
        ("has(object.spec.missing)", "false"),
        ("has(object.spec.paused) && !object.spec.paused", "true"),
        ("has(object.spec.none) && object.spec.none == null", "true"),
        ("has(object.missing.deeper)", "error: no such key: missing"),
        // Only maps and objects have members; nothing else is looked into.
        ("has(object.spec.none.deeper) || has(object.spec.replicas.deeper)", "false"),
        ("object.spec.none.?deeper.?still.orValue(7)", "7"),
        ("object.spec.replicas[?'x'].orValue(7)", "7"),
        ("has(object.spec.containers.deeper)", "error: unsupported index type 'string' in list"),
        ("object.spec.none.deeper", "error: no such key: deeper"),
        ("object.metadata.labels['app.kubernetes.io/name']", "\"w\""),
        ("object.spec.containers.all(c, c.image.startsWith('r.example.com/'))", "false"),
        ("object.spec.containers.exists(c, c.image.startsWith('r.example.com/'))", "true"),
        ("object.spec.containers.exists_one(c, c.name == 'a')", "true"),
        ("object.spec.containers.map(c, c.name)", "[\"a\",\"b\"]"),
        ("object.spec.containers.map(c, c.name == 'b', c.image)", "[\"b\"]"),
        ("object.spec.containers.filter(c, c.name != 'a').size()", "1"),
        ("object.metadata.labels.all(k, k.startsWith('app'))", "true"),
        ("size(object.spec.containers) == 2", "true"),
        ("type(object.spec.replicas) == int && type('') == string && type(object) == map", "true"),
        ("type(object.spec.none) == null_type", "true"),
        ("object.spec.replicas + 'x'", "error: no such overload"),
        ("object.spec.?replicas.orValue(1)", "3"),
        ("object.?spec.?nothing.?deeper.orValue('d')", "\"d\""),
        ("object.spec.?nothing.hasValue()", "false"),
        ("object.spec.?containers[0].?name", "\"a\""),
        ("object.metadata.labels[?'app']", "\"web\""),
        ("optional.none().or(optional.of(2)).value()", "2"),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("optional.ofNonZeroValue(0).hasValue()", "false"),
        ("optional.unwrap([optional.of(1), optional.none(), optional.of(3)])", "[1,3]"),
        ("[object.spec.?replicas, object.spec.?nothing].unwrapOpt()", "[3]"),
        ("[1, 2].first().value() + [1, 2, 3].last().value()", "4"),
        ("object.spec.containers.map(c, c.name).last().orValue('')", "\"b\""),
        ("[].first().hasValue() || [].last().hasValue()", "false"),
        ("object.spec.?replicas.optMap(r, r * 2).orValue(0)", "6"),
        ("object.spec.?replicas.optFlatMap(r, optional.of(r)).orValue(0)", "3"),
        ("[?object.spec.?replicas, ?object.spec.?nothing]", "[3]"),
        ("{?'a': object.spec.?nothing, 'b': 1}", "{\"b\":1}"),
        ("cel.bind(n, object.spec.replicas, n + n)", "6"),
        ("[1, 2, 3].all(i, v, i < v)", "true"),
        ("{'a': 1}.exists(k, v, k == 'a' && v == 1)", "true"),
        ("['x', 'y'].transformList(i, v, v + string(i))", "[\"x0\",\"y1\"]"),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10)", "{\"b\":20}"),
        ("{'a': 'x'}.transformMapEntry(k, v, {v: k})", "{\"x\":\"a\"}"),
        ("[1, 2].existsOne(i, v, v == 2)", "true"),
        ("[0, 1].all(x, 1 / x == 1)", "error: division by zero"),
        ("[0, 2].all(x, 1 / x == 1)", "false"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("has(object)", "ERROR: <input>:1:5: invalid argument to has() macro"),
    ]);
}

#[test]
fn texts() {
    check(&[
        ("'hello'.matches('^h.*o$')", "true"),
        ("'hello'.matches('[')", "ERROR: <input>:1:17: invalid matches argument"),
        ("'abc'.contains('b') && 'abc'.endsWith('c')", "true"),
        ("'tacocat'.indexOf('c', 3)", "4"),
        ("'tacocat'.lastIndexOf('at')", "5"),
        ("'tacocat'.charAt(3)", "\"o\""),
        ("'tacocat'.substring(0, 4)", "\"taco\""),
        ("'tacocat'.substring(9)", "error: index out of range: 9"),
        ("'TacoCÆt'.lowerAscii()", "\"tacocÆt\""),
        ("'hello hello'.replace('he', 'we', 1)", "\"wello hello\""),
        ("'a,b,c'.split(',')", "[\"a\",\"b\",\"c\"]"),
        ("'a,b,c'.split(',', 2)", "[\"a\",\"b,c\"]"),
        ("['a', 'b'].join('-')", "\"a-b\""),
        ("' x '.trim()", "\"x\""),
        ("'abc 123'.find('[0-9]+')", "\"123\""),
        ("'1 2 3'.findAll('[0-9]', 2)", "[\"1\",\"2\"]"),
        ("'%s has %d, %.2f, %x and %e'.format(['a', 3, 1.005, 255, 1234.5])", "\"a has 3, 1.00, ff and 1.234500e+03\""),
        ("'%s'.format([{'a': [true]}])", "\"{a: [true]}\""),
        (
            "'%d'.format(['a'])",
            "error: error during formatting: decimal clause can only be used on integers, was given string",
        ),
        ("strings.quote('a\"b')", "\"\\\"a\\\\\\\"b\\\"\""),
        ("string(1) + string(true) + string(1.5) + string(2u)", "\"1true1.52\""),
        ("int('12') + int(3.9) + int(duration('1s')) * 0", "15"),
        ("int('x')", "error: type conversion error from 'string' to 'int'"),
        ("double('1.5') * 2.0", "3"),
        ("string(1e21)", "\"1e+21\""),
        ("jsonpatch.escapeKey('a/b')", "ERROR: <input>:1:1: undeclared reference to 'jsonpatch' (in container '')"),
    ]);
}

#[test]
fn times() {
    check(&[
        ("timestamp('2023-06-14T02:00:14Z').getHours()", "2"),
        ("timestamp('2023-06-14T02:00:14Z').getHours('America/New_York')", "22"),
        ("timestamp('2023-06-14T02:00:14Z').getDayOfWeek()", "3"),
        ("timestamp('2023-06-14T02:00:14Z').getMonth()", "5"),
        (
            "timestamp('2023-06-14T02:00:14Z').getDate() == timestamp('2023-06-14T02:00:14Z').getDayOfMonth() + 1",
            "true",
        ),
        ("timestamp('2023-06-14T02:00:14Z').getMinutes('+05:30')", "30"),
        ("timestamp('2023-06-14T02:00:14Z') + duration('1h') > timestamp('2023-06-14T03:00:00Z')", "true"),
        ("timestamp('2023-06-14T02:00:14Z') - timestamp('2023-06-14T02:00:00Z') == duration('14s')", "true"),
        ("string(duration('1h1m'))", "\"3660s\""),
        ("duration('90m').getHours()", "1"),
        ("duration('x')", "ERROR: <input>:1:10: invalid duration argument"),
        ("timestamp('x')", "ERROR: <input>:1:11: invalid timestamp argument"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "error: timestamp overflow"),
        ("string(timestamp(0))", "\"1970-01-01T00:00:00Z\""),
        ("type(timestamp(0)) == google.protobuf.Timestamp", "true"),
    ]);
}

#[test]
fn libraries() {
    check(&[
        ("[1, 3, 2].isSorted() || [1, 2].sum() == 3 && [4, 2].min() == 2 && ['a', 'b'].max() == 'b'", "true"),
        ("names.indexOf('b') + names.lastIndexOf('x')", "0"),
        ("[].min()", "error: min called on empty list"),
        ("sets.contains([1, 2], [2]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 1], [1])", "true"),
        ("url('https://example.com:80/path?k=v&k=w').getHost()", "\"example.com:80\""),
        ("url('https://example.com:8443/a%20b?k=v&k=w').getQuery()", "{\"k\":[\"v\",\"w\"]}"),
        ("url('https://[::1]:80/').getHostname() == '::1' && isURL('/a') && !isURL('a/b')", "true"),
        ("ip('127.0.0.1').isLoopback() && ip('::1').family() == 6 && isIP('1.2.3.4') && !isIP('1.2.3.400')", "true"),
        ("ip.isCanonical('::ffff') && !ip.isCanonical('2001:DB8::1')", "true"),
        (
            "cidr('192.168.0.0/24').containsIP('192.168.0.1') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))",
            "true",
        ),
        (
            "string(cidr('192.168.1.5/24').masked()) + ' ' + string(cidr('192.168.0.0/24').ip())",
            "\"192.168.1.0/24 192.168.0.0\"",
        ),
        (
            "ip('x')",
            "error: IP Address \"x\" parse error during conversion from string: ParseAddr(\"x\"): unable to parse IP",
        ),
        (
            "quantity('1.5Gi').isGreaterThan(quantity('1Gi')) && quantity('50k').add(20).compareTo(quantity('50020')) == 0",
            "true",
        ),
        ("quantity('50k').asInteger() == 50000 && quantity('-1').sign() == -1 && !quantity('1m').isInteger()", "true"),
        ("isQuantity('1x') || quantity('200M').sub(quantity('100M')).asApproximateFloat() == 100000000.0", "true"),
        (
            "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.2.3').minor() == 2 && semver('v1.0', true).major() == 1",
            "true",
        ),
        ("isSemver('v1.0') || isSemver('1.0.0-rc.1')", "true"),
        (
            "!format.dns1123Label().validate('my-label').hasValue() && format.dns1123Label().validate('A').hasValue()",
            "true",
        ),
        ("format.named('uuid').value().validate('x').value()", "[\"does not match the UUID format\"]"),
    ]);
}

#[test]
fn results_have_the_type_that_is_asked_for() {
    let env = Env::new().with("object", Type::Dyn);
    let told = |text: &str| compile(text, &env, &[Type::Bool]).map(|_| String::new()).unwrap_or_else(|e| e.to_string());
    assert_eq!(told("1"), "must evaluate to bool but got int");
    assert_eq!(told("object.x"), "must evaluate to bool but got dyn");
    assert_eq!(told("object.x == 1"), "");
    let e = compile("[1]", &env, &[Type::String, Type::Null]).unwrap_err();
    assert_eq!(e.to_string(), "must evaluate to one of [string null]");
}

#[test]
fn runaways_are_stopped() {
    let big = json!({"l": (0..1000).collect::<Vec<_>>(), "s": "x".repeat(100_000)});
    let env = Env::new().with("o", Type::Dyn);
    for text in [
        "o.l.all(a, o.l.all(b, o.l.all(c, a + b + c >= 0)))",
        "o.l.map(a, o.l.map(b, o.l.map(c, c))).size() > 0",
        "o.l.all(a, o.s.contains(o.s))",
        "o.l.all(a, o.s.matches('(x+x+)+y') || true)",
        "o.l.map(a, o.s).join(o.s).size() > 0",
        "o.s.replace('x', o.s).replace('x', o.s).size() > 0",
        "cel.bind(a, o.s + o.s, cel.bind(b, a + a, cel.bind(c, b + b, cel.bind(d, c + c, cel.bind(e, d + d, e + e + e + e + e + e))))).size() > 0",
    ] {
        let program = compile(text, &env, &[Type::Bool]).unwrap_or_else(|e| panic!("{text}: {e}"));
        let vars = Vars::new().with("o", Value::json(&big));
        let start = std::time::Instant::now();
        assert_eq!(eval(&program, &vars, &mut Budget::new(cel::RULES_BUDGET)), Err(EvalError::CallCost), "{text}");
        assert!(start.elapsed().as_secs() < 20, "{text}");
        let mut budget = Budget::new(1000);
        assert_eq!(eval(&program, &vars, &mut budget), Err(EvalError::Budget), "{text}");
        assert!(budget.remaining < 0);
    }
    // Values that share parts: small to make, endless to walk.
    let mut text = "a30 == b30".to_string();
    for i in (1..=30).rev() {
        text = format!("cel.bind(a{i}, [a{0}, a{0}], cel.bind(b{i}, [b{0}, b{0}], {text}))", i - 1);
    }
    text = format!("cel.bind(a0, [1], cel.bind(b0, [1], {text}))");
    match compile(&text, &env, &[]) {
        Ok(program) => {
            assert_eq!(eval(&program, &Vars::new(), &mut Budget::new(cel::RULES_BUDGET)), Err(EvalError::CallCost));
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn the_authorizer_is_asked_by_whoever_evaluates() {
    let env = Env::new().with("authorizer", Type::named("kubernetes.authorization.Authorizer"));
    let text = "authorizer.group('').resource('pods').subresource('log').namespace('d').name('n').check('get').allowed() \
        && authorizer.serviceAccount('d', 'sa').path('/healthz').check('get').reason() == 'r'";
    let program = compile(text, &env, &[Type::Bool]).unwrap();
    let mut answers = cel::authorizer::Answers::new();
    let mut asked = Vec::new();
    let result = loop {
        match eval(&program, &Vars::new().with_authorizer(&answers), &mut Budget::new(cel::POLICY_BUDGET)) {
            Err(EvalError::Unanswered(check)) => {
                asked.push(format!("{} {} {} {}", check.verb, check.resource, check.subresource, check.path));
                answers.insert(
                    *check,
                    cel::authorizer::Verdict { allowed: true, reason: "r".into(), error: String::new() },
                );
            }
            done => break done.map(|v| v == Value::Bool(true)),
        }
    };
    assert_eq!((result, asked), (Ok(true), vec!["get pods log ".to_string(), "get   /healthz".to_string()]));
    for wrong in ["authorizer.resource('pods')", "authorizer.check('get')", "authorizer.group('').check('get')"] {
        assert!(compile(wrong, &env, &[]).is_err(), "{wrong}");
    }
}
