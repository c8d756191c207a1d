//! Services with real packets, in network namespaces: pods `a` and `b`, the node, and a world outside.

#[path = "../../podnet/tests/support/mod.rs"]
mod support;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use podnet::Bridge;
use proxy::plan::{Node, plan};
use proxy::ruleset::Ruleset;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use support::*;
use sys::netlink::{Socket, conntrack};

const TABLE: &str = "skiff-services";

struct Proxy {
    rules: Ruleset,
    node: Node,
}

impl Proxy {
    fn new() -> Proxy {
        let node = Node { name: "me".into(), cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()] };
        let mut rules = Ruleset::new(TABLE, node.clone(), vec!["10.43.0.0/16".parse().unwrap()], 0x4000);
        rules.replace_table().commit(&mut Socket::netfilter().unwrap()).unwrap();
        Proxy { rules, node }
    }

    /// `spec` with a port 80 → 8080 (TCP) and 53 → 5353 (UDP); `endpoints` as `(address, node)`.
    fn apply(&mut self, name: &str, mut spec: Value, endpoints: &[(&str, &str)]) {
        spec["ports"] = json!([{"name": "http", "port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]);
        let service: Service = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        let endpoints: Vec<Value> =
            endpoints.iter().map(|(ip, node)| json!({"addresses": [ip], "nodeName": node})).collect();
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}]
        }))
        .unwrap();
        self.rules.update(name, plan(&service, &[&slice], &self.node));
        self.commit();
    }

    fn commit(&mut self) {
        let mut socket = Socket::netfilter().unwrap();
        self.rules.take_changes().commit(&mut socket).unwrap();
        let stale = self.rules.take_stale_udp();
        for flow in conntrack::flows(&mut socket, false).unwrap() {
            if stale.iter().any(|s| s.matches(&flow)) {
                conntrack::forget(&mut socket, &flow).unwrap();
            }
        }
    }
}

struct Lab {
    _dir: tempfile::TempDir,
    world: Namespace,
    a: Pod,
    b: Pod,
    client: Pod,
    proxy: Proxy,
}

fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let world = world();
    let bridge = Bridge::new(options(dir.path())).unwrap();
    let (a, b, client) = (pod(&bridge, "a"), pod(&bridge, "b"), pod(&bridge, "client"));
    for pod in [&a, &b] {
        serve_tcp(&pod.netns, &pod.name, 8080);
        serve_udp(&pod.netns, &pod.name, 5353);
    }
    Lab { _dir: dir, world, a, b, client, proxy: Proxy::new() }
}

