//! The control plane: PKI, store, API server, controllers, scheduler.

use crate::auth::Auth;
use crate::config::ServerArgs;
use crate::layout::Layout;
use crate::server::Host;
use crate::{renewal, supervision, version};
use anyhow::{Context, Result, anyhow};
use apiserver::authn::User;
use apiserver::authn::service_account::legacy;
use apiserver::draining::Draining;
use apiserver::encryption::Encryption;
use apiserver::pki::{Pki, PkiOptions, ServingCert};
use apiserver::reader::Reader;
use apiserver::registry::{Catalogue, Registry};
use apiserver::server::Server;
use apiserver::services::{self, ServiceAddresses};
use apiserver::{
    admission, aggregation, authz, bootstrap, custom, flow, health, metrics, openapi, outbound, pki, proxying, tokens,
    traces,
};
use arc_swap::ArcSwap;
use client::{Client, Informers};
use k8s_openapi::api::core::v1::Node;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use stdx::Shutdown;
use stdx::supervisor::Supervisor;
use store::Store;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing::info;

#[derive(Clone)]
pub struct ControlPlane {
    inner: Arc<Inner>,
}

struct Inner {
    pub server: Arc<Server>,
    pub pki: Arc<Pki>,
    kubelet_certificate: Arc<ServingCert>,
    store: Arc<dyn Store>,
    informers: Informers,
    /// Cancelled when the API server's loop has ended.
    cut: Shutdown,
    tasks: parking_lot::Mutex<Vec<JoinHandle<()>>>,
    /// Cancelled when nobody asks any more, so that the last audit events are sent.
    audit_end: Shutdown,
    audit_tasks: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

impl ControlPlane {
    pub async fn start(
        args: &ServerArgs,
        layout: &Layout,
        host: &Host,
        listener: TcpListener,
        shutdown: Shutdown,
        supervisor: &Supervisor,
    ) -> Result<ControlPlane> {
        let encryption = args.encryption.open(layout).await?;
        let store = open_store(args, layout, encryption.as_ref()).await?;
        let service_ip = args.service_address(1)?;
        let advertised = args.advertise_address.unwrap_or(host.node_ip);
        let port = listener.local_addr()?.port();
        let names = PkiOptions {
            node_name: host.node_name.clone(),
            node_ips: vec![host.node_ip, advertised],
            service_ip,
            cluster_domain: args.cluster_domain.clone(),
            extra_sans: args.tls_san.clone(),
        };
        let (pki_dir, life) = (layout.pki(), args.certificate_lifetime.as_secs() as i64);
        let make = move |now: i64| {
            Pki::load_or_create_living(&pki_dir, &names, life, now).context("failed to make the cluster's certificates")
        };
        let pki = make(jiff::Timestamp::now().as_second())?;
        let pki = Arc::new(pki);
        write_kubeconfig(args, layout, &pki, port)?;

        let reader = Reader::new(store.clone());
        let outbound = outbound::Client::new(reader.clone());
        let issuer = format!("https://kubernetes.default.svc.{}", args.cluster_domain);
        let Auth { authn, tokens, authz, rbac, legacy_uses } =
            args.auth.build(&pki, &reader, &outbound, &issuer, &shutdown).await?;
        metrics::figures::serving_as(&bootstrap::identity::lease_name(&host.node_name));
        let metrics = metrics::Metrics::default();
        let admission_config = admission::config::Config::load(
            &args.enable_admission_plugins,
            &args.disable_admission_plugins,
            args.admission_control_config_file.as_deref(),
        )?;
        let registry = Registry {
            store: store.clone(),
            encryption: encryption.clone(),
            catalogue_changed: Default::default(),
            watching: Default::default(),
            catalogue: ArcSwap::from_pointee(Catalogue::new(api::catalogue::builtin())),
            custom: custom::Custom::new(outbound.clone()),
            admission: admission::chain(&admission::Parts {
                config: &admission_config,
                reader: &reader,
                authorizer: &(authz.clone() as Arc<dyn authz::Authorizer>),
                rbac: &rbac,
                outbound: &outbound,
                webhook_metrics: &metrics.webhooks,
            })?,
            addresses: ServiceAddresses::new(
                store.clone(),
                vec![args.service_cidr],
                args.service_node_port_range.0..=args.service_node_port_range.1,
            ),
        };
        registry.addresses.repair().await.map_err(|s| anyhow!("failed to check service addresses: {s}"))?;

        let draining = Draining::new(args.shutdown_send_retry_after);
        let health = health::Health::new(draining.clone());
        for check in ["poststarthook/rbac/bootstrap-roles", "informer-sync"] {
            health.expect(check);
        }
        let audit_end = Shutdown::new();
        let (audit, mut audit_tasks) = args.audit.open(&outbound, &audit_end)?;
        let traces = match &args.tracing_config_file {
            None => traces::Traces::default(),
            Some(path) => {
                let text = crate::auth::read(path, "tracing-config-file")?;
                let config = traces::Config::parse(&text)
                    .map_err(|e| anyhow!("--tracing-config-file={}: {e}", path.display()))?;
                let (traces, task) = traces::Traces::open(config, audit_end.clone());
                audit_tasks.push(task);
                traces
            }
        };
        let server = Arc::new(Server {
            registry,
            audit,
            traces,
            authn,
            authz,
            rbac,
            tokens: tokens.clone(),
            outbound: outbound.clone(),
            proxy: proxying::Proxy::new(outbound.clone(), &pki.ca.cert_pem, &pki.apiserver_kubelet_client),
            aggregator: aggregation::Aggregator::new(
                reader.clone(),
                outbound.clone(),
                Arc::new(pki.front_proxy_client.clone()),
            ),
            flow: flow::Flow::new(&flow_options(args), store.clone()),
            draining,
            request_timeout: args.request_timeout,
            health,
            metrics,
            openapi: openapi::Cache::default(),
            version: version::info(),
            about: apiserver::zpages::About { started: jiff::Timestamp::now(), flags: args.flags.clone() },
            advertised: format!("{advertised}:{port}"),
        });
        server.answer_own_webhooks();

        let options = bootstrap::Options {
            advertise_addresses: vec![advertised],
            secure_port: port,
            service_ip,
            service_cidrs: vec![args.service_cidr.to_string()],
            client_ca_pem: args.auth.with_own(&pki.ca.cert_pem, &args.auth.client_ca_file, "client-ca-file")?,
            front_proxy_ca_pem: pki.front_proxy_ca.cert_pem.clone(),
        };
        // Custom resources are served before anybody can ask for them.
        custom::controller::Controller::load(&server).context("failed to read custom resources")?;
        let defining = server.clone();
        let mut tasks = vec![supervisor.keep("custom-resources", move |life| {
            let server = defining.clone();
            async move {
                custom::controller::Controller::load(&server)?.run(life).await;
                Ok::<_, store::Error>(())
            }
        })];
        bootstrap::ensure(&server, &options)
            .await
            .map_err(|s| anyhow!("failed to make the cluster's first objects: {s}"))?;
        let kept = server.clone();
        tasks.push(supervisor.keep("first-objects", move |life| {
            let (server, options) = (kept.clone(), options.clone());
            async move {
                bootstrap::keep(server, options, life).await;
                Ok::<_, std::convert::Infallible>(())
            }
        }));
        let (present, hostname) = (server.clone(), host.node_name.clone());
        tasks.push(supervisor.keep("identity-lease", move |life| {
            let (server, hostname) = (present.clone(), hostname.clone());
            async move {
                bootstrap::identity::keep(server, hostname, life).await;
                Ok::<_, std::convert::Infallible>(())
            }
        }));
        let (repaired, hostname) = (server.clone(), host.node_name.clone());
        tasks.push(supervisor.keep("service-addresses", move |life| {
            let (server, hostname) = (repaired.clone(), hostname.clone());
            async move {
                services::repair::keep(server, hostname, life).await;
                Ok::<_, std::convert::Infallible>(())
            }
        }));
        server.health.set_ready("poststarthook/rbac/bootstrap-roles", Ok(()));
        server.health.set_ready("informer-sync", Ok(()));

        let (cert, kubelet_certificate) = (ServingCert::new(&pki.apiserver)?, ServingCert::new(&pki.kubelet_server)?);
        let tls = Arc::new(pki.server_config(cert.clone())?);
        let users = renewal::Users { server: server.clone(), apiserver: cert, kubelet: kubelet_certificate.clone() };
        let (own_args, own_layout) = (args.clone(), layout.clone());
        let renew = move |now: i64| {
            let pki = make(now)?;
            write_kubeconfig(&own_args, &own_layout, &pki, port)?;
            Ok(pki)
        };
        let renewing = renewal::run(pki.renew_at(), renew, users, shutdown.clone());
        let (serving, cut) = (server.clone().serve(listener, tls), Shutdown::new());
        let guard = cut.clone().drop_guard();
        tasks.push(tokio::spawn(async move {
            let _guard = guard;
            serving.await;
        }));
        let aggregating = server.clone();
        tasks.push(supervisor.keep("aggregator", move |life| {
            let server = aggregating.clone();
            async move {
                aggregation::run(server, life).await;
                Ok::<_, std::convert::Infallible>(())
            }
        }));
        if let Some(encryption) = encryption {
            let keeping = args.encryption.clone().keep(layout.clone(), encryption, server.clone(), shutdown.clone());
            tasks.push(tokio::spawn(keeping));
        }
        let guarded = server.clone();
        tasks.push(supervisor.keep("priority and fairness", move |life| {
            let server = guarded.clone();
            async move {
                flow::keeper::run(server, life).await;
                Ok::<_, std::convert::Infallible>(())
            }
        }));
        tasks.push(tokio::spawn(renewing));
        tasks.push(tokio::spawn(legacy::record_uses(server.clone(), legacy_uses, shutdown.clone())));
        let checking = server.clone();
        tasks.push(supervisor.keep("policy-type-checking", move |life| {
            let server = checking.clone();
            async move {
                admission::policies::type_checking::run(server, life).await;
                Ok::<_, std::convert::Infallible>(())
            }
        }));

        // What the control plane's own parts read, they share.
        let manager = local_client(&server, "system:kube-controller-manager", &[]);
        let recorder = client::Recorder::new(manager.clone(), "skiff", &host.node_name);
        supervision::publish(supervisor, &server, recorder, &host.node_name);
        let informers = Informers::new(manager, shutdown.clone());
        if !args.disabled("controllers") {
            let writer = server.clone();
            let context = controllers::Context {
                informers: informers.clone(),
                client_for: Arc::new(move |name: &str| {
                    local_client(
                        &writer,
                        &format!("system:serviceaccount:kube-system:{name}"),
                        &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
                    )
                }),
                root_ca_pem: pki.ca.cert_pem.clone(),
                keys: Arc::new(SigningKeys { pki: pki.clone(), tokens }),
                shutdown: shutdown.clone(),
            };
            tasks.push(tokio::spawn(controllers::run(context, supervisor.clone())));
        }
        if !args.disabled("scheduler") {
            let informers = informers.with_client(local_client(&server, "system:kube-scheduler", &[]));
            tasks.push(supervisor.keep("scheduler", move |life| {
                let work = scheduler::run(informers.clone(), scheduler::Options::default(), life.clone());
                client::informer::scoped(life, async move {
                    work.await;
                    Ok::<_, std::convert::Infallible>(())
                })
            }));
        }
        Ok(ControlPlane {
            inner: Arc::new(Inner {
                server,
                pki,
                kubelet_certificate,
                store,
                informers,
                cut,
                tasks: parking_lot::Mutex::new(tasks),
                audit_end,
                audit_tasks: parking_lot::Mutex::new(audit_tasks),
            }),
        })
    }

