//! A real etcd for a test, on free loopback ports and a temporary directory, gone when dropped; and a proxy before
//! it that can be cut.

use std::net::TcpListener as StdListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::Store;
use store::etcd::EtcdOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub struct Etcd {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

/// Debian's, unless `ETCD_BIN` names another.
fn binary() -> Option<String> {
    let path = std::env::var("ETCD_BIN").unwrap_or_else(|_| "/usr/bin/etcd".into());
    let found = std::path::Path::new(&path).exists();
    if !found {
        eprintln!("SKIPPED: there is no etcd at {path}; install Debian's etcd-server, or set ETCD_BIN");
    }
    found.then_some(path)
}

fn free_ports() -> [u16; 2] {
    let bind = || StdListener::bind("127.0.0.1:0").expect("bind");
    let (a, b) = (bind(), bind());
    [a, b].map(|l| l.local_addr().expect("address").port())
}

impl Etcd {
    /// `None` when there is no etcd on this machine.
    pub async fn start() -> Option<Etcd> {
        let binary = binary()?;
        // Another process may take a port in between; then etcd ends and the next try has others.
        for _ in 0..5 {
            let dir = tempfile::tempdir().expect("temporary directory");
            let [port, peer] = free_ports();
            let child = spawn(&binary, dir.path(), &format!("http://127.0.0.1:{port}"), peer, &[]);
            let mut etcd = Etcd { child, dir, port };
            if etcd.ready().await {
                return Some(etcd);
            }
        }
        panic!("etcd does not start");
    }

    async fn ready(&mut self) -> bool {
        self.ready_with(&options(self.port, "")).await
    }

    async fn ready_with(&mut self, options: &EtcdOptions) -> bool {
        for _ in 0..200 {
            if let Ok(store) = store::etcd::open(options.clone()).await {
                store.shutdown().await;
                return true;
            }
            if self.child.try_wait().expect("wait").is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// kill -9, and up again with the same data.
    pub async fn restart(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("kill");
        let [_, peer] = free_ports();
        self.child =
            spawn(&binary().expect("etcd"), self.dir.path(), &format!("http://127.0.0.1:{}", self.port), peer, &[]);
        assert!(self.ready().await, "etcd does not start again");
    }

    pub async fn open(&self, prefix: &str) -> Arc<dyn Store> {
        store::etcd::open(options(self.port, prefix)).await.expect("open")
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// etcd that talks TLS only, and only to clients with a certificate of the same authority.
pub struct TlsEtcd {
    _etcd: Etcd,
    pub options: EtcdOptions,
}

impl TlsEtcd {
    pub async fn start() -> Option<TlsEtcd> {
        let binary = binary()?;
        let dir = tempfile::tempdir().expect("temporary directory");
        let pki = Pki::new();
        let (cert, key) = pki.issue(&["127.0.0.1".into()]);
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("write");
            path.into_os_string().into_string().expect("text")
        };
        let args = [
            ("--cert-file", file("cert", &cert)),
            ("--key-file", file("key", &key)),
            ("--trusted-ca-file", file("ca", &pki.ca)),
            ("--client-cert-auth", "true".into()),
        ];
        let args: Vec<String> = args.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let [port, peer] = free_ports();
        let child = spawn(&binary, dir.path(), &format!("https://127.0.0.1:{port}"), peer, &args);
        let (cert, key) = pki.issue(&["client".into()]);
        let options = EtcdOptions {
            endpoints: vec![format!("https://127.0.0.1:{port}")],
            ca: Some(pki.ca.into()),
            cert: Some(cert.into()),
            key: Some(key.into()),
            prefix: String::new(),
            history_window: std::time::Duration::from_secs(300),
            transformer: None,
        };
        let mut etcd = Etcd { child, dir, port };
        assert!(etcd.ready_with(&options).await, "etcd does not start with TLS");
        Some(TlsEtcd { _etcd: etcd, options })
    }
}

struct Pki {
    ca: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Pki {
    fn new() -> Pki {
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("sign").pem();
        Pki { ca, issuer: rcgen::Issuer::new(params, key) }
    }

    fn issue(&self, names: &[String]) -> (String, String) {
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).expect("sign").pem(), key.serialize_pem())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

pub fn options(port: u16, prefix: &str) -> EtcdOptions {
    let endpoints = vec![format!("http://127.0.0.1:{port}")];
    EtcdOptions { endpoints, prefix: prefix.into(), ..EtcdOptions::default() }
}

fn spawn(binary: &str, dir: &std::path::Path, client: &str, peer: u16, more: &[String]) -> Child {
    let peer = format!("http://127.0.0.1:{peer}");
    Command::new(binary)
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen-client-urls", client, "--advertise-client-urls", client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
        .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start etcd")
}

/// Forwards connections to etcd, until it is cut.
pub struct Proxy {
    pub port: u16,
    open: Arc<AtomicBool>,
    cut: Arc<Notify>,
}

impl Proxy {
    pub async fn before(etcd: &Etcd) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let target = etcd.port();
        let open = Arc::new(AtomicBool::new(true));
        let cut = Arc::new(Notify::new());
        let (is_open, is_cut) = (open.clone(), cut.clone());
        tokio::spawn(async move {
            while let Ok((mut inside, _)) = listener.accept().await {
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                let is_cut = is_cut.clone();
                tokio::spawn(async move {
                    let Ok(mut outside) = TcpStream::connect(("127.0.0.1", target)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut inside, &mut outside) => {}
                        () = is_cut.notified() => {}
                    }
                });
            }
        });
        Proxy { port, open, cut }
    }

    pub fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    pub fn heal(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}
