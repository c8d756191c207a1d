//! `pods/eviction`: deletion that respects PodDisruptionBudgets. Source: KEP-85, KEP-3017.

use super::{binding::set_condition, body_of};
use crate::admission::Operation;
use crate::registry::delete::{DeleteOptions, remove};
use crate::registry::{Answer, Call, create, managed, store_error, stored, update};
use axum::body::Body;
use http::Request;
use meta::selector::Selector;
use meta::status::{Cause, Result, Status};
use serde_json::{Value, json};
use store::{Cas, ListOptions};

const TRIES: usize = 8;

pub async fn evict(mut call: Call<'_>, content_type: &str, request: Request<Body>) -> Result<(Answer, Vec<String>)> {
    let mut eviction = body_of(&mut call, "api.policy.v1.Eviction", content_type, request).await?;
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
    let entry = store.get(&call.key(&name)).ok_or_else(|| call.not_found(&name))?;
    let pod = call.decode(&entry);
    let options = DeleteOptions::parse(&eviction["deleteOptions"], &mut call)?;

    let phase = pod["status"]["phase"].as_str().unwrap_or("");
    let free = matches!(phase, "Succeeded" | "Failed" | "Pending") || !pod["metadata"]["deletionTimestamp"].is_null();
    if !free {
        spend_budget(&call, &pod).await?;
    }
    let by_eviction = |_: &Call<'_>, old: &Value| {
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
        update::write(&mut call, &name, "status", managed::By::Update, &by_eviction).await?;
    }
    remove(&mut call, &name, &options).await?;
    Ok((Answer::Status(Status::new(201, "", "")), std::mem::take(&mut call.warnings)))
}

/// Takes one disruption from the budget that covers the pod, or says 429.
async fn spend_budget(call: &Call<'_>, pod: &Value) -> Result<()> {
    let store = &call.registry.store;
    let prefix = crate::reader::prefix("policy", "poddisruptionbudgets", &call.info.namespace);
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
            [] => return Ok(()),
            [one] => *one,
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let mut budget = stored::decode(entry);
        let status = &budget["status"];
        let ready = pod["status"]["conditions"]
            .as_array()
            .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
        let healthy_enough = status["currentHealthy"].as_i64().unwrap_or(0)
            >= status["desiredHealthy"].as_i64().unwrap_or(0)
            && status["desiredHealthy"].as_i64().unwrap_or(0) > 0;
        if !ready && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || healthy_enough) {
            return Ok(());
        }
        let name = create::text(&budget, "name");
        let refuse = |message: String| {
            let mut s =
                Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 0);
            if let Some(d) = s.details.as_mut() {
                d.causes.push(Cause { reason: "DisruptionBudget".into(), message, field: String::new() });
            }
            Err(s)
        };
        let generation = budget["metadata"]["generation"].as_i64().unwrap_or(0);
        if status["observedGeneration"].as_i64().unwrap_or(0) < generation {
            return refuse(format!("The disruption budget {name} is still being processed by the server."));
        }
        let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
        if allowed <= 0 {
            return refuse(format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                status["desiredHealthy"].as_i64().unwrap_or(0),
                status["currentHealthy"].as_i64().unwrap_or(0)
            ));
        }
        if call.options.dry_run {
            return Ok(());
        }
        budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
        budget["status"]["disruptedPods"][create::text(pod, "name")] = create::now_seconds().into();
        match store.update(&entry.key, stored::encode(&budget), entry.mod_revision, None).await.map_err(store_error)? {
            Cas::Done { .. } => return Ok(()),
            Cas::Conflict(_) => continue,
        }
    }
    Err(Status::too_many_requests("The disruption budget changes too fast to be counted; try again.", 1))
}