    /// What this machine's kubelet shows; it is replaced when it is renewed.
    pub fn kubelet_certificate(&self) -> Arc<ServingCert> {
        self.inner.kubelet_certificate.clone()
    }

    pub fn pki(&self) -> &Pki {
        &self.inner.pki
    }

    pub fn informers(&self) -> &Informers {
        &self.inner.informers
    }

    /// A client for a component of this process.
    pub fn client(&self, user: &str, groups: &[&str]) -> Client {
        local_client(&self.inner.server, user, groups)
    }

    /// Labels this machine's node as one that runs the control plane. A kubelet may not do that itself
    /// (NodeRestriction).
    pub async fn mark_control_plane(self, name: String, shutdown: Shutdown) {
        const LABEL: &str = "node-role.kubernetes.io/control-plane";
        let (send, mut receive) = tokio::sync::watch::channel(false);
        let own = name.clone();
        self.inner.informers.of::<Node>().on_change(move |c| {
            let labelled = c.object().metadata.labels.as_ref().is_some_and(|l| l.contains_key(LABEL));
            if c.object().metadata.name.as_deref() == Some(&own) && !labelled {
                send.send_replace(true);
            }
        });
        tokio::select! {
            _ = shutdown.cancelled() => return,
            _ = receive.wait_for(|r| *r) => {}
        }
        let nodes: kube::Api<Node> = kube::Api::all(self.client("system:apiserver", &["system:masters"]));
        let patch = kube::api::Patch::Merge(serde_json::json!({"metadata": {"labels": {LABEL: "true"}}}));
        if let Err(e) = nodes.patch(&name, &Default::default(), &patch).await {
            tracing::warn!(node = name, error = %e, "the control-plane label could not be set");
        }
    }

