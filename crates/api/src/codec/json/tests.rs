use super::*;
use crate::facts::types;
use serde_json::json;

fn ty(name: &str) -> TypeId {
    types().named(name).unwrap()
}

fn deployment(body: &str) -> Result<Decoded, DecodeError> {
    decode(types(), ty("api.apps.v1.Deployment"), body.as_bytes())
}

fn pod(body: &str) -> Result<Decoded, DecodeError> {
    decode(types(), ty("api.core.v1.Pod"), body.as_bytes())
}

#[test]
fn a_word_that_is_none_is_told_as_go_does() {
    let said = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
    for (text, want) in [
        ("nope", "invalid character 'o' in literal null (expecting 'u')"),
        ("{\"a\":trve}", "invalid character 'v' in literal true (expecting 'u')"),
        ("[falsy]", "invalid character 'y' in literal false (expecting 'e')"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
    ] {
        assert_eq!(said(text), want, "{text}");
    }
}

#[test]
fn zero_values_that_go_would_not_write_are_dropped() {
    let got = pod(r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","creationTimestamp":null,"labels":{},
        "generation":0,"annotations":{"a":null}},
        "spec":{"nodeName":"","hostNetwork":false,"containers":[{"name":"c","image":"i","resources":{},"args":[],
        "ports":[{"containerPort":0}],"stdin":true}],"terminationGracePeriodSeconds":0,"securityContext":{},
        "volumes":[{"name":"v","emptyDir":{}}]},"status":{}}"#)
    .unwrap();
    assert_eq!(
        got.value,
        json!({"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","annotations":{"a":""}},
            "spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":0}],"stdin":true}],
            "terminationGracePeriodSeconds":0,"securityContext":{},"volumes":[{"name":"v","emptyDir":{}}]}})
    );
    assert_eq!(got.strict_error(), None);
}

#[test]
fn unknown_and_duplicate_fields_are_reported_with_their_paths() {
    let got = deployment(
        r#"{"kind":"Deployment","metadata":{"labels":{"a":"1","a":"2"}},"spec":{"replicas":1,"replicas":2,"foo":{"bar":[1]},
        "template":{"spec":{"containers":[{"name":"a"},{"name":"b","imge":"x","Image":"y"}]}}},"x":1}"#,
    )
    .unwrap();
    assert_eq!(got.value["spec"]["replicas"], 2);
    assert_eq!(got.value["metadata"]["labels"]["a"], "2");
    assert_eq!(got.value["spec"].get("foo"), None);
    assert_eq!(
        got.unknown,
        ["spec.foo", "spec.template.spec.containers[1].imge", "spec.template.spec.containers[1].Image", "x"]
    );
    assert_eq!(got.duplicates, ["metadata.labels.a", "spec.replicas"]);
    assert_eq!(
        got.strict_error().unwrap().cannot_handle("Deployment", "v1"),
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
         duplicate field \"metadata.labels.a\", duplicate field \"spec.replicas\", unknown field \"spec.foo\", \
         unknown field \"spec.template.spec.containers[1].imge\", \
         unknown field \"spec.template.spec.containers[1].Image\", unknown field \"x\""
    );
}

#[test]
fn a_later_duplicate_zero_wins_too() {
    let got = pod(r#"{"spec":{"hostNetwork":true,"hostNetwork":false}}"#).unwrap();
    assert_eq!(got.value, json!({}));
}

#[test]
fn wrong_types_are_refused_in_upstreams_words() {
    let cases = [
        (
            r#"{"spec":{"replicas":"3"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"metadata":{"labels":[]}}"#,
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"a","value":true}]}]}}}}"#,
            "json: cannot unmarshal bool into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (r#"[]"#, "json: cannot unmarshal array into Go value of type v1.Deployment"),
        (
            r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":true}}}}"#,
            "json: cannot unmarshal bool into Go value of type int32",
        ),
    ];
    for (body, message) in cases {
        assert_eq!(deployment(body), Err(DecodeError::Type(message.into())), "{body}");
    }
}

