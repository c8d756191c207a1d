//! PersistentVolumeClaimResize: a claim may grow only when it is bound and its class allows it.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::quantity::Quantity;
use meta::status::Status;
use serde_json::Value;

pub struct PersistentVolumeClaimResize {
    reader: Reader,
}

impl PersistentVolumeClaimResize {
    pub fn new(reader: Reader) -> PersistentVolumeClaimResize {
        PersistentVolumeClaimResize { reader }
    }
}

fn size(claim: &Value) -> Quantity {
    Quantity::from_value(&claim["spec"]["resources"]["requests"]["storage"]).unwrap_or(Quantity::ZERO)
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let Some(old) = a.old else { return Ok(()) };
        if !a.is_main("", "persistentvolumeclaims") || a.operation != Operation::Update || size(a.object) <= size(old) {
            return Ok(());
        }
        if old["status"]["phase"] != "Bound" {
            return Err(forbidden(a, "Only bound persistent volume claims can be expanded"));
        }
        let class = old["spec"]["storageClassName"].as_str().unwrap_or_default();
        let expands = !class.is_empty()
            && self
                .reader
                .get("storage.k8s.io", "storageclasses", "", class)
                .is_some_and(|c| c.value()["allowVolumeExpansion"] == true);
        if expands {
            return Ok(());
        }
        Err(forbidden(
            a,
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
             support resize",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::reader;
    use serde_json::json;

    #[tokio::test]
    async fn claims_grow_only_where_their_class_lets_them() {
        let class = |name: &str, grows: bool| json!({"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":name},"allowVolumeExpansion":grows});
        let p = PersistentVolumeClaimResize::new(reader(&[class("grows", true), class("fixed", false)]).await);
        let claim = |class: &str, size: &str, phase: &str| {
            json!({"kind":"PersistentVolumeClaim","metadata":{"name":"c"},"status":{"phase":phase},
                   "spec":{"storageClassName":class,"resources":{"requests":{"storage":size}}}})
        };
        for (class, to, phase, expected) in [
            ("grows", "2Gi", "Bound", ""),
            ("grows", "1024Mi", "Pending", ""),
            ("grows", "2Gi", "Pending", "Only bound persistent volume claims can be expanded"),
            ("fixed", "2Gi", "Bound", "must support resize"),
            ("", "2Gi", "Bound", "must support resize"),
        ] {
            let (old, new) = (claim(class, "1Gi", phase), claim(class, to, phase));
            let done = Write::update("", "persistentvolumeclaims", "d", old, new).validate(&p).await;
            let text = done.err().map(|e| e.message).unwrap_or_default();
            assert!(text.ends_with(expected) && text.is_empty() == expected.is_empty(), "{class} {to} {phase}: {text}");
        }
    }
}
