//! Custom resources: from a CustomResourceDefinition to rows of the catalogue, which the engine serves like any other.
//!
//! In: a CRD as it is stored, with its accepted names. Out: a [`Definition`] and a [`Resource`] per served version,
//! whose [`Strategy`](crate::strategy::Strategy) is the [`Version`]. Pure: watching CRDs, calling conversion webhooks
//! and deleting instances is the API server's.
//!
//! | file | holds |
//! |---|---|
//! | `compiled` | what is made of a version's schema, when it is needed |
//! | `schema` | `openAPIV3Schema`, compiled |
//! | `prune`, `default`, `embedded` | what happens to an object on its way in, and out of the store |
//! | `validate`, `formats` | whether it may stay |
//! | `types` | the arena for server-side apply |
//! | `jsonpath`, `strategy` | columns, selectable fields, status, scale |
//! | `names` | which names a CRD may have, and its conditions |

mod compiled;
pub mod default;
pub mod embedded;
pub mod formats;
pub mod jsonpath;
pub mod names;
pub mod prune;
pub mod schema;
mod strategy;
#[cfg(test)]
mod tests;
pub mod types;
pub mod validate;

use crate::catalogue::{Resource, Subresource, Typed};
use crate::codec::json::{DecodeError, Decoded};
use crate::strategy::{Column, ScalePaths};
use compiled::Source;
use jsonpath::JsonPath;
use meta::names::version_priority;
use meta::schema::{Shape, Type, TypeId, Types};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

pub use strategy::has_replicas;

/// What one CRD defines.
pub struct Definition {
    /// The CRD's own name: `crontabs.stable.example.com`.
    pub name: String,
    pub uid: String,
    /// No two definitions that were ever made in this process have the same: what was derived under another is stale.
    pub serial: u64,
    pub group: String,
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    /// All of them, served or not.
    pub versions: Vec<Arc<Version>>,
    /// Name of the version that objects are stored in.
    pub storage: String,
    pub conversion: Conversion,
    /// Being deleted: nothing new may be created.
    pub terminating: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Conversion {
    /// Versions differ in `apiVersion` alone.
    None,
    Webhook {
        /// `spec.conversion.webhook.clientConfig`
        client_config: Value,
        /// In the order of the CRD's wish.
        review_versions: Vec<String>,
    },
}

/// One version of a custom resource, and what it means.
pub struct Version {
    pub name: String,
    /// `stable.example.com/v1`
    pub api_version: String,
    pub kind: String,
    pub served: bool,
    schema: Source,
    pub(crate) deprecation: Option<String>,
    pub(crate) status: bool,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) columns: Vec<Column>,
    /// Of every column but the name.
    pub(crate) cells: Vec<Option<JsonPath>>,
    /// Names as field selectors have them, and where they are.
    pub(crate) selectable: Vec<(String, Option<JsonPath>)>,
}

/// One nameless type that takes anything.
static ANY: LazyLock<(Types, TypeId)> = LazyLock::new(|| {
    let mut types = Types::default();
    let id = types.push(Type { name: String::new(), shape: Shape::Any });
    (types, id)
});

