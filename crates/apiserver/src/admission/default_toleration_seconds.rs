//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or can't be reached, unless they
//! say otherwise.

use super::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use meta::status::Status;
use serde_json::{Value, json};

const TOLERATION_SECONDS: i64 = 300;

pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "pods") || !matches!(a.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let spec = &mut a.object["spec"];
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let tolerations = spec["tolerations"].as_array().map(Vec::as_slice).unwrap_or_default();
            let empty = |v: &Value| v.as_str().unwrap_or_default().is_empty();
            let covered = tolerations
                .iter()
                .any(|t| (t["key"] == key || empty(&t["key"])) && (t["effect"] == "NoExecute" || empty(&t["effect"])));
            if covered {
                continue;
            }
            let toleration = json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS});
            match spec.get_mut("tolerations").and_then(Value::as_array_mut) {
                Some(list) => list.push(toleration),
                None => spec["tolerations"] = json!([toleration]),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;

    #[tokio::test]
    async fn only_what_the_pod_does_not_say_is_added() {
        for (given, expected) in [
            (json!([]), 2),
            (json!([{"operator":"Exists"}]), 1),
            (
                json!([{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":2}]),
                2,
            ),
            (json!([{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoSchedule"}]), 3),
            (json!([{"key":"other","operator":"Exists"}]), 3),
        ] {
            let pod = json!({"kind":"Pod","metadata":{"name":"p"},"spec":{"tolerations":given}});
            let got = Write::create("", "pods", "d", pod).admit(&DefaultTolerationSeconds).await.unwrap();
            assert_eq!(got["spec"]["tolerations"].as_array().unwrap().len(), expected, "{given}");
        }
    }
}
