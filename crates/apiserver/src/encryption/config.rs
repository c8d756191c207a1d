//! EncryptionConfiguration (apiserver.config.k8s.io/v1): which resources are written and read by which providers.

use super::{Provider, kms, providers};
use crate::config_file;
use api::codec::scalar::format_duration;
use base64::Engine;
use meta::field::{Errors, Path};
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("encryption configuration: {0}")]
    Syntax(String),
    #[error("encryption configuration: {}", .0.joined())]
    Content(Errors),
    #[error("encryption configuration: {0}")]
    Unsupported(&'static str),
}

/// `None` is `identity`: as it is.
pub type Providers = Vec<Option<Arc<dyn Provider>>>;

#[derive(Default)]
pub struct Config {
    /// The first that names a resource is its.
    rules: Vec<(Vec<Pattern>, Arc<Providers>)>,
    pub kms: Vec<Arc<kms::Kms>>,
    /// The file's text.
    source: String,
}

#[derive(Debug, PartialEq)]
enum Pattern {
    /// `secrets`, `deployments.apps`
    Resource(String),
    /// `*.apps`, of which `*.` is the core group.
    Group(String),
    /// `*.*`
    Everything,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    resources: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<One>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    aescbc: Option<Keys>,
    aesgcm: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Identity>,
    kms: Option<KmsFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Key {
    name: String,
    secret: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KmsFile {
    /// Of what isn't there, too.
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    name: String,
    endpoint: String,
    timeout: Option<String>,
    /// Of KMS v1 alone; told as such.
    cachesize: Option<i64>,
}

impl KmsFile {
    fn version(&self) -> &str {
        self.api_version.as_deref().filter(|v| !v.is_empty()).unwrap_or("v1")
    }

    /// Nanoseconds. Three seconds, where nobody says.
    fn timeout(&self) -> Option<i64> {
        self.timeout.as_deref().map_or(Some(3_000_000_000), api::codec::scalar::parse_duration)
    }
}

const KMS_V1: &str = "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  \
                      Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.";

impl Config {
    /// Names the fields that are wrong. KMS plugins aren't asked yet.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let file: File = config_file::decode(text, "EncryptionConfiguration", &["v1"]).map_err(ConfigError::Syntax)?;
        let mut errors = Errors::default();
        check(&file, &mut errors);
        if !errors.is_empty() {
            return Err(ConfigError::Content(errors));
        }
        let mut config = Config { source: text.to_string(), ..Config::default() };
        for rule in file.resources {
            let mut list: Providers = Vec::new();
            for one in rule.providers {
                match one {
                    One { kms: Some(k), .. } => {
                        if k.version() == "v1" {
                            return Err(ConfigError::Unsupported(KMS_V1));
                        }
                        let socket = k.endpoint.strip_prefix("unix:").unwrap_or_default();
                        let timeout = std::time::Duration::from_nanos(k.timeout().unwrap_or_default().unsigned_abs());
                        let socket = socket.strip_prefix("//").unwrap_or(socket);
                        let plugin = Arc::new(kms::Kms::new(&k.name, socket, timeout));
                        config.kms.push(plugin.clone());
                        list.push(Some(plugin));
                    }
                    One { aesgcm: Some(keys), .. } => list.extend(keyed(providers::Kind::AesGcm, keys)),
                    One { aescbc: Some(keys), .. } => list.extend(keyed(providers::Kind::AesCbc, keys)),
                    One { secretbox: Some(keys), .. } => list.extend(keyed(providers::Kind::Secretbox, keys)),
                    _ => list.push(None),
                }
            }
            let patterns = rule.resources.iter().map(|r| Pattern::parse(r)).collect();
            config.rules.push((patterns, Arc::new(list)));
        }
        Ok(config)
    }

    pub fn providers(&self, resource: &str) -> Option<&Providers> {
        self.rules.iter().find(|(patterns, _)| patterns.iter().any(|p| p.matches(resource))).map(|(_, p)| p.as_ref())
    }

    /// Whether this was parsed from that text.
    pub fn is_of(&self, text: &str) -> bool {
        self.source == text
    }

    pub fn health(&self) -> Result<(), String> {
        self.kms.iter().try_for_each(|p| p.health())
    }
}

impl Pattern {
    fn parse(text: &str) -> Pattern {
        match split(text) {
            ("*", "*") => Pattern::Everything,
            ("*", group) => Pattern::Group(group.to_string()),
            _ => Pattern::Resource(text.trim_end_matches('.').to_string()),
        }
    }

