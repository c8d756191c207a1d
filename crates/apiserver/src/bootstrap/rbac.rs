//! The default RBAC objects, made of the policy table.

use super::policy::{CLUSTER_BINDINGS, CLUSTER_ROLES, CONTROLLERS, NAMESPACE_BINDINGS, NAMESPACE_ROLES};
use crate::authz::node::NODE_RULES;
use crate::authz::rules::PolicyRule;
use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// (role, what it gathers, what it is gathered into)
const AGGREGATED: &[(&str, &str, Option<&str>)] =
    &[("admin", "admin", None), ("edit", "edit", Some("admin")), ("view", "view", Some("edit"))];

pub fn objects() -> Vec<Value> {
    let mut out = Vec::new();
    for role in CLUSTER_ROLES {
        let mut v = cluster_role(role.name, parse_all(role.rules));
        if let Some(into) = role.name.strip_prefix("system:aggregate-to-") {
            v["metadata"]["labels"][format!("{AGGREGATE}{into}")] = "true".into();
        }
        out.push(v);
    }
    out.push(cluster_role("system:node", NODE_RULES.clone()));
    for (name, gathers, into) in AGGREGATED {
        let mut v = cluster_role(name, Vec::new());
        v["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {format!("{AGGREGATE}{gathers}"): "true"}}]});
        if let Some(into) = into {
            v["metadata"]["labels"][format!("{AGGREGATE}{into}")] = "true".into();
        }
        out.push(v);
    }
    for controller in CONTROLLERS {
        out.push(cluster_role(&format!("system:controller:{}", controller.name), parse_all(controller.rules)));
    }
    fill_aggregated(&mut out);
    for (role, users, groups, accounts) in CLUSTER_BINDINGS {
        out.push(binding("", role, ("ClusterRole", role), users, groups, accounts));
    }
    for controller in CONTROLLERS {
        let name = format!("system:controller:{}", controller.name);
        out.push(binding("", &name, ("ClusterRole", &name), &[], &[], &[controller.name]));
    }
    for (namespace, role) in NAMESPACE_ROLES {
        let mut v = object("Role", role.name);
        v["metadata"]["namespace"] = (*namespace).into();
        v["rules"] = parse_all(role.rules).iter().map(PolicyRule::to_value).collect();
        out.push(v);
    }
    for (namespace, name, role, users, accounts) in NAMESPACE_BINDINGS {
        out.push(binding(namespace, name, ("Role", role), users, &[], accounts));
    }
    out
}

/// Rules of roles with an `aggregationRule` are the rules of the roles that it selects. The aggregation controller
/// keeps them so; this makes them right from the first moment.
pub fn fill_aggregated(objects: &mut [Value]) {
    // edit gathers view, admin gathers edit: three rounds settle any chain of the default roles.
    for _ in 0..AGGREGATED.len() {
        let snapshot: Vec<Value> = objects.to_vec();
        for role in objects.iter_mut().filter(|o| o["kind"] == "ClusterRole" && !o["aggregationRule"].is_null()) {
            role["rules"] = aggregate(role, &snapshot).iter().map(PolicyRule::to_value).collect();
        }
    }
}

/// What an aggregated role's rules should be, given all cluster roles. Each rule once, in the order of the roles'
/// names.
pub fn aggregate(role: &Value, all: &[Value]) -> Vec<PolicyRule> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut chosen: Vec<&Value> = all
        .iter()
        .filter(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] != role["metadata"]["name"])
        .filter(|o| selectors.iter().any(|s| selects(s, &o["metadata"]["labels"])))
        .collect();
    chosen.sort_by_key(|o| o["metadata"]["name"].as_str().unwrap_or_default());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in chosen.iter().flat_map(|o| PolicyRule::list_from(o)) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// The default roles select by labels alone.
fn selects(selector: &Value, labels: &Value) -> bool {
    selector["matchLabels"]
        .as_object()
        .is_some_and(|m| !m.is_empty() && m.iter().all(|(k, v)| labels.get(k) == Some(v)))
}

fn object(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {super::AUTOUPDATE: "true"},
        },
    })
}

fn cluster_role(name: &str, rules: Vec<PolicyRule>) -> Value {
    let mut v = object("ClusterRole", name);
    v["rules"] = rules.iter().map(PolicyRule::to_value).collect();
    v
}

