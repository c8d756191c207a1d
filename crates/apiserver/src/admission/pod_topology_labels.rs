//! PodTopologyLabels: a pod that is bound to a node gets the node's topology labels (zone, region), so that its
//! containers can read them by the downward API. Source: KEP-4742.

use super::{Attributes, Operation, Plugin};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub struct PodTopologyLabels {
    pub reader: Reader,
}

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if a.operation != Operation::Create {
            return Ok(());
        }
        let node = if a.is("", "pods", "binding") || a.is_main("", "bindings") {
            &a.object["target"]["name"]
        } else if a.is_main("", "pods") {
            &a.object["spec"]["nodeName"]
        } else {
            return Ok(());
        };
        let Some(node) = node.as_str().filter(|n| !n.is_empty()).and_then(|n| self.reader.get("", "nodes", "", n))
        else {
            return Ok(());
        };
        let node = node.value();
        for label in LABELS {
            if let Some(v) = node["metadata"]["labels"].get(label).filter(|v| v.is_string()) {
                if !a.object["metadata"].is_object() {
                    a.object["metadata"] = Value::Object(serde_json::Map::new());
                }
                a.object["metadata"]["labels"][label] = v.clone();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::reader;
    use serde_json::json;

    #[tokio::test]
    async fn the_nodes_zone_comes_along() {
        let node =
            json!({"apiVersion":"v1","kind":"Node","metadata":{"name":"n","labels":{LABELS[0]:"z1","other":"x"}}});
        let p = PodTopologyLabels { reader: reader(&[node]).await };
        let binding = json!({"kind":"Binding","metadata":{"name":"p"},"target":{"name":"n"}});
        let got = Write::create("", "pods", "d", binding).sub("binding", "p").admit(&p).await.unwrap();
        assert_eq!(got["metadata"]["labels"], json!({LABELS[0]:"z1"}));
        let pod = json!({"metadata":{"name":"p"},"spec":{"nodeName":"none"}});
        assert_eq!(Write::create("", "pods", "d", pod.clone()).admit(&p).await.unwrap(), pod);
    }
}
