//! TaintNodesByCondition: a new node takes no pods until it has said that it is ready.

use super::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use meta::status::Status;
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "nodes") || a.operation != Operation::Create {
            return Ok(());
        }
        let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
        match a.object["spec"].get_mut("taints").and_then(Value::as_array_mut) {
            Some(taints) if taints.iter().any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule") => {}
            Some(taints) => taints.push(taint),
            None => a.object["spec"]["taints"] = json!([taint]),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;

    #[tokio::test]
    async fn new_nodes_are_tainted_once() {
        let node = json!({"kind":"Node","metadata":{"name":"n"}});
        let got = Write::create("", "nodes", "", node).admit(&TaintNodesByCondition).await.unwrap();
        assert_eq!(got["spec"]["taints"], json!([{"key":NOT_READY,"effect":"NoSchedule"}]));
        let again = Write::create("", "nodes", "", got.clone()).admit(&TaintNodesByCondition).await.unwrap();
        assert_eq!(again, got);
    }
}