impl Lab {
    fn both(&self) -> [(String, &'static str); 2] {
        [(self.a.ip.to_string(), "me"), (self.b.ip.to_string(), "me")]
    }
}

fn refs<'a>(endpoints: &'a [(String, &'static str)]) -> Vec<(&'a str, &'a str)> {
    endpoints.iter().map(|(ip, node)| (ip.as_str(), *node)).collect()
}

/// The distinct answers of `n` connections.
fn answers(n: usize, to: &str) -> BTreeSet<String> {
    (0..n).map(|_| ask_tcp(to).unwrap_or_else(|e| format!("{:?}", e.kind()))).collect()
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|s| s.to_string()).collect()
}

#[test]
fn cluster_ip_spreads_hairpins_and_masquerades_only_outsiders() {
    node(|| {
        let mut lab = lab();
        let both = lab.both();
        lab.proxy.apply("web", json!({"clusterIP": "10.43.0.1"}), &refs(&both));
        // A pod keeps its address.
        assert_eq!(lab.client.netns.run(|| answers(40, "10.43.0.1:80")), set(&["a 10.42.0.4", "b 10.42.0.4"]));
        // The node, with no default route at all, comes from the bridge.
        assert_eq!(answers(40, "10.43.0.1:80"), set(&["a 10.42.0.1", "b 10.42.0.1"]));
        // A backend that is its own client sees the gateway.
        assert_eq!(lab.a.netns.run(|| answers(40, "10.43.0.1:80")), set(&["a 10.42.0.1", "b 10.42.0.2"]));
        // An outsider with a route to the service range is masqueraded.
        assert_eq!(lab.world.run(|| answers(40, "10.43.0.1:80")), set(&["a 10.42.0.1", "b 10.42.0.1"]));
        let udp: BTreeSet<String> = (0..40)
            .map(|_| lab.client.netns.run(|| ask_udp(&UdpSocket::bind("0.0.0.0:0").unwrap(), "10.43.0.1:53").unwrap()))
            .collect();
        assert_eq!(udp, set(&["a 10.42.0.4", "b 10.42.0.4"]));
        // Direct connections are left alone.
        assert_eq!(lab.client.netns.run(|| ask_tcp("10.42.0.2:8080")).unwrap(), "a 10.42.0.4");
        if let Some(text) = nft_list(TABLE) {
            assert!(text.contains("10.43.0.1 . tcp . 80 : goto cluster-2"), "{text}");
            assert!(text.contains("10.43.0.1 . udp . 53 . 0x00000001 : 10.42.0.3 . 5353"), "{text}");
            assert!(text.contains("numgen random mod 2"), "{text}");
        }
    });
}

#[test]
fn nobody_there_is_told_at_once() {
    node(|| {
        let mut lab = lab();
        lab.proxy.apply("web", json!({"type": "NodePort", "clusterIP": "10.43.0.1"}), &[]);
        for netns in [&lab.client.netns, &lab.world] {
            for to in ["10.43.0.1:80", "10.43.0.1:81", "10.43.0.99:80", "192.168.77.1:30080"] {
                let started = Instant::now();
                let error = netns.run(|| ask_tcp(to)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
                assert!(started.elapsed() < Duration::from_millis(900), "{to}");
            }
        }
        for to in ["10.43.0.1:80", "10.43.0.99:80", "127.0.0.1:30080"] {
            assert_eq!(ask_tcp(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
        }
        let refused = lab.client.netns.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect("10.43.0.1:53").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send(b"?").unwrap();
            socket.recv(&mut [0; 16]).unwrap_err().kind()
        });
        assert_eq!(refused, ErrorKind::ConnectionRefused);
        // Endpoints appear, and vanish.
        let both = lab.both();
        lab.proxy.apply("web", json!({"type": "NodePort", "clusterIP": "10.43.0.1"}), &refs(&both));
        assert_eq!(lab.client.netns.run(|| answers(40, "10.43.0.1:80")).len(), 2);
        lab.proxy.apply("web", json!({"type": "NodePort", "clusterIP": "10.43.0.1"}), &refs(&both[1..]));
        assert_eq!(lab.client.netns.run(|| answers(20, "10.43.0.1:80")), set(&["b 10.42.0.4"]));
        lab.proxy.rules.update("web", vec![]);
        lab.proxy.commit();
        assert_eq!(lab.client.netns.run(|| answers(3, "10.43.0.1:80")), set(&["ConnectionRefused"]));
    });
}

#[test]
fn node_ports_on_every_local_address_and_external_ips() {
    node(|| {
        let mut lab = lab();
        let both = lab.both();
        lab.proxy.apply(
            "web",
            json!({"type": "NodePort", "clusterIP": "10.43.0.1", "externalIPs": ["203.0.113.7"]}),
            &refs(&both),
        );
        let from_node = set(&["a 10.42.0.1", "b 10.42.0.1"]);
        for to in ["127.0.0.1:30080", "192.168.77.1:30080", "10.42.0.1:30080"] {
            assert_eq!(answers(40, to), from_node, "{to}");
        }
        assert_eq!(lab.world.run(|| answers(40, "192.168.77.1:30080")), from_node);
        assert_eq!(lab.world.run(|| answers(40, "203.0.113.7:80")), from_node);
        assert_eq!(lab.client.netns.run(|| answers(40, "192.168.77.1:30080")), from_node);
        assert_eq!(
            lab.world.run(|| ask_udp(&UdpSocket::bind("0.0.0.0:0").unwrap(), "192.168.77.1:30053").unwrap().len()),
            11
        );
        // A pod's own port of that number is no node port.
        assert_eq!(
            lab.client.netns.run(|| ask_tcp("127.0.0.1:30080")).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    });
}

#[test]
fn local_policy_keeps_the_clients_address() {
    node(|| {
        let mut lab = lab();
        let spec = || json!({"type": "NodePort", "clusterIP": "10.43.0.1", "externalTrafficPolicy": "Local"});
        let mixed = [(lab.a.ip.to_string(), "me"), (lab.b.ip.to_string(), "elsewhere")];
        lab.proxy.apply("web", spec(), &refs(&mixed));
        assert_eq!(lab.world.run(|| answers(30, "192.168.77.1:30080")), set(&["a 192.168.77.2"]));
        // Pods and the node may go everywhere.
        assert_eq!(lab.client.netns.run(|| answers(40, "192.168.77.1:30080")), set(&["a 10.42.0.4", "b 10.42.0.4"]));
        assert_eq!(answers(40, "127.0.0.1:30080"), set(&["a 10.42.0.1", "b 10.42.0.1"]));
        lab.proxy.apply("web", spec(), &refs(&mixed[1..]));
        assert_eq!(lab.world.run(|| ask_tcp("192.168.77.1:30080")).unwrap_err().kind(), ErrorKind::TimedOut);
        lab.proxy.apply("web", json!({"clusterIP": "10.43.0.1", "internalTrafficPolicy": "Local"}), &refs(&mixed));
        assert_eq!(lab.client.netns.run(|| answers(30, "10.43.0.1:80")), set(&["a 10.42.0.4"]));
    });
}

#[test]
fn affinity_sticks_moves_off_dead_backends_and_expires() {
    node(|| {
        let mut lab = lab();
        let both = lab.both();
        let spec = |seconds: u32| json!({"type": "NodePort", "clusterIP": "10.43.0.1", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}});
        lab.proxy.apply("web", spec(600), &refs(&both));
        let first = lab.client.netns.run(|| answers(30, "10.43.0.1:80"));
        assert_eq!(first.len(), 1, "{first:?}");
        assert_eq!(lab.world.run(|| answers(30, "192.168.77.1:30080")).len(), 1);
        // Its backend goes: everything moves to the other one, and stays there when the first is back.
        let (gone, kept) = if first.contains("a 10.42.0.4") { (0, 1) } else { (1, 0) };
        lab.proxy.apply("web", spec(600), &refs(&both[kept..=kept]));
        let moved = lab.client.netns.run(|| answers(10, "10.43.0.1:80"));
        assert_eq!(moved, set(&[["a 10.42.0.4", "b 10.42.0.4"][kept]]));
        lab.proxy.apply("web", spec(600), &refs(&both));
        assert_eq!(lab.client.netns.run(|| answers(30, "10.43.0.1:80")), moved, "not back to {gone}");
        // Off: spread. On with another timeout: an entry lives as long as that.
        lab.proxy.apply("web", json!({"clusterIP": "10.43.0.1"}), &refs(&both));
        assert_eq!(lab.client.netns.run(|| answers(40, "10.43.0.1:80")).len(), 2);
        lab.proxy.apply("web", spec(1), &refs(&both));
        assert_eq!(lab.a.netns.run(|| answers(10, "10.43.0.1:80")).len(), 1);
        let remembered = |client: std::net::IpAddr| {
            let std::net::IpAddr::V4(client) = client else {
                return false;
            };
            let elements =
                sys::nft::elements(&mut Socket::netfilter().unwrap(), sys::nft::Family::Ip, TABLE, "affinity").unwrap();
            elements.iter().any(|(key, _)| key.starts_with(&client.octets()))
        };
        assert!(remembered(lab.a.ip));
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!remembered(lab.a.ip));
        assert!(remembered(lab.client.ip));
    });
}

#[test]
fn udp_clients_leave_dead_backends_and_live_connections_survive_a_restart() {
    node(|| {
        let mut lab = lab();
        let both = lab.both();
        lab.proxy.apply("web", json!({"clusterIP": "10.43.0.1"}), &refs(&both));
        let socket = lab.client.netns.run(|| UdpSocket::bind("0.0.0.0:5555").unwrap());
        let first = ask_udp(&socket, "10.43.0.1:53").unwrap();
        for _ in 0..5 {
            assert_eq!(ask_udp(&socket, "10.43.0.1:53").unwrap(), first);
        }
        // A restarted proxy replaces the table in one transaction; the flow stays where it was.
        let mut restarted = Proxy::new();
        restarted.apply("web", json!({"clusterIP": "10.43.0.1"}), &refs(&both));
        assert_eq!(ask_udp(&socket, "10.43.0.1:53").unwrap(), first);
        let kept = if first.starts_with('a') { 1 } else { 0 };
        restarted.apply("web", json!({"clusterIP": "10.43.0.1"}), &refs(&both[kept..=kept]));
        assert_ne!(ask_udp(&socket, "10.43.0.1:53").unwrap(), first);
        // The table was deleted behind our back: a change fails as a whole, and the whole table mends it.
        proxy::reset(TABLE).unwrap();
        restarted.rules.update("web", vec![]);
        assert!(restarted.rules.take_changes().commit(&mut Socket::netfilter().unwrap()).is_err());
        restarted.rules.replace_table().commit(&mut Socket::netfilter().unwrap()).unwrap();
        assert_eq!(lab.client.netns.run(|| ask_tcp("10.43.0.1:80")).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn programs_of_the_node_serve_as_backends() {
    node(|| {
        // As kube-dns (the bridge's address) and default/kubernetes (the node's own) do.
        let mut lab = lab();
        serve_udp_here("10.42.0.1:5353", "dns");
        let listener = std::net::TcpListener::bind("0.0.0.0:8080").unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let peer = stream.peer_addr().unwrap().ip();
                let _ = std::io::Write::write_all(&mut stream, format!("api {peer}").as_bytes());
            }
        });
        for (name, cluster_ip, backend) in
            [("dns", "10.43.0.10", "10.42.0.1"), ("kubernetes", "10.43.0.2", "192.168.77.1")]
        {
            lab.proxy.apply(name, json!({"clusterIP": cluster_ip}), &[(backend, "me")]);
        }
        assert_eq!(
            lab.client.netns.run(|| ask_udp(&UdpSocket::bind("0.0.0.0:0").unwrap(), "10.43.0.10:53")).unwrap(),
            "dns 10.42.0.4"
        );
        // From an address of the node to itself: which of its addresses is seen does not matter.
        assert!(ask_udp(&UdpSocket::bind("0.0.0.0:0").unwrap(), "10.43.0.10:53").unwrap().starts_with("dns "));
        assert_eq!(lab.client.netns.run(|| ask_tcp("10.43.0.2:80")).unwrap(), "api 10.42.0.4");
        assert!(ask_tcp("10.43.0.2:80").unwrap().starts_with("api "));
    });
}

fn serve_udp_here(address: &str, name: &str) {
    let socket = UdpSocket::bind(address).unwrap();
    let name = name.to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
        }
    });
}
