//! What all pod workers share.

use super::registry::Registry;
use crate::events::Recorder;
use crate::images::Images;
use crate::node::machine::Machine;
use crate::objects::Objects;
use crate::services::Services;
use crate::{Error, KubeletOptions};
use cri::{ImageService, RuntimeService};
use kube::Client;
use std::sync::Arc;
use stdx::Shutdown;
use tokio_util::task::TaskTracker;

pub struct Context {
    pub client: Client,
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Images,
    pub recorder: Recorder,
    pub objects: Objects,
    pub services: Services,
    pub options: KubeletOptions,
    pub machine: Machine,
    pub cgroups: Option<sys::cgroup::Manager>,
    pub registry: Arc<Registry>,
    /// Scheme of container ids.
    pub runtime_name: String,
    pub runtime_version: String,
    pub host_ips: Vec<String>,
    pub cluster_dns: Vec<String>,
    /// The pods' workers: a kubelet hasn't stopped before they have.
    pub workers: TaskTracker,
    pub shutdown: Shutdown,
}

impl Context {
    pub async fn new(
        client: Client,
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
        options: KubeletOptions,
        shutdown: Shutdown,
    ) -> Result<Arc<Context>, Error> {
        let version = runtime.version().await?;
        let recorder = Recorder::new(client.clone(), crate::events::COMPONENT, &options.node_name);
        let registry = Arc::new(Registry::default());
        let wake = registry.clone();
        let objects =
            Objects::new(client.clone(), Arc::new(move |uids: &[String]| wake.objects_changed(uids)), shutdown.clone());
        let cgroups = match &options.cgroup_root {
            Some(root) => Some(sys::cgroup::Manager::detect(root)?),
            None => None,
        };
        Ok(Arc::new(Context {
            services: Services::start(client.clone(), shutdown.clone()),
            images: Images::new(images, recorder.clone()),
            machine: Machine::read().map_err(Error::Machine)?,
            host_ips: options.node_ips.iter().map(ToString::to_string).collect(),
            cluster_dns: options.cluster_dns.iter().map(ToString::to_string).collect(),
            runtime_name: version.runtime_name,
            runtime_version: version.runtime_version,
            client,
            runtime,
            recorder,
            objects,
            options,
            cgroups,
            registry,
            workers: TaskTracker::new(),
            shutdown,
        }))
    }

    /// The node's resolver configuration, read each time: it changes with the network.
    pub fn host_dns(&self) -> cri::DnsConfig {
        crate::container::dns::parse(&std::fs::read_to_string(&self.options.resolv_conf).unwrap_or_default())
    }
}