impl Definition {
    /// Of a CRD. Names are those that were accepted.
    pub fn new(crd: &Value) -> Definition {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let (spec, names) = (&crd["spec"], &crd["status"]["acceptedNames"]);
        let text = |v: &Value| v.as_str().unwrap_or("").to_string();
        let (group, kind) = (text(&spec["group"]), text(&names["kind"]));
        let declared = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let versions: Vec<Arc<Version>> =
            declared.iter().map(|v| Arc::new(Version::new(&group, &kind, v, declared))).collect();
        let storage = declared.iter().find(|v| v["storage"] == true);
        Definition {
            name: text(&crd["metadata"]["name"]),
            uid: text(&crd["metadata"]["uid"]),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            plural: text(&names["plural"]),
            namespaced: spec["scope"] == "Namespaced",
            storage: storage.map(|v| text(&v["name"])).unwrap_or_default(),
            conversion: match spec["conversion"]["strategy"].as_str() {
                Some("Webhook") => Conversion::Webhook {
                    client_config: spec["conversion"]["webhook"]["clientConfig"].clone(),
                    review_versions: spec["conversion"]["webhook"]["conversionReviewVersions"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(text)
                        .collect(),
                },
                _ => Conversion::None,
            },
            terminating: names::condition(crd, "Terminating"),
            group,
            kind,
            versions,
        }
    }

    /// Drops what was made of schemas that nobody has needed since this was called last; how many it dropped.
    pub fn forget_unused(&self) -> usize {
        self.versions.iter().filter(|v| v.schema.forget_unused()).count()
    }

    pub fn version(&self, name: &str) -> Option<&Arc<Version>> {
        self.versions.iter().find(|v| v.name == name)
    }

    /// The version that a stored or sent object says it is of.
    pub fn version_of(&self, object: &Value) -> Option<&Arc<Version>> {
        let api_version = object["apiVersion"].as_str()?;
        self.versions.iter().find(|v| v.api_version == api_version)
    }
}

/// The best version that is served, not deprecated itself, and better than this one.
fn successor<'v>(version: &str, all: &'v [Value]) -> Option<&'v str> {
    let current = all.iter().filter(|v| v["served"] == true && v["deprecated"] != true);
    let names = current.filter_map(|v| v["name"].as_str());
    names.filter(|n| version_priority(n) < version_priority(version)).min_by_key(|n| version_priority(n))
}

/// The rows of a CRD that is established: one per served version.
pub fn rows(crd: &Value) -> Vec<Arc<Resource>> {
    let definition = Arc::new(Definition::new(crd));
    let names = &crd["status"]["acceptedNames"];
    let text = |v: &Value| v.as_str().unwrap_or("").to_string();
    let texts = |v: &Value| -> Vec<String> { v.as_array().into_iter().flatten().map(text).collect() };
    let verbs: &[&str] = match definition.terminating {
        true => &["delete", "deletecollection", "get", "list", "watch"],
        false => &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
    };
    definition
        .versions
        .iter()
        .filter(|v| v.served)
        .map(|v| {
            let mut subresources = Vec::new();
            let sub = |name: &str, group: &str, version: &str, kind: &str| Subresource {
                name: name.to_string(),
                group: group.to_string(),
                version: version.to_string(),
                kind: kind.to_string(),
                verbs: ["get", "patch", "update"].map(String::from).to_vec(),
                connect: false,
            };
            if v.status {
                subresources.push(sub("status", &definition.group, &v.name, &v.kind));
            }
            if v.scale.is_some() {
                subresources.push(sub("scale", "autoscaling", "v1", "Scale"));
            }
            Arc::new(Resource {
                group: definition.group.clone(),
                version: v.name.clone(),
                plural: definition.plural.clone(),
                singular: text(&names["singular"]),
                kind: v.kind.clone(),
                list_kind: text(&names["listKind"]),
                namespaced: definition.namespaced,
                short_names: texts(&names["shortNames"]),
                categories: texts(&names["categories"]),
                verbs: verbs.iter().map(|v| v.to_string()).collect(),
                subresources,
                typed: Typed::Custom(v.clone()),
                strategy: v.clone(),
                storage: (definition.group.clone(), definition.storage.clone()),
                custom: Some(definition.clone()),
            })
        })
        .collect()
}

impl Version {
    fn new(group: &str, kind: &str, version: &Value, all: &[Value]) -> Version {
        let text = |v: &Value| v.as_str().unwrap_or("").to_string();
        let name = text(&version["name"]);
        let deprecation = (version["deprecated"] == true).then(|| match version["deprecationWarning"].as_str() {
            Some(w) => w.to_string(),
            None => {
                let instead = successor(&name, all).map(|v| format!("; use {group}/{v} {kind}"));
                format!("{group}/{name} {kind} is deprecated{}", instead.unwrap_or_default())
            }
        });
        let scale = &version["subresources"]["scale"];
        let path = |key: &str| scale[key].as_str().unwrap_or("").trim_start_matches('.').to_string().into();
        let (columns, cells) = strategy::columns(&version["additionalPrinterColumns"]);
        Version {
            api_version: format!("{group}/{name}"),
            kind: kind.to_string(),
            served: version["served"] == true,
            schema: Source::new(&version["schema"]["openAPIV3Schema"]),
            deprecation,
            status: version["subresources"]["status"].is_object(),
            scale: scale.is_object().then(|| ScalePaths {
                spec_replicas: path("specReplicasPath"),
                status_replicas: path("statusReplicasPath"),
                selector: path("labelSelectorPath"),
            }),
            columns,
            cells,
            selectable: version["selectableFields"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|f| {
                    let path = f["jsonPath"].as_str().unwrap_or("");
                    (path.trim_start_matches('.').to_string(), JsonPath::parse(path).ok())
                })
                .collect(),
            name,
        }
    }

