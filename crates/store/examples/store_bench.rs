//! How fast the embedded engine is here. `cargo run --release -p store --example store_bench [-- DIR]`
//!
//! Prints one figure a line: durable creates with 1 and 32 writers, against the disk's own limit of syncs; reads;
//! a listing of 10,000; the delay of a change on its way to 1,000 watchers.

use bytes::Bytes;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Cas, ListOptions, Store, embedded};

const FOR: Duration = Duration::from_secs(3);

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let keep;
    let dir = match std::env::args().nth(1) {
        Some(dir) => std::path::PathBuf::from(dir),
        None => {
            keep = tempfile::tempdir().expect("temporary directory");
            keep.path().to_owned()
        }
    };
    let syncs = raw_syncs(&dir);
    println!("raw write+fdatasync of 1 KiB      {syncs:>10.0} /s");

    let store = embedded::open(embedded::Options::new(dir.join("store"))).expect("open");
    let value = Bytes::from(vec![b'x'; 1024]);
    for writers in [1, 32] {
        let rate = creates(&store, &value, writers).await;
        println!("durable creates, {writers:>2} writers       {rate:>10.0} /s  ({:.2} of raw syncs)", rate / syncs);
    }

    let put = |i: usize| {
        let (store, value) = (store.clone(), value.clone());
        async move { store.create(&format!("/registry/configmaps/default/{i:06}"), value, None).await }
    };
    futures::future::join_all((0..10_000).map(put)).await;

    let started = Instant::now();
    let mut reads = 0;
    while started.elapsed() < Duration::from_secs(1) {
        for i in 0..1000 {
            assert!(store.get(&format!("/registry/configmaps/default/{:06}", i * 7 % 10_000)).is_some());
        }
        reads += 1000;
    }
    println!("gets, 1 thread                    {:>10.0} /s", reads as f64 / started.elapsed().as_secs_f64());

    let started = Instant::now();
    let n = 100;
    for _ in 0..n {
        let page = store.list("/registry/configmaps/", &ListOptions::default()).expect("list");
        assert_eq!(page.entries.len(), 10_000);
    }
    println!("list of 10,000                    {:>10.0} µs", started.elapsed().as_micros() as f64 / n as f64);

    fan_out(&store, &value).await;

    let before = store.disk_bytes();
    store.shutdown().await;
    let started = Instant::now();
    let again = embedded::open(embedded::Options::new(dir.join("store"))).expect("open again");
    let keys = again.count("/registry/");
    println!("open again, {keys} keys, {} MB    {:>10.0} ms", before >> 20, started.elapsed().as_millis() as f64);
}

/// What the disk can do with one write and one sync after the other.
fn raw_syncs(dir: &std::path::Path) -> f64 {
    std::fs::create_dir_all(dir).expect("create directory");
    let path = dir.join("raw");
    let mut file = std::fs::File::create(&path).expect("create file");
    let started = Instant::now();
    let mut n = 0;
    while started.elapsed() < Duration::from_secs(1) {
        file.write_all(&[b'x'; 1024]).and_then(|()| file.sync_data()).expect("write");
        n += 1;
    }
    let _ = std::fs::remove_file(path);
    n as f64 / started.elapsed().as_secs_f64()
}

async fn creates(store: &Arc<dyn Store>, value: &Bytes, writers: usize) -> f64 {
    let started = Instant::now();
    let writer = |w: usize| {
        let (store, value) = (store.clone(), value.clone());
        tokio::spawn(async move {
            let mut n = 0u64;
            while started.elapsed() < FOR {
                let key = format!("/registry/secrets/{writers}/{w}-{n:08}");
                let cas = store.create(&key, value.clone(), None).await.expect("create");
                assert!(matches!(cas, Cas::Done { .. }));
                n += 1;
            }
            n
        })
    };
    let counts = futures::future::join_all((0..writers).map(writer)).await;
    let sum: u64 = counts.into_iter().map(|n| n.expect("writer")).sum();
    sum as f64 / started.elapsed().as_secs_f64()
}

/// 1,000 watchers of one resource, 1,000 changes a second for three seconds: from before the write to the event in
/// the watcher's hands.
async fn fan_out(store: &Arc<dyn Store>, value: &Bytes) {
    const EVENTS: usize = 3000;
    let start = Instant::now();
    let watchers: Vec<_> = (0..1000)
        .map(|_| {
            let mut watcher = store.watch("/registry/pods/", store.revision()).expect("watch");
            tokio::spawn(async move {
                let mut delays = Vec::with_capacity(EVENTS);
                while delays.len() < EVENTS {
                    for event in watcher.next(1000).await.expect("next") {
                        let store::Change::Put { entry, .. } = event.change else {
                            continue;
                        };
                        let at = u64::from_le_bytes(entry.value[..8].try_into().expect("time"));
                        delays.push(start.elapsed().as_micros() as u64 - at);
                    }
                }
                delays
            })
        })
        .collect();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    for i in 0..EVENTS {
        ticks.tick().await;
        let mut value = value.to_vec();
        value[..8].copy_from_slice(&(start.elapsed().as_micros() as u64).to_le_bytes());
        let store = store.clone();
        tokio::spawn(async move { store.create(&format!("/registry/pods/default/{i:06}"), value.into(), None).await });
    }
    let mut delays: Vec<u64> = Vec::new();
    for watcher in watchers {
        delays.extend(watcher.await.expect("watcher"));
    }
    delays.sort_unstable();
    let at = |p: usize| delays[delays.len() * p / 100] as f64 / 1000.0;
    let rate = delays.len() as f64 / start.elapsed().as_secs_f64();
    println!("1,000 watchers, 1,000 changes/s   {:>10.2} ms p50, {:.2} ms p99, {rate:.0} deliveries/s", at(50), at(99));
}
