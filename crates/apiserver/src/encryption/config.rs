//! EncryptionConfiguration (apiserver.config.k8s.io/v1): which resources are written and read by which providers.

use super::{Provider, kms, providers};
use crate::config_file;
use base64::Engine;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("encryption configuration: {0}")]
    Syntax(String),
    #[error("encryption configuration: {field}: {why}")]
    Content { field: String, why: String },
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    secret: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KmsFile {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    name: String,
    endpoint: String,
    timeout: Option<String>,
    /// Of KMS v1 alone; told as such.
    cachesize: Option<i64>,
}

impl Config {
    /// Names the field that is wrong. KMS plugins aren't asked yet.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let file: File = config_file::decode(text, "EncryptionConfiguration", &["v1"]).map_err(ConfigError::Syntax)?;
        let wrong = |field: &str, why: &str| ConfigError::Content { field: field.into(), why: why.into() };
        if file.resources.is_empty() {
            return Err(wrong("resources", "Required value: encryption config has no resources"));
        }
        let mut config = Config { source: text.to_string(), ..Config::default() };
        let mut plugins = HashSet::new();
        for (i, rule) in file.resources.into_iter().enumerate() {
            let path = format!("resources[{i}]");
            if rule.resources.is_empty() {
                return Err(wrong(&format!("{path}.resources"), "Required value: at least one resource"));
            }
            if rule.providers.is_empty() {
                return Err(wrong(&format!("{path}.providers"), "Required value: at least one provider"));
            }
            let patterns = rule
                .resources
                .iter()
                .enumerate()
                .map(|(j, r)| Pattern::parse(r).map_err(|why| wrong(&format!("{path}.resources[{j}]"), &why)));
            let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
            let mut list: Providers = Vec::new();
            for (j, one) in rule.providers.into_iter().enumerate() {
                let path = format!("{path}.providers[{j}]");
                let named = [
                    one.aescbc.is_some(),
                    one.aesgcm.is_some(),
                    one.secretbox.is_some(),
                    one.identity.is_some(),
                    one.kms.is_some(),
                ];
                if named.iter().filter(|n| **n).count() != 1 {
                    return Err(wrong(&path, "Invalid value: exactly one provider must be given"));
                }
                if one.identity.is_some() {
                    list.push(None);
                } else if let Some(k) = one.kms {
                    if !plugins.insert(k.name.clone()) && !config.kms.iter().any(|p| p.is(&k.name, &k.endpoint)) {
                        return Err(wrong(&format!("{path}.kms.name"), "Invalid value: provider names must be unique"));
                    }
                    let known = config.kms.iter().find(|p| p.is(&k.name, &k.endpoint)).cloned();
                    let plugin = match known {
                        Some(p) => p,
                        None => {
                            let p = Arc::new(plugin(&path, k)?);
                            config.kms.push(p.clone());
                            p
                        }
                    };
                    list.push(Some(plugin));
                } else {
                    let (kind, keys) = match (one.aescbc, one.aesgcm, one.secretbox) {
                        (Some(k), ..) => (providers::Kind::AesCbc, k),
                        (_, Some(k), _) => (providers::Kind::AesGcm, k),
                        (.., k) => (providers::Kind::Secretbox, k.unwrap_or(Keys { keys: Vec::new() })),
                    };
                    list.extend(keyed(&format!("{path}.{}", kind.name()), kind, keys)?);
                }
            }
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
    fn parse(text: &str) -> Result<Pattern, String> {
        match text {
            "" => Err("Required value: a resource".into()),
            "*.*" => Ok(Pattern::Everything),
            "*" => Err("Invalid value: \"*\": use '*.<group>' to encrypt all the resources from API group or *.* to encrypt all resources".into()),
            _ if text.contains('/') => Err(format!("Invalid value: {text:?}: subresources are stored with their resource")),
            _ => Ok(match text.strip_prefix("*.") {
                Some(group) if group.contains('*') => return Err(format!("Invalid value: {text:?}: '*' stands alone before the dot")),
                Some(group) => Pattern::Group(group.to_string()),
                None if text.contains('*') => return Err(format!("Invalid value: {text:?}: '*' stands alone before the dot")),
                None => Pattern::Resource(text.trim_end_matches('.').to_string()),
            }),
        }
    }

    fn matches(&self, resource: &str) -> bool {
        match self {
            Pattern::Everything => true,
            Pattern::Resource(r) => r == resource,
            Pattern::Group(g) => resource.split_once('.').map_or("", |(_, group)| group) == g,
        }
    }
}

fn keyed(path: &str, kind: providers::Kind, keys: Keys) -> Result<Providers, ConfigError> {
    let wrong = |field: String, why: String| ConfigError::Content { field, why };
    if keys.keys.is_empty() {
        return Err(wrong(format!("{path}.keys"), "Required value: at least one key".into()));
    }
    let mut out: Providers = Vec::new();
    let mut names = HashSet::new();
    for (i, k) in keys.keys.into_iter().enumerate() {
        let path = format!("{path}.keys[{i}]");
        if k.name.is_empty() || k.name.contains(':') || !names.insert(k.name.clone()) {
            return Err(wrong(
                format!("{path}.name"),
                format!("Invalid value: {:?}: a name of its own, without a colon", k.name),
            ));
        }
        // Never the secret itself in a message.
        let secret = base64::engine::general_purpose::STANDARD.decode(k.secret.trim()).map_err(|_| {
            wrong(format!("{path}.secret"), "Invalid value: \"REDACTED\": secret must be base64 encoded".into())
        })?;
        if !kind.sizes().contains(&secret.len()) {
            let why = format!(
                "Invalid value: \"REDACTED\": secret is not of the expected length, got {}, expected one of {:?}",
                secret.len(),
                kind.sizes()
            );
            return Err(wrong(format!("{path}.secret"), why));
        }
        out.push(Some(Arc::new(providers::Keyed::new(kind, &k.name, &secret))));
    }
    Ok(out)
}

fn plugin(path: &str, k: KmsFile) -> Result<kms::Kms, ConfigError> {
    let wrong = |field: &str, why: String| ConfigError::Content { field: format!("{path}.kms.{field}"), why };
    if k.api_version != "v2" {
        return Err(wrong("apiVersion", format!("Unsupported value: {:?}: supported values: \"v2\"", k.api_version)));
    }
    if k.cachesize.is_some() {
        return Err(wrong("cachesize", "Invalid value: cachesize is not supported in v2".into()));
    }
    if k.name.is_empty() || k.name.contains(':') {
        return Err(wrong("name", format!("Invalid value: {:?}: must not be empty, nor contain ':'", k.name)));
    }
    let Some(socket) = k.endpoint.strip_prefix("unix://").filter(|s| !s.is_empty()) else {
        return Err(wrong("endpoint", format!("Invalid value: {:?}: must be unix:///path/of/socket", k.endpoint)));
    };
    let timeout = match k.timeout.as_deref() {
        None => std::time::Duration::from_secs(3),
        Some(t) => meta::duration::parse_go(t).map_err(|e| wrong("timeout", format!("Invalid value: {e}")))?,
    };
    if timeout.is_zero() {
        return Err(wrong("timeout", "Invalid value: should be a positive value".into()));
    }
    Ok(kms::Kms::new(&k.name, &k.endpoint, socket, timeout))
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
        for (text, field, part) in [
            ("  []\n", "resources", "no resources"),
            ("- {resources: [], providers: [{identity: {}}]}\n", "resources[0].resources", "at least one"),
            ("- {resources: [secrets], providers: []}\n", "resources[0].providers", "at least one"),
            ("- {resources: ['*'], providers: [{identity: {}}]}\n", "resources[0].resources[0]", "*.*"),
            (
                "- {resources: [secrets], providers: [{identity: {}, aescbc: {keys: []}}]}\n",
                "resources[0].providers[0]",
                "exactly one",
            ),
            (
                "- {resources: [secrets], providers: [{aescbc: {keys: []}}]}\n",
                "resources[0].providers[0].aescbc.keys",
                "at least one",
            ),
            (
                "- {resources: [secrets], providers: [{aescbc: {keys: [{name: a, secret: c2hvcnQ=}]}}]}\n",
                "resources[0].providers[0].aescbc.keys[0].secret",
                "got 5",
            ),
            (
                "- {resources: [secrets], providers: [{secretbox: {keys: [{name: a, secret: '!!c2hvcnQ'}]}}]}\n",
                "resources[0].providers[0].secretbox.keys[0].secret",
                "base64",
            ),
            (
                "- {resources: [secrets], providers: [{kms: {apiVersion: v1, name: a, endpoint: 'unix:///x'}}]}\n",
                "resources[0].providers[0].kms.apiVersion",
                "v2",
            ),
            (
                "- {resources: [secrets], providers: [{kms: {apiVersion: v2, name: a, endpoint: 'tcp://x'}}]}\n",
                "resources[0].providers[0].kms.endpoint",
                "unix:///",
            ),
        ] {
            let ConfigError::Content { field: got, why } = parse(text).err().unwrap() else { panic!("{text}") };
            assert_eq!(got, field);
            assert!(why.contains(part) && !why.contains("c2hvcnQ"), "{why}");
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
            (head.into(), "encryption configuration: resources: Required value: encryption config has no resources"),
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
