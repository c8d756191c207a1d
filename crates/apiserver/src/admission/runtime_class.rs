//! RuntimeClass: gives a pod the overhead and the scheduling constraints of its runtime class.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::{Value, json};

pub struct RuntimeClass {
    reader: Reader,
}

impl RuntimeClass {
    pub fn new(reader: Reader) -> RuntimeClass {
        RuntimeClass { reader }
    }

    /// Null when the pod asks for none.
    fn class_of(&self, a: &Attributes<'_>) -> Result<Value, Status> {
        match a.object["spec"]["runtimeClassName"].as_str().filter(|n| !n.is_empty()) {
            None => Ok(Value::Null),
            Some(name) => match self.reader.get("node.k8s.io", "runtimeclasses", "", name) {
                Some(class) => Ok(class.value().as_ref().clone()),
                None => Err(forbidden(a, format!("pod rejected: RuntimeClass {name:?} not found"))),
            },
        }
    }
}

fn applies(a: &Attributes<'_>) -> bool {
    a.is_main("", "pods") && a.operation == Operation::Create
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !applies(a) {
            return Ok(());
        }
        let class = self.class_of(a)?;
        let overhead = &class["overhead"]["podFixed"];
        if !overhead.is_null() {
            let given = &a.object["spec"]["overhead"];
            if !given.is_null() && given != overhead {
                return Err(forbidden(a, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"));
            }
            a.object["spec"]["overhead"] = overhead.clone();
        }
        let scheduling = &class["scheduling"];
        for (key, wanted) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
            let given = &a.object["spec"]["nodeSelector"][key];
            if !given.is_null() && given != wanted {
                let (want, have) = (wanted.as_str().unwrap_or_default(), given.as_str().unwrap_or_default());
                return Err(forbidden(
                    a,
                    format!(
                        "pod rejected: conflict: runtimeClass.scheduling.nodeSelector[{key}] = {want}; \
                         pod.spec.nodeSelector[{key}] = {have}"
                    ),
                ));
            }
            a.object["spec"]["nodeSelector"][key] = wanted.clone();
        }
        for toleration in scheduling["tolerations"].as_array().into_iter().flatten() {
            match a.object["spec"].get_mut("tolerations").and_then(Value::as_array_mut) {
                Some(list) if list.contains(toleration) => {}
                Some(list) => list.push(toleration.clone()),
                None => a.object["spec"]["tolerations"] = json!([toleration]),
            }
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if !applies(a) || a.object["spec"]["overhead"].is_null() {
            return Ok(());
        }
        if self.class_of(a)?["overhead"]["podFixed"].is_null() {
            return Err(forbidden(
                a,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::reader;

    #[tokio::test]
    async fn a_class_brings_overhead_and_constraints() {
        let class = json!({"apiVersion":"node.k8s.io/v1","kind":"RuntimeClass","metadata":{"name":"vm"},"handler":"vm",
            "overhead":{"podFixed":{"cpu":"250m"}},
            "scheduling":{"nodeSelector":{"vm":"yes"},"tolerations":[{"key":"vm","operator":"Exists"}]}});
        let p = RuntimeClass::new(reader(&[class]).await);
        let ask = |spec: Value| {
            Write::create("", "pods", "d", json!({"kind":"Pod","metadata":{"name":"p"},"spec":spec})).run(&p)
        };
        let spec = ask(json!({"runtimeClassName":"vm","nodeSelector":{"a":"b"}})).await.unwrap()["spec"].clone();
        assert_eq!(spec["overhead"], json!({"cpu":"250m"}));
        assert_eq!(spec["nodeSelector"], json!({"a":"b","vm":"yes"}));
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 1);
        for (spec, expected) in [
            (json!({"runtimeClassName":"none"}), "pod rejected: RuntimeClass \"none\" not found"),
            (json!({"runtimeClassName":"vm","overhead":{"cpu":"1"}}), "doesn't match RuntimeClass's defined Overhead"),
            (json!({"overhead":{"cpu":"1"}}), "Pod Overhead set without corresponding RuntimeClass defined Overhead"),
            (
                json!({"runtimeClassName":"vm","nodeSelector":{"vm":"no"}}),
                "runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
            ),
        ] {
            let e = ask(spec).await.unwrap_err();
            assert!(e.code == 403 && e.message.ends_with(expected), "{e}");
        }
    }
}
