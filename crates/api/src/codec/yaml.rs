//! YAML request bodies, read by way of JSON as upstream does, and YAML answers.
//!
//! Keys become strings, YAML 1.1's booleans (`yes`, `off`) and octal numbers (`0644`) count, anchors and aliases
//! are expanded within bounds, and only one document is taken.

use super::json::{AnySeed, Cx, DecodeError, Decoded, decode_value};
use meta::schema::{TypeId, Types};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::HashSet;

/// How deep YAML may nest; JSON, which is what tools send as YAML, may go deeper.
const DEPTH_MAX: usize = 64;

/// A document, and what its reader would complain of if it were strict.
#[derive(Debug, Default, PartialEq)]
pub struct Document {
    pub value: Value,
    /// Paths of keys that occur more than once in their map; the last one counts.
    pub duplicates: Vec<String>,
    /// The same as upstream's YAML reader words it:
    /// `yaml: unmarshal errors:\n  line 3: key "replicas" already set in map`.
    pub complaint: Option<String>,
}

/// Decodes a YAML body against a type.
pub fn decode(types: &Types, ty: TypeId, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let document = parse(bytes)?;
    let mut out = decode_value(types, ty, &document.value)?;
    // Upstream's YAML reader reports duplicates before the fields are looked at.
    let mut problems: Vec<String> = document.complaint.into_iter().collect();
    problems.append(&mut out.problems);
    Ok(Decoded { duplicates: document.duplicates, problems, ..out })
}

/// A YAML document as the JSON value that it stands for.
pub fn parse(bytes: &[u8]) -> Result<Document, DecodeError> {
    let none = Types::default();
    let mut cx = Cx::new(&none);
    // JSON is YAML too, and much faster to read as what it is: `kubectl apply --server-side` sends it.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{') {
        let mut de = serde_json::Deserializer::from_slice(bytes);
        if let Ok(value) = AnySeed(&mut cx).deserialize(&mut de)
            && de.end().is_ok()
        {
            return Ok(document(value, cx.duplicates, bytes));
        }
        cx = Cx::new(&none);
    }
    serde_saphyr::with_deserializer_from_slice_with_options(bytes, options(), |de| AnySeed(&mut cx).deserialize(de))
        .map(|value| document(value, std::mem::take(&mut cx.duplicates), bytes))
        .map_err(|e| DecodeError::Syntax(format!("error converting YAML to JSON: yaml: {}", placed(&e.to_string()))))
}

/// The line of a fault comes before what is wrong, as Go's reader has it, which says nothing of the first one.
fn placed(fault: &str) -> String {
    match fault.rsplit_once(" at line ") {
        Some((why, place)) => match place.split(',').next().unwrap_or_default() {
            "1" => why.to_string(),
            line => format!("line {line}: {why}"),
        },
        None => fault.to_string(),
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        ignore_binary_tag_for_string: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
    }
}

fn document(value: Value, duplicates: Vec<String>, bytes: &[u8]) -> Document {
    let complaint = (!duplicates.is_empty()).then(|| {
        let mut found = Vec::new();
        // Read again, slowly: only who made a mistake pays for the line numbers.
        let read = serde_saphyr::with_deserializer_from_slice_with_options(bytes, options(), |de| {
            Repeated(&mut found).deserialize(de)
        });
        if read.is_err() || found.is_empty() {
            found = duplicates.iter().map(|d| (0, d.rsplit('.').next().unwrap_or(d).to_string())).collect();
        }
        let lines: Vec<String> = found
            .iter()
            .map(|(line, key)| match line {
                0 => format!("key {key:?} already set in map"),
                line => format!("line {line}: key {key:?} already set in map"),
            })
            .collect();
        format!("yaml: unmarshal errors:\n  {}", lines.join("\n  "))
    });
    Document { value, duplicates, complaint }
}

/// Finds keys that occur again, with their lines.
struct Repeated<'a>(&'a mut Vec<(u64, String)>);

impl<'de> DeserializeSeed<'de> for Repeated<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Repeated<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Repeated(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<serde_saphyr::Spanned<String>>()? {
            if !seen.insert(key.value.clone()) {
                self.0.push((key.referenced.line(), key.value));
            }
            map.next_value_seed(Repeated(&mut *self.0))?;
        }
        Ok(())
    }
}

