//! Which plugins run, and how they are configured: `--enable-admission-plugins`, `--disable-admission-plugins`, and the
//! `AdmissionConfiguration` file of `--admission-control-config-file` (apiserver.config.k8s.io/v1, or the older
//! apiserver.k8s.io/v1alpha1).
//!
//! In: the flags and the file. Out: a choice for each plugin by its name, and each plugin's own part of the file.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("unknown admission plugin {0:?}; the plugins are {known}", known = NAMES.iter().map(|n| n.0).collect::<Vec<_>>().join(", "))]
    UnknownPlugin(String),
    #[error(
        "admission plugin {0:?} is in both --enable-admission-plugins and --disable-admission-plugins; name it in one"
    )]
    Both(String),
    #[error("failed to read {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("failed to parse {path}: {error}")]
    Parse { path: PathBuf, error: String },
    #[error("{path}: kind must be AdmissionConfiguration of apiserver.config.k8s.io/v1, not {found:?}")]
    Kind { path: PathBuf, found: String },
    #[error("configuration of admission plugin {plugin}: {error}")]
    Plugin { plugin: &'static str, error: String },
}

/// Every plugin by name, in upstream's order, and whether it is on by default.
pub const NAMES: &[(&str, bool)] = &[
    ("AlwaysAdmit", false),
    ("NamespaceAutoProvision", false),
    ("NamespaceLifecycle", true),
    ("NamespaceExists", false),
    ("LimitPodHardAntiAffinityTopology", false),
    ("LimitRanger", true),
    ("ServiceAccount", true),
    ("NodeRestriction", true),
    ("TaintNodesByCondition", true),
    ("AlwaysPullImages", false),
    ("ImagePolicyWebhook", false),
    ("PodSecurity", true),
    ("PodNodeSelector", false),
    ("Priority", true),
    ("DefaultTolerationSeconds", true),
    ("PodTolerationRestriction", false),
    ("EventRateLimit", false),
    ("ExtendedResourceToleration", false),
    ("DefaultStorageClass", true),
    ("StorageObjectInUseProtection", true),
    ("OwnerReferencesPermissionEnforcement", false),
    ("PersistentVolumeClaimResize", true),
    ("RuntimeClass", true),
    ("CertificateApproval", true),
    ("CertificateSigning", true),
    ("ClusterTrustBundleAttest", true),
    ("CertificateSubjectRestriction", true),
    ("DefaultIngressClass", true),
    ("DenyServiceExternalIPs", false),
    ("PodTopologyLabels", true),
    ("MutatingAdmissionPolicy", true),
    ("MutatingAdmissionWebhook", true),
    ("ValidatingAdmissionPolicy", true),
    ("ValidatingAdmissionWebhook", true),
    ("ResourceQuota", true),
    ("AlwaysDeny", false),
];

#[derive(Clone, Debug, Default)]
pub struct Config {
    enable: Vec<String>,
    disable: Vec<String>,
    plugins: BTreeMap<String, Value>,
}

impl Config {
    pub fn load(enable: &[String], disable: &[String], file: Option<&Path>) -> Result<Config, ConfigError> {
        for name in enable.iter().chain(disable) {
            if !NAMES.iter().any(|n| n.0 == name) {
                return Err(ConfigError::UnknownPlugin(name.clone()));
            }
        }
        if let Some(both) = enable.iter().find(|n| disable.contains(n)) {
            return Err(ConfigError::Both(both.clone()));
        }
        let plugins = file.map(read_file).transpose()?.unwrap_or_default();
        Ok(Config { enable: enable.to_vec(), disable: disable.to_vec(), plugins })
    }

    pub fn is_on(&self, name: &str) -> bool {
        if self.disable.iter().any(|n| n == name) {
            return false;
        }
        // What isn't in the list is no plugin upstream, and can't be chosen.
        self.enable.iter().any(|n| n == name) || NAMES.iter().find(|n| n.0 == name).is_none_or(|n| n.1)
    }

    /// A plugin's own configuration; null when there is none.
    pub fn of(&self, name: &str) -> &Value {
        self.plugins.get(name).unwrap_or(&Value::Null)
    }

    #[cfg(test)]
    pub fn with(name: &str, configuration: Value) -> Config {
        Config { plugins: BTreeMap::from([(name.to_string(), configuration)]), ..Config::default() }
    }
}

const KINDS: [&str; 2] =
    ["apiserver.config.k8s.io/v1, AdmissionConfiguration", "apiserver.k8s.io/v1alpha1, AdmissionConfiguration"];
/// Plugins whose configuration may be the file itself, and by what it is known.
const ALONE: [(&str, &str); 2] =
    [("ImagePolicyWebhook", "imagePolicy"), ("PodNodeSelector", "podNodeSelectorPluginConfig")];

