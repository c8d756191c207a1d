//! Nobody lets a policy read what they may not read themselves: who writes a policy needs `get` for all objects of its
//! `paramKind`, who writes a binding for those that its `paramRef` names. Upstream has this check, and its answer
//! (422), in the storage of the kinds; so it can't be turned off.

use super::definition::ParamKind;
use super::params::row_of;
use crate::admission::{Attributes, Operation, Plugin};
use crate::authn::{MASTERS, User};
use crate::authz::{self, Authorizer};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::Value;
use std::sync::Arc;

const GROUP: &str = "admissionregistration.k8s.io";

pub struct ParamAccess {
    reader: Reader,
    authorizer: Arc<dyn Authorizer>,
}

/// What is to be read: all that isn't known stands for everything.
struct Wanted {
    group: String,
    version: String,
    resource: Option<String>,
}

impl Wanted {
    fn of(kind: &ParamKind, a: &Attributes<'_>) -> Wanted {
        let (group, version) = meta::object::split_api_version(&kind.api_version);
        let resource = row_of(kind, &a.catalogue).map(|r| r.plural.clone());
        Wanted { group: group.into(), version: version.into(), resource }
    }

    fn anything() -> Wanted {
        Wanted { group: "*".into(), version: "*".into(), resource: None }
    }
}

impl ParamAccess {
    pub fn new(reader: &Reader, authorizer: &Arc<dyn Authorizer>) -> ParamAccess {
        ParamAccess { reader: reader.clone(), authorizer: authorizer.clone() }
    }

    async fn may(&self, user: &User, verb: &str, wanted: &Wanted, namespace: &str, name: &str) -> bool {
        let question = authz::Attributes {
            user: user.clone(),
            verb: verb.to_string(),
            is_resource: true,
            group: wanted.group.clone(),
            version: wanted.version.clone(),
            resource: wanted.resource.clone().unwrap_or_else(|| "*".to_string()),
            namespace: namespace.to_string(),
            name: name.to_string(),
            ..authz::Attributes::default()
        };
        self.authorizer.authorize(&question).await.allowed()
    }

    async fn policy(&self, a: &Attributes<'_>) -> std::result::Result<(), String> {
        let given = &a.object["spec"]["paramKind"];
        let Some(kind) = ParamKind::read(given) else { return Ok(()) };
        if a.old.is_some_and(|old| &old["spec"]["paramKind"] == given)
            || self.may(a.user, "get", &Wanted::of(&kind, a), "*", "*").await
        {
            return Ok(());
        }
        Err(format!(
            "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
            shown(a.user),
            kind.kind,
            kind.api_version
        ))
    }

    async fn binding(&self, a: &Attributes<'_>, policies: &str) -> std::result::Result<(), String> {
        let spec = &a.object["spec"];
        let reference = &spec["paramRef"];
        let unchanged =
            |old: &Value| &old["spec"]["paramRef"] == reference && old["spec"]["policyName"] == spec["policyName"];
        if !reference.is_object() || a.old.is_some_and(unchanged) {
            return Ok(());
        }
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let (policy_name, name) = (text(&spec["policyName"]), text(&reference["name"]));
        let policy = self.reader.get(GROUP, policies, "", &policy_name).map(|p| p.value());
        let kind = policy.as_ref().and_then(|p| ParamKind::read(&p["spec"]["paramKind"]));
        let wanted = kind.as_ref().map_or_else(Wanted::anything, |k| Wanted::of(k, a));
        let verb = if name.is_empty() { "list" } else { "get" };
        if self.may(a.user, verb, &wanted, &text(&reference["namespace"]), &name).await {
            return Ok(());
        }
        let lacks = format!("user {} does not have {verb:?} permission", shown(a.user));
        let everywhere = "for all groups, versions and resources";
        Err(match kind {
            _ if policy.is_none() => {
                format!(
                    "unable to get policy {policy_name} to determine minimum required permissions and {lacks} {everywhere}"
                )
            }
            Some(k) if wanted.resource.is_none() => format!(
                "unable to resolve paramKind &{{{} {}}} to determine minimum required permissions and {lacks} {everywhere}",
                k.api_version, k.kind
            ),
            _ => format!("{lacks} on the object referenced by paramRef"),
        })
    }
}

/// As Go prints its `user.DefaultInfo`.
fn shown(user: &User) -> String {
    let extra: Vec<String> = user.extra.iter().map(|(k, v)| format!("{k}:[{}]", v.join(" "))).collect();
    format!("&{{{} {} [{}] map[{}]}}", user.name, user.uid, user.groups.join(" "), extra.join(" "))
}

