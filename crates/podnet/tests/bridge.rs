//! The bridge with real namespaces and real packets.

mod support;

use cri::{PodNetwork, PortMapping, Protocol};
use podnet::Bridge;
use std::net::UdpSocket;
use support::*;
use sys::netlink::Route;

fn port(protocol: Protocol, host_port: u16, container_port: u16, host_ip: &str) -> PortMapping {
    PortMapping { protocol, container_port, host_port, host_ip: host_ip.into() }
}

#[test]
fn pods_reach_each_other_the_node_and_the_world() {
    node(|| {
        let dir = tempfile::tempdir().unwrap();
        let world = world();
        let bridge = Bridge::new(options(dir.path())).unwrap();
        let (a, b) = (pod(&bridge, "a"), pod(&bridge, "b"));
        serve_tcp(&b.netns, "b", 80);
        serve_tcp(&world, "world", 80);
        serve_udp(&b.netns, "b", 53);
        // Pod to pod keeps the source address.
        assert_eq!(a.netns.run(|| ask_tcp(&format!("{}:80", b.ip))).unwrap(), format!("b {}", a.ip));
        assert_eq!(
            a.netns.run(|| ask_udp(&UdpSocket::bind("0.0.0.0:0").unwrap(), &format!("{}:53", b.ip))).unwrap(),
            format!("b {}", a.ip)
        );
        // Node to pod comes from the bridge.
        assert_eq!(ask_tcp(&format!("{}:80", b.ip)).unwrap(), "b 10.42.0.1");
        // The world sees the node, not the pod.
        assert_eq!(a.netns.run(|| ask_tcp("192.168.77.2:80")).unwrap(), "world 192.168.77.1");
        // A pod's own loopback.
        serve_tcp(&a.netns, "self", 8080);
        assert_eq!(a.netns.run(|| ask_tcp("127.0.0.1:8080")).unwrap(), "self 127.0.0.1");
        block_on(bridge.ready()).unwrap();
    });
}

#[test]
fn host_ports_lead_to_their_pods_by_protocol_and_address() {
    node(|| {
        let dir = tempfile::tempdir().unwrap();
        let world = world();
        let bridge = Bridge::new(options(dir.path())).unwrap();
        let any = pod_with_ports(&bridge, "any", vec![port(Protocol::Tcp, 8080, 80, "")]);
        let uplink = pod_with_ports(&bridge, "uplink", vec![port(Protocol::Tcp, 8081, 80, "192.168.77.1")]);
        let local = pod_with_ports(&bridge, "local", vec![port(Protocol::Tcp, 8081, 80, "127.0.0.1")]);
        let udp = pod_with_ports(&bridge, "udp", vec![port(Protocol::Udp, 8081, 80, "192.168.77.1")]);
        for pod in [&any, &uplink, &local] {
            serve_tcp(&pod.netns, &pod.name, 80);
        }
        serve_udp(&udp.netns, "udp", 80);
        assert_eq!(world.run(|| ask_tcp("192.168.77.1:8080")).unwrap(), "any 192.168.77.2");
        assert_eq!(world.run(|| ask_tcp("192.168.77.1:8081")).unwrap(), "uplink 192.168.77.2");
        assert_eq!(
            world.run(|| ask_udp(&UdpSocket::bind("0.0.0.0:0").unwrap(), "192.168.77.1:8081")).unwrap(),
            "udp 192.168.77.2"
        );
        assert_eq!(ask_tcp("127.0.0.1:8081").unwrap(), "local 10.42.0.1");
        assert!(ask_tcp("127.0.0.1:8080").unwrap().starts_with("any "));
        assert!(ask_tcp("192.168.77.1:8080").unwrap().starts_with("any "));
        // From a pod, and from the pod to itself.
        assert_eq!(udp.netns.run(|| ask_tcp("192.168.77.1:8080")).unwrap(), format!("any {}", udp.ip));
        assert_eq!(any.netns.run(|| ask_tcp("192.168.77.1:8080")).unwrap(), "any 10.42.0.1");
        // The same port again is refused, and leaves nothing.
        let rival = Namespace::new();
        let error = block_on(bridge.setup(&request("rival", vec![port(Protocol::Tcp, 8080, 80, "")]), &rival.path()))
            .unwrap_err();
        assert!(error.to_string().contains("8080/TCP is in use"), "{error}");
        // A restarted agent has the ports again; a torn down pod's port is closed.
        let bridge = Bridge::new(options(dir.path())).unwrap();
        assert_eq!(world.run(|| ask_tcp("192.168.77.1:8081")).unwrap(), "uplink 192.168.77.2");
        block_on(bridge.teardown("uplink", &uplink.netns.path())).unwrap();
        assert!(world.run(|| ask_tcp("192.168.77.1:8081")).is_err());
        if let Some(text) = nft_list("skiff-pods") {
            assert!(text.contains("tcp . 8080 : "), "{text}");
            assert!(!text.contains("192.168.77.1 . tcp . 8081"), "{text}");
        }
    });
}

