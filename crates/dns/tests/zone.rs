//! Names of the cluster, read back by an independent decoder (hickory-proto).

use dns::index::Index;
use dns::wire::{self, Name, Query};
use dns::zone::{Outcome, Zone};
use hickory_proto::op::Message;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde_json::{Value, json};

fn zone() -> Zone {
    Zone {
        domain: Name::parse("cluster.local").unwrap(),
        ttl_seconds: 5,
        cluster_dns: Some("10.43.0.10".parse().unwrap()),
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()],
    }
}

fn service(name: &str, spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})).unwrap()
}

fn slice(name: &str, service: &str, endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}, {"name": "q", "port": 53, "protocol": "UDP"}]
    }))
    .unwrap()
}

fn index() -> Index {
    let mut index = Index::default();
    let ports = || json!([{"name": "http", "port": 80}, {"name": "q", "port": 53, "protocol": "UDP"}]);
    index.apply_service(&service(
        "web",
        json!({"clusterIP": "10.43.0.5", "clusterIPs": ["10.43.0.5", "fd00::5"], "ports": ports()}),
    ));
    index.apply_service(&service("db", json!({"clusterIP": "None", "ports": ports()})));
    index.apply_service(&service("eager", json!({"clusterIP": "None", "publishNotReadyAddresses": true})));
    index.apply_service(&service("empty", json!({"clusterIP": "None"})));
    index.apply_service(&service("alias", json!({"type": "ExternalName", "externalName": "www.example.com"})));
    index.apply_service(&service(
        "inner",
        json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}),
    ));
    index.apply_slice(&slice("db-1", "db", json!([{"addresses": ["10.42.0.7"], "hostname": "db-0"}, {"addresses": ["10.42.0.8"]}, {"addresses": ["10.42.0.9"], "conditions": {"ready": false}}])));
    index.apply_slice(&slice(
        "eager-1",
        "eager",
        json!([{"addresses": ["10.42.0.9"], "conditions": {"ready": false}}]),
    ));
    index.apply_slice(&slice("web-1", "web", json!([{"addresses": ["10.42.0.7"]}])));
    index
}

fn packet(name: &str, kind: u16) -> Vec<u8> {
    wire::question(77, &Name::parse(name).unwrap(), kind)
}

/// One line: code, answers, `|` authorities, `+` additionals; sorted, TTLs as `@n`.
fn ask(index: &Index, name: &str, kind: u16) -> String {
    let packet = packet(name, kind);
    let query = Query::parse(&packet).unwrap();
    match zone().answer(index, &query, 3, query.udp_len_max()) {
        Outcome::Forward => "forward".into(),
        Outcome::Alias { target } => format!("alias {target}"),
        Outcome::Reply(reply) => show(&reply),
    }
}

fn show(reply: &[u8]) -> String {
    let message = Message::from_vec(reply).unwrap();
    assert_eq!(message.metadata.id, 77);
    assert!(message.edns.is_some());
    let lines = |records: &[hickory_proto::rr::Record]| {
        let mut lines: Vec<String> =
            records.iter().map(|r| format!("{}@{} {} {}", r.name, r.ttl, r.record_type(), r.data)).collect();
        lines.sort();
        lines.join(", ")
    };
    let mut text = format!("{:?} {}", message.metadata.response_code, lines(&message.answers));
    if !message.authorities.is_empty() {
        text += &format!("| {}", lines(&message.authorities));
    }
    if !message.additionals.is_empty() {
        text += &format!(" + {}", lines(&message.additionals));
    }
    text
}

const SOA: &str = "cluster.local.@5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5";

