//! Who may. Each authorizer is a file; the first that has an opinion decides.
//!
//! In: [`Attributes`] of a request. Out: a [`Decision`] with upstream's reason texts, and [`forbidden`], the
//! `Status` that a refused client sees.

use crate::authn::User;
use crate::metrics::figures::AUTHORIZATION_DECISIONS;
use crate::request_info::RequestInfo;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use meta::selector::FieldSelector;
use meta::status::Status;
use std::sync::Arc;

pub mod abac;
pub mod always;
pub mod config;
pub mod escalation;
pub mod expressions;
pub mod followed;
pub mod masters;
pub mod node;
pub mod question;
pub mod rbac;
pub mod rules;
pub mod webhook;

/// What is asked of an authorizer (`authorizer.Attributes`).
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    pub user: User,
    pub verb: String,
    /// False: only `path` and `verb` count.
    pub is_resource: bool,
    pub path: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// As the client wrote it; the Node authorizer lets nodes list only their own pods.
    pub field_selector: String,
    pub label_selector: String,
}

impl Attributes {
    /// The attributes of a request, as the pipeline asks for them.
    pub fn of(user: &User, info: &RequestInfo) -> Attributes {
        let mut a = Attributes {
            user: user.clone(),
            verb: info.verb.clone(),
            is_resource: info.is_resource,
            path: info.path.clone(),
            ..Attributes::default()
        };
        if info.is_resource {
            a.group = info.group.clone();
            a.version = info.version.clone();
            a.resource = info.resource.clone();
            a.subresource = info.subresource.clone();
            a.namespace = info.namespace.clone();
            a.name = info.name.clone();
            a.field_selector = info.field_selector.clone();
            a.label_selector = info.label_selector.clone();
            // A list or watch of one name is judged as one of that name, so that `resourceNames` rules apply.
            if a.name.is_empty()
                && matches!(a.verb.as_str(), "list" | "watch" | "deletecollection")
                && let Some(name) = exact_field(&a.field_selector, "metadata.name")
            {
                a.name = name;
            }
        }
        a
    }

    /// A question about one resource, for checks that the server makes on a user's behalf.
    pub fn resource(user: &User, verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
        Attributes {
            user: user.clone(),
            verb: verb.to_string(),
            is_resource: true,
            group: group.to_string(),
            version: "*".to_string(),
            resource: resource.to_string(),
            namespace: namespace.to_string(),
            name: name.to_string(),
            ..Attributes::default()
        }
    }
}

/// The value that a field selector demands of `field` with `=` or `==`, if it does. Read as those read it who select:
/// what a selector only seems to demand gives no right.
pub fn exact_field(selector: &str, field: &str) -> Option<String> {
    let selector = FieldSelector::parse(selector).ok()?;
    selector.exact(field).filter(|value| !value.is_empty()).map(str::to_string)
}

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Allow(String),
    Deny(String),
    NoOpinion(String),
    /// Somebody couldn't be asked, and nobody else allows it. `denied`: no others were asked then.
    Failed {
        denied: bool,
        reason: String,
        error: String,
    },
}

impl Decision {
    pub fn allowed(&self) -> bool {
        matches!(self, Decision::Allow(_))
    }

    pub fn reason(&self) -> &str {
        match self {
            Decision::Allow(r) | Decision::Deny(r) | Decision::NoOpinion(r) => r,
            Decision::Failed { reason, .. } => reason,
        }
    }

    /// Why somebody couldn't be asked; empty if all could.
    pub fn error(&self) -> &str {
        match self {
            Decision::Failed { error, .. } => error,
            _ => "",
        }
    }

    pub fn denied(&self) -> bool {
        matches!(self, Decision::Deny(_) | Decision::Failed { denied: true, .. })
    }

    /// As metrics call it.
    pub fn result(&self) -> &'static str {
        match self {
            Decision::Allow(_) => "allowed",
            Decision::Deny(_) => "denied",
            Decision::NoOpinion(_) => "no-opinion",
            Decision::Failed { .. } => "error",
        }
    }
}

