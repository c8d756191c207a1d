//! `pods/eviction`: deletion that respects PodDisruptionBudgets. Source: KEP-85, KEP-3017.

use super::{binding::set_condition, body_of, track};
use crate::admission::Operation;
use crate::registry::delete::{DeleteOptions, remove};
use crate::registry::{Answer, Call, create, managed, store_error, stored, update};
use axum::body::Body;
use http::Request;
use meta::selector::Selector;
use meta::status::{Cause, Result, Status};
use serde_json::{Value, json};
use store::{Cas, ListOptions};

const TYPE: &str = "api.policy.v1.Eviction";
const TRIES: usize = 8;
/// So many evictions may wait for the controller's confirmation.
const DISRUPTED_PODS_MAX: usize = 2000;
const SEVERAL: &str =
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
/// A budget's condition.
const ALLOWED: &str = "DisruptionAllowed";

pub async fn evict(mut call: Call<'_>, content_type: &str, request: Request<Body>) -> Result<(Answer, Vec<String>)> {
    let mut eviction = body_of(&mut call, TYPE, content_type, request).await?;
    track(&call, TYPE, &mut eviction);
    let name = call.info.name.clone();
    let options = call.write_options("CreateOptions");
    call.admit(Operation::Create, "eviction", &name, &mut eviction, None, &options).await?;
    if create::text(&eviction, "name") != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    call.admit_final(Operation::Create, "eviction", &name, &mut eviction, None, &options).await?;
    // The pod's condition and its deletion are steps of this request, not requests of their own.
    call.internal = true;
    let store = call.registry.store.clone();
    store.barrier().await.map_err(store_error)?;
    let options = DeleteOptions::parse(&eviction["deleteOptions"], &mut call)?;
    for tries in 1.. {
        let entry = store.get(&call.key(&name)).ok_or_else(|| call.not_found(&name))?;
        let pod = call.decode(&entry);
        let phase = pod["status"]["phase"].as_str().unwrap_or("");
        let done = matches!(phase, "Succeeded" | "Failed") || !pod["metadata"]["deletionTimestamp"].is_null();
        let free = done || phase == "Pending";
        let guard = match if free { Spent::Enough } else { spend_budget(&call, &pod).await? } {
            Spent::Enough => None,
            Spent::Unready(budget) => Some(budget),
            Spent::Several => {
                // As upstream: the refusal is in the answer only.
                let value = Status::new(500, "", SEVERAL).to_value();
                return Ok((Answer::Object { code: 201, value }, std::mem::take(&mut call.warnings)));
            }
        };
        // What was decided of a pod that may yet become ready holds for it as it is, and no other state of it.
        let unasked = options.resource_version.is_none();
        let mut options = options.clone();
        if unasked && (guard.is_some() || (free && !done)) {
            options.resource_version = Some(create::text(&pod, "resourceVersion"));
        }
        match mark_and_remove(&mut call, &name, options).await {
            Ok(()) => break,
            Err(s) if s.code != 409 || !unasked => return Err(s),
            Err(_) if free && tries < TRIES => {}
            Err(s) => return Err(guard.map_or(s, |budget| unprocessed(&budget))),
        }
    }
    Ok((Answer::Status(Status::new(201, "", "")), std::mem::take(&mut call.warnings)))
}

/// Says on the pod why it goes, and deletes it.
async fn mark_and_remove(call: &mut Call<'_>, name: &str, mut options: DeleteOptions) -> Result<()> {
    let by_eviction = |_: &Call<'_>, old: &Value| {
        for (asked, key, what, end) in [
            (&options.uid, "uid", "UID", "The pod might have been deleted and then recreated"),
            (&options.resource_version, "resourceVersion", "ResourceVersion", "The object might have been modified"),
        ] {
            let present = create::text(old, key);
            if let Some(asked) = asked.as_ref().filter(|a| !a.is_empty() && **a != present) {
                let why = format!(
                    "the {what} in the precondition ({asked}) does not match the {what} in record ({present}). {end}"
                );
                return Err(Status::conflict("", "Pod", name, why));
            }
        }
        let mut new = old.clone();
        create::metadata(&mut new).insert("resourceVersion".into(), "".into());
        set_condition(
            &mut new,
            &json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting", "lastTransitionTime": create::now_seconds(),
            }),
        );
        Ok(new)
    };
    if !call.options.dry_run {
        let marked = update::write(call, name, "status", managed::By::Update, &by_eviction).await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(create::text(&marked, "resourceVersion"));
        }
    }
    remove(call, name, &options).await.map(drop)
}

/// 429 of a budget that has yet to be looked at.
fn unprocessed(budget: &str) -> Status {
    refused(10, format!("The disruption budget {budget} is still being processed by the server."))
}

fn refused(retry_after_seconds: u32, message: String) -> Status {
    let mut s = Status::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        retry_after_seconds,
    );
    if let Some(d) = s.details.as_mut() {
        d.causes.push(Cause { reason: "DisruptionBudget".into(), message, field: String::new() });
    }
    s
}

