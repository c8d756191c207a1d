//! DefaultStorageClass: a claim that names no class gets the default one.

use super::{Attributes, Operation, Plugin};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;

const DEFAULT: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub struct DefaultStorageClass {
    reader: Reader,
}

impl DefaultStorageClass {
    pub fn new(reader: Reader) -> DefaultStorageClass {
        DefaultStorageClass { reader }
    }
}

/// Of several objects marked as default by one of the annotations: the newest, then the first by name.
pub(super) fn newest_default(
    reader: &Reader,
    group: &str,
    resource: &str,
    annotations: &[&str],
) -> Result<Option<String>, Status> {
    let created = |v: &Value| v["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_string();
    let name = |v: &Value| v["metadata"]["name"].as_str().unwrap_or_default().to_string();
    let objects = reader.list(group, resource, "")?;
    let mut marked: Vec<(String, String)> = objects
        .iter()
        .map(|o| o.value())
        .filter(|v| annotations.iter().any(|a| v["metadata"]["annotations"][*a] == "true"))
        .map(|v| (created(&v), name(&v)))
        .collect();
    marked.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    Ok(marked.into_iter().next().map(|(_, name)| name))
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        let new_claim = a.is_main("", "persistentvolumeclaims") && a.operation == Operation::Create;
        // An empty class is a choice: no dynamic provisioning.
        let chosen = !a.object["spec"]["storageClassName"].is_null()
            || !a.object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].is_null();
        if new_claim
            && !chosen
            && let Some(name) = newest_default(&self.reader, "storage.k8s.io", "storageclasses", DEFAULT)?
        {
            a.object["spec"]["storageClassName"] = name.into();
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
    async fn the_newest_default_is_taken_unless_one_is_named() {
        let class = |name: &str, at: &str, default: &str| {
            json!({"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":name,
                   "creationTimestamp":at,"annotations":{DEFAULT[0]:default}}})
        };
        let r = reader(&[
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("z-new", "2026-01-02T00:00:00Z", "true"),
            class("a-new", "2026-01-02T00:00:00Z", "true"),
            class("newest", "2026-01-03T00:00:00Z", "false"),
        ])
        .await;
        let p = DefaultStorageClass::new(r);
        for (spec, expected) in [
            (json!({}), json!("a-new")),
            (json!({"storageClassName":""}), json!("")),
            (json!({"storageClassName":"x"}), json!("x")),
        ] {
            let claim = json!({"kind":"PersistentVolumeClaim","metadata":{"name":"c"},"spec":spec});
            let got = Write::create("", "persistentvolumeclaims", "d", claim).admit(&p).await.unwrap();
            assert_eq!(got["spec"]["storageClassName"], expected);
        }
    }
}
