//! StorageObjectInUseProtection: volumes and claims get the finalizers that keep them while they are in use.

use super::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use meta::status::Status;
use serde_json::{Value, json};

pub struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if a.operation != Operation::Create || !a.subresource.is_empty() {
            return Ok(());
        }
        let finalizer = match (a.resource.group.as_str(), a.resource.plural.as_str()) {
            ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
            ("", "persistentvolumes") => "kubernetes.io/pv-protection",
            ("storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
            _ => return Ok(()),
        };
        match a.object["metadata"].get_mut("finalizers").and_then(Value::as_array_mut) {
            Some(list) if list.iter().any(|f| f == finalizer) => {}
            Some(list) => list.push(finalizer.into()),
            None => a.object["metadata"]["finalizers"] = json!([finalizer]),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;

    #[tokio::test]
    async fn finalizers_are_added_once() {
        for (resource, expected) in [
            ("persistentvolumeclaims", json!(["kubernetes.io/pvc-protection"])),
            ("persistentvolumes", json!(["kubernetes.io/pv-protection"])),
            ("pods", Value::Null),
        ] {
            let object = json!({"metadata":{"name":"x"}});
            let got = Write::create("", resource, "d", object).admit(&StorageObjectInUseProtection).await.unwrap();
            assert_eq!(got["metadata"]["finalizers"], expected);
            let again = Write::create("", resource, "d", got.clone()).admit(&StorageObjectInUseProtection).await;
            assert_eq!(again.unwrap(), got);
        }
    }
}