    pub async fn wait_node_ready(&self, name: &str) {
        let nodes = self.inner.informers.of::<Node>();
        let (send, mut receive) = tokio::sync::watch::channel(false);
        let name = name.to_string();
        nodes.on_change(move |c| {
            let n = c.object();
            let ready = n
                .status
                .as_ref()
                .and_then(|s| s.conditions.as_ref())
                .is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
            if n.metadata.name.as_deref() == Some(&name) && ready {
                send.send_replace(true);
            }
        });
        let _ = receive.wait_for(|r| *r).await;
    }

    /// Waits until the API server serves no more, which it shouldn't do by itself.
    pub async fn cut(&self) {
        self.inner.cut.cancelled().await;
    }

    /// Tells load balancers that this server is about to stop: `/readyz` fails from now on.
    pub fn announce_stop(&self) {
        self.inner.server.draining.announce();
    }

    /// Ends watches and takes no new connections, waits for open requests and for tasks that were told to stop, then
    /// closes the store.
    pub async fn stopped(&self) {
        self.inner.server.draining.begin();
        let tasks: Vec<_> = self.inner.tasks.lock().drain(..).collect();
        for t in tasks {
            let _ = tokio::time::timeout(std::time::Duration::from_secs(6), t).await;
        }
        self.inner.audit_end.cancel();
        let tasks: Vec<_> = self.inner.audit_tasks.lock().drain(..).collect();
        for t in tasks {
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), t).await;
        }
        self.inner.store.shutdown().await;
    }
}

