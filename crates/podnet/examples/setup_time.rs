//! Prints how long it takes to give a pod its network and to take it away.
//!
//! `cargo run --release -p podnet --example setup_time [PODS]`; as root; works in a network namespace of its own.

use cri::{PodNetwork, PodNetworkRequest};
use nix::sched::{CloneFlags, unshare};
use podnet::{Bridge, BridgeOptions};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pods: usize = std::env::args().nth(1).map(|a| a.parse()).transpose()?.unwrap_or(100);
    unshare(CloneFlags::CLONE_NEWNET)?;
    let dir = tempfile::tempdir()?;
    let started = Instant::now();
    let bridge = Bridge::new(BridgeOptions {
        bridge: "skiff0".into(),
        pod_cidrs: vec!["10.42.0.0/16".parse()?],
        cluster_cidrs: vec!["10.42.0.0/16".parse()?],
        service_cidrs: vec!["10.43.0.0/16".parse()?],
        mtu: None,
        state_dir: dir.path().into(),
        table: "bench-pods".into(),
    })?;
    println!("bridge: {:.2?}", started.elapsed());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut setups, mut teardowns, mut namespaces) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..pods {
        let netns = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(std::io::Error::from)
                .and_then(|()| File::open("/proc/thread-self/ns/net"))
        })
        .join();
        let Ok(netns) = netns else {
            return Err("thread".into());
        };
        let netns = netns?;
        let path = format!("/proc/self/fd/{}", netns.as_raw_fd());
        let request = PodNetworkRequest { sandbox_id: format!("pod-{i}"), ..Default::default() };
        let started = Instant::now();
        runtime.block_on(bridge.setup(&request, path.as_ref()))?;
        setups.push(started.elapsed());
        namespaces.push(netns);
    }
    for i in 0..pods {
        let started = Instant::now();
        runtime.block_on(bridge.teardown(&format!("pod-{i}"), "/".as_ref()))?;
        teardowns.push(started.elapsed());
    }
    for (what, times) in [("setup", &mut setups), ("teardown", &mut teardowns)] {
        times.sort();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(Duration::ZERO);
        println!("{what} of {pods} pods, one after another: p50 {:.2?}, p99 {:.2?}", at(50), at(99));
    }
    Ok(())
}
