//! PodTolerationRestriction: a namespace's annotations, or the cluster's configuration, give pods tolerations and bound
//! which they may have. Off by default.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::quantity::Quantity;
use meta::status::Status;
use serde_json::{Value, json};

const DEFAULT: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const WHITELIST: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

pub struct PodTolerationRestriction {
    reader: Reader,
    default: Vec<Value>,
    whitelist: Vec<Value>,
}

fn list(v: &Value) -> Vec<Value> {
    v.as_array().cloned().unwrap_or_default()
}

fn text<'a>(t: &'a Value, key: &str) -> &'a str {
    t[key].as_str().unwrap_or_default()
}

/// Whether `wide` tolerates all that `narrow` does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    let exists = |t: &Value| text(t, "operator") == "Exists";
    let key_fits = text(wide, "key").is_empty() && exists(wide) || text(wide, "key") == text(narrow, "key");
    let effect_fits = text(wide, "effect").is_empty() || text(wide, "effect") == text(narrow, "effect");
    let value_fits = exists(wide) || !exists(narrow) && text(wide, "value") == text(narrow, "value");
    let seconds = |t: &Value| t["tolerationSeconds"].as_i64();
    let time_fits = match (seconds(wide), seconds(narrow)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(w), Some(n)) => n <= w,
    };
    key_fits && effect_fits && value_fits && time_fits
}

/// One of the two contradicts the other: same key and effect, another value.
fn conflicts(a: &Value, b: &Value) -> bool {
    text(a, "key") == text(b, "key")
        && text(a, "effect") == text(b, "effect")
        && a != b
        && !covers(a, b)
        && !covers(b, a)
}

fn best_effort(pod: &Value) -> bool {
    let mut containers =
        ["containers", "initContainers"].iter().flat_map(|l| pod["spec"][*l].as_array().into_iter().flatten());
    let asks = |c: &Value| {
        ["requests", "limits"].iter().any(|f| {
            ["cpu", "memory"].iter().any(|n| Quantity::from_value(&c["resources"][*f][*n]).is_ok_and(|q| q.sign() > 0))
        })
    };
    !containers.any(asks)
}

impl PodTolerationRestriction {
    pub fn new(reader: Reader, configuration: &Value) -> PodTolerationRestriction {
        PodTolerationRestriction {
            reader,
            default: list(&configuration["default"]),
            whitelist: list(&configuration["whitelist"]),
        }
    }

    /// A namespace's own list, even an empty one, stands before the cluster's.
    fn of(&self, namespace: &str, annotation: &str, cluster: &[Value]) -> Result<Vec<Value>, Status> {
        let ns = self.reader.get("", "namespaces", "", namespace).map(|n| n.value());
        let given = ns.as_ref().and_then(|n| n["metadata"]["annotations"][annotation].as_str());
        match given {
            None => Ok(cluster.to_vec()),
            Some("") => Ok(Vec::new()),
            Some(json) => serde_json::from_str(json).map_err(|e| Status::bad_request(e.to_string())),
        }
    }
}

#[async_trait]
impl Plugin for PodTolerationRestriction {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "pods") || !matches!(a.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let own = list(&a.object["spec"]["tolerations"]);
        let given = match a.operation {
            Operation::Create => self.of(a.namespace, DEFAULT, &self.default)?,
            _ => Vec::new(),
        };
        if given.iter().any(|g| own.iter().any(|o| conflicts(g, o))) {
            return Err(forbidden(a, "namespace tolerations and pod tolerations conflict"));
        }
        let mut all: Vec<Value> = Vec::new();
        for t in given.into_iter().chain(own) {
            if !all.iter().any(|have| covers(have, &t)) {
                all.retain(|have| !covers(&t, have));
                all.push(t);
            }
        }
        if !best_effort(a.object) {
            let pressure = json!({"key": MEMORY_PRESSURE, "operator": "Exists", "effect": "NoSchedule"});
            if !all.iter().any(|have| covers(have, &pressure)) {
                all.push(pressure);
            }
        }
        a.object["spec"]["tolerations"] = all.into();
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "pods") || !matches!(a.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let allowed = self.of(a.namespace, WHITELIST, &self.whitelist)?;
        let own = list(&a.object["spec"]["tolerations"]);
        let ours = |t: &Value| text(t, "key") == MEMORY_PRESSURE;
        if !allowed.is_empty() && own.iter().any(|t| !ours(t) && !allowed.iter().any(|w| covers(w, t))) {
            let why = "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist";
            return Err(forbidden(a, why));
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
    async fn tolerations_are_given_and_bounded() {
        let ns = json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"d","annotations":{
            DEFAULT:"[{\"key\":\"team\",\"operator\":\"Equal\",\"value\":\"a\",\"effect\":\"NoSchedule\"}]",
            WHITELIST:"[{\"key\":\"team\",\"operator\":\"Exists\"},{\"key\":\"gpu\",\"operator\":\"Exists\",\"tolerationSeconds\":60}]"}}});
        let p = PodTolerationRestriction::new(reader(&[ns]).await, &Value::Null);
        let ask = |t: Value| {
            Write::create("", "pods", "d", json!({"metadata":{"name":"p"},"spec":{"tolerations":t,"containers":[]}}))
                .run(&p)
        };
        assert_eq!(ask(json!([])).await.unwrap()["spec"]["tolerations"].as_array().unwrap().len(), 1);
        let wide = json!([{"key":"team","operator":"Exists"}]);
        assert_eq!(ask(wide.clone()).await.unwrap()["spec"]["tolerations"], wide);
        let e = ask(json!([{"key":"team","value":"b","effect":"NoSchedule"}])).await.unwrap_err();
        assert!(e.message.ends_with("namespace tolerations and pod tolerations conflict"), "{e}");
        for (seconds, ok) in [(60, true), (61, false)] {
            let done = ask(json!([{"key":"gpu","operator":"Exists","tolerationSeconds":seconds}])).await;
            assert_eq!(done.is_ok(), ok, "{seconds}");
        }
        let e = ask(json!([{"operator":"Exists"}])).await.unwrap_err();
        assert!(e.message.ends_with("conflict with its namespace whitelist"), "{e}");
    }
}
