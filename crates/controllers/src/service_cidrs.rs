//! ServiceCIDRs say whether they are ready, and stay while Services have addresses that no other range would hold.
//!
//! In: ServiceCIDRs and the IPAddresses that the API server gave out. Out: the finalizer, the condition `Ready`.
//! Upstream: `servicecidrs` (KEP-1880). Who gives out addresses is `apiserver/src/services.rs`.

use crate::{Context, ownership};
use api::kinds::ipaddress::gives_out;
use client::{Change, Client, Queue};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "service-cidrs-controller";
const WORKERS: usize = 1;
pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// For the allocators to hear of a deletion before the finalizer goes.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    AddFinalizer,
    /// `Ready` gets this status, reason and message.
    Condition(&'static str, &'static str, &'static str),
    /// Look again then.
    Wait(Duration),
    RemoveFinalizer,
}

const READY: Step = Step::Condition("True", "", "Kubernetes Service CIDR is ready");
const IN_USE: Step = Step::Condition(
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
);

/// What is to be done about one of `all`, given the addresses of Services.
pub fn plan(cidr: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[IpAddr], now: Timestamp) -> Vec<Step> {
    let guarded = cidr.finalizers().iter().any(|f| f == FINALIZER);
    let Some(deleted) = &cidr.metadata.deletion_timestamp else {
        let finalizer = (!guarded).then_some(Step::AddFinalizer);
        return finalizer.into_iter().chain(Some(READY).filter(|s| !says(cidr, s))).collect();
    };
    if !may_go(cidr, all, addresses) {
        return Some(IN_USE).filter(|s| !says(cidr, s)).into_iter().collect();
    }
    match GRACE - now.duration_since(deleted.0) {
        left if left.is_positive() => vec![Step::Wait(Duration::try_from(left).unwrap_or_default())],
        _ if guarded => vec![Step::RemoveFinalizer],
        _ => Vec::new(),
    }
}

/// Whether the condition is there already.
fn says(cidr: &ServiceCIDR, step: &Step) -> bool {
    let Step::Condition(status, reason, message) = step else { return false };
    let conditions = cidr.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && (&*c.status, &*c.reason, &*c.message) == (*status, *reason, *message))
}

/// Another has all of its ranges, or nobody has an address that would be in no range at all.
fn may_go(cidr: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[IpAddr]) -> bool {
    let others = || all.iter().filter(|o| o.name_any() != cidr.name_any()).flat_map(|o| ranges(o));
    let own = ranges(cidr);
    if own.iter().all(|range| others().any(|o| o.contains(range))) {
        return true;
    }
    let mut orphans = addresses.iter().filter(|ip| own.iter().any(|range| gives_out(range, **ip)));
    orphans.all(|ip| others().any(|o| gives_out(&o, *ip)))
}

