//! `configMap` volumes, and the same source within projected volumes.

use super::{FileEntry, Payload, VolumeError, checked_path};
use crate::objects::Resolved;
use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath};

const DEFAULT_MODE: i32 = 0o644;

pub fn payload(source: &ConfigMapVolumeSource, objects: &Resolved) -> Result<Payload, VolumeError> {
    project(&source.name, source.items.as_deref(), source.default_mode, source.optional == Some(true), objects)
}

pub fn project(
    name: &str,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
    objects: &Resolved,
) -> Result<Payload, VolumeError> {
    let Some(map) = objects.config_maps.get(name) else {
        return if optional { Ok(Payload::new()) } else { Err(VolumeError::ConfigMapMissing(name.to_owned())) };
    };
    let text = |key: &str| map.data.as_ref().and_then(|d| d.get(key)).map(|v| v.as_bytes().to_vec());
    let binary = |key: &str| map.binary_data.as_ref().and_then(|d| d.get(key)).map(|v| v.0.clone());
    let keys = map.data.iter().flat_map(|d| d.keys()).chain(map.binary_data.iter().flat_map(|d| d.keys()));
    select(
        keys,
        items,
        default_mode.unwrap_or(DEFAULT_MODE),
        optional,
        |key| text(key).or_else(|| binary(key)),
        VolumeError::ConfigKeyMissing,
    )
}

/// All keys under their own names, or the chosen ones under chosen paths and modes.
pub(super) fn select<'a>(
    keys: impl Iterator<Item = &'a String>,
    items: Option<&[KeyToPath]>,
    default_mode: i32,
    optional: bool,
    get: impl Fn(&str) -> Option<Vec<u8>>,
    missing: fn(String) -> VolumeError,
) -> Result<Payload, VolumeError> {
    let mut out = Payload::new();
    match items.filter(|i| !i.is_empty()) {
        None => {
            for key in keys {
                let data = get(key).unwrap_or_default();
                out.insert(checked_path(key)?.to_owned(), FileEntry { data, mode: default_mode as u32 });
            }
        }
        Some(items) => {
            for item in items {
                match get(&item.key) {
                    Some(data) => {
                        out.insert(
                            checked_path(&item.path)?.to_owned(),
                            FileEntry { data, mode: item.mode.unwrap_or(default_mode) as u32 },
                        );
                    }
                    None if optional => {}
                    None => return Err(missing(item.key.clone())),
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn keys_items_and_optional() {
        let mut objects = Resolved::default();
        objects.config_maps.insert(
            "m".into(),
            Arc::new(
                serde_json::from_value(
                    json!({"metadata": {}, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}}),
                )
                .unwrap(),
            ),
        );
        let check = |source: serde_json::Value| -> Result<Vec<String>, String> {
            let source: ConfigMapVolumeSource = serde_json::from_value(source).unwrap();
            let got = payload(&source, &objects).map_err(|e| e.to_string())?;
            Ok(got.iter().map(|(p, f)| format!("{p} {:o} {:?}", f.mode, f.data)).collect())
        };
        assert_eq!(check(json!({"name": "m"})).unwrap(), ["a 644 [49]", "b 644 [50]", "c 644 [0, 1]"]);
        assert_eq!(check(json!({"name": "m", "defaultMode": 0o400, "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 0o600}]})).unwrap(), ["x/y 400 [49]", "z 600 [50]"]);
        assert_eq!(check(json!({"name": "no"})).unwrap_err(), "configmap \"no\" not found");
        assert_eq!(check(json!({"name": "no", "optional": true})).unwrap(), Vec::<String>::new());
        assert_eq!(
            check(json!({"name": "m", "items": [{"key": "q", "path": "q"}]})).unwrap_err(),
            "references non-existent config key: q"
        );
        assert!(check(json!({"name": "m", "items": [{"key": "a", "path": "../q"}]})).is_err());
    }
}