#[test]
fn times_and_bytes_have_one_form() {
    let got = pod(r#"{"metadata":{"creationTimestamp":"2026-01-02T03:04:05.999+02:00"}}"#).unwrap();
    assert_eq!(got.value["metadata"]["creationTimestamp"], "2026-01-02T01:04:05Z");
    let lease = ty("api.coordination.v1.Lease");
    let got = decode(types(), lease, br#"{"spec":{"renewTime":"2026-01-02T03:04:05.1234567Z"}}"#).unwrap();
    assert_eq!(got.value["spec"]["renewTime"], "2026-01-02T03:04:05.123456Z");
    let secret = ty("api.core.v1.Secret");
    let got = decode(types(), secret, br#"{"data":{"a":"aGVs\nbG8="}}"#).unwrap();
    assert_eq!(got.value["data"]["a"], "aGVsbG8=");
    let err = decode(types(), secret, br#"{"data":{"a":"aG*sbG8="}}"#).unwrap_err();
    assert_eq!(err.to_string(), "illegal base64 data at input byte 2");
    let err = pod(r#"{"metadata":{"creationTimestamp":"yesterday"}}"#).unwrap_err();
    assert_eq!(
        err.to_string(),
        "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\""
    );
}

#[test]
fn schemas_are_cleaned_inside_their_unions() {
    let crd = ty("apiextensions_apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition");
    let got = decode(
        types(),
        crd,
        br#"{"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{"type":"object","properties":{"a":
        {"additionalProperties":false,"items":{"type":"string","bogus":1,"title":""},"default":{"x":null}}}}}}]}}"#,
    )
    .unwrap();
    assert_eq!(
        got.value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["a"],
        json!({"additionalProperties":false,"items":{"type":"string"},"default":{"x":null}})
    );
}