/// What controllers may have signed.
struct SigningKeys {
    pki: Arc<Pki>,
    tokens: Arc<tokens::TokenIssuer>,
}

impl controllers::Keys for SigningKeys {
    fn sign_certificate(
        &self,
        request_pem: &str,
        usages: &[String],
        not_before: i64,
        not_after: i64,
    ) -> Result<String, String> {
        self.pki.ca.sign_request(request_pem, &pki::signing::Grant { usages: usages.to_vec(), not_before, not_after })
    }

    fn sign_pod_certificate(
        &self,
        key: &[u8],
        subject: &controllers::PodSubject,
        not_before: i64,
        not_after: i64,
    ) -> Result<String, String> {
        let usages = vec!["digital signature".into(), "client auth".into()];
        let subject = pki::signing::Subject {
            common_name: subject.user.clone(),
            organizations: subject.groups.clone(),
            uid: subject.uid.clone(),
        };
        self.pki.ca.sign_key(key, &subject, &pki::signing::Grant { usages, not_before, not_after })
    }

    fn sign_account_token(&self, namespace: &str, account: &str, uid: &str, secret: &str) -> Result<String, String> {
        let account = tokens::Ref { name: account.to_string(), uid: uid.to_string() };
        self.tokens.sign_legacy(namespace, &account, secret).map_err(|e| e.to_string())
    }
}

