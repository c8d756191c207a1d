//! ComponentStatuses: computed, never stored; deprecated, and still what `kubectl get cs` and old dashboards ask for.
//!
//! In: the checks of [`crate::health`]. Out: upstream's three names, healthy unless a part behind them is down.

use crate::health::Health;
use crate::registry::list::Listing;
use crate::registry::selection::Selection;
use crate::registry::stored::{self, Facets};
use crate::registry::{Answer, Call};
use meta::status::Result;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use store::{Entry, KeyValue, Revision};

/// Parts of the process that aren't controllers.
const OTHERS: [&str; 4] = ["kubelet", "proxy", "dns", "scheduler"];

/// GET of one or LIST.
pub async fn answer(health: &Health, mut call: Call<'_>) -> Result<(Answer, Vec<String>)> {
    let all = statuses(health);
    let name = &call.info.name;
    let answer = if name.is_empty() {
        let selection = Selection::parse(&call.row, &call.options.label_selector, &call.options.field_selector)?;
        let entries = all
            .into_iter()
            .filter(|o| selection.is_all() || selection.matches(&Facets::of(&call.row, o)))
            .map(|o| entry(&o))
            .collect();
        let revision = call.registry.store.revision();
        let items = call.view().see(entries).await?;
        Answer::List(Listing { items, revision, continue_token: String::new(), remaining: None })
    } else {
        let found = all.into_iter().find(|o| o["metadata"]["name"] == name.as_str());
        Answer::ok(found.ok_or_else(|| call.not_found(name))?)
    };
    Ok((answer, std::mem::take(&mut call.warnings)))
}

fn statuses(health: &Health) -> Vec<Value> {
    let checks = health.checks("readyz");
    let failed = |is_its: &dyn Fn(&str) -> bool| -> Option<String> {
        let faults: Vec<String> = checks
            .iter()
            .filter_map(|(name, r)| Some((name.strip_prefix("component/")?, r.as_ref().err()?)))
            .filter(|(name, _)| is_its(name))
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    };
    [
        ("controller-manager", failed(&|n| !OTHERS.contains(&n))),
        // The store answers, or there would be no answer at all.
        ("etcd-0", None),
        ("scheduler", failed(&|n| n == "scheduler")),
    ]
    .map(|(name, fault)| {
        let condition = match fault {
            None => json!({"type": "Healthy", "status": "True", "message": "ok"}),
            Some(why) => json!({"type": "Healthy", "status": "False", "message": why}),
        };
        json!({
            "apiVersion": "v1", "kind": "ComponentStatus",
            "metadata": {"name": name}, "conditions": [condition],
        })
    })
    .into()
}

fn entry(object: &Value) -> Entry {
    Arc::new(KeyValue {
        key: "".into(),
        value: stored::encode(object),
        create_revision: Revision(0),
        mod_revision: Revision(0),
        memo: OnceLock::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_down_makes_its_component_unhealthy() {
        let health = Health::new(crate::draining::Draining::default());
        for (name, result) in [
            ("component/scheduler", Ok(())),
            ("component/dns", Err("port taken".to_string())),
            ("component/deployment-controller", Err("panic: oh".into())),
            ("component/job-controller", Ok(())),
        ] {
            health.set_ready(name, result);
        }
        let told: Vec<(String, String)> = statuses(&health)
            .iter()
            .map(|o| {
                let c = &o["conditions"][0];
                let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
                (text(&o["metadata"]["name"]), format!("{} {}", text(&c["status"]), text(&c["message"])))
            })
            .collect();
        let want = [
            ("controller-manager", "False deployment-controller: panic: oh"),
            ("etcd-0", "True ok"),
            ("scheduler", "True ok"),
        ];
        assert_eq!(told, want.map(|(a, b)| (a.to_string(), b.to_string())));
    }
}
