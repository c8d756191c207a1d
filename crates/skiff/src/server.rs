//! `skiff server`: the order in which things start and stop.

use crate::config::ServerArgs;
use crate::control_plane::ControlPlane;
use crate::layout::Layout;
use crate::pid_file::PidFile;
use crate::{node, supervision, version};
use anyhow::{Context, Result, bail};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Instant;
use stdx::Shutdown;
use stdx::supervisor::Supervisor;
use tracing::{info, warn};

pub fn main(args: ServerArgs) -> Result<()> {
    args.check()?;
    log(&args);
    supervision::watch_panics();
    let _ = tokio_rustls_provider();
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get()).min(8))
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    let result = rt.block_on(run(args));
    // Blocking helpers (a half-read log, a DNS query) don't hold up the exit.
    rt.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

fn tokio_rustls_provider() -> Result<(), std::sync::Arc<rustls::crypto::CryptoProvider>> {
    rustls::crypto::ring::default_provider().install_default()
}

fn log(args: &ServerArgs) {
    let default = if args.debug { "debug,hyper=info,h2=info,rustls=info,tower=info" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SKIFF_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for people; journals and files get plain text.
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let _ = if args.log_json { builder.json().try_init() } else { builder.try_init() };
}

/// Facts about this machine that the flags leave open.
#[derive(Clone, Debug)]
pub struct Host {
    pub node_name: String,
    pub node_ip: IpAddr,
}

impl Host {
    fn find(args: &ServerArgs, layout: &Layout) -> Result<Host> {
        let node_name = match &args.node_name {
            Some(n) => n.clone(),
            None => std::fs::read_to_string("/proc/sys/kernel/hostname").context("failed to read the host's name")?,
        };
        let node_name = node_name.trim().to_ascii_lowercase();
        let faults = meta::names::dns1123_subdomain(&node_name);
        if !faults.is_empty() {
            bail!("node name {node_name:?} is invalid: {}; choose one with --node-name", faults.join(", "));
        }
        let node_name = match args.disable_agent {
            true => node_name,
            false => node_name_of(&layout.node_name(), node_name, args.node_name.is_some())?,
        };
        let node_ip = match args.node_ip.or_else(routed_address) {
            Some(ip) => ip,
            None => unrouted_address(args, layout)?,
        };
        Ok(Host { node_name, node_ip })
    }
}

/// The node's name as the data directory knows it: pods, addresses and the Node object hang on it. A host that was
/// renamed stays the node that it was; another name that is asked for is a mistake, since it would silently add a node.
fn node_name_of(file: &Path, name: String, asked_for: bool) -> Result<String> {
    let known = match std::fs::read_to_string(file) {
        Ok(text) => text.trim().to_string(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).with_context(|| format!("failed to read {}", file.display())),
    };
    if known == name {
        return Ok(name);
    }
    if known.is_empty() {
        std::fs::write(file, &name).with_context(|| format!("failed to write {}", file.display()))?;
        return Ok(name);
    }
    if asked_for {
        bail!(
            "this data directory belongs to node {known:?}, not {name:?}; to rename the node: drain it, \
             \"kubectl delete node {known}\", stop Skiff, remove {}, and start with --node-name={name}",
            file.display()
        );
    }
    warn!(host = name, node = known, "the host's name has changed; the node keeps its own");
    Ok(known)
}

/// The address that the default route would use. Nothing is sent.
fn routed_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

/// A machine without a default route: the first address that it has, or else the one that it will have as the pods'
/// gateway. Loopback wouldn't do, since pods couldn't reach the API there.
fn unrouted_address(args: &ServerArgs, layout: &Layout) -> Result<IpAddr> {
    let mut route = sys::netlink::Route::open().context("failed to ask for the machine's addresses")?;
    let links = route.links().context("failed to list links")?;
    let addresses = route.addresses().context("failed to list addresses")?;
    let is_ours = |index: u32| links.iter().any(|l| l.index == index && l.name == layout.bridge());
    let own = addresses.iter().filter(|(link, ip, _)| is_usable(ip) && !is_ours(*link)).map(|(_, ip, _)| *ip).next();
    match own.or_else(|| node::first_node_range(args.cluster_cidr).ok()?.hosts().next()) {
        Some(ip) => Ok(ip),
        None => bail!("this machine has no address; give one with --node-ip"),
    }
}

/// IPv4, as pods and Services have it.
fn is_usable(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified())
}

