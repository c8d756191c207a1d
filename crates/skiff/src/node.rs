//! This machine as a node: network, runtime, kubelet, service proxy, DNS.

use crate::config::ServerArgs;
use crate::control_plane::ControlPlane;
use crate::layout::Layout;
use crate::server::Host;
use crate::version;
use anyhow::{Context, Result, bail};
use client::informer::scoped;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Taint;
use kubelet::KubeletOptions;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use stdx::supervisor::Supervisor;
use tokio::task::JoinHandle;
use tracing::{error, info};

/// As often as upstream looks after the `kubernetes` Service.
const PUBLISH_EVERY: Duration = Duration::from_secs(10);

pub struct Node {
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    pub async fn stopped(self) {
        for t in self.tasks {
            let _ = tokio::time::timeout(Duration::from_secs(5), t).await;
        }
    }
}

pub async fn start(
    args: &ServerArgs,
    layout: &Layout,
    host: &Host,
    control_plane: &ControlPlane,
    shutdown: Shutdown,
    supervisor: &Supervisor,
) -> Result<Node> {
    let mut tasks = Vec::new();
    let pod_cidr = first_node_range(args.cluster_cidr)?;
    let bridge_options = bridge_options(args, layout, pod_cidr);
    let bridge = tokio::task::spawn_blocking(move || podnet::Bridge::new(bridge_options))
        .await?
        .context("failed to set up the pod network")?;

    let exe = std::env::current_exe().context("failed to find the program's own file")?;
    let runtime = runtime::Runtime::open(runtime_options(args, layout, exe.clone(), Arc::new(bridge.clone()))?)
        .await
        .context("failed to start the container runtime")?;
    // The image that a cluster always has is made while everything else starts.
    let maker = runtime.clone();
    tasks.push(tokio::spawn(async move {
        if let Err(e) = maker.ensure_hello(&exe).await {
            error!(error = %e, "the image skiff.local/hello could not be made");
        }
    }));

    let pki = control_plane.pki();
    let mut options = KubeletOptions::new(&host.node_name, &layout.data_dir);
    options.node_ips = vec![host.node_ip];
    options.root_dir = layout.kubelet();
    options.log_dir = layout.logs().join("pods");
    options.cgroup_root = Some(format!("/{}", layout.name));
    options.cluster_dns = vec![args.cluster_dns()?];
    options.cluster_domain = args.cluster_domain.clone();
    options.resolv_conf = args.resolv_conf.clone();
    options.listen = Some(SocketAddr::new(args.bind_address, args.kubelet_port));
    options.tls_certificate = Some(control_plane.kubelet_certificate());
    options.client_ca_pem = Some(pki.ca.cert_pem.clone().into_bytes());
    options.max_pods = args.max_pods;
    if let Some(text) = &args.eviction_hard {
        options.eviction_hard = text.parse().map_err(|e| anyhow::anyhow!("--eviction-hard: {e}"))?;
    }
    options.labels = labels(&args.node_label)?;
    options.taints = args.node_taint.iter().map(|t| taint(t)).collect::<Result<_>>()?;
    options.pod_cidrs = vec![pod_cidr.to_string()];
    options.provider_id = Some(format!("skiff://{}", host.node_name));
    options.version = version::git_version();

    let client = control_plane.client(&format!("system:node:{}", host.node_name), &["system:nodes"]);
    let (services, images) = (runtime.clone(), runtime.clone());
    tasks.push(supervisor.keep("kubelet", move |life| {
        kubelet::run(client.clone(), services.clone(), images.clone(), options.clone(), life)
    }));

    if !args.disabled("proxy") {
        let informers = control_plane.informers().clone();
        let options = proxy::Options {
            node_name: host.node_name.clone(),
            cluster_cidrs: vec![args.cluster_cidr],
            service_cidrs: vec![args.service_cidr],
            table: layout.service_table(),
            masquerade_mark: 0x4000,
        };
        tasks.push(supervisor.keep("proxy", move |life| {
            let (informers, options) = (informers.clone(), options.clone());
            scoped(life.clone(), async move { proxy::run(&informers, options, life).await })
        }));
    }
    if !args.disabled("dns") {
        let gateway =
            bridge.gateways().into_iter().find(IpAddr::is_ipv4).context("the pod network has no IPv4 gateway")?;
        let informers = control_plane.informers().clone();
        // Not 53: the machine may have a name server of its own on all addresses. The Service maps it.
        let server = SocketAddr::new(gateway, 10053);
        let cluster_dns = args.cluster_dns()?;
        let options = dns::DnsOptions {
            listen: vec![server],
            cluster_domain: args.cluster_domain.clone(),
            cluster_dns: Some(cluster_dns),
            cluster_cidrs: vec![args.cluster_cidr, args.service_cidr],
            upstream: dns::Upstream::ResolvConf(args.resolv_conf.clone()),
            ttl_seconds: 5,
        };
        let publisher = control_plane.client("system:apiserver", &["system:masters"]);
        let publication = dns::Publication { cluster_ip: cluster_dns, server, node_name: host.node_name.clone() };
        tasks.push(supervisor.keep("dns", move |life| {
            let (informers, options) = (informers.clone(), options.clone());
            let (publisher, publication) = (publisher.clone(), publication.clone());
            scoped(life.clone(), async move {
                // Again and again: somebody may delete it, and pods can't do without.
                let publishing = async {
                    loop {
                        if let Err(e) = dns::publish(&publisher, &publication).await {
                            error!(error = %e, "the kube-dns Service could not be made");
                        }
                        tokio::time::sleep(PUBLISH_EVERY).await;
                    }
                };
                tokio::select! {
                    ended = dns::run(&informers, options, life) => ended,
                    never = publishing => never,
                }
            })
        }));
    }
    tasks.push(tokio::spawn(control_plane.clone().mark_control_plane(host.node_name.clone(), shutdown)));
    info!(pods = %pod_cidr, bridge = layout.bridge(), "node is starting");
    Ok(Node { tasks })
}

