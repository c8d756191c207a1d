//! The server on loopback sockets: cluster names from a fake API, the rest from a fake upstream.

use client::Informers;
use dns::wire::{self, Name};
use dns::{DnsOptions, Upstream};
use hickory_proto::op::Message;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stdx::Shutdown;

/// Lists what it is given; watches never bring anything.
fn fake_api(services: Value, slices: Value) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let items = if request.uri().path().ends_with("/services") { services.clone() } else { slices.clone() };
        let watch = request.uri().query().unwrap_or_default().contains("watch=true");
        async move {
            if watch {
                std::future::pending::<()>().await;
            }
            let list =
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::from(
                list.to_string().into_bytes(),
            )))
        }
    });
    kube::Client::new(service, "default")
}

/// Answers A questions: one address, or for `big` a hundred (cut over UDP). Counts the questions.
fn fake_upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = std::net::TcpListener::bind(address).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, peer)) = udp.recv_from(&mut buffer) {
            counter.fetch_add(1, Ordering::SeqCst);
            if let Some(reply) = upstream_reply(&buffer[..len], 1232) {
                let _ = udp.send_to(&reply, peer);
            }
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut packet = vec![0; u16::from_be_bytes(len) as usize];
            stream.read_exact(&mut packet).unwrap();
            let reply = upstream_reply(&packet, 65535).unwrap();
            stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    (address, count)
}

fn upstream_reply(packet: &[u8], len_max: usize) -> Option<Vec<u8>> {
    let query = wire::Query::parse(packet).ok()?;
    let name = query.name.to_string();
    if name.starts_with("silent.") {
        return None;
    }
    let mut reply = wire::Reply::new(
        &query,
        if name.starts_with("nx.") { wire::Rcode::NxDomain } else { wire::Rcode::NoError },
        false,
    );
    let count = match () {
        () if name.starts_with("big.") => 100,
        () if name.starts_with("nx.") => 0,
        () => 1,
    };
    for i in 1..=count {
        reply.record(wire::Section::Answer, &query.name, 300, &wire::Data::Address([192, 0, 2, i].into()));
    }
    Some(reply.finish(len_max))
}

fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn start(runtime: &tokio::runtime::Runtime, upstream: impl FnOnce(SocketAddr) -> Upstream) -> (SocketAddr, Shutdown) {
    let services = json!([
        {"metadata": {"name": "web", "namespace": "default", "resourceVersion": "1"}, "spec": {"clusterIP": "10.43.0.5"}},
        {"metadata": {"name": "alias", "namespace": "default", "resourceVersion": "1"}, "spec": {"type": "ExternalName", "externalName": "www.example.com"}},
    ]);
    let address = free_address();
    let shutdown = Shutdown::new();
    let options = DnsOptions {
        listen: vec![address],
        cluster_domain: "cluster.local".into(),
        cluster_dns: None,
        cluster_cidrs: vec![],
        upstream: upstream(address),
        ttl_seconds: 5,
    };
    let stop = shutdown.clone();
    runtime.spawn(async move {
        let informers = Informers::new(fake_api(services, json!([])), stop.clone());
        dns::run(&informers, options, stop).await.unwrap();
    });
    let started = Instant::now();
    // SERVFAIL until the lists are there.
    while ask(address, "web.default.svc.cluster.local")
        .is_none_or(|m| m.metadata.response_code != hickory_proto::op::ResponseCode::NoError)
    {
        assert!(started.elapsed() < Duration::from_secs(10), "the server does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    (address, shutdown)
}

fn ask(server: SocketAddr, name: &str) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
    socket.send(&wire::question(77, &Name::parse(name).unwrap(), wire::A)).unwrap();
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).ok()?;
    Some(Message::from_vec(&buffer[..len]).unwrap())
}

fn ask_tcp(server: SocketAddr, names: &[&str]) -> Vec<Message> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
    let mut read = |name: &str| {
        let packet = wire::question(77, &Name::parse(name).unwrap(), wire::A);
        stream.write_all(&(packet.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&packet).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut reply = vec![0; u16::from_be_bytes(len) as usize];
        stream.read_exact(&mut reply).unwrap();
        Message::from_vec(&reply).unwrap()
    };
    names.iter().map(|n| read(n)).collect()
}

fn answers(message: &Message) -> Vec<String> {
    message.answers.iter().map(|r| r.data.to_string()).collect()
}

