//! Hears of Services and EndpointSlices, and keeps the kernel's table in step. Thin: all meaning is in `plan` and `ruleset`.
//!
//! Changes that arrive while a transaction is under way become one transaction together. There is no timer; a failed
//! transaction is retried with backoff by writing the whole table anew.

use crate::Error;
use crate::plan::{Node, plan};
use crate::ruleset::{Ruleset, StaleUdp};
use client::Informers;
use client::informer::Informer;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use stdx::Shutdown;
use stdx::backoff::Backoff;
use sys::netlink::{Socket, conntrack};
use sys::nft::{self, Batch, Family};
use tokio::sync::Notify;

/// The label that ties a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Clone, Debug)]
pub struct Options {
    pub node_name: String,
    /// All pods of the cluster; their traffic to ClusterIPs is not masqueraded.
    pub cluster_cidrs: Vec<IpNet>,
    /// Connections to unused addresses and ports in here, and in any ServiceCIDR, are rejected.
    pub service_cidrs: Vec<IpNet>,
    /// Name of the nftables table that this proxy owns.
    pub table: String,
    /// The packet-mark bit between our chains. Upstream's is 0x4000.
    pub masquerade_mark: u32,
}

/// Serves until shutdown. The table stays behind, so that Services work while the agent restarts; see [`reset`].
pub async fn run(informers: &Informers, options: Options, shutdown: Shutdown) -> Result<(), Error> {
    let services = informers.of::<Service>();
    let slices = informers.of::<EndpointSlice>();
    let ranges = informers.of::<ServiceCIDR>();
    let dirty = Arc::new(Dirty::default());
    let by_service = Arc::new(Mutex::new(SlicesByService::default()));

    let mark = dirty.clone();
    services.on_change(move |change| {
        // Handlers outlive this function in tests only; marking is then harmless.
        mark.add(client::informer::key_of(change.object().as_ref()));
    });
    let mark = dirty.clone();
    ranges.on_change(move |_| mark.notify.notify_one());
    let (mark, index) = (dirty.clone(), by_service.clone());
    slices.on_change(move |change| {
        let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = change.old()
            && let Some(service) = service_of(old)
        {
            index.remove(&service, old);
            mark.add(service);
        }
        let object = change.object();
        let Some(service) = service_of(object) else {
            return;
        };
        match change {
            client::Change::Deleted(_) => index.remove(&service, object),
            _ => index.insert(&service, object.clone()),
        }
        mark.add(service);
    });

    // A table made from half of the world would cut off the other half.
    tokio::select! {
        () = async { services.wait_synced().await; slices.wait_synced().await; ranges.wait_synced().await } => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let node = Node { name: options.node_name.clone(), cluster_cidrs: options.cluster_cidrs.clone() };
    let mut rules = Ruleset::new(&options.table, node.clone(), options.service_cidrs.clone(), options.masquerade_mark);
    let mut in_force = false;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    loop {
        let keys = dirty.take();
        let changed = keys.len();
        refresh(&mut rules, keys, &node, &services, &by_service);
        if rules.set_service_cidrs(service_cidrs(&options.service_cidrs, &ranges.list())) {
            // The rules that name them are outside of the maps.
            in_force = false;
        }
        let batch = if in_force { rules.take_changes() } else { rules.replace_table() };
        let stale = rules.take_stale_udp();
        let started = Instant::now();
        let empty = batch.is_empty();
        match commit(batch, stale).await {
            Ok(()) => {
                if !in_force {
                    tracing::info!(table = %options.table, services = rules.services().count(), "service proxy is in force");
                } else if !empty {
                    tracing::debug!(changed, micros = started.elapsed().as_micros() as u64, "services updated");
                }
                in_force = true;
                backoff.reset();
            }
            Err(error) => {
                // The kernel's state is no longer known for certain (someone may have deleted the table).
                in_force = false;
                let delay = backoff.next_delay();
                tracing::warn!(%error, ?delay, "could not update services; writing the whole table again");
                tokio::select! {
                    () = tokio::time::sleep(delay) => continue,
                    () = shutdown.cancelled() => return Ok(()),
                }
            }
        }
        tokio::select! {
            () = dirty.wait() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// The ranges that are set, and those of the API, in an order that doesn't change.
fn service_cidrs(set: &[IpNet], objects: &[Arc<ServiceCIDR>]) -> Vec<IpNet> {
    let specs = objects.iter().filter_map(|o| o.spec.as_ref()?.cidrs.as_ref());
    let found: BTreeSet<IpNet> = specs.flatten().filter_map(|c| c.parse().ok()).filter(|c| !set.contains(c)).collect();
    set.iter().copied().chain(found).collect()
}

/// Removes the table; for `skiff reset`.
pub fn reset(table: &str) -> Result<(), Error> {
    Ok(nft::remove_table(&mut Socket::netfilter()?, Family::Ip, table)?)
}

fn refresh(
    rules: &mut Ruleset,
    mut keys: BTreeSet<String>,
    node: &Node,
    services: &Informer<Service>,
    index: &Mutex<SlicesByService>,
) {
    while let Some(key) = keys.pop_first() {
        let frontends = match services.get(&key) {
            Some(service) => {
                let slices = index.lock().unwrap_or_else(PoisonError::into_inner).of(&key);
                let slices: Vec<&EndpointSlice> = slices.iter().map(Arc::as_ref).collect();
                plan(&service, &slices, node)
            }
            None => Vec::new(),
        };
        keys.extend(rules.update(&key, frontends));
    }
}

async fn commit(batch: Batch, stale: Vec<StaleUdp>) -> Result<(), Error> {
    if batch.is_empty() && stale.is_empty() {
        return Ok(());
    }
    let work = move || -> Result<(), Error> {
        let mut socket = Socket::netfilter()?;
        batch.commit(&mut socket)?;
        if !stale.is_empty()
            && let Err(error) = forget_stale(&mut socket, &stale)
        {
            // The table is in force; these flows end by their own timeout.
            tracing::warn!(%error, "could not forget stale UDP flows");
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work).await?
}

fn forget_stale(socket: &mut Socket, stale: &[StaleUdp]) -> Result<(), Error> {
    for flow in conntrack::flows(socket, false)? {
        if stale.iter().any(|s| s.matches(&flow)) {
            conntrack::forget(socket, &flow)?;
        }
    }
    Ok(())
}

fn service_of(slice: &EndpointSlice) -> Option<String> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref().unwrap_or_default()))
}

/// The slices of each Service, so that a change looks at its own only.
#[derive(Default)]
struct SlicesByService(HashMap<String, HashMap<String, Arc<EndpointSlice>>>);

impl SlicesByService {
    fn insert(&mut self, service: &str, slice: Arc<EndpointSlice>) {
        let name = slice.metadata.name.clone().unwrap_or_default();
        self.0.entry(service.into()).or_default().insert(name, slice);
    }
    fn remove(&mut self, service: &str, slice: &EndpointSlice) {
        if let Some(slices) = self.0.get_mut(service) {
            slices.remove(slice.metadata.name.as_deref().unwrap_or_default());
            if slices.is_empty() {
                self.0.remove(service);
            }
        }
    }
    fn of(&self, service: &str) -> Vec<Arc<EndpointSlice>> {
        self.0.get(service).map(|s| s.values().cloned().collect()).unwrap_or_default()
    }
}

/// Services that must be looked at again; bounded by their number.
#[derive(Default)]
struct Dirty {
    keys: Mutex<BTreeSet<String>>,
    notify: Notify,
}

impl Dirty {
    fn add(&self, key: String) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        self.notify.notify_one();
    }
    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
    async fn wait(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_the_api_are_served_too() {
        let object = |cidrs: &[&str]| -> Arc<ServiceCIDR> {
            Arc::new(serde_json::from_value(serde_json::json!({"metadata": {}, "spec": {"cidrs": cidrs}})).unwrap())
        };
        let set: Vec<IpNet> = vec!["10.43.0.0/16".parse().unwrap()];
        let objects = [object(&["10.50.0.0/16", "fd00::/64"]), object(&["10.43.0.0/16"]), object(&["10.44.0.0/16"])];
        let all: Vec<String> = service_cidrs(&set, &objects).iter().map(ToString::to_string).collect();
        assert_eq!(all, ["10.43.0.0/16", "10.44.0.0/16", "10.50.0.0/16", "fd00::/64"]);
    }
}