fn binding(
    namespace: &str,
    name: &str,
    role: (&str, &str),
    users: &[&str],
    groups: &[&str],
    accounts: &[&str],
) -> Value {
    let mut v = object(if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" }, name);
    if !namespace.is_empty() {
        v["metadata"]["namespace"] = namespace.into();
    }
    v["roleRef"] = json!({"apiGroup": GROUP, "kind": role.0, "name": role.1});
    let plain = |kind: &'static str| move |n: &&str| json!({"apiGroup": GROUP, "kind": kind, "name": n});
    let mut subjects: Vec<Value> = users.iter().map(plain("User")).collect();
    subjects.extend(groups.iter().map(plain("Group")));
    subjects.extend(accounts.iter().map(|n| json!({"kind": "ServiceAccount", "name": n, "namespace": "kube-system"})));
    if !subjects.is_empty() {
        v["subjects"] = subjects.into();
    }
    v
}

fn parse_all(lines: &[&str]) -> Vec<PolicyRule> {
    lines.iter().map(|l| parse(l)).collect()
}

/// One line of the table.
fn parse(line: &str) -> PolicyRule {
    let parts: Vec<Vec<String>> = line
        .split('|')
        .map(|part| part.split(',').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect())
        .collect();
    let group = |g: &String| if g == "core" { String::new() } else { g.clone() };
    match parts.as_slice() {
        [urls, verbs] => PolicyRule { non_resource_urls: urls.clone(), verbs: verbs.clone(), ..PolicyRule::default() },
        [groups, resources, verbs, names @ ..] => PolicyRule {
            api_groups: groups.iter().map(group).collect(),
            resources: resources.clone(),
            verbs: verbs.clone(),
            resource_names: names.concat(),
            ..PolicyRule::default()
        },
        _ => PolicyRule::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn named(name: &str) -> Value {
        objects().into_iter().find(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == name).unwrap()
    }

    #[test]
    fn every_line_of_the_table_is_a_whole_rule() {
        let all = objects();
        for o in all.iter().filter(|o| o["kind"].as_str().unwrap().ends_with("Role")) {
            let rules = PolicyRule::list_from(o);
            assert!(!rules.is_empty(), "{o}");
            for r in rules {
                let resource = !r.api_groups.is_empty() && !r.resources.is_empty() && r.non_resource_urls.is_empty();
                let url = r.api_groups.is_empty()
                    && r.non_resource_urls.iter().all(|u| u.starts_with('/') || u == "*")
                    && !r.non_resource_urls.is_empty();
                assert!((resource || url) && !r.verbs.is_empty(), "{r:?}");
                for item in r.api_groups.iter().chain(&r.resources).chain(&r.verbs).chain(&r.resource_names) {
                    assert!(!item.contains([' ', '|']), "{r:?}");
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_bindings_find_their_roles() {
        let all = objects();
        let key = |o: &Value| {
            let m = &o["metadata"];
            (o["kind"].to_string(), m["namespace"].to_string(), m["name"].to_string())
        };
        let keys: BTreeSet<_> = all.iter().map(key).collect();
        assert_eq!(keys.len(), all.len());
        for b in all.iter().filter(|o| !o["roleRef"].is_null()) {
            let namespace =
                if b["roleRef"]["kind"] == "Role" { b["metadata"]["namespace"].clone() } else { Value::Null };
            let wanted = (b["roleRef"]["kind"].to_string(), namespace.to_string(), b["roleRef"]["name"].to_string());
            assert!(keys.contains(&wanted), "{b}");
            assert_eq!(b["metadata"]["annotations"][crate::bootstrap::AUTOUPDATE], "true");
        }
    }

    #[test]
    fn admin_holds_edit_holds_view() {
        use crate::authz::rules::covers;
        let (admin, edit, view) = (named("admin"), named("edit"), named("view"));
        let rules = |v: &Value| PolicyRule::list_from(v);
        assert_eq!(covers(&rules(&admin), &rules(&edit)), Ok(()));
        assert_eq!(covers(&rules(&edit), &rules(&view)), Ok(()));
        assert!(covers(&rules(&view), &rules(&edit)).is_err());
        // View must never show secrets.
        assert!(covers(&rules(&view), &[PolicyRule::on("", "secrets", "get")]).is_err());
        assert_eq!(covers(&rules(&edit), &[PolicyRule::on("", "secrets", "get")]), Ok(()));
        assert_eq!(edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
    }
}
