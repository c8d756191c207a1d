//! NamespaceAutoProvision: a namespace that is written into and doesn't exist is made. Off by default.

use super::{Attributes, Operation, Plugin};
use crate::reader::{Reader, key};
use async_trait::async_trait;
use meta::status::Status;
use serde_json::json;

pub struct NamespaceAutoProvision {
    pub reader: Reader,
}

#[async_trait]
impl Plugin for NamespaceAutoProvision {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        let of_namespaces = a.resource.group.is_empty() && a.resource.plural == "namespaces";
        let there = || self.reader.get("", "namespaces", "", a.namespace).is_some();
        if a.dry_run || a.operation != Operation::Create || a.namespace.is_empty() || of_namespaces || there() {
            return Ok(());
        }
        let name = a.namespace;
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "uid": uuid(),
                "creationTimestamp": crate::registry::create::now_seconds(),
                "labels": {"kubernetes.io/metadata.name": name},
            },
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        let bytes = serde_json::to_vec(&namespace).map_err(Status::internal)?;
        // Another may have made it first; then it is there all the same.
        self.reader
            .store()
            .create(&key("", "namespaces", "", name), bytes.into(), None)
            .await
            .map_err(Status::internal)?;
        Ok(())
    }
}

/// RFC 9562, version 4.
fn uuid() -> String {
    let mut b: [u8; 16] = rand::random();
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|x| format!("{x:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::reader;

    #[tokio::test]
    async fn a_missing_namespace_is_made() {
        let p = NamespaceAutoProvision { reader: reader(&[]).await };
        let write = || Write::create("", "configmaps", "fresh", json!({"metadata":{"name":"c"}}));
        write().admit(&p).await.unwrap();
        write().admit(&p).await.unwrap();
        let made = p.reader.get("", "namespaces", "", "fresh").unwrap().value();
        assert_eq!((&made["status"]["phase"], made["metadata"]["uid"].as_str().unwrap().len()), (&json!("Active"), 36));
    }
}
