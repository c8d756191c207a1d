//! ResourceQuota: charges what a write adds to the namespace's quotas, and refuses what would exceed them.
//!
//! In: the write, and the quotas' `status`, which the quota controller keeps. Out: `status.used` raised before the
//! object is committed, by compare-and-swap, so that two writes can't both take the last of a quota. What was charged
//! for a write that then lost its race is given back at once; where its outcome is unknown, by the controller's next
//! recount.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::{Object, Reader, key};
use api::quota::{Amounts, amounts, counted_by, in_scope, subtract, usage_of};
use async_trait::async_trait;
use meta::quantity::Quantity;
use meta::status::Status;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Other servers may charge the same quota at the same time.
const ATTEMPTS_MAX: usize = 16;

pub struct ResourceQuota {
    reader: Reader,
    /// Resources that may be used only where a quota covers them.
    limited: Vec<Limited>,
    /// One charge at a time within this server, so that attempts are lost only to other servers.
    charging: tokio::sync::Mutex<()>,
}

impl ResourceQuota {
    pub fn new(reader: Reader) -> ResourceQuota {
        ResourceQuota { reader, limited: Vec::new(), charging: tokio::sync::Mutex::new(()) }
    }

    /// With the `limitedResources` of `apiserver.config.k8s.io/v1` ResourceQuotaConfiguration.
    pub fn limited(mut self, configuration: &Value) -> ResourceQuota {
        let texts = |v: &Value| {
            let all = v.as_array().into_iter().flatten();
            all.filter_map(|t| t.as_str().map(str::to_string)).collect::<Vec<_>>()
        };
        let rows = configuration["limitedResources"].as_array().into_iter().flatten();
        self.limited = rows
            .map(|l| Limited {
                group: l["apiGroup"].as_str().unwrap_or_default().to_string(),
                resource: l["resource"].as_str().unwrap_or_default().to_string(),
                contains: texts(&l["matchContains"]),
                scopes: l["matchScopes"].as_array().cloned().unwrap_or_default(),
            })
            .collect();
        self
    }

