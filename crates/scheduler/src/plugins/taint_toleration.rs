//! TaintToleration: taints keep pods away unless they tolerate them; PreferNoSchedule only by score.

use crate::framework::{Filter, Normalize, Plugin, Score, Unfit};
use crate::snapshot::{NodeInfo, Snapshot};
use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};
use std::sync::Arc;

pub struct TaintToleration;

/// Source: API reference, Toleration. An empty key with `Exists` tolerates everything, an empty effect every effect.
pub fn tolerates(t: &Toleration, taint: &Taint) -> bool {
    let effect = t.effect.as_deref().unwrap_or("");
    let key = t.key.as_deref().unwrap_or("");
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let number = |s: &str| s.parse::<i64>().ok();
    let theirs = taint.value.as_deref().unwrap_or("");
    let ours = t.value.as_deref().unwrap_or("");
    match t.operator.as_deref().unwrap_or("") {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && ours == theirs,
        "Lt" => matches!((number(theirs), number(ours)), (Some(a), Some(b)) if a < b),
        "Gt" => matches!((number(theirs), number(ours)), (Some(a), Some(b)) if a > b),
        _ => false,
    }
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
}

fn taints(node: &NodeInfo) -> &[Taint] {
    node.node.as_ref().and_then(|n| n.spec.as_ref()).and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter<'a>(&self, pod: &'a Arc<Pod>, _: &'a Snapshot) -> Option<Filter<'a>> {
        let tolerations = tolerations(pod);
        Some(Box::new(move |node| {
            let fatal = taints(node).iter().find(|t| {
                matches!(t.effect.as_str(), "NoSchedule" | "NoExecute") && !tolerations.iter().any(|o| tolerates(o, t))
            });
            match fatal {
                None => Ok(()),
                Some(t) => Err(Unfit::unresolvable(format!(
                    "node(s) had untolerated taint {{{}: {}}}",
                    t.key,
                    t.value.as_deref().unwrap_or("")
                ))),
            }
        }))
    }

    fn score<'a>(&self, pod: &'a Arc<Pod>, _: &'a Snapshot) -> Option<Score<'a>> {
        let tolerations = tolerations(pod);
        Some(Box::new(move |node| {
            taints(node)
                .iter()
                .filter(|t| t.effect == "PreferNoSchedule" && !tolerations.iter().any(|o| tolerates(o, t)))
                .count() as i64
        }))
    }

    fn weight(&self) -> i64 {
        3
    }

    fn normalize(&self) -> Normalize {
        Normalize::MaxReversed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toleration_table() {
        let t = |key: &str, op: &str, value: &str, effect: &str| Toleration {
            key: Some(key.into()),
            operator: Some(op.into()),
            value: Some(value.into()),
            effect: Some(effect.into()),
            toleration_seconds: None,
        };
        let taint = Taint { key: "a".into(), value: Some("1".into()), effect: "NoSchedule".into(), time_added: None };
        for (toleration, want) in [
            (t("a", "Equal", "1", "NoSchedule"), true),
            (t("a", "", "1", ""), true),
            (t("a", "Equal", "2", ""), false),
            (t("a", "Exists", "", "NoExecute"), false),
            (t("a", "Exists", "", ""), true),
            (t("", "Exists", "", ""), true),
            (t("b", "Exists", "", ""), false),
            (t("a", "Gt", "0", ""), true),
            (t("a", "Lt", "0", ""), false),
        ] {
            assert_eq!(tolerates(&toleration, &taint), want, "{toleration:?}");
        }
    }
}