fn ranges(cidr: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = cidr.spec.iter().flat_map(|s| s.cidrs.iter().flatten());
    cidrs.filter_map(|c| c.parse().ok()).collect()
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// The address, if the API server gave it to a Service.
fn address_of(object: &IPAddress) -> Option<IpAddr> {
    let managed_by = object.labels().get("ipaddress.kubernetes.io/managed-by")?;
    if managed_by == "ipallocator.k8s.io" { object.metadata.name.as_deref()?.parse().ok() } else { None }
}

pub async fn run(context: Context) {
    let cidrs = context.informers.of::<ServiceCIDR>();
    let addresses = context.informers.of::<IPAddress>();
    cidrs.wait_synced().await;
    addresses.wait_synced().await;
    let queue = Queue::new();
    let (q, all) = (queue.clone(), cidrs.clone());
    cidrs.on_change(move |c| {
        q.add(c.object().name_any());
        // One that comes may let others go.
        let own = ranges(c.object());
        for other in all.list() {
            if ranges(&other).iter().any(|r| own.iter().any(|o| overlap(r, o))) {
                q.add(other.name_any());
            }
        }
    });
    let (q, all) = (queue.clone(), cidrs.clone());
    addresses.on_change(move |c| {
        if matches!(c, Change::Updated { .. }) {
            return;
        }
        let Some(ip) = address_of(c.object()) else { return };
        for cidr in all.list() {
            if cidr.metadata.deletion_timestamp.is_some() && ranges(&cidr).iter().any(|r| gives_out(r, ip)) {
                q.add(cidr.name_any());
            }
        }
    });
    let client = context.client(NAME);
    queue
        .run(NAME, WORKERS, context.shutdown.clone(), move |key| {
            let (client, cidrs, addresses) = (client.clone(), cidrs.clone(), addresses.clone());
            async move {
                let Some(cidr) = cidrs.get(&key) else { return Ok::<_, kube::Error>(None) };
                let used: Vec<IpAddr> = addresses.list().iter().filter_map(|a| address_of(a)).collect();
                let mut wait = None;
                for step in plan(&cidr, &cidrs.list(), &used, Timestamp::now()) {
                    match step {
                        Step::Wait(time) => wait = Some(time),
                        step => write(&client, &cidr.name_any(), step).await?,
                    }
                }
                Ok(wait)
            }
        })
        .await;
}

async fn write(client: &Client, name: &str, step: Step) -> Result<(), kube::Error> {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    let written = match step {
        Step::AddFinalizer | Step::RemoveFinalizer => {
            let key = if step == Step::AddFinalizer { "finalizers" } else { "$deleteFromPrimitiveList/finalizers" };
            let patch = json!({"metadata": {key: [FINALIZER]}});
            api.patch(name, &PatchParams::default(), &Patch::Strategic(&patch)).await
        }
        Step::Condition(status, reason, message) => {
            let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let patch = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "status": {"conditions": [
                {"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": now}]}});
            api.patch_status(name, &PatchParams::apply(NAME).force(), &Patch::Apply(&patch)).await
        }
        Step::Wait(_) => return Ok(()),
    };
    match written {
        Ok(_) => Ok(()),
        Err(e) if ownership::gone(&e) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(name: &str, ranges: &[&str], deleted: Option<&str>, ready: Option<&Step>) -> Arc<ServiceCIDR> {
        let conditions: Vec<_> = ready
            .into_iter()
            .map(|step| match step {
                Step::Condition(status, reason, message) => json!({"type": "Ready", "status": status, "reason": reason,
                    "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}),
                other => panic!("{other:?}"),
            })
            .collect();
        let object = json!({
            "metadata": {"name": name, "deletionTimestamp": deleted, "finalizers": ready.map(|_| [FINALIZER])},
            "spec": {"cidrs": ranges}, "status": {"conditions": conditions}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn one_stays_while_its_addresses_would_have_no_other() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let (long_ago, just_now) = (Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:00:57Z"));
        let small = &["10.0.0.0/24"][..];
        // What else there is, the addresses in use, the ServiceCIDR itself, what is done about it.
        let cases: Vec<(&str, Vec<&[&str]>, &[&str], Arc<ServiceCIDR>, Vec<Step>)> = vec![
            ("new", vec![], &[], cidr("a", small, None, None), vec![Step::AddFinalizer, READY]),
            ("as it should be", vec![], &[], cidr("a", small, None, Some(&READY)), vec![]),
            ("unused", vec![], &[], cidr("a", small, long_ago, Some(&READY)), vec![Step::RemoveFinalizer]),
            ("unguarded", vec![], &[], cidr("a", small, long_ago, None), vec![]),
            (
                "too soon",
                vec![],
                &[],
                cidr("a", small, just_now, Some(&READY)),
                vec![Step::Wait(Duration::from_secs(7))],
            ),
            ("used", vec![], &["10.0.0.7"], cidr("a", small, just_now, Some(&READY)), vec![IN_USE]),
            ("used, and said so", vec![], &["10.0.0.7"], cidr("a", small, long_ago, Some(&IN_USE)), vec![]),
            (
                "others' addresses",
                vec![],
                &["10.0.1.7"],
                cidr("a", small, long_ago, Some(&READY)),
                vec![Step::RemoveFinalizer],
            ),
            (
                "its twin",
                vec![small],
                &["10.0.0.7"],
                cidr("a", small, long_ago, Some(&IN_USE)),
                vec![Step::RemoveFinalizer],
            ),
            (
                "a larger one",
                vec![&["10.0.0.0/16"]],
                &["10.0.0.0", "10.0.0.7"],
                cidr("a", small, long_ago, Some(&READY)),
                vec![Step::RemoveFinalizer],
            ),
            (
                "a smaller one with all addresses",
                vec![&["10.0.0.0/28"]],
                &["10.0.0.7"],
                cidr("a", small, long_ago, Some(&READY)),
                vec![Step::RemoveFinalizer],
            ),
            (
                "a smaller one without one",
                vec![&["10.0.0.0/28"]],
                &["10.0.0.7", "10.0.0.15"],
                cidr("a", small, long_ago, Some(&READY)),
                vec![IN_USE],
            ),
            (
                "half of two families",
                vec![small],
                &["10.0.0.7", "fd00::7"],
                cidr("a", &["10.0.0.0/24", "fd00::/64"], long_ago, Some(&READY)),
                vec![IN_USE],
            ),
        ];
        for (case, others, used, one, expected) in cases {
            let mut all: Vec<_> =
                others.iter().enumerate().map(|(i, r)| cidr(&format!("o{i}"), r, None, Some(&READY))).collect();
            all.push(one.clone());
            let used: Vec<IpAddr> = used.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(plan(&one, &all, &used, now), expected, "{case}");
        }
    }
}
