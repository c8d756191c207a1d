//! NamespaceLifecycle: nothing is made in a namespace that doesn't exist or is going away, and the namespaces that
//! the system needs can't be deleted.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::status::{Cause, Status};

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle {
    reader: Reader,
}

impl NamespaceLifecycle {
    pub fn new(reader: Reader) -> NamespaceLifecycle {
        NamespaceLifecycle { reader }
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if a.resource.group.is_empty() && a.resource.plural == "namespaces" {
            if a.operation == Operation::Delete && IMMORTAL.contains(&a.name) {
                return Err(Status::forbidden("", "namespaces", a.name, "this namespace may not be deleted"));
            }
            return Ok(());
        }
        let review = a.is_main("authorization.k8s.io", "localsubjectaccessreviews");
        if a.namespace.is_empty() || a.operation == Operation::Delete || review {
            return Ok(());
        }
        let Some(namespace) = self.reader.get("", "namespaces", "", a.namespace) else {
            return Err(Status::not_found("", "namespaces", a.namespace));
        };
        if a.operation == Operation::Create && namespace.value()["status"]["phase"] == "Terminating" {
            let why =
                format!("unable to create new content in namespace {} because it is being terminated", a.namespace);
            let mut status = forbidden(a, why);
            if let Some(details) = status.details.as_mut() {
                details.causes.push(Cause {
                    reason: "NamespaceTerminating".to_string(),
                    message: format!("namespace {} is being terminated", a.namespace),
                    field: "metadata.namespace".to_string(),
                });
            }
            return Err(status);
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
    async fn content_needs_a_living_namespace() {
        let ns = |name: &str, phase: &str| json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":name},"status":{"phase":phase}});
        let p = NamespaceLifecycle::new(reader(&[ns("alive", "Active"), ns("dying", "Terminating")]).await);
        let pod = || json!({"kind":"Pod","metadata":{"name":"p"}});
        assert!(Write::create("", "pods", "alive", pod()).admit(&p).await.is_ok());
        let e = Write::create("", "pods", "dying", pod()).admit(&p).await.unwrap_err();
        assert_eq!(
            e.message,
            "pods \"p\" is forbidden: unable to create new content in namespace dying because it is being terminated"
        );
        let cause = &e.details.unwrap().causes[0];
        assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("NamespaceTerminating", "metadata.namespace"));
        assert!(Write::update("", "pods", "dying", pod(), pod()).admit(&p).await.is_ok());
        assert!(Write::delete("", "pods", "dying", pod()).admit(&p).await.is_ok());
        let e = Write::create("", "pods", "none", pod()).admit(&p).await.unwrap_err();
        assert_eq!((e.code, e.message.as_str()), (404, "namespaces \"none\" not found"));
        for (name, ok) in [("default", false), ("kube-system", false), ("kube-public", false), ("alive", true)] {
            let done = Write::delete("", "namespaces", "", ns(name, "Active")).admit(&p).await;
            assert_eq!(done.is_ok(), ok, "{name}");
        }
    }
}
