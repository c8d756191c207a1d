//! Prints how long the kernel takes for 10,000 Services, and for a change of one of them.
//!
//! `cargo run --release -p proxy --example sync_time [SERVICES] [ENDPOINTS]`; as root; works in a network namespace of its own.

use proxy::plan::{Action, Backend, Balance, Frontend, Listen, Node, Reach};
use proxy::ruleset::Ruleset;
use std::time::{Duration, Instant};
use sys::netlink::Socket;

fn frontend(i: u32, endpoints: u32) -> Frontend {
    let backends: Vec<Backend> = (0..endpoints)
        .map(|e| Backend { address: (0x0a2a_0000 + (i * 7 + e) % 60_000 + 2).into(), port: 8080 })
        .collect();
    Frontend {
        listen: Listen { address: Some((0x0a2b_0000 + i + 1).into()), protocol: 6, port: 80 },
        action: Action::Balance(Balance {
            here: backends.iter().take(1).map(|b| b.address).collect(),
            backends,
            reach: Reach::Cluster,
            affinity: None,
        }),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u32>());
    let services = args.next().transpose()?.unwrap_or(10_000);
    let endpoints = args.next().transpose()?.unwrap_or(3);
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    let mut socket = Socket::netfilter()?;
    let node = Node { name: "node".into(), cluster_cidrs: vec!["10.42.0.0/16".parse()?] };
    let mut rules = Ruleset::new("bench", node, vec!["10.43.0.0/16".parse()?], 0x4000);

    let started = Instant::now();
    for i in 0..services {
        rules.update(&format!("default/s{i}"), vec![frontend(i, endpoints)]);
    }
    let batch = rules.replace_table();
    let (encoded, bytes) = (started.elapsed(), batch.len());
    let started = Instant::now();
    batch.commit(&mut socket)?;
    println!(
        "{services} services with {endpoints} endpoints: encoded in {encoded:.1?} ({bytes} bytes), kernel took {:.1?}",
        started.elapsed()
    );

    let mut times: Vec<Duration> = Vec::new();
    for round in 0..200 {
        let i = round * 37 % services;
        let started = Instant::now();
        rules.update(&format!("default/s{i}"), vec![frontend(i, endpoints + 1 + round % 2)]);
        rules.take_changes().commit(&mut socket)?;
        times.push(started.elapsed());
    }
    times.sort();
    println!("change of one service: p50 {:.2?}, p99 {:.2?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    let started = Instant::now();
    rules.replace_table().commit(&mut socket)?;
    println!("replacing the whole table: {:.1?}", started.elapsed());
    Ok(())
}