    /// What the object uses of limited resources, and in which limited scopes it is, must be covered by quotas.
    fn covered(&self, a: &Attributes<'_>, quotas: &[Object]) -> Result<(), Status> {
        let (group, plural) = (a.resource.group.as_str(), a.resource.plural.as_str());
        let rows: Vec<&Limited> = self.limited.iter().filter(|l| l.group == group && l.resource == plural).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let uses = usage_of(group, plural, a.object);
        let mut names: BTreeSet<&str> = uses
            .iter()
            .filter(|(k, q)| q.sign() > 0 && rows.iter().any(|l| l.contains.iter().any(|c| k.contains(c.as_str()))))
            .map(|(k, _)| k.as_str())
            .collect();
        let mut scopes: Vec<&Value> = rows
            .iter()
            .flat_map(|l| &l.scopes)
            .filter(|s| api::quota::has_scope(s["scopeName"].as_str().unwrap_or_default(), s, group, plural, a.object))
            .collect();
        for quota in quotas.iter().map(Object::value) {
            if !in_scope(&quota["spec"], group, plural, a.object) {
                continue;
            }
            let hard = amounts(&quota["status"]["hard"]);
            names.retain(|n| !hard.contains_key(*n));
            let told = |s: &Value| {
                let name = &s["scopeName"];
                let listed = |v: &Value| v.as_array().is_some_and(|a| a.iter().any(|x| x == name));
                let expressions = quota["spec"]["scopeSelector"]["matchExpressions"].as_array();
                listed(&quota["spec"]["scopes"])
                    || expressions.is_some_and(|e| e.iter().any(|e| e["scopeName"] == *name))
            };
            scopes.retain(|s| !told(s));
        }
        if !names.is_empty() {
            let names: Vec<&str> = names.into_iter().collect();
            return Err(forbidden(a, format!("insufficient quota to consume: {}", names.join(","))));
        }
        if !scopes.is_empty() {
            let shown: Vec<String> = scopes
                .iter()
                .map(|s| {
                    let text = |k: &str| s[k].as_str().unwrap_or_default();
                    let values = s["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
                    format!("{{{} {} [{}]}}", text("scopeName"), text("operator"), values.collect::<Vec<_>>().join(" "))
                })
                .collect();
            // As upstream's, which isn't made a refusal.
            let why = format!("insufficient quota to match these scopes: [{}]", shown.join(" "));
            return Err(Status::new(500, "", why));
        }
        Ok(())
    }

    /// Takes a charge back. Errors only wait for the recount.
    async fn give_back(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let (group, plural) = (a.resource.group.as_str(), a.resource.plural.as_str());
        let charge = added(a);
        for entry in self.reader.list("", "resourcequotas", a.namespace)? {
            let name = entry.value()["metadata"]["name"].as_str().unwrap_or_default().to_string();
            let at = key("", "resourcequotas", a.namespace, &name);
            for _ in 0..ATTEMPTS_MAX {
                let Some(now) = self.reader.get("", "resourcequotas", a.namespace, &name) else { break };
                let quota = now.value();
                if !in_scope(&quota["spec"], group, plural, a.object) {
                    break;
                }
                let Some(back) = given_back(&quota, &charge) else { break };
                let bytes = serde_json::to_vec(&back).map_err(Status::internal)?;
                match self.reader.store().update(&at, bytes.into(), now.0.mod_revision, None).await {
                    Ok(store::Cas::Done { .. }) => break,
                    Ok(store::Cas::Conflict(_)) => {}
                    Err(e) => return Err(Status::internal(e)),
                }
            }
        }
        Ok(())
    }

    /// `Ok(false)`: a quota changed in between; look again.
    async fn charge(&self, a: &Attributes<'_>, done: &mut BTreeSet<String>) -> Result<bool, Status> {
        let (group, plural) = (a.resource.group.as_str(), a.resource.plural.as_str());
        let added: Amounts = added(a).into_iter().filter(|(_, q)| !q.is_zero()).collect();
        let quotas = self.reader.list("", "resourcequotas", a.namespace)?;
        let mut concerned = Vec::new();
        for entry in &quotas {
            let quota = entry.value();
            if !in_scope(&quota["spec"], group, plural, a.object) {
                continue;
            }
            let name = quota["metadata"]["name"].as_str().unwrap_or_default().to_string();
            let hard = amounts(&quota["status"]["hard"]);
            let own = (group.to_string(), plural.to_string());
            let counted: Vec<&str> =
                hard.keys().map(String::as_str).filter(|k| counted_by(k).as_ref() == Some(&own)).collect();
            if plural == "pods" && group.is_empty() {
                check_constraints(a, &name, &counted)?;
            }
            let used = amounts(&quota["status"]["used"]);
            if counted.iter().any(|k| !used.contains_key(*k)) {
                let why = format!("status unknown for quota: {name}, resources: {}", counted.join(","));
                return Err(forbidden(a, why));
            }
            concerned.push((name, entry.0.mod_revision, quota, hard, used));
        }
        if added.is_empty() {
            return Ok(true);
        }
        self.covered(a, &quotas)?;
        let mut charges = Vec::new();
        for (name, revision, quota, hard, used) in concerned.into_iter().filter(|c| !done.contains(&c.0)) {
            let relevant: Amounts =
                added.iter().filter(|(k, _)| hard.contains_key(*k)).map(|(k, q)| (k.clone(), *q)).collect();
            if relevant.is_empty() {
                continue;
            }
            let zero = Quantity::ZERO;
            let exceeded: Vec<&String> = relevant
                .iter()
                .filter(|(k, q)| q.sign() > 0 && used[*k] + **q > *hard.get(*k).unwrap_or(&zero))
                .map(|(k, _)| k)
                .collect();
            if !exceeded.is_empty() {
                let show = |of: &Amounts| {
                    let parts: Vec<String> =
                        exceeded.iter().filter_map(|k| Some(format!("{k}={}", of.get(*k)?))).collect();
                    parts.join(",")
                };
                return Err(forbidden(
                    a,
                    format!(
                        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                        show(&relevant),
                        show(&used),
                        show(&hard)
                    ),
                ));
            }
            let mut charged = quota.as_ref().clone();
            for (k, q) in &relevant {
                charged["status"]["used"][k] = (used[k] + *q).to_string().into();
            }
            charges.push((name, revision, charged));
        }
        if a.dry_run {
            return Ok(true);
        }
        for (name, revision, charged) in charges {
            let bytes = serde_json::to_vec(&charged).map_err(Status::internal)?;
            let at = key("", "resourcequotas", a.namespace, &name);
            match self.reader.store().update(&at, bytes.into(), revision, None).await.map_err(Status::internal)? {
                store::Cas::Done { .. } => done.insert(name),
                store::Cas::Conflict(_) => return Ok(false),
            };
        }
        Ok(true)
    }
}

/// A row of `limitedResources`.
struct Limited {
    group: String,
    resource: String,
    contains: Vec<String>,
    scopes: Vec<Value>,
}

/// What a write adds; negative where it gives back.
fn added(a: &Attributes<'_>) -> Amounts {
    let (group, plural) = (a.resource.group.as_str(), a.resource.plural.as_str());
    match a.operation {
        Operation::Create => usage_of(group, plural, a.object),
        _ => {
            let old = a.old.unwrap_or(&Value::Null);
            subtract(usage_of(group, plural, a.object), &usage_of(group, plural, old))
        }
    }
}

/// The quota with a charge taken back, or nothing to do. Never below zero: a recount may have come in between.
fn given_back(quota: &Value, charge: &Amounts) -> Option<Value> {
    let used = amounts(&quota["status"]["used"]);
    let mut out = quota.clone();
    for (k, q) in charge.iter().filter(|(_, q)| !q.is_zero()) {
        let Some(was) = used.get(k) else { continue };
        let rest = *was - *q;
        let rest = if rest.sign() < 0 { Quantity::ZERO } else { rest };
        out["status"]["used"][k] = rest.to_string().into();
    }
    (out != *quota).then_some(out)
}

/// Only these change what they use after they are made.
fn changes_usage(a: &Attributes<'_>) -> bool {
    match a.operation {
        Operation::Create => a.subresource.is_empty(),
        Operation::Update => {
            a.is_main("", "services") || a.is_main("", "persistentvolumeclaims") || a.is("", "pods", "resize")
        }
        _ => false,
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if a.namespace.is_empty() || !changes_usage(a) {
            return Ok(());
        }
        // Most namespaces have no quota, and their writers shouldn't wait for each other.
        if self.reader.store().count(&crate::reader::prefix("", "resourcequotas", a.namespace)) == 0 {
            let adds = added(a).values().any(|q| q.sign() > 0);
            return if adds { self.covered(a, &[]) } else { Ok(()) };
        }
        let _one = self.charging.lock().await;
        let mut done = BTreeSet::new();
        for _ in 0..ATTEMPTS_MAX {
            if self.charge(a, &mut done).await? {
                return Ok(());
            }
        }
        Err(Status::conflict(
            "",
            "resourcequotas",
            a.namespace,
            "quota is being charged by others; please apply your changes to the latest version and try again",
        ))
    }

    async fn release(&self, a: &Attributes<'_>) {
        if a.namespace.is_empty() || !changes_usage(a) {
            return;
        }
        if self.reader.store().count(&crate::reader::prefix("", "resourcequotas", a.namespace)) == 0 {
            return;
        }
        let _one = self.charging.lock().await;
        if let Err(e) = self.give_back(a).await {
            tracing::warn!(
                namespace = a.namespace,
                error = e.message,
                "a charge of a quota was not given back; the next recount will"
            );
        }
    }
}

/// A quota on processors or memory demands that each container says what it takes, unless the pod as a whole does.
fn check_constraints(a: &Attributes<'_>, quota: &str, hard: &[&str]) -> Result<(), Status> {
    let spec = &a.object["spec"];
    let of_pod = ["requests", "limits"].iter().filter_map(|f| spec["resources"][*f].as_object()).flat_map(|r| r.keys());
    if of_pod.into_iter().any(|r| r == "cpu" || r == "memory" || r.starts_with("hugepages-")) {
        return Ok(());
    }
    let containers: Vec<&Value> =
        ["containers", "initContainers"].iter().flat_map(|l| spec[*l].as_array().into_iter().flatten()).collect();
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for resource in hard {
        let (field, name) = match resource.split_once('.') {
            None => ("requests", *resource),
            Some((field @ ("requests" | "limits"), name)) => (field, name),
            _ => continue,
        };
        if !matches!(name, "cpu" | "memory") {
            continue;
        }
        for c in containers.iter().filter(|c| c["resources"][field].get(name).is_none()) {
            missing.entry(resource).or_default().push(c["name"].as_str().unwrap_or_default());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = missing
        .iter()
        .map(|(resource, names)| {
            let mut names = names.clone();
            names.sort_unstable();
            names.dedup();
            format!("{resource} for: {}", names.join(","))
        })
        .collect();
    Err(forbidden(a, format!("failed quota: {quota}: must specify {}", texts.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::reader;
    use serde_json::json;

    fn quota(name: &str, spec: Value, hard: Value, used: Value) -> Value {
        json!({"apiVersion":"v1","kind":"ResourceQuota","metadata":{"namespace":"d","name":name},"spec":spec,
               "status":{"hard":hard,"used":used}})
    }

    fn pod(requests: Value) -> Value {
        json!({"kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","resources":{"requests":requests}}]}})
    }

    fn used(r: &Reader, name: &str) -> Value {
        r.get("", "resourcequotas", "d", name).unwrap().value()["status"]["used"].clone()
    }

    #[tokio::test]
    async fn writes_are_charged_until_the_quota_is_used_up() {
        let hard = json!({"pods":"2","requests.cpu":"1","count/deployments.apps":"1"});
        let zero = json!({"pods":"0","requests.cpu":"0","count/deployments.apps":"0"});
        let r = reader(&[quota("q", json!({}), hard, zero)]).await;
        let p = ResourceQuota::new(r.clone());
        let create = |cpu: &str| Write::create("", "pods", "d", pod(json!({"cpu":cpu}))).run(&p);
        assert!(create("600m").await.is_ok());
        assert_eq!(used(&r, "q"), json!({"pods":"1","requests.cpu":"600m","count/deployments.apps":"0"}));
        let e = create("500m").await.unwrap_err();
        assert_eq!(
            e.message,
            "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, \
             limited: requests.cpu=1"
        );
        assert!(create("400m").await.is_ok());
        let e = create("0").await.unwrap_err();
        assert!(e.message.ends_with("exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"), "{e}");
        let e = Write::create("", "pods", "d", pod(json!({}))).run(&p).await.unwrap_err();
        assert!(e.message.ends_with("failed quota: q: must specify requests.cpu for: c"), "{e}");
        let deployment = || Write::create("apps", "deployments", "d", json!({"metadata":{"name":"x"}})).run(&p);
        assert!(deployment().await.is_ok());
        assert_eq!(deployment().await.unwrap_err().code, 403);
        assert!(Write::create("", "pods", "other", pod(json!({}))).run(&p).await.is_ok());
    }

    #[tokio::test]
    async fn what_a_quota_demands_comes_before_what_it_has() {
        let hard = json!({"pods":"0","limits.memory":"1Gi","ephemeral-storage":"1Gi","secrets":"1"});
        let uncounted = quota("b", json!({}), json!({"pods":"9","cpu":"9"}), json!({"pods":"0"}));
        let r = reader(&[quota("a", json!({}), hard.clone(), hard), uncounted]).await;
        let p = ResourceQuota::new(r);
        let refused = async |object: &Value| {
            let e = Write::create("", "pods", "d", object.clone()).run(&p).await.unwrap_err();
            e.message.strip_prefix("pods \"p\" is forbidden: ").unwrap().to_string()
        };
        let mut object = pod(json!({"cpu":"1"}));
        assert_eq!(refused(&object).await, "failed quota: a: must specify limits.memory for: c");
        // The first quota has no room; that the second isn't counted yet is told all the same.
        object["spec"]["containers"][0]["resources"]["limits"] = json!({"memory":"1Mi"});
        assert_eq!(refused(&object).await, "status unknown for quota: b, resources: cpu,pods");
        // What is said of the pod needn't be said of its containers.
        object["spec"]["containers"][0]["resources"] = json!({});
        object["spec"]["resources"] = json!({"requests":{"memory":"1Mi"}});
        assert_eq!(refused(&object).await, "status unknown for quota: b, resources: cpu,pods");
    }

    #[tokio::test]
    async fn many_at_once_never_overdraw() {
        let r = reader(&[quota("q", json!({}), json!({"secrets":"5"}), json!({"secrets":"0"}))]).await;
        // Two servers over one store.
        let (a, b) = (ResourceQuota::new(r.clone()), ResourceQuota::new(r.clone()));
        let one = |p| Write::create("", "secrets", "d", json!({"metadata":{"name":"s"}})).run(p);
        let all = futures::future::join_all((0..20).map(|i| one(if i % 2 == 0 { &a } else { &b }))).await;
        assert_eq!(all.iter().filter(|x| x.is_ok()).count(), 5);
        assert_eq!(used(&r, "q"), json!({"secrets":"5"}));
    }

    #[tokio::test]
    async fn what_was_not_written_is_given_back() {
        let r = reader(&[quota("q", json!({}), json!({"secrets":"5"}), json!({"secrets":"0"}))]).await;
        let p = ResourceQuota::new(r.clone());
        let one = || Write::create("", "secrets", "d", json!({"metadata":{"name":"s"}}));
        one().run(&p).await.unwrap();
        one().run(&p).await.unwrap();
        one().release(&p).await;
        assert_eq!(used(&r, "q"), json!({"secrets":"1"}));
        // Never below zero, should a recount have been faster.
        one().release(&p).await;
        one().release(&p).await;
        assert_eq!(used(&r, "q"), json!({"secrets":"0"}));
    }

    #[tokio::test]
    async fn scopes_decide_which_quota_pays() {
        let one = || (json!({"pods":"9"}), json!({"pods":"0"}));
        let scoped = |name: &str, spec: Value| quota(name, spec, one().0, one().1);
        let r = reader(&[
            scoped("best", json!({"scopes":["BestEffort"]})),
            scoped("not-best", json!({"scopes":["NotBestEffort"]})),
            scoped("ends", json!({"scopes":["Terminating"]})),
            scoped("high", json!({"scopeSelector":{"matchExpressions":[{"scopeName":"PriorityClass","operator":"In","values":["high"]}]}})),
        ])
        .await;
        let p = ResourceQuota::new(r.clone());
        let mut object = pod(json!({}));
        object["spec"]["activeDeadlineSeconds"] = 5.into();
        Write::create("", "pods", "d", object).run(&p).await.unwrap();
        let mut object = pod(json!({"cpu":"1"}));
        object["spec"]["priorityClassName"] = "high".into();
        Write::create("", "pods", "d", object).run(&p).await.unwrap();
        for (name, expected) in [("best", "1"), ("not-best", "1"), ("ends", "1"), ("high", "1")] {
            assert_eq!(used(&r, name)["pods"], expected, "{name}");
        }
    }

    #[tokio::test]
    async fn limited_resources_need_a_quota() {
        let scope = json!({"scopeName":"PriorityClass","operator":"In","values":["critical"]});
        let config = json!({"limitedResources":[
            {"resource":"pods","matchScopes":[scope]},
            {"resource":"persistentvolumeclaims","matchContains":["gold.storageclass"]}]});
        let covering = json!({"scopeSelector":{"matchExpressions":[scope]}});
        let r = reader(&[quota("q", covering, json!({"pods":"9"}), json!({"pods":"0"}))]).await;
        let p = ResourceQuota::new(r).limited(&config);
        let mut critical = pod(json!({}));
        critical["spec"]["priorityClassName"] = "critical".into();
        let create = |ns: &str, object: &Value| Write::create("", "pods", ns, object.clone()).run(&p);
        assert!(create("d", &critical).await.is_ok() && create("other", &pod(json!({}))).await.is_ok());
        let e = create("other", &critical).await.unwrap_err();
        let text = "insufficient quota to match these scopes: [{PriorityClass In [critical]}]";
        assert_eq!((e.code, &*e.message), (500, text));
        let claim = json!({"metadata":{"name":"c"},"spec":{"storageClassName":"gold","resources":{"requests":{"storage":"1Gi"}}}});
        let e = Write::create("", "persistentvolumeclaims", "d", claim).run(&p).await.unwrap_err();
        let text = "insufficient quota to consume: gold.storageclass.storage.k8s.io/persistentvolumeclaims,gold.storageclass.storage.k8s.io/requests.storage";
        assert!(e.message.ends_with(text), "{e}");
    }

    #[tokio::test]
    async fn updates_pay_the_difference() {
        let hard = json!({"services.nodeports":"2","requests.storage":"3Gi"});
        let r =
            reader(&[quota("q", json!({}), hard, json!({"services.nodeports":"0","requests.storage":"1Gi"}))]).await;
        let p = ResourceQuota::new(r.clone());
        let service = |kind: &str, ports: usize| json!({"metadata":{"name":"s"},"spec":{"type":kind,"ports":vec![json!({"port":1}); ports]}});
        let change = |to: Value| Write::update("", "services", "d", service("ClusterIP", 2), to).run(&p);
        change(service("NodePort", 2)).await.unwrap();
        assert_eq!(used(&r, "q")["services.nodeports"], "2");
        assert_eq!(change(service("LoadBalancer", 1)).await.unwrap_err().code, 403);
        let back = Write::update("", "services", "d", service("NodePort", 2), service("ClusterIP", 2)).run(&p);
        back.await.unwrap();
        assert_eq!(used(&r, "q")["services.nodeports"], "0");
        let claim = |size: &str| json!({"metadata":{"name":"c"},"spec":{"resources":{"requests":{"storage":size}}}});
        Write::update("", "persistentvolumeclaims", "d", claim("1Gi"), claim("3Gi")).run(&p).await.unwrap();
        assert_eq!(used(&r, "q")["requests.storage"], "3Gi");
    }
}