    fn matches(&self, resource: &str) -> bool {
        match self {
            Pattern::Everything => true,
            Pattern::Resource(r) => r == resource,
            Pattern::Group(g) => split(resource).1 == g,
        }
    }
}

/// Resource and group.
fn split(text: &str) -> (&str, &str) {
    text.split_once('.').unwrap_or((text, ""))
}

fn keyed(kind: providers::Kind, keys: Keys) -> Providers {
    let keyed = |k: Key| {
        let secret = base64::engine::general_purpose::STANDARD.decode(k.secret.trim()).unwrap_or_default();
        Some(Arc::new(providers::Keyed::new(kind, &k.name, &secret)) as Arc<dyn Provider>)
    };
    keys.keys.into_iter().map(keyed).collect()
}

fn check(file: &File, errors: &mut Errors) {
    let root = Path::new("resources");
    let at_least_one = |what: &dyn std::fmt::Display| format!("at least one {what} is required");
    if file.resources.is_empty() {
        return errors.required(root.clone(), at_least_one(&root));
    }
    let mut plugins = HashSet::new();
    for (i, rule) in file.resources.iter().enumerate() {
        let (resources_at, providers_at) = (root.index(i).child("resources"), root.index(i).child("providers"));
        if rule.resources.is_empty() {
            errors.required(resources_at.clone(), at_least_one(&resources_at));
        }
        check_overlap(&rule.resources, &resources_at, errors);
        for (j, resource) in rule.resources.iter().enumerate() {
            if let Some(why) = resource_fault(resource) {
                errors.invalid(resources_at.index(j), resource.clone(), why);
            }
        }
        if rule.providers.is_empty() {
            errors.required(providers_at.clone(), at_least_one(&providers_at));
        }
        for (j, one) in rule.providers.iter().enumerate() {
            let at = providers_at.index(j);
            let named = [
                one.kms.is_some(),
                one.aesgcm.is_some(),
                one.aescbc.is_some(),
                one.secretbox.is_some(),
                one.identity.is_some(),
            ];
            // Without the value, which upstream shows: it has keys.
            match named.iter().filter(|n| **n).count() {
                0 => errors.invalid_omitted(
                    at.clone(),
                    "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
                ),
                1 => {}
                _ => errors.invalid_omitted(
                    at.clone(),
                    "more than one provider specified in a single element, should split into different list elements",
                ),
            }
            let mut keys = |keys: &Keys, kind: providers::Kind| {
                check_keys(&keys.keys, kind, &at.child(kind.name()).child("keys"), errors);
            };
            match one {
                One { kms: Some(k), .. } => {
                    check_kms(k, &plugins, &at.child("kms"), errors);
                    plugins.insert(k.name.as_str());
                }
                One { aesgcm: Some(k), .. } => keys(k, providers::Kind::AesGcm),
                One { aescbc: Some(k), .. } => keys(k, providers::Kind::AesCbc),
                One { secretbox: Some(k), .. } => keys(k, providers::Kind::Secretbox),
                _ => {}
            }
        }
    }
}

fn check_overlap(resources: &[String], at: &Path, errors: &mut Errors) {
    let all: Vec<(&str, &str)> = resources.iter().map(|r| split(r)).collect();
    let (mut twice, mut overlap) = (false, false);
    for (i, one) in all.iter().enumerate() {
        for other in all.iter().enumerate().filter(|(j, _)| i != *j).map(|(_, o)| o) {
            if one == other && !twice {
                twice = true;
                continue;
            }
            overlap |= *one == ("*", "*") || (one.1 == other.1 && (one.0 == "*" || other.0 == "*"));
        }
    }
    if twice {
        errors.invalid(at.clone(), resources.to_vec(), "the same resource cannot be specified multiple times");
    }
    if overlap {
        let why = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as \
                   they will be masked";
        errors.invalid(at.clone(), resources.to_vec(), why);
    }
}

fn resource_fault(text: &str) -> Option<&'static str> {
    if text.to_lowercase() != text {
        return Some("resource name should not contain capital letters");
    }
    match (text, split(text)) {
        ("*", _) => Some("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"),
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", _) => {
            Some("resources which do not have REST API/s cannot be encrypted")
        }
        (_, (_, "events.k8s.io")) => Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the \
             config file",
        ),
        (_, (_, "extensions")) => Some("'extensions' group has been removed and cannot be used for encryption"),
        (_, (resource, "*")) if resource != "*" => Some("encrypting the same resource across groups is not supported"),
        _ => None,
    }
}