#[test]
fn loopback_programs_of_the_node_stay_out_of_reach() {
    node(|| {
        let dir = tempfile::tempdir().unwrap();
        let bridge = Bridge::new(options(dir.path())).unwrap();
        let a = pod(&bridge, "a");
        let listener = std::net::TcpListener::bind("127.0.0.1:9999").unwrap();
        a.netns.run(|| {
            let mut route = Route::open().unwrap();
            let eth0 = route.link("eth0").unwrap().unwrap().index;
            // A hostile pod sends loopback addresses out of eth0.
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            let lo = sys::netlink::route::RouteSpec {
                destination: "127.0.0.0".parse().unwrap(),
                prefix_len: 8,
                gateway: Some("10.42.0.1".parse().unwrap()),
                link: eth0,
                source: None,
            };
            route.delete_address(1, "127.0.0.1".parse().unwrap(), 8).unwrap();
            route.add_route(&lo).unwrap();
            assert!(ask_tcp("127.0.0.1:9999").is_err());
        });
        drop(listener);
    });
}

#[test]
fn setup_is_idempotent_and_survives_restart_and_reconcile() {
    node(|| {
        let dir = tempfile::tempdir().unwrap();
        let bridge = Bridge::new(options(dir.path())).unwrap();
        let (a, b) = (pod(&bridge, "a"), pod(&bridge, "b"));
        serve_tcp(&b.netns, "b", 80);
        let bridge = Bridge::new(options(dir.path())).unwrap();
        let again = block_on(bridge.setup(&request("a", vec![]), &a.netns.path())).unwrap();
        assert_eq!(again, [a.ip]);
        assert_eq!(a.netns.run(|| ask_tcp(&format!("{}:80", b.ip))).unwrap(), format!("b {}", a.ip));
        // A new namespace for the same sandbox, as after a reboot, keeps the address.
        let fresh = Namespace::new();
        assert_eq!(block_on(bridge.setup(&request("a", vec![]), &fresh.path())).unwrap(), [a.ip]);
        assert_eq!(fresh.run(|| ask_tcp(&format!("{}:80", b.ip))).unwrap(), format!("b {}", a.ip));
        block_on(bridge.reconcile(&["b".into()])).unwrap();
        let mut route = Route::open().unwrap();
        let veths = |route: &mut Route| route.links().unwrap().into_iter().filter(|l| l.kind == "veth").count();
        assert_eq!(veths(&mut route), 1);
        assert_eq!(ask_tcp(&format!("{}:80", b.ip)).unwrap(), "b 10.42.0.1");
        // A failed setup frees what it took.
        assert!(block_on(bridge.setup(&request("c", vec![]), std::path::Path::new("/nonexistent"))).is_err());
        block_on(bridge.teardown("never-was", std::path::Path::new("/nonexistent"))).unwrap();
        let records = || {
            std::fs::read_dir(dir.path().join("ipam"))
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name() != "last")
                .count()
        };
        assert_eq!(records(), 1);
        Bridge::reset(&options(dir.path())).unwrap();
        Bridge::reset(&options(dir.path())).unwrap();
        assert_eq!(veths(&mut route), 0);
        assert_eq!(route.link("skiff0").unwrap(), None);
        assert!(!dir.path().join("ipam").exists());
    });
}
