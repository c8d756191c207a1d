//! ClusterRoles whose rules are those of other roles: `admin`, `edit` and `view` grow as roles are labelled for them.

use crate::{Context, ownership};
use client::{Change, Queue};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use std::sync::Arc;

const NAME: &str = "clusterrole-aggregation-controller";

/// The rules that `role` should have, when it lacks them.
pub fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let rule = role.aggregation_rule.as_ref()?;
    let mut sorted: Vec<_> = all.iter().filter(|r| r.name_any() != role.name_any()).collect();
    sorted.sort_by_key(|r| r.name_any());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for s in rule.cluster_role_selectors.iter().flatten() {
        let Some(selector) = ownership::selector(Some(s)) else { continue };
        for source in sorted.iter().filter(|r| ownership::selects(&selector, r.metadata.labels.as_ref())) {
            for rule in source.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    (rules != role.rules.clone().unwrap_or_default()).then_some(rules)
}

pub async fn run(context: Context) {
    let roles = context.informers.of::<ClusterRole>();
    roles.wait_synced().await;
    let queue = Queue::new();
    let (q, r) = (queue.clone(), roles.clone());
    roles.on_change(move |change| {
        if let Change::Updated { old, new } = change
            && old.rules == new.rules
            && old.metadata.labels == new.metadata.labels
            && old.aggregation_rule == new.aggregation_rule
        {
            return;
        }
        r.list().iter().filter(|r| r.aggregation_rule.is_some()).for_each(|r| q.add(r.name_any()));
    });
    let client = context.client(NAME);
    queue
        .run("clusterrole-aggregation", 2, context.shutdown.clone(), move |name| {
            let (client, roles) = (client.clone(), roles.clone());
            async move {
                let Some(role) = roles.get(&name) else { return Ok::<_, kube::Error>(None) };
                if let Some(rules) = plan(&role, &roles.list()) {
                    let mut new = (*role).clone();
                    new.rules = Some(rules);
                    let written = Api::all(client).replace(&name, &PostParams::default(), &new).await?;
                    roles.remember(written);
                }
                Ok(None)
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn union_of_the_selected() {
        let role = |v| serde_json::from_value::<ClusterRole>(v).unwrap();
        let part = |name: &str, label: &str, resource: &str| {
            Arc::new(role(json!({"metadata": {"name": name, "labels": {label: "true"}},
                "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]})))
        };
        let mut view = role(json!({"metadata": {"name": "view"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to-view": "true"}}]}}));
        let all = vec![
            part("b", "to-view", "pods"),
            part("a", "to-view", "services"),
            part("c", "to-edit", "secrets"),
            part("d", "to-view", "pods"),
            Arc::new(view.clone()),
        ];
        let rules = plan(&view, &all).unwrap();
        let resources: Vec<_> = rules.iter().map(|r| r.resources.as_ref().unwrap()[0].as_str()).collect();
        assert_eq!(resources, ["services", "pods"]);
        view.rules = Some(rules);
        assert_eq!(plan(&view, &all), None);
    }
}