pub fn bridge_options(args: &ServerArgs, layout: &Layout, pod_cidr: IpNet) -> podnet::BridgeOptions {
    podnet::BridgeOptions {
        bridge: layout.bridge(),
        pod_cidrs: vec![pod_cidr],
        cluster_cidrs: vec![args.cluster_cidr],
        service_cidrs: vec![args.service_cidr],
        mtu: None,
        state_dir: layout.network(),
        table: layout.network_table(),
    }
}

fn runtime_options(
    args: &ServerArgs,
    layout: &Layout,
    exe: std::path::PathBuf,
    network: Arc<dyn cri::PodNetwork>,
) -> Result<runtime::RuntimeOptions> {
    let mut options = runtime::RuntimeOptions::new(layout.runtime(), layout.state_dir.clone(), network, exe);
    if args.private_registry.exists() {
        let text = std::fs::read_to_string(&args.private_registry)
            .with_context(|| format!("failed to read {}", args.private_registry.display()))?;
        options.registries = serde_saphyr::from_str(&text)
            .with_context(|| format!("{} is no registries configuration", args.private_registry.display()))?;
    }
    Ok(options)
}

/// The first node's share of the cluster's pod range: a /24 of IPv4, a /64 of IPv6.
pub fn first_node_range(cluster: IpNet) -> Result<IpNet> {
    let prefix = match cluster {
        IpNet::V4(n) => 24.max(n.prefix_len()),
        IpNet::V6(n) => 64.max(n.prefix_len()),
    };
    Ok(IpNet::new(cluster.network(), prefix)?)
}

pub fn labels(flags: &[String]) -> Result<BTreeMap<String, String>> {
    flags
        .iter()
        .map(|l| match l.split_once('=') {
            Some((k, v)) => Ok((k.to_string(), v.to_string())),
            None => bail!("--node-label={l}: must be key=value"),
        })
        .collect()
}

pub fn taint(flag: &str) -> Result<Taint> {
    let (rest, effect) =
        flag.rsplit_once(':').with_context(|| format!("--node-taint={flag}: must be key=value:effect"))?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        bail!("--node-taint={flag}: effect {effect:?} is none of NoSchedule, PreferNoSchedule, NoExecute");
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    Ok(Taint {
        key: key.to_string(),
        value: (!value.is_empty()).then(|| value.to_string()),
        effect: effect.to_string(),
        ..Taint::default()
    })
}
