//! The driver against a fake API whose watches bring what the test sends: the kernel's table follows.

#[path = "../../podnet/tests/support/mod.rs"]
mod support;

use client::Informers;
use proxy::Options;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stdx::Shutdown;
use support::*;
use sys::netlink::Socket;
use sys::nft::{self, Family};
use tokio::sync::{Mutex, mpsc};

type Events = Arc<Mutex<mpsc::UnboundedReceiver<Value>>>;

/// Lists `services` and `slices`; each watch answers with the next event and ends, so that the next one is asked for.
fn fake_api(services: Value, slices: Value, events: Events) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let is_slices = request.uri().path().ends_with("/endpointslices");
        let items = match request.uri().path() {
            p if p.ends_with("/services") => services.clone(),
            _ if is_slices => slices.clone(),
            _ => json!([]),
        };
        let watch = request.uri().query().unwrap_or_default().contains("watch=true");
        let events = events.clone();
        async move {
            let text = match watch {
                false => {
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
                        .to_string()
                }
                true if !is_slices => std::future::pending().await,
                true => match events.lock().await.recv().await {
                    Some(event) => format!("{event}\n"),
                    None => std::future::pending().await,
                },
            };
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::from(text.into_bytes())))
        }
    });
    kube::Client::new(service, "default")
}

fn slice(version: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|a| json!({"addresses": [a], "nodeName": "me"})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080}],
        "metadata": {"name": "web-1", "namespace": "default", "resourceVersion": version, "labels": {"kubernetes.io/service-name": "web"}}
    })
}

/// Waits until the map has that many elements.
async fn expect(table: &str, map: &str, count: usize) {
    let started = Instant::now();
    loop {
        let mut socket = Socket::netfilter().unwrap();
        let got = nft::elements(&mut socket, Family::Ip, table, map).map(|e| e.len());
        if got.as_ref().is_ok_and(|n| *n == count) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{map}: expected {count}, got {got:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn the_table_follows_the_cluster_and_heals() {
    node(|| {
        block_on(async {
            let table = "skiff-driver";
            let services = json!([{"metadata": {"name": "web", "namespace": "default", "resourceVersion": "1"}, "spec": {"clusterIP": "10.43.0.5", "ports": [{"port": 80}]}}]);
            let (send, receive) = mpsc::unbounded_channel();
            let shutdown = Shutdown::new();
            let informers = Informers::new(
                fake_api(services, json!([slice("1", &["10.42.0.2"])]), Arc::new(Mutex::new(receive))),
                shutdown.clone(),
            );
            let options = Options {
                node_name: "me".into(),
                cluster_cidrs: vec![],
                service_cidrs: vec![],
                table: table.into(),
                masquerade_mark: 0x4000,
            };
            let stop = shutdown.clone();
            let driver = tokio::spawn(async move { proxy::run(&informers, options, stop).await });
            expect(table, "endpoints", 1).await;
            expect(table, "services", 1).await;
            send.send(json!({"type": "MODIFIED", "object": slice("2", &["10.42.0.2", "10.42.0.3"])})).unwrap();
            expect(table, "endpoints", 2).await;
            // Somebody deletes our table: the next change writes all of it again.
            proxy::reset(table).unwrap();
            send.send(json!({"type": "MODIFIED", "object": slice("3", &["10.42.0.2", "10.42.0.3", "10.42.0.4"])}))
                .unwrap();
            expect(table, "endpoints", 3).await;
            expect(table, "services", 1).await;
            send.send(json!({"type": "DELETED", "object": slice("4", &[])})).unwrap();
            expect(table, "endpoints", 0).await;
            expect(table, "services", 1).await;
            shutdown.cancel();
            driver.await.unwrap().unwrap();
            assert!(
                nft::table_exists(&mut Socket::netfilter().unwrap(), Family::Ip, table).unwrap(),
                "Services work on while the agent is away"
            );
            proxy::reset(table).unwrap();
            assert!(!nft::table_exists(&mut Socket::netfilter().unwrap(), Family::Ip, table).unwrap());
        });
    });
}
