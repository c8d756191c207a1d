//! `AuthorizationConfiguration`: which authorizers are asked, in which order, and how webhooks are called.
//!
//! In: the file's text, or upstream's older flags (`--authorization-mode`). Out: [`Plan`]s, checked, with their
//! conditions compiled; [`build`] makes authorizers of them. Source: KEP-3221; errors as upstream words them.

use super::abac::Abac;
use super::always::{AlwaysAllow, AlwaysDeny};
use super::expressions::Condition;
use super::masters::Masters;
use super::node::NodeAuthorizer;
use super::rbac::Rbac;
use super::webhook::{FailurePolicy, Options, Webhook};
use super::{Authorizer, Chain, Named};
use crate::config_file;
use crate::metrics::figures::AUTHORIZATION_RELOADS;
use crate::outbound::{self, Target};
use api::codec::scalar::format_duration;
use jiff::SignedDuration;
use meta::field::{Errors, Path};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use stdx::file::WatchedFile;

const KIND: &str = "AuthorizationConfiguration";
const MODES: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
/// Made once, at the start: a changed file can't bring them.
const MADE_AT_START: [&str; 3] = ["ABAC", "Node", "RBAC"];
const CONDITIONS_MAX: usize = 64;
const TIMEOUT_MAX: SignedDuration = SignedDuration::from_secs(30);
/// What `authorizedTTL` and `unauthorizedTTL` are when the file says nothing, or 0.
const AUTHORIZED_TTL: Duration = Duration::from_secs(5 * 60);
const UNAUTHORIZED_TTL: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct AuthorizationConfiguration {
    authorizers: Vec<AuthorizerConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct AuthorizerConfig {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    webhook: Option<WebhookConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct WebhookConfig {
    #[serde(rename = "authorizedTTL", deserialize_with = "config_file::duration")]
    authorized_ttl: SignedDuration,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL", deserialize_with = "config_file::duration")]
    unauthorized_ttl: SignedDuration,
    cache_unauthorized_requests: Option<bool>,
    #[serde(deserialize_with = "config_file::duration")]
    timeout: SignedDuration,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: ConnectionInfo,
    match_conditions: Vec<MatchCondition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct ConnectionInfo {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct MatchCondition {
    expression: String,
}

/// One authorizer, checked.
#[derive(Clone, Debug)]
pub enum Plan {
    AlwaysAllow,
    AlwaysDeny,
    Abac(Arc<Abac>),
    Node,
    Rbac,
    Webhook(Box<Options>),
}

impl Plan {
    fn kind(&self) -> &'static str {
        match self {
            Plan::AlwaysAllow => "AlwaysAllow",
            Plan::AlwaysDeny => "AlwaysDeny",
            Plan::Abac(_) => "ABAC",
            Plan::Node => "Node",
            Plan::Rbac => "RBAC",
            Plan::Webhook(_) => "Webhook",
        }
    }
}

/// Reads and checks a file. `abac` is what `--authorization-policy-file` says.
pub fn load(text: &str, abac: Option<&Arc<Abac>>) -> Result<Vec<Plan>, String> {
    let (plans, mistakes) = read(text, abac)?;
    if mistakes.is_empty() { Ok(plans) } else { Err(super::aggregate(&mistakes)) }
}

/// What a file says that changed while the server runs: types of the start other than webhooks must stay.
fn reload(text: &str, start: &[Plan]) -> Result<Vec<Plan>, String> {
    let kinds: BTreeSet<&str> = start.iter().map(Plan::kind).collect();
    let abac = start.iter().find_map(|p| if let Plan::Abac(a) = p { Some(a) } else { None });
    // Policies that were not there at the start are told below, as any type that wasn't.
    let none = Arc::default();
    let (plans, mut mistakes) = read(text, abac.or(Some(&none)))?;
    let now: BTreeSet<&str> = plans.iter().map(Plan::kind).collect();
    let missing: Vec<&str> = kinds.difference(&now).copied().filter(|k| *k != "Webhook").collect();
    if !missing.is_empty() {
        mistakes.push(format!("missing required types: [{}]", missing.join(" ")));
    }
    if mistakes.is_empty()
        && let Some(kind) = plans.iter().map(Plan::kind).find(|k| MADE_AT_START.contains(k) && !kinds.contains(k))
    {
        mistakes.push(format!("authorizer type {kind} is not allowed if it was not enabled at initial server startup"));
    }
    if mistakes.is_empty() { Ok(plans) } else { Err(super::aggregate(&mistakes)) }
}

/// The plans, and what is wrong with them though the file is a good one by itself.
fn read(text: &str, abac: Option<&Arc<Abac>>) -> Result<(Vec<Plan>, Vec<String>), String> {
    let config: AuthorizationConfiguration = config_file::decode(text, KIND, &["v1", "v1beta1", "v1alpha1"])?;
    let mut errors = Errors::default();
    let plans = compile(&config, abac, &mut errors);
    if !errors.is_empty() {
        return Err(errors.joined());
    }
    let mut mistakes = Vec::new();
    for one in config.authorizers.iter().filter(|a| a.kind != "Webhook") {
        let expected = one.kind.to_ascii_lowercase();
        if one.name != expected {
            mistakes.push(format!("expected name {expected} for authorizer {} instead of {}", one.kind, one.name));
        }
        if one.kind == "ABAC" && abac.is_none() {
            mistakes.push("authorizer type ABAC needs an authorization policy file".to_string());
        }
    }
    Ok((plans, mistakes))
}

fn compile(config: &AuthorizationConfiguration, abac: Option<&Arc<Abac>>, errors: &mut Errors) -> Vec<Plan> {
    let root = Path::new("authorizers");
    if config.authorizers.is_empty() {
        errors.required(root.clone(), "at least one authorization mode must be defined");
    }
    let (mut kinds, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut plans = Vec::new();
    for (i, one) in config.authorizers.iter().enumerate() {
        let at = root.index(i);
        let kind = one.kind.as_str();
        if kind.is_empty() {
            errors.required(at.child("type"), "");
            continue;
        } else if !MODES.contains(&kind) {
            errors.not_supported(at.child("type"), kind, &MODES);
            continue;
        } else if !kinds.insert(kind) && kind != "Webhook" {
            errors.duplicate(at.child("type"), kind);
            continue;
        }
        if one.name.is_empty() {
            errors.required(at.child("name"), "");
        } else if !names.insert(one.name.as_str()) {
            errors.duplicate(at.child("name"), one.name.clone());
        } else {
            let faults = meta::names::dns1123_subdomain(&one.name);
            if !faults.is_empty() {
                let why = format!("authorizer name is invalid: {}", faults.join(", "));
                errors.invalid(at.child("name"), one.name.clone(), why);
            }
        }
        match (kind, &one.webhook) {
            ("Webhook", None) => errors.required(at.child("webhook"), "required when type=Webhook"),
            // Upstream leaves `webhook` out of the paths.
            ("Webhook", Some(w)) => {
                plans.extend(webhook(&one.name, w, &at, errors).map(|o| Plan::Webhook(Box::new(o))));
            }
            (_, Some(_)) => {
                errors.invalid(at.child("webhook"), "non-null", "may only be specified when type=Webhook");
            }
            ("AlwaysAllow", None) => plans.push(Plan::AlwaysAllow),
            ("AlwaysDeny", None) => plans.push(Plan::AlwaysDeny),
            ("Node", None) => plans.push(Plan::Node),
            ("RBAC", None) => plans.push(Plan::Rbac),
            ("ABAC", None) => plans.extend(abac.map(|policies| Plan::Abac(policies.clone()))),
            _ => {}
        }
    }
    plans
}

fn webhook(name: &str, w: &WebhookConfig, at: &Path, errors: &mut Errors) -> Option<Options> {
    let before = errors.0.len();
    let shown = |d: SignedDuration| format_duration(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
    if w.timeout.is_zero() {
        errors.required(at.child("timeout"), "");
    } else if w.timeout.is_negative() || w.timeout > TIMEOUT_MAX {
        errors.invalid(at.child("timeout"), shown(w.timeout), "must be > 0s and <= 30s");
    }
    for (field, ttl) in [("authorizedTTL", w.authorized_ttl), ("unauthorizedTTL", w.unauthorized_ttl)] {
        if ttl.is_negative() {
            errors.invalid(at.child(field), shown(ttl), "must be > 0s");
        }
    }
    one_of(&w.subject_access_review_version, &["v1", "v1beta1"], &at.child("subjectAccessReviewVersion"), errors);
    let version = &w.match_condition_subject_access_review_version;
    let version_at = at.child("matchConditionSubjectAccessReviewVersion");
    match version.as_str() {
        "" if w.match_conditions.is_empty() => {}
        "" => errors.required(version_at, "required if match conditions are specified"),
        _ => one_of(version, &["v1"], &version_at, errors),
    }
    one_of(&w.failure_policy, &["NoOpinion", "Deny"], &at.child("failurePolicy"), errors);
    let target = connection(&w.connection_info, &at.child("connectionInfo"), errors);
    let conditions = conditions(&w.match_conditions, &at.child("matchConditions"), errors);
    if errors.0.len() > before {
        return None;
    }
    let ttl = |remember: Option<bool>, ttl: SignedDuration, default: Duration| match remember {
        Some(false) => Duration::ZERO,
        _ => Duration::try_from(ttl).ok().filter(|t| !t.is_zero()).unwrap_or(default),
    };
    Some(Options {
        name: name.to_string(),
        target: target?,
        version: w.subject_access_review_version.clone(),
        timeout: Duration::try_from(w.timeout).ok()?,
        authorized_ttl: ttl(w.cache_authorized_requests, w.authorized_ttl, AUTHORIZED_TTL),
        unauthorized_ttl: ttl(w.cache_unauthorized_requests, w.unauthorized_ttl, UNAUTHORIZED_TTL),
        failure_policy: if w.failure_policy == "Deny" { FailurePolicy::Deny } else { FailurePolicy::NoOpinion },
        conditions,
    })
}

fn one_of(value: &str, known: &[&str], at: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(at.clone(), "");
    } else if !known.contains(&value) {
        errors.not_supported(at.clone(), value, known);
    }
}

fn connection(info: &ConnectionInfo, at: &Path, errors: &mut Errors) -> Option<Target> {
    let (file_at, file) = (at.child("kubeConfigFile"), info.kube_config_file.as_deref().unwrap_or_default());
    let path = std::path::Path::new(file);
    match info.kind.as_str() {
        "" => errors.required(at.child("type"), ""),
        "KubeConfigFile" if file.is_empty() => errors.required(file_at, ""),
        "KubeConfigFile" if !path.is_absolute() => errors.invalid(file_at, file, "must be an absolute path"),
        "KubeConfigFile" => match std::fs::metadata(path) {
            Err(e) => errors.invalid(file_at, file, format!("error loading file: {e}")),
            Ok(m) if !m.is_file() => errors.invalid(file_at, file, "must be a regular file"),
            Ok(_) => match Target::from_kubeconfig(path) {
                Ok(target) => return Some(target),
                Err(e) => errors.invalid(file_at, file, e.to_string()),
            },
        },
        "InClusterConfig" if info.kube_config_file.is_some() => {
            errors.invalid(file_at, file, "can only be set when type=KubeConfigFile");
        }
        "InClusterConfig" => errors.invalid(at.child("type"), "InClusterConfig", "the server doesn't run in a pod"),
        _ => {
            let shown = json!({"Type": info.kind, "KubeConfigFile": info.kube_config_file});
            errors.not_supported(at.child("type"), shown, &["InClusterConfig", "KubeConfigFile"]);
        }
    }
    None
}

fn conditions(list: &[MatchCondition], at: &Path, errors: &mut Errors) -> Vec<Condition> {
    if list.len() > CONDITIONS_MAX {
        errors.too_many(at.clone(), list.len(), CONDITIONS_MAX);
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let mut compiled = Vec::new();
    for (i, condition) in list.iter().enumerate() {
        let (at, text) = (at.index(i).child("expression"), condition.expression.as_str());
        if text.trim().is_empty() {
            errors.required(at, "");
        } else if !seen.insert(text) {
            errors.duplicate(at, text);
        } else {
            match Condition::compile(text) {
                Ok(c) => compiled.push(c),
                Err(why) => errors.invalid(at, text, why),
            }
        }
    }
    compiled
}

/// `--authorization-mode`; `webhook` is what the `--authorization-webhook-…` flags say, `abac` the policy file.
pub fn from_modes(modes: &[String], webhook: Option<Options>, abac: Option<Abac>) -> Result<Vec<Plan>, String> {
    let abac = abac.map(Arc::new);
    let mut plans = Vec::new();
    let mut seen = BTreeSet::new();
    for mode in modes {
        if !seen.insert(mode) {
            return Err(format!("authorization-mode {modes:?} has mode specified more than once"));
        }
        plans.push(match (mode.as_str(), &webhook) {
            ("AlwaysAllow", _) => Plan::AlwaysAllow,
            ("AlwaysDeny", _) => Plan::AlwaysDeny,
            ("ABAC", _) => {
                Plan::Abac(abac.clone().ok_or("authorization-mode ABAC's authorization policy file not passed")?)
            }
            ("Node", _) => Plan::Node,
            ("RBAC", _) => Plan::Rbac,
            ("Webhook", Some(options)) => Plan::Webhook(Box::new(options.clone())),
            ("Webhook", None) => {
                return Err("authorization-mode Webhook's authorization config file not passed".to_string());
            }
            _ => return Err(format!("{mode:?} is not a valid mode; the modes are {}", MODES.join(", "))),
        });
    }
    if plans.is_empty() {
        return Err("at least one authorization-mode must be passed".to_string());
    }
    if abac.is_some() && !seen.contains(&"ABAC".to_string()) {
        return Err("cannot specify --authorization-policy-file without mode ABAC".to_string());
    }
    if webhook.is_some() && !seen.contains(&"Webhook".to_string()) {
        return Err("cannot specify --authorization-webhook-config-file without mode Webhook".to_string());
    }
    Ok(plans)
}

/// What authorizers are made of.
#[derive(Clone)]
pub struct Parts {
    pub node: Arc<NodeAuthorizer>,
    pub rbac: Arc<Rbac>,
    pub client: outbound::Client,
}

/// The authorizers, behind `system:masters`, which always may.
pub fn build(plans: &[Plan], parts: &Parts) -> Vec<Arc<dyn Authorizer>> {
    let mut out: Vec<Arc<dyn Authorizer>> = vec![Arc::new(Masters)];
    for plan in plans {
        let (mut name, kind) = (plan.kind().to_ascii_lowercase(), plan.kind());
        let authorizer: Arc<dyn Authorizer> = match plan {
            Plan::AlwaysAllow => Arc::new(AlwaysAllow),
            Plan::AlwaysDeny => Arc::new(AlwaysDeny),
            Plan::Abac(policies) => policies.clone(),
            Plan::Node => parts.node.clone(),
            Plan::Rbac => parts.rbac.clone(),
            Plan::Webhook(options) => {
                name = options.name.clone();
                Arc::new(Webhook::new((**options).clone(), parts.client.clone()))
            }
        };
        out.push(Arc::new(Named { kind, name, authorizer }));
    }
    out
}

/// Follows the file until shutdown; one with mistakes changes nothing. `plans` are those of the start.
pub async fn follow(chain: Arc<Chain>, plans: Vec<Plan>, parts: Parts, mut file: WatchedFile, shutdown: Shutdown) {
    loop {
        let content = tokio::select! {
            _ = shutdown.cancelled() => return,
            content = file.changed() => content,
        };
        let path = file.path().display();
        let text = std::str::from_utf8(&content).map_err(|e| e.to_string());
        match text.and_then(|text| reload(text, &plans).map(|new| (new, text))) {
            Ok((new, text)) => {
                AUTHORIZATION_RELOADS.succeeded(text);
                chain.replace(build(&new, &parts));
                tracing::info!(%path, "authorization configuration was reloaded");
            }
            Err(error) => {
                AUTHORIZATION_RELOADS.failed();
                tracing::error!(%path, error, "authorization configuration has changed and isn't used; the last good one stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: first
  webhook:
    timeout: 3s
    authorizedTTL: 1m
    cacheUnauthorizedRequests: false
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: CONFIG}
    matchConditions: [{expression: \"request.user != 'x'\"}]
- {type: Node, name: node}
- {type: RBAC, name: rbac}
";

    #[test]
    fn files_are_taken_or_told_what_is_wrong_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("kubeconfig");
        std::fs::write(
            &config,
            "{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: 'https://h/x'}}], \
             users: [{name: u, user: {token: t}}], contexts: [{name: c, context: {cluster: c, user: u}}]}",
        )
        .unwrap();
        let good = GOOD.replace("CONFIG", config.to_str().unwrap());
        let plans = load(&good, None).unwrap();
        let [Plan::Webhook(w), Plan::Node, Plan::Rbac] = plans.as_slice() else { panic!("{plans:?}") };
        assert_eq!((w.authorized_ttl, w.unauthorized_ttl), (Duration::from_secs(60), Duration::ZERO));
        assert_eq!((w.failure_policy, w.conditions.len()), (FailurePolicy::Deny, 1));
        let defaulted = load(&good.replace("authorizedTTL: 1m", "authorizedTTL: 0s"), None).unwrap();
        assert!(matches!(&defaulted[0], Plan::Webhook(w) if w.authorized_ttl == AUTHORIZED_TTL));
        const KUBECONFIG: &str = "{type: KubeConfigFile, kubeConfigFile: ";
        for (from, to, expected) in [
            ("timeout: 3s", "timeout: 31s", "authorizers[0].timeout: Invalid value: \"31s\": must be > 0s and <= 30s"),
            ("timeout: 3s", "timeout: -1s", "authorizers[0].timeout: Invalid value: \"-1s\": must be > 0s and <= 30s"),
            ("    timeout: 3s\n", "", "authorizers[0].timeout: Required value"),
            (
                "authorizedTTL: 1m",
                "authorizedTTL: -1m",
                "authorizers[0].authorizedTTL: Invalid value: \"-1m0s\": must be > 0s",
            ),
            (
                "failurePolicy: Deny",
                "failurePolicy: Fail",
                "authorizers[0].failurePolicy: Unsupported value: \"Fail\": supported values: \"NoOpinion\", \"Deny\"",
            ),
            ("    failurePolicy: Deny\n", "", "authorizers[0].failurePolicy: Required value"),
            (
                "subjectAccessReviewVersion: v1\n",
                "subjectAccessReviewVersion: v2\n",
                "authorizers[0].subjectAccessReviewVersion: Unsupported value: \"v2\": supported values: \"v1\", \"v1beta1\"",
            ),
            (
                "matchConditionSubjectAccessReviewVersion: v1\n",
                "matchConditionSubjectAccessReviewVersion: v1beta1\n",
                "authorizers[0].matchConditionSubjectAccessReviewVersion: Unsupported value: \"v1beta1\": supported values: \"v1\"",
            ),
            (
                "    matchConditionSubjectAccessReviewVersion: v1\n",
                "",
                "authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified",
            ),
            (
                "request.user != 'x'",
                "request.nobody == 1",
                "authorizers[0].matchConditions[0].expression: Invalid value: \"request.nobody == 1\": compilation failed: ERROR: ",
            ),
            (
                "request.user != 'x'",
                "request.user",
                "authorizers[0].matchConditions[0].expression: Invalid value: \"request.user\": must evaluate to bool but got string",
            ),
            ("request.user != 'x'", " ", "authorizers[0].matchConditions[0].expression: Required value"),
            (
                "{expression: \"request.user != 'x'\"}",
                "{expression: 'true'}, {expression: 'true'}",
                "authorizers[0].matchConditions[1].expression: Duplicate value: \"true\"",
            ),
            ("type: KubeConfigFile, ", "", "authorizers[0].connectionInfo.type: Required value"),
            (
                "type: KubeConfigFile, kubeConfigFile: CONFIG",
                "type: Magic",
                "authorizers[0].connectionInfo.type: Unsupported value: {\"KubeConfigFile\":null,\"Type\":\"Magic\"}: supported values: \"InClusterConfig\", \"KubeConfigFile\"",
            ),
            (
                KUBECONFIG,
                "{type: InClusterConfig, kubeConfigFile: ",
                "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: ",
            ),
            (
                "type: KubeConfigFile, kubeConfigFile: CONFIG",
                "type: KubeConfigFile, kubeConfigFile: /",
                "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"/\": must be a regular file",
            ),
            ("name: node", "name: first", "authorizers[1].name: Duplicate value: \"first\""),
            ("name: node", "name: ''", "authorizers[1].name: Required value"),
            (
                "name: node",
                "name: Node",
                "authorizers[1].name: Invalid value: \"Node\": authorizer name is invalid: a lowercase RFC 1123 subdomain",
            ),
            ("type: Node", "type: RBAC", "authorizers[2].type: Duplicate value: \"RBAC\""),
            (
                "type: Node",
                "type: Magic",
                "authorizers[1].type: Unsupported value: \"Magic\": supported values: \"ABAC\", \"AlwaysAllow\", ",
            ),
            ("name: node", "name: nodes", "expected name node for authorizer Node instead of nodes"),
            ("Node, name: node", "ABAC, name: abac", "authorizer type ABAC needs an authorization policy file"),
            ("type: Node", "type: ''", "authorizers[1].type: Required value"),
            ("type: Node", "type: Webhook", "authorizers[1].webhook: Required value: required when type=Webhook"),
            (
                "name: node}",
                "name: node, webhook: {}}",
                "authorizers[1].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook",
            ),
            ("authorizedTTL", "allowedTTL", "strict decoding error: authorizers[0].webhook.allowedTTL: unknown field"),
        ] {
            let from = from.replace("CONFIG", config.to_str().unwrap());
            assert!(good.contains(&from), "{from}");
            let got = load(&good.replacen(&from, to, 1), None).unwrap_err();
            assert!(got.starts_with(expected), "{to}: {got}");
        }
        let missing = load(&GOOD.replace("CONFIG", "/nowhere/at/all"), None).unwrap_err();
        assert!(
            missing.starts_with(
                "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"/nowhere/at/all\": error loading file: "
            ),
            "{missing}"
        );
        let relative = load(&GOOD.replace("CONFIG", "kubeconfig"), None).unwrap_err();
        assert!(relative.contains("must be an absolute path"), "{relative}");
        let empty = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";
        assert_eq!(
            load(empty, None).unwrap_err(),
            "authorizers: Required value: at least one authorization mode must be defined"
        );
    }

    #[test]
    fn a_changed_file_keeps_the_types_of_the_start() {
        let file = |kinds: &[&str]| {
            let one = |k: &&str| format!("- {{type: {k}, name: {}}}\n", k.to_lowercase());
            let list: String = kinds.iter().map(one).collect();
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n{list}")
        };
        let policies = Arc::new(Abac::default());
        let start = load(&file(&["Node", "ABAC"]), Some(&policies)).unwrap();
        assert!(matches!(start.as_slice(), [Plan::Node, Plan::Abac(_)]), "{start:?}");
        let again = |kinds: &[&str]| reload(&file(kinds), &start).map(|plans| plans.len());
        assert_eq!(again(&["ABAC", "Node", "AlwaysDeny"]), Ok(3));
        for (kinds, expected) in [
            (&["RBAC"][..], "missing required types: [ABAC Node]"),
            (
                &["Node", "ABAC", "RBAC"],
                "authorizer type RBAC is not allowed if it was not enabled at initial server startup",
            ),
        ] {
            assert_eq!(again(kinds).unwrap_err(), expected);
        }
        let without = load(&file(&["RBAC"]), None).unwrap();
        assert_eq!(
            reload(&file(&["RBAC", "ABAC"]), &without).unwrap_err(),
            "authorizer type ABAC is not allowed if it was not enabled at initial server startup"
        );
    }

    #[test]
    fn modes_are_checked() {
        let names = |list: &[&str]| list.iter().map(|m| m.to_string()).collect::<Vec<_>>();
        let modes = |list: &[&str]| from_modes(&names(list), None, None);
        assert_eq!(modes(&["Node", "RBAC"]).unwrap().len(), 2);
        for bad in [&["RBAC", "RBAC"][..], &["Webhook"], &["ABAC"], &["Magic"], &[]] {
            assert!(modes(bad).is_err(), "{bad:?}");
        }
        let with_policies = |list: &[&str]| from_modes(&names(list), None, Some(Abac::default()));
        assert_eq!(with_policies(&["ABAC", "RBAC"]).unwrap().len(), 2);
        let e = with_policies(&["RBAC"]).unwrap_err();
        assert_eq!(e, "cannot specify --authorization-policy-file without mode ABAC");
    }
}