#[test]
fn hostile_input_is_refused_not_crashed_on() {
    let deep = "[".repeat(200_000);
    assert_eq!(pod(&deep).unwrap_err().to_string(), "json: cannot unmarshal array into Go value of type v1.Pod");
    let object_chain = r#"{"a":"#.repeat(100_000);
    let review = ty("api.admission.v1.AdmissionReview");
    let body = format!(r#"{{"request":{{"object":{object_chain}"#);
    assert_eq!(decode(types(), review, body.as_bytes()).unwrap_err().to_string(), "exceeded max depth");
    assert_eq!(pod("").unwrap_err().to_string(), "unexpected end of JSON input");
    assert_eq!(pod(r#"{"spec":"#).unwrap_err().to_string(), "unexpected end of JSON input");
    assert!(matches!(pod("{} x"), Err(DecodeError::Syntax(_))));
    assert!(matches!(pod("{\"a\" 1}"), Err(DecodeError::Syntax(_))));
    for n in 0..=255u8 {
        let _ = decode(types(), ty("api.core.v1.Pod"), &[b'{', n, b'}', n]);
    }
    let many: String = (0..500).map(|i| format!("\"f{i}\":1,")).collect();
    assert_eq!(pod(&format!("{{{many}\"kind\":\"Pod\"}}")).unwrap().unknown.len(), 100);
}

#[test]
fn decoding_is_idempotent_and_the_same_from_a_parsed_value() {
    let body = r#"{"kind":"Pod","metadata":{"creationTimestamp":null,"name":"x"},"spec":{"priority":0,"containers":[null,{"name":"a"}]}}"#;
    let once = pod(body).unwrap().value;
    let again = decode_value(types(), ty("api.core.v1.Pod"), &once).unwrap();
    assert_eq!(once, again.value);
    let from_value = decode_value(types(), ty("api.core.v1.Pod"), &serde_json::from_str(body).unwrap()).unwrap().value;
    assert_eq!(once, from_value);
}

#[test]
fn canonical_bytes_start_with_type_and_metadata() {
    let v = json!({"spec":{"b":1,"a":[{"z":1,"y":"\"<"}]},"metadata":{"name":"x"},"kind":"K","apiVersion":"v1","data":null});
    assert_eq!(
        String::from_utf8(canonical(&v)).unwrap(),
        r#"{"apiVersion":"v1","kind":"K","metadata":{"name":"x"},"data":null,"spec":{"a":[{"y":"\"<","z":1}],"b":1}}"#
    );
}

#[test]
fn durations_read_and_write_as_go_does() {
    for (text, nanos, canonical) in [
        ("1h", 3_600_000_000_000, "1h0m0s"),
        ("90s", 90_000_000_000, "1m30s"),
        ("1.5s", 1_500_000_000, "1.5s"),
        ("-2ms", -2_000_000, "-2ms"),
        ("0", 0, "0s"),
        ("1h1m1.001s", 3_661_001_000_000, "1h1m1.001s"),
    ] {
        assert_eq!(parse_duration(text), Some(nanos), "{text}");
        assert_eq!(format_duration(nanos), canonical);
    }
    for bad in ["", "1", "1x", "s", "1..5s", "999999999999999999h"] {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
}

#[test]
fn custom_types_keep_or_drop_what_their_schema_does_not_know() {
    use meta::schema::{Type, Types};
    let mut types = Types::default();
    let text = types.push(Type { name: String::new(), shape: Shape::String });
    let any = types.push(Type { name: String::new(), shape: Shape::Any });
    let mut make = |preserve_unknown: bool| {
        let fields: Vec<Field> = [("a", text), ("any", any)]
            .into_iter()
            .map(|(name, ty)| Field {
                name: name.into(),
                ty,
                required: false,
                pointer: true,
                omitempty: false,
                proto: 0,
                retain_keys: false,
                patch_replaces: false,
            })
            .collect();
        let by_name = fields.iter().enumerate().map(|(i, f)| (f.name.clone(), i as u32)).collect();
        let shape = Shape::Struct(Struct { fields, by_name, preserve_unknown, ..Default::default() });
        types.push(Type { name: String::new(), shape })
    };
    let (closed, open) = (make(false), make(true));
    let body = br#"{"a":"","b":{"c":1,"c":2},"any":{"x":null,"x":[1.0]}}"#;
    let got = decode(&types, closed, body).unwrap();
    assert_eq!(got.value, json!({"a":"","any":{"x":[1]}}));
    assert_eq!((got.unknown, got.duplicates), (vec!["b".to_string()], vec!["any.x".to_string()]));
    let got = decode(&types, open, body).unwrap();
    assert_eq!(got.value, json!({"a":"","b":{"c":2},"any":{"x":[1]}}));
    assert_eq!((got.unknown, got.duplicates), (vec![], vec!["b.c".to_string(), "any.x".to_string()]));
}

#[test]
fn text_is_read_as_go_reads_it() {
    for (bytes, want) in [
        (&b"[\"a\xffb\"]"[..], "a\u{fffd}b"),
        (b"[\"\xc3\xa4\"]", "\u{e4}"),
        (b"[\"\\u0000\"]", "\0"),
        (b"[\"\\ud83d\\ude00\"]", "\u{1f600}"),
        (b"[\"\\ud83d\\ud83d\\ude00\"]", "\u{fffd}\u{1f600}"),
        (b"[\"\\ud800\"]", "\u{fffd}"),
        (b"[\"\\udc00x\"]", "\u{fffd}x"),
        (b"[\"\\ud800\\u0041\"]", "\u{fffd}A"),
        (b"[\"\\\\ud800\"]", "\\ud800"),
        (b"[\"\xff\\\\\\ud800\"]", "\u{fffd}\\\u{fffd}"),
    ] {
        assert_eq!(parse(bytes).unwrap().0, json!([want]), "{}", String::from_utf8_lossy(bytes));
    }
    for bad in [&b"[\"\\ud8\"]"[..], b"\xff", b"[\"\\ud800]", b"[\"\\x\"]"] {
        assert!(matches!(parse(bad), Err(DecodeError::Syntax(_))), "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn words_that_are_none_break_where_gos_do() {
    for (text, why) in [
        ("nope", "invalid character 'o' in literal null (expecting 'u')"),
        ("[trie]", "invalid character 'i' in literal true (expecting 'u')"),
        ("{\"a\":falsy}", "invalid character 'y' in literal false (expecting 'e')"),
    ] {
        assert_eq!(parse(text.as_bytes()), Err(DecodeError::Syntax(why.into())), "{text}");
    }
}

#[test]
fn what_is_wrong_twice_is_told_once() {
    let body = r#"{"spec":{"foo":1,"foo":2,"replicas":1,"replicas":2,"replicas":3}}"#;
    let types = types();
    let got = decode(types, types.named("api.apps.v1.Deployment").unwrap(), body.as_bytes()).unwrap();
    assert_eq!(got.problems, [r#"unknown field "spec.foo""#, r#"duplicate field "spec.replicas""#]);
}

#[test]
fn integers_have_one_form_and_are_quoted_as_they_came() {
    const REPLICAS: &str = "Go struct field DeploymentSpec.spec.replicas of type int32";
    for (text, want) in [
        ("7", Ok(7)),
        ("-0", Ok(0)),
        ("-7", Ok(-7)),
        ("1e3", Err("1e3")),
        ("1E+3", Err("1E+3")),
        ("0.0", Err("0.0")),
        ("1.0", Err("1.0")),
        ("1.50", Err("1.50")),
        ("1e-400", Err("1e-400")),
        ("99999999999999999999", Err("99999999999999999999")),
        ("-2147483649", Err("-2147483649")),
    ] {
        for body in [
            format!("{{\"spec\":{{\"replicas\":{text}}}}}"),
            format!("{{\"kind\":\"2\",\n \"spec\": {{\n\"replicas\":\t{text} ,\n\"paused\":true}}}}\n"),
        ] {
            match (deployment(&body), want) {
                (Ok(got), Ok(n)) => assert_eq!(got.value["spec"]["replicas"], n, "{body}"),
                (got, Err(quoted)) => {
                    let message = format!("json: cannot unmarshal number {quoted} into {REPLICAS}");
                    assert_eq!(got, Err(DecodeError::Type(message)), "{body}");
                }
                (got, _) => panic!("{body}: {got:?}"),
            }
        }
    }
    let surge =
        |text: &str| deployment(&format!(r#"{{"spec":{{"strategy":{{"rollingUpdate":{{"maxSurge":{text}}}}}}}}}"#));
    assert_eq!(
        surge("1e3"),
        Err(DecodeError::Type("json: cannot unmarshal number 1e3 into Go value of type int32".into()))
    );
    assert_eq!(surge("-0").unwrap().value["spec"]["strategy"]["rollingUpdate"]["maxSurge"], 0);
}

/// Where there is no type, or it is that of floats, whole numbers are all alike.
#[test]
fn numbers_without_a_type_are_written_as_go_writes_them() {
    for (text, want) in [
        ("1e3", "1000"),
        ("1.0", "1"),
        ("-0", "0"),
        ("1.5", "1.5"),
        ("12345678901234567890", "12345678901234567890"),
        ("1e16", "10000000000000000"),
        ("1.5e20", "150000000000000000000"),
        ("1e21", "1e+21"),
        ("-2.5e30", "-2.5e+30"),
        ("0.00001", "0.00001"),
        ("1e-6", "0.000001"),
        ("-1.5e-7", "-1.5e-7"),
    ] {
        let (value, _) = parse(format!("{{\"x\":{text}}}").as_bytes()).unwrap();
        assert_eq!(String::from_utf8(canonical(&value)).unwrap(), format!("{{\"x\":{want}}}"), "{text}");
    }
    let mut types = Types::default();
    let any = types.push(meta::schema::Type { name: String::new(), shape: Shape::Any });
    assert_eq!(decode(&types, any, b"{\"x\":[1e3,{\"y\":2.0}]}").unwrap().value, json!({"x":[1000,{"y":2}]}));
    assert_eq!(decode(&types, any, b"1e3").unwrap().value, json!(1000));
}
