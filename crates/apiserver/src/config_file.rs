//! Configuration files of kube-apiserver's kinds (`apiserver.config.k8s.io`): YAML or JSON, decoded strictly.
//!
//! In: a file's text. Out: the typed object, or what is wrong with which field. Source: API reference, "kube-apiserver
//! Configuration".

use jiff::SignedDuration;
use serde::de::DeserializeOwned;
use serde_json::Value;

const GROUP: &str = "apiserver.config.k8s.io";

/// The object of this kind in one of these versions, newest first. Unknown and duplicate fields are mistakes.
pub fn decode<T: DeserializeOwned>(text: &str, kind: &str, versions: &[&str]) -> Result<T, String> {
    let mut value: Value = serde_saphyr::from_str(text).map_err(|e| format!("not valid YAML: {e}"))?;
    let Some(object) = value.as_object_mut() else { return Err("must be an object".to_string()) };
    let mut take = |key: &str| match object.remove(key) {
        Some(Value::String(s)) if !s.is_empty() => Ok(s),
        _ => Err(format!("{key}: Required value: must be a string")),
    };
    let (version, found) = (take("apiVersion")?, take("kind")?);
    let known: Vec<String> = versions.iter().map(|v| format!("{GROUP}/{v}")).collect();
    if found != kind || !known.contains(&version) {
        return Err(format!(
            "no kind {found:?} is registered for version {version:?}; expected {kind} of {}",
            known.join(" or ")
        ));
    }
    serde_path_to_error::deserialize(value).map_err(|e| {
        let (path, inner) = (e.path().to_string(), e.into_inner());
        match path.as_str() {
            "." => format!("strict decoding error: {inner}"),
            path => format!("strict decoding error: {path}: {inner}"),
        }
    })
}

/// A `metav1.Duration`, such as `3s`.
pub fn duration<'de, D: serde::Deserializer<'de>>(d: D) -> Result<SignedDuration, D::Error> {
    use serde::Deserialize;
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(SignedDuration::ZERO) };
    match api::codec::scalar::parse_duration(&text) {
        Some(n) => Ok(SignedDuration::from_nanos(n)),
        None => Err(serde::de::Error::custom(format!("{text:?} is no duration such as 3s or 5m"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Thing {
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Item {
        #[serde(default, deserialize_with = "duration")]
        time_out: SignedDuration,
    }

    #[test]
    fn mistakes_name_the_field() {
        let decode = |text: &str| decode::<Thing>(text, "Thing", &["v1", "v1beta1"]);
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: Thing\n";
        let good = decode(&format!("{head}items: [{{timeOut: 1m30s}}, {{}}]")).unwrap();
        assert_eq!(good.items[0].time_out, SignedDuration::from_secs(90));
        for (text, expected) in [
            ("items: [{timeout: 1s}]", "items[0]"),
            ("items: [{timeOut: soon}]", "items[0].timeOut: \"soon\" is no duration such as 3s or 5m"),
            ("items: 5", "items: invalid type: integer `5`, expected a sequence"),
            ("more: 1\nitems: []", "unknown field `more`"),
            ("items: []\nitems: []", "not valid YAML"),
        ] {
            let got = decode(&format!("{head}{text}")).unwrap_err();
            assert!(got.contains(expected), "{text}: {got}");
        }
        assert_eq!(decode("kind: Thing").unwrap_err(), "apiVersion: Required value: must be a string");
        let other = decode("apiVersion: v1\nkind: Thing").unwrap_err();
        assert!(other.starts_with("no kind \"Thing\" is registered for version \"v1\""), "{other}");
        assert!(decode("[]").is_err() && decode("{").is_err());
    }
}