/// A JSON value as YAML: keys sorted, lists indented no deeper than their key, as kubectl prints them.
pub fn to_string(value: &Value) -> Result<String, String> {
    let options = serde_saphyr::ser_options! {
        compact_list_indent: true,
        folded_wrap_chars: usize::MAX,
    };
    serde_saphyr::to_string_with_options(value, options).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::types;
    use serde_json::json;

    fn deployment(text: &str) -> Result<Decoded, DecodeError> {
        decode(types(), types().named("api.apps.v1.Deployment").unwrap(), text.as_bytes())
    }

    #[test]
    fn faults_are_placed_as_gos_reader_does() {
        for (text, why) in [
            ("a: b: c", "mapping values are not allowed in this context"),
            ("x: 1\na: b: c", "line 2: mapping values are not allowed in this context"),
        ] {
            let want = DecodeError::Syntax(format!("error converting YAML to JSON: yaml: {why}"));
            assert_eq!(parse(text.as_bytes()), Err(want));
        }
    }

    #[test]
    fn manifests_read_as_kubectl_would_send_them() {
        let got = deployment(
            "# a comment\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  labels: {app: \"1\"}\n\
             spec:\n  replicas: 3\n  paused: yes\n  template:\n    spec:\n      volumes:\n      - name: s\n        secret:\n          defaultMode: 0644\n\
             \x20     containers:\n      - name: c\n        command: [sh, -c, |\n          echo a\n          ]\n        resources:\n          limits: {cpu: 1, memory: 1Gi}\n",
        );
        // A block scalar can't be inside a flow list.
        assert!(got.is_err());
        let got = deployment(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  labels: {app: \"1\"}\n\
             spec:\n  replicas: 3\n  paused: yes\n  template:\n    spec:\n      volumes:\n      - name: s\n        secret:\n          defaultMode: 0644\n\
             \x20     containers:\n      - name: c\n        command:\n        - |\n          echo a\n          echo b\n        resources:\n          limits: {cpu: 1, memory: 1Gi}\n",
        )
        .unwrap();
        assert_eq!(got.problems, Vec::<String>::new());
        assert_eq!(
            got.value,
            json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"app":"1"}},
                "spec":{"replicas":3,"paused":true,"template":{"spec":{"volumes":[{"name":"s","secret":{"defaultMode":420}}],
                "containers":[{"name":"c","command":["echo a\necho b\n"],"resources":{"limits":{"cpu":"1","memory":"1Gi"}}}]}}}})
        );
    }

    #[test]
    fn mistakes_are_reported() {
        let got = deployment("spec:\n  replicas: 1\n  replicas: 2\n  foo: 1\n").unwrap();
        assert_eq!(got.value["spec"]["replicas"], 2);
        assert_eq!(
            got.strict_error().unwrap().to_string(),
            "strict decoding error: yaml: unmarshal errors:\n  line 3: key \"replicas\" already set in map, unknown field \"spec.foo\""
        );
        assert!(deployment("a: [1").unwrap_err().to_string().starts_with("error converting YAML to JSON: yaml: "));
        assert_eq!(
            deployment("spec:\n  replicas: many\n").unwrap_err().to_string(),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
        );
    }

    /// Upstream's YAML becomes JSON first, and whole floats lose their point on the way.
    #[test]
    fn whole_floats_are_integers() {
        for text in ["3.0", "3e0", "0.3e+1"] {
            for body in [format!("spec:\n  replicas: {text}\n"), format!("{{\"spec\": {{\"replicas\": {text}}}}}")] {
                assert_eq!(deployment(&body).unwrap().value["spec"]["replicas"], 3, "{body}");
            }
        }
        assert_eq!(
            deployment("spec:\n  replicas: 1.5\n").unwrap_err().to_string(),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"
        );
    }

    #[test]
    fn repeated_keys_are_told_with_their_lines() {
        for (text, want) in [
            ("a: 1\nb: 2\n", None),
            ("a: 1\nb:\n- {x: 1, x: 2}\na: 2\n", Some(&["line 3: key \"x\"", "line 4: key \"a\""][..])),
            ("\nspec:\n  foo: 1\n  foo: 2\n", Some(&["line 4: key \"foo\""])),
            ("{\"a\":1,\n\"a\":2}", Some(&["line 2: key \"a\""])),
        ] {
            let want = want.map(|w| {
                let lines: Vec<String> = w.iter().map(|l| format!("\n  {l} already set in map")).collect();
                format!("yaml: unmarshal errors:{}", lines.concat())
            });
            assert_eq!(parse(text.as_bytes()).unwrap().complaint, want, "{text}");
        }
    }

    #[test]
    fn bombs_and_depths_are_bounded() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            bomb += &format!("a{i}: &a{i} [{refs}]\n");
        }
        assert!(parse(bomb.as_bytes()).is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse("- ".repeat(100_000).as_bytes()).is_err());
        assert!(parse(b"a: \xff\xfe").is_err());
    }

    #[test]
    fn yaml_written_is_yaml_read() {
        let v = json!({"b":{"yes":"no","n":"1","t":"true","o":"0644","d":"2026-01-02","m":"a\nb\n","e":"","s":" x ","nul":"null","tilde":"~"},
            "a":[{"x":1,"y":[]},{"z":{}}],"long":"word ".repeat(60)});
        let text = to_string(&v).unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap().value, v, "{text}");
        assert!(text.starts_with("a:\n- x: 1\n  \"y\": []\n"), "{text}");
    }
}
