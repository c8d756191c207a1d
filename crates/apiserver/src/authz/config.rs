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
use super::{Authorizer, Chain};
use crate::config_file;
use crate::outbound::{self, Target};
use meta::field::{Errors, Path};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use stdx::file::WatchedFile;

const KIND: &str = "AuthorizationConfiguration";
/// Of the file; flags know ABAC, too.
const MODES: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const CONDITIONS_MAX: usize = 64;
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// What `authorizedTTL` and `unauthorizedTTL` are when the file says nothing.
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
    authorized_ttl: Option<Duration>,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL", deserialize_with = "config_file::duration")]
    unauthorized_ttl: Option<Duration>,
    cache_unauthorized_requests: Option<bool>,
    #[serde(deserialize_with = "config_file::duration")]
    timeout: Option<Duration>,
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
    kube_config_file: Option<std::path::PathBuf>,
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

/// Reads and checks a file.
pub fn load(text: &str) -> Result<Vec<Plan>, String> {
    let config: AuthorizationConfiguration = config_file::decode(text, KIND, &["v1", "v1beta1"])?;
    let mut errors = Errors::default();
    let plans = compile(&config, &mut errors);
    if errors.is_empty() { Ok(plans) } else { Err(errors.joined()) }
}

fn compile(config: &AuthorizationConfiguration, errors: &mut Errors) -> Vec<Plan> {
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
        } else if !MODES.contains(&kind) {
            errors.not_supported(at.child("type"), kind, &MODES);
        } else if kind != "Webhook" && !kinds.insert(kind) {
            errors.duplicate(at.child("type"), kind);
        }
        if one.name.is_empty() {
            errors.required(at.child("name"), "");
        } else if !names.insert(one.name.as_str()) {
            errors.duplicate(at.child("name"), one.name.clone());
        } else if let Some(fault) = meta::names::dns1123_subdomain(&one.name).first() {
            errors.invalid(at.child("name"), one.name.clone(), format!("authorizer name is invalid: {fault}"));
        }
        match (kind, &one.webhook) {
            ("Webhook", None) => errors.required(at.child("webhook"), "required when type=Webhook"),
            ("Webhook", Some(w)) => {
                plans.extend(webhook(&one.name, w, &at.child("webhook"), errors).map(|o| Plan::Webhook(Box::new(o))));
            }
            (_, Some(_)) => {
                errors.invalid(at.child("webhook"), "non-null", "may only be specified when type=Webhook");
            }
            ("AlwaysAllow", None) => plans.push(Plan::AlwaysAllow),
            ("AlwaysDeny", None) => plans.push(Plan::AlwaysDeny),
            ("Node", None) => plans.push(Plan::Node),
            ("RBAC", None) => plans.push(Plan::Rbac),
            _ => {}
        }
    }
    plans
}