fn read_yaml(path: &Path) -> Result<Value, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.into(), error })?;
    serde_saphyr::from_str(&text).map_err(|e| ConfigError::Parse { path: path.into(), error: e.to_string() })
}

/// By plugin name: the configuration that stands in the file, or the one in the file that it names.
fn read_file(path: &Path) -> Result<BTreeMap<String, Value>, ConfigError> {
    let file = read_yaml(path)?;
    let found =
        format!("{}, {}", file["apiVersion"].as_str().unwrap_or_default(), file["kind"].as_str().unwrap_or_default());
    if !KINDS.contains(&found.as_str()) {
        // Two plugins had the whole file to themselves once.
        let old = |(plugin, key): &(&str, &str)| file.get(*key).map(|_| (plugin.to_string(), file.clone()));
        let alone: BTreeMap<String, Value> = ALONE.iter().filter_map(old).collect();
        return if alone.is_empty() { Err(ConfigError::Kind { path: path.into(), found }) } else { Ok(alone) };
    }
    let mut out = BTreeMap::new();
    for plugin in file["plugins"].as_array().into_iter().flatten() {
        let name = plugin["name"].as_str().unwrap_or_default();
        if !NAMES.iter().any(|n| n.0 == name) {
            return Err(ConfigError::UnknownPlugin(name.to_string()));
        }
        let configuration = match plugin["path"].as_str().filter(|p| !p.is_empty()) {
            Some(other) if plugin["configuration"].is_null() => {
                let other = PathBuf::from(other);
                let beside = if other.is_absolute() { other } else { path.with_file_name(other) };
                read_yaml(&beside)?
            }
            _ => plugin["configuration"].clone(),
        };
        // As upstream, the first of a name counts.
        out.entry(name.to_string()).or_insert(configuration);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_choose_plugins() {
        let names = |n: &[&str]| n.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let c = Config::load(&names(&["AlwaysPullImages"]), &names(&["PodSecurity"]), None).unwrap();
        assert!(c.is_on("AlwaysPullImages") && !c.is_on("PodSecurity"));
        assert!(c.is_on("LimitRanger") && !c.is_on("PodNodeSelector"));
        let e = Config::load(&names(&["Nope"]), &[], None).unwrap_err();
        assert!(e.to_string().starts_with("unknown admission plugin \"Nope\"; the plugins are AlwaysAdmit, "), "{e}");
        let both = names(&["Priority"]);
        assert!(matches!(Config::load(&both, &both, None), Err(ConfigError::Both(_))));
    }

    #[test]
    fn the_file_configures_them_in_place_or_by_path() {
        let dir = std::env::temp_dir().join(format!("skiff-admission-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("rates.yaml", "kind: Configuration\nlimits: [{type: Server, qps: 1}]\n");
        write(
            "config.yaml",
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  configuration: \
             {defaults: {enforce: baseline}}\n- {name: EventRateLimit, path: rates.yaml}\n",
        );
        let c = Config::load(&[], &[], Some(&dir.join("config.yaml"))).unwrap();
        assert_eq!(c.of("PodSecurity")["defaults"]["enforce"], "baseline");
        assert_eq!(c.of("EventRateLimit")["limits"][0]["qps"], 1);
        assert!(c.of("Priority").is_null());
        write(
            "config.yaml",
            "apiVersion: apiserver.k8s.io/v1alpha1\nkind: AdmissionConfiguration\nplugins:\n- {name: EventRateLimit, path: rates.yaml, \
             configuration: {limits: []}}\n",
        );
        let c = Config::load(&[], &[], Some(&dir.join("config.yaml"))).unwrap();
        assert_eq!(c.of("EventRateLimit"), &serde_json::json!({"limits": []}));
        write("config.yaml", "podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: a=b}\n");
        let c = Config::load(&[], &[], Some(&dir.join("config.yaml"))).unwrap();
        assert_eq!(c.of("PodNodeSelector")["podNodeSelectorPluginConfig"]["clusterDefaultNodeSelector"], "a=b");
        assert!(c.of("ImagePolicyWebhook").is_null());
        for (text, expected) in [
            ("kind: Pod\n", "kind must be AdmissionConfiguration"),
            ("a: [\n", "failed to parse"),
            (
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: [{name: Nope}]\n",
                "unknown admission plugin",
            ),
        ] {
            write("bad.yaml", text);
            let e = Config::load(&[], &[], Some(&dir.join("bad.yaml"))).unwrap_err().to_string();
            assert!(e.contains(expected), "{e}");
        }
        let e = Config::load(&[], &[], Some(&dir.join("none.yaml"))).unwrap_err().to_string();
        assert!(e.contains("failed to read"), "{e}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
