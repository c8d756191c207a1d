//! How long a pod's sandbox and first container take: `cargo run --release --example pod_latency [count]` as root.
//! Prints milliseconds, and the memory of a shim.

#[path = "../tests/common/mod.rs"]
mod common;

use cri::RuntimeService;
use std::time::Instant;

fn percentile(sorted: &[f64], p: usize) -> f64 {
    sorted.get((sorted.len() * p / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[tokio::main]
async fn main() {
    let count: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(50);
    let Some(bed) = common::bed().await else {
        return;
    };
    let mut times: [Vec<f64>; 4] = Default::default();
    let mut pods = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        let sandbox = bed.sandbox().await;
        let made = begin.elapsed();
        let id = bed.rt().create_container(&sandbox, &bed.shell("exec sleep 1000")).await.unwrap();
        let created = begin.elapsed();
        bed.rt().start_container(&id).await.unwrap();
        let running = begin.elapsed();
        for (list, time) in times.iter_mut().zip([made, created - made, running - created, running]) {
            list.push(time.as_secs_f64() * 1e3);
        }
        pods.push(sandbox);
    }
    for (name, mut list) in ["sandbox", "create", "start", "create to running"].into_iter().zip(times) {
        list.sort_by(f64::total_cmp);
        println!("{name:18} p50 {:6.2} ms   p99 {:6.2} ms", percentile(&list, 50), percentile(&list, 99));
    }
    let shims = common::shims(bed.dir.path());
    let field = |name: &str| -> u64 {
        let of = |pid: &i32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            text.lines()
                .filter(|l| l.starts_with(name))
                .filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
                .sum::<u64>()
        };
        shims.iter().map(of).sum::<u64>() / shims.len().max(1) as u64
    };
    println!("shim               PSS {} KiB, private dirty {} KiB", field("Pss:"), field("Private_Dirty:"));
    let begin = Instant::now();
    for sandbox in pods {
        bed.rt().remove_pod_sandbox(&sandbox).await.unwrap();
    }
    println!("remove             mean {:.2} ms", begin.elapsed().as_secs_f64() * 1e3 / count as f64);
    bed.finish().await;
}