fn webhook(name: &str, w: &WebhookConfig, at: &Path, errors: &mut Errors) -> Option<Options> {
    let before = errors.0.len();
    match w.timeout {
        None => errors.required(at.child("timeout"), ""),
        Some(t) if t.is_zero() || t > TIMEOUT_MAX => {
            errors.invalid(at.child("timeout"), format!("{t:?}"), "must be > 0s and <= 30s");
        }
        _ => {}
    }
    for (field, ttl) in [("authorizedTTL", w.authorized_ttl), ("unauthorizedTTL", w.unauthorized_ttl)] {
        if ttl.is_some_and(|t| t.is_zero()) {
            errors.invalid(at.child(field), "0s", "must be > 0s");
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
    let ttl = |remember: Option<bool>, ttl: Option<Duration>, default: Duration| match remember {
        Some(false) => Duration::ZERO,
        _ => ttl.unwrap_or(default),
    };
    Some(Options {
        name: name.to_string(),
        target: target?,
        version: w.subject_access_review_version.clone(),
        timeout: w.timeout?,
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
    let file_at = at.child("kubeConfigFile");
    match info.kind.as_str() {
        "" => errors.required(at.child("type"), ""),
        "KubeConfigFile" => match &info.kube_config_file {
            None => errors.required(file_at, ""),
            Some(path) if !path.is_absolute() => {
                errors.invalid(file_at, path.display().to_string(), "must be an absolute path");
            }
            Some(path) => match Target::from_kubeconfig(path) {
                Ok(target) => return Some(target),
                Err(e) => errors.invalid(file_at, path.display().to_string(), e.to_string()),
            },
        },
        // The server doesn't run in a pod of another cluster.
        other => errors.not_supported(at.child("type"), other, &["KubeConfigFile"]),
    }
    None
}

fn conditions(list: &[MatchCondition], at: &Path, errors: &mut Errors) -> Vec<Condition> {
    if list.len() > CONDITIONS_MAX {
        errors.too_many(at.clone(), list.len(), CONDITIONS_MAX);
    }
    let mut seen = BTreeSet::new();
    let mut compiled = Vec::new();
    for (i, condition) in list.iter().enumerate() {
        let at = at.index(i).child("expression");
        let text = condition.expression.trim();
        if text.is_empty() {
            errors.required(at, "");
            continue;
        }
        if !seen.insert(text) {
            errors.duplicate(at.clone(), text);
        }
        match Condition::compile(text) {
            Ok(c) => compiled.push(c),
            Err(why) => errors.invalid(at, text, why),
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
            _ => return Err(format!("{mode:?} is not a valid mode; the modes are ABAC, {}", MODES.join(", "))),
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
pub fn build(plans: Vec<Plan>, parts: &Parts) -> Vec<Arc<dyn Authorizer>> {
    let mut out: Vec<Arc<dyn Authorizer>> = vec![Arc::new(Masters)];
    for plan in plans {
        out.push(match plan {
            Plan::AlwaysAllow => Arc::new(AlwaysAllow),
            Plan::AlwaysDeny => Arc::new(AlwaysDeny),
            Plan::Abac(policies) => policies,
            Plan::Node => parts.node.clone(),
            Plan::Rbac => parts.rbac.clone(),
            Plan::Webhook(options) => Arc::new(Webhook::new(*options, parts.client.clone())),
        });
    }
    out
}

/// Follows the file until shutdown; one with mistakes changes nothing.
pub async fn follow(chain: Arc<Chain>, parts: Parts, mut file: WatchedFile, shutdown: Shutdown) {
    loop {
        let content = tokio::select! {
            _ = shutdown.cancelled() => return,
            content = file.changed() => content,
        };
        let path = file.path().display();
        let plans = std::str::from_utf8(&content).map_err(|e| e.to_string()).and_then(load);
        match plans {
            Ok(plans) => {
                chain.replace(build(plans, &parts));
                tracing::info!(%path, "authorization configuration was reloaded");
            }
            Err(error) => {
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
        let plans = load(&good).unwrap();
        let [Plan::Webhook(w), Plan::Node, Plan::Rbac] = plans.as_slice() else { panic!("{plans:?}") };
        assert_eq!((w.authorized_ttl, w.unauthorized_ttl), (Duration::from_secs(60), Duration::ZERO));
        assert_eq!((w.failure_policy, w.conditions.len()), (FailurePolicy::Deny, 1));
        for (from, to, expected) in [
            (
                "timeout: 3s",
                "timeout: 31s",
                "authorizers[0].webhook.timeout: Invalid value: \"31s\": must be > 0s and <= 30s",
            ),
            ("    timeout: 3s\n", "", "authorizers[0].webhook.timeout: Required value"),
            (
                "failurePolicy: Deny",
                "failurePolicy: Fail",
                "authorizers[0].webhook.failurePolicy: Unsupported value: \"Fail\": supported values: \"NoOpinion\", \"Deny\"",
            ),
            ("subjectAccessReviewVersion: v1\n", "subjectAccessReviewVersion: v2\n", "Unsupported value: \"v2\""),
            ("    matchConditionSubjectAccessReviewVersion: v1\n", "", "required if match conditions are specified"),
            (
                "request.user != 'x'",
                "request.nobody == 1",
                "authorizers[0].webhook.matchConditions[0].expression: Invalid value",
            ),
            ("request.user != 'x'", "request.user", "must evaluate to bool"),
            ("type: KubeConfigFile, ", "", "authorizers[0].webhook.connectionInfo.type: Required value"),
            ("name: node", "name: first", "authorizers[1].name: Duplicate value: \"first\""),
            ("type: Node", "type: RBAC", "authorizers[2].type: Duplicate value: \"RBAC\""),
            ("type: Node", "type: ABAC", "authorizers[1].type: Unsupported value: \"ABAC\""),
            ("type: Node", "type: Webhook", "authorizers[1].webhook: Required value: required when type=Webhook"),
            ("authorizedTTL", "allowedTTL", "strict decoding error: authorizers[0].webhook.allowedTTL: unknown field"),
        ] {
            assert!(good.contains(from), "{from}");
            let got = load(&good.replacen(from, to, 1)).unwrap_err();
            assert!(got.contains(expected), "{to}: {got}");
        }
        let missing = load(&GOOD.replace("CONFIG", "/nowhere/at/all")).unwrap_err();
        assert!(
            missing.starts_with("authorizers[0].webhook.connectionInfo.kubeConfigFile: Invalid value"),
            "{missing}"
        );
        let relative = load(&GOOD.replace("CONFIG", "kubeconfig")).unwrap_err();
        assert!(relative.contains("must be an absolute path"), "{relative}");
        let empty = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";
        assert_eq!(
            load(empty).unwrap_err(),
            "authorizers: Required value: at least one authorization mode must be defined"
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
