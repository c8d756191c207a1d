//! A node, its pods and an outside world as network namespaces of this process: real packets, nothing leaves.
//!
//! Needs CAP_NET_ADMIN and CAP_SYS_ADMIN; [`node`] says so and skips the test elsewhere.
#![allow(dead_code, reason = "each test file uses a part")]

use cri::{PodNetwork, PodNetworkRequest, PortMapping};
use nix::sched::{CloneFlags, unshare};
use podnet::{Bridge, BridgeOptions};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::Duration;
use sys::netlink::Route;
use sys::netlink::route::{RouteSpec, Veth};

pub const PATIENCE: Duration = Duration::from_millis(1500);

/// Runs `test` twice, each time on a thread in a new network namespace that plays the node, with `lo` up: once as
/// on plain machines, once with `br_netfilter` calling the IP hooks for bridged frames, as where Docker runs.
pub fn node(test: impl FnOnce() + Send + Clone + 'static) {
    for bridge_nf in ["0", "1"] {
        let test = test.clone();
        let thread = std::thread::spawn(move || {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                eprintln!("skipped: a network namespace needs root: {error}");
                return;
            }
            let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", bridge_nf);
            Route::open().unwrap().set_up(1).unwrap();
            test();
        });
        if let Err(panic) = thread.join() {
            eprintln!("failed with bridge-nf-call-iptables={bridge_nf}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A network namespace kept alive by its descriptor.
pub struct Namespace {
    file: File,
}

impl Namespace {
    pub fn new() -> Namespace {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        })
        .join()
        .unwrap();
        Namespace { file }
    }
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        sys::netlink::in_netns(self.file.as_fd(), work).unwrap()
    }
}

pub struct Pod {
    pub name: String,
    pub netns: Namespace,
    pub ip: IpAddr,
}

pub fn options(dir: &std::path::Path) -> BridgeOptions {
    BridgeOptions {
        bridge: "skiff0".into(),
        pod_cidrs: vec!["10.42.0.0/24".parse().unwrap()],
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        mtu: None,
        state_dir: dir.into(),
        table: "skiff-pods".into(),
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    // Blocking threads inherit the namespace of the thread that starts them, so the runtime is built here.
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn request(name: &str, port_mappings: Vec<PortMapping>) -> PodNetworkRequest {
    PodNetworkRequest {
        sandbox_id: name.into(),
        pod_namespace: "default".into(),
        pod_name: name.into(),
        port_mappings,
        ..Default::default()
    }
}

pub fn pod_with_ports(bridge: &Bridge, name: &str, ports: Vec<PortMapping>) -> Pod {
    let netns = Namespace::new();
    let ips = block_on(bridge.setup(&request(name, ports), &netns.path())).unwrap();
    Pod { name: name.into(), netns, ip: ips[0] }
}

pub fn pod(bridge: &Bridge, name: &str) -> Pod {
    pod_with_ports(bridge, name, vec![])
}

/// An outside network: the node is 192.168.77.1, the world 192.168.77.2 with a default route through the node.
pub fn world() -> Namespace {
    let world = Namespace::new();
    let mut route = Route::open().unwrap();
    route
        .add_veth(&Veth {
            name: "uplink",
            mac: None,
            master: None,
            mtu: 1500,
            peer_name: "eth0",
            peer_mac: None,
            peer_netns: world.file.as_fd(),
        })
        .unwrap();
    let uplink = route.link("uplink").unwrap().unwrap().index;
    route.add_address(uplink, "192.168.77.1".parse().unwrap(), 24).unwrap();
    world.run(|| {
        let mut route = Route::open().unwrap();
        let eth0 = route.link("eth0").unwrap().unwrap().index;
        route.set_up(1).unwrap();
        route.set_up(eth0).unwrap();
        route.add_address(eth0, "192.168.77.2".parse().unwrap(), 24).unwrap();
        // Lets the world answer whatever source it sees, so that a missing masquerade shows as a wrong source, not as silence.
        let default = RouteSpec {
            destination: "0.0.0.0".parse().unwrap(),
            prefix_len: 0,
            gateway: Some("192.168.77.1".parse().unwrap()),
            link: eth0,
            source: None,
        };
        route.add_route(&default).unwrap();
    });
    world
}

/// Answers every connection with `NAME PEER-IP` and closes.
pub fn serve_tcp(netns: &Namespace, name: &str, port: u16) {
    let listener = netns.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
    let name = name.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().map(|p| p.ip().to_string()).unwrap_or_default();
            let _ = stream.write_all(format!("{name} {peer}").as_bytes());
        }
    });
}

pub fn serve_udp(netns: &Namespace, name: &str, port: u16) {
    let socket = netns.run(|| UdpSocket::bind(("0.0.0.0", port)).unwrap());
    let name = name.to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
        }
    });
}

/// Connects from the calling thread's namespace; the server's words or the error.
pub fn ask_tcp(to: &str) -> std::io::Result<String> {
    let address: SocketAddr = to.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub fn ask_udp(socket: &UdpSocket, to: &str) -> std::io::Result<String> {
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.send_to(b"?", to)?;
    let mut buffer = [0; 512];
    let (len, _) = socket.recv_from(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

pub fn nft_list(table: &str) -> Option<String> {
    let output = std::process::Command::new("nft").args(["list", "table", "ip", table]).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