async fn run(args: ServerArgs) -> Result<()> {
    let started = Instant::now();
    let layout = Layout::new(&args.data_dir);
    std::fs::create_dir_all(&layout.data_dir)
        .with_context(|| format!("failed to make the data directory {}", layout.data_dir.display()))?;
    let host = Host::find(&args, &layout)?;
    info!(version = version::VERSION, kubernetes = version::KUBERNETES, node = host.node_name, ip = %host.node_ip,
        data = %layout.data_dir.display(), "starting");

    let shutdown = Shutdown::new();
    let supervisor = Supervisor::new(shutdown.clone());
    let stop = signals()?;

    let listen = SocketAddr::new(args.bind_address, args.https_listen_port);
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("failed to listen on {listen}; choose another port with --https-listen-port"))?;
    if !args.disable_agent {
        // Told before anything is made; the kubelet itself listens later.
        let kubelet = SocketAddr::new(args.bind_address, args.kubelet_port);
        tokio::net::TcpListener::bind(kubelet)
            .await
            .with_context(|| format!("failed to listen on {kubelet}; choose another port with --kubelet-port"))?;
    }
    let control_plane = ControlPlane::start(&args, &layout, &host, listener, shutdown.clone(), &supervisor).await?;
    std::fs::create_dir_all(&layout.state_dir)
        .with_context(|| format!("failed to make the state directory {}", layout.state_dir.display()))?;
    let _pid_file = PidFile::write(&layout.pid_file())?;
    info!(after_ms = started.elapsed().as_millis() as u64, "API server is ready");

    let node = match args.disable_agent {
        true => None,
        false => Some(node::start(&args, &layout, &host, &control_plane, shutdown.clone(), &supervisor).await?),
    };
    let kubeconfig = args.write_kubeconfig.clone().unwrap_or_else(|| layout.kubeconfig.clone());
    let ready = control_plane.clone();
    let name = host.node_name.clone();
    let waiting = shutdown.clone();
    let has_node = node.is_some();
    tokio::spawn(async move {
        if has_node {
            tokio::select! {
                _ = waiting.cancelled() => return,
                _ = ready.wait_node_ready(&name) => {}
            }
            info!(node = name, after_ms = started.elapsed().as_millis() as u64, "node is Ready");
        }
        info!(kubeconfig = %kubeconfig.display(), "try: kubectl --kubeconfig {} get nodes", kubeconfig.display());
    });

    let cut = tokio::select! {
        () = stop => false,
        () = control_plane.cut() => true,
    };
    info!("stopping; containers keep running");
    control_plane.announce_stop();
    if !args.shutdown_delay_duration.is_zero() {
        info!(delay = ?args.shutdown_delay_duration, "not ready any more; still serving");
        tokio::time::sleep(args.shutdown_delay_duration).await;
    }
    shutdown.cancel();
    if let Some(n) = node {
        n.stopped().await;
    }
    control_plane.stopped().await;
    info!("stopped");
    if cut {
        bail!("the API server ended by itself; its log says why");
    }
    Ok(())
}

fn signals() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_one_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node-name");
        assert_eq!(node_name_of(&file, "a".into(), false).unwrap(), "a");
        assert_eq!(node_name_of(&file, "a".into(), true).unwrap(), "a");
        assert_eq!(node_name_of(&file, "b".into(), false).unwrap(), "a", "the host was renamed");
        let error = node_name_of(&file, "b".into(), true).unwrap_err().to_string();
        assert!(error.contains("belongs to node \"a\", not \"b\"") && error.contains("node-name"), "{error}");
    }
}