fn local_client(server: &Arc<Server>, user: &str, groups: &[&str]) -> Client {
    Client::new(server.local(User::new(user, groups)), "default")
}

fn flow_options(args: &ServerArgs) -> flow::Options {
    flow::Options {
        fair: args.enable_priority_and_fairness,
        reading: args.max_requests_inflight,
        mutating: args.max_mutating_requests_inflight,
        request_timeout: args.request_timeout,
    }
}

async fn open_store(
    args: &ServerArgs,
    layout: &Layout,
    encryption: Option<&Arc<Encryption>>,
) -> Result<Arc<dyn Store>> {
    let transformer = encryption.map(|e| e.clone() as Arc<dyn store::Transformer>);
    let Some(endpoints) = &args.datastore_endpoint else {
        let options = store::embedded::Options {
            history_window: args.etcd_compaction_interval,
            transformer,
            ..store::embedded::Options::new(layout.store())
        };
        return tokio::task::spawn_blocking(move || store::embedded::open(options)).await?.map_err(|e| {
            let next = match &e {
                store::Error::InUse(_) => "; stop that one, or choose another --data-dir",
                store::Error::Corrupt(_) => "; restore a copy of the data directory, or start with an empty --data-dir",
                _ => "",
            };
            anyhow!("failed to open the store in {}: {e}{next}", layout.store().display())
        });
    };
    let read = |p: &Option<std::path::PathBuf>| -> Result<Option<Vec<u8>>> {
        p.as_ref().map(|p| std::fs::read(p).with_context(|| format!("failed to read {}", p.display()))).transpose()
    };
    info!(endpoints, "using etcd");
    store::etcd::open(store::etcd::EtcdOptions {
        endpoints: endpoints.split(',').map(String::from).collect(),
        ca: read(&args.datastore_cafile)?,
        cert: read(&args.datastore_certfile)?,
        key: read(&args.datastore_keyfile)?,
        history_window: args.etcd_compaction_interval,
        transformer,
        ..Default::default()
    })
    .await
    .map_err(|e| {
        let why = match e {
            store::Error::Unavailable(why) | store::Error::Unknown(why) => why,
            e => e.to_string(),
        };
        anyhow!("failed to reach the datastore {endpoints}: {why}; see --datastore-endpoint")
    })
}

fn write_kubeconfig(args: &ServerArgs, layout: &Layout, p: &Pki, port: u16) -> Result<()> {
    let host = match args.bind_address {
        ip if ip.is_unspecified() => "127.0.0.1".to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    let text = pki::kubeconfig(&format!("https://{host}:{port}"), &p.ca.cert_pem, &p.admin.cert_pem, &p.admin.key_pem);
    pki::write(&layout.pki().join("admin.kubeconfig"), &text)?;
    let path = args.write_kubeconfig.clone().unwrap_or_else(|| layout.kubeconfig.clone());
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    pki::write(&path, &text).with_context(|| format!("failed to write the kubeconfig {}", path.display()))?;
    let mode = u32::from_str_radix(&args.write_kubeconfig_mode, 8)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("failed to set the mode of {}", path.display()))
}