#[test]
fn names_of_the_specification() {
    let index = index();
    let nxdomain = format!("NXDomain | {SOA}");
    let nodata = format!("NoError | {SOA}");
    for (name, kind, expected) in [
        ("web.default.svc.cluster.local", wire::A, "NoError web.default.svc.cluster.local.@5 A 10.43.0.5"),
        ("WEB.Default.svc.cluster.local", wire::AAAA, "NoError web.default.svc.cluster.local.@5 AAAA fd00::5"),
        ("web.default.svc.cluster.local", wire::TXT, &nodata),
        ("nope.default.svc.cluster.local", wire::A, &nxdomain),
        ("web.other.svc.cluster.local", wire::A, &nxdomain),
        ("default.svc.cluster.local", wire::A, &nodata),
        ("other.svc.cluster.local", wire::A, &nxdomain),
        ("cluster.local", wire::A, &nodata),
        ("cluster.local", wire::NS, "NoError cluster.local.@5 NS ns.dns.cluster.local."),
        ("ns.dns.cluster.local", wire::A, "NoError ns.dns.cluster.local.@5 A 10.43.0.10"),
        ("dns-version.cluster.local", wire::TXT, "NoError dns-version.cluster.local.@5 TXT 1.1.0"),
        (
            "_http._tcp.web.default.svc.cluster.local",
            wire::SRV,
            "NoError _http._tcp.web.default.svc.cluster.local.@5 SRV 0 100 80 web.default.svc.cluster.local. + web.default.svc.cluster.local.@5 A 10.43.0.5, web.default.svc.cluster.local.@5 AAAA fd00::5",
        ),
        ("_http._udp.web.default.svc.cluster.local", wire::SRV, &nxdomain),
        ("_http._tcp.web.default.svc.cluster.local", wire::A, &nodata),
        ("_tcp.web.default.svc.cluster.local", wire::A, &nodata),
        (
            "db.default.svc.cluster.local",
            wire::A,
            "NoError db.default.svc.cluster.local.@5 A 10.42.0.7, db.default.svc.cluster.local.@5 A 10.42.0.8",
        ),
        ("db.default.svc.cluster.local", wire::AAAA, &nodata),
        ("db-0.db.default.svc.cluster.local", wire::A, "NoError db-0.db.default.svc.cluster.local.@5 A 10.42.0.7"),
        (
            "10-42-0-8.db.default.svc.cluster.local",
            wire::A,
            "NoError 10-42-0-8.db.default.svc.cluster.local.@5 A 10.42.0.8",
        ),
        ("10-42-0-9.db.default.svc.cluster.local", wire::A, &nxdomain),
        (
            "_q._udp.db.default.svc.cluster.local",
            wire::SRV,
            "NoError _q._udp.db.default.svc.cluster.local.@5 SRV 0 50 53 10-42-0-8.db.default.svc.cluster.local., _q._udp.db.default.svc.cluster.local.@5 SRV 0 50 53 db-0.db.default.svc.cluster.local. + 10-42-0-8.db.default.svc.cluster.local.@5 A 10.42.0.8, db-0.db.default.svc.cluster.local.@5 A 10.42.0.7",
        ),
        ("eager.default.svc.cluster.local", wire::A, "NoError eager.default.svc.cluster.local.@5 A 10.42.0.9"),
        ("empty.default.svc.cluster.local", wire::A, &nxdomain),
        ("alias.default.svc.cluster.local", wire::A, "alias www.example.com."),
        (
            "alias.default.svc.cluster.local",
            wire::CNAME,
            "NoError alias.default.svc.cluster.local.@5 CNAME www.example.com.",
        ),
        (
            "inner.default.svc.cluster.local",
            wire::A,
            "NoError inner.default.svc.cluster.local.@5 CNAME web.default.svc.cluster.local., web.default.svc.cluster.local.@5 A 10.43.0.5",
        ),
        (
            "10-42-0-77.default.pod.cluster.local",
            wire::A,
            "NoError 10-42-0-77.default.pod.cluster.local.@5 A 10.42.0.77",
        ),
        ("10-42-0-77.default.pod.cluster.local", wire::AAAA, &nodata),
        (
            "2001-db8--5.default.pod.cluster.local",
            wire::AAAA,
            "NoError 2001-db8--5.default.pod.cluster.local.@5 AAAA 2001:db8::5",
        ),
        ("10-42-0.default.pod.cluster.local", wire::A, &nxdomain),
        ("5.0.43.10.in-addr.arpa", wire::PTR, "NoError 5.0.43.10.in-addr.arpa.@5 PTR web.default.svc.cluster.local."),
        (
            "7.0.42.10.in-addr.arpa",
            wire::PTR,
            "NoError 7.0.42.10.in-addr.arpa.@5 PTR db-0.db.default.svc.cluster.local.",
        ),
        ("200.0.42.10.in-addr.arpa", wire::PTR, &nxdomain),
        ("8.8.8.8.in-addr.arpa", wire::PTR, "forward"),
        (
            "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
            wire::PTR,
            "NoError 5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.@5 PTR web.default.svc.cluster.local.",
        ),
        ("example.com", wire::A, "forward"),
        ("xcluster.local", wire::A, "forward"),
        ("a.b.c.d.web.default.svc.cluster.local", wire::A, &nxdomain),
    ] {
        assert_eq!(ask(&index, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn the_index_follows_changes_and_forgets() {
    let mut index = index();
    let name = "web.default.svc.cluster.local";
    index.apply_service(&service("web", json!({"type": "ExternalName", "externalName": "a.example"})));
    assert_eq!(ask(&index, name, wire::A), "alias a.example.");
    index.apply_service(&service("web", json!({"clusterIP": "10.43.0.6"})));
    assert_eq!(ask(&index, name, wire::A), "NoError web.default.svc.cluster.local.@5 A 10.43.0.6");
    assert!(ask(&index, "5.0.43.10.in-addr.arpa", wire::PTR).starts_with("NXDomain"));
    for gone in ["web", "db", "eager", "empty", "alias", "inner"] {
        index.remove_service(&service(gone, json!({})));
        assert!(ask(&index, &format!("{gone}.default.svc.cluster.local"), wire::A).starts_with("NXDomain"));
    }
    for (name, of) in [("db-1", "db"), ("eager-1", "eager"), ("web-1", "web")] {
        index.remove_slice(&slice(name, of, json!([])));
    }
    assert!(ask(&index, "default.svc.cluster.local", wire::A).starts_with("NXDomain"));
    assert_eq!(format!("{index:?}"), format!("{:?}", Index::default()));
}

#[test]
fn long_answers_are_cut_for_udp_and_whole_for_tcp() {
    let mut index = Index::default();
    index.apply_service(&service("big", json!({"clusterIP": "None"})));
    let endpoints: Vec<Value> = (0..200).map(|i| json!({"addresses": [format!("10.42.1.{i}")]})).collect();
    index.apply_slice(&slice("big-1", "big", endpoints.into()));
    let mut packet = packet("big.default.svc.cluster.local", wire::A);
    let answer = |packet: &[u8], tcp: bool| {
        let query = Query::parse(packet).unwrap();
        let len_max = if tcp { 65535 } else { query.udp_len_max() };
        let Outcome::Reply(reply) = zone().answer(&index, &query, 1, len_max) else { panic!("no reply") };
        assert!(reply.len() <= len_max);
        let message = Message::from_vec(&reply).unwrap();
        (message.metadata.truncation, message.answers.len())
    };
    assert_eq!(answer(&packet, true), (false, 200));
    let (cut, some) = answer(&packet, false);
    assert!(cut && some > 60 && some < 200, "{some}");
    // Without EDNS: 512 bytes.
    packet.truncate(packet.len() - 11);
    packet[11] = 0;
    let (cut, few) = answer(&packet, false);
    assert!(cut && few > 20 && few < some, "{few}");
}

#[test]
fn several_addresses_come_in_every_order() {
    let index = index();
    let packet = packet("db.default.svc.cluster.local", wire::A);
    let query = Query::parse(&packet).unwrap();
    let first: std::collections::BTreeSet<String> = (0..50u64)
        .map(|random| {
            let Outcome::Reply(reply) = zone().answer(&index, &query, random << 20, 1232) else { panic!("no reply") };
            Message::from_vec(&reply).unwrap().answers[0].data.to_string()
        })
        .collect();
    assert_eq!(first.len(), 2);
}

#[test]
fn letter_case_and_unusual_queries() {
    let index = index();
    let mut mixed = packet("web.default.svc.cluster.local", wire::A);
    mixed[13] = b'W';
    let query = Query::parse(&mixed).unwrap();
    let Outcome::Reply(reply) = zone().answer(&index, &query, 0, 512) else { panic!("no reply") };
    assert_eq!(reply[12..20], mixed[12..20], "the client's letter case comes back");
    // Other classes, versions and opcodes.
    let code = |packet: &[u8]| match Query::parse(packet) {
        Ok(query) => match zone().answer(&index, &query, 0, 512) {
            Outcome::Reply(reply) => format!("{:?}", Message::from_vec(&reply).unwrap().metadata.response_code),
            other => format!("{other:?}"),
        },
        Err(wire::Unreadable::Reply(reply)) => {
            format!("{:?}", Message::from_vec(&reply).unwrap().metadata.response_code)
        }
        Err(wire::Unreadable::Ignore) => "ignored".into(),
    };
    let good = packet("web.default.svc.cluster.local", wire::A);
    let with = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    assert_eq!(code(&good), "NoError");
    assert_eq!(code(&with(good.len() - 12, 3)), "Refused", "class CHAOS");
    assert_eq!(code(&with(good.len() - 5, 1)), "BADSIG", "16 is BADVERS here; TSIG calls it BADSIG");
    assert_eq!(code(&with(2, 0x29)), "NotImp");
    assert_eq!(code(&with(2, 0x80)), "ignored");
    assert_eq!(code(&with(5, 2)), "FormErr");
    assert_eq!(code(&with(12, 0xc0)), "FormErr", "a compressed question");
    assert_eq!(code(&good[..11]), "ignored");
    assert_eq!(code(&good[..20]), "FormErr");
}

fn check_packet(index: &Index, packet: &[u8]) {
    match Query::parse(packet) {
        Ok(query) => {
            for len_max in [query.udp_len_max(), 65535] {
                if let Outcome::Reply(reply) = zone().answer(index, &query, 9, len_max) {
                    assert!(reply.len() <= len_max);
                    Message::from_vec(&reply).expect("a reply that others can read");
                }
            }
            let _ = wire::adopt(packet, &query, 3, 512);
        }
        Err(wire::Unreadable::Reply(reply)) => {
            Message::from_vec(&reply).expect("a reply that others can read");
        }
        Err(wire::Unreadable::Ignore) => {}
    }
    let _ = (wire::lifetime(packet), wire::records(packet).count(), wire::reply_header(packet));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn hostile_packets_never_panic(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        check_packet(&index(), &noise);
    }

    #[test]
    fn damaged_queries_never_panic(
        name in prop::sample::select(vec!["web.default.svc.cluster.local", "_http._tcp.db.default.svc.cluster.local", "7.0.42.10.in-addr.arpa", "alias.default.svc.cluster.local", "a.b"]),
        kind in prop::sample::select(vec![wire::A, wire::AAAA, wire::SRV, wire::PTR, wire::ANY, wire::SOA]),
        damage in prop::collection::vec((0usize..80, any::<u8>()), 0..4), cut in 0usize..90) {
        let mut packet = packet(name, kind);
        for (at, byte) in damage {
            if let Some(b) = packet.get_mut(at) {
                *b = byte;
            }
        }
        packet.truncate(cut.max(1));
        check_packet(&index(), &packet);
    }
}
