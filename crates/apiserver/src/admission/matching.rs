//! Which writes a webhook or policy is about: rules with wildcards, scope, equivalent resources, selectors.
//!
//! Shared by webhooks and admission policies. In: a write ([`Attributes`]) and a compiled [`Criteria`]. Out: the
//! resource as which the write matches, or nothing.
//! Source: API reference, `RuleWithOperations`, `matchPolicy`, `namespaceSelector`, `objectSelector`.

use super::{Attributes, Operation};
use crate::reader::Reader;
use crate::registry::Catalogue;
use api::catalogue::Resource;
use meta::selector::Selector;
use meta::status::{Result, Status};
use serde_json::{Map, Value};
use std::sync::Arc;

/// `namespaceSelector`, `objectSelector`, rules and `matchPolicy` of one webhook, or of a policy's or binding's
/// `matchResources`.
#[derive(Debug)]
pub struct Criteria {
    /// Broken selectors are kept with their text: they fail when asked, as upstream's.
    namespaces: std::result::Result<Selector, String>,
    objects: std::result::Result<Selector, String>,
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// `matchPolicy: Equivalent`
    equivalent: bool,
}

#[derive(Debug, Default)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// `pods`, `pods/log`, `*`, `*/*`, `pods/*`, `*/scale`
    resources: Vec<String>,
    /// Empty for all; only policies have it.
    names: Vec<String>,
    scope: String,
}

impl Criteria {
    /// From a webhook: its rules are in `rules`.
    pub fn of_webhook(hook: &Value) -> Criteria {
        Criteria::new(hook, "rules")
    }

    /// From `matchConstraints` or `matchResources`, whose rules are in `resourceRules`.
    pub fn of_policy(constraints: &Value) -> Criteria {
        Criteria::new(constraints, "resourceRules")
    }

    fn new(from: &Value, rules: &str) -> Criteria {
        let selector = |key: &str| match &from[key] {
            Value::Null => Ok(Selector::everything()),
            s => Selector::from_label_selector(s),
        };
        let all = |key: &str| from[key].as_array().into_iter().flatten().map(Rule::new).collect();
        Criteria {
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            rules: all(rules),
            excluded: all("excludeResourceRules"),
            equivalent: from["matchPolicy"] != "Exact",
        }
    }

    /// Whether no rule is given: then a binding's `matchResources` restricts nothing but by its selectors.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// As which resource the write matches: its own, or with `matchPolicy: Equivalent` the first other version that a
    /// rule names. Errors when it can't be known (the namespace doesn't exist).
    pub fn matches(&self, a: &Attributes<'_>, reader: &Reader) -> Result<Option<Arc<Resource>>> {
        let in_namespace = self.namespace_matches(a, reader);
        if matches!(in_namespace, Ok(false)) {
            return Ok(None);
        }
        let is_object = self.object_matches(a);
        if matches!(is_object, Ok(false)) {
            return Ok(None);
        }
        if !self.excluded.is_empty() && find(&self.excluded, a, self.equivalent).is_some() {
            return Ok(None);
        }
        let found = match self.rules.is_empty() {
            true => None,
            false => find(&self.rules, a, self.equivalent),
        };
        let Some(found) = found else { return Ok(None) };
        in_namespace?;
        is_object.map_err(Status::internal)?;
        Ok(Some(found))
    }

    /// As [`Criteria::matches`] where no rules mean every resource: a binding's `matchResources`.
    pub fn admits(&self, a: &Attributes<'_>, reader: &Reader) -> Result<bool> {
        if self.has_rules() {
            return Ok(self.matches(a, reader)?.is_some());
        }
        let excluded = !self.excluded.is_empty() && find(&self.excluded, a, self.equivalent).is_some();
        Ok(self.namespace_matches(a, reader)? && self.object_matches(a).map_err(Status::internal)? && !excluded)
    }

    fn namespace_matches(&self, a: &Attributes<'_>, reader: &Reader) -> Result<bool> {
        let namespace = namespace_of(a);
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        // Cluster-scoped objects other than namespaces are never exempted.
        if (namespace.is_empty() && !is_namespaces(a)) || selector.is_everything() {
            return Ok(true);
        }
        let written = matches!(a.operation, Operation::Create | Operation::Update);
        if is_namespaces(a) && a.subresource.is_empty() && written {
            return Ok(selector.matches_object(a.object));
        }
        match reader.get("", "namespaces", "", &namespace) {
            Some(n) => Ok(selector.matches_object(&n.value())),
            None => Err(Status::not_found("", "namespaces", &namespace)),
        }
    }

