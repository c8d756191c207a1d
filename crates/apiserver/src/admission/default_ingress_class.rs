//! DefaultIngressClass: an ingress that names no class gets the default one.

use super::default_storage_class::newest_default;
use super::{Attributes, Operation, Plugin};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::status::Status;

const GROUP: &str = "networking.k8s.io";
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

pub struct DefaultIngressClass {
    reader: Reader,
}

impl DefaultIngressClass {
    pub fn new(reader: Reader) -> DefaultIngressClass {
        DefaultIngressClass { reader }
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !a.is_main(GROUP, "ingresses") || a.operation != Operation::Create {
            return Ok(());
        }
        let chosen = !a.object["spec"]["ingressClassName"].is_null()
            || !a.object["metadata"]["annotations"]["kubernetes.io/ingress.class"].is_null();
        if !chosen && let Some(name) = newest_default(&self.reader, GROUP, "ingressclasses", &[DEFAULT])? {
            a.object["spec"]["ingressClassName"] = name.into();
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
    async fn an_ingress_without_a_class_gets_the_default() {
        let class = json!({"apiVersion":"networking.k8s.io/v1","kind":"IngressClass",
                           "metadata":{"name":"skiff","annotations":{DEFAULT:"true"}}});
        let p = DefaultIngressClass::new(reader(&[class]).await);
        let ingress = |v| json!({"kind":"Ingress","metadata":{"name":"i","annotations":v},"spec":{}});
        let got = Write::create(GROUP, "ingresses", "d", ingress(json!({}))).admit(&p).await.unwrap();
        assert_eq!(got["spec"]["ingressClassName"], "skiff");
        let old = ingress(json!({"kubernetes.io/ingress.class":"x"}));
        let got = Write::create(GROUP, "ingresses", "d", old).admit(&p).await.unwrap();
        assert!(got["spec"]["ingressClassName"].is_null());
    }
}
