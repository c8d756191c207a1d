//! Secret.

use super::{columns, configmap};
use crate::codec;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::values;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meta::field::{Errors, Path};
use meta::patch::json::json_type;
use serde_json::{Value, json};

pub struct Secret;

impl Strategy for Secret {
    fn defaults(&self, obj: &mut Value) {
        fill_zero(obj, "type", "Opaque");
        // `stringData` is write-only: it goes over `data` and is not kept.
        let plain: Vec<(String, String)> =
            pairs(obj, "stringData").into_iter().map(|(k, v)| (k.to_string(), STANDARD.encode(v))).collect();
        remove(obj, "stringData");
        if !plain.is_empty()
            && let Some(data) = ensure_object(obj, "data")
        {
            for (k, v) in plain {
                set(data, &k, v);
            }
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let path = Path::new("data");
        let mut size = 0;
        for (k, v) in entries(obj, "data") {
            values::each(errors, &path.key(k), k, meta::names::config_map_key(k));
            size += configmap::decoded_len(v.as_str().unwrap_or(""));
        }
        if size > configmap::SIZE_MAX {
            errors.too_long(path.clone(), configmap::SIZE_MAX);
        }
        let data = field(obj, "data");
        let needed: &[&str] = match text(obj, "type") {
            "kubernetes.io/service-account-token" => {
                let key = "kubernetes.io/service-account.name";
                if text_at(obj, &["metadata", "annotations", key]).is_empty() {
                    errors.required(Path::new("metadata.annotations").key(key), "");
                }
                &[]
            }
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/basic-auth" => {
                if !has(data, "username") && !has(data, "password") {
                    errors.required(path.key("username"), "");
                    errors.required(path.key("password"), "");
                }
                &[]
            }
            "kubernetes.io/ssh-auth" => {
                if text(data, "ssh-privatekey").is_empty() {
                    errors.required(path.key("ssh-privatekey"), "");
                }
                &[]
            }
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            _ => &[],
        };
        for key in needed {
            if !has(data, key) {
                errors.required(path.key(key), "");
            } else if key.starts_with(".docker") {
                let bytes = STANDARD.decode(text(data, key)).unwrap_or_default();
                if let Some(why) = docker_fault(&bytes) {
                    errors.invalid(path.key(key), "<secret contents redacted>", why);
                }
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        values::immutable(field(new, "type"), field(old, "type"), Path::new("type"), errors);
        configmap::frozen(new, old, &["data"], errors);
        self.validate_create(new, errors);
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("type", text(obj, "type").to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Type", "string", 0, "api.core.v1.Secret.type"),
            column_of("Data", "string", 0, "api.core.v1.Secret.data"),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![
            columns::name(obj),
            json!(text(obj, "type")),
            json!(entries(obj, "data").count()),
            columns::age_cell(obj, now),
        ]
    }
}

/// Why a registry's configuration is none, in the words of Go's decoder.
fn docker_fault(bytes: &[u8]) -> Option<String> {
    match codec::json::parse(bytes) {
        Ok((value, _)) if value.is_object() || value.is_null() => None,
        Ok((value, _)) => {
            let got = json_type(&value);
            Some(format!("json: cannot unmarshal {got} into Go value of type map[string]interface {{}}"))
        }
        Err(e) => Some(e.to_string()),
    }
}