/// What a user may do in a namespace, for SelfSubjectRulesReview. Rules are `PolicyRule` objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserRules {
    pub rules: Vec<rules::PolicyRule>,
    pub incomplete: bool,
    pub errors: Vec<String>,
}

#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    async fn authorize(&self, attributes: &Attributes) -> Decision;

    /// What this authorizer can tell about a user's rights in a namespace.
    fn rules_for(&self, _user: &User, _namespace: &str) -> UserRules {
        UserRules::default()
    }
}

/// One of a [`Chain`], whose decisions are counted under its type and name.
pub struct Named {
    pub kind: &'static str,
    pub name: String,
    pub authorizer: Arc<dyn Authorizer>,
}

#[async_trait]
impl Authorizer for Named {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        let decision = self.authorizer.authorize(attributes).await;
        if decision.allowed() || decision.denied() {
            let outcome = if decision.allowed() { "allowed" } else { "denied" };
            let labels = format!("type=\"{}\",name=\"{}\",decision=\"{outcome}\"", self.kind, self.name);
            AUTHORIZATION_DECISIONS.add(labels);
        }
        decision
    }

    fn rules_for(&self, user: &User, namespace: &str) -> UserRules {
        self.authorizer.rules_for(user, namespace)
    }
}

/// Asks authorizers in order; the first Allow or Deny is the answer.
pub struct Chain {
    /// May change while the server runs.
    authorizers: ArcSwap<Vec<Arc<dyn Authorizer>>>,
}

impl Chain {
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Chain {
        Chain { authorizers: ArcSwap::from_pointee(authorizers) }
    }

    /// `system:masters`, then the Node authorizer, then RBAC.
    pub fn standard(reader: crate::reader::Reader) -> (Chain, Arc<rbac::Rbac>) {
        let rbac = Arc::new(rbac::Rbac::new(reader.clone()));
        let chain =
            Chain::new(vec![Arc::new(masters::Masters), Arc::new(node::NodeAuthorizer::new(reader)), rbac.clone()]);
        (chain, rbac)
    }

    /// Questions from now on go to these.
    pub fn replace(&self, authorizers: Vec<Arc<dyn Authorizer>>) {
        self.authorizers.store(Arc::new(authorizers));
    }
}

#[async_trait]
impl Authorizer for Chain {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        let (mut reasons, mut errors): (Vec<String>, Vec<String>) = Default::default();
        for authorizer in self.authorizers.load_full().iter() {
            let decision = authorizer.authorize(attributes).await;
            if decision.allowed() || decision.denied() {
                return decision;
            }
            if !decision.reason().is_empty() {
                reasons.push(decision.reason().to_string());
            }
            if !decision.error().is_empty() {
                errors.push(decision.error().to_string());
            }
        }
        let reason = reasons.join("\n");
        match errors.as_slice() {
            [] => Decision::NoOpinion(reason),
            errors => Decision::Failed { denied: false, reason, error: aggregate(errors) },
        }
    }

    fn rules_for(&self, user: &User, namespace: &str) -> UserRules {
        let mut all = UserRules::default();
        for authorizer in self.authorizers.load_full().iter() {
            let one = authorizer.rules_for(user, namespace);
            all.rules.extend(one.rules);
            all.incomplete |= one.incomplete;
            all.errors.extend(one.errors);
        }
        all
    }
}

