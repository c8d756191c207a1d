//! The Service `kube-system/kube-dns` and this server's EndpointSlice behind it, written through the API.

use crate::Error;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";

/// Where this server is to be found.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The cluster DNS address that kubelets write into pods' `resolv.conf`.
    pub cluster_ip: IpAddr,
    /// The address and port that [`crate::run`] listens on.
    pub server: SocketAddr,
    pub node_name: String,
}

/// Makes the Service if it is missing and this node's EndpointSlice as it should be. Idempotent. The namespace must exist.
pub async fn publish(client: &kube::Client, publication: &Publication) -> Result<(), Error> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    ensure(&services, service(publication)).await?;
    ensure(&slices, slice(publication)).await
}

/// The Service, without a selector: its slices are written by the servers themselves.
pub fn service(publication: &Publication) -> Service {
    let ip = publication.cluster_ip.to_string();
    let family = if publication.cluster_ip.is_ipv4() { "IPv4" } else { "IPv6" };
    from_json(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            // What tools look for, by upstream's habit.
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": [family], "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": publication.server.port()}, {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": publication.server.port()}],
        },
    }))
}

pub fn slice(publication: &Publication) -> EndpointSlice {
    let port = publication.server.port();
    from_json(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{NAME}-{}", publication.node_name),
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": NAME, "endpointslice.kubernetes.io/managed-by": "skiff-dns"},
        },
        "addressType": if publication.server.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [publication.server.ip()], "nodeName": publication.node_name, "conditions": {"ready": true, "serving": true, "terminating": false}}],
        "ports": [{"name": "dns", "port": port, "protocol": "UDP"}, {"name": "dns-tcp", "port": port, "protocol": "TCP"}],
    }))
}

fn from_json<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("our own literal has the shape of its type")
}

trait Same {
    /// Whether what is there already does what is wanted.
    fn same(&self, wanted: &Self) -> bool;
    fn take_over(&mut self, present: Self);
}

impl Same for Service {
    fn same(&self, wanted: &Self) -> bool {
        let essence = |s: &Service| {
            s.spec.as_ref().map(|s| {
                (
                    s.cluster_ip.clone(),
                    s.ports
                        .iter()
                        .flatten()
                        .map(|p| (p.name.clone(), p.port, p.protocol.clone(), p.target_port.clone()))
                        .collect::<Vec<_>>(),
                )
            })
        };
        essence(self) == essence(wanted)
    }
    fn take_over(&mut self, present: Self) {
        self.metadata.resource_version = present.metadata.resource_version;
    }
}

impl Same for EndpointSlice {
    fn same(&self, wanted: &Self) -> bool {
        let addresses = |s: &EndpointSlice| {
            s.endpoints.iter().flatten().map(|e| (e.addresses.clone(), e.node_name.clone())).collect::<Vec<_>>()
        };
        let ports = |s: &EndpointSlice| s.ports.iter().flatten().map(|p| (p.name.clone(), p.port)).collect::<Vec<_>>();
        addresses(self) == addresses(wanted)
            && ports(self) == ports(wanted)
            && self.metadata.labels == wanted.metadata.labels
    }
    fn take_over(&mut self, present: Self) {
        self.metadata.resource_version = present.metadata.resource_version;
    }
}

async fn ensure<K>(api: &Api<K>, mut wanted: K) -> Result<(), Error>
where
    K: kube::Resource + Same + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let name = wanted.meta().name.clone().unwrap_or_default();
    let parameters = PostParams::default();
    for _ in 0..3 {
        let written = match api.get_opt(&name).await.map_err(Box::new)? {
            Some(present) if present.same(&wanted) => return Ok(()),
            Some(present) => {
                wanted.take_over(present);
                api.replace(&name, &parameters, &wanted).await
            }
            None => api.create(&parameters, &wanted).await,
        };
        match written {
            Ok(_) => return Ok(()),
            // Someone else wrote in between: look again.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(e) => return Err(Box::new(e).into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_lead_to_the_server() {
        let mut publication = Publication {
            cluster_ip: "10.43.0.10".parse().unwrap(),
            server: "10.42.0.1:10053".parse().unwrap(),
            node_name: "n1".into(),
        };
        let (service, before) = (service(&publication), slice(&publication));
        let spec = service.spec.as_ref().unwrap();
        assert_eq!(spec.cluster_ip.as_deref(), Some("10.43.0.10"));
        // The proxy joins the two by port name and protocol.
        let ports = |i: usize| {
            let port = &before.ports.as_ref().unwrap()[i];
            (port.name.clone(), port.protocol.clone())
        };
        for (i, port) in spec.ports.as_ref().unwrap().iter().enumerate() {
            assert_eq!(ports(i), (port.name.clone(), port.protocol.clone()));
        }
        assert!(before.same(&slice(&publication)));
        publication.server.set_port(10054);
        assert!(!before.same(&slice(&publication)), "a moved server is published again");
        assert!(!service.same(&super::service(&publication)), "and so is its target port");
        assert!(service.same(&service.clone()));
    }
}
