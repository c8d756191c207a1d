//! Where hostile values come from: a seed, the server's own OpenAPI document, and a list of things that have broken
//! servers before.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

pub struct Mutator {
    pub rng: StdRng,
    /// Protobuf bodies that the server has sent, by resource.
    pub seen: HashMap<String, Vec<u8>>,
}

const STRINGS: &[&str] = &[
    "",
    "a",
    "fz-a",
    "default",
    "fuzz",
    "true",
    "null",
    "0",
    "-1",
    "1",
    "80",
    "http",
    "10%",
    "-10%",
    "1e9%",
    "101%",
    "1000000000000000000000%",
    "%",
    "10.42.0.1",
    "999.1.1.1",
    "::1",
    "::ffff:1.2.3.4",
    "fe80::1%eth0",
    "10.0.0.0/8",
    "10.0.0.0/99",
    "0.0.0.0",
    "1Gi",
    "1e999",
    "-1",
    "1e-999",
    "99999999999999999999999999999999999999E",
    "0.0000000000000000000000000001",
    "1.5.5",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808Ei",
    "2026-01-01T00:00:00Z",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "-9999-01-01T00:00:00Z",
    "2026-01-01T00:00:00.999999999999Z",
    "1h",
    "-1h",
    "1e99h",
    "*/5 * * * *",
    "0 0 31 2 *",
    "@every 1ns",
    "TZ=UTC * * * * *",
    "* * * * * *",
    "99 * * * *",
    "../../etc/passwd",
    "/",
    "//",
    "/a/../../b",
    "a/b",
    "a/b/c",
    "kubernetes.io/a",
    "\u{0}",
    "\u{7f}",
    "\n",
    "\r\n",
    "\t",
    "ä",
    "\u{1F600}",
    "\u{202e}x",
    "\u{feff}",
    "%00",
    "%2e%2e%2f",
    "$(A)",
    "$(",
    "${x}",
    "{{.}}",
    "{}",
    "[]",
    "\\",
    "\"",
    "'",
    "`",
    "a=b,c!=d",
    "a in (b",
    "!",
    "((((((((((((((((((((((((((((((((",
    "(a+)+$",
    "[[:alpha:]",
    "*",
    "**",
    "?",
    "self",
    "self.spec",
    "self.a.b.c == 1",
    "1/0",
    "Always",
    "Never",
    "ClusterIP",
    "NodePort",
    "ExternalName",
    "LoadBalancer",
    "TCP",
    "SCTP",
    "Localhost",
    "IPv4",
    "IPv6",
    "DualStack",
    "Exists",
    "In",
    "NotIn",
    "Gt",
    "Recreate",
    "RollingUpdate",
    "Orphan",
    "v1",
    "apps/v1",
    "a/b/c/d",
    "system:masters",
    "system:node:node1",
    "spec.nodeName",
    "rbac.authorization.k8s.io",
    "kubernetes.io/service-account-token",
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/tls",
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    "LS0tLS1CRUdJTg==",
    "====",
    "AAA",
    "00000000-0000-0000-0000-000000000000",
];

const INTEGERS: &[i64] = &[
    0,
    1,
    -1,
    2,
    3,
    7,
    80,
    255,
    256,
    1023,
    1024,
    8080,
    30000,
    32767,
    32768,
    65535,
    65536,
    100,
    101,
    1_000_000,
    2_147_483_647,
    -2_147_483_648,
    2_147_483_648,
    4_294_967_296,
    9_223_372_036_854_775_807,
    -9_223_372_036_854_775_808,
    9_007_199_254_740_993,
    253_402_300_800,
    86_400,
];

const KEYS: &[&str] = &[
    "",
    "a",
    "metadata",
    "name",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "f:spec",
    "k:{\"a\":1}",
    ".",
    "__proto__",
    "spec",
    "a/b",
    "ä\u{0}",
];

impl Mutator {
    pub fn new(seed: u64) -> Mutator {
        Mutator { rng: StdRng::seed_from_u64(seed), seen: HashMap::new() }
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        of.choose(&mut self.rng).unwrap_or_else(|| unreachable!("lists of choices aren't empty"))
    }

    pub fn string(&mut self) -> String {
        match self.rng.random_range(0..40) {
            0 => "x".repeat(self.rng.random_range(60..70)),
            1 => "y".repeat(self.rng.random_range(250..260)),
            2 => "z.".repeat(20_000),
            3 => (0..self.rng.random_range(1..9)).map(|_| self.rng.random::<char>()).collect(),
            4 => self.rng.random::<i64>().to_string(),
            _ => (*self.pick(STRINGS)).to_string(),
        }
    }

    fn integer(&mut self) -> i64 {
        *self.pick(INTEGERS)
    }