/// Several errors as one text, each told once, as upstream's `Aggregate`.
pub fn aggregate(errors: &[String]) -> String {
    let mut told: Vec<&str> = Vec::new();
    for e in errors {
        if !told.contains(&e.as_str()) {
            told.push(e);
        }
    }
    match told.as_slice() {
        [one] => one.to_string(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// The 403 of a request that no authorizer allowed.
pub fn forbidden(a: &Attributes, reason: &str) -> Status {
    let mut message = refusal(a);
    if !reason.is_empty() {
        message.push_str(": ");
        message.push_str(reason);
    }
    if a.is_resource {
        Status::forbidden(&a.group, &a.resource, &a.name, message)
    } else {
        Status::forbidden("", "", "", message)
    }
}

/// `User "jane" cannot list resource "pods" in API group "" in the namespace "default"`
fn refusal(a: &Attributes) -> String {
    let user = format!("User {:?}", a.user.name);
    if !a.is_resource {
        return format!("{user} cannot {} path {:?}", a.verb, a.path);
    }
    let resource =
        if a.subresource.is_empty() { a.resource.clone() } else { format!("{}/{}", a.resource, a.subresource) };
    let what = format!("{user} cannot {} resource {resource:?} in API group {:?}", a.verb, a.group);
    if a.namespace.is_empty() {
        format!("{what} at the cluster scope")
    } else {
        format!("{what} in the namespace {:?}", a.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_upstream_has_them() {
        let jane = User::new("jane", &[]);
        let mut a = Attributes::resource(&jane, "list", "", "pods", "default", "");
        assert_eq!(
            forbidden(&a, "").message,
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#
        );
        a.subresource = "log".into();
        a.name = "web".into();
        a.verb = "get".into();
        assert_eq!(
            forbidden(&a, "").message,
            r#"pods "web" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "default""#
        );
        let a = Attributes::resource(&jane, "get", "apps", "deployments", "", "");
        assert_eq!(
            forbidden(&a, "RBAC: broken").message,
            r#"deployments.apps is forbidden: User "jane" cannot get resource "deployments" in API group "apps" at the cluster scope: RBAC: broken"#
        );
        let a = Attributes { user: jane, verb: "get".into(), path: "/foo".into(), ..Attributes::default() };
        let s = forbidden(&a, "");
        assert_eq!((s.code, s.message.as_str()), (403, r#"forbidden: User "jane" cannot get path "/foo""#));
    }

    /// Says what it is made of.
    struct Says(Decision);

    #[async_trait]
    impl Authorizer for Says {
        async fn authorize(&self, _: &Attributes) -> Decision {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn who_could_not_be_asked_matters_only_if_nobody_else_allows() {
        let failed =
            |denied: bool, error: &str| Decision::Failed { denied, reason: String::new(), error: error.into() };
        let (allow, none) = (Decision::Allow("a".into()), Decision::NoOpinion("n".into()));
        for (said, expected) in [
            (vec![failed(false, "e"), allow.clone()], allow.clone()),
            (vec![failed(true, "e"), allow.clone()], failed(true, "e")),
            (vec![none.clone(), none.clone()], Decision::NoOpinion("n\nn".into())),
            (
                vec![failed(false, "e"), none, failed(false, "f")],
                Decision::Failed { denied: false, reason: "n".into(), error: "[e, f]".into() },
            ),
        ] {
            let all = said.into_iter().map(|d| Arc::new(Says(d)) as Arc<dyn Authorizer>).collect();
            assert_eq!(Chain::new(all).authorize(&Attributes::default()).await, expected);
        }
        let named = Named { kind: "Webhook", name: "counted".into(), authorizer: Arc::new(Says(allow)) };
        named.authorize(&Attributes::default()).await;
        let mut shown = String::new();
        crate::metrics::figures::render(&mut shown);
        let line = r#"apiserver_authorization_decisions_total{type="Webhook",name="counted",decision="allowed"} 1"#;
        assert!(shown.contains(line), "{shown}");
    }

    #[test]
    fn a_list_of_one_name_is_judged_by_that_name() {
        let info = RequestInfo::parse(
            &http::Method::GET,
            "/api/v1/namespaces/d/secrets",
            "fieldSelector=type%3DOpaque%2Cmetadata.name%3Ds1",
        );
        assert_eq!(Attributes::of(&User::default(), &info).name, "s1");
        assert_eq!(exact_field("metadata.name!=a", "metadata.name"), None);
        assert_eq!(exact_field("spec.nodeName==n1", "spec.nodeName").as_deref(), Some("n1"));
        // One term that excludes a value with a comma in it, and so nearly nothing.
        assert_eq!(exact_field(r"metadata.namespace!=x\,metadata.name=mine", "metadata.name"), None);
        assert_eq!(exact_field(r"status.phase!=x\,spec.nodeName=n1", "spec.nodeName"), None);
    }
}