    /// The object as it will be, or as it was.
    fn object_matches(&self, a: &Attributes<'_>) -> std::result::Result<bool, String> {
        let selector = self.objects.as_ref().map_err(Clone::clone)?;
        let fits = |o: &Value| match o {
            Value::Object(_) => match o["metadata"]["labels"].as_object() {
                Some(labels) => selector.matches(labels),
                None => o.get("metadata").is_some() && selector.matches(&Map::new()),
            },
            _ => false,
        };
        Ok(selector.is_everything() || fits(a.object) || a.old.is_some_and(fits))
    }
}

fn find(rules: &[Rule], a: &Attributes<'_>, equivalent: bool) -> Option<Arc<Resource>> {
    if rules.iter().any(|r| r.matches(a, a.resource)) {
        return Some(a.resource.clone());
    }
    if !equivalent {
        return None;
    }
    let others = equivalents(&a.catalogue, a.resource);
    // Earlier rules first.
    rules.iter().find_map(|r| others.iter().find(|o| r.matches(a, o)).cloned())
}

/// The other versions and groups in which the same objects are served.
pub fn equivalents(catalogue: &Catalogue, row: &Arc<Resource>) -> Vec<Arc<Resource>> {
    catalogue
        .rows
        .iter()
        .filter(|r| r.plural == row.plural && r.storage == row.storage && !Arc::ptr_eq(r, row))
        .filter(|r| (&r.group, &r.version) != (&row.group, &row.version))
        .cloned()
        .collect()
}

/// (group, version, kind) of the object that is written: a subresource may have a kind of its own.
pub fn kind_of(row: &Resource, subresource: &str) -> (String, String, String) {
    let own = || (row.group.clone(), row.version.clone(), row.kind.clone());
    match row.subresource(subresource) {
        Some(s) if !s.kind.is_empty() => (s.group.clone(), s.version.clone(), s.kind.clone()),
        _ => own(),
    }
}

fn is_namespaces(a: &Attributes<'_>) -> bool {
    a.resource.group.is_empty() && a.resource.plural == "namespaces"
}

/// The request's namespace; for Namespace objects, that namespace itself.
pub fn namespace_of(a: &Attributes<'_>) -> String {
    match a.namespace {
        "" if is_namespaces(a) => a.name.to_string(),
        n => n.to_string(),
    }
}

/// Objects that decide about admission are never subject to it by webhook or policy, or nobody could undo a mistake.
pub fn is_exempt(a: &Attributes<'_>) -> bool {
    a.resource.group == "admissionregistration.k8s.io"
        && matches!(
            a.resource.kind.as_str(),
            "ValidatingWebhookConfiguration"
                | "MutatingWebhookConfiguration"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
                | "MutatingAdmissionPolicy"
                | "MutatingAdmissionPolicyBinding"
        )
}