    /// The arena for server-side apply and its like, and its root.
    pub fn types(&self) -> (Arc<Types>, TypeId) {
        self.schema.types()
    }

    /// The object of a request body, and what the client should hear of it. Types are not looked at yet: that is
    /// validation's, as upstream has it. Only metadata has to fit.
    pub fn decode(&self, content: &[u8], yaml: bool) -> Result<Decoded, DecodeError> {
        let (types, any) = &*ANY;
        let raw = match yaml {
            true => crate::codec::yaml::decode(types, *any, content)?,
            false => crate::codec::json::decode(types, *any, content)?,
        };
        self.conform(raw)
    }

    /// As [`Version::decode`], of a value that is parsed already.
    pub fn decode_value(&self, raw: Value) -> Result<Decoded, DecodeError> {
        self.conform(Decoded { value: raw, ..Decoded::default() })
    }

    /// As [`Version::decode_value`], of what apply or a webhook made: nulls in it are meant.
    pub fn decode_made(&self, made: Value) -> Result<Decoded, DecodeError> {
        self.coerce(Decoded { value: made, ..Decoded::default() })
    }

    fn conform(&self, raw: Decoded) -> Result<Decoded, DecodeError> {
        let mut decoded = self.coerce(raw)?;
        default::prune_nulls(&mut decoded.value, &self.schema.compiled().schema);
        Ok(decoded)
    }

    fn coerce(&self, mut raw: Decoded) -> Result<Decoded, DecodeError> {
        if !raw.value.is_object() {
            return Err(DecodeError::Type(
                "json: cannot unmarshal value into Go value of type map[string]interface {}".into(),
            ));
        }
        for key in ["apiVersion", "kind"] {
            if raw.value.get(key).is_some_and(|v| !v.is_string()) {
                return Err(DecodeError::Type(format!("{key} must be a string")));
            }
        }
        let (mut unknown, mut pruned, mut embedded) = (Vec::new(), Vec::new(), Vec::new());
        let compiled = self.schema.compiled();
        embedded::coerce_root(&mut raw.value, embedded::Malformed::Refuse, &mut unknown)
            .map_err(|misfit| DecodeError::Type(misfit.why))?;
        prune::prune(&mut raw.value, &compiled.schema, &mut pruned);
        embedded::coerce(&mut raw.value, &compiled.schema, embedded::Malformed::Refuse, &mut embedded)
            .map_err(|misfit| DecodeError::Type(misfit.to_string()))?;
        pruned.sort();
        embedded.sort();
        unknown.extend(pruned.into_iter().chain(embedded));
        raw.problems.extend(unknown.iter().map(|u| format!("unknown field {u:?}")));
        raw.unknown = unknown;
        Ok(raw)
    }

    /// Brings an object that was read from the store to the schema as it is now.
    pub fn read(&self, object: &mut Value) {
        self.prune(object);
        default::default(object, &self.schema.compiled().schema);
    }

    /// Drops what this version doesn't know, from an object that comes from elsewhere than a request.
    pub fn prune(&self, object: &mut Value) {
        let (mut dropped, compiled) = (Vec::new(), self.schema.compiled());
        prune::prune(object, &compiled.schema, &mut dropped);
        default::prune_nulls(object, &compiled.schema);
        let _ = embedded::coerce_root(object, embedded::Malformed::Drop, &mut dropped);
        let _ = embedded::coerce(object, &compiled.schema, embedded::Malformed::Drop, &mut dropped);
    }
}