    /// Any JSON value at all.
    pub fn anything(&mut self, depth: u32) -> Value {
        match self.rng.random_range(0..if depth > 3 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => self.chance(50).into(),
            2 => self.integer().into(),
            3 => json!(*self.pick(&[0.5, -0.0, 1e300, 1e-300, 3.0, f64::MAX])),
            4 | 5 => self.string().into(),
            6 => (0..self.rng.random_range(0..4)).map(|_| self.anything(depth + 1)).collect(),
            7 => {
                let n = self.rng.random_range(0..4);
                Value::Object((0..n).map(|_| ((*self.pick(KEYS)).to_string(), self.anything(depth + 1))).collect())
            }
            _ => json!(u64::MAX),
        }
    }

    /// A value of the schema's type, whose contents are whatever the type allows.
    pub fn of_schema(&mut self, schemas: &Map<String, Value>, schema: &Value, depth: u32) -> Value {
        if let Some(name) = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str()) {
            let name = name.rsplit('/').next().unwrap_or_default();
            return self.of_schema(schemas, schemas.get(name).unwrap_or(&Value::Null), depth);
        }
        match (schema["type"].as_str().unwrap_or(""), schema["format"].as_str().unwrap_or("")) {
            ("string", "date-time") => (*self.pick(&[
                "2026-01-01T00:00:00Z",
                "0001-01-01T00:00:00Z",
                "9999-12-31T23:59:59Z",
                "1969-12-31T23:59:59Z",
            ]))
            .into(),
            ("string", "byte") => (*self.pick(&["", "AAAA", "////", "LS0tLS1CRUdJTg=="])).into(),
            ("string", "int-or-string") | ("", "int-or-string") => match self.chance(50) {
                true => (self.integer() as i32).into(),
                false => self.string().into(),
            },
            ("string", _) => match schema["enum"].as_array().filter(|e| !e.is_empty()) {
                Some(e) if self.rng.random_range(0..10) > 0 => self.pick(e).clone(),
                _ => self.string().into(),
            },
            ("integer", "int32") => (self.integer() as i32).into(),
            ("integer", _) => self.integer().into(),
            ("number", _) => json!(0.5),
            ("boolean", _) => self.chance(50).into(),
            ("array", _) => {
                let n = if depth > 8 { 0 } else { self.rng.random_range(0..3) };
                (0..n).map(|_| self.of_schema(schemas, &schema["items"], depth + 1)).collect()
            }
            ("object", _) => {
                let mut out = Map::new();
                if let Some(properties) = schema["properties"].as_object() {
                    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
                    let likely = 70 / (1 + depth / 2);
                    for (name, p) in properties {
                        if matches!(name.as_str(), "apiVersion" | "kind" | "managedFields") && depth < 2 {
                            continue;
                        }
                        if depth < 10 && (required.iter().any(|r| r == name) || self.chance(likely)) {
                            out.insert(name.clone(), self.of_schema(schemas, p, depth + 1));
                        }
                    }
                } else if schema["additionalProperties"].is_object() {
                    for _ in 0..self.rng.random_range(0..3) {
                        let key = if self.chance(50) { "cpu".into() } else { self.string() };
                        out.insert(key, self.of_schema(schemas, &schema["additionalProperties"], depth + 1));
                    }
                } else {
                    return self.anything(depth);
                }
                Value::Object(out)
            }
            _ => match self.chance(30) {
                true => self.anything(depth),
                // Quantities and times have no type of their own in every document.
                false => self.string().into(),
            },
        }
    }

    /// Changes one place in the value.
    pub fn mutate(&mut self, value: &mut Value) {
        // Down a random path, to a random depth.
        let mut at = value;
        for _ in 0..self.rng.random_range(0..9) {
            let (len, is_leaf) = match &*at {
                Value::Object(o) => (o.len(), o.is_empty()),
                Value::Array(a) => (a.len(), a.is_empty()),
                _ => (0, true),
            };
            if is_leaf {
                break;
            }
            let i = self.rng.random_range(0..len);
            let next = match &mut *at {
                Value::Object(o) => o.values_mut().nth(i),
                Value::Array(a) => a.get_mut(i),
                _ => None,
            };
            match next {
                Some(n) => at = n,
                None => return,
            }
        }
        let kind = self.rng.random_range(0..10);
        match (at, kind) {
            (Value::Object(o), 0..=2) if !o.is_empty() => {
                let i = self.rng.random_range(0..o.len());
                if let Some(k) = o.keys().nth(i).cloned() {
                    o.remove(&k);
                }
            }
            (Value::Object(o), 3..=6) => {
                let key = (*self.pick(KEYS)).to_string();
                o.insert(key, self.anything(0));
            }
            (Value::Array(a), 0..=5) if !a.is_empty() => {
                let copy = self.pick(a).clone();
                a.push(copy);
            }
            (Value::String(s), 0..=6) => *s = self.string(),
            (Value::Number(n), 0..=6) => *n = self.integer().into(),
            (v, _) => *v = self.anything(0),
        }
    }

    /// Bytes of a body, perhaps spoilt.
    pub fn bytes(&mut self, value: &Value) -> Vec<u8> {
        let mut text = value.to_string().into_bytes();
        match self.rng.random_range(0..60) {
            0 => text.truncate(self.rng.random_range(0..text.len())),
            1 => {
                let i = self.rng.random_range(0..text.len());
                text[i] = self.rng.random();
            }
            2 => text = [b"[".repeat(100_000), text].concat(),
            3 => text = "{\"a\":".repeat(50_000).into_bytes(),
            4 => {
                text =
                    format!("{{\"metadata\":{{\"name\":\"fz-a\",\"name\":\"fz-b\"}},\"spec\":1e400,\"spec\":{text:?}}}")
                        .into_bytes()
            }
            5 => text.extend_from_slice(b"\xff\xfe trailing"),
            6 => {
                text = (*self.pick(&[
                    "",
                    "null",
                    "[]",
                    "1",
                    "\"x\"",
                    "true",
                    "\u{feff}{}",
                    "---",
                    "a: &a [*a]",
                    "&a [*a,*a]",
                    "<x/>",
                    "!!python/object:x {}",
                    "{",
                    "- - - - -",
                ]))
                .into()
            }
            7 => text = String::from_utf8_lossy(&text).replace(":1", ":123456789012345678901234567890").into_bytes(),
            8 => text = String::from_utf8_lossy(&text).replace("\"fz-", "\"\\ud800fz-").into_bytes(),
            9 => text = format!("{}a: b", "? ".repeat(3_000)).into_bytes(),
            _ => {}
        }
        text
    }

    /// A body that the server has sent itself, with a few bytes changed; else noise behind the magic number.
    pub fn protobuf(&mut self, resource: &str) -> Vec<u8> {
        if let Some(mut body) = self.seen.get(resource).cloned().filter(|b| b.len() > 4)
            && self.chance(90)
        {
            for _ in 0..self.rng.random_range(0..4) {
                let i = self.rng.random_range(4..body.len());
                match self.rng.random_range(0..3) {
                    0 => body[i] = self.rng.random(),
                    1 => body[i] = body[i].wrapping_add(1),
                    _ => body.truncate(i.max(5)),
                }
            }
            return body;
        }
        let mut out = b"k8s\0".to_vec();
        for _ in 0..self.rng.random_range(0..60) {
            match self.rng.random_range(0..4) {
                0 => out.push(self.rng.random()),
                1 => out.extend_from_slice(&[0x0a, self.rng.random_range(0..20)]),
                2 => out.extend_from_slice(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
                _ => out.extend_from_slice(&[0x12, 0x04, 0x0a, 0x02, 0x0a, 0x00]),
            }
        }
        out
    }

    /// `?…` of a request.
    pub fn query(&mut self) -> String {
        const NAMES: &[&str] = &[
            "labelSelector",
            "fieldSelector",
            "watch",
            "allowWatchBookmarks",
            "sendInitialEvents",
            "resourceVersion",
            "resourceVersionMatch",
            "timeoutSeconds",
            "limit",
            "continue",
            "dryRun",
            "fieldManager",
            "fieldValidation",
            "force",
            "gracePeriodSeconds",
            "propagationPolicy",
            "orphanDependents",
            "includeObject",
            "pretty",
            "timeout",
            "container",
            "tailLines",
            "sinceTime",
            "sinceSeconds",
            "limitBytes",
            "command",
            "stdin",
            "stdout",
            "ports",
        ];
        const VALUES: &[&str] = &[
            "",
            "0",
            "1",
            "-1",
            "true",
            "false",
            "All",
            "None",
            "Exact",
            "NotOlderThan",
            "9223372036854775807",
            "18446744073709551615",
            "99999999999999999999999",
            "1e3",
            "a%3Db",
            "a%20in%20(b,c)",
            "a%20in%20(",
            "!a",
            "!!",
            "a%3D%3Db%3D%3Dc",
            "%ff%fe",
            "%",
            "%zz",
            "+",
            "metadata.name%3Dx",
            "metadata.namespace%3Dx",
            "spec.nodeName%3Dx",
            "status.phase!%3DRunning",
            "no.such%3Dx",
            "metadata.name%3D",
            "%3D",
            ",",
            ",,,",
            "a%3Db,a%3Dc",
            "Foreground",
            "Orphan",
            "Strict",
            "Ignore",
            "Metadata",
            "Object",
            "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0",
            "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6OTIyMzM3MjAzNjg1NDc3NTgwNywic3RhcnQiOiIuLi8uLi8ifQ",
            "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiXHUwMDAwIn0",
            "e30",
            "bnVsbA",
            "1s",
            "-1s",
            "1h",
            "2026-01-01T00:00:00Z",
        ];
        let n = match self.rng.random_range(0..10) {
            0..=3 => 0,
            4..=7 => 1,
            _ => self.rng.random_range(2..5),
        };
        let mut out = String::new();
        for _ in 0..n {
            let (name, value) = (*self.pick(NAMES), *self.pick(VALUES));
            out.push(if out.is_empty() { '?' } else { '&' });
            out.push_str(&format!("{name}={value}"));
        }
        out
    }
}