#[async_trait]
impl Plugin for ParamAccess {
    fn name(&self) -> &'static str {
        "PolicyParamAccess"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<()> {
        if a.resource.group != GROUP
            || !a.subresource.is_empty()
            || !matches!(a.operation, Operation::Create | Operation::Update)
            || a.user.in_group(MASTERS)
        {
            return Ok(());
        }
        let (done, field) = match a.resource.plural.as_str() {
            "validatingadmissionpolicies" | "mutatingadmissionpolicies" => (self.policy(a).await, "spec.paramKind"),
            "validatingadmissionpolicybindings" => {
                (self.binding(a, "validatingadmissionpolicies").await, "spec.paramRef")
            }
            "mutatingadmissionpolicybindings" => (self.binding(a, "mutatingadmissionpolicies").await, "spec.paramRef"),
            _ => return Ok(()),
        };
        done.map_err(|why| {
            let mut errors = Errors::default();
            errors.forbidden(Path::new(field), why);
            Status::invalid(&a.resource.group, &a.resource.kind, a.name, &errors)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::authz::Chain;
    use crate::testing::reader;
    use serde_json::json;

    const V: &str = "rbac.authorization.k8s.io/v1";

    fn policy(kind: &str) -> Value {
        json!({"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"p"},
            "spec":{"paramKind":{"apiVersion":"v1","kind":kind}}})
    }

    fn binding(policy: &str, reference: Value) -> Value {
        json!({"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding",
            "metadata":{"name":"b"},"spec":{"policyName":policy,"paramRef":reference}})
    }

    #[tokio::test]
    async fn who_may_not_read_parameters_lets_no_policy_read_them() {
        let grant = |name: &str, rule: Value| {
            [
                json!({"apiVersion":V,"kind":"ClusterRole","metadata":{"name":name},"rules":[rule]}),
                json!({"apiVersion":V,"kind":"ClusterRoleBinding","metadata":{"name":name},
                    "roleRef":{"kind":"ClusterRole","name":name},"subjects":[{"kind":"User","name":name}]}),
            ]
        };
        let maps = |verbs: &[&str]| json!({"apiGroups":[""],"resources":["configmaps"],"verbs":verbs});
        let mut objects = [grant("jane", maps(&["get"])), grant("joe", maps(&["list"]))].concat();
        objects.extend([policy("ConfigMap"), {
            let mut unknown = policy("Nope");
            unknown["metadata"]["name"] = "q".into();
            unknown
        }]);
        let r = reader(&objects).await;
        let authorizer: Arc<dyn Authorizer> = Arc::new(Chain::standard(r.clone()).0);
        let check = ParamAccess::new(&r, &authorizer);
        let (jane, joe) = (User::new("jane", &["devs", "all"]), User::new("joe", &[]));
        let root = User::new("root", &[MASTERS]);
        let lacks = |verb: &str| format!("user &{{joe  [] map[]}} does not have \"{verb}\" permission");
        let must = "must have \"get\" permission on all objects of the referenced paramKind";
        let named = || json!({"name":"x","namespace":"d"});
        let everything = "for all groups, versions and resources";
        for (user, object, want) in [
            (&jane, policy("ConfigMap"), String::new()),
            (&root, policy("Secret"), String::new()),
            (
                &jane,
                policy("Secret"),
                format!(
                    "spec.paramKind: Forbidden: user &{{jane  [devs all] map[]}} {must} (kind=Secret, apiVersion=v1)"
                ),
            ),
            (&jane, binding("p", named()), String::new()),
            (&joe, binding("p", json!({"selector":{}})), String::new()),
            (&joe, binding("p", Value::Null), String::new()),
            (
                &joe,
                binding("p", named()),
                format!("spec.paramRef: Forbidden: {} on the object referenced by paramRef", lacks("get")),
            ),
            (
                &joe,
                binding("none", named()),
                format!(
                    "spec.paramRef: Forbidden: unable to get policy none to determine minimum required permissions and {} {everything}",
                    lacks("get")
                ),
            ),
            (
                &joe,
                binding("q", json!({"selector":{}})),
                format!(
                    "spec.paramRef: Forbidden: unable to resolve paramKind &{{v1 Nope}} to determine minimum required permissions and {} {everything}",
                    lacks("list")
                ),
            ),
        ] {
            let plural = if object["kind"] == "ValidatingAdmissionPolicy" {
                "validatingadmissionpolicies"
            } else {
                "validatingadmissionpolicybindings"
            };
            let write = Write::create(GROUP, plural, "", object.clone()).served().by(user);
            let got = write.validate(&check).await.map_or_else(|s| (s.code, s.message), |()| (0, String::new()));
            if want.is_empty() {
                assert_eq!(got, (0, String::new()), "{object}");
            } else {
                assert!(got.0 == 422 && got.1.ends_with(&format!("is invalid: {want}")), "{got:?}");
            }
        }
        // What stays as it was is nobody's concern.
        let old = policy("Secret");
        let same = Write::update(GROUP, "validatingadmissionpolicies", "", old.clone(), old).served().by(&jane);
        assert_eq!(same.validate(&check).await, Ok(()));
    }
}
