//! Controllers: each closes one gap between what is and what should be.
//!
//! In flow shared informers; out flow writes, each under the controller's own service account. A controller is one
//! file and one row of [`CONTROLLERS`]. Inside it deciding is apart from doing: a pure `plan` looks at what is
//! observed and says what to do, and a thin driver on [`client::Queue`] does it. Nothing polls: a change, or a time that
//! the plan names, wakes a controller.

pub mod backends;
pub mod certificates;
pub mod clusterrole_aggregation;
pub mod cronjob;
pub mod daemonset;
pub mod definition;
pub mod deployment;
pub mod discovery;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
pub mod expectations;
pub mod garbage_collector;
pub mod history;
pub mod job;
pub mod namespace;
pub mod node_lifecycle;
pub mod node_match;
pub mod ownership;
pub mod pod_certificates;
pub mod pod_gc;
pub mod pods;
pub mod replicaset;
pub mod replicationcontroller;
pub mod resourcequota;
pub mod root_ca;
pub mod service_account_tokens;
pub mod service_cidrs;
pub mod serviceaccount;
pub mod statefulset;
pub mod storage_protection;
pub mod storage_version_migration;
pub mod taint_eviction;
pub mod trust_bundle_publisher;
pub mod ttl_after_finished;

use client::{Client, Informers};
use futures::future::BoxFuture;
use std::sync::Arc;
use stdx::Shutdown;
use stdx::supervisor::Supervisor;

/// The cluster's private keys, which stay with whoever keeps them: controllers may only ask for signatures.
pub trait Keys: Send + Sync {
    /// A certificate (PEM) for the names and the key of a request (PEM). Times are Unix seconds; `usages` have the
    /// names of the certificates API. An error says why the request can't be signed.
    fn sign_certificate(
        &self,
        request_pem: &str,
        usages: &[String],
        not_before: i64,
        not_after: i64,
    ) -> Result<String, String>;

    /// A certificate chain (PEM) with which a pod's key (`SubjectPublicKeyInfo`) authenticates to the API server.
    fn sign_pod_certificate(
        &self,
        key: &[u8],
        subject: &PodSubject,
        not_before: i64,
        not_after: i64,
    ) -> Result<String, String>;

    /// The token of a service account that is kept in the named Secret.
    fn sign_account_token(&self, namespace: &str, account: &str, uid: &str, secret: &str) -> Result<String, String>;
}

/// Who a pod is to the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSubject {
    /// `system:serviceaccount:<namespace>:<name>`
    pub user: String,
    pub groups: Vec<String>,
    /// The service account's.
    pub uid: String,
}

/// What every controller gets.
#[derive(Clone)]
pub struct Context {
    /// Shared reads of the whole cluster.
    pub informers: Informers,
    /// A client that writes as the service account `kube-system/<name>`, for example `deployment-controller`,
    /// whose rights are the ClusterRole `system:controller:<name>`.
    pub client_for: Arc<dyn Fn(&str) -> Client + Send + Sync>,
    /// For the `kube-root-ca.crt` ConfigMaps.
    pub root_ca_pem: String,
    pub keys: Arc<dyn Keys>,
    pub shutdown: Shutdown,
}

impl Context {
    pub fn client(&self, controller: &str) -> Client {
        (self.client_for)(controller)
    }

    /// Records events as a controller; the name is also the events' source.
    pub fn recorder(&self, controller: &str) -> client::Recorder {
        client::Recorder::new(self.client(controller), controller, "")
    }
}

/// One row per controller.
pub struct Controller {
    /// The service account that it writes as, but for taint eviction, which is the node controller's.
    pub name: &'static str,
    start: fn(Context) -> BoxFuture<'static, ()>,
}

macro_rules! controllers {
    ($($name:literal => $run:path),* $(,)?) => {
        &[$(Controller { name: $name, start: |c| Box::pin($run(c)) }),*]
    };
}

pub const CONTROLLERS: &[Controller] = controllers![
    "service-account-controller" => serviceaccount::run,
    "root-ca-cert-publisher" => root_ca::run,
    "namespace-controller" => namespace::run,
    "endpointslice-controller" => endpointslice::run,
    "endpoint-controller" => endpoints::run,
    "endpointslicemirroring-controller" => endpointslice_mirroring::run,
    "replicaset-controller" => replicaset::run,
    "deployment-controller" => deployment::run,
    "statefulset-controller" => statefulset::run,
    "node-controller" => node_lifecycle::run,
    "taint-eviction-controller" => taint_eviction::run,
    "generic-garbage-collector" => garbage_collector::run,
    "daemon-set-controller" => daemonset::run,
    "job-controller" => job::run,
    "cronjob-controller" => cronjob::run,
    "ttl-after-finished-controller" => ttl_after_finished::run,
    "replication-controller" => replicationcontroller::run,
    "pod-garbage-collector" => pod_gc::run,
    "resourcequota-controller" => resourcequota::run,
    "pvc-protection-controller" => storage_protection::run_claims,
    "pv-protection-controller" => storage_protection::run_volumes,
    "volumeattributesclass-protection-controller" => storage_protection::run_classes,
    "disruption-controller" => disruption::run,
    "clusterrole-aggregation-controller" => clusterrole_aggregation::run,
    "certificate-controller" => certificates::run,
    "tokens-controller" => service_account_tokens::run,
    "pod-certificate-signer" => pod_certificates::run_signer,
    "podcertificaterequestcleaner" => pod_certificates::run_cleaner,
    "kube-apiserver-serving-clustertrustbundle-publisher" => trust_bundle_publisher::run,
    "service-cidrs-controller" => service_cidrs::run,
    "storage-version-migrator-controller" => storage_version_migration::run,
];

/// Runs all controllers until shutdown, each as a part of its own: one that ends is started again, alone.
pub async fn run(context: Context, supervisor: Supervisor) {
    let parts = CONTROLLERS.iter().map(|controller| {
        let context = context.clone();
        supervisor.keep(controller.name, move |life| {
            let context = Context { shutdown: life.clone(), ..context.clone() };
            let work = (controller.start)(context);
            client::informer::scoped(life.clone(), async move {
                tokio::select! {
                    () = life.cancelled() => {}
                    () = work => {}
                }
                Ok::<_, std::convert::Infallible>(())
            })
        })
    });
    futures::future::join_all(parts).await;
}