fn check_keys(keys: &[Key], kind: providers::Kind, at: &Path, errors: &mut Errors) {
    if keys.is_empty() {
        return errors.required(at.clone(), "at least one keys is required");
    }
    for (i, key) in keys.iter().enumerate() {
        let at = at.index(i);
        if key.name.is_empty() {
            errors.required(at.child("name"), "name is a mandatory field for a key");
        }
        let at = at.child("secret");
        if key.secret.is_empty() {
            errors.required(at, "secret is a mandatory field for a key");
            continue;
        }
        // Never the secret itself in a message.
        match base64::engine::general_purpose::STANDARD.decode(key.secret.trim()) {
            Err(_) => errors.invalid(at, "REDACTED", "secrets must be base64 encoded"),
            Ok(secret) if !kind.sizes().contains(&secret.len()) => {
                let sizes: Vec<String> = kind.sizes().iter().map(usize::to_string).collect();
                let why = format!(
                    "secret is not of the expected length, got {}, expected one of [{}]",
                    secret.len(),
                    sizes.join(" ")
                );
                errors.invalid(at, "REDACTED", why);
            }
            Ok(_) => {}
        }
    }
}

fn check_kms(k: &KmsFile, known: &HashSet<&str>, at: &Path, errors: &mut Errors) {
    let (version, name_at) = (k.version(), at.child("name"));
    if k.name.is_empty() {
        errors.required(name_at.clone(), "name is a mandatory field for a provider");
    }
    if version != "v1" && k.name.contains(':') {
        let why = format!("invalid KMS provider name {}, must not contain ':'", k.name);
        errors.invalid(name_at.clone(), k.name.clone(), why);
    }
    if known.contains(k.name.as_str()) {
        let why = format!("duplicate KMS provider name {}, names must be unique", k.name);
        errors.invalid(name_at, k.name.clone(), why);
    }
    match k.timeout() {
        Some(nanos) if nanos > 0 => {}
        Some(nanos) => {
            errors.invalid(at.child("timeout"), format_duration(nanos), "timeout should be a positive value");
        }
        None => errors.invalid(at.child("timeout"), k.timeout.clone(), "timeout is no duration such as 3s"),
    }
    let endpoint_at = at.child("endpoint");
    match k.endpoint.split_once(':') {
        _ if k.endpoint.is_empty() => errors.invalid(endpoint_at, "", "endpoint is a mandatory field for a kms"),
        Some(("unix", _)) => {}
        scheme => {
            let scheme = scheme.map_or("", |(scheme, _)| scheme);
            let why = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
            errors.invalid(endpoint_at, k.endpoint.clone(), why);
        }
    }
    match (version, k.cachesize) {
        ("v1", Some(0)) => {
            errors.invalid(at.child("cachesize"), 0, "cachesize should be a positive value, or negative to disable");
        }
        ("v1", _) | (_, None) => {}
        (_, Some(size)) => errors.invalid(at.child("cachesize"), size, "cachesize is not supported in v2"),
    }
    if !matches!(version, "v1" | "v2") {
        let why = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
        errors.invalid(at.child("apiVersion"), version, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(resources: &str) -> Result<Config, ConfigError> {
        Config::parse(&format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{resources}"
        ))
    }

    #[test]
    fn the_first_rule_that_names_a_resource_is_its() {
        let c = parse(
            "- resources: [secrets, deployments.apps]\n  providers: [{identity: {}}, {identity: {}}]\n\
             - resources: ['*.']\n  providers: [{identity: {}}]\n\
             - resources: ['*.apps']\n  providers: [{identity: {}}, {identity: {}}, {identity: {}}]\n",
        )
        .unwrap();
        for (resource, providers) in [
            ("secrets", Some(2)),
            ("configmaps", Some(1)),
            ("deployments.apps", Some(2)),
            ("daemonsets.apps", Some(3)),
            ("jobs.batch", None),
        ] {
            assert_eq!(c.providers(resource).map(Vec::len), providers, "{resource}");
        }
        let all = parse("- resources: ['*.*']\n  providers: [{identity: {}}]\n").unwrap();
        assert!(all.providers("widgets.example.com").is_some());
    }

    #[test]
    fn mistakes_name_the_field_and_no_secret() {
        let rule = |resources: &str, provider: &str| format!("- {{resources: {resources}, providers: [{provider}]}}\n");
        let key = |keys: &str| rule("[secrets]", &format!("{{aescbc: {{keys: {keys}}}}}"));
        let kms = |fields: &str| rule("[secrets]", &format!("{{kms: {{{fields}}}}}"));
        let resources = |list: &str| rule(list, "{identity: {}}");
        let overlapping = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";
        const KMS: &str = "resources[0].providers[0].kms";
        for (text, expected) in [
            ("  []\n".to_string(), "resources: Required value: at least one resources is required".to_string()),
            (resources("[]"), "resources[0].resources: Required value: at least one resources[0].resources is required".into()),
            (rule("[secrets]", ""), "resources[0].providers: Required value: at least one resources[0].providers is required".into()),
            (resources("['*']"), "resources[0].resources[0]: Invalid value: \"*\": use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources".into()),
            (resources("[Secrets]"), "resources[0].resources[0]: Invalid value: \"Secrets\": resource name should not contain capital letters".into()),
            (resources("[apiserveripinfo]"), "resources[0].resources[0]: Invalid value: \"apiserveripinfo\": resources which do not have REST API/s cannot be encrypted".into()),
            (resources("[events.events.k8s.io]"), "resources[0].resources[0]: Invalid value: \"events.events.k8s.io\": '*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file".into()),
            (resources("['*.extensions']"), "resources[0].resources[0]: Invalid value: \"*.extensions\": 'extensions' group has been removed and cannot be used for encryption".into()),
            (resources("['secrets.*']"), "resources[0].resources[0]: Invalid value: \"secrets.*\": encrypting the same resource across groups is not supported".into()),
            (resources("[secrets, secrets]"), "resources[0].resources: Invalid value: [\"secrets\",\"secrets\"]: the same resource cannot be specified multiple times".into()),
            (resources("[secrets, '*.']"), format!("resources[0].resources: Invalid value: [\"secrets\",\"*.\"]: {overlapping}")),
            (resources("['*.*', jobs.batch]"), format!("resources[0].resources: Invalid value: [\"*.*\",\"jobs.batch\"]: {overlapping}")),
            (rule("[secrets]", "{}"), "resources[0].providers[0]: Invalid value: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity".into()),
            (
                rule("[secrets]", "{identity: {}, aescbc: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}}"),
                "resources[0].providers[0]: Invalid value: more than one provider specified in a single element, should split into different list elements".into(),
            ),
            (key("[]"), "resources[0].providers[0].aescbc.keys: Required value: at least one keys is required".into()),
            (
                key("[{}]"),
                "[resources[0].providers[0].aescbc.keys[0].name: Required value: name is a mandatory field for a key, resources[0].providers[0].aescbc.keys[0].secret: Required value: secret is a mandatory field for a key]".into(),
            ),
            (
                key("[{name: a, secret: c2hvcnQ=}]"),
                "resources[0].providers[0].aescbc.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 5, expected one of [16 24 32]".into(),
            ),
            (
                rule("[secrets]", "{secretbox: {keys: [{name: a, secret: '!!c2hvcnQ'}]}}"),
                "resources[0].providers[0].secretbox.keys[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded".into(),
            ),
            (kms("apiVersion: v1, name: a, endpoint: 'unix:///x'"), KMS_V1.to_string()),
            (kms("name: a, endpoint: 'unix:///x'"), KMS_V1.to_string()),
            (
                kms("apiVersion: v3, name: a, endpoint: 'unix:///x'"),
                format!("{KMS}.apiVersion: Invalid value: \"v3\": unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported"),
            ),
            (
                kms("apiVersion: v2, name: a, endpoint: 'tcp://x'"),
                format!("{KMS}.endpoint: Invalid value: \"tcp://x\": unsupported scheme \"tcp\" for KMS provider, only unix is supported"),
            ),
            (
                kms("apiVersion: v2, timeout: 0s"),
                format!("[{KMS}.name: Required value: name is a mandatory field for a provider, {KMS}.timeout: Invalid value: \"0s\": timeout should be a positive value, {KMS}.endpoint: Invalid value: \"\": endpoint is a mandatory field for a kms]"),
            ),
            (
                kms("apiVersion: v2, name: 'a:b', cachesize: 5, endpoint: 'unix:///x'"),
                format!("[{KMS}.name: Invalid value: \"a:b\": invalid KMS provider name a:b, must not contain ':', {KMS}.cachesize: Invalid value: 5: cachesize is not supported in v2]"),
            ),
            (
                kms("apiVersion: v2, name: a, endpoint: 'unix:///x'").repeat(2),
                "resources[1].providers[0].kms.name: Invalid value: \"a\": duplicate KMS provider name a, names must be unique".into(),
            ),
        ] {
            let got = parse(&text).err().map(|e| e.to_string()).unwrap_or_default();
            assert_eq!(got, format!("encryption configuration: {expected}"), "{text}");
        }
    }

    #[test]
    fn what_is_not_of_this_kind_is_told_once() {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";
        for (text, expected) in [
            ("{".to_string(), "encryption configuration: not valid YAML: "),
            ("[]".into(), "encryption configuration: must be an object"),
            (String::new(), "encryption configuration: must be an object"),
            ("resources: []".into(), "encryption configuration: apiVersion: Required value: must be a string"),
            (
                head.replace("/v1", "/v1alpha1"),
                "encryption configuration: no kind \"EncryptionConfiguration\" is registered for version \
                 \"apiserver.config.k8s.io/v1alpha1\"; expected EncryptionConfiguration of apiserver.config.k8s.io/v1",
            ),
            (head.into(), "encryption configuration: resources: Required value: at least one resources is required"),
            (
                format!("{head}resources:\n- {{resources: [secrets], provider: []}}\n"),
                "encryption configuration: strict decoding error: resources[0].provider: unknown field `provider`",
            ),
            (
                format!("{head}resource: []\n"),
                "encryption configuration: strict decoding error: resource: unknown field `resource`",
            ),
        ] {
            let got = Config::parse(&text).err().unwrap().to_string();
            assert!(got.starts_with(expected), "{got}");
        }
    }
}
