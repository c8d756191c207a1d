//! The node API over TLS: who may use it, logs, exec and port-forward with own clients of each protocol.

use futures::{SinkExt, StreamExt};
use kubelet::streaming::spdy::frame::Frame;
use kubelet::streaming::spdy::headers::{Packer, Unpacker};
use kubelet::streaming::websocket::Tunnel;
use kubelet::testing::{api::FakeApi, runtime::FakeRuntime};
use kubelet::{KubeletOptions, run};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use stdx::Shutdown;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

struct Node {
    port: u16,
    ca: String,
    client: (String, String),
    shutdown: Shutdown,
    _dir: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn certificate(issuer: &Issuer<'_, KeyPair>, common_name: &str, organization: &str, san: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![san.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.distinguished_name.push(DnType::OrganizationName, organization);
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

impl Node {
    /// With one pod `ns/p` that runs a container `c`.
    async fn start() -> Node {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let server = certificate(&issuer, "node", "x", "localhost");
        let client = certificate(&issuer, "admin", "system:masters", "admin");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let (api, runtime, shutdown) = (FakeApi::default(), FakeRuntime::default(), Shutdown::new());
        runtime.add_image("app:1");
        let mut options = KubeletOptions::new("n1", dir.path());
        options.cgroup_root = None;
        options.node_ips = vec!["192.0.2.1".parse().unwrap()];
        options.listen = Some(([127, 0, 0, 1], port).into());
        options.tls_cert_pem = Some(server.0.into_bytes());
        options.tls_key_pem = Some(server.1.into_bytes());
        options.client_ca_pem = Some(ca_pem.clone().into_bytes());
        let (c, r, s) = (api.client(), Arc::new(runtime), shutdown.clone());
        tokio::spawn(async move { run(c, r.clone(), r, options, s).await.unwrap() });
        api.put("/api/v1/namespaces/ns/pods", json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "app:1"}]}}));
        api.wait("/api/v1/namespaces/ns/pods/p", "running", |p| p.is_some_and(|p| p["status"]["phase"] == "Running"))
            .await;
        Node { port, ca: ca_pem, client, shutdown, _dir: dir }
    }

    async fn connect(&self, with_certificate: bool) -> TlsStream<tokio::net::TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if with_certificate {
            let cert = CertificateDer::from_pem_slice(self.client.0.as_bytes()).unwrap();
            builder
                .with_client_auth_cert(vec![cert], PrivateKeyDer::from_pem_slice(self.client.1.as_bytes()).unwrap())
                .unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
            .unwrap()
    }

    /// (status line, body)
    async fn get(&self, path: &str, with_certificate: bool) -> (String, String) {
        let mut tls = self.connect(with_certificate).await;
        tls.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut all = Vec::new();
        let _ = tls.read_to_end(&mut all).await;
        let text = String::from_utf8_lossy(&all).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap()[9..12].to_owned(), body.to_owned())
    }

    async fn websocket(
        &self,
        path: &str,
        protocol: &str,
    ) -> tokio_tungstenite::WebSocketStream<TlsStream<tokio::net::TcpStream>> {
        let mut request = format!("wss://localhost{path}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        let (socket, response) = tokio_tungstenite::client_async(request, self.connect(true).await).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
        socket
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may() {
    let node = Node::start().await;
    assert_eq!(node.get("/healthz", false).await, ("200".into(), "ok".into()));
    assert_eq!(node.get("/pods", false).await.0, "401");
    let (code, body) = node.get("/pods", true).await;
    assert_eq!((code.as_str(), body.contains("\"p\"")), ("200", true));
    assert!(
        node.get("/metrics/resource", true)
            .await
            .1
            .contains("container_cpu_usage_seconds_total{container=\"c\",namespace=\"ns\",pod=\"p\"} 1.5")
    );
    assert!(node.get("/stats/summary", true).await.1.contains("\"workingSetBytes\":4096"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs() {
    let node = Node::start().await;
    let (code, body) = node.get("/containerLogs/ns/p/c", true).await;
    assert_eq!((code.as_str(), body.contains("hello from c\n")), ("200", true), "{body}");
    assert!(
        node.get("/containerLogs/ns/p/c?timestamps=true", true)
            .await
            .1
            .contains("2024-01-01T00:00:00.000000000Z hello from c")
    );
    let (code, body) = node.get("/containerLogs/ns/p/c?previous=true", true).await;
    assert_eq!(
        (code.as_str(), body.contains("previous terminated container \"c\" in pod \"p\" not found")),
        ("400", true)
    );
    assert_eq!(node.get("/containerLogs/ns/p/nope", true).await.0, "400");
    assert_eq!(node.get("/containerLogs/ns/nope/c", true).await.0, "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_over_websocket() {
    let node = Node::start().await;
    let mut socket =
        node.websocket("/exec/ns/p/c?command=exit&command=7&input=1&output=1&error=1", "v5.channel.k8s.io").await;
    socket.send(Message::Binary(b"\x00typed".to_vec().into())).await.unwrap();
    socket.send(Message::Binary(vec![255, 0].into())).await.unwrap();
    let (mut out, mut status) = (Vec::new(), Value::Null);
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(data) if data[0] == 1 => out.extend_from_slice(&data[1..]),
            Message::Binary(data) if data[0] == 3 => status = serde_json::from_slice(&data[1..]).unwrap(),
            _ => {}
        }
    }
    assert_eq!(String::from_utf8(out).unwrap(), "exit 7typed");
    assert_eq!(
        (status["reason"].as_str(), status["details"]["causes"][0]["message"].as_str()),
        (Some("NonZeroExitCode"), Some("7"))
    );
}

/// A client of our own framing, driven by hand.
struct Spdy<T> {
    io: T,
    packer: Packer,
    unpacker: Unpacker,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Spdy<T> {
    fn new(io: T) -> Spdy<T> {
        Spdy { io, packer: Packer::default(), unpacker: Unpacker::default() }
    }

    async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let headers: HashMap<String, String> = headers.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        self.send(Frame::Open { stream, fin: false, headers }).await;
    }

    async fn send(&mut self, frame: Frame) {
        self.io.write_all(&frame.encode(&mut self.packer).unwrap()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 8];
        self.io.read_exact(&mut head).await.ok()?;
        let mut body = vec![0; usize::from(head[6]) << 8 | usize::from(head[7])];
        self.io.read_exact(&mut body).await.ok()?;
        Some(Frame::decode(head, body.into(), &mut self.unpacker).unwrap())
    }

    /// All data by stream, until `end` has finished.
    async fn collect(&mut self, end: u32) -> HashMap<u32, String> {
        let mut out: HashMap<u32, String> = HashMap::new();
        while let Some(frame) = self.next().await {
            if let Frame::Data { stream, fin, data } = frame {
                out.entry(stream).or_default().push_str(&String::from_utf8_lossy(&data));
                if fin && stream == end {
                    break;
                }
            }
        }
        out
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_over_spdy() {
    let node = Node::start().await;
    let mut tls = node.connect(true).await;
    let request = "POST /exec/ns/p/c?command=exit&command=3&input=1&output=1 HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\nx-stream-protocol-version: v4.channel.k8s.io\r\ncontent-length: 0\r\n\r\n";
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tls.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    let mut spdy = Spdy::new(tls);
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        spdy.open(id, &[("streamType", kind)]).await;
    }
    spdy.send(Frame::Data { stream: 3, fin: true, data: "typed".into() }).await;
    let out = spdy.collect(1).await;
    assert_eq!(out[&5], "exit 3typed");
    assert!(out[&1].contains("\"NonZeroExitCode\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn port_forward_tunnelled() {
    let node = Node::start().await;
    let socket = node.websocket("/portForward/ns/p", "SPDY/3.1+portforward.k8s.io").await;
    let mut spdy = Spdy::new(Tunnel::new(socket));
    spdy.open(1, &[("streamType", "error"), ("port", "80"), ("requestID", "0")]).await;
    spdy.open(3, &[("streamType", "data"), ("port", "80"), ("requestID", "0")]).await;
    spdy.send(Frame::Data { stream: 3, fin: false, data: "ping".into() }).await;
    spdy.send(Frame::Data { stream: 3, fin: true, data: " pong".into() }).await;
    assert_eq!(spdy.collect(3).await[&3], "ping pong");
    // A port that nobody listens on is told on the error stream.
    spdy.open(5, &[("streamType", "error"), ("port", "1"), ("requestID", "1")]).await;
    spdy.open(7, &[("streamType", "data"), ("port", "1"), ("requestID", "1")]).await;
    assert!(spdy.collect(5).await[&5].contains("connection refused"));
}