impl Operation {
    /// As rules and reviews spell it.
    pub fn word(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

impl Rule {
    pub fn new(v: &Value) -> Rule {
        let texts = |key: &str| -> Vec<String> {
            v[key].as_array().into_iter().flatten().filter_map(|t| t.as_str().map(String::from)).collect()
        };
        Rule {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            scope: v["scope"].as_str().unwrap_or("*").to_string(),
        }
    }

    fn matches(&self, a: &Attributes<'_>, row: &Resource) -> bool {
        let any = |list: &[String], x: &str| list.iter().any(|v| v == "*" || v == x);
        any(&self.operations, a.operation.word())
            && any(&self.groups, &row.group)
            && any(&self.versions, &row.version)
            && self.resources.iter().any(|r| {
                let (resource, sub) = r.split_once('/').unwrap_or((r, ""));
                (resource == "*" || resource == row.plural) && (sub == "*" || sub == a.subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|n| n == a.name))
            && match self.scope.as_str() {
                // Namespace objects are cluster-scoped, though their requests name a namespace.
                "Namespaced" => !is_namespaces(a) && !a.namespace.is_empty(),
                "Cluster" => is_namespaces(a) || a.namespace.is_empty(),
                _ => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::reader;
    use serde_json::json;

    async fn matches(criteria: Value, mut write: Write) -> Result<Option<String>> {
        let r = reader(&[json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"d","labels":{"team":"a"}}})])
            .await;
        let c = Criteria::of_webhook(&criteria);
        write.look(|a| c.matches(a, &r)).map(|m| m.map(|r| r.api_version()))
    }

    fn rule(resources: &[&str], more: Value) -> Value {
        let mut r = json!({"operations":["*"],"apiGroups":["*"],"apiVersions":["*"],"resources":resources});
        for (k, v) in more.as_object().into_iter().flatten() {
            r[k] = v.clone();
        }
        json!({"rules": [r]})
    }

    fn pod() -> Write {
        Write::create("", "pods", "d", json!({"kind":"Pod","metadata":{"name":"p","labels":{"app":"x"}}}))
    }

    fn namespace() -> Write {
        Write::create("", "namespaces", "", json!({"kind":"Namespace","metadata":{"name":"n","labels":{"team":"b"}}}))
    }

    #[tokio::test]
    async fn rules_have_wildcards_and_scopes() {
        for (criteria, write, want) in [
            (rule(&["pods"], json!({})), pod(), true),
            (rule(&["services"], json!({})), pod(), false),
            (rule(&["*"], json!({})), pod(), true),
            (rule(&["*"], json!({})), pod().sub("status", "p"), false),
            (rule(&["*/*"], json!({})), pod().sub("status", "p"), true),
            (rule(&["*/*"], json!({})), pod(), true),
            (rule(&["pods/*"], json!({})), pod().sub("exec", "p"), true),
            (rule(&["*/exec"], json!({})), pod().sub("exec", "p"), true),
            (rule(&["pods/exec"], json!({})), pod(), false),
            (rule(&["pods"], json!({"operations":["UPDATE","DELETE"]})), pod(), false),
            (rule(&["pods"], json!({"operations":["UPDATE","CREATE"]})), pod(), true),
            (rule(&["pods"], json!({"apiGroups":["apps"]})), pod(), false),
            (rule(&["pods"], json!({"apiGroups":[""]})), pod(), true),
            (rule(&["pods"], json!({"apiVersions":["v2"]})), pod(), false),
            (rule(&["*"], json!({"scope":"Namespaced"})), pod(), true),
            (rule(&["*"], json!({"scope":"Cluster"})), pod(), false),
            (rule(&["*"], json!({"scope":"Namespaced"})), namespace(), false),
            (rule(&["*"], json!({"scope":"Cluster"})), namespace(), true),
            (rule(&["pods"], json!({"resourceNames":["q"]})), pod(), false),
            (json!({}), pod(), false),
        ] {
            let shown = criteria.to_string();
            assert_eq!(matches(criteria, write).await.unwrap().is_some(), want, "{shown}");
        }
    }

    #[tokio::test]
    async fn selectors_look_at_namespace_and_object() {
        let with = |key: &str, selector: Value| {
            let mut c = rule(&["*"], json!({}));
            c[key] = selector;
            c
        };
        let labels = |k: &str, v: &str| json!({"matchLabels":{k: v}});
        let update = || {
            let (old, new) = (json!({"metadata":{"name":"p","labels":{"app":"x"}}}), json!({"metadata":{"name":"p"}}));
            Write::update("", "pods", "d", old, new)
        };
        for (criteria, write, want) in [
            (with("namespaceSelector", labels("team", "a")), pod(), true),
            (with("namespaceSelector", labels("team", "b")), pod(), false),
            (with("namespaceSelector", labels("team", "b")), namespace(), true),
            (with("namespaceSelector", labels("team", "a")), namespace(), false),
            (with("objectSelector", labels("app", "x")), pod(), true),
            (with("objectSelector", labels("app", "y")), pod(), false),
            // What the object was counts, too.
            (with("objectSelector", labels("app", "x")), update(), true),
        ] {
            let shown = criteria.to_string();
            assert_eq!(matches(criteria, write).await.unwrap().is_some(), want, "{shown}");
        }
        let elsewhere = Write::create("", "pods", "gone", json!({"metadata":{"name":"p"}}));
        let e = matches(with("namespaceSelector", labels("team", "a")), elsewhere).await.unwrap_err();
        assert_eq!(e.message, "namespaces \"gone\" not found");
    }

    #[tokio::test]
    async fn equivalent_resources_match_unless_exact_is_asked_for() {
        let event = || Write::create("", "events", "d", json!({"kind":"Event","metadata":{"name":"e"}})).served();
        let mut criteria = rule(&["events"], json!({"apiGroups":["events.k8s.io"]}));
        assert_eq!(matches(criteria.clone(), event()).await.unwrap().as_deref(), Some("events.k8s.io/v1"));
        criteria["matchPolicy"] = "Exact".into();
        assert_eq!(matches(criteria, event()).await.unwrap(), None);
    }
}