/// Why a budget has nothing to give.
fn exhausted(budget: &Value) -> String {
    let (name, status) = (create::text(budget, "name"), &budget["status"]);
    let count = |key: &str| status[key].as_i64().unwrap_or(0);
    let condition = status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == ALLOWED);
    let why = condition.filter(|c| c["status"] == "False").and_then(|c| c["message"].as_str()).unwrap_or("");
    let reason = condition.and_then(|c| c["reason"].as_str()).unwrap_or("");
    let currently = format!("The disruption budget {name} does not allow evicting pods currently");
    // Counts of a budget that couldn't be worked out mean nothing.
    if !why.is_empty() && reason == "SyncFailed" {
        format!("{currently} because it failed sync: {why}")
    } else if count("currentHealthy") <= count("desiredHealthy") {
        format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count("desiredHealthy"),
            count("currentHealthy")
        )
    } else if !why.is_empty() {
        format!("{currently} ({reason}): {why}")
    } else {
        currently
    }
}

/// What the budgets say of a pod that may go.
enum Spent {
    /// One disruption was taken, or there is no budget.
    Enough,
    /// Nothing was taken from the budget of this name, because the pod isn't healthy.
    Unready(String),
    /// More than one budget covers the pod.
    Several,
}

/// Takes one disruption from the budget that covers the pod, or says 429.
async fn spend_budget(call: &Call<'_>, pod: &Value) -> Result<Spent> {
    let store = &call.registry.store;
    let prefix = crate::reader::prefix("policy", "poddisruptionbudgets", &call.info.namespace);
    let mut last = String::new();
    for _ in 0..TRIES {
        let page = store.list(&prefix, &ListOptions::default()).map_err(store_error)?;
        let covering: Vec<_> = page
            .entries
            .iter()
            .filter(|e| {
                let budget = stored::decode(e);
                let selector = &budget["spec"]["selector"];
                Selector::from_label_selector(selector).is_ok_and(|s| s.matches_object(pod))
            })
            .collect();
        let entry = match covering.as_slice() {
            [] => return Ok(Spent::Enough),
            [one] => *one,
            _ => return Ok(Spent::Several),
        };
        let mut budget = stored::decode(entry);
        let status = &budget["status"];
        let ready = pod["status"]["conditions"]
            .as_array()
            .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
        let healthy_enough = status["currentHealthy"].as_i64().unwrap_or(0)
            >= status["desiredHealthy"].as_i64().unwrap_or(0)
            && status["desiredHealthy"].as_i64().unwrap_or(0) > 0;
        let name = create::text(&budget, "name");
        if !ready && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || healthy_enough) {
            return Ok(Spent::Unready(name));
        }
        let generation = budget["metadata"]["generation"].as_i64().unwrap_or(0);
        if status["observedGeneration"].as_i64().unwrap_or(0) < generation {
            return Err(unprocessed(&name));
        }
        let forbidden = |why: &str| Err(Status::forbidden("policy", "poddisruptionbudget", &name, why));
        let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
        if allowed < 0 {
            return forbidden("pdb disruptions allowed is negative");
        }
        if status["disruptedPods"].as_object().is_some_and(|p| p.len() > DISRUPTED_PODS_MAX) {
            return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
        }
        if allowed == 0 {
            return Err(refused(0, exhausted(&budget)));
        }
        if call.options.dry_run {
            return Ok(Spent::Enough);
        }
        budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
        if allowed == 1 {
            let condition = json!({
                "type": ALLOWED, "status": "False", "reason": "InsufficientPods", "message": "",
                "observedGeneration": budget["status"]["observedGeneration"],
                "lastTransitionTime": create::now_seconds(),
            });
            set_condition(&mut budget, &condition);
        }
        budget["status"]["disruptedPods"][create::text(pod, "name")] = create::now_seconds().into();
        match store.update(&entry.key, stored::encode(&budget), entry.mod_revision, None).await.map_err(store_error)? {
            Cas::Done { .. } => return Ok(Spent::Enough),
            Cas::Conflict(_) => last = name,
        }
    }
    Err(Status::modified("policy", "poddisruptionbudgets", &last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_says_why_it_has_nothing_to_give() {
        let budget = |healthy: i64, condition: Value| {
            json!({"metadata": {"name": "b"}, "status": {
                "currentHealthy": healthy, "desiredHealthy": 3, "conditions": [condition],
            }})
        };
        let not = |reason: &str, status: &str| json!({"type": "DisruptionAllowed", "status": status, "reason": reason, "message": "why"});
        let currently = "The disruption budget b does not allow evicting pods currently";
        for (budget, want) in [
            (budget(2, json!({})), "The disruption budget b needs 3 healthy pods and has 2 currently".to_string()),
            (budget(2, not("SyncFailed", "False")), format!("{currently} because it failed sync: why")),
            (budget(4, not("Other", "False")), format!("{currently} (Other): why")),
            (budget(4, not("Other", "True")), currently.to_string()),
        ] {
            assert_eq!(exhausted(&budget), want);
        }
        let s = unprocessed("b");
        let d = s.details.unwrap();
        assert_eq!((s.code, d.retry_after_seconds), (429, 10));
        assert_eq!(d.causes[0].message, "The disruption budget b is still being processed by the server.");
    }
}