fn code(message: Option<Message>) -> String {
    message.map_or("none".into(), |m| format!("{:?}", m.metadata.response_code))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn cluster_names_aliases_and_the_rest_of_the_world() {
    let runtime = runtime();
    let (upstream, asked) = fake_upstream();
    let (server, shutdown) = start(&runtime, |_| Upstream::Servers(vec![upstream]));
    assert_eq!(answers(&ask(server, "web.default.svc.cluster.local").unwrap()), ["10.43.0.5"]);
    assert_eq!(asked.load(Ordering::SeqCst), 0, "cluster names stay here");
    assert_eq!(answers(&ask(server, "www.example.org").unwrap()), ["192.0.2.1"]);
    assert_eq!(answers(&ask(server, "WWW.example.org").unwrap()), ["192.0.2.1"]);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the second answer came from memory");
    assert_eq!(answers(&ask(server, "alias.default.svc.cluster.local").unwrap()), ["www.example.com.", "192.0.2.1"]);
    assert_eq!(code(ask(server, "nx.example.org")), "NXDomain");
    // Long answers: cut over UDP, whole over TCP, where one connection carries several questions.
    let cut = ask(server, "big.example.org").unwrap();
    assert!(cut.metadata.truncation);
    let got = ask_tcp(server, &["big.example.org", "web.default.svc.cluster.local", "www.example.org"]);
    assert_eq!(got.iter().map(|m| m.answers.len()).collect::<Vec<_>>(), [100, 1, 1]);
    // Noise on both transports hurts nobody.
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0xff; 40], server).unwrap();
    TcpStream::connect(server).unwrap().write_all(&[0, 9, 1]).unwrap();
    assert_eq!(answers(&ask(server, "web.default.svc.cluster.local").unwrap()), ["10.43.0.5"]);
    shutdown.cancel();
}

#[test]
fn a_silent_upstream_is_a_server_failure_and_asked_once_for_all() {
    let runtime = runtime();
    let (upstream, asked) = fake_upstream();
    let (server, shutdown) = start(&runtime, |_| Upstream::Servers(vec![upstream]));
    let began = Instant::now();
    let askers: Vec<_> = (0..10).map(|_| std::thread::spawn(move || code(ask(server, "silent.example.org")))).collect();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(
        answers(&ask(server, "web.default.svc.cluster.local").unwrap()),
        ["10.43.0.5"],
        "others are not held up"
    );
    for asker in askers {
        assert_eq!(asker.join().unwrap(), "ServFail");
    }
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    assert_eq!(asked.load(Ordering::SeqCst), 2, "sent and sent again, not twenty times");
    // It is known to be dead now: nobody waits.
    for name in ["silent.example.com", "silent.example.net"] {
        let began = Instant::now();
        let _first_may_probe = ask(server, name);
        assert_eq!(code(ask(server, "other.example.org")), "ServFail");
        assert!(began.elapsed() < Duration::from_millis(1200), "{:?}", began.elapsed());
    }
    shutdown.cancel();
}

#[test]
fn a_dead_resolver_beside_a_living_one_holds_nobody_up() {
    let runtime = runtime();
    let (living, asked) = fake_upstream();
    // Bound, and never read: silent. Closed: the kernel says so.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = [silent.local_addr().unwrap(), free_address()];
    let (server, shutdown) = start(&runtime, |_| Upstream::Servers(vec![dead[0], dead[1], living]));
    let began = Instant::now();
    assert_eq!(answers(&ask(server, "one.example.org").unwrap()), ["192.0.2.1"]);
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    // The one that answers is asked first from now on.
    let began = Instant::now();
    for i in 0..20 {
        assert_eq!(answers(&ask(server, &format!("n{i}.example.org")).unwrap()), ["192.0.2.1"]);
    }
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    assert_eq!(asked.load(Ordering::SeqCst), 21);
    shutdown.cancel();
}

#[test]
fn an_unreachable_resolver_fails_at_once_and_is_used_when_it_is_back() {
    let runtime = runtime();
    let address = free_address();
    let (server, shutdown) = start(&runtime, |_| Upstream::Servers(vec![address]));
    for i in 0..5 {
        let began = Instant::now();
        assert_eq!(code(ask(server, &format!("n{i}.example.org"))), "ServFail");
        assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    }
    let back = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, peer)) = back.recv_from(&mut buffer) {
            let _ = back.send_to(&upstream_reply(&buffer[..len], 1232).unwrap(), peer);
        }
    });
    let began = Instant::now();
    while code(ask(server, "www.example.org")) != "NoError" {
        assert!(began.elapsed() < Duration::from_secs(5), "it isn't noticed that the resolver is back");
        std::thread::sleep(Duration::from_millis(50));
    }
    shutdown.cancel();
}

#[test]
fn no_upstream_refuses_and_a_loop_ends() {
    let runtime = runtime();
    let (server, shutdown) = start(&runtime, |_| Upstream::None);
    assert_eq!(code(ask(server, "www.example.org")), "Refused");
    shutdown.cancel();
    // Its own address among the upstreams is left out; a detour back to it waits for itself.
    let (server, shutdown) = start(&runtime, |own| Upstream::Servers(vec![own]));
    assert_eq!(code(ask(server, "www.example.org")), "Refused");
    shutdown.cancel();
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    let relay_address = relay.local_addr().unwrap();
    let (server, shutdown) = start(&runtime, |_| Upstream::Servers(vec![relay_address]));
    let relayed = Arc::new(AtomicUsize::new(0));
    let count = relayed.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, _)) = relay.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = relay.send_to(&buffer[..len], server);
        }
    });
    assert_eq!(code(ask(server, "www.example.org")), "ServFail");
    assert!(relayed.load(Ordering::SeqCst) < 10, "{relayed:?}");
    shutdown.cancel();
}
